"""A second worker takes over a run in its middle, by whatever comes next, and sees the past as it was."""

from __future__ import annotations

import os
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client


@workflow.defn
class Remembering:
    """Remembers when its first task was, and by whom."""

    def __init__(self) -> None:
        self.first: list[Any] = []
        self.done = False

    def now(self) -> list[Any]:
        info = workflow.info()
        return [workflow.time_ns(), info.get_current_history_length(), info.get_current_build_id()]

    @workflow.run
    async def run(self) -> list[list[Any]]:
        self.first = self.now()
        await workflow.wait_condition(lambda: self.done)
        return [self.first, self.now()]

    @workflow.query
    def seen(self) -> list[Any]:
        return self.first

    @workflow.signal
    def end(self) -> None:
        self.done = True

    @workflow.update
    def ending(self) -> list[Any]:
        self.done = True
        return self.first


ORIGINAL = os.environ.get("OUTLAST_ENGINE") == "original"
BUG = "the original takes a task without commands and the update's task behind it for one when it takes over a run"


@pytest.mark.parametrize(
    "by", ["signal", "query", pytest.param("update", marks=pytest.mark.xfail(ORIGINAL, reason=BUG, strict=True))]
)
async def test_the_first_task_is_remembered_as_it_was(client: Client, by: str) -> None:
    queue = unique("queue")
    async with new_worker(client, Remembering, task_queue=queue, build_id="one"):
        handle = await client.start_workflow(Remembering.run, id=unique(), task_queue=queue)
        await awaited(handle, "workflow_task_completed")
        first = await handle.query(Remembering.seen)
    events = (await handle.fetch_history()).events
    task = next(event for event in events if event.HasField("workflow_task_started_event_attributes"))
    assert first == [task.event_time.ToNanoseconds(), task.event_id, "one"]
    async with new_worker(client, Remembering, task_queue=queue, build_id="two"):
        if by == "query":
            assert await handle.query(Remembering.seen) == first
        if by == "update":
            assert await handle.execute_update(Remembering.ending) == first
        else:
            await handle.signal(Remembering.end)
        before, after = await handle.result()
    assert before == first
    assert after[0] > first[0] and after[1] > first[1] and after[2] == "two"
    assert "workflow_task_failed" not in await kinds(handle)
    await replay(handle, Remembering)
