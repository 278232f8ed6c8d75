"""Deadlocks of a thread that waits and of coroutines that wake each other are told soon; a worker is left to itself."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, new_worker
    from support import SOON, eventually, unique
    from temporalio.client import Client, WorkflowHandle
    from temporalio.worker import Worker

TOLD = "[TMPRL1101] Potential deadlock detected: workflow didn't yield within 1 second(s)."

doors: dict[str, threading.Event] = {}


@workflow.defn(sandboxed=False)
class BehindDoor:
    @workflow.run
    async def run(self, door: str) -> None:
        doors[door].wait()


@workflow.defn
class Seesaw:
    """Two coroutines, each of which makes true what the other waits for: no task of it ever ends."""

    def __init__(self) -> None:
        self.up = True

    @workflow.run
    async def run(self) -> None:
        await asyncio.gather(self.push(False), self.push(True))

    async def push(self, when: bool) -> None:
        while True:
            await workflow.wait_condition(lambda: self.up is when)
            self.up = not self.up


@workflow.defn
class Easy:
    @workflow.run
    async def run(self) -> str:
        return "easy"


def impatient(worker: Worker) -> Worker:
    assert worker._workflow_worker
    worker._workflow_worker._deadlock_timeout_seconds = 1
    return worker


async def told_of(handle: WorkflowHandle[Any, Any], seconds: float) -> None:
    """The last failed task of the run is the deadlock; within so many seconds."""

    async def there() -> None:
        failed = await found(handle, "workflow_task_failed")
        assert failed and failed[-1].failure.message == TOLD

    await eventually(there, seconds)


@pytest.mark.parametrize("safe", [True, False])
async def test_a_waiting_thread_is_told_of_within_five_seconds_and_the_worker_ends_once_it_goes(
    client: Client, safe: bool
) -> None:
    door = unique("door")
    doors[door] = threading.Event()
    async with new_worker(client, BehindDoor, disable_safe_workflow_eviction=not safe) as worker:
        impatient(worker)
        handle = await client.start_workflow(BehindDoor.run, door, id=unique(), task_queue=worker.task_queue)
        try:
            await told_of(handle, 5)
        finally:
            doors[door].set()
        ending = time.monotonic()
    assert time.monotonic() - ending < SOON


async def test_coroutines_that_wake_each_other_are_told_of_and_a_cancelled_worker_may_be_left(client: Client) -> None:
    left = impatient(new_worker(client, Seesaw, Easy))
    running = asyncio.create_task(left.run())
    handle = await client.start_workflow(
        Seesaw.run, id=unique(), task_queue=left.task_queue, task_timeout=timedelta(seconds=10)
    )
    await told_of(handle, 5)
    running.cancel()
    # Nobody waits for it; others are not held up.
    async with new_worker(client, Easy) as worker:
        for _ in range(3):
            assert await client.execute_workflow(Easy.run, id=unique(), task_queue=worker.task_queue) == "easy"
    await handle.terminate()
    # So that the next tests have the machine to themselves.
    await asyncio.wait([running], timeout=60)
