"""What the core tells a Python logger of activities whose end nobody waits for any more."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from logs import Kept, runtime
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy

TARGET = "temporalio_sdk_core::worker::activities"
ONCE = RetryPolicy(maximum_attempts=1)


FILTER = "error,temporalio_sdk_core=warn,temporal_sdk_bridge=info"


async def logged(address: str) -> tuple[Client, Kept]:
    """A client whose core tells of warnings, and where."""
    kept = Kept()
    return await Client.connect(address, runtime=runtime(kept, FILTER)), kept


async def all_told(client: Client, kept: Kept) -> list[Any]:
    """What was told until now: a record of ours comes after it."""
    engine = client.service_client.config.runtime
    assert engine
    engine._core_runtime.write_test_info_log("that was all", "")

    async def last() -> None:
        assert kept.entries and kept.entries[-1].message == "that was all"

    await eventually(last)
    return kept.entries[:-1]


class Late:
    """An activity that ends when it may, one way or the other."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = asyncio.Event()

    @activity.defn
    async def late(self, fails: bool) -> str:
        await self.may_end.wait()
        self.ended.set()
        if fails:
            raise RuntimeError("too late, too")
        return "too late"

    @activity.defn
    async def beats(self) -> None:
        try:
            while True:
                activity.heartbeat()
                await asyncio.sleep(0.05)
        finally:
            self.ended.set()


@workflow.defn
class OfLate:
    @workflow.run
    async def run(self, fails: bool) -> str:
        return await workflow.execute_activity_method(
            Late.late, fails, start_to_close_timeout=timedelta(seconds=1), retry_policy=ONCE
        )


@workflow.defn
class OfBeats:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity_method(
            Late.beats,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=1),
            retry_policy=ONCE,
        )


@pytest.mark.parametrize("fails", [False, True])
async def test_an_end_that_comes_too_late_is_one_warning(address: str, fails: bool) -> None:
    client, kept = await logged(address)
    late = Late()
    async with new_worker(client, OfLate, activities=[late.late]) as worker:
        with pytest.raises(WorkflowFailureError):
            await client.execute_workflow(OfLate.run, fails, id=unique(), task_queue=worker.task_queue)
        late.may_end.set()
        await asyncio.wait_for(late.ended.wait(), 20)
    told = await all_told(client, kept)
    assert [(entry.level, entry.target) for entry in told] == [(logging.WARNING, TARGET)]
    assert {"task_token", "details"} <= set(told[0].fields)


async def test_the_end_of_an_activity_that_was_told_it_is_gone_is_no_warning(address: str) -> None:
    client, kept = await logged(address)
    late = Late()
    async with new_worker(client, OfBeats, activities=[late.beats]) as worker:
        handle = await client.start_workflow(OfBeats.run, id=unique(), task_queue=worker.task_queue)

        async def seen() -> None:
            described = (await handle.describe()).raw_description
            assert [known for known in described.pending_activities if known.HasField("last_heartbeat_time")]

        await eventually(seen)
        await handle.terminate()
        await asyncio.wait_for(late.ended.wait(), 20)
    assert [entry.message for entry in await all_told(client, kept)] == []
