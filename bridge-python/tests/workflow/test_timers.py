"""Time in a workflow: sleeps, conditions with a limit, and asyncio's own ways to wait."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.converter import default
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from workflow.stories import LONG, fail_and_replay, replay, run_and_replay, stage, start

pytestmark = pytest.mark.timeout(60)


@activity.defn
async def double(value: int) -> int:
    return 2 * value


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> float:
        before = workflow.now()
        await workflow.sleep(timedelta(milliseconds=20), summary="a short nap")
        await asyncio.sleep(0.03)
        return (workflow.now() - before).total_seconds()


async def test_sleeping_starts_a_timer_and_moves_the_clock(client: Client) -> None:
    async with stage(client, Sleeps) as worker:
        slept, told = await run_and_replay(worker, Sleeps.run)
    assert slept >= 0.05
    assert told.kinds()[1:-1] == ["TIMER_STARTED", "TIMER_FIRED"] * 2
    first, second = [event.timer_started_event_attributes for event in told.all("TIMER_STARTED")]
    assert [first.timer_id, second.timer_id] == ["1", "2"]
    assert first.start_to_fire_timeout.ToTimedelta() == timedelta(milliseconds=20)
    assert second.start_to_fire_timeout.ToTimedelta() == timedelta(milliseconds=30)
    summary = told.all("TIMER_STARTED")[0].user_metadata.summary
    assert default().payload_converter.from_payload(summary) == "a short nap"


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> str:
        await asyncio.sleep(0)
        await workflow.wait_condition(lambda: True)
        return "at once"


async def test_a_zero_sleep_of_asyncio_and_a_true_condition_ask_for_nothing(client: Client) -> None:
    async with stage(client, Nothing) as worker:
        result, told = await run_and_replay(worker, Nothing.run)
    assert result == "at once"
    assert told.kinds() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_COMPLETED"]


@workflow.defn
class Condition:
    """Waits with a limit, once in vain and once not."""

    @workflow.run
    async def run(self) -> list[str]:
        said = []
        try:
            await workflow.wait_condition(lambda: False, timeout=0.01, timeout_summary="in vain")
        except asyncio.TimeoutError:
            said.append("timed out")
        flag = False

        async def later() -> None:
            nonlocal flag
            await workflow.sleep(0.01)
            flag = True

        task = asyncio.create_task(later())
        await workflow.wait_condition(lambda: flag, timeout=timedelta(hours=1))
        await task
        return [*said, "came true"]


async def test_a_condition_with_a_limit_cancels_its_timer_when_it_comes_true(client: Client) -> None:
    async with stage(client, Condition) as worker:
        result, told = await run_and_replay(worker, Condition.run)
    assert result == ["timed out", "came true"]
    assert (told.count("TIMER_STARTED"), told.count("TIMER_FIRED")) == (3, 2)
    started = told.all("TIMER_STARTED")
    assert default().payload_converter.from_payload(started[0].user_metadata.summary) == "in vain"


@workflow.defn
class WaitFor:
    @workflow.run
    async def run(self) -> list[Any]:
        async def answer(after: float) -> int:
            await workflow.sleep(after)
            return 42

        said: list[Any] = [await asyncio.wait_for(answer(0.01), 3600)]
        try:
            await asyncio.wait_for(answer(3600), 0.01)
        except asyncio.TimeoutError:
            said.append("too slow")
        await workflow.execute_activity(double, 1, start_to_close_timeout=LONG)
        return said


async def test_wait_for_gives_up_in_time_and_cancels_what_it_waited_for(client: Client) -> None:
    async with stage(client, WaitFor, activities=[double]) as worker:
        result, told = await run_and_replay(worker, WaitFor.run)
    assert result == [42, "too slow"]
    assert (told.count("TIMER_STARTED"), told.count("TIMER_FIRED"), told.count("TIMER_CANCELED")) == (4, 2, 2)


@workflow.defn
class FirstOf:
    @workflow.run
    async def run(self) -> list[Any]:
        tasks = [asyncio.create_task(self.after(seconds)) for seconds in (3600, 0.01, 7200)]
        done, pending = await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return [[task.result() for task in done], len(pending), [tasks.index(task) for task in pending]]

    async def after(self, seconds: float) -> float:
        await workflow.sleep(seconds)
        return seconds


async def test_the_first_of_many_wins_and_the_others_are_cancelled(client: Client) -> None:
    async with stage(client, FirstOf) as worker:
        result, told = await run_and_replay(worker, FirstOf.run)
    assert result == [[0.01], 2, [0, 2]]
    assert (told.count("TIMER_STARTED"), told.count("TIMER_FIRED")) == (3, 1)


@workflow.defn
class InOrderOfEnd:
    @workflow.run
    async def run(self) -> list[float]:
        ends = []
        for next in workflow.as_completed([self.after(n) for n in (1.2, 0.01)]):
            ends.append(await next)
        return ends

    async def after(self, seconds: float) -> float:
        await workflow.sleep(seconds)
        return seconds


async def test_as_completed_gives_what_ends_first(client: Client) -> None:
    async with stage(client, InOrderOfEnd) as worker:
        result, _ = await run_and_replay(worker, InOrderOfEnd.run)
    assert result == [0.01, 1.2]


@workflow.defn
class Mixed:
    """A gather over everything one can wait for."""

    @workflow.run
    async def run(self) -> list[Any]:
        return list(
            await asyncio.gather(
                workflow.execute_activity(double, 1, start_to_close_timeout=LONG),
                workflow.execute_local_activity(double, 2, start_to_close_timeout=LONG),
                workflow.sleep(0.01),
                workflow.execute_activity(double, 3, start_to_close_timeout=LONG),
                self.later(),
            )
        )

    async def later(self) -> int:
        await workflow.sleep(0.01)
        return await workflow.execute_activity(double, 4, start_to_close_timeout=LONG)


async def test_gather_waits_for_all_kinds_at_once(client: Client) -> None:
    async with stage(client, Mixed, activities=[double]) as worker:
        result, _ = await run_and_replay(worker, Mixed.run)
    assert result == [2, 4, None, 6, 8]


@workflow.defn
class Group:
    """One task of the group fails: the others are cancelled, and what failed comes out."""

    @workflow.run
    async def run(self) -> None:
        async def fail() -> None:
            await workflow.sleep(0.01)
            raise ApplicationError("one of us", type="Black")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(3600))
                group.create_task(fail())
                group.create_task(asyncio.sleep(7200))
        except BaseException as group:
            raise getattr(group, "exceptions")[0] from None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with Python 3.11")
async def test_a_task_group_falls_together(client: Client) -> None:
    async with stage(client, Group) as worker:
        error, told = await fail_and_replay(worker, Group.run)
    assert isinstance(error, ApplicationError) and (error.type, error.message) == ("Black", "one of us")
    # A timer cancelled beside the end of the workflow need not be in its history.
    assert (told.count("TIMER_STARTED"), told.count("TIMER_FIRED")) == (3, 1)


@workflow.defn
class Many:
    @workflow.run
    async def run(self, count: int) -> int:
        fired = 0

        async def one(n: int) -> None:
            nonlocal fired
            await workflow.sleep(0.01 + n / 10_000)
            fired += 1

        doomed = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(count)]
        await asyncio.gather(*[one(n) for n in range(count)])
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        await workflow.sleep(0.01)
        return fired


async def test_hundreds_of_timers_fire_or_are_cancelled(client: Client) -> None:
    async with stage(client, Many) as worker:
        result, told = await run_and_replay(worker, Many.run, 150)
    assert result == 150
    assert (told.count("TIMER_FIRED"), told.count("TIMER_CANCELED")) == (151, 150)
    ids = [event.timer_started_event_attributes.timer_id for event in told.all("TIMER_STARTED")]
    assert ids == [f"{n + 1}" for n in range(301)]


@workflow.defn
class CancelsSleep:
    """A timer taken back in the breath it was asked for, and one taken back later."""

    @workflow.run
    async def run(self) -> list[bool]:
        at_once = asyncio.create_task(workflow.sleep(3600))
        await asyncio.sleep(0)
        at_once.cancel()
        later = asyncio.create_task(workflow.sleep(3600))
        await workflow.sleep(0.01)
        later.cancel()
        await workflow.sleep(0.01)
        return [at_once.cancelled(), later.cancelled()]


async def test_a_timer_taken_back_at_once_leaves_no_trace(client: Client) -> None:
    async with stage(client, CancelsSleep) as worker:
        result, told = await run_and_replay(worker, CancelsSleep.run)
    assert result == [True, True]
    assert (told.count("TIMER_STARTED"), told.count("TIMER_CANCELED"), told.count("TIMER_FIRED")) == (3, 1, 2)


@workflow.defn
class CancelsInOrder:
    """Cancels what it waits for in an order that may differ from run to run, as the order of a set does."""

    backwards = False

    @workflow.run
    async def run(self, what: str) -> None:
        tasks: list[asyncio.Task[Any]] = []
        for _ in range(3):
            if what == "timers":
                tasks.append(asyncio.create_task(workflow.sleep(3600)))
            elif what == "activities":
                tasks.append(workflow.start_activity("nobody", task_queue="nobody", start_to_close_timeout=LONG))
            else:
                kind = workflow.ChildWorkflowCancellationType.TRY_CANCEL
                tasks.append(await workflow.start_child_workflow(Year.run, cancellation_type=kind))
        await workflow.sleep(0.01)
        for task in tasks[:: -1 if CancelsInOrder.backwards else 1]:
            task.cancel()
        await workflow.sleep(0.01)


@pytest.mark.parametrize("what", ["timers", "activities", "children"])
async def test_cancellations_in_one_task_may_come_in_another_order_on_replay(
    client: Client, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Task groups, and sets of tasks, cancel in an order nobody decides."""
    async with stage(client, CancelsInOrder, Year) as worker:
        handle = await start(worker, CancelsInOrder.run, what)
        await handle.result()
        monkeypatch.setattr(CancelsInOrder, "backwards", True)
        await replay(worker, handle)


