"""A workflow that does not yield: its task fails, its thread is interrupted, and it may recover."""

from __future__ import annotations

import threading
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from histories import awaited, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client

free: set[str] = set()
"""Ids of workflows that need not block any more."""
blocked: dict[str, threading.Event] = {}


@workflow.defn(sandboxed=False)
class Blocking:
    @workflow.run
    async def run(self) -> str:
        id = workflow.info().workflow_id
        while id not in free:
            blocked[id].wait(0.01)
        return "free"


async def test_a_blocked_thread_fails_the_task_and_the_next_attempt_goes_through(client: Client) -> None:
    id = unique()
    blocked[id] = threading.Event()
    async with new_worker(client, Blocking) as worker:
        handle = await client.start_workflow(Blocking.run, id=id, task_queue=worker.task_queue)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        free.add(id)
        assert await handle.result() == "free"
    assert failed.failure.message == (
        "[TMPRL1101] Potential deadlock detected: workflow didn't yield within 2 second(s)."
    )
    assert "blocked[id].wait(0.01)" in failed.failure.stack_trace
    assert (await kinds(handle)).count("workflow_task_failed") == 1
    await replay(handle, Blocking)


async def test_debug_mode_lets_a_workflow_block(client: Client) -> None:
    id = unique()
    blocked[id] = threading.Event()
    threading.Timer(2.3, free.add, [id]).start()
    async with new_worker(client, Blocking, debug_mode=True) as worker:
        handle = await client.start_workflow(
            Blocking.run, id=id, task_queue=worker.task_queue, task_timeout=timedelta(seconds=30)
        )
        assert await handle.result() == "free"
    assert await kinds(handle) == [
        "workflow_execution_started",
        "workflow_task_scheduled",
        "workflow_task_started",
        "workflow_task_completed",
        "workflow_execution_completed",
    ]
