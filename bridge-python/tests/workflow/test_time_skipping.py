"""A server that skips time for each workflow of its own: what replay makes of its events, and the calls for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import kinds, new_worker, replay
    from support import SOON, unique
    from temporalio.common import RetryPolicy
    from temporalio.exceptions import ApplicationError
    from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment

SKIPPED = "workflow_execution_time_skipping_transitioned"
FLAGS = ["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"]


@pytest.fixture(scope="module")
async def skips(temporal_cli: str) -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping_v2(
        ts_config=TimeSkippingConfig(), dev_server_existing_path=temporal_cli, dev_server_extra_args=FLAGS
    ) as started:
        yield started


@activity.defn
async def tick() -> None:
    pass


@workflow.defn
class Sleeper:
    """Sleeps so many hours, an activity after each; a signal wakes it for good."""

    def __init__(self) -> None:
        self.woken = False

    @workflow.run
    async def run(self, hours: int, with_child: bool = False) -> list[float]:
        times = [workflow.now().timestamp()]
        for _ in range(hours):
            await workflow.sleep(3600)
            await workflow.execute_activity(tick, start_to_close_timeout=timedelta(seconds=20))
            times.append(workflow.now().timestamp())
        if with_child:
            times += await workflow.execute_child_workflow(Sleeper.run, args=[1], id=workflow.info().workflow_id + "c")
        return times

    @workflow.query
    def now(self) -> float:
        return workflow.now().timestamp()

    @workflow.signal
    def wake(self) -> None:
        self.woken = True


@pytest.mark.parametrize("cache", [0, 100])
async def test_hours_pass_at_once_and_replay_sees_the_same_clock(skips: WorkflowEnvironment, cache: int) -> None:
    async with new_worker(skips.client, Sleeper, activities=[tick], max_cached_workflows=cache) as worker:
        begun = time.monotonic()
        handle = await skips.client.start_workflow(
            Sleeper.run, args=[3, True], id=unique(), task_queue=worker.task_queue
        )
        times = await handle.result()
        assert time.monotonic() - begun < SOON
        after = [round(later - earlier) for earlier, later in zip(times, times[1:])]
        assert [hours // 3600 for hours in after] == [1, 1, 1, 0, 1] and max(after) < 3610
        assert SKIPPED in await kinds(handle)
        child = skips.client.get_workflow_handle(handle.id + "c")
        assert SKIPPED in await kinds(child)
    await replay(handle, Sleeper)
    await replay(child, Sleeper)


async def test_an_hour_is_skipped_when_asked_for(skips: WorkflowEnvironment) -> None:
    async with new_worker(skips.client, Sleeper, activities=[tick]) as worker:
        with skips.with_time_skipping_disabled():
            handle = await skips.client.start_workflow(
                Sleeper.run, args=[2], id=unique(), task_queue=worker.task_queue
            )
        await handle.signal(Sleeper.wake)
        start = await handle.query(Sleeper.now)
        assert await skips.fast_forward(handle, timedelta(minutes=90))
        await handle.signal(Sleeper.wake)
        assert 5400 <= await handle.query(Sleeper.now) - start < 5410
        assert not await skips.fast_forward(handle, None)
        times = await handle.result()
        assert 7200 <= times[-1] - start < 7220
    await replay(handle, Sleeper)


@workflow.defn
class SecondTime:
    @workflow.run
    async def run(self) -> int:
        await workflow.sleep(3600)
        if workflow.info().attempt == 1:
            raise ApplicationError("once more")
        return workflow.info().attempt


async def test_the_wait_for_a_retry_is_skipped(skips: WorkflowEnvironment) -> None:
    async with new_worker(skips.client, SecondTime) as worker:
        handle = await skips.client.start_workflow(
            SecondTime.run,
            id=unique(),
            task_queue=worker.task_queue,
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1), maximum_attempts=2),
        )
        assert await handle.result() == 2
        assert await skips.get_time_skipping_info(handle) is not None
        await replay(skips.client.get_workflow_handle(handle.id), SecondTime)
