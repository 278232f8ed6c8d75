"""Time that skips: on the test server for all workflows at once, on the dev server for each by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from conftest import binary
from histories import replay
from support import SOON, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from temporalio.testing import WorkflowEnvironment

HOUR = timedelta(hours=1)


def seconds_from_now(moment: datetime | float) -> float:
    stamp = moment.timestamp() if isinstance(moment, datetime) else moment
    return stamp - datetime.now(timezone.utc).timestamp()


@workflow.defn
class Sleeps:
    """So many naps; as continued runs, if asked."""

    @workflow.run
    async def run(self, seconds: float, naps: int = 1, continued: bool = False) -> list[float]:
        times = [workflow.now().timestamp()]
        for _ in range(1 if continued else naps):
            await workflow.sleep(seconds)
            times.append(workflow.now().timestamp())
        if continued and naps > 1:
            workflow.continue_as_new(args=[seconds, naps - 1, True])
        return times

    @workflow.query
    def clock(self) -> float:
        return workflow.now().timestamp()

    @workflow.signal
    async def nudge(self) -> None: ...


@workflow.defn
class FailsFirst:
    @workflow.run
    async def run(self) -> int:
        await workflow.sleep(HOUR)
        if workflow.info().attempt < 2:
            raise ApplicationError("not yet")
        return workflow.info().attempt


@workflow.defn
class HasChild:
    @workflow.run
    async def run(self, child: str) -> list[float]:
        await workflow.sleep(HOUR)
        times: list[float] = await workflow.execute_child_workflow(Sleeps.run, args=[3600.0], id=child)
        await workflow.sleep(HOUR)
        return [*times, workflow.now().timestamp()]


class Sluggish:
    """Lets twice its heartbeat timeout pass on the server's clock."""

    def __init__(self, env: WorkflowEnvironment) -> None:
        self.env = env

    @activity.defn
    async def dawdle(self) -> None:
        limit = activity.info().heartbeat_timeout
        assert limit
        await self.env.sleep(limit * 2)


