"""`install()`: before and after `temporalio` is imported, too late, twice, beside versions that it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from package.programs import bare, claims, outlast_alone, run, told, write

WHOSE = """
import temporalio.bridge.temporal_sdk_bridge as native
import outlast._native
print("ours" if native.connect_client is outlast._native.temporal_sdk_bridge.connect_client else "theirs")
"""


def test_before_temporalio_is_imported() -> None:
    lines = told(
        """
        import outlast.compat.temporalio as compat
        print(compat.installed())
        compat.install()
        import temporalio.bridge, temporalio.bridge.temporal_sdk_bridge as native
        import outlast._native
        print(compat.installed(), native is temporalio.bridge.temporal_sdk_bridge, native.__name__, native.FIPS)
        print(native.__file__ == native.__spec__.origin == outlast._native.__file__)
        from temporalio.runtime import Runtime
        runtime = Runtime.default()
        print(outlast._native.handles()["runtimes"])
        """
    )
    assert lines == ["False", "True True temporalio.bridge.temporal_sdk_bridge False", "True", "1"]


def test_after_temporalio_is_imported_nothing_of_its_own_native_module_is_left_in_any_module() -> None:
    lines = told(
        """
        import sys, types
        import temporalio.client, temporalio.envconfig, temporalio.testing, temporalio.worker

        def public(module):
            named = (value for name, value in vars(module).items() if not name.startswith("__"))
            return [value for value in named if callable(value) or isinstance(value, types.ModuleType)]

        theirs = [sys.modules["temporalio.bridge.temporal_sdk_bridge"]]
        theirs += public(theirs[0])

        def left():
            modules = [m for m in list(sys.modules.values()) if isinstance(m, types.ModuleType) and m is not theirs[0]]
            return sum(value is one for m in modules for value in vars(m).values() for one in theirs)

        before = left()
        import outlast.compat.temporalio, outlast._native
        outlast.compat.temporalio.install()
        print(before >= 5, left())
        print(temporalio.bridge.client.RPCError is outlast._native.temporal_sdk_bridge.RPCError)
        print(temporalio.bridge.worker.PollShutdownError is outlast._native.temporal_sdk_bridge.PollShutdownError)
        print(temporalio.envconfig._bridge_envconfig is outlast._native.temporal_sdk_bridge.envconfig)
        runtime = temporalio.runtime.Runtime.default()
        print(outlast._native.handles()["runtimes"])
        """
    )
    assert lines == ["True 0", "True", "True", "True", "1"]


def test_names_that_a_program_took_by_itself_are_ours_afterwards() -> None:
    lines = told(
        """
        import temporalio.service
        from temporalio.bridge.temporal_sdk_bridge import RPCError, envconfig as settings
        import temporalio.bridge.temporal_sdk_bridge as theirs
        import outlast.compat.temporalio
        outlast.compat.temporalio.install()
        print(theirs.__outlast__, RPCError is theirs.RPCError, settings is theirs.envconfig)
        """
    )
    assert lines == ["True True True"]


@pytest.mark.parametrize("runtime", ["Runtime.default()", "Runtime(telemetry=TelemetryConfig())"])
def test_with_a_runtime_running_it_is_too_late_and_nothing_changes(runtime: str) -> None:
    lines = told(
        f"""
        import os
        from temporalio.runtime import Runtime, TelemetryConfig
        import temporalio.bridge.temporal_sdk_bridge as theirs
        started = {runtime}
        import outlast.compat.temporalio as compat
        try:
            compat.install(subprocesses=True)
        except RuntimeError as error:
            print(error)
        print(compat.installed(), theirs is __import__("sys").modules[theirs.__name__], hasattr(theirs, "__outlast__"))
        print("OUTLAST_COMPAT_TEMPORALIO" in os.environ)
        started.metric_meter.create_counter("still", "works")
        """
    )
    assert lines == [
        "install() comes too late: temporalio has already started a runtime of its own; call it before the first "
        "client, worker or runtime is made",
        "False True False",
        "False",
    ]


def test_a_runtime_that_is_gone_is_no_obstacle() -> None:
    lines = told(
        """
        import gc
        from temporalio.runtime import Runtime, TelemetryConfig
        runtime = Runtime(telemetry=TelemetryConfig())
        del runtime
        gc.collect()
        import outlast.compat.temporalio, outlast._native
        outlast.compat.temporalio.install()
        runtime = Runtime(telemetry=TelemetryConfig())
        print(outlast._native.handles()["runtimes"])
        """
    )
    assert lines == ["1"]


def test_it_imports_next_to_nothing_that_temporalio_would_not() -> None:
    """Each start of a program waits for it."""
    modules = """
        import sys
        {install}
        import temporalio.client, temporalio.worker
        print(*sorted(sys.modules))
        """
    install = "import outlast.compat.temporalio; outlast.compat.temporalio.install()"
    (ours,), (theirs,) = told(modules.format(install=install)), told(modules.format(install=""))
    more = {name for name in set(ours.split()) - set(theirs.split()) if name.partition(".")[0] != "outlast"}
    assert more <= {"gc"}


def test_twice_changes_nothing() -> None:
    lines = told(
        """
        import sys
        import outlast.compat.temporalio as compat
        compat.install()
        import temporalio.bridge.temporal_sdk_bridge as native
        from temporalio.runtime import Runtime
        runtime = Runtime.default()
        finders = list(sys.meta_path)
        compat.install()
        import temporalio.bridge.temporal_sdk_bridge as again
        print(again is native, sys.meta_path == finders, Runtime.default() is runtime)
        """
    )
    assert lines == ["True True True"]


def test_what_is_imported_anew_is_ours_too() -> None:
    lines = told(
        """
        import importlib, sys
        import outlast.compat.temporalio
        outlast.compat.temporalio.install()
        import temporalio.bridge.temporal_sdk_bridge as native
        del sys.modules[native.__name__]
        again = importlib.import_module(native.__name__)
        print(again is not native, again.__outlast__, importlib.reload(again).__outlast__)
        """
    )
    assert lines == ["True True True"]


def test_without_temporalio_it_says_what_to_install(tmp_path: Path) -> None:
    alone = outlast_alone(tmp_path / "path")
    program = "import outlast.compat.temporalio as compat; compat.install()"
    done = run("-c", program, paths=(alone,), python=bare(tmp_path / "venv"))
    assert done.returncode == 1
    assert done.stderr.endswith("\nImportError: the package `temporalio` is not installed; pip install temporalio\n")


@pytest.mark.parametrize("version", ["1.30.2", "0.1a2", "1.9.0", "unknown"])
def test_an_old_temporalio_is_refused_by_name(tmp_path: Path, version: str) -> None:
    lines = told(
        """
        import outlast.compat.temporalio as compat
        try:
            compat.install()
        except ImportError as error:
            print(error, compat.installed())
        """,
        paths=(claims(tmp_path, version),),
    )
    assert lines == [f"temporalio {version} is too old for outlast.compat.temporalio; install 1.31 or newer False"]


@pytest.mark.parametrize("version", ["1.31.0", "1.35.0rc1", "1.35.99"])
def test_a_known_temporalio_is_taken_without_a_word(tmp_path: Path, version: str) -> None:
    program = "import outlast.compat.temporalio as c; c.install()" + WHOSE
    assert told(program, paths=(claims(tmp_path, version),)) == ["ours"]


@pytest.mark.parametrize("version", ["1.36.0", "1.36b1", "2.0.0"])
def test_a_newer_temporalio_is_taken_with_a_warning_that_points_at_the_caller(tmp_path: Path, version: str) -> None:
    claims(tmp_path, version)
    program = write(tmp_path / "program.py", "import outlast.compat.temporalio as c\nc.install()\n" + WHOSE)
    done = run(program, paths=(tmp_path,))
    assert (done.returncode, done.stdout) == (0, "ours\n")
    newest = "newer than 1.35, the newest that this release of outlast was tested with"
    assert done.stderr.startswith(f"{program}:2: RuntimeWarning: temporalio {version} is {newest}\n")
