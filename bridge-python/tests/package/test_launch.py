"""`python -m outlast.compat.temporalio`: programs behave as under `python`, on our core; so do children, if asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from package.programs import bare, claims, launched, run, write

CORE = """
def core() -> str:
    import temporalio.bridge.temporal_sdk_bridge as native
    return "ours" if hasattr(native, "__outlast__") else "theirs"
"""
HELLO = """
import asyncio, sys, uuid
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
import multiprocessing
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import SharedStateManager, Worker

@activity.defn
def greet(name: str) -> str:
    return f"Hello, {name}, from a process of its own: {multiprocessing.parent_process() is not None}"

@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=30))

async def main(address: str) -> None:
    client = await Client.connect(address)
    spawn = multiprocessing.get_context("spawn")
    queue = str(uuid.uuid4())
    with ProcessPoolExecutor(1, mp_context=spawn) as processes, spawn.Manager() as manager:
        shared = SharedStateManager.create_from_multiprocessing(manager)
        options = dict(activity_executor=processes, shared_state_manager=shared, max_concurrent_activities=1)
        async with Worker(client, task_queue=queue, workflows=[Greeting], activities=[greet], **options):
            print(await client.execute_workflow(Greeting.run, "Ada", id=queue, task_queue=queue))

if __name__ == "__main__":
    import outlast._native
    asyncio.run(main(sys.argv[1]))
    print(outlast._native.handles()["runtimes"])
"""
CHILDREN = (
    CORE
    + """
import multiprocessing, subprocess, sys

