"""Workers, what the server wrote down, and replaying it. Nothing here knows what is tested."""

from __future__ import annotations

from typing import Any

import support
from support import eventually
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Replayer, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

RUNNER = SandboxedWorkflowRunner(SandboxRestrictions.default.with_passthrough_modules("_pytest", "pytest"))
"""The usual sandbox. Rewritten asserts import pytest: without this, anew for each workflow, at 150 ms a time."""


def new_worker(client: Client, *workflows: type, **options: Any) -> Worker:
    """`support.new_worker` with a sandbox that starts fast."""
    options.setdefault("workflow_runner", RUNNER)
    return support.new_worker(client, *workflows, **options)


def kind(event: HistoryEvent) -> str:
    """The type of an event in words: `activity_task_scheduled`."""
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()


async def kinds(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """The types of all events, in order."""
    return [kind(event) async for event in handle.fetch_history_events()]


async def found(handle: WorkflowHandle[Any, Any], name: str) -> list[Any]:
    """The attributes of all events of a type, in order."""
    every = [event async for event in handle.fetch_history_events()]
    return [getattr(event, f"{name}_event_attributes") for event in every if kind(event) == name]


async def awaited(handle: WorkflowHandle[Any, Any], name: str, count: int = 1) -> list[Any]:
    """`found`, once there are `count` of them."""

    async def enough() -> list[Any]:
        events = await found(handle, name)
        assert len(events) >= count, f"{len(events)} of {count} {name}"
        return events

    return await eventually(enough)


async def task_failure(handle: WorkflowHandle[Any, Any]) -> Failure:
    """Why the first failed workflow task failed; waits for it."""
    failure: Failure = (await awaited(handle, "workflow_task_failed"))[0].failure
    return failure


async def replay(handle: WorkflowHandle[Any, Any], *workflows: type, **options: Any) -> None:
    """Replays the history with these workflows; raises what the replay raises."""
    if not options.get("data_converter"):
        options["data_converter"] = handle._client.data_converter
    options.setdefault("workflow_runner", RUNNER)
    await Replayer(workflows=workflows, **options).replay_workflow(await handle.fetch_history())
