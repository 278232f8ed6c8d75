"""Histories that older workers wrote: without flags, with few of them, with commands in the order of their time.

The code sees jobs in the order that it saw them then, and what it says is told by an interceptor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from replayer.written import Scribe
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.exceptions import CancelledError, ChildWorkflowError
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

BRIEF = timedelta(seconds=30)
OLD = [1, 2, 3]

heard: list[Any] = []


class Overhear(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        result = await super().execute_workflow(input)
        heard.append(result)
        return result


class Listen(Interceptor):
    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        return Overhear


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    heard.clear()
    yield


async def replayed(program: type, history: WorkflowHistory) -> Any:
    """What the workflow returned on replay."""
    await Replayer(workflows=[program], interceptors=[Listen()]).replay_workflow(history)
    (result,) = heard
    return result


@workflow.defn
class Diary:
    """Notes where each of its tasks is: at once, after a future that is done, after a condition that is true."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await asyncio.gather(asyncio.create_task(self.nap()), asyncio.create_task(self.ask()))
        return self.notes

    async def steps(self, who: str) -> None:
        done: asyncio.Future[bool] = asyncio.Future()
        done.set_result(True)
        await done
        self.notes.append(f"{who} one")
        await workflow.wait_condition(lambda: True)
        self.notes.append(f"{who} two")

    async def nap(self) -> None:
        self.notes.append("nap")
        await workflow.sleep(0.1)
        await self.steps("nap")

    async def ask(self) -> None:
        self.notes.append("ask")
        await workflow.execute_activity("answer", "why", start_to_close_timeout=BRIEF)
        await self.steps("ask")

    @workflow.signal
    async def tell(self, word: str) -> None:
        self.notes.append(word)
        await self.steps(word)

    @workflow.update
    async def change(self, word: str) -> None:
        self.notes.append(word)
        await self.steps(word)


def one_signal(lang: list[int] | None) -> WorkflowHistory:
    scribe = Scribe("Diary")
    scheduled = scribe.task_scheduled()
    scribe.signal("tell", "early")
    scribe.task_done(scheduled, OLD, lang)
    timer = scribe.timer("1", "0.100s")
    activity = scribe.activity("1", "answer", "why")
    scribe.activity_done(activity, "because")
    scribe.task()
    scribe.signal("tell", "late")
    scribe.task()
    scheduled = scribe.task_scheduled()
    scribe.task_done(scheduled)
    accepted = scribe.update("u", "change", "new", after=scheduled)
    scribe.update_done("u", accepted, None)
    scribe.fired("1", timer)
    scribe.task()
    scribe.ended([])
    return scribe.history()


def two_signals(lang: list[int] | None) -> WorkflowHistory:
    """Both signals before the first task; an activity that ended while a task ran in which an update came."""
    scribe = Scribe("Diary")
    scheduled = scribe.task_scheduled()
    scribe.signal("tell", "early")
    scribe.signal("tell", "late")
    scribe.task_done(scheduled, OLD, lang)
    timer = scribe.timer("1", "0.100s")
    activity = scribe.activity("1", "answer", "why")
    scheduled = scribe.task_scheduled()
    scribe.task_done(scheduled)
    accepted = scribe.update("u", "change", "new", after=scheduled)
    scribe.update_done("u", accepted, None)
    scribe.activity_done(activity, "because")
    scribe.task()
    scribe.fired("1", timer)
    scribe.task()
    scribe.ended([])
    return scribe.history()


def apart(*names: str) -> list[str]:
    return [note for name in names for note in (name, f"{name} one", f"{name} two")]


async def test_an_old_history_wakes_the_tasks_of_a_workflow_in_the_old_order() -> None:
    notes = ["early", "early one", "early two", "nap", "ask", "ask one", "ask two"]
    notes += [*apart("late"), *apart("new"), "nap one", "nap two"]
    assert await replayed(Diary, one_signal(None)) == notes


