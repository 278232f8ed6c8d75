"""Time limits and waits of local activities that cannot be, as far as the package lets them through. No server sees them.

All values, as the native module takes them, are in `surface/test_surface_values.py`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support import new_worker
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from workflow.stories import LONG, start, told

pytestmark = pytest.mark.timeout(60)

LIMITS = ["schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout"]


@workflow.defn
class Asks:
    @workflow.run
    async def run(self, field: str, microseconds: int) -> None:
        limits: dict[str, Any] = {field: timedelta(microseconds=microseconds)}
        if field == "schedule_to_start_timeout":
            limits["start_to_close_timeout"] = LONG
        await workflow.execute_local_activity("look", **limits)


ran: list[str | None] = []


@activity.defn
async def look() -> None:
    ran.append(activity.info().workflow_id)


async def failed_task(handle: WorkflowHandle[Asks, None]) -> str:
    """The message of the first workflow task that failed."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_task_failed_event_attributes"):
            return event.workflow_task_failed_event_attributes.failure.message
    raise AssertionError("no task failed")


@pytest.mark.parametrize("number,words", [(-5_000_000, "-5s"), (-1, "-0.000001s")])
@pytest.mark.parametrize("field", LIMITS)
async def test_a_limit_that_is_negative_fails_the_task_at_once(
    client: Client, engine: str, field: str, number: int, words: str
) -> None:
    async with new_worker(client, Asks, activities=[look]) as worker:
        handle = await start(worker, Asks.run, field, number)
        said = await failed_task(handle)
        await handle.terminate()
    told = f'{field} of activity "1" of type "look" is {words}; allowed is zero or more, or nothing for no limit'
    if engine == "original":
        told = f"Could not convert {field}"
    assert said.endswith(f"Invalid schedule local activity request (seq 1): {told}")
    assert handle.id not in ran


@workflow.defn
class TriesAgain:
    @workflow.run
    async def run(self, coefficient: float) -> int:
        attempt: int = await workflow.execute_local_activity(
            "third-time",
            start_to_close_timeout=LONG,
            # A wait of any length would be a timer of the workflow.
            local_retry_threshold=timedelta(microseconds=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(0), backoff_coefficient=coefficient, maximum_attempts=3),
            result_type=int,
        )
        return attempt


@activity.defn(name="third-time")
async def third_time() -> int:
    if activity.info().attempt < 3:
        raise ApplicationError("again")
    return activity.info().attempt


@pytest.mark.parametrize("coefficient", [2.0, float("inf"), float("nan")])
async def test_an_interval_of_nothing_is_no_wait(client: Client, coefficient: float) -> None:
    async with new_worker(client, TriesAgain, activities=[third_time]) as worker:
        handle = await start(worker, TriesAgain.run, coefficient)
        assert await handle.result() == 3
        assert (await told(handle)).count("TIMER_STARTED") == 0