@workflow.defn
class Watched:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity_method(
            Sluggish.dawdle,
            schedule_to_close_timeout=timedelta(seconds=1000),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


async def test_a_day_passes_while_somebody_waits_for_the_result(skipping: WorkflowEnvironment) -> None:
    client = skipping.client
    async with new_worker(client, Sleeps) as worker:
        assert abs(seconds_from_now(await skipping.get_current_time())) < 30
        await client.execute_workflow(Sleeps.run, 100_000, id=unique(), task_queue=worker.task_queue)
        assert abs(seconds_from_now(await skipping.get_current_time()) - 100_000) < 30


async def test_time_passes_by_hand(skipping: WorkflowEnvironment) -> None:
    client = skipping.client
    async with new_worker(client, Sleeps) as worker:
        handle = await client.start_workflow(Sleeps.run, 100_000, id=unique(), task_queue=worker.task_queue)

        async def clock() -> float:
            await handle.signal(Sleeps.nudge)
            return seconds_from_now(await handle.query(Sleeps.clock))

        assert abs(await clock()) < 30
        await skipping.sleep(1000)
        assert abs(await clock() - 1000) < 30


async def test_without_skipping_time_takes_its_time(skipping: WorkflowEnvironment) -> None:
    client = skipping.client

    async def nap(queue: str) -> float:
        began = time.monotonic()
        await client.execute_workflow(Sleeps.run, 3, id=unique(), task_queue=queue)
        return time.monotonic() - began

    async with new_worker(client, Sleeps) as worker:
        assert await nap(worker.task_queue) < 2.5
        with skipping.auto_time_skipping_disabled():
            assert await nap(worker.task_queue) > 2.5


async def test_an_activity_that_skips_its_heartbeats_times_out(skipping: WorkflowEnvironment) -> None:
    client = skipping.client
    async with new_worker(client, Watched, activities=[Sluggish(skipping).dawdle]) as worker:
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Watched.run, id=unique(), task_queue=worker.task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    why = failed.value.cause.cause
    assert isinstance(why, TimeoutError) and why.type == TimeoutType.HEARTBEAT


@pytest.fixture(scope="module")
async def own_clocks() -> AsyncIterator[WorkflowEnvironment]:
    """A dev server on which each workflow has a clock of its own."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_existing_path=binary("temporal", "OUTLAST_TEMPORAL_BIN"),
        dev_server_log_level="error",
        dev_server_extra_args=[
            *("--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"),
            *("--dynamic-config-value", "frontend.TimeSkippingEnabled=true"),
        ],
    ) as env:
        yield env


async def skipped(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether the history tells of skipped time."""
    history = await handle.fetch_history()
    return any(e.HasField("workflow_execution_time_skipping_transitioned_event_attributes") for e in history.events)


async def test_a_workflow_skips_by_itself_and_its_history_replays(own_clocks: WorkflowEnvironment) -> None:
    client = own_clocks.client
    async with new_worker(client, Sleeps) as worker:
        began = time.monotonic()
        handle = await client.start_workflow(Sleeps.run, args=[3600.0, 3], id=unique(), task_queue=worker.task_queue)
        times = await handle.result()
        assert time.monotonic() - began < SOON
        assert [round((b - a) / 60) for a, b in zip(times, times[1:])] == [60, 60, 60]
        assert abs(seconds_from_now(await handle.query(Sleeps.clock)) - 3 * 3600) < 30
    assert await skipped(handle)
    await replay(handle, Sleeps)


async def test_a_workflow_without_its_cache_skips_as_well(own_clocks: WorkflowEnvironment) -> None:
    client = own_clocks.client
    async with new_worker(client, Sleeps, max_cached_workflows=0) as worker:
        times = await client.execute_workflow(
            Sleeps.run, args=[3600.0, 3], id=unique(), task_queue=worker.task_queue
        )
    assert [round((b - a) / 60) for a, b in zip(times, times[1:])] == [60, 60, 60]


async def test_a_clock_is_wound_forward_and_stops_there(own_clocks: WorkflowEnvironment) -> None:
    client = own_clocks.client
    async with new_worker(client, Sleeps) as worker:
        with own_clocks.with_time_skipping_disabled():
            handle = await client.start_workflow(Sleeps.run, 100_000, id=unique(), task_queue=worker.task_queue)

        async def clock() -> float:
            await handle.signal(Sleeps.nudge)
            return seconds_from_now(await handle.query(Sleeps.clock))

        assert abs(await clock()) < 2
        assert await own_clocks.fast_forward(handle, timedelta(seconds=1000))
        assert abs(await clock() - 1000) < 30
        assert not await own_clocks.fast_forward(handle)
        await handle.result()
    assert await skipped(handle)
    await replay(handle, Sleeps)


async def test_without_its_clock_wound_a_workflow_sleeps(own_clocks: WorkflowEnvironment) -> None:
    client = own_clocks.client
    async with new_worker(client, Sleeps) as worker:
        with own_clocks.with_time_skipping_disabled():
            handle = await client.start_workflow(Sleeps.run, 3, id=unique(), task_queue=worker.task_queue)
        began = time.monotonic()
        await handle.result()
        assert time.monotonic() - began > 2.5
    assert not await skipped(handle)


async def test_children_retries_and_continued_runs_go_with_the_clock(own_clocks: WorkflowEnvironment) -> None:
    client = own_clocks.client
    again = RetryPolicy(initial_interval=HOUR, backoff_coefficient=1.0, maximum_attempts=2)
    async with new_worker(client, Sleeps, HasChild, FailsFirst) as worker:
        queue, child = worker.task_queue, unique("child")
        began = time.monotonic()
        parent, retried, continued = await asyncio.gather(
            client.start_workflow(HasChild.run, child, id=unique(), task_queue=queue),
            client.start_workflow(FailsFirst.run, id=unique(), task_queue=queue, retry_policy=again),
            client.start_workflow(Sleeps.run, args=[3600.0, 3, True], id=unique(), task_queue=queue),
        )
        slept, woke, ended = await parent.result()
        assert [round((b - a) / 60) for a, b in ((slept, woke), (woke, ended))] in ([60, 60], [60, 0])
        assert await retried.result() == 2
        assert len(await continued.result()) == 2
        assert time.monotonic() - began < SOON
    for handle in (parent, client.get_workflow_handle(child)):
        assert await skipped(handle)
    await replay(parent, HasChild)
