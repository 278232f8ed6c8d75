"""Signals: whenever they come, in order, to handlers that are there, come later, or are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from workflow.stories import LONG, failure_of, replay, stage, start, until

pytestmark = pytest.mark.timeout(60)


@workflow.defn
class Collects:
    """Collects what it is told until it has enough."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.before_run: int | None = None

    @workflow.run
    async def run(self, enough: int) -> list[Any]:
        self.before_run = len(self.heard)
        await workflow.wait_condition(lambda: len(self.heard) >= enough)
        return [self.before_run, *self.heard]

    @workflow.signal
    def plain(self, value: Any) -> None:
        self.heard.append(value)

    @workflow.signal(name="renamed")
    async def async_one(self, one: int, two: str) -> None:
        await asyncio.sleep(0)
        self.heard.append([one, two])

    @workflow.signal
    def nothing(self) -> None:
        self.heard.append("nothing")


async def test_values_of_every_shape_arrive(client: Client) -> None:
    async with stage(client, Collects) as worker:
        handle = await start(worker, Collects.run, 4)
        await handle.signal(Collects.plain, {"a": [1, None]})
        await handle.signal(Collects.nothing)
        await handle.signal("renamed", args=[1, "two"])
        await handle.signal(Collects.plain, None)
        result = await handle.result()
        await replay(worker, handle)
    heard = result[1:]
    assert len(heard) == 4 and all(value in heard for value in ({"a": [1, None]}, "nothing", [1, "two"], None))


async def test_signals_before_the_first_task_are_heard_in_order(client: Client) -> None:
    """They are handled before the workflow's body begins."""
    idle = stage(client, Collects)
    handle = await start(idle, Collects.run, 21, start_signal="plain", start_signal_args=[-1])
    for n in range(20):
        await handle.signal(Collects.plain, n)
    async with idle:
        assert await handle.result() == [21, *range(-1, 20)]
        story = await replay(idle, handle)
    assert story.count("WORKFLOW_EXECUTION_SIGNALED") == 21
    assert story.count("WORKFLOW_TASK_COMPLETED") == 1


async def test_signals_keep_their_order_over_many_tasks(client: Client) -> None:
    async with stage(client, Collects) as worker:
        handle = await start(worker, Collects.run, 60)
        for n in range(60):
            await handle.signal(Collects.plain, n)
        assert (await handle.result())[1:] == [*range(60)]
        await replay(worker, handle)


async def test_signals_sent_at_once_are_all_heard_once(client: Client) -> None:
    async with stage(client, Collects) as worker:
        handle = await start(worker, Collects.run, 40)
        await asyncio.gather(*[handle.signal(Collects.plain, n) for n in range(40)])
        assert sorted((await handle.result())[1:]) == [*range(40)]
        await replay(worker, handle)


@workflow.defn
class Dynamic:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_condition(lambda: len(self.heard) == 3)
        return self.heard

    @workflow.signal
    def known(self) -> None:
        self.heard.append("known")

    @workflow.signal(dynamic=True)
    async def unknown(self, name: str, args: Sequence[RawValue]) -> None:
        values = [workflow.payload_converter().from_payload(arg.payload) for arg in args]
        self.heard.append([name, *values])


async def test_unknown_signals_reach_the_dynamic_handler(client: Client) -> None:
    async with stage(client, Dynamic) as worker:
        handle = await start(worker, Dynamic.run)
        await handle.signal("strange", args=[1, "x"])
        await handle.signal("known")
        await handle.signal("stranger")
        assert await handle.result() == [["strange", 1, "x"], "known", ["stranger"]]
        await replay(worker, handle)


@workflow.defn
class LateHandlers:
    """Sets its handlers when it is asked to; what came before was kept."""

    def __init__(self) -> None:
        self.ready = False
        self.heard: list[Any] = []

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_condition(lambda: self.ready)
        assert workflow.get_signal_handler("late") is None
        workflow.set_signal_handler("late", lambda value: self.heard.append(value))
        workflow.set_dynamic_signal_handler(self.rest)
        await workflow.wait_condition(lambda: len(self.heard) == 4)
        workflow.set_signal_handler("late", None)
        return self.heard

    def rest(self, name: str, args: Sequence[RawValue]) -> None:
        self.heard.append(f"{name}/{len(args)}")

    @workflow.signal
    def open(self) -> None:
        self.ready = True


async def test_signals_wait_for_their_handler_in_order(client: Client) -> None:
    async with stage(client, LateHandlers) as worker:
        handle = await start(worker, LateHandlers.run)
        for n in range(3):
            await handle.signal("late", n)
        await handle.signal("other", args=[1, 2])
        await handle.signal(LateHandlers.open)
        assert await handle.result() == [0, 1, 2, "other/2"]
        await replay(worker, handle)


@activity.defn
async def look_up(word: str) -> str:
    return word.upper()


