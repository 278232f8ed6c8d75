"""Workers with Nexus services: how they end, how much they take at once, whose client handlers have, what they count."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from conftest import free_port
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import SOON, eventually, new_worker, unique
from temporalio import nexus, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.runtime import BUFFERED_METRIC_KIND_COUNTER, MetricBuffer, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker


@workflow.defn(sandboxed=False)
class Calling:
    @workflow.run
    async def run(self, endpoint: str, operation: str, argument: Any = None) -> Any:
        service = workflow.create_nexus_client(service="Service", endpoint=endpoint)
        return await service.execute_operation(operation, argument)


@service_handler(name="Service")
class Ending:
    """Operations that end when the worker does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.known: list[bool] = []

    @sync_operation
    async def waits(self, ctx: StartOperationContext, _: None) -> str:
        self.known.append(nexus.is_worker_shutdown())
        self.begun.set()
        await nexus.wait_for_worker_shutdown()
        self.known.append(nexus.is_worker_shutdown())
        return "in time"

    @sync_operation
    def waits_in_a_thread(self, ctx: StartOperationContext, _: None) -> str:
        self.begun.set()
        nexus.wait_for_worker_shutdown_sync(30)
        return "in time"

    @sync_operation
    async def hangs(self, ctx: StartOperationContext, _: None) -> str:
        self.begun.set()
        try:
            while True:
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            return f"cancelled {ctx.task_cancellation.cancellation_reason()}"


@asynccontextmanager
async def called(port: Port, worker: Worker, operation: str) -> AsyncIterator[WorkflowHandle[Any, Any]]:
    """A workflow on a worker of its own that calls this operation of the other worker."""
    endpoint = unique("endpoint")
    await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
    async with new_worker(port.client, Calling) as caller:
        yield await port.client.start_workflow(
            Calling.run, args=[endpoint, operation], id=unique(), task_queue=caller.task_queue
        )


@pytest.mark.parametrize("operation", ["waits", "waits_in_a_thread"])
async def test_an_operation_may_end_within_the_grace(port: Port, operation: str) -> None:
    ending = Ending()
    with ThreadPoolExecutor(2) as pool:
        worker = new_worker(
            port.client,
            nexus_service_handlers=[ending],
            nexus_task_executor=pool,
            graceful_shutdown_timeout=timedelta(seconds=90),
        )
        async with called(port, worker, operation) as handle:
            running = asyncio.create_task(worker.run())
            assert await asyncio.to_thread(ending.begun.wait, SOON)
            began = time.monotonic()
            await worker.shutdown()
            await running
            assert time.monotonic() - began < SOON
            assert await handle.result() == "in time"
    assert ending.known == ([False, True] if operation == "waits" else [])


async def test_an_operation_is_cancelled_without_a_grace_and_may_still_answer(port: Port) -> None:
    ending = Ending()
    with ThreadPoolExecutor(2) as pool:
        worker = new_worker(port.client, nexus_service_handlers=[ending], nexus_task_executor=pool)
        async with called(port, worker, "hangs") as handle:
            running = asyncio.create_task(worker.run())
            assert await asyncio.to_thread(ending.begun.wait, SOON)
            began = time.monotonic()
            await worker.shutdown()
            await running
            assert time.monotonic() - began < SOON
            assert await handle.result() == "cancelled WORKER_SHUTDOWN"


@pytest.mark.parametrize(("calls", "most", "begun"), [(1, 1, 1), (2, 1, 1)])
async def test_no_more_operations_run_at_once_than_may(port: Port, calls: int, most: int, begun: int) -> None:
    seen: list[int] = []
    gate = asyncio.Event()

    @service_handler(name="Service")
    class Gated:
        @sync_operation
        async def enter(self, ctx: StartOperationContext, number: int) -> None:
            seen.append(number)
            await gate.wait()

    async with new_worker(
        port.client, Calling, nexus_service_handlers=[Gated()], max_concurrent_nexus_tasks=most
    ) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        handles = [
            await port.client.start_workflow(
                Calling.run, args=[endpoint, "enter", number], id=unique(), task_queue=worker.task_queue
            )
            for number in range(calls)
        ]

        async def full() -> None:
            assert len(seen) >= begun

        await eventually(full)
        # Time for one too many.
        await asyncio.sleep(0.3)
        assert len(seen) == len(set(seen)) == begun
        gate.set()
        await asyncio.gather(*(handle.result() for handle in handles))
    assert sorted(seen) == list(range(calls))


