"""Signals and queries, alone and with a start."""

from __future__ import annotations

import pytest

from client.programs import Box, Echo
from support import unique
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import QueryRejectCondition, WorkflowIDConflictPolicy
from temporalio.exceptions import TerminatedError
from temporalio.service import RPCError, RPCStatusCode


async def test_signals_arrive_in_the_order_they_were_sent(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    for value in range(10):
        await handle.signal(Box.put, value)
    await handle.signal(Box.put_both, args=[10, 11])
    await handle.signal("close")
    assert await handle.result() == list(range(12))
    signals = [
        event.workflow_execution_signaled_event_attributes
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
    assert [signal.signal_name for signal in signals] == ["put"] * 10 + ["put_both", "close"]
    assert {signal.identity for signal in signals} == {client.identity}
    assert [len(signal.input.payloads) for signal in signals] == [1] * 10 + [2, 0]


async def test_a_signal_to_nobody_is_not_found(client: Client, queue: str) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(unique()).signal("put", 1)
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    closed = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
    await closed.result()
    with pytest.raises(RPCError) as late:
        await closed.signal("put", 1)
    assert (late.value.status, late.value.message) == (
        RPCStatusCode.NOT_FOUND,
        "workflow execution already completed",
    )


async def test_a_signal_with_start_starts_and_signals_at_once(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Box.run, id=unique(), task_queue=queue, start_signal="put", start_signal_args=[5]
    )
    await handle.signal(Box.close)
    assert await handle.result() == [5]
    types = [event.event_type for event in (await handle.fetch_history()).events][:3]
    assert types == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    ]


async def test_a_signal_with_start_only_signals_what_runs_already(client: Client, queue: str) -> None:
    first = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    second = await client.start_workflow(
        Box.run, id=first.id, task_queue=queue, start_signal="put_both", start_signal_args=[1, 2]
    )
    assert second.result_run_id == first.result_run_id
    await second.signal(Box.close)
    assert await first.result() == [1, 2]


async def test_a_signal_with_start_may_replace_what_runs(client: Client, queue: str) -> None:
    first = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    second = await client.start_workflow(
        Box.run,
        id=first.id,
        task_queue=queue,
        start_signal="close",
        id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
    )
    assert await second.result() == []
    with pytest.raises(WorkflowFailureError) as ended:
        await first.result(follow_runs=False)
    assert isinstance(ended.value.cause, TerminatedError)


async def test_queries_see_the_state_after_what_was_sent_before(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    assert await handle.query(Box.content) == []
    for value in (3, 8, 5):
        await handle.signal(Box.put, value)
        assert (await handle.query(Box.content))[-1] == value
    assert await handle.query(Box.at_least, 5) == [8, 5]
    assert await handle.query("at_least", args=[6], result_type=list[int]) == [8]
    await handle.signal(Box.close)


async def test_a_closed_workflow_still_answers(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Box.run, id=unique(), task_queue=queue, start_signal="put", start_signal_args=[2]
    )
    await handle.signal(Box.close)
    await handle.result()
    assert await handle.query(Box.content) == [2]


async def test_a_failing_query_raises_and_changes_nothing(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    before = (await handle.query(Box.content), (await handle.describe()).history_length)
    with pytest.raises(WorkflowQueryFailedError) as failed:
        await handle.query(Box.broken)
    assert failed.value.message == str(failed.value) == "the box is broken"
    assert (await handle.query(Box.content), (await handle.describe()).history_length) == before
    await handle.signal(Box.close)
    assert await handle.result() == []


async def test_an_unknown_query_names_the_known_ones(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    with pytest.raises(WorkflowQueryFailedError) as failed:
        await handle.query("nothing")
    assert "Query handler for 'nothing' expected but not found" in failed.value.message
    assert "known queries: [" in failed.value.message and "at_least" in failed.value.message
    await handle.terminate()


async def test_a_query_may_be_rejected_by_the_workflow_s_status(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    not_open = QueryRejectCondition.NOT_OPEN
    assert await handle.query(Box.content, reject_condition=not_open) == []
    await handle.signal(Box.close)
    await handle.result()
    with pytest.raises(WorkflowQueryRejectedError) as rejected:
        await handle.query(Box.content, reject_condition=not_open)
    assert rejected.value.status == WorkflowExecutionStatus.COMPLETED
    unclean = QueryRejectCondition.NOT_COMPLETED_CLEANLY
    assert await handle.query(Box.content, reject_condition=unclean) == []


async def test_an_unclean_end_rejects_queries_that_ask_for_a_clean_one(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    assert await handle.query(Box.content) == []
    await handle.terminate()
    with pytest.raises(WorkflowQueryRejectedError) as rejected:
        await handle.query(Box.content, reject_condition=QueryRejectCondition.NOT_COMPLETED_CLEANLY)
    assert rejected.value.status == WorkflowExecutionStatus.TERMINATED


async def test_a_client_may_have_a_reject_condition_of_its_own(client: Client, address: str, queue: str) -> None:
    picky = await Client.connect(address, default_workflow_query_reject_condition=QueryRejectCondition.NOT_OPEN)
    handle = await picky.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
    await handle.result()
    with pytest.raises(WorkflowQueryRejectedError):
        await handle.query("__stack_trace")
    trace = await handle.query("__stack_trace", reject_condition=QueryRejectCondition.NOT_COMPLETED_CLEANLY)
    assert "query: __stack_trace" in trace


async def test_every_workflow_answers_with_its_stack(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    stack = await handle.query("__stack_trace", result_type=str)
    assert f"run (workflow: Box, id: {handle.id}, run: {handle.result_run_id})" in stack
    await handle.terminate()


async def test_a_query_to_nobody_is_not_found(client: Client) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(unique()).query("content")
    assert missing.value.status == RPCStatusCode.NOT_FOUND
