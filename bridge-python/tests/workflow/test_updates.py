"""Updates: accepted, rejected, answered; with validators, in handlers that wait, and across the workflow's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support import unique
from temporalio import activity, workflow
from temporalio.client import (
    Client,
    RPCError,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCStatusCode
from workflow.stories import LONG, begun, replay, stage, start, told

pytestmark = pytest.mark.timeout(60)


@activity.defn
async def price(item: str) -> int:
    return len(item)


@workflow.defn
class Shop:
    """A basket, with every kind of update."""

    def __init__(self) -> None:
        self.basket: list[str] = []
        self.log: list[str] = []
        self.gate = False
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed and workflow.all_handlers_finished())
        return self.basket

    @workflow.update
    def put(self, item: str) -> int:
        self.basket.append(item)
        return len(self.basket)

    @put.validator
    def check(self, item: str) -> None:
        if not item:
            raise ApplicationError("nothing to put", "details", type="Empty")
        assert workflow.unsafe.is_read_only()

    @workflow.update(name="put-many")
    async def put_many(self, items: list[str], times: int) -> dict[str, int]:
        self.basket += items * times
        return {item: self.basket.count(item) for item in items}

    @workflow.update
    async def cost(self, item: str) -> int:
        remote = await workflow.execute_activity(price, item, start_to_close_timeout=LONG)
        local = await workflow.execute_local_activity(price, item, start_to_close_timeout=LONG)
        await workflow.sleep(0.01)
        return remote + local

    @workflow.update
    async def wait(self, name: str) -> str:
        self.log.append(f"{name} waits")
        await workflow.wait_condition(lambda: self.gate)
        self.log.append(f"{name} goes")
        return name

    @workflow.update
    async def fail(self, kind: str) -> None:
        if kind == "late":
            await workflow.sleep(0.01)
        raise ApplicationError(f"{kind} failure", 1, 2, type="Refused")

    @workflow.update
    async def who(self) -> list[str]:
        info = workflow.current_update_info()
        assert info is not None
        await asyncio.sleep(0)
        again = workflow.current_update_info()
        assert again is not None
        return [info.id, info.name, again.id]

    @workflow.update
    def close(self) -> bool:
        self.closed = True
        return workflow.all_handlers_finished()

    @workflow.signal
    def open(self) -> None:
        self.gate = True

    @workflow.query
    def past(self) -> list[str]:
        return self.log


async def test_an_update_changes_the_state_and_answers(client: Client) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        assert await handle.execute_update(Shop.put, "egg") == 1
        assert await handle.execute_update("put", "milk") == 2
        many: Any = await handle.execute_update(Shop.put_many, args=[["egg", "ham"], 2])
        assert many == {"egg": 3, "ham": 2}
        assert await handle.execute_update(Shop.close) is False
        assert await handle.result() == ["egg", "milk", "egg", "ham", "egg", "ham"]
        story = await replay(worker, handle)
    assert story.kinds()[1:-1] == ["WORKFLOW_EXECUTION_UPDATE_ACCEPTED", "WORKFLOW_EXECUTION_UPDATE_COMPLETED"] * 4
    accepted = story.all("WORKFLOW_EXECUTION_UPDATE_ACCEPTED")[0].workflow_execution_update_accepted_event_attributes
    assert accepted.accepted_request.input.name == "put"


async def test_a_rejected_update_leaves_no_trace(client: Client) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        with pytest.raises(WorkflowUpdateFailedError) as failed:
            await handle.execute_update(Shop.put, "")
        cause = failed.value.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.message, cause.type, list(cause.details)) == ("nothing to put", "Empty", ["details"])
        assert (await told(handle)).kinds() == ["WORKFLOW_EXECUTION_STARTED"]
        await handle.execute_update(Shop.close)
        assert await handle.result() == []
        await replay(worker, handle)


@pytest.mark.parametrize("kind", ["early", "late"])
async def test_a_failure_in_the_handler_fails_the_update_alone(client: Client, kind: str) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        with pytest.raises(WorkflowUpdateFailedError) as failed:
            await handle.execute_update(Shop.fail, kind)
        await handle.execute_update(Shop.close)
        assert await handle.result() == []
        story = await replay(worker, handle)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, list(cause.details)) == (f"{kind} failure", "Refused", [1, 2])
    # Accepted, so it stands in history, with its failure.
    completed = story.all("WORKFLOW_EXECUTION_UPDATE_COMPLETED")[0]
    outcome = completed.workflow_execution_update_completed_event_attributes.outcome
    assert outcome.failure.message == f"{kind} failure"


async def test_a_handler_may_use_activities_and_timers(client: Client) -> None:
    async with stage(client, Shop, activities=[price]) as worker:
        handle = await start(worker, Shop.run)
        assert await asyncio.gather(*[handle.execute_update(Shop.cost, "x" * n) for n in range(1, 5)]) == [2, 4, 6, 8]
        await handle.execute_update(Shop.close)
        await handle.result()
        story = await replay(worker, handle)
    assert story.count("ACTIVITY_TASK_COMPLETED") == story.count("MARKER_RECORDED") == 4


async def test_handlers_wait_side_by_side_and_the_end_waits_for_them(client: Client) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        updates = [
            await handle.start_update(Shop.wait, name, wait_for_stage=WorkflowUpdateStage.ACCEPTED) for name in "abc"
        ]
        assert await handle.query(Shop.past) == ["a waits", "b waits", "c waits"]
        assert await handle.execute_update(Shop.close) is False
        await handle.signal(Shop.open)
        assert [await update.result() for update in updates] == ["a", "b", "c"]
        assert await handle.result() == []
        assert (await handle.query(Shop.past))[3:] == ["a goes", "b goes", "c goes"]
        story = await replay(worker, handle)
    assert story.kinds()[-1] == "WORKFLOW_EXECUTION_COMPLETED"
    assert story.count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 4


async def test_an_update_knows_its_id_and_the_same_id_is_the_same_update(client: Client) -> None:
    name = unique("update")
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        assert await handle.execute_update(Shop.who, id=name) == [name, "who", name]
        assert await handle.execute_update(Shop.put, "one", id="once") == 1
        assert await handle.execute_update(Shop.put, "two", id="once") == 1
        assert await handle.execute_update(Shop.put, "two") == 2
        again = handle.get_update_handle("once", result_type=int)
        assert await again.result() == 1
        await handle.execute_update(Shop.close)
        assert await handle.result() == ["one", "two"]
        # And still after the end.
        assert await handle.execute_update(Shop.put, "three", id="once") == 1
        await replay(worker, handle)


async def test_updates_before_the_first_task_are_handled_in_order(client: Client) -> None:
    idle = stage(client, Shop)
    handle = await start(idle, Shop.run)
    await handle.signal(Shop.open)
    tasks = [asyncio.create_task(handle.execute_update(Shop.put, f"{n}", id=f"u{n}")) for n in range(5)]
    async with idle:
        assert sorted(await asyncio.gather(*tasks)) == [1, 2, 3, 4, 5]
        await handle.execute_update(Shop.close)
        assert sorted(await handle.result()) == [*"01234"]
        await replay(idle, handle)


async def test_a_closed_workflow_takes_no_update(client: Client) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        await handle.execute_update(Shop.close)
        await handle.result()
        with pytest.raises(RPCError) as refused:
            await handle.execute_update(Shop.put, "late")
    assert refused.value.status == RPCStatusCode.NOT_FOUND
    assert "workflow execution already completed" in refused.value.message


async def test_an_unknown_update_is_rejected_with_the_names_there_are(client: Client) -> None:
    async with stage(client, Shop) as worker:
        handle = await start(worker, Shop.run)
        with pytest.raises(WorkflowUpdateFailedError) as failed:
            await handle.execute_update("no-such")
        assert isinstance(failed.value.cause, ApplicationError)
        assert "no-such" in failed.value.cause.message and "put-many" in failed.value.cause.message
        assert (await told(handle)).count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == 0


@workflow.defn
class Ends:
    """An update that lets the workflow end in the same task, and one that is left behind."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.over)
        return "over"

    @workflow.update
    async def end(self, wait: bool) -> str:
        self.over = True
        if wait:
            await workflow.wait_condition(lambda: False)
        return "ended"