async def test_a_handler_has_the_client_of_its_worker_even_a_new_one(port: Port) -> None:
    clients: list[Client] = []

    @service_handler(name="Service")
    class Looking:
        @sync_operation
        async def look(self, ctx: StartOperationContext, _: None) -> None:
            clients.append(nexus.client())

    other = await port.env.connect_client(runtime=port.client.service_client.config.runtime)
    async with new_worker(port.client, nexus_service_handlers=[Looking()]) as worker:
        async with called(port, worker, "look") as handle:
            await handle.result()
        worker.client = other
        async with called(port, worker, "look") as handle:
            await handle.result()
    assert [client is port.client for client in clients] == [True, False]
    assert clients[1] is other


@service_handler(name="Service")
class Counting:
    @sync_operation
    async def count(self, ctx: StartOperationContext, _: None) -> None:
        self.add()

    @sync_operation
    def count_in_a_thread(self, ctx: StartOperationContext, _: None) -> None:
        self.add()

    def add(self) -> None:
        counter = nexus.metric_meter().create_counter("pigeons-sent", "all of them", "birds")
        counter.add(12)
        counter.add(30, {"wind-speed": 12.5})


async def count(client: Client, port: Port) -> str:
    """Both operations on this client's runtime; the queue of their worker."""
    with ThreadPoolExecutor(2) as pool:
        worker = new_worker(client, nexus_service_handlers=[Counting()], nexus_task_executor=pool)
        async with worker:
            for operation in ("count", "count_in_a_thread"):
                async with called(port, worker, operation) as handle:
                    await handle.result()
    return worker.task_queue


async def test_counters_of_operations_are_buffered_with_their_attributes(port: Port) -> None:
    buffer = MetricBuffer(10000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer, metric_prefix="outlast_test_"))
    assert buffer.retrieve_updates() == []
    client = await port.env.connect_client(runtime=runtime)
    queue = await count(client, port)
    updates = [update for update in buffer.retrieve_updates() if update.metric.name == "pigeons-sent"]
    assert {(update.metric.kind, update.metric.description, update.metric.unit) for update in updates} == {
        (BUFFERED_METRIC_KIND_COUNTER, "all of them", "birds")
    }
    for operation in ("count", "count_in_a_thread"):
        found = [update for update in updates if update.attributes["nexus_operation"] == operation]
        assert [update.value for update in found] == [12, 30]
        for update in found:
            assert update.attributes["nexus_service"] == "Service"
            assert update.attributes["task_queue"] == queue
        assert "wind-speed" not in found[0].attributes
        assert found[1].attributes["wind-speed"] == 12.5


async def test_counters_of_operations_are_scraped_with_their_labels(port: Port) -> None:
    address = f"127.0.0.1:{free_port()}"
    metrics = PrometheusConfig(bind_address=address)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=metrics, metric_prefix="foo_"))
    queue = await count(await port.env.connect_client(runtime=runtime), port)
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{address}/metrics").read().decode())
    lines = [line for line in page.splitlines() if "pigeons_sent" in line]
    assert "# HELP pigeons_sent all of them" in lines
    for operation in ("count", "count_in_a_thread"):
        found = [line for line in lines if f'nexus_operation="{operation}"' in line]
        assert all('nexus_service="Service"' in line and f'task_queue="{queue}"' in line for line in found)
        assert sorted(line.rsplit(" ", 1)[1] for line in found) == ["12", "30"]
        assert sum('wind_speed="12.5"' in line for line in found) == 1
