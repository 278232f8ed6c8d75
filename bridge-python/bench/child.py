"""One measurement in a process of its own: `child.py ENGINE PART [ARGUMENT...]`, the answer as one line of JSON.

    cycles ADDRESS COMPRESSION COUNT   CPU per workflow of 1 and of 10 activities
    replay ACTIVITIES TIMES            CPU of replaying one history
    cached ADDRESS COUNT               memory of a cached workflow that waits
    ends ADDRESS COUNT                 the end of a worker with so many cached workflows, from the wish to the return of `run()`
    hello ADDRESS                      when the first result came and when the stop began, by the monotonic clock
    import                             how long the native module takes to import
"""

from __future__ import annotations

import sys
import time

ENGINE, PART, *ARGUMENTS = sys.argv[1:]

if PART == "import":
    # By its file, so that no Python package around it is imported with it.
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import find_spec, module_from_spec, spec_from_file_location
    from pathlib import Path

    package, stem = ("outlast", "_native") if ENGINE == "outlast" else ("temporalio", "temporal_sdk_bridge")
    around = find_spec(package)
    assert around and around.submodule_search_locations
    path = str(next(Path(around.submodule_search_locations[0]).rglob(f"{stem}.*so")))
    before = time.perf_counter()
    spec = spec_from_file_location(stem, path, loader=ExtensionFileLoader(stem, path))
    assert spec and spec.loader
    spec.loader.exec_module(module_from_spec(spec))
    print((time.perf_counter() - before) * 1_000)
    sys.exit(0)

if ENGINE == "outlast":
    import outlast.compat.temporalio

    outlast.compat.temporalio.install()

import asyncio
import gc
import json
import os
import statistics
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import history
from meter import Cpu, resident_kib
from temporalio.client import Client
from temporalio.service import GrpcCompression
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker
from work import Blocked, Steps, step

IN_FLIGHT = 20
"""Workflows that run at once."""


def new_worker(client: Client, cached: int = 1_000, **more: Any) -> Worker:
    """Defaults, but for the sandbox, which costs Python's time whatever the engine."""
    return Worker(
        client,
        task_queue=f"queue-{uuid.uuid4()}",
        workflows=[Steps, Blocked],
        activities=[step],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=cached,
        **more,
    )


async def cycles(address: str, compression: str, count: str) -> dict[str, Any]:
    client = await Client.connect(address, grpc_compression=getattr(GrpcCompression, compression.upper()))
    async with new_worker(client) as worker:
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(activities: int) -> None:
            async with gate:
                name = f"bench-{uuid.uuid4()}"
                result = await client.execute_workflow(Steps.run, activities, id=name, task_queue=worker.task_queue)
                assert result == activities

        async def measure(activities: int, workflows: int) -> dict[str, float]:
            before = Cpu.now()
            await asyncio.gather(*(one(activities) for _ in range(workflows)))
            return Cpu.now().since(before, workflows)

        await measure(2, 2 * IN_FLIGHT)
        return {"1": await measure(1, int(count)), "10": await measure(10, int(count) // 4)}


async def replay(activities: str, times: str) -> dict[str, Any]:
    # Ours, so that its threads outlive the replay and are known to be Python's when the clocks are read.
    threads = ThreadPoolExecutor(8)
    replayer = Replayer(workflows=[Steps], workflow_runner=UnsandboxedWorkflowRunner(), workflow_task_executor=threads)
    await replayer.replay_workflow(history.activities(20))
    recorded = history.activities(int(activities))
    assert len(recorded.events) == 5 + 6 * int(activities)
    rounds = []
    for _ in range(int(times)):
        before = Cpu.now()
        await replayer.replay_workflow(recorded)
        rounds.append(Cpu.now().since(before, 1))
    return {what: statistics.median(round[what] for round in rounds) for what in rounds[0]}


async def cached(address: str, count: str) -> dict[str, Any]:
    client = await Client.connect(address)
    async with new_worker(client, cached=int(count) + 200) as worker:

        async def resident_with(workflows: int) -> tuple[int, list[str]]:
            names = await fill(client, worker, workflows)
            gc.collect()
            return resident_kib(), names

        before, few = await resident_with(200)
        after, many = await resident_with(int(count))
        await terminate(client, few + many)
        return {"kib": (after - before) / int(count)}


async def fill(client: Client, worker: Worker, workflows: int) -> list[str]:
    """So many workflows that wait, in the worker's cache; their ids."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> str:
        async with gate:
            name = f"bench-{uuid.uuid4()}"
            handle = await client.start_workflow(Blocked.run, id=name, task_queue=worker.task_queue)
            # Answered from the cache: the workflow is there.
            await handle.query("__stack_trace")
            return name

    return await asyncio.gather(*(one() for _ in range(workflows)))


async def terminate(client: Client, names: list[str]) -> None:
    await asyncio.gather(*(client.get_workflow_handle(name).terminate() for name in names))


async def ends(address: str, count: str) -> dict[str, Any]:
    client = await Client.connect(address)
    # Its threads outlive the worker, so that they are known to be Python's when the clocks are read.
    worker = new_worker(client, cached=max(int(count), 1_000), workflow_task_executor=ThreadPoolExecutor(500))
    running = asyncio.create_task(worker.run())
    # It has started, and has nothing of this in its cache any more.
    await client.execute_workflow(Steps.run, 0, id=f"bench-{uuid.uuid4()}", task_queue=worker.task_queue)
    names = await fill(client, worker, int(count))
    before = Cpu.now()
    await worker.shutdown()
    await running
    spent = Cpu.now().since(before, 1)
    await terminate(client, names)
    return spent


async def hello(address: str) -> dict[str, Any]:
    client = await Client.connect(address)
    worker = new_worker(client)
    async with worker:
        name = f"bench-{uuid.uuid4()}"
        assert await client.execute_workflow(Steps.run, 1, id=name, task_queue=worker.task_queue) == 1
        result = time.monotonic()
    return {"result": result, "worker_stopped": time.monotonic()}


def main() -> None:
    parts: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"cycles": cycles, "replay": replay, "cached": cached, "ends": ends, "hello": hello}

    async def measure() -> dict[str, Any]:
        return await parts[PART](*ARGUMENTS)

    print(json.dumps(asyncio.run(measure())), flush=True)
    if PART != "hello":
        # The original aborts now and then at the interpreter's end; only `hello` measures that end.
        os._exit(0)


main()
