"""Programs that are replayed for each of their tasks, and by worker after worker: what they saw they see again."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.workflowservice.v1 import ResetStickyTaskQueueRequest
    from temporalio.client import Client, WorkflowHandle
    from temporalio.common import RawValue

BRIEF = timedelta(seconds=1)
LONG = timedelta(hours=1)


class Chosen:
    """Ends at once and can be asked which way it went."""

    way = "none"

    @workflow.query
    def asked(self) -> str:
        return self.way


@workflow.defn(name="generations")
class Before(Chosen):
    @workflow.run
    async def run(self) -> None:
        self.way = "old"


@workflow.defn(name="generations")
class Both(Chosen):
    @workflow.run
    async def run(self) -> None:
        self.way = "new" if workflow.patched("a-patch") else "old"


@workflow.defn(name="generations")
class Deprecating(Chosen):
    @workflow.run
    async def run(self) -> None:
        workflow.deprecate_patch("a-patch")
        self.way = "new"


@workflow.defn(name="generations")
class After(Chosen):
    @workflow.run
    async def run(self) -> None:
        self.way = "new"


async def test_closed_runs_of_each_generation_of_a_patch_answer_the_next(client: Client) -> None:
    queue = unique("queue")
    older: WorkflowHandle[Any, Any] | None = None
    oldest: WorkflowHandle[Any, Any] | None = None
    for generation in (Before, Both, Deprecating, After):
        async with new_worker(client, generation, task_queue=queue, max_cached_workflows=0):
            handle = await client.start_workflow("generations", id=unique(), task_queue=queue)
            await handle.result()
            assert await handle.query("asked") == ("old" if generation is Before else "new")
            if older:
                assert await older.query("asked") == ("old" if generation is Both else "new")
            older = handle
            oldest = oldest or handle
    assert oldest and await kinds(oldest) == [
        "workflow_execution_started",
        "workflow_task_scheduled",
        "workflow_task_started",
        "workflow_task_completed",
        "workflow_execution_completed",
    ]


class Halfway:
    """Asks for its patch before and after it waits, once it knows of it."""

    knows = False

    def __init__(self) -> None:
        self.waits = True

    async def meet(self) -> list[str]:
        asked = []
        for place in ("before", "after"):
            asked.append(f"{place}: {workflow.patched('late') if self.knows else None}")
            await workflow.wait_condition(lambda: not self.waits)
        return asked

    @workflow.signal
    def go(self) -> None:
        self.waits = False

    @workflow.query
    def waiting(self) -> bool:
        return self.waits


@workflow.defn(name="halfway")
class HalfwayOld(Halfway):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.meet()


@workflow.defn(name="halfway")
class HalfwayNew(Halfway):
    knows = True

    @workflow.run
    async def run(self) -> list[str]:
        return await self.meet()


async def test_a_run_that_began_before_the_patch_is_told_no_to_its_end(client: Client) -> None:
    """Though its first task had no commands that could tell where the past ends."""
    queue = unique("queue")
    async with new_worker(client, HalfwayOld, task_queue=queue, max_cached_workflows=0):
        old = await client.start_workflow("halfway", id=unique(), task_queue=queue, result_type=list[str])
        assert await old.query("waiting")
    async with new_worker(client, HalfwayNew, task_queue=queue, max_cached_workflows=0):
        new = await client.start_workflow("halfway", id=unique(), task_queue=queue, result_type=list[str])
        for handle in (old, new):
            await handle.signal("go")
        assert await old.result() == ["before: False", "after: False"]
        assert await new.result() == ["before: True", "after: True"]


@workflow.defn
class Chance:
    made = ""

    @workflow.run
    async def run(self) -> None:
        self.made = f"{workflow.uuid4()} {workflow.random().random()} {workflow.uuid7()} {workflow.time_ns()}"

    @workflow.query
    def asked(self) -> str:
        return self.made


async def test_chance_is_the_same_for_each_query_and_each_worker(client: Client) -> None:
    queue = unique("queue")
    handles = [await client.start_workflow(Chance.run, id=unique(), task_queue=queue) for _ in range(2)]
    seen = []
    for _ in range(2):
        async with new_worker(client, Chance, task_queue=queue, max_cached_workflows=0):
            for handle in handles:
                await handle.result()
                seen += [await handle.query(Chance.asked) for _ in range(2)]
    assert not set(seen[0].split()) & set(seen[2].split())
    for each in seen:
        ordered, now = each.split()[2:]
        assert uuid.UUID(ordered).version == 7 and uuid.UUID(ordered).int >> 80 == int(now) // 1_000_000
    assert seen == [seen[0]] * 2 + [seen[2]] * 2 + [seen[0]] * 2 + [seen[2]] * 2


@activity.defn
async def endless() -> None:
    await asyncio.Future()


@activity.defn(dynamic=True)
async def own_name(args: Sequence[RawValue]) -> str:
    return activity.info().activity_type


@workflow.defn
class Endless:
    @workflow.run
    async def run(self) -> None:
        await asyncio.Future()


@workflow.defn
class Entangled:
    """Much goes on when it is thrown out, and its `finally` waits and asks for more."""

    def __init__(self) -> None:
        self.nudges = 0

    @workflow.run
    async def run(self) -> None:
        waits = [
            asyncio.create_task(workflow.execute_activity(endless, start_to_close_timeout=LONG)),
            asyncio.create_task(workflow.execute_child_workflow(Endless.run)),
            asyncio.create_task(asyncio.sleep(3000)),
            asyncio.shield(workflow.execute_activity(endless, start_to_close_timeout=LONG)),
            asyncio.create_task(workflow.wait_condition(lambda: False)),
        ]
        every = asyncio.gather(*waits, return_exceptions=True)
        asyncio.create_task(asyncio.sleep(3000))
        try:
            await asyncio.sleep(0.01)
            await workflow.wait_condition(lambda: self.nudges > 1)
        finally:
            await asyncio.sleep(0.01)
            await workflow.wait_condition(lambda: self.nudges > 2)
            for each in waits:
                each.cancel()
            await every

    @workflow.signal
    async def nudge(self) -> None:
        self.nudges += 1

    @workflow.query
    def count(self) -> int:
        return self.nudges


async def test_what_goes_on_in_a_run_that_is_thrown_out_raises_nothing_anywhere(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    async with new_worker(client, Entangled, Endless, activities=[endless], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Entangled.run, id=unique(), task_queue=worker.task_queue)

        async def counted(expected: int) -> None:
            async def once() -> None:
                assert await handle.query(Entangled.count) == expected

            await eventually(once)

        await counted(0)
        for nudges in (1, 2, 3):
            await handle.signal(Entangled.nudge)
            await counted(nudges)
        await handle.result()
    assert not unraisable
    assert "workflow_task_failed" not in await kinds(handle)
    await replay(handle, Entangled)


@workflow.defn
class ByName:
    @workflow.run
    async def run(self) -> list[str]:
        first = [workflow.execute_activity(f"one-{n}", start_to_close_timeout=BRIEF) for n in range(10)]
        names = [await done for done in workflow.as_completed(first)]

        async def named(index: int) -> str:
            return f"two-{index}"

        done, _ = await workflow.wait([asyncio.create_task(named(n)) for n in range(10)])
        names += [await workflow.execute_activity(await name, start_to_close_timeout=BRIEF) for name in done]
        return names


async def test_many_activities_of_a_second_each_come_through_in_the_same_order(client: Client) -> None:
    async with new_worker(client, ByName, activities=[own_name], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(ByName.run, id=unique(), task_queue=worker.task_queue)
        names = await handle.result()
    assert sorted(names[:10]) == [f"one-{n}" for n in range(10)]
    assert names[10:] == [f"two-{n}" for n in range(10)]
    assert "workflow_task_failed" not in await kinds(handle)
    assert "activity_task_timed_out" not in await kinds(handle)


@workflow.defn
class Signed:
    """After a second does something that only the first build does."""

    ended = False

    @workflow.run
    async def run(self) -> None:
        await asyncio.sleep(1)
        if workflow.info().get_current_build_id() == "one":
            await workflow.execute_activity("one", start_to_close_timeout=BRIEF)
        await workflow.wait_condition(lambda: self.ended)

    @workflow.query
    def build(self) -> str:
        return workflow.info().get_current_build_id()

    @workflow.signal
    async def end(self) -> None:
        self.ended = True


async def test_a_build_that_takes_over_within_a_second_is_the_build_from_its_first_task_on(client: Client) -> None:
    """The second build has to be there before the timer is: stopping the first must not take long."""
    queue = unique("queue")
    options: dict[str, Any] = {"task_queue": queue, "activities": [own_name]}
    async with new_worker(client, Signed, build_id="one", **options) as worker:
        handle = await client.start_workflow(Signed.run, id=unique(), task_queue=queue)
        assert await handle.query(Signed.build) == "one"
        await worker.shutdown()
    await client.workflow_service.reset_sticky_task_queue(
        ResetStickyTaskQueueRequest(
            namespace=client.namespace, execution=WorkflowExecution(workflow_id=handle.id)
        )
    )
    async with new_worker(client, Signed, build_id="two", **options) as worker:
        assert await handle.query(Signed.build) == "one"
        await handle.signal(Signed.end)
        assert await handle.query(Signed.build) == "two"
        await handle.result()
        assert await handle.query(Signed.build) == "two"
        await worker.shutdown()
    assert await found(handle, "activity_task_scheduled") == []
