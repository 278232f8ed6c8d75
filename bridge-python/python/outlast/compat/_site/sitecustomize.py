"""Found by Python children of a process that called `install(subprocesses=True)`."""

import importlib.util
import os
import sys


def _next_sitecustomize() -> None:
    """Runs the `sitecustomize` that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        path = os.path.join(folder, "sitecustomize.py")
        if os.path.abspath(folder) != here and os.path.exists(path):
            spec = importlib.util.spec_from_file_location("sitecustomize", path)
            if spec is not None and spec.loader is not None:
                spec.loader.exec_module(importlib.util.module_from_spec(spec))
            return


_next_sitecustomize()
if os.environ.get("OUTLAST_COMPAT_TEMPORALIO"):
    try:
        import outlast.compat.temporalio
    except ImportError:
        pass  # another interpreter, which has no `outlast`
    else:
        outlast.compat.temporalio.install()
