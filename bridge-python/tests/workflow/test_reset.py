"""Resets and pauses: history is cut, chance is thrown anew, and work stops without an end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
    from temporalio.api.workflowservice.v1 import (
        DescribeWorkflowExecutionRequest,
        PauseWorkflowExecutionRequest,
        ResetWorkflowExecutionRequest,
        UnpauseWorkflowExecutionRequest,
    )
    from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
    from temporalio.service import RPCError

PAUSED = Status.WORKFLOW_EXECUTION_STATUS_PAUSED
TIMEOUT = timedelta(seconds=20)


@activity.defn
async def tick() -> None:
    pass


@workflow.defn
class Throwing:
    """Throws dice before and after the point to which it is reset."""

    def __init__(self) -> None:
        self.opened = 0
        self.seeds: list[int] = []

    @workflow.run
    async def run(self) -> list[Any]:
        workflow.register_random_seed_callback(self.seeds.append)
        mine = workflow.new_random("mine")
        seen: list[Any] = [workflow.random_seed(), workflow.random().random(), mine.random()]
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        await workflow.wait_condition(lambda: self.opened > 0)
        seen += [workflow.random_seed(), workflow.random().random(), mine.random(), str(workflow.uuid4())]
        info = workflow.info()
        return [seen, self.opened, len(self.seeds), info.run_id, info.original_execution_run_id]

    @workflow.signal
    def open(self) -> None:
        self.opened += 1


async def reset(client: Client, handle: WorkflowHandle[Any, Any], event_id: int) -> WorkflowHandle[Any, list[Any]]:
    """Resets to a finished workflow task and returns the new run."""
    answer = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.first_execution_run_id or ""),
            reason="story",
            request_id=unique(),
            workflow_task_finish_event_id=event_id,
        )
    )
    return client.get_workflow_handle_for(Throwing.run, handle.id, run_id=answer.run_id)


async def test_a_reset_keeps_the_past_and_throws_new_dice(client: Client) -> None:
    async with new_worker(client, Throwing, activities=[tick]) as worker:
        handle = await client.start_workflow(Throwing.run, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "workflow_task_completed", 2)
        await handle.signal(Throwing.open)
        before, opened, reseeded, run_id, original = await handle.result()
        assert (opened, reseeded, run_id, original) == (1, 0, handle.first_execution_run_id, run_id)
        events = (await handle.fetch_history()).events
        second_task = [e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes")][1]
        again = await reset(client, handle, second_task)
        after, opened, reseeded, new_run_id, original = await again.result()
    # The signal came after the point of the reset and is told again.
    assert (opened, reseeded, new_run_id, original) == (1, 1, again.run_id, run_id)
    assert after[:3] == before[:3]
    assert after[3] != before[3] and after[4] != before[4] and after[5] != before[5] and after[6] != before[6]
    failed = (await found(again, "workflow_task_failed"))[0]
    assert (failed.base_run_id, failed.new_run_id) == (run_id, again.run_id)
    await replay(handle, Throwing)
    await replay(again, Throwing)


@workflow.defn
class Pausing:
    def __init__(self) -> None:
        self.heard = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.heard == 2)
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        return self.heard

    @workflow.signal
    def hear(self) -> None:
        self.heard += 1

    @workflow.query
    def count(self) -> int:
        return self.heard


async def test_a_paused_workflow_does_nothing_until_it_is_unpaused(client: Client) -> None:
    async with new_worker(client, Pausing, activities=[tick]) as worker:
        handle = await client.start_workflow(Pausing.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Pausing.hear)
        await awaited(handle, "workflow_task_completed", 1)
        names = {"namespace": "default", "workflow_id": handle.id, "identity": "story", "reason": "because"}
        try:
            await client.workflow_service.pause_workflow_execution(
                PauseWorkflowExecutionRequest(**names, request_id=unique())
            )
        except RPCError as error:
            await handle.terminate()
            pytest.skip(f"this server does not pause workflows: {error}")
        # `handle.describe()` does not know this status.
        described = await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(namespace="default", execution=WorkflowExecution(workflow_id=handle.id))
        )
        assert described.workflow_execution_info.status == PAUSED
        tasks = (await kinds(handle)).count("workflow_task_completed")
        await handle.signal(Pausing.hear)
        assert (await kinds(handle)).count("workflow_task_scheduled") == tasks
        await client.workflow_service.unpause_workflow_execution(
            UnpauseWorkflowExecutionRequest(**names, request_id=unique())
        )
        assert await handle.result() == 2
    told = await kinds(handle)
    assert "workflow_execution_paused" in told and "workflow_execution_unpaused" in told
    await replay(handle, Pausing)


async def test_a_reset_to_the_first_task_starts_over_with_its_signals(client: Client) -> None:
    async with new_worker(client, Throwing, activities=[tick], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Throwing.run, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "workflow_task_completed", 2)
        await handle.signal(Throwing.open)
        before = (await handle.result())[0]
        events = (await handle.fetch_history()).events
        first_task = next(e.event_id for e in events if e.HasField("workflow_task_completed_event_attributes"))
        again = await reset(client, handle, first_task)
        after = (await again.result())[0]

        async def closed() -> None:
            assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED

        await eventually(closed)
    assert after[0] != before[0] and after[1] != before[1]
    await replay(again, Throwing)
