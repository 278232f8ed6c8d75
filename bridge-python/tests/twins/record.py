"""Runs programs on one engine and writes down what came of it: `python -m twins.record ENGINE ADDRESS CACHE OUT NAME...`.

`OUT` is JSON: the facts of all requests that the server got, and the history of each program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from switchover.processes import use

use(sys.argv[1])

from support import unique
from temporalio.client import Client, WorkflowHandle, WorkflowHistory, WorkflowUpdateFailedError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from twins.plain import requests, story
from twins.programs import ACTIVITIES, PROGRAMS, Child, Program
from twins.proxy import Proxy


async def drive(handle: WorkflowHandle[Any, Any], name: str) -> WorkflowHistory:
    """Does from outside what the program needs, and gives the history of its first run once it is over."""
    if name == "messages":
        await handle.signal(Program.add, 1)
        for number in (-1, 0):
            with contextlib.suppress(WorkflowUpdateFailedError):
                await handle.execute_update(Program.ask, number)
        # No task is under way now, so that each query is a task of its own.
        await handle.query(Program.count)
        await handle.execute_update(Program.ask, 5)
    elif name == "cancelled":
        await handle.cancel()
    with contextlib.suppress(Exception):
        await handle.result(follow_runs=False)
    first = handle.first_execution_run_id
    return await handle._client.get_workflow_handle(handle.id, run_id=first).fetch_history()


async def main(address: str, cache: int, names: list[str]) -> dict[str, Any]:
    stories: dict[str, list[str]] = {}
    async with Proxy(address) as proxy:
        client = await Client.connect(proxy.address, identity="client")
        async with Worker(
            client,
            task_queue=unique("twins"),
            workflows=[Program, Child],
            activities=ACTIVITIES,
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=cache,
            # A cancellation comes with a heartbeat.
            max_heartbeat_throttle_interval=timedelta(milliseconds=100),
            build_id="build",
            identity="worker",
        ) as worker:
            for name in names:
                handle = await client.start_workflow(Program.run, name, id=unique(name), task_queue=worker.task_queue)
                stories[name] = story(await drive(handle, name))
        return {"stories": stories, "requests": requests(proxy.calls)}


if __name__ == "__main__":
    _, _, address, cache, out, *names = sys.argv
    done = asyncio.run(main(address, int(cache), names or list(PROGRAMS)))
    Path(out).write_text(json.dumps(done))
