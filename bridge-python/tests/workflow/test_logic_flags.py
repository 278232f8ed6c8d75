"""Flags in history: the core's, which the first task sets, and those of the package's own logic that a test switches on. Each is in
history once, and holds for the run's life."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client, WorkflowHandle
    from temporalio.exceptions import ActivityError
    from temporalio.worker import Worker
    from temporalio.worker._workflow_instance import _WorkflowLogicFlag

BRIEF = timedelta(seconds=10)


@activity.defn
async def echo(text: str) -> str:
    return text


@workflow.defn
class Flagged:
    """Uses all that brings it activations, and gives up an activity that has ended."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.asked = False

    @workflow.run
    async def run(self) -> list[str]:
        def never_after_a_query() -> bool:
            assert not self.asked
            return len(self.told) >= 3

        self.told.append(await workflow.execute_local_activity(echo, "local", start_to_close_timeout=BRIEF))
        await asyncio.sleep(0.01)
        ended = workflow.start_activity(echo, "remote", start_to_close_timeout=BRIEF)
        await workflow.wait([ended])
        ended.cancel()
        try:
            self.told.append(await ended)
        except (ActivityError, asyncio.CancelledError) as error:
            self.told.append(type(error).__name__)
        await workflow.wait_condition(never_after_a_query)
        return self.told

    @workflow.signal
    def tell(self, text: str) -> None:
        self.told.append(text)

    @workflow.query
    def ask(self) -> list[str]:
        self.asked = True
        return self.told

    @workflow.update
    async def push(self, text: str) -> int:
        await asyncio.sleep(0.01)
        self.told.append(text)
        return len(self.told)


def flagged(worker: Worker, *flags: _WorkflowLogicFlag) -> Worker:
    for flag in flags:
        worker._set_default_workflow_logic_flag(flag, enabled=True)
    return worker


@pytest.mark.parametrize("cache", [0, 100])
async def test_the_first_task_sets_the_flags_of_the_core(client: Client, cache: int) -> None:
    async with new_worker(client, Flagged, activities=[echo], max_cached_workflows=cache) as worker:
        handle = await client.start_workflow(Flagged.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Flagged.tell, "signal")
        await handle.result()
    tasks = [task.sdk_metadata for task in await found(handle, "workflow_task_completed")]
    assert len(tasks) > 2
    assert [sorted(task.core_used_flags) for task in tasks] == [[1, 2, 3, 4], *[[]] * (len(tasks) - 1)]
    assert [task.sdk_name for task in tasks] == ["temporal-python", *[""] * (len(tasks) - 1)]


async def used(handle: WorkflowHandle[Any, Any]) -> list[list[int]]:
    """The flags of each completed task."""
    return [list(task.sdk_metadata.lang_used_flags) for task in await found(handle, "workflow_task_completed")]


@pytest.mark.parametrize("cache", [0, 100])
@pytest.mark.parametrize("flags", [[], *([flag] for flag in _WorkflowLogicFlag), list(_WorkflowLogicFlag)])
async def test_each_flag_is_recorded_once_and_replayed(
    client: Client, flags: list[_WorkflowLogicFlag], cache: int
) -> None:
    worker = new_worker(client, Flagged, activities=[echo], max_cached_workflows=cache)
    async with flagged(worker, *flags):
        handle = await client.start_workflow(Flagged.run, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "activity_task_completed")
        assert await handle.execute_update(Flagged.push, "update") == 3
        assert len(await handle.result()) == 3
        assert len(await handle.query(Flagged.ask)) == 3
    recorded = await used(handle)
    every = [flag for task in recorded for flag in task]
    assert "workflow_task_failed" not in await kinds(handle)
    assert sorted(set(every)) == sorted(set(every) & {int(flag) for flag in flags})
    assert len(every) == len(set(every)), recorded
    await replay(handle, Flagged)


async def test_with_one_batch_a_query_runs_no_condition_and_a_worker_without_the_flag_goes_on(client: Client) -> None:
    flag = _WorkflowLogicFlag.PROCESS_WORKFLOW_ACTIVATION_JOBS_AS_SINGLE_BATCH
    queue = unique("queue")
    worker = new_worker(client, Flagged, activities=[echo], task_queue=queue, max_cached_workflows=0)
    async with flagged(worker, flag):
        handle = await client.start_workflow(Flagged.run, id=unique(), task_queue=queue)
        await awaited(handle, "activity_task_completed")
        assert len(await handle.query(Flagged.ask)) >= 1
    async with new_worker(client, Flagged, activities=[echo], task_queue=queue, max_cached_workflows=0):
        await handle.signal(Flagged.tell, "signal")
        assert (await handle.result())[-1] == "signal"
    recorded = await used(handle)
    assert recorded[0] == [flag] and not any(recorded[1:])
    assert "workflow_task_failed" not in await kinds(handle)
    await replay(handle, Flagged)
