"""Cancellation: of a workflow from outside and of what it waits for, with shields, refusals and cleaning up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import eventually, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError, ChildWorkflowError, is_cancelled_exception
from temporalio.workflow import ChildWorkflowCancellationType
from workflow.stories import LONG, begun, failure_of, replay, run_and_replay, stage, start, told, until

pytestmark = pytest.mark.timeout(60)


@activity.defn
async def clean_up(what: str) -> str:
    return f"{what} is clean"


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(3600)


async def test_a_workflow_that_does_not_mind_ends_cancelled(client: Client) -> None:
    async with stage(client, Sleeps) as worker:
        handle = await start(worker, Sleeps.run)
        await until(handle, "TIMER_STARTED")
        await handle.cancel()
        assert isinstance(await failure_of(handle), CancelledError)
        story = await replay(worker, handle)
        assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED
    assert story.kinds() == [
        "WORKFLOW_EXECUTION_STARTED",
        "TIMER_STARTED",
        "WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        "TIMER_CANCELED",
        "WORKFLOW_EXECUTION_CANCELED",
    ]


@workflow.defn
class NeverMinds:
    """Cancelled before its first task, if nobody worked on it until then."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.sleep(3600)
        except asyncio.CancelledError:
            return "cancelled in the sleep"
        return "slept"


async def test_a_cancellation_before_the_first_task(client: Client) -> None:
    """The body begins and is cancelled at its first wait; nothing it asked for remains."""
    idle = stage(client, NeverMinds)
    handle = await start(idle, NeverMinds.run)
    await handle.cancel()
    async with idle:
        try:
            result = await handle.result()
        except Exception as error:
            result = type(error.__cause__).__name__
        story = await replay(idle, handle)
    assert result in ("CancelledError", "cancelled in the sleep")
    assert story.kinds()[:2] == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_CANCEL_REQUESTED"]
    assert story.count("TIMER_STARTED") == 0


@workflow.defn
class CleansUp:
    """Finishes its business with activities of every kind after it was cancelled."""

    @workflow.run
    async def run(self) -> list[str]:
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            await workflow.sleep(0.01)
            return [
                await workflow.execute_activity(clean_up, "house", start_to_close_timeout=LONG),
                await workflow.execute_local_activity(clean_up, "garden", start_to_close_timeout=LONG),
                workflow.cancellation_reason() or "no reason",
            ]
        return []


async def test_after_a_cancellation_there_is_time_to_clean_up(client: Client) -> None:
    async with stage(client, CleansUp, activities=[clean_up]) as worker:
        handle = await start(worker, CleansUp.run)
        await begun(handle)
        await handle.cancel(reason="the guests have left")
        assert await handle.result() == ["house is clean", "garden is clean", "the guests have left"]
        story = await replay(worker, handle)
    assert story.kinds()[-1] == "WORKFLOW_EXECUTION_COMPLETED"


@workflow.defn
class Fails:
    """Answers a cancellation with a failure of its own."""

    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            raise ApplicationError("not like this", type="Protest") from None


async def test_a_cancellation_may_end_in_a_failure(client: Client) -> None:
    async with stage(client, Fails) as worker:
        handle = await start(worker, Fails.run)
        await begun(handle)
        await handle.cancel()
        error = await failure_of(handle)
        await replay(worker, handle)
    assert isinstance(error, ApplicationError) and error.type == "Protest"


@workflow.defn
class Shields:
    """Lets the shielded task end, which the cancellation does not reach."""

    @workflow.run
    async def run(self) -> list[str]:
        task = asyncio.create_task(self.work())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            return ["cancelled", await task]
        return ["not cancelled"]

    async def work(self) -> str:
        await workflow.sleep(0.3)
        return await workflow.execute_activity(clean_up, "desk", start_to_close_timeout=LONG)


async def test_a_shielded_task_goes_on(client: Client) -> None:
    async with stage(client, Shields, activities=[clean_up]) as worker:
        handle = await start(worker, Shields.run)
        await until(handle, "TIMER_STARTED")
        await handle.cancel()
        assert await handle.result() == ["cancelled", "desk is clean"]
        story = await replay(worker, handle)
    assert story.count("TIMER_CANCELED") == 0


@workflow.defn
class CancelsBranch:
    """Cancels one of two branches, with all that it waits for."""

    @workflow.run
    async def run(self) -> list[Any]:
        branch = asyncio.create_task(self.branch())
        await workflow.sleep(0.01)
        branch.cancel("pruned")
        try:
            await branch
        except asyncio.CancelledError:
            return [branch.cancelled(), self.seen]
        return []

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def branch(self) -> None:
        try:
            await asyncio.gather(workflow.sleep(3600), workflow.sleep(7200))
        finally:
            self.seen.append("branch ended")


async def test_one_branch_is_cancelled_and_the_rest_lives(client: Client) -> None:
    async with stage(client, CancelsBranch) as worker:
        result, story = await run_and_replay(worker, CancelsBranch.run)
    assert result == [True, ["branch ended"]]
    assert (story.count("TIMER_STARTED"), story.count("TIMER_CANCELED"), story.count("TIMER_FIRED")) == (3, 2, 1)


@workflow.defn
class Stubborn:
    """A child that takes its time with a cancellation, and may refuse it."""

    def __init__(self) -> None:
        self.answer: str | None = None

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            await workflow.wait_condition(lambda: self.answer is not None)
            if self.answer == "comply":
                raise
            return "refused"
        return "never"

    @workflow.signal
    def respond(self, answer: str) -> None:
        self.answer = answer


