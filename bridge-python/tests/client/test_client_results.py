"""How a workflow's end reaches the client: results of a chain of runs, failures with causes, cancel, terminate."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from client.programs import Box, Echo, Fail, Steps, Wait
from support import eventually, unique
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    RetryState,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)
from temporalio.service import RPCError, RPCStatusCode


async def failure(client: Client, queue: str, how: str) -> BaseException:
    """Why a workflow failed that was told to."""
    with pytest.raises(WorkflowFailureError) as failed:
        await client.execute_workflow(Fail.run, how, id=unique(), task_queue=queue)
    assert str(failed.value) == "Workflow execution failed"
    assert failed.value.cause is failed.value.__cause__
    return failed.value.cause


async def test_a_result_follows_the_chain_to_its_end(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Steps.run, args=[2, 1], id=unique(), task_queue=queue)
    assert await handle.result() == 3
    last = await client.get_workflow_handle(handle.id).describe()
    assert last.run_id != handle.first_execution_run_id
    assert last.raw_info.first_run_id == handle.first_execution_run_id


async def test_a_result_may_stop_at_the_first_run(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Steps.run, args=[1, 1], id=unique(), task_queue=queue)
    await handle.result()
    with pytest.raises(WorkflowContinuedAsNewError) as continued:
        await handle.result(follow_runs=False)
    second = client.get_workflow_handle(handle.id, run_id=continued.value.new_execution_run_id)
    assert await second.result(follow_runs=False) == 2
    # A handle of a run answers for that run.
    assert second.run_id == continued.value.new_execution_run_id
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert (await first.describe()).status == WorkflowExecutionStatus.CONTINUED_AS_NEW
    assert (await second.describe()).status == WorkflowExecutionStatus.COMPLETED


async def test_a_handle_by_id_decodes_as_it_is_told(client: Client, queue: str) -> None:
    id = unique()
    await client.execute_workflow(Echo.run, "seven", id=id, task_queue=queue)
    assert await client.get_workflow_handle(id, result_type=str).result() == "seven"
    with pytest.raises(TypeError, match="Expected value to be int"):
        await client.get_workflow_handle(id, result_type=int).result()


async def test_many_clients_may_wait_for_one_result(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    waiting = [asyncio.create_task(client.get_workflow_handle(handle.id).result()) for _ in range(20)]
    await handle.signal(Box.put, 9)
    await handle.signal(Box.close)
    assert await asyncio.gather(*waiting) == [[9]] * 20


async def test_an_application_failure_keeps_type_and_details(client: Client, queue: str) -> None:
    cause = await failure(client, queue, "application")
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.non_retryable) == ("it is over", "Over", True)
    assert cause.details == (1, {"two": 2})
    assert cause.__cause__ is None


async def test_causes_keep_their_order(client: Client, queue: str) -> None:
    top = await failure(client, queue, "chain")
    assert isinstance(top, ApplicationError) and (top.message, top.type) == ("the top", "Top")
    assert isinstance(top.cause, ApplicationError) and (top.cause.message, top.cause.type) == ("the root", "Root")
    assert top.cause.cause is None
    assert top.failure is not None and "raise ApplicationError" in top.failure.stack_trace


async def test_an_activity_failure_names_the_activity(client: Client, queue: str) -> None:
    error = await failure(client, queue, "activity")
    assert isinstance(error, ActivityError)
    assert (error.activity_type, error.activity_id, error.identity) == ("refuse", "1", client.identity)
    assert error.retry_state == RetryState.NON_RETRYABLE_FAILURE
    assert isinstance(error.cause, ApplicationError)
    assert (error.cause.message, error.cause.type, error.cause.details) == ("not today", "Refused", ("detail",))


async def test_a_child_failure_names_the_child(client: Client, queue: str) -> None:
    error = await failure(client, queue, "child")
    assert isinstance(error, ChildWorkflowError)
    assert (error.workflow_type, error.namespace) == ("Fail", "default")
    assert error.workflow_id.endswith("-child")
    assert isinstance(error.cause, ApplicationError) and error.cause.type == "Over"


async def test_cancel_ends_a_workflow_that_lets_it(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Wait.run, id=unique(), task_queue=queue)
    await handle.cancel(reason="enough")
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED
    [asked] = [
        event.workflow_execution_cancel_requested_event_attributes
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
    ]
    assert (asked.cause, asked.identity) == ("enough", client.identity)


async def test_a_workflow_may_answer_cancel_with_a_result(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Wait.run, "goodbye", id=unique(), task_queue=queue)

    async def begun() -> None:
        assert (await handle.describe()).history_length >= 4

    await eventually(begun)
    await handle.cancel()
    assert await handle.result() == "goodbye"


async def test_another_handle_may_cancel_and_terminate_finds_nobody_after(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    other: WorkflowHandle[Box, list[int]] = client.get_workflow_handle_for(Box.run, handle.id)
    await other.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, CancelledError)
    # To cancel what has ended is no error, to terminate it is.
    await other.cancel()
    with pytest.raises(RPCError) as late:
        await other.terminate()
    assert (late.value.status, late.value.message) == (
        RPCStatusCode.NOT_FOUND,
        "workflow execution already completed",
    )


async def test_terminate_carries_reason_and_details(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Wait.run, id=unique(), task_queue=queue)
    await handle.terminate("one", {"two": 3}, reason="out of money")
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    cause = ended.value.cause
    assert isinstance(cause, TerminatedError)
    assert (cause.message, cause.details) == ("out of money", ("one", {"two": 3}))
    assert (await handle.describe()).status == WorkflowExecutionStatus.TERMINATED


async def test_terminate_without_a_reason_has_a_message_all_the_same(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Wait.run, id=unique(), task_queue=queue)
    await handle.terminate()
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    cause = ended.value.cause
    assert isinstance(cause, TerminatedError)
    assert (cause.message, cause.details) == ("terminated by user via frontend", ())


async def test_the_first_run_id_guards_against_ending_another_chain(client: Client, queue: str) -> None:
    id = unique()
    old = await client.start_workflow(Echo.run, 1, id=id, task_queue=queue)
    await old.result()
    new = await client.start_workflow(Box.run, id=id, task_queue=queue)
    for guarded in (old.cancel, old.terminate):
        with pytest.raises(RPCError) as refused:
            await guarded()
        assert refused.value.status == RPCStatusCode.NOT_FOUND
    await new.signal(Box.close)
    assert await new.result() == []


async def test_a_timeout_is_a_cause_of_its_own(client: Client) -> None:
    handle = await client.start_workflow(
        Wait.run, id=unique(), task_queue=unique("nobody"), execution_timeout=timedelta(seconds=1)
    )
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    cause = ended.value.cause
    assert isinstance(cause, TimeoutError)
    assert (cause.message, cause.type) == ("Workflow timed out", TimeoutType.START_TO_CLOSE)


async def test_giving_up_on_a_result_leaves_the_workflow_alone(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    waiting = asyncio.create_task(handle.result())
    await handle.signal(Box.put, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await handle.signal(Box.close)
    assert await handle.result() == [1]