async def test_an_update_that_ends_the_workflow_is_still_answered(client: Client) -> None:
    async with stage(client, Ends) as worker:
        handle = await start(worker, Ends.run)
        assert await handle.execute_update(Ends.end, False) == "ended"
        assert await handle.result() == "over"
        story = await replay(worker, handle)
    assert story.kinds()[-2:] == ["WORKFLOW_EXECUTION_UPDATE_COMPLETED", "WORKFLOW_EXECUTION_COMPLETED"]


async def test_an_update_left_behind_fails_when_the_workflow_ends(client: Client) -> None:
    async with stage(client, Ends) as worker:
        handle = await start(worker, Ends.run)
        with pytest.warns(workflow.UnfinishedUpdateHandlersWarning, match='"end"'):
            with pytest.raises(WorkflowUpdateFailedError) as failed:
                await handle.execute_update(Ends.end, True)
            assert await handle.result() == "over"
            await replay(worker, handle)
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "AcceptedUpdateCompletedWorkflow"


@workflow.defn
class Runtime:
    """Handlers set while it runs: one by name, one for the rest."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self) -> str:
        def refuse(value: int) -> None:
            if value < 0:
                raise ValueError("too small")

        async def double(value: int) -> int:
            await asyncio.sleep(0)
            return 2 * value

        workflow.set_update_handler("double", double, validator=refuse)
        workflow.set_dynamic_update_handler(self.anything)
        assert workflow.get_update_handler("double") is double
        await workflow.wait_condition(lambda: self.over)
        return "over"

    async def anything(self, name: str, args: Sequence[RawValue]) -> list[Any]:
        self.over = name == "last"
        return [name, *(workflow.payload_converter().from_payload(arg.payload) for arg in args)]


async def test_handlers_set_at_runtime_and_for_any_name(client: Client) -> None:
    async with stage(client, Runtime) as worker:
        handle = await start(worker, Runtime.run)
        await begun(handle)
        assert await handle.execute_update("other", args=[1, "x"]) == ["other", 1, "x"]
        assert await handle.execute_update("double", 21) == 42
        with pytest.raises(WorkflowUpdateFailedError) as failed:
            await handle.execute_update("double", -1)
        assert isinstance(failed.value.cause, ApplicationError) and failed.value.cause.message == "too small"
        assert await handle.execute_update("last") == ["last"]
        assert await handle.result() == "over"
        await replay(worker, handle)


async def test_an_update_starts_the_workflow_it_is_for(client: Client) -> None:
    name = unique("shop")
    async with stage(client, Shop) as worker:
        for count in (1, 2):
            operation = WithStartWorkflowOperation(
                Shop.run,
                id=name,
                task_queue=worker.task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
            put = client.execute_update_with_start_workflow(Shop.put, "egg", start_workflow_operation=operation)
            assert await put == count
        handle = await operation.workflow_handle()
        await handle.execute_update(Shop.close)
        assert await handle.result() == ["egg", "egg"]
        await replay(worker, handle)


@workflow.defn
class Interleaved:
    """Signals and updates in one order, live and on replay."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: "end" in self.log and workflow.all_handlers_finished())
        return self.log

    @workflow.signal
    async def signal(self, n: int) -> None:
        self.log.append(f"signal {n}")

    @workflow.update
    async def update(self, word: str) -> int:
        self.log.append(word)
        await asyncio.sleep(0)
        self.log.append(f"{word} done")
        return len(self.log)


async def test_signals_and_updates_mix_the_same_way_on_replay(client: Client) -> None:
    async with stage(client, Interleaved) as worker:
        handle = await start(worker, Interleaved.run)
        work: list[Any] = [handle.signal(Interleaved.signal, n) for n in range(10)]
        work += [handle.execute_update(Interleaved.update, f"update {n}") for n in range(10)]
        await asyncio.gather(*work)
        await handle.execute_update(Interleaved.update, "end")
        log = await handle.result()
        await replay(worker, handle)
    assert len(log) == 10 + 22 and log[-2:] == ["end", "end done"]