@workflow.defn
class Year:
    @workflow.run
    async def run(self) -> list[str]:
        start = workflow.now()
        await workflow.sleep(timedelta(days=365))
        return [start.isoformat(), workflow.now().isoformat()]


async def test_a_year_passes_on_a_server_that_skips_time(skipping: WorkflowEnvironment) -> None:
    async with stage(skipping.client, Year) as worker:
        handle = await start(worker, Year.run)
        before, after = [datetime.fromisoformat(text) for text in await handle.result()]
        await replay(worker, handle)
    assert after - before >= timedelta(days=365)


@workflow.defn
class Clock:
    """Time, randomness and ids are the same whenever the code runs again."""

    @workflow.run
    async def run(self) -> list[Any]:
        seen: list[Any] = []
        for _ in range(2):
            seen += [workflow.now().isoformat(), workflow.time(), workflow.random().random(), f"{workflow.uuid4()}"]
            await workflow.sleep(0.01)
        return seen


async def test_clock_random_numbers_and_ids_come_again_on_replay(client: Client) -> None:
    async with stage(client, Clock) as worker:
        result, told = await run_and_replay(worker, Clock.run)
        other, _ = await run_and_replay(worker, Clock.run)
    assert result[2] != other[2] and len(set(result)) == 8
    begun = told.all("WORKFLOW_TASK_STARTED")[0].event_time.ToDatetime()
    # The clock is a float of seconds, which may miss a microsecond.
    assert abs(datetime.fromisoformat(result[0]).replace(tzinfo=None) - begun) <= timedelta(microseconds=1)
