"""How the tests of workflows are told: a worker for the story, and the history it leaves, replayed.

What replay promises is what was live: the same commands (the engine checks that) and the same end (checked here).
`OUTLAST_CACHED_WORKFLOWS=0` runs every story without a cache, so that each workflow task starts from the first event.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from support import eventually, new_worker, unique
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.converter import DefaultFailureConverter, default
from temporalio.api.failure.v1 import Failure
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

BaseError = TypeVar("BaseError", bound=BaseException)

SECOND = timedelta(seconds=1)
MOMENT = timedelta(milliseconds=10)
LONG = timedelta(seconds=60)
"""Longer than any test takes."""


def stage(client: Client, *workflows: type, activities: Sequence[Callable[..., Any]] = (), **options: Any) -> Worker:
    """A worker for the story. Heartbeats go out at once, so that cancellations come at once."""
    options.setdefault("workflow_runner", UnsandboxedWorkflowRunner())
    options.setdefault("max_heartbeat_throttle_interval", timedelta(milliseconds=50))
    options.setdefault("default_heartbeat_throttle_interval", timedelta(milliseconds=50))
    options.setdefault("max_cached_workflows", int(os.environ.get("OUTLAST_CACHED_WORKFLOWS", "100")))
    return new_worker(client, *workflows, activities=activities, **options)


async def start(worker: Worker, workflow: Any, *args: Any, **options: Any) -> WorkflowHandle[Any, Any]:
    """Starts a workflow on the worker's queue."""
    options.setdefault("id", unique("workflow"))
    handle: WorkflowHandle[Any, Any] = await worker.client.start_workflow(
        workflow, args=args, task_queue=worker.task_queue, **options
    )
    return handle


async def run_and_replay(worker: Worker, workflow: Any, *args: Any, **options: Any) -> tuple[Any, Told]:
    """Runs a workflow to its good end; its result and its history, which replays to that result."""
    handle = await start(worker, workflow, *args, **options)
    result = await handle.result()
    return result, await replay(worker, handle)


async def fail_and_replay(
    worker: Worker, workflow: Any, *args: Any, same_end: bool = True, **options: Any
) -> tuple[BaseException, Told]:
    """Runs a workflow to its bad end; the failure's cause and the history, which replays to that failure."""
    handle = await start(worker, workflow, *args, **options)
    return await failure_of(handle), await replay(worker, handle, same_end)


async def failure_of(handle: WorkflowHandle[Any, Any]) -> BaseException:
    """What the workflow failed with."""
    try:
        result = await handle.result()
    except WorkflowFailureError as error:
        return error.cause
    raise AssertionError(f"the workflow did not fail but returned {result!r}")


def caused(error: BaseException | None, kind: type[BaseError]) -> BaseError:
    """The cause of an error, which is of this kind."""
    assert error is not None
    cause = error.__cause__
    assert isinstance(cause, kind), f"{cause!r} is no {kind.__name__}"
    return cause


class Told:
    """A history, read by the names of its events."""

    def __init__(self, history: WorkflowHistory) -> None:
        self.history = history
        self.events: list[HistoryEvent] = list(history.events)

    def kinds(self, *without: str) -> list[str]:
        """The events' kinds in order, like `TIMER_STARTED`, workflow tasks left out."""
        names = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in self.events]
        return [name for name in names if not name.startswith("WORKFLOW_TASK") and name not in without]

    def count(self, kind: str) -> int:
        return len(self.all(kind))

    def all(self, kind: str) -> list[HistoryEvent]:
        wanted = EventType.Value(f"EVENT_TYPE_{kind}")
        return [event for event in self.events if event.event_type == wanted]

    def one(self, kind: str) -> HistoryEvent:
        """The only event of this kind."""
        found = self.all(kind)
        assert len(found) == 1, f"{len(found)} events {kind} in {self.kinds()}"
        return found[0]

    def attributes(self, kind: str) -> Any:
        """The attributes of the only event of this kind."""
        event = self.one(kind)
        return getattr(event, event.WhichOneof("attributes") or "")


async def told(handle: WorkflowHandle[Any, Any]) -> Told:
    """The history so far."""
    return Told(await handle.fetch_history())


async def until(handle: WorkflowHandle[Any, Any], kind: str, count: int = 1, seconds: float = 15) -> Told:
    """The history, once it has this many events of this kind."""

    async def check() -> Told:
        story = await told(handle)
        assert story.count(kind) >= count
        return story

    return await eventually(check, seconds)


async def begun(handle: WorkflowHandle[Any, Any]) -> Told:
    """The history, once the workflow has done its first task."""
    return await until(handle, "WORKFLOW_TASK_COMPLETED")


async def replay(worker: Worker, handle: WorkflowHandle[Any, Any], same_end: bool = True) -> Told:
    """The history, replayed with the worker's workflows: to the same end, if it has ended."""
    history = await handle.fetch_history()
    end = End()
    config = worker.config()
    await Replayer(
        workflows=list(config["workflows"]),
        workflow_runner=config["workflow_runner"],
        workflow_failure_exception_types=config["workflow_failure_exception_types"],
        data_converter=worker.client.data_converter,
        interceptors=[end],
    ).replay_workflow(history)
    story = Told(history)
    if same_end:
        end.compare(story.events[-1])
    return story


class End(Interceptor):
    """Sees how a replayed workflow ends."""

    def __init__(self) -> None:
        self.returned: list[Any] = []
        self.raised: list[BaseException] = []

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        end = self

        class Watch(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                try:
                    result = await super().execute_workflow(input)
                except Exception as error:
                    end.raised.append(error)
                    raise
                end.returned.append(result)
                return result

        return Watch

    def compare(self, event: HistoryEvent) -> None:
        """The recorded end is the one seen."""
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            recorded = list(event.workflow_execution_completed_event_attributes.result.payloads)
            assert default().payload_converter.to_payloads(self.returned) == recorded
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            assert len(self.raised) == 1
            failure = Failure()
            DefaultFailureConverter().to_failure(self.raised[0], default().payload_converter, failure)
            assert outline(failure) == outline(event.workflow_execution_failed_event_attributes.failure)


def outline(failure: Failure) -> list[tuple[str, str | None]]:
    """Message and kind of a failure and its causes: what does not depend on the place it was raised."""
    causes = outline(failure.cause) if failure.HasField("cause") else []
    return [(failure.message, failure.WhichOneof("failure_info")), *causes]
