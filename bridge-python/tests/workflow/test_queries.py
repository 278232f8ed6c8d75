"""Queries: what a workflow says of itself while it runs, and after it has ended, without a trace in history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from support import eventually
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition, RawValue
from temporalio.exceptions import ApplicationError
from workflow.stories import LONG, begun, failure_of, replay, stage, start, told

pytestmark = pytest.mark.timeout(60)


@workflow.defn
class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.closed = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.closed)
        return self.balance

    @workflow.signal
    def deposit(self, amount: int) -> None:
        self.balance += amount

    @workflow.update
    def withdraw(self, amount: int) -> int:
        self.balance -= amount
        return self.balance

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def money(self) -> int:
        return self.balance

    @workflow.query(name="in-words", description="the balance and a unit")
    def words(self, unit: str, times: int) -> list[str]:
        return [f"{self.balance} {unit}"] * times

    @workflow.query
    def fail(self) -> None:
        raise ApplicationError("never asked before", 7, type="Rude")

    @workflow.query
    def meddle(self) -> None:
        workflow.start_activity("forbidden", start_to_close_timeout=LONG)

    @workflow.query
    def whoami(self) -> list[Any]:
        info = workflow.info()
        return [info.workflow_id, info.workflow_type, info.get_current_history_length() > 0]

    @workflow.query(dynamic=True)
    def other(self, name: str, args: Sequence[RawValue]) -> list[Any]:
        return [name, *(workflow.payload_converter().from_payload(arg.payload) for arg in args)]


async def test_queries_with_and_without_arguments_and_names(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        assert await handle.query(Account.money) == 0
        assert await handle.query("in-words", args=["euro", 2]) == ["0 euro", "0 euro"]
        assert await handle.query("no-such", args=[1, {"a": None}]) == ["no-such", 1, {"a": None}]
        assert await handle.query(Account.whoami) == [handle.id, "Account", True]


async def test_a_query_sees_every_signal_and_update_before_it(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        for n in range(1, 11):
            await handle.signal(Account.deposit, 10)
            assert await handle.query(Account.money) == 10 * n
        assert await handle.execute_update(Account.withdraw, 30) == 70
        assert await handle.query(Account.money) == 70
        await handle.signal(Account.close)
        assert await handle.result() == 70
        await replay(worker, handle)


async def test_queries_leave_no_trace_in_history(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        await handle.query(Account.money)
        before = (await told(handle)).kinds()
        await asyncio.gather(*[handle.query(Account.money) for _ in range(20)])
        assert (await told(handle)).kinds() == before == ["WORKFLOW_EXECUTION_STARTED"]


async def test_queries_and_signals_at_once(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)

        async def deposit_and_look() -> int:
            await handle.signal(Account.deposit, 1)
            seen: int = await handle.query(Account.money)
            return seen

        seen = await asyncio.gather(*[deposit_and_look() for _ in range(20)])
        assert all(1 <= value <= 20 for value in seen) and max(seen) == 20
        await handle.signal(Account.close)
        assert await handle.result() == 20
        await replay(worker, handle)


async def test_a_failing_query_fails_alone(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        with pytest.raises(WorkflowQueryFailedError, match="never asked before"):
            await handle.query(Account.fail)
        assert await handle.query(Account.money) == 0
        story = await told(handle)
    assert story.count("WORKFLOW_TASK_FAILED") == 0


async def test_a_query_may_not_change_anything(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        with pytest.raises(WorkflowQueryFailedError, match="read-only function"):
            await handle.query(Account.meddle)
        assert (await told(handle)).count("ACTIVITY_TASK_SCHEDULED") == 0


async def test_an_unknown_query_is_answered_with_the_names_there_are(client: Client) -> None:
    async with stage(client, Handlers) as worker:
        handle = await start(worker, Handlers.run)
        with pytest.raises(WorkflowQueryFailedError) as failed:
            await handle.query("no-such")
    assert "no-such" in str(failed.value) and "known" in str(failed.value)


@workflow.defn
class Handlers:
    """Changes what it can be asked while it runs."""

    def __init__(self) -> None:
        self.phase = "first"

    @workflow.run
    async def run(self) -> str:
        workflow.set_query_handler("now", lambda: f"{self.phase} now")
        await workflow.wait_condition(lambda: self.phase == "second")
        workflow.set_query_handler("now", lambda name: f"{self.phase} now, {name}")
        workflow.set_dynamic_query_handler(self.anything)
        return self.phase

    def anything(self, name: str, args: Sequence[RawValue]) -> str:
        return f"anything: {name} {len(args)}"

    @workflow.signal
    def go_on(self) -> None:
        self.phase = "second"

    @workflow.query
    def known(self) -> str:
        return self.phase


async def test_handlers_set_at_runtime_answer_even_after_the_end(client: Client) -> None:
    async with stage(client, Handlers) as worker:
        handle = await start(worker, Handlers.run)
        await begun(handle)
        assert await handle.query("now") == "first now"
        await handle.signal(Handlers.go_on)
        assert await handle.result() == "second"
        assert await handle.query("now", "you") == "second now, you"
        assert await handle.query("whatever", args=[1, 2]) == "anything: whatever 2"


@activity.defn
async def spell(word: str) -> str:
    return "-".join(word)


@workflow.defn
class Ends:
    """Ends well or badly, with something to tell."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @workflow.run
    async def run(self, how: str) -> str:
        self.log.append(await workflow.execute_activity(spell, "abc", start_to_close_timeout=LONG))
        self.log.append(await workflow.execute_local_activity(spell, "xy", start_to_close_timeout=LONG))
        await workflow.sleep(0.01)
        if how == "badly":
            raise ApplicationError("badly")
        return how

    @workflow.query
    def past(self) -> list[str]:
        return self.log


