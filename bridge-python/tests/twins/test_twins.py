"""Programs run on both engines, beside each other: the server gets the same requests and writes the same histories.

What differs on purpose is named here and told in docs/python-dropin.md.
"""

from __future__ import annotations

import asyncio
import json
import re
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
from switchover.processes import Process
from temporalio.testing import WorkflowEnvironment
from twins.plain import known
from twins.programs import PROGRAMS

CHILDREN = {"children", "child_cancelled_and_waited_for", "child_abandoned", "child_signalled"}
JAVA_CANNOT = {"strangers", "patches_and_upserts", "continuing_elsewhere", *CHILDREN}
"""What the time-skipping server does wrong or not at all."""
ON_PURPOSE = re.compile(
    # `known`, in the request.
    r"\.requestCancelExternalWorkflowExecutionCommandAttributes\.runId"
    # How long the word of a worker's end may take.
    r"|^ShutdownWorker: timeout"
    # A heartbeat a minute: a run as slow as that sends one.
    r"|^RecordWorkerHeartbeat"
)


async def recorded(engine: str, address: str, cache: int, out: Path, names: list[str]) -> Any:
    process = Process("twins.record", engine, address, str(cache), str(out), *names)
    try:
        await asyncio.to_thread(process.process.wait, 90)
    finally:
        process.kill()
    assert out.exists(), f"{engine} recorded nothing\n{process.said()}"
    return json.loads(out.read_text())


async def both(address: str, cache: int, folder: Path, names: list[str]) -> list[str]:
    """Where the two differ, as lines of a diff: `-` is the original."""
    original, ours = await asyncio.gather(
        *(recorded(engine, address, cache, folder / engine, names) for engine in ("original", "outlast"))
    )
    found: list[str] = []
    for part in ("stories", "requests"):
        lines = [[f"{name}: {line}" for name in sorted(it[part]) for line in it[part][name]] for it in (original, ours)]
        theirs, own = ([known(line) for line in side if not ON_PURPOSE.search(line)] for side in lines)
        difference = unified_diff(theirs, own, lineterm="", n=0)
        found += [line for line in difference if not line.startswith(("---", "+++", "@@"))]
    return found


@pytest.mark.parametrize("cache", [100, 0])
async def test_the_dev_server_sees_no_difference(address: str, cache: int, tmp_path: Path) -> None:
    found = await both(address, cache, tmp_path, list(PROGRAMS))
    assert not found, "\n".join(found)


async def test_the_time_skipping_server_sees_no_difference(skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    address = skipping.client.service_client.config.target_host
    found = await both(address, 100, tmp_path, [name for name in PROGRAMS if name not in JAVA_CANNOT])
    assert not found, "\n".join(found)
