"""Workflows whose histories tests replay, and how the histories come about."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle, WorkflowHistory

BRIEF = timedelta(seconds=30)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Visit:
    """An activity, a timer, a local activity, in this order."""

    @workflow.run
    async def run(self, name: str) -> str:
        greeting: str = await workflow.execute_activity(greet, name, start_to_close_timeout=BRIEF)
        await workflow.sleep(0.01)
        again: str = await workflow.execute_local_activity(greet, name, start_to_close_timeout=BRIEF)
        return f"{greeting} {again}"


@workflow.defn(name="Visit")
class TimerFirst:
    """Another program under the same name: it does not fit the histories of `Visit`."""

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.sleep(0.01)
        return await workflow.execute_activity(greet, name, start_to_close_timeout=BRIEF)


@workflow.defn(name="Visit")
class OtherActivity:
    """The same shape with another activity's name."""

    @workflow.run
    async def run(self, name: str) -> Any:
        return await workflow.execute_activity("shout", name, start_to_close_timeout=BRIEF)


@workflow.defn(name="Visit")
class EndsEarly:
    @workflow.run
    async def run(self, name: str) -> str:
        return name


@workflow.defn(name="Visit")
class Buggy:
    @workflow.run
    async def run(self, name: str) -> str:
        raise LookupError("lost")


@workflow.defn
class Child:
    @workflow.run
    async def run(self, number: int) -> int:
        return number + 1


@workflow.defn
class Parent:
    """A child, then itself again, until the number is 3."""

    @workflow.run
    async def run(self, number: int) -> int:
        number = await workflow.execute_child_workflow(Child.run, number, id=f"{workflow.info().workflow_id}-{number}")
        if number < 3:
            workflow.continue_as_new(number)
        return number


@workflow.defn
class Patched:
    @workflow.run
    async def run(self) -> str:
        if workflow.patched("greet-locally"):
            return await workflow.execute_local_activity(greet, "new", start_to_close_timeout=BRIEF)
        return await workflow.execute_activity(greet, "old", start_to_close_timeout=BRIEF)


@workflow.defn(name="Patched")
class BeforePatch:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(greet, "old", start_to_close_timeout=BRIEF)


@workflow.defn(name="Patched")
class AfterPatch:
    @workflow.run
    async def run(self) -> str:
        workflow.deprecate_patch("greet-locally")
        return await workflow.execute_local_activity(greet, "new", start_to_close_timeout=BRIEF)


@workflow.defn
class Ledger:
    """Updates that run activities, with a validator; ends when told to."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed and workflow.all_handlers_finished())
        return self.entries

    @workflow.update
    async def enter(self, name: str) -> int:
        self.entries.append(await workflow.execute_activity(greet, name, start_to_close_timeout=BRIEF))
        return len(self.entries)

    @enter.validator
    def check(self, name: str) -> None:
        if not name:
            raise ValueError("nameless")

    @workflow.signal
    def close(self) -> None:
        self.closed = True


@workflow.defn(name="Ledger")
class LedgerWithoutActivity:
    def __init__(self) -> None:
        self.closed = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.closed)

    @workflow.update
    async def enter(self, name: str) -> int:
        return 1

    @workflow.signal
    def close(self) -> None:
        self.closed = True


async def record(client: Client, program: type, *args: Any, **options: Any) -> WorkflowHistory:
    """Runs the workflow to its end on a worker of its own; its history."""
    async with new_worker(client, program, activities=[greet], **options) as worker:
        name = workflow._Definition.must_from_class(program).name
        assert name
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            name, args=args, id=unique(), task_queue=worker.task_queue
        )
        await handle.result()
        return await handle.fetch_history()


def edited(history: WorkflowHistory, change: Any) -> WorkflowHistory:
    """The history after `change(events)` on the list of its JSON events."""
    document = json.loads(history.to_json())
    change(document["events"])
    return WorkflowHistory.from_json(history.workflow_id, document)
