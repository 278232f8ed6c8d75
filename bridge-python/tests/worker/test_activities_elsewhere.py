"""Activities served by a worker of their own queue: its limits, its shutdown, its pools, and what an operator does to them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from support import SOON, eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetActivityRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError, TimeoutType
from temporalio.worker import SharedStateManager, Worker

from worker.programs import greet


@dataclass
class Order:
    """How to call the activity `work`, and how many times at once."""

    queue: str
    times: int = 1
    close: float | None = None
    run: float | None = None
    start: float | None = None
    beat: float | None = None
    cancel: float | None = None
    attempts: int = 1
    fatal: list[str] = field(default_factory=list)


@workflow.defn
class Errand:
    @workflow.run
    async def run(self, order: Order) -> Any:
        def seconds(value: float | None) -> timedelta | None:
            return None if value is None else timedelta(seconds=value)

        running = [
            workflow.start_activity(
                "work",
                args=[] if order.times == 1 else [number],
                task_queue=order.queue,
                schedule_to_close_timeout=seconds(order.close),
                start_to_close_timeout=seconds(order.run or (None if order.close else 180)),
                schedule_to_start_timeout=seconds(order.start),
                heartbeat_timeout=seconds(order.beat),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=1),
                    backoff_coefficient=1.01,
                    maximum_interval=timedelta(milliseconds=2),
                    maximum_attempts=order.attempts,
                    non_retryable_error_types=order.fatal,
                ),
            )
            for number in range(order.times)
        ]
        if order.cancel is not None:
            await asyncio.sleep(order.cancel)
            for each in running:
                each.cancel()
        return (await asyncio.gather(*running))[-1]


@pytest.fixture
async def flows(client: Client) -> AsyncIterator[Worker]:
    async with new_worker(client, Errand) as worker:
        yield worker


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedStateManager]:
    with multiprocessing.Manager() as manager:
        yield SharedStateManager.create_from_multiprocessing(manager)


async def sent(flows: Worker, queue: str, **order: Any) -> WorkflowHandle[Any, Any]:
    return await flows.client.start_workflow(
        Errand.run, Order(queue, **order), id=unique("errand"), task_queue=flows.task_queue
    )


@asynccontextmanager
async def errand(
    flows: Worker, work: Callable[..., Any], options: dict[str, Any] | None = None, **order: Any
) -> AsyncIterator[WorkflowHandle[Any, Any]]:
    async with new_worker(flows.client, activities=[work], **(options or {})) as hands:
        yield await sent(flows, hands.task_queue, **order)


async def cause(handle: WorkflowHandle[Any, Any]) -> BaseException | None:
    """Why the activity failed."""
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ActivityError)
    return failed.value.cause.cause


async def test_forty_two_slots_fill_and_the_forty_third_waits_in_vain(flows: Worker) -> None:
    free, seen = asyncio.Event(), []

    @activity.defn(name="work")
    async def held(number: int) -> str:
        seen.append(number)
        await free.wait()
        return ""

    options = {"max_concurrent_activities": 42}
    async with errand(flows, held, options, times=43, close=60, start=8) as handle:
        why = await cause(handle)
        free.set()
    assert isinstance(why, TimeoutError) and why.type == TimeoutType.SCHEDULE_TO_START
    assert len(seen) == 42


async def test_what_was_not_asked_for_is_none_in_the_info_and_times_are_of_now(flows: Worker) -> None:
    seen: list[activity.Info] = []

    @activity.defn(name="work")
    async def look() -> None:
        seen.append(activity.info())

    async with errand(flows, look, run=4, attempts=1) as handle:
        await handle.result()
    [info] = seen
    assert (info.heartbeat_timeout, info.schedule_to_close_timeout) == (None, None)
    assert info.start_to_close_timeout == timedelta(seconds=4)
    assert info.heartbeat_details == [] and info.attempt == 1 and not info.is_local and info.task_token
    now = datetime.now(timezone.utc)
    for moment in (info.current_attempt_scheduled_time, info.scheduled_time, info.started_time):
        assert abs(moment - now) < timedelta(seconds=5)
    assert info.retry_policy is not None
    assert info.retry_policy.initial_interval == timedelta(milliseconds=1)
    assert info.retry_policy.backoff_coefficient == 1.01
    assert info.retry_policy.maximum_interval == timedelta(milliseconds=2)
    assert info.retry_policy.non_retryable_error_types in ([], None)


@pytest.mark.parametrize("pause, beat", [(0.3, 4), (1, 5)])
async def test_a_cancellation_comes_with_a_heartbeat_before_the_timeout(flows: Worker, pause: float, beat: int) -> None:
    @activity.defn(name="work")
    async def beats() -> None:
        while True:
            await asyncio.sleep(pause)
            activity.heartbeat()

    # It goes out with a heartbeat: without one in time this would be a timeout.
    async with errand(flows, beats, cancel=0.1, beat=beat) as handle:
        assert isinstance(await cause(handle), CancelledError)


async def test_details_sent_from_a_loop_of_another_thread_reach_the_next_attempt(flows: Worker) -> None:
    @activity.defn(name="work")
    async def beats() -> Any:
        if activity.info().attempt > 1:
            return list(activity.info().heartbeat_details)
        beat = activity._Context.current().heartbeat
        assert beat is not None

        async def once() -> None:
            beat("from afar")

        thread = threading.Thread(target=lambda: asyncio.run(once()))
        thread.start()
        thread.join()
        raise RuntimeError("again")

    async with errand(flows, beats, attempts=2) as handle:
        assert await handle.result() == ["from afar"]


async def test_each_of_four_attempts_finds_the_last_details(flows: Worker) -> None:
    @activity.defn(name="work")
    async def counts() -> int:
        count = int(next(iter(activity.info().heartbeat_details), 0)) + 9
        activity.heartbeat(count)
        if count < 30:
            raise RuntimeError("again")
        return count

    async with errand(flows, counts, attempts=4) as handle:
        assert await handle.result() == 36


async def test_details_that_cannot_be_written_fail_the_activity_soon(flows: Worker) -> None:
    @activity.defn(name="work")
    async def beats() -> None:
        activity.heartbeat(object())
        await asyncio.sleep(10)

    async with errand(flows, beats) as handle:
        why = await cause(handle)
    assert isinstance(why, ApplicationError) and str(why).endswith("is not JSON serializable")


async def reset(client: Client) -> None:
    info = activity.info()
    run = WorkflowExecution(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or "")
    await client.workflow_service.reset_activity(
        ResetActivityRequest(namespace=client.namespace, execution=run, id=info.activity_id)
    )


async def test_a_thread_resets_its_own_activity_from_a_loop_of_its_own_and_learns_of_it(flows: Worker) -> None:
    @activity.defn(name="work")
    def resets() -> object:
        asyncio.run(reset(flows.client))
        try:
            while True:
                time.sleep(0.3)
                activity.heartbeat()
        except CancelledError:
            details = activity.cancellation_details()
            return details and details.reset

    with ThreadPoolExecutor(1) as pool:
        options = {"activity_executor": pool, "max_concurrent_activities": 1}
        async with errand(flows, resets, options, attempts=1) as handle:
            assert await handle.result() is True


async def test_an_activity_that_lets_its_reset_pass_fails_with_the_reason(flows: Worker) -> None:
    @activity.defn(name="work")
    async def resets() -> None:
        await reset(flows.client)
        while True:
            await asyncio.sleep(0.3)
            activity.heartbeat()

    async with errand(flows, resets, attempts=1) as handle:
        why = await cause(handle)
    assert isinstance(why, ApplicationError)
    assert why.message == "Unhandled activity cancel error produced by activity reset"


@activity.defn(name="work")
def waits_for_shutdown() -> str:
    activity.wait_for_worker_shutdown_sync(20)
    return "went in peace"


@activity.defn(name="work")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@activity.defn(name="work")
def beats_until_cancelled() -> str:
    while not activity.is_cancelled():
        time.sleep(0.3)
        activity.heartbeat()
    return "cancelled"


async def test_a_process_learns_of_the_graceful_shutdown(flows: Worker, shared: SharedStateManager) -> None:
    with ProcessPoolExecutor(2) as pool:
        hands = Worker(
            flows.client,
            task_queue=unique("hands"),
            activities=[waits_for_shutdown],
            activity_executor=pool,
            max_concurrent_activities=2,
            graceful_shutdown_timeout=timedelta(seconds=60),
            shared_state_manager=shared,
        )
        running = asyncio.create_task(hands.run())
        handle = await sent(flows, hands.task_queue, beat=30)

        async def has_begun() -> None:
            assert hands._activity_worker is not None and hands._activity_worker._running_activities

        await eventually(has_begun)
        await hands.shutdown()
        await running
    assert await handle.result() == "went in peace"


async def test_a_process_that_is_killed_fails_the_activity_and_ends_its_worker(
    flows: Worker, shared: SharedStateManager
) -> None:
    with ProcessPoolExecutor(2) as pool:
        hands = Worker(
            flows.client,
            task_queue=unique("hands"),
            activities=[dies],
            activity_executor=pool,
            max_concurrent_activities=2,
            graceful_shutdown_timeout=timedelta(seconds=2),
            shared_state_manager=shared,
        )
        running = asyncio.create_task(hands.run())
        why = await cause(await sent(flows, hands.task_queue, beat=30))
        assert isinstance(why, ApplicationError) and why.type == "BrokenProcessPool"
        with pytest.raises(RuntimeError, match="^Activity worker failed$") as ended:
            await asyncio.wait_for(running, SOON)
    assert isinstance(ended.value.__cause__, BrokenProcessPool)


async def test_a_process_learns_of_its_cancellation(flows: Worker, shared: SharedStateManager) -> None:
    with ProcessPoolExecutor(2) as pool:
        options = {"activity_executor": pool, "max_concurrent_activities": 2, "shared_state_manager": shared}
        async with errand(flows, beats_until_cancelled, options, cancel=0.1, beat=3) as handle:
            assert await handle.result() == "cancelled"


@workflow.defn
class Local:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_local_activity(greet, "you", start_to_close_timeout=timedelta(minutes=2))


async def test_a_local_activity_without_an_end_in_a_workflow_with_a_timeout_of_nothing(client: Client) -> None:
    async with new_worker(client, Local, activities=[greet]) as worker:
        ran = client.execute_workflow(
            Local.run, id=unique(), task_queue=worker.task_queue, execution_timeout=timedelta(0)
        )
        assert await ran == "Hello, you!"
