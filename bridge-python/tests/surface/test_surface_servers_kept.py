"""Programs of test servers that an earlier download left: both engines look under the same name and run what is there."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import conftest
import pytest
from temporalio.service import __version__
from temporalio.testing import WorkflowEnvironment

SDK = f"sdk-python-{__version__}"
NAMES = {"temporal": "OUTLAST_TEMPORAL_BIN", "temporal-test-server": "OUTLAST_TEST_SERVER_BIN"}


def keep(folder: Path, program: str, tail: str) -> Path:
    """The real program under the name of a download; it notes in a file beside it that it ran, and how."""
    path = folder / f"{program}-{tail}"
    real = conftest.binary(program, NAMES[program])
    path.write_text(f'#!/bin/sh\necho "$*" >> "$0.ran"\nexec "{real}" "$@"\n')
    path.chmod(0o755)
    return path


def runs(path: Path) -> list[str]:
    noted = path.with_name(path.name + ".ran")
    return noted.read_text().splitlines() if noted.exists() else []


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
@pytest.mark.parametrize(
    "version, tail",
    [("default", SDK), ("v1.7.1-with-a-suffix", "v1.7.1-with-a-suffix"), ("latest", "latest")],
    ids=["that of the sdk", "fixed", "latest"],
)
async def test_a_dev_server_that_was_downloaded_is_used_again(version: str, tail: str, tmp_path: Path) -> None:
    kept = keep(tmp_path, "temporal", tail)
    port = conftest.free_port()
    environment = await WorkflowEnvironment.start_local(
        download_dest_dir=str(tmp_path),
        dev_server_download_version=version,
        dev_server_extra_args=["--http-port", str(port)],
    )
    async with environment:
        assert await environment.client.service_client.check_health()
    [ran] = runs(kept)
    assert ran.startswith("server start-dev --port ") and ran.endswith(f" --headless --http-port {port}")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
@pytest.mark.parametrize("version, tail", [("default", SDK), ("v1.2.3", "v1.2.3")], ids=["that of the sdk", "fixed"])
async def test_a_time_skipping_server_that_was_downloaded_is_used_again(
    version: str, tail: str, tmp_path: Path
) -> None:
    kept = keep(tmp_path, "temporal-test-server", tail)
    environment = await WorkflowEnvironment.start_time_skipping(
        download_dest_dir=str(tmp_path), test_server_download_version=version
    )
    async with environment:
        assert environment.supports_time_skipping
    assert len(runs(kept)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
async def test_without_a_folder_the_temporary_one_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kept = keep(tmp_path, "temporal", SDK)
    async with await WorkflowEnvironment.start_local() as environment:
        assert await environment.client.service_client.check_health()
    assert len(runs(kept)) == 1
