"""Starting workflows: which ids may be used again, and what a start carries to the server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from client.programs import BOOL, DOUBLE, INT, KEYWORD, LIST, TEXT, TIME, Box, Echo, Fail, Wait
from support import eventually, unique
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import WorkflowExecutionStartedEventAttributes
from temporalio.client import (
    Client,
    WorkflowContinuedAsNewError,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import (
    Priority,
    RetryPolicy,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode


async def started(handle: WorkflowHandle[Any, Any]) -> WorkflowExecutionStartedEventAttributes:
    """What the first event of the run says."""
    async for event in handle.fetch_history_events():
        assert event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
        return event.workflow_execution_started_event_attributes
    raise AssertionError("no history")


@pytest.mark.parametrize("value", [None, True, 7, "text", [1, "two"], {"a": {"b": None}}])
async def test_execute_returns_what_the_workflow_returned(client: Client, queue: str, value: object) -> None:
    assert await client.execute_workflow(Echo.run, value, id=unique(), task_queue=queue) == value


async def test_a_handle_knows_its_runs(client: Client, queue: str) -> None:
    id = unique()
    handle = await client.start_workflow(Echo.run, 1, id=id, task_queue=queue)
    assert handle.id == id
    # A started handle follows the whole chain, so it is bound to no run; results begin at the run that it started.
    assert handle.run_id is None
    assert handle.result_run_id == handle.first_execution_run_id == (await handle.describe()).run_id


async def test_workflows_can_be_named_by_text(client: Client, queue: str) -> None:
    handle = await client.start_workflow("Echo", args=["by name"], id=unique(), task_queue=queue, result_type=str)
    assert await handle.result() == "by name"


async def test_a_closed_id_may_be_used_again(client: Client, queue: str) -> None:
    id = unique()
    first = await client.start_workflow(Echo.run, 1, id=id, task_queue=queue)
    assert await first.result() == 1
    second = await client.start_workflow(Echo.run, 2, id=id, task_queue=queue)
    assert await second.result() == 2
    assert first.result_run_id != second.result_run_id
    assert await first.result() == 1


async def test_reject_duplicate_refuses_a_closed_id(client: Client, queue: str) -> None:
    id = unique()
    first = await client.start_workflow(Echo.run, 1, id=id, task_queue=queue)
    await first.result()
    with pytest.raises(WorkflowAlreadyStartedError) as refused:
        await client.start_workflow(
            Echo.run, 2, id=id, task_queue=queue, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE
        )
    assert (refused.value.workflow_id, refused.value.workflow_type) == (id, "Echo")
    assert refused.value.run_id == first.result_run_id


async def test_failed_only_refuses_after_success_and_allows_after_failure(client: Client, queue: str) -> None:
    policy = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    good, bad = unique(), unique()
    await client.execute_workflow(Echo.run, 1, id=good, task_queue=queue)
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(Echo.run, 2, id=good, task_queue=queue, id_reuse_policy=policy)
    with pytest.raises(WorkflowFailureError):
        await client.execute_workflow(Fail.run, "application", id=bad, task_queue=queue)
    assert await client.execute_workflow(Echo.run, 3, id=bad, task_queue=queue, id_reuse_policy=policy) == 3


@pytest.mark.parametrize("conflict", [WorkflowIDConflictPolicy.UNSPECIFIED, WorkflowIDConflictPolicy.FAIL])
async def test_a_running_id_is_refused(client: Client, queue: str, conflict: WorkflowIDConflictPolicy) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    with pytest.raises(WorkflowAlreadyStartedError) as refused:
        await client.start_workflow(Box.run, id=handle.id, task_queue=queue, id_conflict_policy=conflict)
    assert refused.value.run_id == handle.result_run_id
    await handle.terminate()


async def test_use_existing_joins_the_running_one(client: Client, queue: str) -> None:
    first = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    second = await client.start_workflow(
        Box.run, id=first.id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
    )
    assert second.result_run_id == first.result_run_id
    await first.signal(Box.put, 4)
    await second.signal(Box.close)
    assert await second.result() == [4]


async def test_terminate_existing_ends_the_running_one(client: Client, queue: str) -> None:
    first = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    second = await client.start_workflow(
        Echo.run, 5, id=first.id, task_queue=queue, id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING
    )
    assert await second.result() == 5
    with pytest.raises(WorkflowFailureError) as ended:
        await first.result(follow_runs=False)
    assert isinstance(ended.value.cause, TerminatedError)


async def test_contradicting_policies_are_an_invalid_argument(client: Client, queue: str) -> None:
    with pytest.raises(RPCError) as refused:
        await client.start_workflow(
            Echo.run,
            1,
            id=unique(),
            task_queue=queue,
            id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def test_memo_and_search_attributes_come_back_from_describe(client: Client, queue: str) -> None:
    moment = datetime(2031, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    attributes = TypedSearchAttributes(
        [
            SearchAttributePair(TEXT, "some words"),
            SearchAttributePair(KEYWORD, "key"),
            SearchAttributePair(INT, -3),
            SearchAttributePair(DOUBLE, 2.5),
            SearchAttributePair(BOOL, True),
            SearchAttributePair(TIME, moment),
            SearchAttributePair(LIST, ["a", "b"]),
        ]
    )
    handle = await client.start_workflow(
        Echo.run, 1, id=unique(), task_queue=queue, memo={"who": "me", "n": [1, 2]}, search_attributes=attributes
    )
    await handle.result()
    description = await handle.describe()
    assert await description.memo() == {"who": "me", "n": [1, 2]}
    assert await description.memo_value("who") == "me"
    assert await description.memo_value("absent", "default") == "default"
    with pytest.raises(KeyError):
        await description.memo_value("absent")
    kept = description.typed_search_attributes
    assert {pair.key.name: kept[pair.key] for pair in attributes.search_attributes} == {
        "OutlastText": "some words",
        "OutlastKeyword": "key",
        "OutlastInt": -3,
        "OutlastDouble": 2.5,
        "OutlastBool": True,
        "OutlastTime": moment,
        "OutlastList": ["a", "b"],
    }


async def test_an_unknown_search_attribute_is_refused(client: Client, queue: str) -> None:
    with pytest.raises(RPCError) as refused, pytest.warns(DeprecationWarning):
        await client.start_workflow(
            Echo.run, 1, id=unique(), task_queue=queue, search_attributes={"NobodyKnowsThis": ["x"]}
        )
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
    assert "NobodyKnowsThis" in refused.value.message


async def test_summary_and_details_are_kept(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Echo.run, 1, id=unique(), task_queue=queue, static_summary="in short", static_details="at\nlength"
    )
    description = await handle.describe()
    assert (await description.static_summary(), await description.static_details()) == ("in short", "at\nlength")
    plain = await (await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)).describe()
    assert (await plain.static_summary(), await plain.static_details()) == (None, None)


async def test_timeouts_retry_policy_and_priority_reach_the_first_event(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Wait.run,
        id=unique(),
        task_queue=queue,
        execution_timeout=timedelta(hours=3),
        run_timeout=timedelta(hours=2),
        task_timeout=timedelta(seconds=7),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=2),
            backoff_coefficient=3.0,
            maximum_interval=timedelta(seconds=20),
            maximum_attempts=4,
            non_retryable_error_types=["Never"],
        ),
        priority=Priority(priority_key=2, fairness_key="tenant", fairness_weight=1.5),
    )
    first = await started(handle)
    assert first.workflow_execution_timeout.ToTimedelta() == timedelta(hours=3)
    assert first.workflow_run_timeout.ToTimedelta() == timedelta(hours=2)
    assert first.workflow_task_timeout.ToTimedelta() == timedelta(seconds=7)
    assert RetryPolicy.from_proto(first.retry_policy) == RetryPolicy(
        timedelta(seconds=2), 3.0, timedelta(seconds=20), 4, ["Never"]
    )
    assert (first.priority.priority_key, first.priority.fairness_key) == (2, "tenant")
    assert first.priority.fairness_weight == 1.5
    assert (first.attempt, first.identity, first.task_queue.name) == (1, client.identity, queue)
    await handle.terminate()


async def test_a_workflow_is_retried_as_a_run_of_its_own(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Fail.run,
        "attempts",
        id=unique(),
        task_queue=queue,
        retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=5),
    )
    await handle.result()
    last = await client.get_workflow_handle(handle.id).describe()
    assert (await started(client.get_workflow_handle(handle.id))).attempt == 2
    # The server shows a retried run as continued to clients that do not announce that they follow the next run's id.
    with pytest.raises(WorkflowContinuedAsNewError) as continued:
        await handle.result(follow_runs=False)
    assert continued.value.new_execution_run_id == last.run_id != handle.result_run_id


async def test_a_start_delay_puts_off_the_first_task(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Echo.run, 1, id=unique(), task_queue=queue, start_delay=timedelta(hours=1), memo={"late": True}
    )
    description = await handle.describe()
    assert description.history_length == 1
    assert description.execution_time is not None
    assert description.execution_time - description.start_time == timedelta(hours=1)
    assert (await started(handle)).first_workflow_task_backoff.ToTimedelta() == timedelta(hours=1)
    await handle.terminate()


async def test_a_cron_schedule_is_kept_and_a_bad_one_refused(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue, cron_schedule="0 0 1 1 *")
    first = await started(handle)
    assert first.cron_schedule == "0 0 1 1 *"
    assert first.first_workflow_task_backoff.ToTimedelta() > timedelta(0)
    await handle.terminate()
    with pytest.raises(RPCError) as refused:
        await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue, cron_schedule="now and then")
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def test_a_delay_and_a_cron_schedule_exclude_each_other(client: Client, queue: str) -> None:
    with pytest.raises(RPCError) as refused:
        await client.start_workflow(
            Echo.run, 1, id=unique(), task_queue=queue, cron_schedule="* * * * *", start_delay=timedelta(seconds=1)
        )
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def test_an_eager_start_runs_on_the_client_that_has_a_worker(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Echo.run, "soon", id=unique(), task_queue=queue, request_eager_start=True)
    assert getattr(handle, "__temporal_eagerly_started") is True
    assert await handle.result() == "soon"
    assert (await started(handle)).eager_execution_accepted


async def test_an_eager_start_without_a_worker_is_a_plain_start(address: str, queue: str) -> None:
    alone = await Client.connect(address)
    handle = await alone.start_workflow(Echo.run, "later", id=unique(), task_queue=queue, request_eager_start=True)
    assert getattr(handle, "__temporal_eagerly_started") is False
    assert await handle.result() == "later"
    assert not (await started(handle)).eager_execution_accepted


async def test_a_run_timeout_ends_the_workflow(client: Client) -> None:
    handle = await client.start_workflow(
        Wait.run, id=unique(), task_queue=unique("nobody"), run_timeout=timedelta(seconds=1)
    )

    async def timed_out() -> None:
        assert (await handle.describe()).status == WorkflowExecutionStatus.TIMED_OUT

    await eventually(timed_out)
