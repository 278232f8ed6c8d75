"""Activities that fail, are tried again, or take too long: what the workflow is told, down the chain of causes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import RetryState as ProtoRetryState
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    RetryState,
    TimeoutError,
    TimeoutType,
)
from workflow.stories import LONG, MOMENT, caused, fail_and_replay, run_and_replay, stage

pytestmark = pytest.mark.timeout(60)

ONCE = RetryPolicy(maximum_attempts=1)


@workflow.defn
class Try:
    """Calls the activity `attempt` with the options given as milliseconds."""

    @workflow.run
    async def run(self, timeouts: dict[str, int], policy: dict[str, Any] | None = None) -> Any:
        options: Any = {name: timedelta(milliseconds=value) for name, value in timeouts.items()}
        policy = dict(policy or {})
        if "initial_interval" in policy:
            policy["initial_interval"] = timedelta(milliseconds=policy["initial_interval"])
        return await workflow.execute_activity("attempt", retry_policy=RetryPolicy(**policy), **options)


FINE = {"start_to_close_timeout": 60_000}
QUICKLY = {"initial_interval": 5, "backoff_coefficient": 1.0}


def attempt(do: Callable[[], Any]) -> Callable[..., Any]:
    """The activity `attempt` that does this."""

    @activity.defn(name="attempt")
    async def run() -> Any:
        return do()

    return run


async def test_a_failure_comes_back_with_type_message_details_and_cause(client: Client) -> None:
    def fail() -> None:
        try:
            raise KeyError("deep")
        except KeyError as error:
            kind = ApplicationErrorCategory.BENIGN
            raise ApplicationError("broken", {"code": 7}, "x", type="Broken", category=kind) from error

    async with stage(client, Try, activities=[attempt(fail)]) as worker:
        error, told = await fail_and_replay(worker, Try.run, FINE, {"maximum_attempts": 1})
    assert isinstance(error, ActivityError)
    assert (error.activity_type, error.activity_id, error.message) == ("attempt", "1", "Activity task failed")
    assert error.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED
    assert error.identity == worker.client.identity
    assert told.events[error.scheduled_event_id - 1] == told.one("ACTIVITY_TASK_SCHEDULED")
    assert told.events[error.started_event_id - 1] == told.one("ACTIVITY_TASK_STARTED")
    broken = caused(error, ApplicationError)
    assert (broken.message, broken.type, list(broken.details)) == ("broken", "Broken", [{"code": 7}, "x"])
    assert broken.category == ApplicationErrorCategory.BENIGN and not broken.non_retryable
    deep = caused(broken, ApplicationError)
    assert (deep.message, deep.type) == ("'deep'", "KeyError")


async def test_an_activity_sees_its_attempts_until_it_succeeds(client: Client) -> None:
    attempts: list[int] = []

    def third_time() -> str:
        attempts.append(activity.info().attempt)
        if len(attempts) < 3:
            raise RuntimeError("not yet")
        return "done"

    async with stage(client, Try, activities=[attempt(third_time)]) as worker:
        result, told = await run_and_replay(worker, Try.run, FINE, QUICKLY)
    assert (result, attempts) == ("done", [1, 2, 3])
    started = told.attributes("ACTIVITY_TASK_STARTED")
    assert (started.attempt, started.last_failure.message) == (3, "not yet")


async def test_attempts_end_at_the_maximum(client: Client) -> None:
    attempts: list[int] = []

    def never() -> None:
        attempts.append(activity.info().attempt)
        raise ValueError(f"attempt {len(attempts)}")

    async with stage(client, Try, activities=[attempt(never)]) as worker:
        error, told = await fail_and_replay(worker, Try.run, FINE, {**QUICKLY, "maximum_attempts": 4})
    assert attempts == [1, 2, 3, 4]
    assert caused(error, ApplicationError).message == "attempt 4"
    assert told.attributes("ACTIVITY_TASK_FAILED").retry_state == ProtoRetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED


@pytest.mark.parametrize("by", ["policy", "error"])
async def test_an_error_that_is_not_retryable_ends_the_first_attempt(client: Client, by: str) -> None:
    attempts: list[int] = []

    def never() -> None:
        attempts.append(activity.info().attempt)
        raise ApplicationError("enough", type="Hopeless", non_retryable=by == "error")

    types = ["Hopeless"] if by == "policy" else []
    async with stage(client, Try, activities=[attempt(never)]) as worker:
        error, _ = await fail_and_replay(worker, Try.run, FINE, {**QUICKLY, "non_retryable_error_types": types})
    assert attempts == [1]
    assert isinstance(error, ActivityError) and error.retry_state == RetryState.NON_RETRYABLE_FAILURE
    enough = caused(error, ApplicationError)
    assert (enough.type, enough.non_retryable) == ("Hopeless", by == "error")


async def test_the_error_says_when_to_try_again(client: Client) -> None:
    """The policy alone would wait for an hour."""

    def soon() -> str:
        if activity.info().attempt == 1:
            raise ApplicationError("soon", next_retry_delay=MOMENT)
        return "after all"

    async with stage(client, Try, activities=[attempt(soon)]) as worker:
        result, told = await run_and_replay(worker, Try.run, FINE, {"initial_interval": 3_600_000})
    assert result == "after all"
    last = told.attributes("ACTIVITY_TASK_STARTED").last_failure.application_failure_info
    assert last.next_retry_delay.ToTimedelta() == MOMENT


async def test_heartbeat_details_reach_the_next_attempt(client: Client) -> None:
    seen: list[list[Any]] = []

    def beat() -> None:
        details = list(activity.info().heartbeat_details)
        seen.append(details)
        if len(seen) == 3:
            return
        activity.heartbeat(len(seen), {"page": len(seen) * 10})
        raise RuntimeError("again")

    async with stage(client, Try, activities=[attempt(beat)]) as worker:
        await run_and_replay(worker, Try.run, {**FINE, "heartbeat_timeout": 60_000}, QUICKLY)
    assert seen == [[], [1, {"page": 10}], [2, {"page": 20}]]


async def test_an_unknown_activity_is_reported_by_its_name_and_tried_again(client: Client) -> None:
    async with stage(client, Try, activities=[known]) as worker:
        error, _ = await fail_and_replay(worker, Try.run, FINE, {**QUICKLY, "maximum_attempts": 2})
    cause = caused(error, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("NotFoundError", False)
    assert "attempt" in cause.message and "known" in cause.message


@activity.defn
async def known() -> None: ...


@activity.defn(name="attempt")
async def hang() -> None:
    """Takes longer than any timeout here, and stops as soon as it is told to."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.02)


