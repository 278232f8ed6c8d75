"""Small workflows and activities that several tests of the worker run, and two ways to read a history."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.common import RetryPolicy

BRIEF = timedelta(seconds=30)
ONCE = RetryPolicy(maximum_attempts=1)


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Greet:
    """One activity on the workflow's own queue."""

    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=BRIEF)


@workflow.defn
class GreetLocally:
    """One local activity."""

    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_local_activity(greet, name, start_to_close_timeout=BRIEF)


@workflow.defn
class Echo:
    """No commands but the last."""

    @workflow.run
    async def run(self, value: Any) -> Any:
        return value


@workflow.defn
class Collect:
    """Keeps what it is told until told to stop; each signal is a workflow task."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: "stop" in self.heard)
        return self.heard

    @workflow.signal
    def say(self, word: str) -> None:
        self.heard.append(word)

    @workflow.query
    def words(self) -> list[str]:
        return self.heard

    @workflow.update
    def ask(self, word: str) -> int:
        self.heard.append(word)
        return len(self.heard)


@workflow.defn
class FanOut:
    """The named activity so many times at once, on the workflow's own queue."""

    @workflow.run
    async def run(self, name: str, times: int, local: bool = False) -> list[Any]:
        if local:
            return await asyncio.gather(
                *(workflow.execute_local_activity(name, i, start_to_close_timeout=BRIEF) for i in range(times))
            )
        return await asyncio.gather(
            *(workflow.execute_activity(name, i, start_to_close_timeout=BRIEF) for i in range(times))
        )


async def events(handle: WorkflowHandle[Any, Any]) -> list[HistoryEvent]:
    return list((await handle.fetch_history()).events)


def kinds(history: list[HistoryEvent]) -> list[str]:
    """The types of events, as `WORKFLOW_EXECUTION_STARTED`."""
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history]


def only(history: list[HistoryEvent], kind: str) -> HistoryEvent:
    """The one event of this type."""
    found = [event for event, name in zip(history, kinds(history)) if name == kind]
    assert len(found) == 1, kinds(history)
    return found[0]
