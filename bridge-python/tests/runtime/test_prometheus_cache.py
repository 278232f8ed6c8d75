"""What the endpoint shows of a small cache: evictions by their cause, and slots."""

from __future__ import annotations

import asyncio

import pytest
from support import eventually, new_worker, unique
from temporalio import workflow
from temporalio.client import Client

from runtime.scrape import Page
from runtime.test_prometheus import shown
from worker.programs import Collect, Echo


class Luck:
    left = 0


@workflow.defn(sandboxed=False)
class Unlucky:
    """Its first tasks fail."""

    @workflow.run
    async def run(self) -> str:
        if Luck.left:
            Luck.left -= 1
            raise RuntimeError("bad luck")
        return "done"


@pytest.mark.parametrize("failures", [1, 2])
async def test_a_failed_workflow_task_is_a_forced_eviction(address: str, failures: int) -> None:
    engine = shown(address)
    Luck.left = failures
    client = await Client.connect(address, runtime=engine.runtime)
    async with new_worker(client, Unlucky) as worker:
        queue = worker.task_queue
        assert await client.execute_workflow(Unlucky.run, id=unique(), task_queue=queue) == "done"
        page = await engine.page()
    assert page.value("temporal_sticky_cache_total_forced_eviction", task_queue=queue) == failures


async def test_a_run_that_ended_is_no_forced_eviction(address: str) -> None:
    engine = shown(address)
    client = await Client.connect(address, runtime=engine.runtime)
    async with new_worker(client, Echo) as worker:
        queue = worker.task_queue
        await client.execute_workflow(Echo.run, 1, id=unique(), task_queue=queue)
        page = await engine.page()
    assert page.find("temporal_sticky_cache_total_forced_eviction", task_queue=queue) == []


def slots(page: Page, queue: str) -> float:
    return page.value("temporal_worker_task_slots_available", task_queue=queue, worker_type="WorkflowWorker")


@pytest.mark.parametrize("cache, given", [(5, 100), (5, 7), (50, 7), (0, 7), (1, 7)])
async def test_slots_shown_are_those_given_whatever_the_cache(address: str, cache: int, given: int) -> None:
    engine = shown(address)
    client = await Client.connect(address, runtime=engine.runtime)
    async with new_worker(
        client, Echo, Collect, max_cached_workflows=cache, max_concurrent_workflow_tasks=given
    ) as worker:
        queue = worker.task_queue
        ran = [client.execute_workflow(Echo.run, n, id=unique(), task_queue=queue) for n in range(3)]
        assert await asyncio.gather(*ran) == [0, 1, 2]

        async def idle() -> None:
            assert slots(await engine.page(), queue) == given

        await eventually(idle)
