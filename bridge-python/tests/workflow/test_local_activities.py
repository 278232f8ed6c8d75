"""Local activities: run by the worker of the workflow itself, kept in history as markers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from support import unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from workflow.stories import LONG, MOMENT, Told, caused, fail_and_replay, run_and_replay, stage

pytestmark = pytest.mark.timeout(60)


@dataclass
class Point:
    x: int
    y: int


@activity.defn
async def swap(point: Point) -> Point:
    return Point(point.y, point.x)


@activity.defn
async def join(a: str, b: str) -> str:
    return a + b


@activity.defn
async def nothing() -> None: ...


@activity.defn
def thread_name() -> str:
    return threading.current_thread().name


class Tally:
    def __init__(self) -> None:
        self.value = 0

    @activity.defn
    async def increase(self) -> int:
        self.value += 1
        return self.value


@activity.defn
class Shout:
    async def __call__(self, word: str) -> str:
        return word.upper()


def markers(told: Told) -> list[Any]:
    """The markers of local activities, which are the only markers in these stories."""
    found = [event.marker_recorded_event_attributes for event in told.all("MARKER_RECORDED")]
    assert all(marker.marker_name == "core_local_activity" for marker in found)
    return found


@workflow.defn
class Kinds:
    @workflow.run
    async def run(self) -> list[Any]:
        point = await workflow.execute_local_activity(swap, Point(1, 2), start_to_close_timeout=LONG)
        assert isinstance(point, Point)
        named = await workflow.execute_local_activity("swap", point, result_type=Point, start_to_close_timeout=LONG)
        return [
            [point.x, named.x],
            await workflow.execute_local_activity(join, args=["a", "b"], schedule_to_close_timeout=LONG),
            await workflow.execute_local_activity(nothing, start_to_close_timeout=LONG),
            await workflow.execute_local_activity_method(Tally.increase, start_to_close_timeout=LONG),
            await workflow.execute_local_activity_method(Tally.increase, start_to_close_timeout=LONG),
            await workflow.execute_local_activity_class(Shout, "hey", start_to_close_timeout=LONG),
        ]


async def test_local_activities_of_every_kind_leave_one_marker_each_and_run_once(client: Client) -> None:
    tally = Tally()
    async with stage(client, Kinds, activities=[swap, join, nothing, tally.increase, Shout()]) as worker:
        result, told = await run_and_replay(worker, Kinds.run)
    assert result == [[2, 1], "ab", None, 1, 2, "HEY"]
    assert tally.value == 2
    found = markers(told)
    assert len(found) == 7
    assert [sorted(marker.details) for marker in found[:2]] == [["data", "result"]] * 2
    assert told.count("ACTIVITY_TASK_SCHEDULED") == 0


async def test_one_workflow_task_is_enough_for_many(client: Client) -> None:
    async with stage(client, Kinds, activities=[swap, join, nothing, Tally().increase, Shout()]) as worker:
        _, told = await run_and_replay(worker, Kinds.run)
    assert told.count("WORKFLOW_TASK_COMPLETED") == 1
    assert told.kinds() == ["WORKFLOW_EXECUTION_STARTED", *["MARKER_RECORDED"] * 7, "WORKFLOW_EXECUTION_COMPLETED"]


@workflow.defn
class Threaded:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_local_activity(thread_name, start_to_close_timeout=LONG)


async def test_a_sync_local_activity_runs_in_a_thread(client: Client) -> None:
    with ThreadPoolExecutor(100, thread_name_prefix="local") as executor:
        async with stage(client, Threaded, activities=[thread_name], activity_executor=executor) as worker:
            result, _ = await run_and_replay(worker, Threaded.run)
    assert result.startswith("local")


@workflow.defn
class FanOut:
    @workflow.run
    async def run(self, count: int) -> list[str]:
        handles = [
            workflow.start_local_activity(join, args=["n", str(n)], start_to_close_timeout=LONG) for n in range(count)
        ]
        remote = workflow.start_activity(join, args=["re", "mote"], start_to_close_timeout=LONG)
        return [*await asyncio.gather(*handles), await remote]


async def test_many_at_once_beside_a_remote_one(client: Client) -> None:
    async with stage(client, FanOut, activities=[join], max_concurrent_local_activities=5) as worker:
        result, told = await run_and_replay(worker, FanOut.run, 30)
    assert result == [*(f"n{n}" for n in range(30)), "remote"]
    assert len(markers(told)) == 30 and told.count("ACTIVITY_TASK_COMPLETED") == 1


@workflow.defn
class Look:
    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_local_activity(
            "look",
            "word",
            activity_id="my-local",
            schedule_to_close_timeout=timedelta(seconds=50),
            start_to_close_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(maximum_attempts=7, initial_interval=MOMENT),
            summary="a local look",
        )


async def test_a_local_activity_knows_what_it_is(client: Client) -> None:
    seen: list[activity.Info] = []

    @activity.defn
    async def look(word: RawValue) -> str:
        activity.heartbeat("of no effect")
        seen.append(activity.info())
        return word.payload.data.decode()

    async with stage(client, Look, activities=[look]) as worker:
        result, told = await run_and_replay(worker, Look.run, id=(name := unique("look")))
    assert result == '"word"'
    [info] = seen
    assert info.is_local and info.attempt == 1
    assert (info.activity_id, info.activity_type) == ("my-local", "look")
    assert (info.workflow_id, info.workflow_type, info.namespace) == (name, "Look", "default")
    assert info.workflow_run_id == told.attributes("WORKFLOW_EXECUTION_STARTED").original_execution_run_id
    assert info.task_queue == worker.task_queue
    assert info.schedule_to_close_timeout == timedelta(seconds=50)
    assert info.start_to_close_timeout == timedelta(seconds=30)
    assert info.heartbeat_timeout is None or info.heartbeat_timeout == timedelta(0)
    assert info.scheduled_time <= info.started_time


async def test_a_summary_stands_on_the_marker(client: Client) -> None:
    @activity.defn
    async def look(word: str) -> str:
        return word

    async with stage(client, Look, activities=[look]) as worker:
        _, told = await run_and_replay(worker, Look.run)
    summary = told.one("MARKER_RECORDED").user_metadata.summary
    assert client.data_converter.payload_converter.from_payload(summary) == "a local look"


@workflow.defn
class Try:
    """Calls the local activity `attempt` with options in milliseconds."""

    @workflow.run
    async def run(self, options: dict[str, int], policy: dict[str, Any]) -> Any:
        policy = dict(policy)
        if "initial_interval" in policy:
            policy["initial_interval"] = timedelta(milliseconds=policy["initial_interval"])
        given: Any = {name: timedelta(milliseconds=value) for name, value in options.items()}
        return await workflow.execute_local_activity("attempt", retry_policy=RetryPolicy(**policy), **given)


FINE = {"start_to_close_timeout": 60_000}
QUICKLY = {"initial_interval": 5, "backoff_coefficient": 1.0}


class Attempts:
    """The local activity `attempt`: fails until it may succeed, and notes its attempts."""

    def __init__(self, succeeds_at: int = 0, **how: Any) -> None:
        self.seen: list[int] = []
        self.succeeds_at = succeeds_at
        self.how = how

    @activity.defn(name="attempt")
    async def run(self) -> str:
        self.seen.append(activity.info().attempt)
        if self.succeeds_at and len(self.seen) >= self.succeeds_at:
            return f"after {len(self.seen)}"
        raise ApplicationError("not yet", len(self.seen), type="NotYet", **self.how)


async def test_it_is_tried_again_within_the_same_workflow_task(client: Client) -> None:
    attempts = Attempts(succeeds_at=4)
    async with stage(client, Try, activities=[attempts.run]) as worker:
        result, told = await run_and_replay(worker, Try.run, FINE, QUICKLY)
    assert (result, attempts.seen) == ("after 4", [1, 2, 3, 4])
    assert told.kinds() == ["WORKFLOW_EXECUTION_STARTED", "MARKER_RECORDED", "WORKFLOW_EXECUTION_COMPLETED"]


async def test_a_wait_longer_than_the_threshold_becomes_a_timer(client: Client) -> None:
    attempts = Attempts(succeeds_at=3)
    options = {**FINE, "local_retry_threshold": 50}
    async with stage(client, Try, activities=[attempts.run]) as worker:
        result, told = await run_and_replay(
            worker, Try.run, options, {"initial_interval": 200, "backoff_coefficient": 1.0}
        )
    assert (result, attempts.seen) == ("after 3", [1, 2, 3])
    one_wait = ["MARKER_RECORDED", "TIMER_STARTED", "TIMER_FIRED"]
    assert told.kinds() == [
        "WORKFLOW_EXECUTION_STARTED",
        *one_wait * 2,
        "MARKER_RECORDED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert [marker.HasField("failure") for marker in markers(told)] == [True, True, False]
    timers = [event.timer_started_event_attributes for event in told.all("TIMER_STARTED")]
    assert [timer.start_to_fire_timeout.ToTimedelta() for timer in timers] == [timedelta(milliseconds=200)] * 2


async def test_attempts_end_at_the_maximum_and_the_marker_keeps_the_failure(client: Client) -> None:
    attempts = Attempts()
    async with stage(client, Try, activities=[attempts.run]) as worker:
        error, told = await fail_and_replay(worker, Try.run, FINE, {**QUICKLY, "maximum_attempts": 3})
    assert attempts.seen == [1, 2, 3]
    assert isinstance(error, ApplicationError)
    assert (error.message, error.type, list(error.details)) == ("not yet", "NotYet", [3])
    [marker] = markers(told)
    assert marker.failure.message == "not yet"


@pytest.mark.parametrize("by", ["policy", "error"])
async def test_an_error_that_is_not_retryable_ends_it(client: Client, by: str) -> None:
    attempts = Attempts(non_retryable=by == "error")
    policy = {**QUICKLY, "non_retryable_error_types": ["NotYet"] if by == "policy" else []}
    async with stage(client, Try, activities=[attempts.run]) as worker:
        error, _ = await fail_and_replay(worker, Try.run, FINE, policy)
    assert attempts.seen == [1]
    assert isinstance(error, ApplicationError) and error.type == "NotYet"


async def test_the_error_says_when_to_try_again(client: Client) -> None:
    """The policy alone would wait for an hour."""
    attempts = Attempts(succeeds_at=2, next_retry_delay=MOMENT)
    async with stage(client, Try, activities=[attempts.run]) as worker:
        result, told = await run_and_replay(worker, Try.run, FINE, {"initial_interval": 3_600_000})
    assert (result, attempts.seen) == ("after 2", [1, 2])
    assert told.count("TIMER_STARTED") == 0


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"start_to_close_timeout": 100}, TimeoutType.START_TO_CLOSE),
        ({"schedule_to_close_timeout": 100}, TimeoutType.SCHEDULE_TO_CLOSE),
    ],
    ids=["start-to-close", "schedule-to-close"],
)
async def test_one_that_takes_too_long_times_out_and_is_cancelled(
    client: Client, options: dict[str, int], kind: TimeoutType, engine: str
) -> None:
    """The original replays the bare timeout, without the activity's error around it."""
    cancelled: list[activity.ActivityCancellationDetails | None] = []

    @activity.defn(name="attempt")
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(activity.cancellation_details())
            raise

    async with stage(client, Try, activities=[hang]) as worker:
        error, told = await fail_and_replay(
            worker, Try.run, options, {"maximum_attempts": 1}, same_end=engine != "original"
        )
    assert isinstance(error, ActivityError) and error.activity_type == "attempt"
    assert caused(error, TimeoutError).type == kind
    assert [details and details.timed_out for details in cancelled] == [True]
    assert markers(told)[0].failure.HasField("timeout_failure_info")