@workflow.defn
class AsyncHandlers:
    """Handlers that wait; the workflow ends when all have ended."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.asked = 0

    @workflow.run
    async def run(self, count: int) -> list[str]:
        await workflow.wait_condition(lambda: self.asked == count and workflow.all_handlers_finished())
        return self.heard

    @workflow.signal
    async def ask(self, word: str) -> None:
        self.asked += 1
        self.heard.append(await workflow.execute_activity(look_up, word, start_to_close_timeout=LONG))


async def test_async_handlers_run_side_by_side_and_are_waited_for(client: Client) -> None:
    async with stage(client, AsyncHandlers, activities=[look_up]) as worker:
        handle = await start(worker, AsyncHandlers.run, 5)
        for letter in "abcde":
            await handle.signal(AsyncHandlers.ask, letter)
        assert sorted(await handle.result()) == [*"ABCDE"]
        story = await replay(worker, handle)
    assert story.count("ACTIVITY_TASK_COMPLETED") == 5


@workflow.defn
class Unfinished:
    """Ends while handlers still run."""

    def __init__(self) -> None:
        self.seen = 0

    @workflow.run
    async def run(self) -> bool:
        await workflow.wait_condition(lambda: self.seen == 2)
        return workflow.all_handlers_finished()

    @workflow.signal
    async def loud(self) -> None:
        self.seen += 1
        await workflow.wait_condition(lambda: False)

    @workflow.signal(unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def quiet(self) -> None:
        self.seen += 1
        await workflow.wait_condition(lambda: False)


async def test_a_handler_left_unfinished_is_warned_of_unless_it_may_be(client: Client) -> None:
    async with stage(client, Unfinished) as worker:
        handle = await start(worker, Unfinished.run)
        with pytest.warns(workflow.UnfinishedSignalHandlersWarning) as warned:
            await handle.signal(Unfinished.loud)
            await handle.signal(Unfinished.quiet)
            assert await handle.result() is False
            texts = [str(w.message) for w in warned if w.category is workflow.UnfinishedSignalHandlersWarning]
        await replay(worker, handle)
    assert len(texts) == 1 and '"loud"' in texts[0] and '"quiet"' not in texts[0]


@workflow.defn
class FailsInHandler:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    async def fail(self, after_wait: bool) -> None:
        if after_wait:
            await workflow.sleep(0.01)
        raise ApplicationError("in a handler", type="Handled")


@pytest.mark.parametrize("after_wait", [True, False])
async def test_a_failure_in_a_handler_fails_the_workflow(client: Client, after_wait: bool) -> None:
    async with stage(client, FailsInHandler) as worker:
        handle = await start(worker, FailsInHandler.run)
        await handle.signal(FailsInHandler.fail, after_wait)
        error = await failure_of(handle)
        # The body never ended, so there is no end to compare.
        story = await replay(worker, handle, same_end=False)
    assert isinstance(error, ApplicationError) and error.type == "Handled"
    assert story.kinds()[-1] == "WORKFLOW_EXECUTION_FAILED"


async def test_a_signal_that_cannot_be_read_is_dropped_and_the_next_is_heard(client: Client) -> None:
    async with stage(client, Typed) as worker:
        handle = await start(worker, Typed.run)
        await handle.signal("number", "no number")
        await handle.signal("number", 7)
        assert await handle.result() == 7
        story = await replay(worker, handle)
    assert story.count("WORKFLOW_EXECUTION_SIGNALED") == 2


@workflow.defn
class Typed:
    def __init__(self) -> None:
        self.value: int | None = None

    @workflow.run
    async def run(self) -> int | None:
        await workflow.wait_condition(lambda: self.value is not None)
        return self.value

    @workflow.signal
    def number(self, value: int) -> None:
        self.value = value


@workflow.defn
class SignalsAndTimers:
    """What came first decides, live and on replay."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        for n in range(2):
            await workflow.sleep(0.02)
            self.log.append(f"timer {n}")
        await workflow.wait_condition(lambda: sum(entry.startswith("signal") for entry in self.log) == 6)
        return self.log

    @workflow.signal
    def hit(self, n: int) -> None:
        self.log.append(f"signal {n}")


async def test_signals_between_timers_are_where_they_were_on_replay(client: Client) -> None:
    async with stage(client, SignalsAndTimers) as worker:
        handle = await start(worker, SignalsAndTimers.run)
        for n in range(6):
            await handle.signal(SignalsAndTimers.hit, n)
            await until(handle, "WORKFLOW_EXECUTION_SIGNALED", n + 1)
        log = await handle.result()
        await replay(worker, handle)
    assert [entry for entry in log if entry.startswith("signal")] == [f"signal {n}" for n in range(6)]
    assert [entry for entry in log if entry.startswith("timer")] == [f"timer {n}" for n in range(2)]
