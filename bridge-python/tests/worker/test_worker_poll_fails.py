"""A poll that fails in Python while the core's own poll is open: how the worker ends, and what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import nexusrpc.handler
import pytest
from support import eventually, new_worker, unique
from temporalio.client import Client
from temporalio.worker import Worker

from worker.programs import Greet, greet


class Broken(Exception):
    """What a poll raises."""


@nexusrpc.handler.service_handler
class Idle:
    @nexusrpc.handler.sync_operation
    async def nothing(self, _ctx: nexusrpc.handler.StartOperationContext, _input: None) -> None: ...


class Saboteur:
    """Stands before one poll of a worker: passes its answers on, but fails as soon as told to. The open poll stays."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.bridge: Any = worker._bridge_worker
        self.name = name
        self.poll: Callable[[], Awaitable[bytes]] = getattr(self.bridge, name)
        self.open: asyncio.Future[bytes] | None = None
        self.strike: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        setattr(self.bridge, name, self.watched)

    def fail(self) -> None:
        self.strike.set_exception(Broken(self.name))

    async def watched(self) -> Any:
        self.open = self.open or asyncio.ensure_future(self.poll())
        waiting: set[asyncio.Future[Any]] = {self.open}
        if not self.strike.done() or self.strike.exception():
            waiting.add(self.strike)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.open.done():
            done, self.open = self.open, None
            return done.result()
        raised, self.strike = self.strike, asyncio.get_running_loop().create_future()
        raised.result()

    async def polling(self) -> None:
        async def is_open() -> None:
            assert self.open is not None

        await eventually(is_open)


POLLS = {"Workflow": "poll_workflow_activation", "Activity": "poll_activity_task", "Nexus": "poll_nexus_task"}


def worker_of_all(client: Client, **options: Any) -> Worker:
    return new_worker(client, Greet, activities=[greet], nexus_service_handlers=[Idle()], **options)


@pytest.mark.parametrize("kind", list(POLLS))
@pytest.mark.parametrize("early", [True, False])
async def test_a_poll_that_fails_ends_the_run_with_its_error(client: Client, kind: str, early: bool) -> None:
    worker = worker_of_all(client)
    trap = Saboteur(worker, POLLS[kind])
    if early:
        trap.fail()
        running = asyncio.create_task(worker.run())
    else:
        running = asyncio.create_task(worker.run())
        await trap.polling()
        trap.fail()
    with pytest.raises(RuntimeError, match=f"^{kind} worker failed$") as ended:
        await asyncio.wait_for(running, 20)
    assert isinstance(ended.value.__cause__, Broken)
    assert worker.is_shutdown and not worker.is_running


async def test_all_polls_that_fail_at_once_are_one_error(client: Client) -> None:
    worker = worker_of_all(client)
    for name in POLLS.values():
        Saboteur(worker, name).fail()
    with pytest.raises(RuntimeError, match="^(Workflow|Activity|Nexus) worker failed$") as ended:
        await asyncio.wait_for(worker.run(), 20)
    assert isinstance(ended.value.__cause__, Broken)


async def test_a_failed_poll_cancels_the_body_and_the_callback_hears_of_the_same_error(client: Client) -> None:
    told: list[BaseException] = []

    async def tell(error: BaseException) -> None:
        told.append(error)

    worker = worker_of_all(client, on_fatal_error=tell)
    trap = Saboteur(worker, "poll_workflow_activation")
    with pytest.raises(RuntimeError, match="^Workflow worker failed$") as ended:
        async with worker:
            await trap.polling()
            trap.fail()
            await asyncio.Event().wait()
    assert told == [ended.value]


async def test_what_the_body_raises_of_its_cancellation_wins(client: Client) -> None:
    worker = worker_of_all(client)
    trap = Saboteur(worker, "poll_workflow_activation")
    with pytest.raises(LookupError) as ended:
        async with worker:
            trap.fail()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                raise LookupError from cancelled
    assert isinstance(ended.value.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("kind", ["Workflow", "Activity"])
async def test_the_queue_is_free_for_the_same_client_after_a_failed_poll(client: Client, kind: str) -> None:
    queue = unique("queue")
    for _ in range(3):
        worker = worker_of_all(client, task_queue=queue)
        trap = Saboteur(worker, POLLS[kind])
        trap.fail()
        with pytest.raises(RuntimeError, match=f"^{kind} worker failed$"):
            await asyncio.wait_for(worker.run(), 20)
    async with worker_of_all(client, task_queue=queue):
        assert await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue) == "Hello, you!"
