"""A worker with one poller and no cache goes over to another server between the ticks of a workflow."""

from __future__ import annotations

import asyncio
import time

from support import SOON, eventually, new_worker, unique
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment


@workflow.defn
class Ticks:
    @workflow.run
    async def run(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0.1)


async def tasks_done(handle: WorkflowHandle[Ticks, None]) -> int:
    every = [event async for event in handle.fetch_history_events()]
    return sum(event.HasField("workflow_task_completed_event_attributes") for event in every)


async def test_ticks_bring_a_worker_to_its_new_server_and_it_ends_soon(client: Client, temporal_cli: str) -> None:
    queue = unique("queue")

    async def has_begun(handle: WorkflowHandle[Ticks, None]) -> None:
        assert await tasks_done(handle) > 0

    async with await WorkflowEnvironment.start_local(dev_server_existing_path=temporal_cli) as other:
        here = await client.start_workflow(Ticks.run, id=unique(), task_queue=queue)
        there = await other.client.start_workflow(Ticks.run, id=unique(), task_queue=queue)
        async with new_worker(
            client, Ticks, task_queue=queue, max_cached_workflows=0, max_concurrent_workflow_task_polls=1
        ) as worker:
            await eventually(lambda: has_begun(here))
            assert await tasks_done(there) == 0
            worker.client = other.client
            await eventually(lambda: has_begun(there))
            await here.terminate()
            await there.terminate()
            ending = time.monotonic()
        assert time.monotonic() - ending < SOON
