"""Forks of a process whose runtime is at work: what a child may not do is told it in words, and it ends like any process."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest
from support import new_worker, unique
from temporalio.client import Client
from temporalio.worker import Worker

from worker.programs import Collect, Greet, greet

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def child(pipe: Connection, attempt: Callable[[], Awaitable[Any]]) -> None:
    """Tries on a loop of its own, sends what came of it, and lets go of all that it inherited."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(attempt())
        pipe.send(("nothing", ""))
    except BaseException as error:
        pipe.send((type(error).__name__, str(error)))
    pipe.close()
    gc.collect()


def forked(attempt: Callable[[], Awaitable[Any]]) -> tuple[str, str]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(there, attempt))
    process.start()
    there.close()
    assert here.poll(20), "the child says nothing"
    told: tuple[str, str] = here.recv()
    here.close()
    process.join(20)
    assert process.exitcode == 0
    return told


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_a_child_is_told_what_it_may_not_do(client: Client, address: str, busy: bool) -> None:
    made = Worker(client, task_queue=unique("queue"), activities=[greet])

    async def connects() -> None:
        await Client.connect(address, runtime=client.service_client.config.runtime)

    async def calls() -> None:
        await client.start_workflow("some", id=unique(), task_queue="some")

    async def makes() -> None:
        Worker(client, task_queue=unique("queue"), activities=[greet])

    async def runs() -> None:
        await made.run()

    def all_of_them() -> list[tuple[str, str]]:
        return [forked(attempt) for attempt in (connects, calls, makes, runs)]

    if busy:
        async with new_worker(client, Collect, Greet, activities=[greet]) as worker:
            handle = await client.start_workflow(Collect.run, id=unique(), task_queue=worker.task_queue)
            await handle.execute_update(Collect.ask, "before")
            told = all_of_them()
            await handle.execute_update(Collect.ask, "stop")
            assert await handle.result() == ["before", "stop"]
    else:
        told = all_of_them()
    assert [name for name, _ in told] == ["AssertionError"] * 4
    assert [text.split(" (")[0] for _, text in told] == [
        "Cannot create client across forks",
        "Cannot use client across forks",
        "Cannot create worker across forks",
        "Cannot use worker across forks",
    ]
