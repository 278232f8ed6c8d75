"""Activities that a client ends: by token and by id, with a result, a failure, a heartbeat or a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import (
    AsyncActivityCancelledError,
    AsyncActivityHandle,
    Client,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

infos: dict[str, asyncio.Queue[activity.Info]] = {}
"""By workflow: what the activity knows about itself, once it has left the rest to us."""


@activity.defn
async def leave() -> Any:
    info = activity.info()
    infos[info.workflow_id or ""].put_nowait(info)
    activity.raise_complete_async()


@workflow.defn(sandboxed=False)
class Deputy:
    """Returns what somebody else says for its activity."""

    @workflow.run
    async def run(self, attempts: int = 1) -> Any:
        return await workflow.execute_activity(
            leave,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=attempts),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


@dataclass
class Open:
    """A workflow whose activity waits for us."""

    client: Client
    workflow: WorkflowHandle[Deputy, Any]
    by: str
    queue: asyncio.Queue[activity.Info]

    async def activity(self) -> AsyncActivityHandle:
        info = await self.queue.get()
        if self.by == "token":
            return self.client.get_async_activity_handle(task_token=info.task_token)
        return self.client.get_async_activity_handle(
            workflow_id=self.workflow.id, run_id=info.workflow_run_id, activity_id=info.activity_id
        )


@pytest.fixture(scope="module")
async def queue(client: Client) -> AsyncIterator[str]:
    async with new_worker(client, Deputy, activities=[leave]) as worker:
        yield worker.task_queue


@pytest.fixture(params=["token", "id"])
async def opened(client: Client, queue: str, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    id = unique()
    infos[id] = asyncio.Queue()
    handle = await client.start_workflow(Deputy.run, 2, id=id, task_queue=queue)
    yield Open(client, handle, request.param, infos[id])
    del infos[id]


async def test_a_client_completes_it(opened: Open) -> None:
    await (await opened.activity()).complete({"done": True})
    assert await opened.workflow.result() == {"done": True}


async def test_a_client_completes_it_with_nothing(opened: Open) -> None:
    await (await opened.activity()).complete()
    assert await opened.workflow.result() is None


async def test_a_failure_is_retried_unless_it_says_not_to(opened: Open) -> None:
    await (await opened.activity()).fail(ApplicationError("try again"))
    await (await opened.activity()).fail(ApplicationError("give up", 5, type="Tired", non_retryable=True))
    with pytest.raises(WorkflowFailureError) as failed:
        await opened.workflow.result()
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.details, cause.non_retryable) == ("give up", "Tired", (5,), True)


async def test_a_heartbeat_is_seen_by_describe_and_by_the_next_attempt(opened: Open) -> None:
    handle = await opened.activity()
    await handle.heartbeat("half", 50)
    [pending] = (await opened.workflow.describe()).raw_description.pending_activities
    assert [payload.data for payload in pending.heartbeat_details.payloads] == [b'"half"', b"50"]
    await handle.fail(ApplicationError("again"), last_heartbeat_details=["most", 90])
    info = await opened.queue.get()
    assert (info.attempt, list(info.heartbeat_details)) == (2, ["most", 90])
    await opened.client.get_async_activity_handle(task_token=info.task_token).complete(1)
    assert await opened.workflow.result() == 1


async def test_a_heartbeat_tells_about_a_cancel_which_can_be_confirmed(opened: Open) -> None:
    handle = await opened.activity()
    await handle.heartbeat()
    await opened.workflow.cancel()

    async def told() -> AsyncActivityCancelledError:
        try:
            await handle.heartbeat()
        except AsyncActivityCancelledError as cancelled:
            return cancelled
        raise AssertionError("not told yet")

    cancelled = await eventually(told)
    assert str(cancelled) == "Activity cancelled"
    assert cancelled.details is not None and cancelled.details.cancel_requested and not cancelled.details.paused
    await handle.report_cancellation("bye")
    with pytest.raises(WorkflowFailureError) as ended:
        await opened.workflow.result()
    assert isinstance(ended.value.cause, CancelledError)


async def test_what_is_over_is_not_found(opened: Open) -> None:
    handle = await opened.activity()
    await handle.complete(1)
    assert await opened.workflow.result() == 1
    for call in (handle.heartbeat(), handle.complete(2), handle.fail(RuntimeError()), handle.report_cancellation()):
        with pytest.raises(RPCError) as missing:
            await call
        assert missing.value.status == RPCStatusCode.NOT_FOUND


async def test_cancellation_that_nobody_asked_for_is_refused(opened: Open) -> None:
    handle = await opened.activity()
    with pytest.raises(RPCError) as refused:
        await handle.report_cancellation()
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
    await handle.complete(3)
    assert await opened.workflow.result() == 3


async def test_what_is_too_large_for_a_message_is_told_to_the_client_and_the_activity_stays_open(opened: Open) -> None:
    handle = await opened.activity()
    much = "x" * 5 * 1024 * 1024
    calls = (
        handle.heartbeat(much),
        handle.complete(much),
        handle.fail(ApplicationError(much)),
        handle.fail(ApplicationError("again"), last_heartbeat_details=[much]),
        handle.report_cancellation(much),
    )
    for call in calls:
        with pytest.raises(RPCError, match="larger than max") as refused:
            await call
        assert refused.value.status == RPCStatusCode.RESOURCE_EXHAUSTED
    await handle.complete(4)
    assert await opened.workflow.result() == 4


async def test_a_token_of_nonsense_is_an_invalid_argument(client: Client) -> None:
    with pytest.raises(RPCError) as refused:
        await client.get_async_activity_handle(task_token=b"nonsense").complete(1)
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT


async def test_a_handle_needs_an_id_or_a_token(client: Client) -> None:
    with pytest.raises(ValueError):
        client.get_async_activity_handle()  # type: ignore[call-overload]
    with pytest.raises(ValueError):
        client.get_async_activity_handle(task_token=b"t", activity_id="a")  # type: ignore[call-overload]
