"""Runs in the cache when their worker ends: they leave it, if they go. And closed runs, which stay in no cache."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import new_worker
    from support import eventually, unique
    from temporalio.api.enums.v1 import EventType
    from temporalio.bridge.proto.workflow_activation import RemoveFromCache, WorkflowActivation
    from temporalio.client import Client, WorkflowContinuedAsNewError, WorkflowFailureError, WorkflowHandle
    from temporalio.exceptions import ApplicationError
    from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
    from temporalio.worker import Worker

ENDING = RemoveFromCache.EvictionReason.WORKFLOW_EXECUTION_ENDING
FULL = RemoveFromCache.EvictionReason.CACHE_FULL
UNSPECIFIED = RemoveFromCache.EvictionReason.UNSPECIFIED

told: dict[str, list[str]] = {}
"""By workflow id: what its code noticed of its end."""
made: dict[str, int] = {}
"""By run id: how many instances there were."""
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


@workflow.defn(sandboxed=False)
class Ends:
    """Ends in one way or another, or not by itself."""

    def __init__(self) -> None:
        run = workflow.info().run_id
        made[run] = made.get(run, 0) + 1

    @workflow.run
    async def run(self, way: str) -> str:
        if way == "fails":
            raise ApplicationError("as asked")
        if way == "continues":
            workflow.continue_as_new("completes")
        await workflow.wait_condition(lambda: way == "completes")
        return way

    @workflow.query
    def length(self) -> int:
        return workflow.info().get_current_history_length()


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


async def test_a_cached_run_is_evicted_at_the_end_of_its_worker(client: Client, id: str, engine: str) -> None:
    worker = new_worker(client, Waits)
    seen = watched(worker)
    async with worker:
        handle = await client.start_workflow(Waits.run, id=id, task_queue=worker.task_queue)
        assert await handle.query(Waits.here)
        before = len(seen)
    # The original leaves it to the garbage collector.
    expected = ([], None) if engine == "original" else ([UNSPECIFIED], ["CancelledError"])
    assert (evictions(seen[before:], handle.first_execution_run_id), told.get(id)) == expected
    await handle.terminate()


async def test_the_end_of_a_cancelled_worker_evicts_too(client: Client, id: str, engine: str) -> None:
    worker = new_worker(client, Waits)
    running = asyncio.create_task(worker.run())
    handle = await client.start_workflow(Waits.run, id=id, task_queue=worker.task_queue)
    assert await handle.query(Waits.here)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert told.get(id) == (None if engine == "original" else ["CancelledError"])
    await handle.terminate()


async def test_threads_of_the_program_are_left_to_it(client: Client, id: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        worker = new_worker(client, Waits, workflow_task_executor=threads, max_concurrent_workflow_tasks=4)
        async with worker:
            handle = await client.start_workflow(Waits.run, id=id, task_queue=worker.task_queue)
            assert await handle.query(Waits.here)
        assert threads.submit(int, "7").result() == 7
    await handle.terminate()


@workflow.defn(sandboxed=False)
class Stays:
    """Does not go, in one of several ways, until the gate is open."""

    @workflow.run
    async def run(self, way: str) -> None:
        id = workflow.info().workflow_id
        if way == "is deadlocked":
            entered.add(id)
            gate.wait()
        while id in holding:
            try:
                await workflow.wait_condition(lambda: False)
            except BaseException:
                entered.add(id)
                if way == "blocks":
                    gate.wait()
                if way == "waits again":
                    await asyncio.get_running_loop().create_future()

    @workflow.query
    def here(self) -> bool:
        return True


gate = threading.Event()
"""Closed as long as threads are to be blocked."""
entered: set[str] = set()
"""Ids of workflows that came to the place where they stay."""


@pytest.mark.parametrize(
    ("way", "safe"),
    [("spins", True), ("blocks", True), ("waits again", True), ("is deadlocked", True), ("is deadlocked", False)],
)
async def test_a_run_that_does_not_go_holds_up_the_end_only_so_long(
    client: Client, id: str, engine: str, way: str, safe: bool
) -> None:
    if engine == "original" and way == "is deadlocked":
        pytest.skip("the original waits for it without end")
    holding.add(id)
    gate.clear()
    worker = new_worker(client, Waits, Stays, disable_safe_workflow_eviction=not safe)
    running = asyncio.create_task(worker.run())
    try:
        handle = await client.start_workflow(Stays.run, way, id=id, task_queue=worker.task_queue)
        others = [
            await client.start_workflow(Waits.run, id=f"{id}-{n}", task_queue=worker.task_queue) for n in range(5)
        ]
        for other in others:
            assert await other.query(Waits.here)

        async def begun() -> None:
            assert id in entered

        if way == "is deadlocked":
            await eventually(begun)
        else:
            assert await handle.query(Stays.here)
        ending = asyncio.create_task(worker.shutdown())
        done, _ = await asyncio.wait([ending], timeout=20)
        assert done == {ending}
        await running
        if engine != "original" and safe:
            assert id in entered
            assert [told.pop(other.id, None) for other in others] == [["CancelledError"]] * 5
    finally:
        # Whatever came of it, nothing is left behind.
        holding.discard(id)
        entered.discard(id)
        gate.set()
        await asyncio.gather(worker.shutdown(), running)
    await handle.terminate()
    for other in others:
        await other.terminate()


async def closed(client: Client, id: str, way: str) -> WorkflowHandle[Any, Any]:
    """One run that ended in this way, without a worker now."""
    async with new_worker(client, Ends) as worker:
        handle = await client.start_workflow(Ends.run, way, id=id, task_queue=worker.task_queue)
        handle = client.get_workflow_handle(id, run_id=handle.first_execution_run_id)
        if way == "is cancelled":
            await handle.query(Ends.length)
            await handle.cancel()
        with contextlib.suppress(WorkflowFailureError, WorkflowContinuedAsNewError):
            await handle.result(follow_runs=False)
    return handle


WAYS = ["completes", "fails", "continues", "is cancelled"]


async def queue_of(handle: WorkflowHandle[Any, Any]) -> str:
    return (await handle.describe()).task_queue


@pytest.mark.parametrize("way", WAYS)
async def test_a_closed_run_leaves_the_cache_after_each_query(client: Client, id: str, way: str) -> None:
    handle = await closed(client, id, way)
    worker = new_worker(client, Ends, task_queue=await queue_of(handle))
    seen = watched(worker)
    run = str(handle.run_id)
    made.pop(run)
    async with worker:
        for count in range(1, 4):
            await handle.query(Ends.length)

            async def gone() -> None:
                assert evictions(seen, run) == [ENDING] * count

            await eventually(gone, 5)
            assert made[run] == count


async def test_closed_runs_that_were_asked_are_not_counted_as_cached(address: str) -> None:
    buffer = MetricBuffer(10_000)
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
    sizes: list[float] = []
    async with new_worker(client, Ends) as worker:
        for _ in range(3):
            handle = await client.start_workflow(Ends.run, "completes", id=unique(), task_queue=worker.task_queue)
            assert await handle.result() == "completes"
            await handle.query(Ends.length)

        async def empty() -> None:
            found = [u.value for u in buffer.retrieve_updates() if u.metric.name == "temporal_sticky_cache_size"]
            sizes.extend(found)
            assert sizes and sizes[-1] == 0

        await eventually(empty, 5)
    assert max(sizes) <= 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_query_of_a_closed_run_sees_the_length_of_its_whole_history(
    client: Client, id: str, way: str
) -> None:
    handle = await closed(client, id, way)
    events = (await handle.fetch_history()).events
    assert events[-2].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    async with new_worker(client, Ends, task_queue=await queue_of(handle)):
        assert await handle.query(Ends.length) == len(events)


async def test_without_a_cache_a_run_that_closed_leaves_for_want_of_room_too(client: Client, id: str) -> None:
    worker = new_worker(client, Ends, max_cached_workflows=0)
    seen = watched(worker)
    async with worker:
        handle = await client.start_workflow(Ends.run, "completes", id=id, task_queue=worker.task_queue)
        assert await handle.result() == "completes"

        async def gone() -> None:
            assert evictions(seen, handle.first_execution_run_id) == [FULL]

        await eventually(gone, 5)
