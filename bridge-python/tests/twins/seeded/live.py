"""Runs random programs on one engine and writes down what came of them: `python -m twins.seeded.live ENGINE ADDRESS CACHE FOLDER
NAME...`. A name is `steady-SEED` or `wild-SEED`. Each run of a program and of its children gives a file, `NAME.RUN.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from switchover.processes import use

use(sys.argv[1])

from support import unique
from switchover import histories
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from twins.seeded.activities import hang, outside, work
from twins.seeded.branches import branch_by_branch
from twins.seeded.program import Program, named
from twins.seeded.workflow import TASK, Interpreter, Task

PATIENCE = 150
"""Seconds until a program is stuck."""


async def drive(handle: WorkflowHandle[Any, Any], program: Program) -> None:
    """Does from outside what the program needs, and waits for its end."""
    if any(step["do"] == "cancelled" for step in program["steps"]):
        while not await waits_for_cancellation(handle):
            await asyncio.sleep(0.02)
        await handle.cancel()
    await handle.result()


async def waits_for_cancellation(handle: WorkflowHandle[Any, Any]) -> bool:
    """No, if it cannot say: while a task waits for local activities a query waits, too."""
    try:
        return bool(await handle.query(Interpreter.cancellable))
    except (RPCError, WorkflowQueryFailedError):
        return False


async def one(client: Client, queue: str, folder: Path, name: str) -> None:
    program = named(name)
    task = Task({**program, "name": unique(name)})
    handle = await client.start_workflow(
        Interpreter.run, task, id=str(task.program["name"]), task_queue=queue, task_timeout=TASK
    )
    first = handle.first_execution_run_id
    # Without a run, so that it follows what continues as new.
    following: WorkflowHandle[Any, Any] = client.get_workflow_handle(handle.id)
    stuck = False
    try:
        await asyncio.wait_for(drive(following, program), PATIENCE)
    except (TimeoutError, asyncio.TimeoutError, RPCError) as error:
        stuck = True
        print(f"{name}: {error!r}", file=sys.stderr)
    except WorkflowFailureError:
        pass  # as it may be written
    found = await histories.of(client, handle.id, first)
    # Children begin in any order, runs that continue each other do not.
    for number, history in enumerate(sorted(found, key=lambda history: history.workflow_id)):
        text = {
            "id": history.workflow_id,
            "history": history.to_json_dict(),
            "story": branch_by_branch(history),
            "stuck": stuck,
        }
        (folder / f"{name}.{number:02}.json").write_text(json.dumps(text))


async def main(address: str, cache: int, folder: Path, names: list[str]) -> None:
    client = await Client.connect(address, identity="client")
    gate = asyncio.Semaphore(10)

    async def gated(name: str) -> None:
        async with gate:
            await one(client, worker.task_queue, folder, name)

    async with Worker(
        client,
        task_queue=unique("twins"),
        workflows=[Interpreter],
        activities=[work, hang, outside],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=cache,
        # An endless activity hears of its cancellation with a heartbeat.
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
        build_id="build",
        identity="worker",
        # A slow machine is no deadlock.
        debug_mode=True,
    ) as worker:
        await asyncio.gather(*(gated(name) for name in names))


if __name__ == "__main__":
    _, _, address, cache, folder, *names = sys.argv
    asyncio.run(main(address, int(cache), Path(folder), names))
