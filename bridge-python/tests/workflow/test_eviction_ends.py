"""Runs in the cache when their worker ends: they are not told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import new_worker
    from support import eventually, unique
    from temporalio.bridge.proto.workflow_activation import WorkflowActivation
    from temporalio.client import Client
    from temporalio.worker import Worker

told: dict[str, list[str]] = {}
"""By workflow id: what its code noticed of its end."""
holding: set[str] = set()
"""Ids of workflows that will not go."""


@workflow.defn(sandboxed=False)
class Waits:
    """Waits for ever, or until it is asked to stay no longer, and writes down what comes instead."""

    @workflow.run
    async def run(self) -> None:
        id = workflow.info().workflow_id
        while True:
            try:
                await workflow.wait_condition(lambda: False)
            except BaseException as error:
                told.setdefault(id, []).append(type(error).__name__)
                if id not in holding:
                    raise

    @workflow.query
    def here(self) -> bool:
        return True


def watched(worker: Worker) -> list[WorkflowActivation]:
    """The activations that the core gives to this worker, as they come."""
    bridge: Any = worker._bridge_worker
    poll = bridge.poll_workflow_activation
    seen: list[WorkflowActivation] = []

    async def noting() -> WorkflowActivation:
        activation: WorkflowActivation = await poll()
        seen.append(activation)
        return activation

    bridge.poll_workflow_activation = noting
    return seen


def evictions(seen: list[WorkflowActivation], run: str | None) -> list[int]:
    """The reasons of those that were evictions of this run."""
    jobs = [job for activation in seen if activation.run_id == run for job in activation.jobs]
    return [job.remove_from_cache.reason for job in jobs if job.HasField("remove_from_cache")]


@pytest.fixture
def id() -> Iterator[str]:
    id = unique()
    yield id
    holding.discard(id)
    told.pop(id, None)


async def test_a_cached_run_hears_nothing_of_the_end_of_its_worker(client: Client, id: str) -> None:
    worker = new_worker(client, Waits)
    seen = watched(worker)
    async with worker:
        handle = await client.start_workflow(Waits.run, id=id, task_queue=worker.task_queue)
        assert await handle.query(Waits.here)
        before = len(seen)
    assert (evictions(seen[before:], handle.first_execution_run_id), told.get(id)) == ([], None)
    await handle.terminate()


async def test_a_run_that_will_not_go_does_not_hold_up_the_end_of_its_worker(client: Client, id: str) -> None:
    holding.add(id)
    worker = new_worker(client, Waits)
    running = asyncio.create_task(worker.run())
    handle = await client.start_workflow(Waits.run, id=id, task_queue=worker.task_queue)
    assert await handle.query(Waits.here)
    ending = asyncio.create_task(worker.shutdown())
    done, _ = await asyncio.wait([ending], timeout=5)
    # Whatever came of it, nothing is left behind.
    holding.discard(id)
    await asyncio.gather(ending, running)
    await handle.terminate()
    assert done == {ending}
