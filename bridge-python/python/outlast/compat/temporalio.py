"""Run programs written for the package `temporalio` on the Outlast core, unchanged.

In a program, before or after `temporalio` is imported:

    import outlast.compat.temporalio
    outlast.compat.temporalio.install()

Or from outside, where `--subprocesses` has Python children run on it, too:

    python -m outlast.compat.temporalio [--subprocesses] SCRIPT [ARGS]
    python -m outlast.compat.temporalio [--subprocesses] -m MODULE [ARGS]
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import re
import sys
import warnings
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

# Each start of a program waits for what is imported here: `importlib.abc`, `pathlib` and `runpy` cost more than all the rest.
# The last is only needed where this file is the program, and imported there.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
else:
    Loader = object

__all__ = ["OLDEST", "TESTED", "install", "installed"]

OLDEST = (1, 31)
"""The oldest version of `temporalio` that is supported."""
TESTED = (1, 35)
"""The newest version of `temporalio` that this release was tested with."""

_NAME = "temporalio.bridge.temporal_sdk_bridge"
_CHILDREN = "OUTLAST_COMPAT_TEMPORALIO"
_SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")


class _Finder(Loader):
    """Gives our module whenever the package asks for its own."""

    replaces = _NAME
    subprocesses = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        import outlast._native

        return importlib.util.spec_from_file_location(fullname, outlast._native.__file__, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        """A plain one is good."""

    def exec_module(self, module: ModuleType) -> None:
        from outlast.compat import temporal_sdk_bridge as ours

        module.__doc__ = ours.__doc__
        module.__dict__.update({name: getattr(ours, name) for name in ours.__all__})
        module.__dict__["__outlast__"] = True


def installed() -> bool:
    """Whether `temporalio` runs on the Outlast core in this process."""
    return _present() is not None


def _present() -> _Finder | None:
    """The one that was installed. Workflow sandboxes import this module anew: theirs is of another class."""
    finders: list[Any] = [each for each in sys.meta_path if getattr(each, "replaces", None) == _NAME]
    return finders[0] if finders else None


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
    finder = _present()
    if finder is None:
        _check_version()
        theirs = sys.modules.get(_NAME)
        if theirs is not None:
            _refuse_if_running()
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        if theirs is not None:
            _replace(theirs)
    if subprocesses and not finder.subprocesses:
        _inherit()
        finder.subprocesses = True


def _check_version() -> None:
    text = _version()
    if text is None:
        raise ImportError("the package `temporalio` is not installed; pip install temporalio")
    numbers = re.match(r"(\d+)\.(\d+)", text)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
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


def _version() -> str | None:
    """The installed version of `temporalio`.

    Mostly the name of a folder beside the package says it. `importlib.metadata` always knows, but importing it takes ten times
    as long as our native module.
    """
    spec = importlib.util.find_spec("temporalio")
    for package in (spec and spec.submodule_search_locations) or []:
        listed = os.listdir(os.path.dirname(package))
        beside = [each for each in listed if each.startswith("temporalio-") and each.endswith(".dist-info")]
        if len(beside) == 1:
            return beside[0].removeprefix("temporalio-").removesuffix(".dist-info")
    from importlib import metadata

    try:
        return metadata.version("temporalio")
    except metadata.PackageNotFoundError:
        return None


def _refuse_if_running() -> None:
    """Whatever runs on the package's own core holds a runtime, and could not use anything of ours."""
    runtime = getattr(sys.modules.get("temporalio.bridge.runtime"), "Runtime", None)
    if runtime is not None and any(type(each) is runtime for each in gc.get_objects()):
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
    path = os.environ.get("PYTHONPATH")
    if _SITE not in (path or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([_SITE, path] if path else [_SITE])


def _main(arguments: list[str]) -> None:
    # Run as `__main__`, this file is another module than the one that programs import.
    from outlast.compat.temporalio import install

    subprocesses = arguments[:1] == ["--subprocesses"]
    arguments = arguments[1:] if subprocesses else arguments
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if not arguments or arguments == ["-m"]:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    sys.excepthook = _tell
    install(subprocesses=subprocesses)
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        _first_on_path(os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif os.path.exists(arguments[0]):
        sys.argv = arguments
        _run(arguments[0])
    else:
        print(f"{sys.executable}: can't open file {arguments[0]!r}: there is no such file", file=sys.stderr)
        raise SystemExit(2)


def _run(path: str) -> None:
    if os.path.isdir(path):
        runpy.run_path(path, run_name="__main__")
        return
    _first_on_path(os.path.dirname(os.path.realpath(path)))
    # Not by `runpy`, whose modules end with the script: threads and exit handlers go on in theirs.
    path = os.path.abspath(path)
    loader = SourceFileLoader("__main__", path)
    code = loader.source_to_code(loader.get_data(path), path)
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = path, loader
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


def _first_on_path(folder: str) -> None:
    """As the interpreter does for a program of its own."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception of the program, from the program's own frames on."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((__file__, runpy.__file__, "<frozen ")):
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    import runpy

    _main(sys.argv[1:])
