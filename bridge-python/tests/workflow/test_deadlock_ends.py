"""Workflow threads that cannot be interrupted, and coroutines that will not go: workers live with them, and end."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker
    from support import SOON, eventually, unique
    from temporalio.client import Client

DEADLOCK = "[TMPRL1101] Potential deadlock detected: workflow didn't yield within 2 second(s)."

gates: dict[str, threading.Event] = {}
"""By the prefix of workflow ids: what their threads wait for."""
left: dict[str, int] = {}
"""How many threads came out of there."""
lock = threading.Lock()


def gate_of(id: str) -> str:
    return id.split("/")[0]


@workflow.defn(sandboxed=False)
class Stuck:
    """Waits where nothing wakes a thread but the gate."""

    @workflow.run
    async def run(self) -> str:
        gate = gate_of(workflow.info().workflow_id)
        try:
            gates[gate].wait()
        finally:
            with lock:
                left[gate] += 1
        return "through"


@workflow.defn(sandboxed=False)
class Spinning:
    """Never yields, but can be interrupted."""

    @workflow.run
    async def run(self) -> None:
        try:
            while True:
                pass
        finally:
            with lock:
                left[gate_of(workflow.info().workflow_id)] += 1


@workflow.defn(sandboxed=False)
class Plain:
    @workflow.run
    async def run(self) -> str:
        return "done"


@pytest.fixture
def gate() -> Iterator[str]:
    name = unique("gate")
    gates[name], left[name] = threading.Event(), 0
    yield name
    gates[name].set()


async def test_a_thread_that_cannot_be_interrupted_goes_on_when_it_may_and_the_worker_ends(
    client: Client, gate: str
) -> None:
    async with new_worker(client, Stuck) as worker:
        handle = await client.start_workflow(Stuck.run, id=f"{gate}/1", task_queue=worker.task_queue)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        assert failed.failure.message == DEADLOCK
        assert left[gate] == 0
        gates[gate].set()
        assert await handle.result() == "through"
        assert left[gate] >= 2
        ending = time.monotonic()
    assert time.monotonic() - ending < SOON


async def test_a_thread_that_spins_is_interrupted_and_the_worker_ends(client: Client, gate: str) -> None:
    async with new_worker(client, Spinning) as worker:
        handle = await client.start_workflow(Spinning.run, id=f"{gate}/1", task_queue=worker.task_queue)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        assert failed.failure.message == DEADLOCK

        async def interrupted() -> None:
            assert left[gate] >= 1

        await eventually(interrupted)
        ending = time.monotonic()
    assert time.monotonic() - ending < SOON
    await handle.terminate()


async def test_stuck_threads_leave_room_for_others(
    client: Client, gate: str
) -> None:
    count = (os.cpu_count() or 1) + 5
    async with new_worker(client, Stuck, Plain, max_concurrent_workflow_tasks=count + 6) as worker:
        stuck = await asyncio.gather(
            *(
                client.start_workflow(Stuck.run, id=f"{gate}/{i}", task_queue=worker.task_queue)
                for i in range(count)
            )
        )
        for failures in await asyncio.gather(*(awaited(handle, "workflow_task_failed") for handle in stuck)):
            assert failures[0].failure.message == DEADLOCK
        plain = client.execute_workflow(Plain.run, id=unique(), task_queue=worker.task_queue)
        assert await asyncio.wait_for(plain, SOON) == "done"
        assert left[gate] == 0
        gates[gate].set()

        async def all_left() -> None:
            assert left[gate] >= count

        await eventually(all_left)
        ending = time.monotonic()
    assert time.monotonic() - ending < SOON
    for handle in stuck:
        if (await kinds(handle))[-1] != "workflow_execution_completed":
            await handle.terminate()


staying = {"yes"}
"""Empty once the coroutine below may go."""


@workflow.defn(sandboxed=False)
class Clinging:
    """Ends, but leaves a coroutine that takes no for an answer."""

    @workflow.run
    async def run(self) -> str:
        async def cling() -> None:
            while staying:
                try:
                    await workflow.wait_condition(lambda: False)
                except BaseException:
                    pass

        self.clings = asyncio.create_task(cling())
        return "done"


async def test_a_coroutine_that_swallows_its_eviction_is_told_of_and_holds_the_end_up_only_while_it_does(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    staying.add("yes")
    async with new_worker(client, Clinging) as worker:
        handle = await client.start_workflow(Clinging.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == "done"

        async def told() -> None:
            begin = f"Timed out running eviction job for run ID {handle.result_run_id}"
            assert any(record.getMessage().startswith(begin) for record in caplog.records)

        await eventually(told)
        staying.clear()
        ending = time.monotonic()
    assert time.monotonic() - ending < SOON


evictions: dict[str, list[tuple[bool, str]]] = {}


@workflow.defn(sandboxed=False)
class Notices:
    """Writes down what it is thrown out with, and whether that is while replaying."""

    @workflow.run
    async def run(self) -> None:
        try:
            await asyncio.sleep(0.01)
        except BaseException as error:
            noticed = (workflow.unsafe.is_replaying(), type(error).__name__)
            evictions.setdefault(workflow.info().workflow_id, []).append(noticed)


async def test_without_a_cache_a_run_is_thrown_out_once_per_task_but_the_last_as_if_replaying(
    client: Client,
) -> None:
    id = unique()
    async with new_worker(client, Notices, max_cached_workflows=0) as worker:
        await client.execute_workflow(Notices.run, id=id, task_queue=worker.task_queue)
    assert evictions.pop(id) == [(True, "_WorkflowBeingEvictedError")]
    assert len(await found(client.get_workflow_handle(id), "workflow_task_completed")) == 2