async def test_two_signals_before_the_first_task_in_an_old_history() -> None:
    notes = ["early", "early one", "late", "late one", "early two", "late two", "nap", "ask"]
    notes += [*apart("new"), "ask one", "ask two", "nap one", "nap two"]
    assert await replayed(Diary, two_signals(None)) == notes


async def test_a_history_with_the_flag_of_one_batch_wakes_them_in_the_new_order() -> None:
    notes = ["early", "early one", "nap", "ask", "early two", "ask one", "ask two"]
    notes += [*apart("late"), *apart("new"), "nap one", "nap two"]
    assert await replayed(Diary, one_signal([2])) == notes


async def test_two_signals_and_the_flag_of_one_batch() -> None:
    notes = ["early", "early one", "late", "late one", "nap", "ask", "early two", "late two"]
    notes += [*apart("new"), "ask one", "ask two", "nap one", "nap two"]
    assert await replayed(Diary, two_signals([2])) == notes


@workflow.defn
class Counting:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.count = 0

    @workflow.run
    async def run(self, queue: str) -> list[str]:
        task = asyncio.create_task(self.ask(queue))
        await workflow.wait_condition(lambda: self.count >= 2)
        self.notes.append(f"count {self.count}")
        await task
        return self.notes

    async def ask(self, queue: str) -> None:
        self.notes.append("ask")
        await workflow.execute_activity("answer", "why", start_to_close_timeout=BRIEF, task_queue=queue)
        self.notes.append("answered")

    @workflow.signal
    async def tell(self, word: str) -> None:
        self.count += 1
        self.notes.append(word)


async def test_signals_after_a_result_in_the_same_task_are_told_first() -> None:
    scribe = Scribe("Counting", "elsewhere")
    scribe.task(OLD)
    activity = scribe.activity("1", "answer", "why")
    scribe.activity_done(activity, "because")
    scheduled = scribe.task_scheduled()
    scribe.signal("tell", "first")
    scribe.signal("tell", "second")
    scribe.task_done(scheduled)
    scribe.ended([])
    assert await replayed(Counting, scribe.history()) == ["ask", "first", "second", "count 2", "answered"]


@workflow.defn
class Outlived:
    """Its update ends after the workflow has."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self) -> str:
        self.over = True
        return "over"

    @workflow.update
    async def late(self) -> str:
        await workflow.wait_condition(lambda: self.over)
        return "late"


@pytest.mark.parametrize(("flags", "answered"), [(None, False), ([1, 2], False), (OLD, True)], ids=str)
async def test_what_followed_the_end_was_dropped_once_and_is_put_before_it_now(
    flags: list[int] | None, answered: bool
) -> None:
    scribe = Scribe("Outlived")
    scheduled = scribe.task_scheduled()
    scribe.task_done(scheduled, flags)
    accepted = scribe.update("u", "late", after=scheduled)
    if answered:
        scribe.update_done("u", accepted, "late")
    scribe.ended("over")
    assert await replayed(Outlived, scribe.history()) == "over"


@pytest.mark.parametrize(("flags", "answered"), [([1, 2], True), (OLD, False)], ids=str)
async def test_the_other_way_round_does_not_fit(flags: list[int], answered: bool) -> None:
    scribe = Scribe("Outlived")
    scheduled = scribe.task_scheduled()
    scribe.task_done(scheduled, flags)
    accepted = scribe.update("u", "late", after=scheduled)
    if answered:
        scribe.update_done("u", accepted, "late")
    scribe.ended("over")
    with pytest.raises(workflow.NondeterminismError):
        await replayed(Outlived, scribe.history())


@workflow.defn
class Tireless:
    """One activity after another; a cancellation that meets a result in the same task was once forgotten."""

    @workflow.run
    async def run(self) -> None:
        while True:
            await workflow.execute_activity("work", start_to_close_timeout=BRIEF)


def cancelled(lang: list[int] | None, goes_on: bool, result_first: bool = False) -> WorkflowHistory:
    scribe = Scribe("Tireless")
    scribe.task(OLD)
    scribe.activity_done(scribe.activity("1", "work"), 1)
    scribe.task()
    activity = scribe.activity("2", "work")
    if result_first:
        scribe.activity_done(activity, 1)
        scheduled = scribe.task_scheduled()
        scribe.write("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    else:
        scribe.write("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
        scheduled = scribe.task_scheduled()
        scribe.activity_done(activity, 1)
    completed = scribe.task_done(scheduled, lang=lang)
    if goes_on:
        scribe.activity("3", "work")
    else:
        scribe.write("WORKFLOW_EXECUTION_CANCELED", workflowTaskCompletedEventId=str(completed))
    return scribe.history()


@pytest.mark.parametrize("result_first", [False, True])
@pytest.mark.parametrize(("lang", "goes_on"), [(None, True), ([1], False)], ids=["without the flag", "with the flag"])
async def test_a_cancellation_that_meets_a_result(lang: list[int] | None, goes_on: bool, result_first: bool) -> None:
    history = cancelled(lang, goes_on, result_first)
    await Replayer(workflows=[Tireless]).replay_workflow(history)


@pytest.mark.parametrize("result_first", [False, True])
@pytest.mark.parametrize(("lang", "goes_on"), [(None, False), ([1], True)], ids=["without the flag", "with the flag"])
async def test_a_flag_that_says_otherwise_does_not_fit(
    lang: list[int] | None, goes_on: bool, result_first: bool
) -> None:
    history = cancelled(lang, goes_on, result_first)
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[Tireless]).replay_workflow(history)


@workflow.defn
class Mourner:
    """Tells how its child was cancelled."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_child_workflow("Kid", id="kid")
        except ChildWorkflowError as failed:
            assert isinstance(failed.cause, CancelledError)
            return f"{failed.cause.message} {list(failed.cause.details)}"
        return "it was not"


