"""Failures of every class that a local activity may raise: which are tried again, and what the workflow catches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    FailureError,
    ServerError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)
from workflow.stories import LONG, caused, run_and_replay, stage

pytestmark = pytest.mark.timeout(60)


def failures() -> dict[str, FailureError]:
    return {
        "application": ApplicationError("a"),
        "cancelled": CancelledError("own"),
        "terminated": TerminatedError("t"),
        "server": ServerError("s", non_retryable=True),
        "heartbeat": TimeoutError("h", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[]),
        "start_to_close": TimeoutError("c", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[]),
    }


caught: list[BaseException] = []


@workflow.defn
class Catches:
    @workflow.run
    async def run(self, name: str) -> bool:
        try:
            await workflow.execute_local_activity(
                "fails",
                name,
                start_to_close_timeout=LONG,
                retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=3),
            )
        except BaseException as error:
            caught.append(error)
            return is_cancelled_exception(error)
        return False


class Fails:
    def __init__(self) -> None:
        self.attempts: list[int] = []

    @activity.defn(name="fails")
    async def run(self, name: str) -> None:
        self.attempts.append(activity.info().attempt)
        raise failures()[name]


@pytest.mark.parametrize("name", list(failures()))
async def test_what_an_activity_raises_itself(client: Client, name: str) -> None:
    caught.clear()
    fails = Fails()
    async with stage(client, Catches, activities=[fails.run]) as worker:
        cancelled, told = await run_and_replay(worker, Catches.run, name)
    # Of time limits only the one of an attempt is worth another.
    assert fails.attempts == ([1] if name == "heartbeat" else [1, 2, 3])
    assert cancelled == (name == "cancelled")
    assert told.count("MARKER_RECORDED") == 1
    live = caught[0]
    if name in ("heartbeat", "start_to_close"):
        assert isinstance(live, ActivityError) and str(live) == "Local Activity timed out"
        assert caused(live, TimeoutError).message == str(failures()[name])
    elif name != "cancelled":
        assert type(live) is type(failures()[name])


async def test_on_replay_the_workflow_catches_what_it_caught_live(client: Client, engine: str) -> None:
    # The original replays a bare time-out, and wraps a cancellation that it did not wrap live.
    others = {"cancelled", "heartbeat", "start_to_close"} if engine == "original" else set[str]()
    for name in sorted(failures().keys() - others):
        caught.clear()
        async with stage(client, Catches, activities=[Fails().run]) as worker:
            await run_and_replay(worker, Catches.run, name)
        assert len({(type(error), type(error.__cause__), str(error)) for error in caught}) == 1
        assert len(caught) == 2
