"""Each way of asyncio to limit a wait makes the same timer; and a timer that a signal cancels as it fires."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.exceptions import ActivityError, CancelledError
    from temporalio.testing import WorkflowEnvironment

WAYS = ["wait_for", "call_later", "call_at"] + (["timeout", "timeout_at"] if sys.version_info >= (3, 11) else [])


@activity.defn
async def until_cancelled() -> None:
    while True:
        await asyncio.sleep(0.1)
        activity.heartbeat()


@workflow.defn
class Limited:
    @workflow.run
    async def run(self, way: str) -> None:
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(
            workflow.execute_activity(until_cancelled, schedule_to_close_timeout=timedelta(seconds=20))
        )
        if way == "call_later":
            loop.call_later(0.2, waiting.cancel)
        elif way == "call_at":
            loop.call_at(loop.time() + 0.2, waiting.cancel)
        elif way == "wait_for":
            await asyncio.wait_for(waiting, 0.2)
        elif sys.version_info >= (3, 11):
            limit = asyncio.timeout(0.2) if way == "timeout" else asyncio.timeout_at(loop.time() + 0.2)
            async with limit:
                await waiting
        await waiting


async def fails_by_cancellation(client: Client, way: str) -> None:
    async with new_worker(client, Limited, activities=[until_cancelled]) as worker:
        handle = await client.start_workflow(Limited.run, way, id=unique(), task_queue=worker.task_queue)
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert isinstance(failed.value.cause, ActivityError)
        assert isinstance(failed.value.cause.cause, CancelledError)
    timers = await found(handle, "timer_started")
    assert [timer.start_to_fire_timeout.ToMilliseconds() for timer in timers] == [200]
    await replay(handle, Limited)


@pytest.mark.parametrize("way", WAYS)
async def test_a_limit_is_a_timer_of_as_many_milliseconds(client: Client, way: str) -> None:
    await fails_by_cancellation(client, way)


async def test_a_limit_is_the_same_on_a_server_that_skips_time(skipping: WorkflowEnvironment) -> None:
    for way in WAYS:
        await fails_by_cancellation(skipping.client, way)


@workflow.defn
class Alarm:
    @workflow.run
    async def run(self, seconds: float) -> str:
        self.ringing = asyncio.create_task(asyncio.sleep(seconds))
        try:
            await self.ringing
        except asyncio.CancelledError:
            return "silenced"
        return "rang"

    @workflow.signal
    def silence(self) -> None:
        self.ringing.cancel()


async def test_a_signal_silences_a_timer_that_fires_in_the_same_task(skipping: WorkflowEnvironment) -> None:
    """Signals are heard first, wherever they are among the events of a task."""
    client, queue = skipping.client, unique("queue")
    async with new_worker(client, Alarm, task_queue=queue, max_cached_workflows=0):
        handle = await client.start_workflow(Alarm.run, 3600, id=unique(), task_queue=queue)
        await skipping.sleep(1800)
    # Without somebody who waits for the result the server does not skip while a task is pending.
    result = asyncio.create_task(handle.result())
    await handle.signal(Alarm.silence)
    await skipping.sleep(3600)
    async with new_worker(client, Alarm, task_queue=queue, max_cached_workflows=0):
        assert await asyncio.wait_for(result, 30) == "silenced"
    seen = await kinds(handle)
    assert seen.count("workflow_task_completed") == 2 and {"workflow_execution_signaled", "timer_fired"} <= set(seen)
    assert "timer_canceled" not in seen and "workflow_task_failed" not in seen
    await replay(handle, Alarm)
