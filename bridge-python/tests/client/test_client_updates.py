"""Updates: validation, failure, waiting for a stage, finding one again, and an update together with a start."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from client.programs import Box, Echo
from support import unique
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode


async def new_box(client: Client, queue: str) -> WorkflowHandle[Box, list[int]]:
    return await client.start_workflow(Box.run, id=unique(), task_queue=queue)


def box_to_start(queue: str, id: str, policy: WorkflowIDConflictPolicy) -> WithStartWorkflowOperation[Box, list[int]]:
    return WithStartWorkflowOperation(Box.run, id=id, task_queue=queue, id_conflict_policy=policy)


async def test_an_update_changes_the_workflow_and_returns(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    assert await box.execute_update(Box.add, 4) == 4
    assert await box.execute_update("add", 5, result_type=int) == 9
    await box.signal(Box.close)
    assert await box.result() == [4, 5]
    types = [event.event_type for event in (await box.fetch_history()).events]
    assert types.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED) == 2
    assert types.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED) == 2


async def test_a_rejected_update_leaves_no_trace(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await box.execute_update(Box.add, -1)
    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.message, failed.value.cause.type) == ("must not be negative", "ValueError")
    await box.signal(Box.close)
    assert await box.result() == []
    types = [event.event_type for event in (await box.fetch_history()).events]
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED not in types
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_REJECTED not in types


async def test_an_accepted_update_may_fail_and_the_workflow_goes_on(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await box.execute_update(Box.add, 13)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.details) == ("no thirteen", "Superstition", ("unlucky",))
    assert await box.execute_update(Box.add, 1) == 1
    await box.signal(Box.close)
    assert await box.result() == [1]


async def test_an_unknown_update_is_rejected(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await box.execute_update("nothing")
    assert "Update handler for 'nothing' expected but not found" in str(failed.value.cause)
    await box.terminate()


async def test_an_accepted_update_is_waited_for_with_its_handle(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    update = await box.start_update(Box.add_behind_gate, 6, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="six")
    assert (update.id, update.workflow_id, update.workflow_run_id) == ("six", box.id, box.result_run_id)
    assert await box.query(Box.content) == []
    await box.signal(Box.open_gate)
    assert await update.result() == 6
    await box.signal(Box.close)
    assert await box.result() == [6]


async def test_a_completed_update_needs_no_more_calls(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    update = await box.start_update(Box.add, 6, wait_for_stage=WorkflowUpdateStage.COMPLETED)
    await box.terminate()
    assert await update.result() == 6


async def test_admitted_is_no_stage_to_wait_for(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(ValueError, match="ADMITTED wait stage not supported"):
        await box.start_update(Box.add, 6, wait_for_stage=WorkflowUpdateStage.ADMITTED)
    await box.terminate()


async def test_an_update_is_found_again_by_its_id(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    await box.start_update(Box.add_behind_gate, 2, wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="two")
    again = box.get_update_handle_for(Box.add_behind_gate, "two")
    by_run = box.get_update_handle("two", workflow_run_id=box.result_run_id, result_type=int)
    waiting = asyncio.gather(again.result(), by_run.result())
    await box.signal(Box.open_gate)
    assert list(await waiting) == [2, 2]
    await box.terminate()


async def test_the_same_id_is_the_same_update(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    assert await box.execute_update(Box.add, 3, id="once") == 3
    assert await box.execute_update(Box.add, 3, id="once") == 3
    assert await box.query(Box.content) == [3]
    await box.terminate()


async def test_an_unknown_update_id_is_not_found(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(RPCError) as missing:
        await box.get_update_handle("nobody").result()
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    await box.terminate()


async def test_an_update_of_nobody_is_not_found(client: Client) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(unique()).execute_update("add", 1)
    assert missing.value.status == RPCStatusCode.NOT_FOUND


async def test_a_short_deadline_gives_up_on_the_call_not_on_the_update(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError) as late:
        await box.execute_update(Box.add_behind_gate, 8, id="slow", rpc_timeout=timedelta(milliseconds=500))
    assert isinstance(late.value, RPCTimeoutOrCancelledError)
    assert str(late.value) == "Timeout or cancellation waiting for update"
    assert isinstance(late.value.__cause__, RPCError)
    assert late.value.__cause__.status in (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED)
    await box.signal(Box.open_gate)
    assert await box.get_update_handle("slow", result_type=int).result() == 8
    await box.terminate()


async def test_a_cancelled_wait_raises_the_timeout_error_and_keeps_the_update(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    update = await box.start_update(Box.add_behind_gate, 8, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    waiting = asyncio.create_task(update.result())
    assert await box.query(Box.content) == []
    waiting.cancel()
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError) as given_up:
        await waiting
    assert isinstance(given_up.value.__cause__, asyncio.CancelledError)
    await box.signal(Box.open_gate)
    assert await update.result() == 8
    await box.terminate()


async def test_an_update_with_start_starts_what_is_not_there(client: Client, queue: str) -> None:
    operation = box_to_start(queue, unique(), WorkflowIDConflictPolicy.FAIL)
    assert await client.execute_update_with_start_workflow(Box.add, 7, start_workflow_operation=operation) == 7
    handle = await operation.workflow_handle()
    await handle.signal(Box.close)
    assert await handle.result() == [7]


async def test_an_update_with_start_uses_what_runs(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    for value in (1, 2):
        operation = box_to_start(queue, box.id, WorkflowIDConflictPolicy.USE_EXISTING)
        update = await client.start_update_with_start_workflow(
            Box.add,
            value,
            start_workflow_operation=operation,
            wait_for_stage=WorkflowUpdateStage.ACCEPTED,
        )
        assert update.workflow_run_id == box.result_run_id
        assert await update.result() == sum(range(value + 1))
        assert (await operation.workflow_handle()).id == box.id
    await box.terminate()


async def test_an_update_with_start_may_refuse_what_runs(client: Client, queue: str) -> None:
    box = await new_box(client, queue)
    operation = box_to_start(queue, box.id, WorkflowIDConflictPolicy.FAIL)
    with pytest.raises(WorkflowAlreadyStartedError) as refused:
        await client.execute_update_with_start_workflow(Box.add, 1, start_workflow_operation=operation)
    assert (refused.value.workflow_id, refused.value.run_id) == (box.id, box.result_run_id)
    with pytest.raises(WorkflowAlreadyStartedError):
        await operation.workflow_handle()
    assert await box.query(Box.content) == []
    await box.terminate()


async def test_a_rejected_update_with_start_starts_all_the_same(client: Client, queue: str) -> None:
    operation = box_to_start(queue, unique(), WorkflowIDConflictPolicy.FAIL)
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await client.execute_update_with_start_workflow(Box.add, -1, start_workflow_operation=operation)
    assert isinstance(failed.value.cause, ApplicationError) and failed.value.cause.type == "ValueError"
    handle = await operation.workflow_handle()
    await handle.signal(Box.close)
    assert await handle.result() == []


async def test_an_operation_is_used_once(client: Client, queue: str) -> None:
    operation = box_to_start(queue, unique(), WorkflowIDConflictPolicy.USE_EXISTING)
    assert await client.execute_update_with_start_workflow(Box.add, 1, start_workflow_operation=operation) == 1
    with pytest.raises(RuntimeError, match="cannot be reused"):
        await client.execute_update_with_start_workflow(Box.add, 2, start_workflow_operation=operation)
    await (await operation.workflow_handle()).terminate()


async def test_an_update_with_start_that_is_no_request_says_which_half(client: Client, queue: str) -> None:
    operation = WithStartWorkflowOperation(
        Echo.run,
        1,
        id=unique(),
        task_queue=queue,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        cron_schedule="now and then",
    )
    with pytest.raises(RPCError) as refused:
        await client.execute_update_with_start_workflow("add", 1, start_workflow_operation=operation)
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
    with pytest.raises(RPCError) as same:
        await operation.workflow_handle()
    assert same.value is refused.value
