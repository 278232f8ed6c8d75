"""What comes together with the end of a run or of an activity: which of the two is heard."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from support import SOON, unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.exceptions import ApplicationError, CancelledError
    from temporalio.testing import WorkflowEnvironment
    from temporalio.worker import UnsandboxedWorkflowRunner

LONG = timedelta(seconds=20)


@activity.defn
async def brief() -> int:
    await asyncio.sleep(random.uniform(0.005, 0.015))
    return 1


@workflow.defn
class Busy:
    """One brief activity after the other."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(2000):
            await workflow.execute_activity(brief, schedule_to_close_timeout=LONG)


@pytest.mark.parametrize("cache", [0, 100])
async def test_a_cancellation_amid_brief_activities_is_never_lost(client: Client, cache: int) -> None:
    with ThreadPoolExecutor(1) as threads:
        async with new_worker(
            client, Busy, activities=[brief], activity_executor=threads, max_cached_workflows=cache
        ) as worker:
            for i in range(25):
                handle = await client.start_workflow(Busy.run, id=unique(), task_queue=worker.task_queue)
                await awaited(handle, "activity_task_completed", 1 + i % 3)
                await asyncio.sleep(random.uniform(0, 0.02))
                await handle.cancel()
                with pytest.raises(WorkflowFailureError) as ended:
                    await handle.result()
                assert isinstance(ended.value.cause, CancelledError)
                assert ended.value.cause.message == "Workflow cancelled"
                unhandled = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
                assert {event.cause for event in await found(handle, "workflow_task_failed")} <= {unhandled}
                await replay(handle, Busy)


@workflow.defn
class Two:
    """Two signals that raise, and a run that ends when both are there: before them or after."""

    @workflow.init
    def __init__(self, waits: bool) -> None:
        self.first = self.second = self.over = False
        self.waits = waits

    @workflow.run
    async def run(self, waits: bool) -> str:
        await workflow.wait_condition(lambda: self.first and self.second)
        self.over = True
        return "result"

    @workflow.signal
    async def one(self) -> None:
        self.first = True
        if self.waits:
            await workflow.wait_condition(lambda: self.over)
        raise ApplicationError("one")

    @workflow.signal
    async def two(self) -> None:
        await workflow.wait_condition(lambda: self.first)
        self.second = True
        if self.waits:
            await workflow.wait_condition(lambda: self.over)
        raise ApplicationError("two")

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def last(self) -> None:
        self.first = self.second = True
        await workflow.wait_condition(lambda: self.over)
        await asyncio.sleep(7777777)


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("cache", [0, 100])
async def test_of_several_ends_in_one_task_the_first_counts(client: Client, waits: bool, cache: int) -> None:
    async with new_worker(client, Two, max_cached_workflows=cache) as worker:
        handle = await client.start_workflow(Two.run, waits, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Two.two)
        await handle.signal(Two.one)
        if waits:
            assert await handle.result() == "result"
        else:
            with pytest.raises(WorkflowFailureError) as ended:
                await handle.result()
            assert str(ended.value.cause) == "one"
    await replay(handle, Two)


async def test_a_timer_asked_for_by_a_handler_after_the_end_holds_nothing_up(client: Client) -> None:
    async with new_worker(client, Two) as worker:
        handle = await client.start_workflow(Two.run, True, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Two.last)
        assert await handle.result() == "result"
    assert (await kinds(handle))[-1] == "workflow_execution_completed"
    await replay(handle, Two)


troubles: dict[str, dict[str, int]] = {}
"""By workflow id: how often something went wrong there."""


@workflow.defn
class Mended:
    """Its validator asks for an activity, its handler has a bug: the first times."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    def once_more(self, name: str, times: int) -> bool:
        mine = troubles[workflow.info().workflow_id]
        mine[name] = mine.get(name, 0) + 1
        return mine[name] <= times

    @workflow.update
    async def valid(self) -> str:
        return "done"

    @valid.validator
    def check(self) -> None:
        if self.once_more("validator", 2):
            workflow.start_activity(brief, schedule_to_close_timeout=LONG)

    @workflow.update
    def buggy(self) -> str:
        if self.once_more("handler", 1):
            raise RuntimeError("a bug")
        return "done"


async def test_a_task_that_an_update_fails_is_tried_again_until_it_goes_through(client: Client) -> None:
    id = unique()
    troubles[id] = {}
    async with new_worker(client, Mended, workflow_runner=UnsandboxedWorkflowRunner()) as worker:
        handle = await client.start_workflow(
            Mended.run, id=id, task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        assert await handle.execute_update(Mended.valid) == "done"
        assert troubles[id] == {"validator": 3}
        assert await handle.execute_update(Mended.buggy) == "done"
        assert troubles[id] == {"validator": 3, "handler": 2}
        await handle.terminate()


@workflow.defn
class Ticking:
    @workflow.run
    async def run(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0.1)


async def test_a_client_of_another_server_is_used_from_the_next_poll_on(client: Client, temporal_cli: str) -> None:
    """One poller and no cache, so that a tick is a poll."""
    queue = unique("queue")
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=temporal_cli) as other:
        here: Any = await client.start_workflow(Ticking.run, id=unique(), task_queue=queue)
        there: Any = await other.client.start_workflow(Ticking.run, id=unique(), task_queue=queue)
        async with new_worker(
            client, Ticking, task_queue=queue, max_cached_workflows=0, max_concurrent_workflow_task_polls=1
        ) as worker:
            await awaited(here, "workflow_task_completed")
            assert await found(there, "workflow_task_completed") == []
            worker.client = other.client
            await asyncio.wait_for(awaited(there, "workflow_task_completed"), SOON)
            await here.terminate()
            await there.terminate()
