"""Workflow tasks that take long are warned of, with what was moved to and from storage outside of history."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from switchover.processes import environment
from temporalio.client import Client

LIMIT = "TEMPORAL_WORKFLOW_TASK_DURATION_WARN_SECONDS"


async def warnings(engine: str, address: str, limit: str) -> tuple[str, list[dict[str, Any]]]:
    argv = [sys.executable, "-m", "runtime.slow_tasks", engine, address]
    done = await asyncio.to_thread(
        subprocess.run, argv, env={**environment(engine), LIMIT: limit}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return said["run"], said["warnings"]


async def test_a_slow_task_is_told_with_what_was_stored_elsewhere(client: Client, engine: str, address: str) -> None:
    run, [first, second] = await warnings(engine, address, "0")
    assert first["target"] == "temporalio_sdk_core::worker::workflow::managed_run"
    assert first["message"] == f"[TMPRL1104] {run}:4:1 Workflow task duration exceeded 0 seconds."
    assert second["message"] == f"[TMPRL1104] {run}:9:1 Workflow task duration exceeded 0 seconds."
    assert (first["workflow_type"], first["event_id"], first["attempt"]) == ("Echo", 4, 1)
    assert second["workflow_history_size"] > first["workflow_history_size"] > 0
    [size] = {first["payload_download_size"], second["payload_upload_size"]}
    assert size > 500
    for part, warning, other in [("download", first, second), ("upload", second, first)]:
        assert (warning[f"payload_{part}_count"], warning[f"payload_{part}_drivers"]) == (1, '["shelf"]')
        assert 0 <= warning[f"payload_{part}_duration"] <= warning["workflow_task_duration"]
        assert (other[f"payload_{part}_count"], other[f"payload_{part}_drivers"]) == (0, "[]")
        assert (other[f"payload_{part}_size"], other[f"payload_{part}_duration"]) == (0, 0)
