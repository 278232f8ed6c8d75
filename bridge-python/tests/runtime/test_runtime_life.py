"""Runtimes themselves: settings that are refused, several at once, and what is left when one is gone."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from datetime import timedelta

import pytest
from support import eventually, new_worker, unique
from temporalio.client import Client
from temporalio.runtime import LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig

from runtime.scrape import free_address, scrape
from worker.programs import Greet, greet

HERE = os.path.dirname(os.path.dirname(__file__))


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(0), "worker_heartbeat_interval must be positive"),
        (timedelta(seconds=-1), "worker_heartbeat_interval must be positive"),
        (timedelta(milliseconds=1), "Invalid runtime options: heartbeat_interval (1ms) must be between 1s and 60s"),
        (timedelta(milliseconds=999), "Invalid runtime options: heartbeat_interval (999ms) must be between 1s and 60s"),
        (timedelta(seconds=61), "Invalid runtime options: heartbeat_interval (61s) must be between 1s and 60s"),
        (timedelta(hours=1), "Invalid runtime options: heartbeat_interval (3600s) must be between 1s and 60s"),
        (
            timedelta(milliseconds=60_500),
            "Invalid runtime options: heartbeat_interval (60.5s) must be between 1s and 60s",
        ),
    ],
)
def test_heartbeats_come_every_second_to_every_minute(interval: timedelta, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=interval)
    assert str(refused.value) == words


@pytest.mark.parametrize("interval", [timedelta(seconds=1), timedelta(seconds=60), None])
def test_the_bounds_of_the_interval_are_in_and_none_is_off(interval: timedelta | None) -> None:
    assert Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=interval)


def test_a_filter_that_makes_no_sense_is_ignored(capfd: pytest.CaptureFixture[str]) -> None:
    assert Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="=,=")))
    assert "invalid filter directive" in capfd.readouterr().err


async def test_a_client_keeps_its_runtime_alive(address: str) -> None:
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig()))
    gc.collect()
    async with new_worker(client, Greet, activities=[greet]) as worker:
        gc.collect()
        assert await client.execute_workflow(Greet.run, "a", id=unique(), task_queue=worker.task_queue) == "Hello, a!"


async def test_a_runtime_is_gone_with_its_last_user_and_closes_its_endpoint(address: str) -> None:
    endpoint = free_address()
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=endpoint)))
    core = weakref.ref(runtime._core_runtime)
    client = await Client.connect(address, runtime=runtime)
    del runtime
    async with new_worker(client, Greet, activities=[greet]) as worker:
        queue = worker.task_queue
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue)
    assert (await scrape(endpoint)).value("temporal_worker_start", task_queue=queue) == 1
    del client, worker

    async def gone() -> None:
        gc.collect()
        assert core() is None
        with pytest.raises(OSError):  # refused, or reset in the middle of the answer
            await scrape(endpoint)

    await eventually(gone)


async def test_runtimes_come_and_go_without_leaving_threads() -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    Runtime(telemetry=TelemetryConfig())
    gc.collect()
    before = threads()
    for _ in range(20):
        Runtime(telemetry=TelemetryConfig())

    async def settled() -> None:
        gc.collect()
        assert threads() <= before + 4

    await eventually(settled)


async def test_workers_of_two_runtimes_share_a_queue(address: str) -> None:
    clients = [await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig())) for _ in range(2)]
    queue = unique("queue")
    async with (
        new_worker(clients[0], Greet, activities=[greet], task_queue=queue),
        new_worker(clients[1], Greet, activities=[greet], task_queue=queue),
    ):
        ran = await asyncio.gather(
            *(clients[n % 2].execute_workflow(Greet.run, str(n), id=unique(), task_queue=queue) for n in range(8))
        )
    assert ran == [f"Hello, {n}!" for n in range(8)]


def test_a_loop_in_another_thread_uses_the_same_runtime(address: str) -> None:
    runtime = Runtime(telemetry=TelemetryConfig())
    results: list[str] = []

    async def work() -> None:
        client = await Client.connect(address, runtime=runtime)
        async with new_worker(client, Greet, activities=[greet]) as worker:
            results.append(
                await client.execute_workflow(Greet.run, "thread", id=unique(), task_queue=worker.task_queue)
            )

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == ["Hello, thread!"] * 3


PRELUDE = f"""
import os, sys
sys.path.insert(0, {HERE!r})
if os.environ.get("OUTLAST_ENGINE", "outlast") == "outlast":
    import outlast.compat.temporalio
    outlast.compat.temporalio.install()
import asyncio
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
"""


def alone(program: str, *arguments: str) -> str:
    """What the program prints in a process of its own."""
    argv = [sys.executable, "-c", PRELUDE + program, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_default_runtime_is_made_once_and_can_be_set_only_before() -> None:
    program = """
first = Runtime.default()
assert Runtime.default() is first
for attempt in (lambda: Runtime.set_default(Runtime(telemetry=TelemetryConfig())), Runtime.prevent_default):
    try:
        attempt()
    except RuntimeError as error:
        print(error)
other = Runtime(telemetry=TelemetryConfig())
Runtime.set_default(other, error_if_already_set=False)
assert Runtime.default() is other
"""
    assert alone(program).splitlines() == [
        "Runtime default already set",
        "Runtime.prevent_default called after default runtime has been created or set",
    ]


def test_the_default_runtime_can_be_forbidden() -> None:
    program = """
Runtime.prevent_default()
try:
    asyncio.run(Client.connect(sys.argv[1]))
except RuntimeError as error:
    print(error)
"""
    assert alone(program, "127.0.0.1:1") == (
        "Cannot create default Runtime after Runtime.prevent_default has been called"
    )


def test_a_child_process_cannot_use_the_runtime_of_its_parent(address: str) -> None:
    program = """
import multiprocessing
from worker.programs import Greet
from temporalio.worker import Worker

async def prepare():
    client = await Client.connect(sys.argv[1])
    return client, Worker(client, task_queue="forked", workflows=[Greet])

async def count():
    await client.count_workflows("")

async def connect():
    await Client.connect(sys.argv[1])

async def make():
    Worker(client, task_queue="forked-too", workflows=[Greet])

async def run():
    await worker.run()

def child():
    for attempt in (count, connect, make, run):
        try:
            asyncio.run(attempt())
        except AssertionError as error:
            print(str(error).split(" (")[0], flush=True)
        except BaseException as error:
            print(type(error), error, flush=True)
    os._exit(0)

client, worker = asyncio.run(prepare())
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
os._exit(0)
"""
    assert alone(program, address).splitlines() == [
        "Cannot use client across forks",
        "Cannot create client across forks",
        "Cannot create worker across forks",
        "Cannot use worker across forks",
    ]
