"""Updates with start when the workflow, the update or both are already there, open or closed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

CONFLICTS = [WorkflowIDConflictPolicy.USE_EXISTING, WorkflowIDConflictPolicy.FAIL]
REUSES = [WorkflowIDReusePolicy.ALLOW_DUPLICATE, WorkflowIDReusePolicy.REJECT_DUPLICATE]


@workflow.defn
class Room:
    def __init__(self) -> None:
        self.open = False
        self.answer = False

    @workflow.run
    async def run(self, stays: bool) -> str:
        await workflow.wait_condition(lambda: self.open or not stays)
        return str(workflow.uuid4())

    @workflow.update(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def ask(self, waits: bool) -> str:
        await workflow.wait_condition(lambda: self.answer or not waits)
        return str(workflow.uuid4())

    @workflow.update
    async def refuse(self) -> None:
        raise ApplicationError("refused")

    @workflow.signal
    def say(self) -> None:
        self.answer = True


class Twice:
    """The same workflow id and update id, each time as a new operation."""

    def __init__(self, client: Client, queue: str, stays: bool, conflict: Any, reuse: Any) -> None:
        self.client, self.queue, self.stays = client, queue, stays
        self.policies: Any = {"id_conflict_policy": conflict, "id_reuse_policy": reuse}
        self.workflow_id, self.update_id = unique("room"), unique("update")

    def operation(self) -> WithStartWorkflowOperation[Any, Any]:
        return WithStartWorkflowOperation(
            Room.run, self.stays, id=self.workflow_id, task_queue=self.queue, **self.policies
        )

    async def start(self, waits: bool, stage: WorkflowUpdateStage) -> tuple[WorkflowUpdateHandle[str], Any]:
        operation = self.operation()
        # By its name: its parameters are told apart wrongly by the types of the package.
        update: WorkflowUpdateHandle[str] = await self.client.start_update_with_start_workflow(
            "ask", waits, result_type=str, id=self.update_id, start_workflow_operation=operation, wait_for_stage=stage
        )
        return update, await operation.workflow_handle()


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("reuse", REUSES)
async def test_a_completed_update_is_found_again_in_an_open_and_in_a_closed_workflow(
    client: Client, stays: bool, conflict: WorkflowIDConflictPolicy, reuse: WorkflowIDReusePolicy
) -> None:
    async with new_worker(client, Room) as worker:
        twice = Twice(client, worker.task_queue, stays, conflict, reuse)
        one, first = await twice.start(False, WorkflowUpdateStage.COMPLETED)
        status = (await first.describe()).status
        assert status == (WorkflowExecutionStatus.RUNNING if stays else WorkflowExecutionStatus.COMPLETED)
        two, second = await twice.start(False, WorkflowUpdateStage.COMPLETED)
        assert first.first_execution_run_id == second.first_execution_run_id
        assert await one.result() == await two.result()


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("reuse", REUSES)
async def test_an_open_update_is_found_again_in_an_open_workflow(
    client: Client, conflict: WorkflowIDConflictPolicy, reuse: WorkflowIDReusePolicy
) -> None:
    async with new_worker(client, Room) as worker:
        twice = Twice(client, worker.task_queue, True, conflict, reuse)
        one, first = await twice.start(True, WorkflowUpdateStage.ACCEPTED)
        two, second = await twice.start(False, WorkflowUpdateStage.ACCEPTED)
        assert first.first_execution_run_id == second.first_execution_run_id
        await first.signal(Room.say)
        assert await one.result() == await two.result()


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("reuse", REUSES)
async def test_an_open_update_of_a_closed_workflow_is_left_behind(
    client: Client, conflict: WorkflowIDConflictPolicy, reuse: WorkflowIDReusePolicy
) -> None:
    async with new_worker(client, Room) as worker:
        twice = Twice(client, worker.task_queue, False, conflict, reuse)
        _, first = await twice.start(True, WorkflowUpdateStage.ACCEPTED)
        assert (await first.describe()).status == WorkflowExecutionStatus.COMPLETED
        if reuse == WorkflowIDReusePolicy.ALLOW_DUPLICATE:
            _, second = await twice.start(False, WorkflowUpdateStage.COMPLETED)
            assert first.first_execution_run_id != second.first_execution_run_id
        else:
            with pytest.raises(WorkflowAlreadyStartedError) as there:
                await twice.start(False, WorkflowUpdateStage.COMPLETED)
            assert there.value.workflow_id == twice.workflow_id
            assert there.value.run_id == first.first_execution_run_id


async def test_a_refused_update_leaves_the_handle_of_the_workflow_that_it_started(client: Client) -> None:
    async with new_worker(client, Room) as worker:
        twice = Twice(client, worker.task_queue, True, WorkflowIDConflictPolicy.FAIL, REUSES[0])
        operation = twice.operation()
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await client.execute_update_with_start_workflow(Room.refuse, start_workflow_operation=operation)
        assert str(refused.value.cause) == "refused"
        started = await operation.workflow_handle()
        assert (await started.describe()).run_id == started.first_execution_run_id
        again = twice.operation()
        with pytest.raises(WorkflowAlreadyStartedError):
            await client.execute_update_with_start_workflow(Room.refuse, start_workflow_operation=again)
        with pytest.raises(WorkflowAlreadyStartedError):
            await again.workflow_handle()
        await started.terminate()


async def test_a_millisecond_is_too_short_for_an_update_and_for_its_result(client: Client) -> None:
    handle = await client.start_workflow(Room.run, True, id=unique(), task_queue=unique("nobody"))
    stage, short = WorkflowUpdateStage.ACCEPTED, timedelta(milliseconds=1)
    for _ in range(20):
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            await handle.start_update(Room.ask, True, wait_for_stage=stage, rpc_timeout=short)
    await handle.terminate()
    async with new_worker(client, Room) as worker:
        handle = await client.start_workflow(Room.run, True, id=unique(), task_queue=worker.task_queue)
        update = await handle.start_update(Room.ask, True, wait_for_stage=stage)
        for _ in range(20):
            with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
                assert await update.result(rpc_timeout=short)
        await handle.terminate()
