"""Handles of other workflows: signals and cancellations that go out, arrive, or find nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import unique
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, CancelledError
from workflow.stories import begun, fail_and_replay, failure_of, replay, run_and_replay, stage, start

pytestmark = pytest.mark.timeout(60)

NOT_FOUND = "ExternalWorkflowExecutionNotFound"


@workflow.defn
class Other:
    """Keeps what it is told, and ends when it is told so."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @workflow.run
    async def run(self) -> list[Any]:
        await workflow.wait_condition(lambda: "end" in self.heard)
        return self.heard

    @workflow.signal
    def hear(self, word: str) -> None:
        self.heard.append(word)

    @workflow.signal(name="pair")
    def hear_pair(self, one: int, two: dict[str, int]) -> None:
        self.heard.append([one, two])


@workflow.defn
class Speaks:
    @workflow.run
    async def run(self, id: str, run: str | None) -> str:
        handle: workflow.ExternalWorkflowHandle[Other] = workflow.get_external_workflow_handle_for(Other.run, id, run_id=run)
        assert (handle.id, handle.run_id) == (id, run)
        await handle.signal(Other.hear, "typed")
        await handle.signal("hear", "named")
        await handle.signal("pair", args=[1, {"a": 2}])
        await asyncio.gather(*[handle.signal(Other.hear, f"{n}") for n in range(5)])
        await handle.signal(Other.hear, "end")
        return "said"


@pytest.mark.parametrize("with_run", [True, False])
async def test_signals_that_wait_for_each_other_arrive_in_order(client: Client, with_run: bool) -> None:
    async with stage(client, Speaks, Other) as worker:
        other = await start(worker, Other.run)
        run = other.first_execution_run_id if with_run else None
        result, story = await run_and_replay(worker, Speaks.run, other.id, run)
        words = await other.result()
        assert words[:3] == ["typed", "named", [1, {"a": 2}]] and words[8:] == ["end"]
        # These were sent at once: none is lost, in whatever order.
        assert sorted(words[3:8]) == [*"01234"]
        heard = await replay(worker, other)
    assert result == "said"
    assert story.count("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED") == 9
    first = heard.all("WORKFLOW_EXECUTION_SIGNALED")[0].workflow_execution_signaled_event_attributes
    assert first.external_workflow_execution.workflow_id == story.history.workflow_id
    initiated = story.all("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED")[0]
    attributes = initiated.signal_external_workflow_execution_initiated_event_attributes
    assert attributes.workflow_execution.run_id == (run or "") and not attributes.child_workflow_only


@workflow.defn
class SpeaksToNobody:
    @workflow.run
    async def run(self, id: str, how: str) -> None:
        handle = workflow.get_external_workflow_handle(id)
        if how == "signal":
            await handle.signal("hear", "anyone?")
        else:
            await handle.cancel()


@pytest.mark.parametrize("how", ["signal", "cancel"])
async def test_nobody_is_there(client: Client, how: str) -> None:
    nobody = unique("nobody")
    async with stage(client, SpeaksToNobody) as worker:
        error, story = await fail_and_replay(worker, SpeaksToNobody.run, nobody, how)
    assert isinstance(error, ApplicationError) and error.type == NOT_FOUND
    text = "Unable to signal external workflow because it was not found"
    assert error.message == (text if how == "signal" else "Unable to cancel external workflow because not found")
    kind = "SIGNAL" if how == "signal" else "REQUEST_CANCEL"
    assert story.count(f"{kind}_EXTERNAL_WORKFLOW_EXECUTION_FAILED") == 1


async def test_somebody_was_there_but_is_gone(client: Client) -> None:
    async with stage(client, SpeaksToNobody, Other) as worker:
        other = await start(worker, Other.run)
        await other.signal(Other.hear, "end")
        await other.result()
        error, story = await fail_and_replay(worker, SpeaksToNobody.run, other.id, "signal")
    assert isinstance(error, ApplicationError) and error.type == NOT_FOUND
    assert story.count("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED") == 1


@workflow.defn
class CancelsOther:
    @workflow.run
    async def run(self, id: str) -> str:
        await workflow.get_external_workflow_handle(id).cancel()
        return "asked"


async def test_another_workflow_is_cancelled(client: Client) -> None:
    async with stage(client, CancelsOther, Other) as worker:
        other = await start(worker, Other.run)
        result, story = await run_and_replay(worker, CancelsOther.run, other.id)
        assert isinstance(await failure_of(other), CancelledError)
        cancelled = await replay(worker, other)
    assert result == "asked"
    assert story.kinds()[1:3] == [
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
    ]
    requested = cancelled.attributes("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
    assert requested.external_workflow_execution.workflow_id == story.history.workflow_id


@workflow.defn
class Catches:
    """Catches what a failed signal raised, and goes on."""

    @workflow.run
    async def run(self, nobody: str, id: str) -> str:
        try:
            await workflow.get_external_workflow_handle(nobody).signal("hear", "anyone?")
        except ApplicationError as error:
            caught = error.type or "untyped"
        await workflow.get_external_workflow_handle(id).signal("hear", "end")
        return caught


async def test_a_workflow_goes_on_after_a_signal_to_nobody(client: Client) -> None:
    async with stage(client, Catches, Other) as worker:
        other = await start(worker, Other.run)
        result, story = await run_and_replay(worker, Catches.run, unique("nobody"), other.id)
        assert await other.result() == ["end"]
    assert result == NOT_FOUND
    assert story.count("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED") == 1


@workflow.defn
class TakesBack:
    """Cancels a signal before it has gone out."""

    @workflow.run
    async def run(self, id: str) -> str:
        handle = workflow.get_external_workflow_handle(id)
        task = asyncio.create_task(handle.signal("hear", "never mind"))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except CancelledError as error:
            outcome = error.message
        else:
            outcome = "sent"
        await handle.signal("hear", "end")
        return outcome


async def test_a_signal_taken_back_in_the_same_breath_is_not_sent(client: Client) -> None:
    async with stage(client, TakesBack, Other) as worker:
        other = await start(worker, Other.run)
        result, story = await run_and_replay(worker, TakesBack.run, other.id)
        assert await other.result() == ["end"]
    assert result == "Signal was cancelled before being sent"
    assert story.count("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED") == 1


@workflow.defn
class Echo:
    """Two workflows that answer each other until one has had enough."""

    def __init__(self) -> None:
        self.balls: list[int] = []

    @workflow.run
    async def run(self, other: str, serves: bool) -> int:
        handle = workflow.get_external_workflow_handle(other)
        if serves:
            await handle.signal(Echo.ball, 1)
        last = 0
        while last < 9:
            await workflow.wait_condition(lambda: bool(self.balls))
            last = self.balls.pop(0)
            if last < 10:
                await handle.signal(Echo.ball, last + 1)
        return last

    @workflow.signal
    def ball(self, count: int) -> None:
        self.balls.append(count)


async def test_two_workflows_play_with_each_other(client: Client) -> None:
    names = unique("one"), unique("two")
    async with stage(client, Echo) as worker:
        two = await start(worker, Echo.run, names[0], False, id=names[1])
        await begun(two)
        one = await start(worker, Echo.run, names[1], True, id=names[0])
        assert sorted([await one.result(), await two.result()]) == [9, 10]
        await replay(worker, one)
        await replay(worker, two)
