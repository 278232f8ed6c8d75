"""Run programs written for the package `temporalio` on the Outlast core, unchanged.

In a program, before or after `temporalio` is imported:

    import outlast.compat.temporalio
    outlast.compat.temporalio.install()

Or from outside, where `--subprocesses` has Python children run on it, too:

    python -m outlast.compat.temporalio [--subprocesses] SCRIPT [ARGS]
    python -m outlast.compat.temporalio [--subprocesses] -m MODULE [ARGS]
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

__all__ = ["OLDEST", "TESTED", "installed", "install"]

OLDEST = (1, 31)
"""The oldest version of `temporalio` that is supported."""
TESTED = (1, 35)
"""The newest version of `temporalio` that this release was tested with."""

_NAME = "temporalio.bridge.temporal_sdk_bridge"
_PARENT = "temporalio.bridge"
_CHILDREN = "OUTLAST_COMPAT_TEMPORALIO"
_SITE = str(Path(__file__).parent / "_site")


class _Finder:
    """Gives our module whenever the package asks for its own."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, _Finder()) if name == _NAME else None  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from outlast.compat import temporal_sdk_bridge as ours

        module.__doc__ = ours.__doc__
        module.__dict__.update({name: getattr(ours, name) for name in ours.__all__})
        module.__dict__["__outlast__"] = True


def installed() -> bool:
    """Whether `temporalio` runs on the Outlast core in this process."""
    return any(isinstance(finder, type) and finder is _Finder for finder in sys.meta_path)


def install(*, subprocesses: bool = False) -> None:
    """Put our native module in the place of the package's own. Doing it again changes nothing.

    Args:
        subprocesses: Also in Python processes that this one starts, by environment variables that they inherit.

    Raises:
        ImportError: `temporalio` is not installed, or older than 1.31.
        RuntimeError: `temporalio` has already started a runtime of its own.

    Example:
        >>> import outlast.compat.temporalio
        >>> outlast.compat.temporalio.install()
    """
    if subprocesses:
        _inherit()
    if installed():
        return
    _check_version()
    theirs = sys.modules.get(_NAME)
    if theirs is not None:
        _refuse_if_running()
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
    if theirs is not None:
        _replace(theirs)


def _check_version() -> None:
    try:
        text = importlib.metadata.version("temporalio")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError("the package `temporalio` is not installed; pip install temporalio") from None
    version = tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:2])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ImportError(f"temporalio {text} is too old for outlast.compat.temporalio; install {oldest} or newer")
    if version > TESTED:
        tested = ".".join(map(str, TESTED))
        warnings.warn(
            f"temporalio {text} is newer than {tested}, the newest that this release of outlast was tested with",
            RuntimeWarning,
            stacklevel=3,
        )


def _refuse_if_running() -> None:
    runtime = sys.modules.get("temporalio.runtime")
    default = getattr(getattr(runtime, "_runtime_ref", None), "_default_runtime", None)
    if default is not None:
        raise RuntimeError(
            "install() comes too late: temporalio has already started a runtime of its own; call it before the first "
            "client, worker or runtime is made"
        )


def _replace(theirs: ModuleType) -> None:
    """What modules have already taken from the package's native module, they now have from ours."""
    del sys.modules[_NAME]
    ours = importlib.import_module(_NAME)
    pairs = {id(value): getattr(ours, name) for name, value in vars(theirs).items() if hasattr(ours, name)}
    pairs = {key: value for key, value in pairs.items() if isinstance(value, (type, ModuleType)) or callable(value)}
    pairs[id(theirs)] = ours
    for module in list(sys.modules.values()):
        if module is ours or module is theirs or not isinstance(module, ModuleType):
            continue
        for name, value in list(vars(module).items()):
            if id(value) in pairs:
                setattr(module, name, pairs[id(value)])


def _inherit() -> None:
    """Python children find a `sitecustomize` of ours, which installs, and then runs the one they would have had."""
    os.environ[_CHILDREN] = "1"
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if _SITE not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([_SITE, *paths])


def _main(arguments: list[str]) -> None:
    subprocesses = arguments[:1] == ["--subprocesses"]
    arguments = arguments[1:] if subprocesses else arguments
    if not arguments or arguments == ["-m"] or arguments[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)
        raise SystemExit(0 if arguments[:1] in (["-h"], ["--help"]) else 2)
    # Run as `__main__`, this file is another module than the one that programs import.
    from outlast.compat.temporalio import install

    install(subprocesses=subprocesses)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _main(sys.argv[1:])
