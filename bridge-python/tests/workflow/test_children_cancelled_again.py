"""A child whose cancellation is asked for more than once before it ends: how often its parent asks the server."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError
from temporalio.workflow import ChildWorkflowCancellationType

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, new_worker, replay
    from support import unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client

WAYS = ChildWorkflowCancellationType


@workflow.defn
class Stubborn:
    @workflow.run
    async def run(self) -> str:
        """Ends some time after it was first cancelled."""
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            raise
        return "not cancelled"


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, way: int, when: str) -> None:
        if when == "before its start":
            started = asyncio.create_task(self.start(way))
            await asyncio.sleep(0)
            started.cancel()
            await workflow.sleep(0.1)
            started.cancel()
            await asyncio.wait([started])
            return
        child = await self.start(way)
        child.cancel()
        if when == "in one task":
            for _ in range(5):
                await asyncio.sleep(0)
        else:
            await workflow.sleep(0.1)
        child.cancel()
        try:
            await child
        except ChildWorkflowError:
            await workflow.sleep(0.01)

    async def start(self, way: int) -> workflow.ChildWorkflowHandle[Stubborn, str]:
        return await workflow.start_child_workflow(Stubborn.run, cancellation_type=ChildWorkflowCancellationType(way))


REQUESTS = {WAYS.ABANDON: 0, WAYS.TRY_CANCEL: 1, WAYS.WAIT_CANCELLATION_COMPLETED: 2, WAYS.WAIT_CANCELLATION_REQUESTED: 2}


@pytest.mark.parametrize("when", ["in one task", "in two tasks", "before its start"])
@pytest.mark.parametrize("way", REQUESTS, ids=lambda way: way.name)
async def test_the_server_is_asked_as_often_as_the_code_asks_and_waits(
    client: Client, way: ChildWorkflowCancellationType, when: str
) -> None:
    async with new_worker(client, Parent, Stubborn) as worker:
        handle = await client.start_workflow(Parent.run, args=[way, when], id=unique(), task_queue=worker.task_queue)
        await handle.result()
        requests = await found(handle, "request_cancel_external_workflow_execution_initiated")
        assert len(requests) == (0 if when == "before its start" else REQUESTS[way])
        assert not await found(handle, "child_workflow_execution_completed")
        # What the server itself says of a task that ends the workflow while news come: it is done again.
        again = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        assert {failed.cause for failed in await found(handle, "workflow_task_failed")} <= {again}
    await replay(handle, Parent)
