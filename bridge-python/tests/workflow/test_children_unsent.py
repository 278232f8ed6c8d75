"""Children that are cancelled in the task that would have started them: the server never hears of them."""

from __future__ import annotations

import asyncio

import pytest
from histories import kinds
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import CancelledError, ChildWorkflowError, RetryState
from temporalio.workflow import ChildWorkflowCancellationType


@workflow.defn(sandboxed=False)
class Child:
    @workflow.run
    async def run(self) -> None: ...


@workflow.defn(sandboxed=False)
class Regrets:
    @workflow.run
    async def run(self, kind: int) -> list[str]:
        started = workflow.execute_child_workflow(
            Child.run, id=unique(), cancellation_type=ChildWorkflowCancellationType(kind)
        )
        task = asyncio.create_task(started)
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except ChildWorkflowError as error:
            assert isinstance(error.cause, CancelledError)
            assert error.retry_state
            return [str(error), RetryState(error.retry_state).name]
        return []


@pytest.mark.parametrize("kind", list(ChildWorkflowCancellationType))
async def test_a_child_that_was_never_sent_says_so_and_that_it_is_final(
    client: Client, kind: ChildWorkflowCancellationType
) -> None:
    async with new_worker(client, Regrets, Child) as worker:
        handle = await client.start_workflow(Regrets.run, int(kind), id=unique(), task_queue=worker.task_queue)
        said = await handle.result()
    assert said == ["Child Workflow Execution cancelled before scheduled: ", "NON_RETRYABLE_FAILURE"]
    assert not any(kind.startswith("start_child") for kind in await kinds(handle))