@pytest.mark.parametrize("how", ["well", "badly"])
@pytest.mark.parametrize("worker_is", ["the same", "a new one"])
async def test_a_closed_workflow_still_answers(client: Client, how: str, worker_is: str) -> None:
    """A new worker has only the history to answer from."""
    async with stage(client, Ends, activities=[spell]) as worker:
        handle = await start(worker, Ends.run, how)
        if how == "well":
            assert await handle.result() == "well"
        else:
            await failure_of(handle)
        if worker_is == "the same":
            assert await handle.query(Ends.past) == ["a-b-c", "x-y"]
    if worker_is == "a new one":
        async with stage(client, Ends, activities=[spell], task_queue=worker.task_queue):
            assert await handle.query(Ends.past) == ["a-b-c", "x-y"]


async def test_a_query_can_be_refused_for_closed_workflows(client: Client) -> None:
    async with stage(client, Account) as worker:
        handle = await start(worker, Account.run)
        assert await handle.query(Account.money, reject_condition=QueryRejectCondition.NOT_OPEN) == 0
        await handle.signal(Account.close)
        await handle.result()
        with pytest.raises(WorkflowQueryRejectedError):
            await handle.query(Account.money, reject_condition=QueryRejectCondition.NOT_OPEN)


async def test_a_query_is_answered_while_a_local_activity_runs(client: Client) -> None:
    """The workflow task is open all the while."""
    may_end = asyncio.Event()

    @activity.defn
    async def held() -> None:
        await may_end.wait()

    async with stage(client, Holds, activities=[held], graceful_shutdown_timeout=LONG) as worker:
        try:
            handle = await start(worker, Holds.run, task_timeout=timedelta(seconds=2))
            await handle.signal(Holds.mark)
            await eventually(lambda: answers(handle))
        finally:
            may_end.set()
        assert await handle.result() == 1
        await replay(worker, handle)


async def answers(handle: Any) -> None:
    assert await handle.query(Holds.marks) == 1


@workflow.defn
class Holds:
    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.count == 1)
        await workflow.execute_local_activity("held", start_to_close_timeout=LONG)
        return self.count

    @workflow.signal
    def mark(self) -> None:
        self.count += 1

    @workflow.query
    def marks(self) -> int:
        return self.count
