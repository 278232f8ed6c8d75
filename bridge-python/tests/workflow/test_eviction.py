"""Small caches: workflows are thrown out and come back by replay, and nobody can tell."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.api.enums.v1 import TaskQueueKind
    from temporalio.client import Client, WorkflowHandle
    from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
    from temporalio.worker import UnsandboxedWorkflowRunner

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Steps:
    """Doubles what each signal says, until told to stop."""

    def __init__(self) -> None:
        self.inbox: list[int] = []
        self.done: list[int] = []
        self.stopped = False

    @workflow.run
    async def run(self) -> list[int]:
        while True:
            await workflow.wait_condition(lambda: bool(self.inbox) or self.stopped)
            if not self.inbox:
                return self.done
            doubled = await workflow.execute_activity(double, self.inbox[0], start_to_close_timeout=TIMEOUT)
            self.done.append(doubled)
            self.inbox.pop(0)

    @workflow.signal
    def put(self, number: int) -> None:
        self.inbox.append(number)

    @workflow.signal
    def stop(self) -> None:
        self.stopped = True

    @workflow.query
    def so_far(self) -> list[int]:
        return self.done

    @workflow.update
    async def total(self) -> int:
        await workflow.wait_condition(lambda: not self.inbox)
        return sum(self.done)


async def put_until_done(handle: WorkflowHandle[Any, Any], numbers: list[int]) -> None:
    """Sends numbers one by one and waits each time until the workflow has worked on them."""
    for count in range(1, len(numbers) + 1):
        await handle.signal(Steps.put, numbers[count - 1])
        assert await handle.execute_update(Steps.total) == 2 * sum(numbers[:count])


@pytest.mark.parametrize("cache", [0, 1, 2])
async def test_workflows_beyond_the_cache_lose_nothing(client: Client, cache: int) -> None:
    async with new_worker(client, Steps, activities=[double], max_cached_workflows=cache) as worker:
        handles = [
            await client.start_workflow(Steps.run, id=unique(f"steps-{n}"), task_queue=worker.task_queue)
            for n in range(4)
        ]
        await asyncio.gather(*(put_until_done(handle, [n, n + 10, n + 20]) for n, handle in enumerate(handles)))
        for handle in handles:
            await handle.signal(Steps.stop)
        results = await asyncio.gather(*(handle.result() for handle in handles))
    assert results == [[2 * n, 2 * n + 20, 2 * n + 40] for n in range(4)]
    for handle in handles:
        assert "workflow_task_failed" not in await kinds(handle)
        await replay(handle, Steps)


async def test_a_query_of_an_evicted_run_is_answered_after_replay(client: Client) -> None:
    async with new_worker(client, Steps, activities=[double], max_cached_workflows=1) as worker:
        first, second = [
            await client.start_workflow(Steps.run, id=unique(), task_queue=worker.task_queue) for _ in range(2)
        ]
        await put_until_done(first, [1, 2])
        await put_until_done(second, [3])
        before = len(await kinds(first))
        assert await first.query(Steps.so_far) == [2, 4]
        assert await second.query(Steps.so_far) == [6]
        assert await first.query(Steps.so_far) == [2, 4]
        assert len(await kinds(first)) == before
        await first.terminate()
        assert await first.query(Steps.so_far) == [2, 4]
        await second.terminate()


async def test_an_update_of_an_evicted_run_sees_its_state(client: Client) -> None:
    async with new_worker(client, Steps, activities=[double], max_cached_workflows=1) as worker:
        first, second = [
            await client.start_workflow(Steps.run, id=unique(), task_queue=worker.task_queue) for _ in range(2)
        ]
        for handle in (first, second, first, second):
            await handle.signal(Steps.put, 5)
            await handle.execute_update(Steps.total)
        assert [await handle.execute_update(Steps.total) for handle in (first, second)] == [20, 20]
        for handle in (first, second):
            await handle.signal(Steps.stop)
            assert await handle.result() == [10, 10]
            await replay(handle, Steps)


@pytest.mark.parametrize("cache", [0, 10])
async def test_tasks_go_to_a_sticky_queue_only_with_a_cache(client: Client, cache: int) -> None:
    async with new_worker(client, Steps, activities=[double], max_cached_workflows=cache) as worker:
        handle = await client.start_workflow(Steps.run, id=unique(), task_queue=worker.task_queue)
        await put_until_done(handle, [1])
        await handle.signal(Steps.stop)
        await handle.result()
    queues = [task.task_queue for task in await found(handle, "workflow_task_scheduled")]
    sticky = [queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY for queue in queues]
    assert sticky[0] is False and queues[0].name == worker.task_queue
    assert all(is_sticky is (cache > 0) for is_sticky in sticky[1:]) and len(sticky) >= 3
    assert all(queue.normal_name == worker.task_queue for queue in queues[1:] if cache)


async def test_a_new_worker_goes_on_where_the_last_one_stopped(client: Client) -> None:
    queue = unique("queue")
    async with new_worker(client, Steps, activities=[double], task_queue=queue):
        handle = await client.start_workflow(Steps.run, id=unique(), task_queue=queue)
        await put_until_done(handle, [1, 2])
    await handle.signal(Steps.put, 3)
    for total in (12, 12):
        async with new_worker(client, Steps, activities=[double], task_queue=queue):
            assert await handle.execute_update(Steps.total) == total
    await handle.signal(Steps.stop)
    async with new_worker(client, Steps, activities=[double], task_queue=queue):
        assert await handle.result() == [2, 4, 6]
    identities = {task.identity for task in await found(handle, "workflow_task_completed")}
    assert len(identities) == 1
    await replay(handle, Steps)


replayed: list[tuple[str, bool]] = []


@workflow.defn(sandboxed=False)
class Noting:
    """Notes outside of itself which steps were taken in replay."""

    def __init__(self) -> None:
        self.signals = 0
        self.closed = "open"

    @workflow.run
    async def run(self) -> str:
        try:
            replayed.append((workflow.info().workflow_id, workflow.unsafe.is_replaying()))
            await workflow.wait_condition(lambda: self.signals == 2)
            return "done"
        finally:
            self.closed = "closed"

    @workflow.signal
    def signal(self) -> None:
        self.signals += 1

    @workflow.query
    def count(self) -> int:
        return self.signals


async def test_without_a_cache_each_task_replays_from_the_start(client: Client) -> None:
    async with new_worker(client, Noting, max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Noting.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.query(Noting.count) == 0
        await handle.signal(Noting.signal)
        assert await handle.query(Noting.count) == 1
        await handle.signal(Noting.signal)
        assert await handle.result() == "done"
    mine = [replaying for id, replaying in replayed if id == handle.id]
    assert mine[0] is False and mine[1:] == [True] * (len(mine) - 1)
    assert len(mine) >= 3
    assert "workflow_task_failed" not in await kinds(handle)


async def test_with_a_cache_a_workflow_starts_once(client: Client) -> None:
    async with new_worker(client, Noting, workflow_runner=UnsandboxedWorkflowRunner()) as worker:
        handle = await client.start_workflow(Noting.run, id=unique(), task_queue=worker.task_queue)
        for count in range(2):
            assert await handle.query(Noting.count) == count
            await handle.signal(Noting.signal)
        assert await handle.result() == "done"
    assert [replaying for id, replaying in replayed if id == handle.id] == [False]


async def test_forced_evictions_are_counted(address: str) -> None:
    buffer = MetricBuffer(10_000)
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
    async with new_worker(client, Steps, activities=[double], max_cached_workflows=1) as worker:
        handles = [
            await client.start_workflow(Steps.run, id=unique(), task_queue=worker.task_queue) for _ in range(3)
        ]
        for handle in handles:
            await handle.execute_update(Steps.total)
            await handle.signal(Steps.stop)
            await handle.result()
    seen: dict[str, list[float]] = {}
    for update in buffer.retrieve_updates():
        seen.setdefault(update.metric.name, []).append(update.value)
        if update.metric.name.startswith("temporal_sticky_cache"):
            assert update.attributes["task_queue"] == worker.task_queue
    assert sum(seen["temporal_sticky_cache_total_forced_eviction"]) >= 1
    assert max(seen["temporal_sticky_cache_size"]) <= 1
