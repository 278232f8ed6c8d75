"""The workflows that move between engines. `Account` lives long: it does what signals and updates ask for, in every way a workflow
can, keeps a journal of it, and continues as new every few entries. What it returns depends on what was asked alone.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

PATCHED = os.environ.get("FLEET_PATCHED") == "1"
"""The second version of the code, which guards what is new in it with patches."""

ENTRIES_A_RUN = 6
KINDS = ["activity", "flaky", "local", "flaky_local", "timer", "child", "patch", "together", "cancelled_timer"]
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_interval=timedelta(milliseconds=200))
LIMIT = timedelta(seconds=2)


@dataclass
class Entry:
    """Something to do, under a name of its own."""

    key: str
    kind: str
    number: int


@dataclass
class Book:
    """What a run hands to the next."""

    journal: dict[str, int] = field(default_factory=dict)
    waiting: list[Entry] = field(default_factory=list)
    closed: bool = False
    repeated: int = 0
    runs: int = 1


@activity.defn
async def double(number: int) -> int:
    await asyncio.sleep(0.02)
    return 2 * number


@activity.defn
async def flaky_double(number: int) -> int:
    """Fails twice. A worker that is killed in between makes it fail more often; the answer is the same."""
    if activity.info().attempt < 3:
        raise ApplicationError("not yet")
    return 2 * number


@workflow.defn
class Doubler:
    """A child: one activity."""

    @workflow.run
    async def run(self, number: int) -> int:
        return await workflow.execute_activity(double, number, start_to_close_timeout=LIMIT, retry_policy=QUICKLY)


@workflow.defn
class Account:
    @workflow.init
    def __init__(self, book: Book) -> None:
        self.book = book
        self.entries = 0

    @workflow.run
    async def run(self, book: Book) -> Book:
        while book.waiting or not book.closed:
            await workflow.wait_condition(lambda: bool(book.waiting) or book.closed or self.entries >= ENTRIES_A_RUN)
            if book.waiting:
                await self.enter(book.waiting.pop(0))
            if self.entries >= ENTRIES_A_RUN and not book.closed:
                await workflow.wait_condition(workflow.all_handlers_finished)
                book.runs += 1
                workflow.continue_as_new(book)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return book

    @workflow.signal
    def add(self, entry: Entry) -> None:
        self.book.waiting.append(entry)

    @workflow.signal
    def close(self) -> None:
        self.book.closed = True

    @workflow.update
    async def enter_now(self, entry: Entry) -> int:
        if entry.key not in self.book.journal:
            await self.enter(entry)
        return self.book.journal[entry.key]

    @enter_now.validator
    def check(self, entry: Entry) -> None:
        if entry.kind not in KINDS:
            raise ValueError(f"nobody can do {entry.kind}")

    @workflow.query
    def entered(self) -> int:
        return len(self.book.journal)

    async def enter(self, entry: Entry) -> None:
        result = await perform(entry)
        self.book.repeated += entry.key in self.book.journal
        self.book.journal[entry.key] = result
        self.entries += 1


async def perform(entry: Entry) -> int:
    number = entry.number
    match entry.kind:
        case "activity":
            return await remote(number)
        case "flaky":
            return await workflow.execute_activity(
                flaky_double, number, start_to_close_timeout=LIMIT, retry_policy=QUICKLY
            )
        case "local":
            return await local(number)
        case "flaky_local":
            return await workflow.execute_local_activity(
                flaky_double, number, start_to_close_timeout=LIMIT, retry_policy=QUICKLY
            )
        case "timer":
            await asyncio.sleep(0.05)
            return 2 * number
        case "child":
            return await workflow.execute_child_workflow(
                Doubler.run, number, id=f"{workflow.info().workflow_id}/{entry.key}", task_timeout=LIMIT
            )
        case "patch":
            # What was an activity became a local one: in the first version nothing asks.
            return await local(number) if PATCHED and workflow.patched("became local") else await remote(number)
        case "together":
            return (await asyncio.gather(remote(number), local(number), remote(0)))[0]
        case "cancelled_timer":
            sleeper = asyncio.create_task(asyncio.sleep(600))
            # Not a local activity: one that ends while its task is prolonged makes the original record what it cannot replay.
            answer = await remote(number)
            sleeper.cancel()
            try:
                await sleeper
            except asyncio.CancelledError:
                return answer
            raise AssertionError("a cancelled timer fired")
        case kind:
            raise AssertionError(kind)


async def remote(number: int) -> int:
    return await workflow.execute_activity(double, number, start_to_close_timeout=LIMIT, retry_policy=QUICKLY)


async def local(number: int) -> int:
    return await workflow.execute_local_activity(double, number, start_to_close_timeout=LIMIT, retry_policy=QUICKLY)
