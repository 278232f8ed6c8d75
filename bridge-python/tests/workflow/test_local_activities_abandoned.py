"""Local activities that the code abandoned, and one whose time is over while its workflow waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from support import eventually
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType
from temporalio.workflow import ActivityCancellationType
from workflow.stories import LONG, MOMENT, caused, fail_and_replay, replay, stage, start

pytestmark = pytest.mark.timeout(60)


class Hut:
    """Local activities that say what becomes of them, one word for each attempt that starts or ends."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.may_end = asyncio.Event()

    @activity.defn
    async def wait(self) -> str:
        attempt = activity.info().attempt
        self.log.append(f"start {attempt}")
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            assert details is not None
            self.log.append("cancelled" if details.cancel_requested else f"timed out: {details.timed_out}")
            raise
        if attempt == 1:
            self.log.append("fail 1")
            raise ApplicationError("once more")
        self.log.append(f"done {attempt}")
        return "done"

    async def says(self, *log: str) -> None:
        assert self.log == list(log)


@workflow.defn
class Abandons:
    """Abandons its local activity at once, then waits to be told that it may end."""

    def __init__(self) -> None:
        self.outcome = ""
        self.over = False

    @workflow.run
    async def run(self, seconds: float) -> str:
        handle: Any = workflow.start_local_activity(
            "wait",
            start_to_close_timeout=timedelta(seconds=seconds),
            retry_policy=RetryPolicy(initial_interval=MOMENT),
            cancellation_type=ActivityCancellationType.ABANDON,
        )
        await workflow.execute_local_activity("breathe", start_to_close_timeout=LONG)
        handle.cancel()
        try:
            await handle
        except ActivityError as error:
            self.outcome = type(error.cause).__name__
        await workflow.wait_condition(lambda: self.over)
        return self.outcome

    @workflow.query
    def what(self) -> str:
        return self.outcome

    @workflow.signal
    def end(self) -> None:
        self.over = True


@activity.defn
async def breathe() -> None: ...


async def abandoned(handle: Any) -> None:
    """Returns once the code has abandoned it, which it hears of as a cancellation."""

    async def check() -> None:
        assert await handle.query(Abandons.what) == "CancelledError"

    await eventually(check)


async def test_it_is_not_cancelled_before_its_workflow_ends(client: Client) -> None:
    hut = Hut()
    async with stage(client, Abandons, activities=[hut.wait, breathe], max_cached_workflows=10) as worker:
        handle = await start(worker, Abandons.run, 60.0)
        await abandoned(handle)
        await eventually(lambda: hut.says("start 1"))
        await handle.signal(Abandons.end)
        assert await handle.result() == "CancelledError"
        await eventually(lambda: hut.says("start 1", "cancelled"))
        told = await replay(worker, handle)
    assert told.count("WORKFLOW_TASK_FAILED") == told.count("WORKFLOW_TASK_TIMED_OUT") == 0
    assert told.count("MARKER_RECORDED") == 2


async def test_it_keeps_its_attempts_and_their_time_limit(client: Client) -> None:
    hut = Hut()
    async with stage(client, Abandons, activities=[hut.wait, breathe], max_cached_workflows=10) as worker:
        handle = await start(worker, Abandons.run, 0.5)
        await abandoned(handle)

        async def tried_again() -> None:
            assert hut.log[:3] == ["start 1", "timed out: True", "start 2"]

        await eventually(tried_again)
        hut.may_end.set()

        async def ended() -> None:
            assert hut.log[-1] in ("done 2", "done 3", "done 4"), hut.log

        await eventually(ended)
        await handle.signal(Abandons.end)
        assert await handle.result() == "CancelledError"


async def test_it_is_waited_for_when_the_worker_ends(client: Client) -> None:
    hut = Hut()
    async with stage(client, Abandons, activities=[hut.wait, breathe], max_cached_workflows=10) as worker:
        handle = await start(worker, Abandons.run, 60.0)
        await abandoned(handle)
        ending = asyncio.create_task(worker.shutdown())
        await asyncio.wait({ending}, timeout=0.3)
        assert not ending.done()
        hut.may_end.set()
        await ending
    assert hut.log == ["start 1", "fail 1"]
    await handle.terminate()


@workflow.defn
class Deadline:
    """A local activity whose next attempt begins after its whole time is over."""

    @workflow.run
    async def run(self) -> str:
        result: str = await workflow.execute_local_activity(
            "second_time_lucky",
            schedule_to_close_timeout=timedelta(seconds=0.2),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.4)),
            local_retry_threshold=timedelta(seconds=0.1),
        )
        return result


@activity.defn
async def second_time_lucky() -> str:
    if activity.info().attempt == 1:
        raise ApplicationError("unlucky")
    return "lucky"


async def test_a_deadline_that_passes_while_the_workflow_waits_is_a_timeout(client: Client) -> None:
    async with stage(client, Deadline, activities=[second_time_lucky]) as worker:
        error, told = await fail_and_replay(worker, Deadline.run, same_end=False)
    assert isinstance(error, ActivityError)
    assert caused(error, TimeoutError).type == TimeoutType.SCHEDULE_TO_CLOSE
    assert told.count("MARKER_RECORDED") == 2 and told.count("TIMER_FIRED") == 1
