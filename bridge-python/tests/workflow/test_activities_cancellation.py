"""Cancelling activities: what each cancellation type waits for, what the activity sees, and completion from outside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from support import eventually, unique
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest, ResetActivityRequest, UnpauseActivityRequest
from temporalio.client import AsyncActivityCancelledError, Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.workflow import ActivityCancellationType
from workflow.stories import LONG, MOMENT, caused, fail_and_replay, replay, run_and_replay, stage, start, failure_of

pytestmark = pytest.mark.timeout(60)


class Patient:
    """An activity that says that it runs, waits to be cancelled, and then does what it was told."""

    def __init__(self, then: Callable[[], Any] | None = None) -> None:
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.details: activity.ActivityCancellationDetails | None = None
        self.then = then

    async def __aenter__(self) -> Patient:
        return self

    async def __aexit__(self, *_: object) -> None:
        """A test that goes wrong does not hold the worker's shutdown up."""
        self.may_end.set()

    @activity.defn(name="patient")
    async def run(self) -> Any:
        self.started.set()
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            self.details = activity.cancellation_details()
            await self.may_end.wait()
            if self.then is None:
                raise
            return self.then()


@workflow.defn
class CancelsOne:
    """Starts one activity, cancels it when told to, and says what came of it."""

    def __init__(self) -> None:
        self.now = False
        self.outcome: str | None = None
        self.may_end = False

    @workflow.run
    async def run(self, kind: int) -> str:
        handle = workflow.start_activity(
            "patient",
            start_to_close_timeout=LONG,
            heartbeat_timeout=LONG,
            cancellation_type=ActivityCancellationType(kind),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        await workflow.wait_condition(lambda: self.now)
        handle.cancel()
        try:
            self.outcome = f"returned {await handle}"
        except ActivityError as error:
            self.outcome = f"{type(error.cause).__name__}: {error.cause}"
        await workflow.wait_condition(lambda: self.may_end)
        return self.outcome

    @workflow.signal
    def cancel(self) -> None:
        self.now = True

    @workflow.signal
    def end(self) -> None:
        self.may_end = True

    @workflow.query
    def seen(self) -> str | None:
        return self.outcome


async def outcome_of(handle: WorkflowHandle[Any, Any]) -> str:
    async def check() -> str:
        seen = await handle.query(CancelsOne.seen)
        assert seen is not None
        return seen

    return await eventually(check)


@pytest.mark.parametrize("kind", [ActivityCancellationType.TRY_CANCEL, ActivityCancellationType.ABANDON])
async def test_the_workflow_is_told_at_once_whatever_the_activity_does(client: Client, kind: int) -> None:
    patient = Patient()
    async with stage(client, CancelsOne, activities=[patient.run]) as worker, patient:
        handle = await start(worker, CancelsOne.run, kind)
        await patient.started.wait()
        await handle.signal(CancelsOne.cancel)
        # The activity has not ended, and will not until it may.
        assert await outcome_of(handle) == "CancelledError: Cancelled"
        patient.may_end.set()
        await handle.signal(CancelsOne.end)
        assert await handle.result() == "CancelledError: Cancelled"
        told = await replay(worker, handle)
    asked = kind == ActivityCancellationType.TRY_CANCEL
    assert told.count("ACTIVITY_TASK_CANCEL_REQUESTED") == (1 if asked else 0)


async def test_waiting_for_the_cancellation_waits_until_the_activity_has_ended(client: Client) -> None:
    patient = Patient()
    async with stage(client, CancelsOne, activities=[patient.run]) as worker, patient:
        handle = await start(worker, CancelsOne.run, ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
        await patient.started.wait()
        await handle.signal(CancelsOne.cancel)
        await eventually(lambda: has_details(patient))
        assert await handle.query(CancelsOne.seen) is None
        patient.may_end.set()
        assert await outcome_of(handle) == "CancelledError: Cancelled"
        await handle.signal(CancelsOne.end)
        await handle.result()
        told = await replay(worker, handle)
    assert patient.details == activity.ActivityCancellationDetails(cancel_requested=True)
    requested = told.attributes("ACTIVITY_TASK_CANCEL_REQUESTED")
    assert requested.scheduled_event_id == told.one("ACTIVITY_TASK_SCHEDULED").event_id
    assert told.attributes("ACTIVITY_TASK_CANCELED").scheduled_event_id == requested.scheduled_event_id


async def has_details(patient: Patient) -> None:
    assert patient.details is not None


@pytest.mark.parametrize("way", ["returns", "fails"])
async def test_an_activity_may_answer_a_cancellation_with_something_else(client: Client, way: str) -> None:
    def fail() -> None:
        raise ApplicationError("I was busy", type="Busy")

    patient = Patient(then=fail if way == "fails" else lambda: "cleaned up")
    patient.may_end.set()
    async with stage(client, CancelsOne, activities=[patient.run]) as worker, patient:
        handle = await start(worker, CancelsOne.run, ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
        await patient.started.wait()
        await handle.signal(CancelsOne.cancel)
        await handle.signal(CancelsOne.end)
        result = await handle.result()
        told = await replay(worker, handle)
    assert result == ("ApplicationError: Busy: I was busy" if way == "fails" else "returned cleaned up")
    assert told.count("ACTIVITY_TASK_FAILED" if way == "fails" else "ACTIVITY_TASK_COMPLETED") == 1


@workflow.defn
class CancelsBeforeStart:
    """Cancels in the activation that asked for the activity, or while nobody takes it."""

    def __init__(self) -> None:
        self.now = False

    @workflow.run
    async def run(self, kind: int, at_once: bool) -> list[str]:
        handles = [
            workflow.start_activity(
                "nobody",
                task_queue=unique_queue(),
                start_to_close_timeout=LONG,
                cancellation_type=ActivityCancellationType(kind),
            )
            for _ in range(2)
        ]
        if not at_once:
            await workflow.wait_condition(lambda: self.now)
        for handle in handles:
            handle.cancel()
        outcomes = await asyncio.gather(*handles, return_exceptions=True)
        return [f"{type(o).__name__} {type(getattr(o, '__cause__', None)).__name__}" for o in outcomes]

    @workflow.signal
    def cancel(self) -> None:
        self.now = True


def unique_queue() -> str:
    return f"nobody-{workflow.uuid4()}"


@pytest.mark.parametrize("kind", list(ActivityCancellationType))
async def test_an_activity_cancelled_in_the_same_breath_is_never_asked_for(client: Client, kind: int) -> None:
    async with stage(client, CancelsBeforeStart) as worker:
        result, told = await run_and_replay(worker, CancelsBeforeStart.run, kind, True)
    # asyncio itself cancels a task that has not run yet.
    assert result == ["CancelledError NoneType"] * 2
    assert told.kinds() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_COMPLETED"]


@pytest.mark.parametrize("kind", list(ActivityCancellationType))
async def test_an_activity_that_nobody_took_is_cancelled_by_the_server(client: Client, kind: int) -> None:
    async with stage(client, CancelsBeforeStart) as worker:
        handle = await start(worker, CancelsBeforeStart.run, kind, False)

        async def scheduled() -> None:
            assert len((await handle.describe()).raw_description.pending_activities) == 2

        await eventually(scheduled)
        await handle.signal(CancelsBeforeStart.cancel)
        assert await handle.result() == ["ActivityError CancelledError"] * 2
        told = await replay(worker, handle)
    asked = 0 if kind == ActivityCancellationType.ABANDON else 2
    assert told.count("ACTIVITY_TASK_CANCEL_REQUESTED") == asked
    if kind == ActivityCancellationType.WAIT_CANCELLATION_COMPLETED:
        assert told.count("ACTIVITY_TASK_CANCELED") == 2


async def test_a_sync_activity_gets_the_cancellation_as_an_exception_in_its_thread(client: Client) -> None:
    started, seen = threading.Event(), []

    @activity.defn(name="patient")
    def patient() -> None:
        try:
            with activity.shield_thread_cancel_exception():
                started.set()
                while not activity.is_cancelled():
                    activity.heartbeat()
                    activity.wait_for_cancelled_sync(0.02)
                seen.append("shielded")
            activity.wait_for_cancelled_sync(60)
        except CancelledError:
            seen.append("cancelled")
            raise

    with ThreadPoolExecutor(3) as executor:
        async with stage(
            client, CancelsOne, activities=[patient], activity_executor=executor, max_concurrent_activities=3
        ) as worker:
            handle = await start(worker, CancelsOne.run, ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
            await asyncio.get_running_loop().run_in_executor(None, started.wait, 30)
            await handle.signal(CancelsOne.cancel)
            await handle.signal(CancelsOne.end)
            assert await handle.result() == "CancelledError: Cancelled"
            await replay(worker, handle)
    assert seen == ["shielded", "cancelled"]


@workflow.defn
class Waits:
    """Waits for one activity that is completed from outside, or held up by an operator."""

    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_activity(
            "outside",
            activity_id="outside-id",
            start_to_close_timeout=LONG,
            heartbeat_timeout=LONG,
            retry_policy=RetryPolicy(initial_interval=MOMENT, backoff_coefficient=1),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


class Outside:
    def __init__(self) -> None:
        self.tokens: asyncio.Queue[bytes] = asyncio.Queue()

    @activity.defn(name="outside")
    async def run(self) -> None:
        self.tokens.put_nowait(activity.info().task_token)
        activity.raise_complete_async()


async def only_pending(handle: WorkflowHandle[Any, Any]) -> PendingActivityInfo:
    pending = list((await handle.describe()).raw_description.pending_activities)
    assert len(pending) == 1
    return pending[0]


@pytest.mark.parametrize("by", ["token", "id"])
async def test_an_activity_is_completed_from_outside(client: Client, by: str) -> None:
    outside = Outside()
    async with stage(client, Waits, activities=[outside.run]) as worker:
        handle = await start(worker, Waits.run)
        token = await outside.tokens.get()
        hand = (
            client.get_async_activity_handle(task_token=token)
            if by == "token"
            else client.get_async_activity_handle(
                workflow_id=handle.id, run_id=handle.result_run_id, activity_id="outside-id"
            )
        )
        await hand.heartbeat("half")
        await hand.complete({"all": "well"})
        assert await handle.result() == {"all": "well"}
        await replay(worker, handle)


async def test_an_activity_fails_and_is_cancelled_from_outside(client: Client) -> None:
    outside = Outside()
    async with stage(client, Waits, activities=[outside.run]) as worker:
        handle = await start(worker, Waits.run)
        await client.get_async_activity_handle(task_token=await outside.tokens.get()).fail(RuntimeError("try again"))
        second = client.get_async_activity_handle(task_token=await outside.tokens.get())
        await handle.cancel()

        async def cancelled() -> None:
            try:
                await second.heartbeat()
            except AsyncActivityCancelledError as error:
                assert error.details is None or error.details.cancel_requested
                return
            raise AssertionError("not cancelled yet")

        await eventually(cancelled)
        await second.report_cancellation("by hand")
        error = await failure_of(handle)
        told = await replay(worker, handle)
    assert isinstance(error, CancelledError)
    assert told.attributes("ACTIVITY_TASK_STARTED").last_failure.message == "try again"
    assert told.kinds()[-2:] == ["ACTIVITY_TASK_CANCELED", "WORKFLOW_EXECUTION_CANCELED"]


async def test_a_paused_activity_is_told_so_and_runs_again_when_it_may(client: Client) -> None:
    seen: list[activity.ActivityCancellationDetails | None] = []
    started = asyncio.Event()

    @activity.defn(name="outside")
    async def worked() -> int:
        started.set()
        if activity.info().attempt > 1:
            return activity.info().attempt
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            seen.append(activity.cancellation_details())
            raise

    async with stage(client, Waits, activities=[worked]) as worker:
        handle = await start(worker, Waits.run)
        await started.wait()
        execution = WorkflowExecution(workflow_id=handle.id)
        who: Any = {"namespace": "default", "execution": execution, "id": "outside-id", "identity": "operator"}
        await client.workflow_service.pause_activity(PauseActivityRequest(**who, reason="lunch"))

        async def paused() -> None:
            pending = await only_pending(handle)
            assert pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED

        await eventually(paused)
        await client.workflow_service.unpause_activity(UnpauseActivityRequest(**who))
        assert await handle.result() == 2
        await replay(worker, handle)
    assert [details and (details.paused, details.cancel_requested) for details in seen] == [(True, False)]


async def test_a_reset_activity_is_told_so_and_begins_with_attempt_one(client: Client) -> None:
    seen: list[tuple[int, bool]] = []
    started = asyncio.Event()

    @activity.defn(name="outside")
    async def worked() -> str:
        started.set()
        if seen:
            return f"attempt {activity.info().attempt}"
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            seen.append((activity.info().attempt, details is not None and details.reset))
            raise ApplicationError("starting over") from None

    async with stage(client, Waits, activities=[worked]) as worker:
        handle = await start(worker, Waits.run)
        await started.wait()
        await client.workflow_service.reset_activity(
            ResetActivityRequest(
                namespace="default",
                execution=WorkflowExecution(workflow_id=handle.id),
                id="outside-id",
                identity="operator",
            )
        )
        assert (await handle.result()).startswith("attempt")
        await replay(worker, handle)
    assert seen == [(1, True)]


async def test_a_reset_ends_the_wait_for_a_retry_and_counts_from_one(client: Client) -> None:
    """The activity itself asked for an hour."""
    attempts: list[int] = []

    @activity.defn(name="outside")
    async def worked() -> str:
        attempts.append(activity.info().attempt)
        if len(attempts) == 1:
            raise ApplicationError("later", next_retry_delay=timedelta(hours=1))
        return "sooner"

    async with stage(client, Waits, activities=[worked]) as worker:
        handle = await start(worker, Waits.run)

        async def waits() -> None:
            pending = await only_pending(handle)
            assert pending.attempt == 2 and pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED

        await eventually(waits)
        await client.workflow_service.reset_activity(
            ResetActivityRequest(
                namespace="default",
                execution=WorkflowExecution(workflow_id=handle.id),
                id="outside-id",
                identity="operator",
            )
        )
        assert await handle.result() == "sooner"
        await replay(worker, handle)
    assert attempts == [1, 1]