async def test_the_details_of_a_cancelled_child_are_not_shown() -> None:
    scribe = Scribe("Mourner")
    scribe.task()
    scribe.child_cancelled("kid", "why")
    scribe.task()
    scribe.ended("Cancelled []")
    assert await replayed(Mourner, scribe.history()) == "Cancelled []"


@workflow.defn
class Waits:
    """Waits for two signals; the second may find it changed."""

    def __init__(self) -> None:
        self.heard = 0

    @workflow.signal
    def ring(self) -> None:
        self.heard += 1

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.heard == 1)
        await self.between()
        await workflow.wait_condition(lambda: self.heard == 2)

    async def between(self) -> None:
        pass


@workflow.defn(name="Waits")
class AsksForMore(Waits):
    @workflow.run
    async def run(self) -> None:
        await super().run()

    async def between(self) -> None:
        await workflow.sleep(1)


@workflow.defn(name="Waits")
class EndsEarly(Waits):
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.heard == 1)


@pytest.mark.parametrize(
    ("changed", "surplus"),
    [(AsksForMore, 'a timer "1"'), (EndsEarly, "the completion of the workflow")],
    ids=["asks for more", "ends early"],
)
@pytest.mark.parametrize("open_end", [False, True], ids=["ended", "goes on"])
async def test_more_than_a_task_recorded_is_told_at_that_task(
    changed: type, surplus: str, open_end: bool, engine: str
) -> None:
    scribe = Scribe("Waits")
    scribe.task(core=OLD)
    scribe.signal("ring")
    surplus_at = scribe.task()
    scribe.signal("ring")
    if open_end:
        scribe.task_scheduled()
    else:
        scribe.task()
        scribe.ended(None)
    history = scribe.history()
    await Replayer(workflows=[Waits]).replay_workflow(history)
    if engine == "original":
        return  # it notices later, if anything comes that does not fit
    with pytest.raises(workflow.NondeterminismError) as failed:
        await Replayer(workflows=[changed]).replay_workflow(history)
    told = f"event {surplus_at} of the history records WORKFLOW_TASK_COMPLETED without commands"
    assert f"{told}, but the workflow code asked for {surplus} as well." in str(failed.value)
