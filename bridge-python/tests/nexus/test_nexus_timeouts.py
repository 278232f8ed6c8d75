"""Operations that are out of time: which timeout the caller hears of, and that the handler hears of it, too."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from nexus.conftest import Port
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    operation_handler,
    service_handler,
    sync_operation,
)
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import NexusOperationError, TimeoutError, TimeoutType


class Slow:
    """What the handlers of one test heard: each why it was cancelled, or that it was not."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []
        self.told = threading.Event()
        self.over = threading.Event()

    def hear(self, reason: str | None) -> None:
        """Returns only when the caller has ended: an answer could still come in time."""
        self.heard.append(reason)
        self.told.set()
        self.over.wait(10)


async def told_to_stop(ctx: StartOperationContext | CancelOperationContext) -> str | None:
    """Why. The task is cancelled, too, which `wait_for` lets through from Python 3.12 on; a handler may go on all the same."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(ctx.task_cancellation.wait_until_cancelled(), 10)
    return ctx.task_cancellation.cancellation_reason()


class Started(OperationHandler[None, None]):
    """Says that it started; a cancellation takes its time."""

    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    async def start(self, ctx: StartOperationContext, input: None) -> StartOperationResultAsync:
        return StartOperationResultAsync("token")

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        await asyncio.to_thread(self.slow.hear, await told_to_stop(ctx))


def service(slow: Slow) -> Any:
    @service_handler(name="Slow")
    class Handler:
        @sync_operation
        async def waits(self, ctx: StartOperationContext, _: None) -> None:
            await asyncio.to_thread(slow.hear, await told_to_stop(ctx))

        @sync_operation
        def waits_in_a_thread(self, ctx: StartOperationContext, _: None) -> None:
            assert ctx.task_cancellation.wait_until_cancelled_sync(10)
            slow.hear(ctx.task_cancellation.cancellation_reason())

        @sync_operation
        async def never(self, ctx: StartOperationContext, _: None) -> None:
            await asyncio.Event().wait()

        @operation_handler
        def started(self) -> OperationHandler[None, None]:
            return Started(slow)

    return Handler()


@workflow.defn
class Calling:
    @workflow.run
    async def run(self, endpoint: str, operation: str, cancel: bool, timeouts: dict[str, float]) -> None:
        slow = workflow.create_nexus_client(service="Slow", endpoint=endpoint)
        options: Any = {name: timedelta(seconds=seconds) for name, seconds in timeouts.items()}
        handle = await slow.start_operation(operation, None, **options)
        if cancel:
            handle.cancel()
        await handle


async def timed_out(port: Port, slow: Slow, operation: str, cancel: bool = False, **timeouts: float) -> TimeoutError:
    with ThreadPoolExecutor(4) as pool:
        async with new_worker(
            port.client, Calling, nexus_service_handlers=[service(slow)], nexus_task_executor=pool
        ) as worker:
            endpoint = unique("endpoint")
            await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
            try:
                with pytest.raises(WorkflowFailureError) as caught:
                    await port.client.execute_workflow(
                        Calling.run,
                        args=[endpoint, operation, cancel, timeouts],
                        id=unique(),
                        task_queue=worker.task_queue,
                    )
            finally:
                slow.over.set()
            if operation.startswith("waits"):
                assert await asyncio.to_thread(slow.told.wait, 10)
    cause = caught.value.cause
    assert isinstance(cause, NexusOperationError) and isinstance(cause.cause, TimeoutError)
    return cause.cause


@pytest.mark.parametrize("operation", ["waits", "waits_in_a_thread"])
async def test_a_start_that_takes_too_long_is_cancelled(port: Port, operation: str) -> None:
    slow = Slow()
    error = await asyncio.wait_for(timed_out(port, slow, operation, schedule_to_close_timeout=3), 8)
    assert (error.message, error.type) == ("operation timed out", TimeoutType.SCHEDULE_TO_CLOSE)
    assert set(slow.heard) == {"TIMED_OUT"}


async def test_a_start_that_takes_longer_than_it_may_wait_for_one(port: Port) -> None:
    slow = Slow()
    error = await asyncio.wait_for(timed_out(port, slow, "waits", schedule_to_start_timeout=3), 8)
    assert error.type == TimeoutType.SCHEDULE_TO_START
    assert set(slow.heard) == {"TIMED_OUT"}


async def test_an_operation_that_started_and_does_not_end(port: Port) -> None:
    error = await asyncio.wait_for(timed_out(port, Slow(), "started", start_to_close_timeout=0.1), 8)
    assert error.type == TimeoutType.START_TO_CLOSE


async def test_a_cancellation_that_takes_too_long(port: Port) -> None:
    slow = Slow()
    # Time for the request itself, and a second for the handler.
    task = timed_out(port, slow, "started", cancel=True, schedule_to_close_timeout=3)
    error = await asyncio.wait_for(task, 15)
    assert error.type == TimeoutType.SCHEDULE_TO_CLOSE
    assert slow.heard == ["TIMED_OUT"]


async def test_an_operation_without_timeouts_may_take_its_time(port: Port) -> None:
    pool = ThreadPoolExecutor(1)
    async with new_worker(
        port.client, Calling, nexus_service_handlers=[service(Slow())], nexus_task_executor=pool
    ) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        handle = await port.client.start_workflow(
            Calling.run, args=[endpoint, "never", False, {}], id=unique(), task_queue=worker.task_queue
        )
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle.result(), 1)
        await handle.terminate()


@pytest.mark.parametrize("operation", ["waits", "waits_in_a_thread"])
async def test_a_start_whose_time_is_over_when_it_comes_is_cancelled_at_once(port: Port, operation: str) -> None:
    """The server keeps two seconds for itself, and says that what is left is less than nothing."""
    slow = Slow()
    error = await asyncio.wait_for(timed_out(port, slow, operation, schedule_to_close_timeout=2), 8)
    assert error.type == TimeoutType.SCHEDULE_TO_CLOSE
    assert set(slow.heard) == {"TIMED_OUT"}