@workflow.defn
class CancelsChild:
    """Cancels its child when told to; says what it heard, and ends when told to."""

    def __init__(self) -> None:
        self.now = False
        self.may_end = False
        self.heard: str | None = None

    @workflow.run
    async def run(self, id: str, kind: int) -> str:
        child = await workflow.start_child_workflow(
            Stubborn.run,
            id=id,
            cancellation_type=ChildWorkflowCancellationType(kind),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        )
        await workflow.wait_condition(lambda: self.now)
        child.cancel()
        try:
            self.heard = f"returned {await child}"
        except ChildWorkflowError as error:
            self.heard = f"{error.workflow_id == id} {type(error.cause).__name__}"
        await workflow.wait_condition(lambda: self.may_end)
        return self.heard

    @workflow.signal
    def cancel(self) -> None:
        self.now = True

    @workflow.signal
    def end(self) -> None:
        self.may_end = True

    @workflow.query
    def hears(self) -> str | None:
        return self.heard


async def hears(handle: WorkflowHandle[Any, Any]) -> str:
    async def check() -> str:
        heard = await handle.query(CancelsChild.hears)
        assert heard is not None
        return heard

    return await eventually(check)


@pytest.mark.parametrize("kind", [ChildWorkflowCancellationType.ABANDON, ChildWorkflowCancellationType.TRY_CANCEL])
async def test_a_parent_that_does_not_wait_hears_of_the_cancellation_before_the_child_ends(
    client: Client, kind: ChildWorkflowCancellationType
) -> None:
    name = unique("child")
    async with stage(client, CancelsChild, Stubborn) as worker:
        handle = await start(worker, CancelsChild.run, name, kind)
        await until(handle, "CHILD_WORKFLOW_EXECUTION_STARTED")
        await handle.signal(CancelsChild.cancel)
        assert await hears(handle) == "True CancelledError"
        await handle.signal(CancelsChild.end)
        assert await handle.result() == "True CancelledError"
        story = await replay(worker, handle)
        child: WorkflowHandle[Stubborn, str] = client.get_workflow_handle_for(Stubborn.run, name)
        if kind == ChildWorkflowCancellationType.ABANDON:
            assert (await told(child)).count("WORKFLOW_EXECUTION_CANCEL_REQUESTED") == 0
            await child.terminate()
        else:
            await until(child, "WORKFLOW_EXECUTION_CANCEL_REQUESTED")
            await child.signal(Stubborn.respond, "refuse")
            assert await child.result() == "refused"
    asked = 0 if kind == ChildWorkflowCancellationType.ABANDON else 1
    assert story.count("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED") == asked


@pytest.mark.parametrize(
    ("kind", "answer", "heard"),
    [
        (ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED, "comply", "True CancelledError"),
        (ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED, "refuse", "returned refused"),
        (ChildWorkflowCancellationType.WAIT_CANCELLATION_REQUESTED, "comply", "True CancelledError"),
    ],
)
async def test_a_parent_that_waits_hears_what_the_child_made_of_it(
    client: Client, kind: ChildWorkflowCancellationType, answer: str, heard: str
) -> None:
    name = unique("child")
    async with stage(client, CancelsChild, Stubborn) as worker:
        handle = await start(worker, CancelsChild.run, name, kind)
        await until(handle, "CHILD_WORKFLOW_EXECUTION_STARTED")
        await handle.signal(CancelsChild.cancel)
        child: WorkflowHandle[Stubborn, str] = client.get_workflow_handle_for(Stubborn.run, name)
        await until(child, "WORKFLOW_EXECUTION_CANCEL_REQUESTED")
        if kind == ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED:
            assert await handle.query(CancelsChild.hears) is None
        await child.signal(Stubborn.respond, answer)
        await handle.signal(CancelsChild.end)
        assert await handle.result() == heard
        await replay(worker, handle)
        if kind == ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED:
            await replay(worker, child)


@workflow.defn
class CancelsUnbornChild:
    @workflow.run
    async def run(self) -> bool:
        id = f"{workflow.info().workflow_id}-child"
        task = asyncio.create_task(workflow.execute_child_workflow(Stubborn.run, id=id))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except BaseException as error:
            return is_cancelled_exception(error)
        return False


async def test_a_child_cancelled_in_the_same_breath_is_never_started(client: Client) -> None:
    async with stage(client, CancelsUnbornChild, Stubborn) as worker:
        result, story = await run_and_replay(worker, CancelsUnbornChild.run)
    assert result is True
    assert story.count("CHILD_WORKFLOW_EXECUTION_STARTED") == 0


@workflow.defn
class Chain:
    """A chain of children: a cancellation at the top reaches the bottom."""

    @workflow.run
    async def run(self, depth: int) -> None:
        if depth == 0:
            await workflow.sleep(3600)
        id = f"{workflow.info().workflow_id}-{depth}"
        await workflow.execute_child_workflow(Chain.run, depth - 1, id=id)


async def test_a_cancellation_goes_down_a_chain_of_children_and_up_again(client: Client) -> None:
    async with stage(client, Chain) as worker:
        handle = await start(worker, Chain.run, 2)
        bottom = client.get_workflow_handle(f"{handle.id}-2-1")

        async def asleep() -> None:
            assert [w async for w in client.list_workflows(f"WorkflowId = '{bottom.id}'")]
            assert (await told(bottom)).count("TIMER_STARTED") == 1

        await eventually(asleep)
        await handle.cancel()
        assert isinstance(await failure_of(handle), CancelledError)
        for link in (handle, client.get_workflow_handle(f"{handle.id}-2"), bottom):
            assert (await replay(worker, link)).kinds()[-1] == "WORKFLOW_EXECUTION_CANCELED"
