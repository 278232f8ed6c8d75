"""Histories written by hand, as workers of other years left them: event by event, with the flags of their time."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from temporalio.client import WorkflowHistory


def payloads(*values: Any) -> dict[str, Any]:
    """Values as a field of payloads in JSON; `None` as the null of the package."""
    made: list[dict[str, Any]] = []
    for value in values:
        if value is None:
            made.append({"metadata": {"encoding": b64encode(b"binary/null").decode()}})
        else:
            data = b64encode(json.dumps(value).encode()).decode()
            made.append({"metadata": {"encoding": b64encode(b"json/plain").decode()}, "data": data})
    return {"payloads": made}


class Scribe:
    """Writes events in the order they are told; what refers to another event is given its number."""

    def __init__(self, kind: str, *arguments: Any, run_id: str = "11111111-2222-4333-8444-555555555555") -> None:
        self.events: list[dict[str, Any]] = []
        self.completed = 0
        self.write(
            "WORKFLOW_EXECUTION_STARTED",
            workflowType={"name": kind},
            taskQueue={"name": "of-old"},
            input=payloads(*arguments) if arguments else None,
            workflowTaskTimeout="10s",
            originalExecutionRunId=run_id,
            firstExecutionRunId=run_id,
            attempt=1,
            workflowId="of-old",
        )

    def write(self, kind: str, **attributes: Any) -> int:
        number = len(self.events) + 1
        first, *rest = kind.lower().split("_")
        field = first + "".join(word.capitalize() for word in rest) + "EventAttributes"
        given = {name: value for name, value in attributes.items() if value is not None}
        self.events.append(
            {
                "eventId": str(number),
                "eventTime": f"2024-12-30T22:38:{number:02}.{number:06}Z",
                "eventType": f"EVENT_TYPE_{kind}",
                "taskId": str(1000 + number),
                field: given,
            }
        )
        return number

    def task_scheduled(self) -> int:
        return self.write("WORKFLOW_TASK_SCHEDULED", taskQueue={"name": "of-old"}, startToCloseTimeout="10s", attempt=1)

    def task_done(self, scheduled: int, core: list[int] | None = None, lang: list[int] | None = None) -> int:
        """The start and the completion of a workflow task; the number of the latter."""
        started = self.write("WORKFLOW_TASK_STARTED", scheduledEventId=str(scheduled), historySizeBytes="400")
        metadata = {"coreUsedFlags": core or [], "langUsedFlags": lang or []} if core or lang else None
        self.completed = self.write(
            "WORKFLOW_TASK_COMPLETED",
            scheduledEventId=str(scheduled),
            startedEventId=str(started),
            sdkMetadata=metadata,
        )
        return self.completed

    def task(self, core: list[int] | None = None, lang: list[int] | None = None) -> int:
        return self.task_done(self.task_scheduled(), core, lang)

    def signal(self, name: str, *arguments: Any) -> int:
        return self.write("WORKFLOW_EXECUTION_SIGNALED", signalName=name, input=payloads(*arguments))

    def activity(self, id: str, kind: str, *arguments: Any) -> int:
        return self.write(
            "ACTIVITY_TASK_SCHEDULED",
            activityId=id,
            activityType={"name": kind},
            taskQueue={"name": "of-old"},
            input=payloads(*arguments) if arguments else None,
            startToCloseTimeout="30s",
            workflowTaskCompletedEventId=str(self.completed),
        )

    def activity_done(self, scheduled: int, result: Any) -> int:
        started = self.write("ACTIVITY_TASK_STARTED", scheduledEventId=str(scheduled), attempt=1)
        return self.write(
            "ACTIVITY_TASK_COMPLETED",
            result=payloads(result),
            scheduledEventId=str(scheduled),
            startedEventId=str(started),
        )

    def timer(self, id: str, duration: str) -> int:
        completed = str(self.completed)
        return self.write("TIMER_STARTED", timerId=id, startToFireTimeout=duration, workflowTaskCompletedEventId=completed)

    def child_cancelled(self, id: str, details: Any) -> None:
        """A child is asked for and starts, and after a task it is cancelled."""
        child = {"workflowExecution": {"workflowId": id, "runId": "kid"}, "workflowType": {"name": "Kid"}}
        completed = str(self.completed)
        asked = self.write(
            "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
            workflowId=id,
            workflowType={"name": "Kid"},
            workflowTaskCompletedEventId=completed,
        )
        started = self.write("CHILD_WORKFLOW_EXECUTION_STARTED", initiatedEventId=str(asked), **child)
        self.task()
        self.write(
            "CHILD_WORKFLOW_EXECUTION_CANCELED",
            initiatedEventId=str(asked),
            startedEventId=str(started),
            details=payloads(details),
            **child,
        )

    def fired(self, id: str, started: int) -> int:
        return self.write("TIMER_FIRED", timerId=id, startedEventId=str(started))

    def update(self, id: str, name: str, *arguments: Any, after: int) -> int:
        """That an update was accepted, which came after that event."""
        return self.write(
            "WORKFLOW_EXECUTION_UPDATE_ACCEPTED",
            protocolInstanceId=id,
            acceptedRequestMessageId=f"{id}/request",
            acceptedRequestSequencingEventId=str(after),
            acceptedRequest={
                "meta": {"updateId": id},
                "input": {"name": name, "args": payloads(*arguments) if arguments else None},
            },
        )

    def update_done(self, id: str, accepted: int, result: Any) -> int:
        return self.write(
            "WORKFLOW_EXECUTION_UPDATE_COMPLETED",
            meta={"updateId": id},
            acceptedEventId=str(accepted),
            outcome={"success": payloads(result)},
        )

    def ended(self, result: Any) -> int:
        completed = str(self.completed)
        return self.write(
            "WORKFLOW_EXECUTION_COMPLETED", result=payloads(result), workflowTaskCompletedEventId=completed
        )

    def history(self) -> WorkflowHistory:
        return WorkflowHistory.from_json("of-old", json.dumps({"events": self.events}))
