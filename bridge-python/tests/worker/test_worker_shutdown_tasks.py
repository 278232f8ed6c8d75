"""What comes for workflows while their worker ends: the end of a cancelled activity is left to the next worker."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ActivityError

from worker.programs import ONCE, events, kinds

seen: dict[str, list[str]] = {}
"""By workflow id: what its code noticed, in which worker."""


class Hangs:
    def __init__(self) -> None:
        self.started = asyncio.Event()

    @activity.defn
    async def hang(self) -> None:
        self.started.set()
        await asyncio.Event().wait()


@workflow.defn(sandboxed=False)
class WaitsFor:
    """One attempt of an activity, whose failure is its own."""

    @workflow.run
    async def run(self) -> None:
        noted = seen.setdefault(workflow.info().workflow_id, [])
        try:
            await workflow.execute_activity_method(
                Hangs.hang, start_to_close_timeout=timedelta(seconds=60), retry_policy=ONCE
            )
        except ActivityError:
            noted.append("failed")
            raise


@pytest.mark.parametrize("cache", [100, 0])
async def test_a_worker_that_ends_takes_no_task_for_what_its_end_brought_about(client: Client, cache: int) -> None:
    id, hangs = unique(), Hangs()
    async with new_worker(client, WaitsFor, activities=[hangs.hang], max_cached_workflows=cache) as worker:
        handle = await client.start_workflow(WaitsFor.run, id=id, task_queue=worker.task_queue)
        await asyncio.wait_for(hangs.started.wait(), 20)

        async def first_task_done() -> None:
            assert "WORKFLOW_TASK_COMPLETED" in kinds(await events(handle))

        await eventually(first_task_done)
    history = kinds(await events(handle))
    assert "ACTIVITY_TASK_FAILED" in history and seen[id] == []
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    async with new_worker(client, WaitsFor, activities=[hangs.hang], task_queue=worker.task_queue):
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 30)
    assert isinstance(caught.value.cause, ActivityError)
    assert "this activity did not complete in time" in str(caught.value.cause.cause)
    # The first worker's instance may have been thrown out: the next one's noticed it once.
    assert seen.pop(id) == ["failed"]
