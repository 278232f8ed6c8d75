"""Much at once: thousands of tasks in a workflow, hundreds of commands in a task, many workflows on a worker."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client

TIMEOUT = timedelta(seconds=60)


@activity.defn
async def square(number: int) -> int:
    return number * number


@workflow.defn
class ManyTasks:
    """Thousands of coroutines pass a token through queues, events, locks and conditions."""

    def __init__(self) -> None:
        self.opened = False
        self.order: list[int] = []

    @workflow.run
    async def run(self, count: int) -> list[int]:
        gate, lock = asyncio.Event(), asyncio.Lock()
        queue: asyncio.Queue[int] = asyncio.Queue()
        few = asyncio.Semaphore(7)

        async def one(number: int) -> int:
            await gate.wait()
            async with few, lock:
                await asyncio.sleep(0)
                await queue.put(number)
                self.order.append(number)
            await workflow.wait_condition(lambda: len(self.order) == count)
            return await queue.get()

        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        await workflow.wait_condition(lambda: self.opened)
        gate.set()
        got = await asyncio.gather(*tasks)
        assert self.order == list(range(count))
        return [len(got), sum(got), workflow.random().randrange(2**30)]

    @workflow.signal
    def open(self) -> None:
        self.opened = True


async def test_thousands_of_coroutines_in_one_workflow(client: Client) -> None:
    count = 1000
    async with new_worker(client, ManyTasks, debug_mode=True) as worker:
        handle = await client.start_workflow(ManyTasks.run, count, id=unique(), task_queue=worker.task_queue)
        await handle.signal(ManyTasks.open)
        assert (await handle.result())[:2] == [count, sum(range(count))]
    await replay(handle, ManyTasks, debug_mode=True)


@workflow.defn
class ManyCommands:
    @workflow.run
    async def run(self, activities: int, timers: int, locals: int) -> list[int]:
        squares = [
            workflow.execute_activity(square, number, start_to_close_timeout=TIMEOUT) for number in range(activities)
        ]
        cubes = [
            workflow.execute_local_activity(square, number, start_to_close_timeout=TIMEOUT) for number in range(locals)
        ]
        sleeps = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(timers)]
        results = await asyncio.gather(*squares, *cubes)
        for sleep in sleeps:
            sleep.cancel()
        await asyncio.gather(*sleeps, return_exceptions=True)
        return results


async def test_hundreds_of_commands_of_one_task(client: Client) -> None:
    async with new_worker(client, ManyCommands, activities=[square]) as worker:
        handle = await client.start_workflow(
            ManyCommands.run, args=[100, 100, 50], id=unique(), task_queue=worker.task_queue
        )
        assert await handle.result() == [n * n for n in range(100)] + [n * n for n in range(50)]
    told = await kinds(handle)
    assert (told.count("timer_started"), told.count("timer_canceled")) == (100, 100)
    assert (told.count("activity_task_completed"), told.count("marker_recorded")) == (100, 50)
    ids = [event.activity_id for event in await found(handle, "activity_task_scheduled")]
    assert len(set(ids)) == 100
    await replay(handle, ManyCommands)


@workflow.defn
class Small:
    def __init__(self) -> None:
        self.total = 0
        self.calls = 0

    @workflow.run
    async def run(self, seed: int) -> int:
        squared = await workflow.execute_activity(square, seed, start_to_close_timeout=TIMEOUT)
        self.total += squared
        await workflow.wait_condition(lambda: self.calls == 4)
        return self.total

    @workflow.signal
    async def add(self, number: int) -> None:
        await workflow.wait_condition(lambda: self.total > 0)  # Some square has been added.
        self.total += number
        self.calls += 1

    @workflow.update
    async def add_square(self, number: int) -> int:
        squared = await workflow.execute_activity(square, number, start_to_close_timeout=TIMEOUT)
        self.total += squared
        self.calls += 1
        return number


async def test_many_workflows_with_signals_and_updates_at_once_on_a_small_worker(client: Client) -> None:
    async with new_worker(
        client,
        Small,
        activities=[square],
        max_cached_workflows=10,
        max_concurrent_workflow_tasks=5,
        max_concurrent_activities=5,
    ) as worker:

        async def live(seed: int) -> int:
            handle = await client.start_workflow(Small.run, seed, id=unique(), task_queue=worker.task_queue)
            two, three, *_ = await asyncio.gather(
                handle.execute_update(Small.add_square, 2),
                handle.execute_update(Small.add_square, 3),
                handle.signal(Small.add, 1),
                handle.signal(Small.add, 10),
            )
            assert (two, three) == (2, 3)
            return await handle.result()

        results = await asyncio.gather(*(live(seed) for seed in range(1, 41)))
    assert results == [seed * seed + 1 + 4 + 10 + 9 for seed in range(1, 41)]
