"""Programs run by an interpreter of their own, as their users run them. Knows nothing of what they do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import venv
from importlib.util import find_spec
from pathlib import Path

import outlast
from outlast.compat import temporalio as compat

PACKAGE = Path(outlast.__file__).parent


def environment(*paths: Path) -> dict[str, str]:
    """This process's own, without what the tests themselves have installed in it; `paths` come first for imports."""
    ours = {name: value for name, value in os.environ.items() if name != compat._CHILDREN}
    before = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != compat._SITE]
    ours["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *before])
    return {**ours, "PYTHONDONTWRITEBYTECODE": "1"}


def run(
    *arguments: object, paths: tuple[Path, ...] = (), cwd: Path | None = None, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *map(str, arguments)],
        env=environment(*paths),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def launched(
    *arguments: object, paths: tuple[Path, ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """By `python -m outlast.compat.temporalio`."""
    return run("-m", "outlast.compat.temporalio", *arguments, paths=paths, cwd=cwd)


def told(code: str, *arguments: object, paths: tuple[Path, ...] = (), python: str = sys.executable) -> list[str]:
    """The lines that a program prints, which ends well and says nothing on stderr."""
    done = run("-c", textwrap.dedent(code), *arguments, paths=paths, python=python)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def write(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def bare(folder: Path) -> str:
    """An interpreter without any packages."""
    venv.create(folder, symlinks=True, with_pip=False)
    return str(folder / "bin" / "python")


def outlast_alone(folder: Path) -> Path:
    """A folder from which only `outlast` can be imported."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outlast").symlink_to(PACKAGE)
    return folder


def claims(folder: Path, version: str) -> Path:
    """A folder with `temporalio` in it, which says it is of this version."""
    found = find_spec("temporalio")
    assert found and found.submodule_search_locations
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "temporalio").symlink_to(found.submodule_search_locations[0])
    metadata = f"Metadata-Version: 2.1\nName: temporalio\nVersion: {version}\n"
    write(folder / f"temporalio-{version}.dist-info" / "METADATA", metadata)
    return folder