@activity.defn(name="attempt")
async def fall_silent() -> None:
    activity.heartbeat("last", "words")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("timeouts", "kind"),
    [
        ({"start_to_close_timeout": 300, "heartbeat_timeout": 60_000}, TimeoutType.START_TO_CLOSE),
        ({"schedule_to_close_timeout": 300, "heartbeat_timeout": 60_000}, TimeoutType.SCHEDULE_TO_CLOSE),
    ],
    ids=["start-to-close", "schedule-to-close"],
)
async def test_an_activity_that_takes_too_long_times_out(
    client: Client, timeouts: dict[str, int], kind: TimeoutType
) -> None:
    async with stage(client, Try, activities=[hang]) as worker:
        error, told = await fail_and_replay(worker, Try.run, timeouts, {"maximum_attempts": 1})
    assert isinstance(error, ActivityError) and error.activity_type == "attempt"
    assert caused(error, TimeoutError).type == kind
    assert told.kinds()[-2:] == ["ACTIVITY_TASK_TIMED_OUT", "WORKFLOW_EXECUTION_FAILED"]


async def test_an_activity_nobody_takes_times_out_in_its_queue(client: Client) -> None:
    timeouts = {**FINE, "schedule_to_start_timeout": 200}
    async with stage(client, Try) as worker:
        error, told = await fail_and_replay(worker, Try.run, timeouts)
    assert isinstance(error, ActivityError) and error.started_event_id == 0
    assert caused(error, TimeoutError).type == TimeoutType.SCHEDULE_TO_START
    assert told.count("ACTIVITY_TASK_STARTED") == 0


async def test_a_silent_activity_times_out_with_its_last_words(client: Client) -> None:
    timeouts = {**FINE, "heartbeat_timeout": 500}
    async with stage(client, Try, activities=[fall_silent]) as worker:
        error, _ = await fail_and_replay(worker, Try.run, timeouts, {"maximum_attempts": 1})
    cause = caused(error, TimeoutError)
    assert (cause.type, list(cause.last_heartbeat_details)) == (TimeoutType.HEARTBEAT, ["last", "words"])


async def test_retries_that_do_not_fit_in_the_whole_time_end_with_the_last_failure(client: Client) -> None:
    def fail() -> None:
        raise RuntimeError("no luck")

    timeouts = {"schedule_to_close_timeout": 1_000}
    async with stage(client, Try, activities=[attempt(fail)]) as worker:
        error, _ = await fail_and_replay(worker, Try.run, timeouts, {"initial_interval": 60_000})
    assert isinstance(error, ActivityError) and error.retry_state == RetryState.TIMEOUT
    assert caused(error, ApplicationError).message == "no luck"


@workflow.defn
class CatchAndGoOn:
    """A failure is data: what was read of it decides what comes next."""

    @workflow.run
    async def run(self) -> list[Any]:
        try:
            await workflow.execute_activity("attempt", start_to_close_timeout=LONG, retry_policy=ONCE)
        except ActivityError as error:
            assert isinstance(error.cause, ApplicationError)
            seen = [error.retry_state, error.cause.type, *error.cause.details]
        return [*seen, await workflow.execute_activity("known", start_to_close_timeout=LONG)]


async def test_a_workflow_goes_on_after_a_failure_it_caught(client: Client) -> None:
    def fail() -> None:
        raise ApplicationError("caught", 1, 2, type="Mild")

    async with stage(client, CatchAndGoOn, activities=[attempt(fail), known]) as worker:
        result, told = await run_and_replay(worker, CatchAndGoOn.run)
    assert result == [RetryState.MAXIMUM_ATTEMPTS_REACHED, "Mild", 1, 2, None]
    assert told.kinds()[-4:-1] == ["ACTIVITY_TASK_SCHEDULED", "ACTIVITY_TASK_STARTED", "ACTIVITY_TASK_COMPLETED"]


@workflow.defn
class NoTimeout:
    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.execute_activity("attempt")
        except ValueError as error:
            raise ApplicationError(f"refused: {error}") from None


async def test_an_activity_without_a_timeout_is_refused_before_it_is_asked_for(client: Client) -> None:
    async with stage(client, NoTimeout, activities=[hang]) as worker:
        error, told = await fail_and_replay(worker, NoTimeout.run)
    assert isinstance(error, ApplicationError) and error.message.startswith("refused: ")
    assert told.kinds() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_FAILED"]
