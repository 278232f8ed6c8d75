"""Other versions of `temporalio` on a wheel of ours: `versions.py WHEEL [--only VERSION ...] [--tests PATH ...] [...]`.

Not part of `make test`, since it takes minutes for each version, and the package registry. For each it makes an
environment with the wheel and runs the core of the tests. What failed runs once more, and then on the native module
that this version ships: the tests are written for the newest version, so what fails on both is about something that the
older one does not have. What fails on ours alone is a fault. Prints the table of docs/python-dropin.md; ends with 1 if
there is a fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VERSIONS = ["1.31.0", "1.32.0", "1.33.0", "1.34.0", "1.35.0"]
CORE = [
    "test_hello.py",
    "replayer",
    "workflow/test_activities.py",
    "workflow/test_children.py",
    "workflow/test_continue_as_new.py",
    "workflow/test_local_activities.py",
    "workflow/test_patches.py",
    "workflow/test_queries.py",
    "workflow/test_signals.py",
    "workflow/test_timers.py",
    "workflow/test_updates.py",
    "client/test_client_envconfig.py",
    "runtime/test_metric_buffer.py",
]
#: Seconds: what a version does not have often shows by a workflow task that fails for ever.
PATIENCE = 30
#: Seconds that one run of pytest may take.
LONGEST = 600
#: The environment does without them: temporalio has a version of its own here, the rest is for building and checking.
LEFT_OUT = ("temporalio==", "temporal-", "maturin", "mypy", "types-", "#")


@dataclass
class Ran:
    """Tests by how they ended. A file that cannot be imported is one test that failed."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)


def environment(folder: Path, version: str, wheel: Path) -> Path:
    home = folder / version
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith(LEFT_OUT)]
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"temporalio=={version}", *pins], check=True)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", wheel], check=True)
    return python


def run(python: Path, engine: str, tests: list[str], processes: int) -> Ran:
    """`tests` are paths, or names as `Ran` has them."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory(prefix="outlast-versions-") as name:
        report = Path(name, "report.xml")
        options = ["-q", "-n", str(processes), "-p", "versions", "-p", "no:cacheprovider"]
        options += ["--continue-on-collection-errors", "--tb=line"]
        process = subprocess.Popen(
            [python, "-m", "pytest", *options, f"--junit-xml={report}", *tests],
            cwd=ROOT,
            env={**clean, "OUTLAST_ENGINE": engine, "PYTHONPATH": str(HERE)},
            stdout=sys.stderr,
            start_new_session=True,
        )
        try:
            process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            if engine == "original":  # after a test that timed out, its process may never end
                return Ran(failed=set(tests))
            raise
        return read(report)


def read(report: Path) -> Ran:
    ran = Ran()
    for case in ElementTree.parse(report).iter("testcase"):
        module, name = case.get("classname", ""), case.get("name", "")
        path = (module or name).replace(".", "/") + ".py"
        name = f"{path}::{name}" if module else path
        ended = {child.tag for child in case}
        into = ran.failed if ended & {"failure", "error"} else ran.skipped if "skipped" in ended else ran.passed
        into.add(name)
    # A test whose teardown failed is there twice.
    ran.passed -= ran.failed
    return ran


def compare(python: Path, tests: list[str], processes: int) -> tuple[Ran, set[str], set[str]]:
    """How it went on ours; what the version cannot do on either; what fails on ours alone, and does so twice."""
    ours = run(python, "outlast", tests, processes)
    theirs = run(python, "original", sorted(ours.failed), processes) if ours.failed else Ran()
    suspects = ours.failed - theirs.failed
    again = run(python, "outlast", sorted(suspects), processes) if suspects else Ran()
    ours.passed |= again.passed
    return ours, ours.failed & theirs.failed, suspects - again.passed


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """This file is a plugin of the tests that it runs."""
    import pytest

    for item in items:
        item.add_marker(pytest.mark.timeout(PATIENCE), append=False)


def binaries() -> None:
    """The servers' programs are the same for all versions."""
    for name, variable in (("temporal", "OUTLAST_TEMPORAL_BIN"), ("temporal-test-server", "OUTLAST_TEST_SERVER_BIN")):
        beside = Path(sys.executable).parent / name
        path = os.environ.get(variable) or (str(beside) if beside.exists() else shutil.which(name))
        if not path:
            raise SystemExit(f"`{name}` is not installed; set {variable}")
        os.environ[variable] = os.path.abspath(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--only", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--tests", nargs="+", default=CORE, metavar="PATH", help="below tests/")
    parser.add_argument("--folder", type=Path, help="where environments are kept for the next time")
    parser.add_argument("-n", "--processes", type=int, default=2)
    options = parser.parse_args()
    binaries()
    tests = [f"tests/{path}" for path in options.tests]
    folder = options.folder or Path(tempfile.mkdtemp(prefix="outlast-versions-"))
    rows, faults = ["| temporalio | pass | not in that version | fail |", "|---|---|---|---|"], 0
    for version in options.only:
        python = environment(folder.resolve(), version, options.wheel.resolve())
        ours, absent, wrong = compare(python, tests, options.processes)
        row = f"| {version} | {len(ours.passed)} | {len(absent)} | {len(wrong)} |"
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
        faults += len(wrong)
        for name in sorted(absent):
            print(f"{version}: on neither: {name}", file=sys.stderr)
        for name in sorted(wrong):
            print(f"{version}: FAULT: {name}", file=sys.stderr)
    if not options.folder:
        shutil.rmtree(folder)
    print("\n".join(rows))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
