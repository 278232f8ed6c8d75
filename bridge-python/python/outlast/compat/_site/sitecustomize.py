"""Found by Python children of a process that called `install(subprocesses=True)`."""

import importlib.machinery
import importlib.util
import os
import sys


def _install() -> None:
    try:
        if importlib.util.find_spec("temporalio") is None:
            return  # an interpreter without it
        import outlast.compat.temporalio
    except ImportError:
        return  # an interpreter without `outlast`
    outlast.compat.temporalio.install()


def _next_sitecustomize() -> None:
    """Runs the `sitecustomize` that this one hides, if there is one, and gives it its name."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = [folder for folder in sys.path if os.path.abspath(folder) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


try:
    if os.environ.get("OUTLAST_COMPAT_TEMPORALIO"):
        _install()
finally:
    _next_sitecustomize()