if __name__ == "__main__":
    print("here", core(), flush=True)
    child = f"import sys; sys.path.insert(0, {sys.path[0]!r}); import children; print('child', children.core())"
    subprocess.run([sys.executable, "-c", child], check=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print("spawned", pool.apply(core))
"""
)


def parent(path: Path, child: str, python: str = "sys.executable") -> Path:
    """A script that runs `child` in a process of its own."""
    return write(path, f"import subprocess, sys\nsubprocess.run([{python}, '-c', {child!r}], check=True)\n")


def test_a_script_sees_itself_as_under_python(tmp_path: Path) -> None:
    write(tmp_path / "sibling.py", "WORD = 'found'")
    script = write(
        tmp_path / "script.py",
        """
        import sys
        import sibling
        print(sys.argv, __name__, __file__, sys.path[0], sibling.WORD, __spec__)
        print(sys.modules["__main__"].__dict__ is globals())
        """,
    )
    arguments = ["one", "--two", "-m", "--subprocesses"]
    assert launched(script, *arguments).stdout == run(script, *arguments).stdout != ""
    assert launched("script.py", "x", cwd=tmp_path).stdout == run("script.py", "x", cwd=tmp_path).stdout != ""


def test_what_outlives_the_script_is_still_in_its_module(tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py",
        """
        import atexit, pickle, sys, threading

        class Thing: ...

        def late(main: threading.Thread = threading.main_thread()) -> None:
            main.join()
            print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, "Thing" in vars(sys.modules["__main__"]))

        threading.Thread(target=late).start()
        atexit.register(lambda: print(pickle.dumps(Thing()) != b"", Thing.__module__))
        """,
    )
    done = launched(script)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True True\nTrue __main__\n")


def test_a_module_sees_itself_as_under_python(tmp_path: Path) -> None:
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "sibling.py", "WORD = 'found'")
    write(
        tmp_path / "package" / "__main__.py",
        """
        import sys
        from .sibling import WORD
        print(sys.argv, __name__, __package__, __spec__.name, sys.path[0], WORD)
        """,
    )
    ours, theirs = (call("-m", "package", "-m", "x", cwd=tmp_path) for call in (launched, run))
    assert ours.stdout == theirs.stdout != ""
    assert ours.stderr == ""


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(3)",
        "raise SystemExit('goodbye')",
        "import os; os._exit(4)",
        "1 / 0",
        "pass",
        "raise KeyboardInterrupt",
        "import os; os.abort()",
    ],
)
def test_a_program_ends_as_under_python(tmp_path: Path, code: str) -> None:
    script = write(tmp_path / "script.py", f"print('begun', flush=True)\n{code}\n")
    ours, theirs = launched(script), run(script)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_a_traceback_has_the_frames_of_the_program_and_no_others(tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py",
        """
        def low():
            raise KeyError("low")

        def high():
            try:
                low()
            except KeyError as error:
                raise ValueError("high") from error

        high()
        """,
    )
    ours = launched(script)
    assert ours.stderr == run(script).stderr
    assert ours.stderr.count("  File ") == 4
    assert launched("-m", "script", cwd=tmp_path).stderr == ours.stderr


def test_a_script_that_cannot_be_parsed_says_where(tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "print('never')\nif:\n")
    ours = launched(script)
    assert (ours.returncode, ours.stdout) == (1, "")
    assert ours.stderr == run(script).stderr


def test_a_folder_with_a_main_runs_as_under_python(tmp_path: Path) -> None:
    write(tmp_path / "folder" / "__main__.py", "import sys; print(sys.path[0], sys.argv)")
    assert launched(tmp_path / "folder", "x").stdout == run(tmp_path / "folder", "x").stdout != ""


def test_without_a_program_it_says_how_it_is_used(tmp_path: Path) -> None:
    usage = "python -m outlast.compat.temporalio [--subprocesses] SCRIPT [ARGS]"
    for arguments in ([], ["-m"], ["--subprocesses"]):
        done = launched(*arguments)
        assert (done.returncode, done.stdout) == (2, "") and usage in done.stderr
    asked = launched("--help")
    assert (asked.returncode, asked.stderr) == (0, "") and usage in asked.stdout
    absent = launched(tmp_path / "absent.py")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert absent.stderr.endswith(f"can't open file '{tmp_path / 'absent.py'}': there is no such file\n")
    module = launched("-m", "no_such_module")
    assert (module.returncode, module.stderr) == (1, "ImportError: No module named no_such_module\n")


def test_a_temporalio_that_will_not_do_is_said_in_a_line(tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "print('never')")
    done = launched(script, paths=(claims(tmp_path / "old", "1.2.3"),))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ImportError: temporalio 1.2.3 is too old") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("flags", "children"), [(["--subprocesses"], "ours"), ([], "theirs")])
def test_children_run_on_our_core_if_asked_for(tmp_path: Path, flags: list[str], children: str) -> None:
    done = launched(*flags, write(tmp_path / "children.py", CHILDREN))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["here ours", f"child {children}", f"spawned {children}"]


def test_children_without_the_packages_are_left_alone(tmp_path: Path) -> None:
    python = bare(tmp_path / "venv")
    script = parent(tmp_path / "script.py", "print(5)", repr(python))
    done = launched("--subprocesses", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


def test_the_sitecustomize_that_ours_hides_is_run_too_under_its_name(tmp_path: Path) -> None:
    theirs = write(tmp_path / "site" / "sitecustomize.py", "WORD = 'customized'")
    child = (
        "import sys, sitecustomize, temporalio.bridge.temporal_sdk_bridge as native; "
        "print(sitecustomize.WORD, sitecustomize.__file__, hasattr(native, '__outlast__'))"
    )
    script = parent(tmp_path / "script.py", child)
    done = launched("--subprocesses", script, paths=(theirs.parent,))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"customized {theirs} True\n"


def test_a_sitecustomize_that_fails_does_not_keep_children_from_our_core(tmp_path: Path) -> None:
    theirs = write(tmp_path / "site" / "sitecustomize.py", "raise OSError('of its own')")
    child = "import temporalio.bridge.temporal_sdk_bridge as native; print(hasattr(native, '__outlast__'))"
    script = parent(tmp_path / "script.py", child)
    done = launched("--subprocesses", script, paths=(theirs.parent,))
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "OSError: of its own" in done.stderr


def test_pythonpath_of_children_keeps_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "first" / "mine.py", "WORD = 'first'")
    write(tmp_path / "second" / "mine.py", "WORD = 'second'")
    child = "import os, mine; print(mine.WORD, len(os.environ['PYTHONPATH'].split(os.pathsep)))"
    code = f"""
    import os, subprocess, sys
    import outlast.compat.temporalio as compat
    before = len(os.environ['PYTHONPATH'].split(os.pathsep))
    compat.install(subprocesses=True)
    compat.install(subprocesses=True)
    subprocess.run([sys.executable, '-c', {child!r}], check=True)
    print(before)
    """
    done = run(write(tmp_path / "script.py", code), paths=(tmp_path / "first", tmp_path / "second"))
    (word, now), (before,) = map(str.split, done.stdout.splitlines())
    assert (word, int(now)) == ("first", int(before) + 1)


def test_a_program_with_activities_in_processes_runs_whole(tmp_path: Path, address: str) -> None:
    script = write(tmp_path / "hello.py", HELLO)
    done = launched("--subprocesses", script, address)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello, Ada, from a process of its own: True\n1\n"


def test_a_program_that_installs_in_the_module_of_its_workflows_runs_whole(tmp_path: Path, address: str) -> None:
    """The sandbox imports that module anew for every workflow, and ours with it."""
    install = "import outlast.compat.temporalio\noutlast.compat.temporalio.install(subprocesses=True)\n"
    done = run(write(tmp_path / "hello.py", install + HELLO), address)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Hello, Ada, from a process of its own: True\n1\n"


def test_the_tests_themselves_hand_our_core_to_their_children() -> None:
    assert os.environ.get("OUTLAST_COMPAT_TEMPORALIO") == "1"
