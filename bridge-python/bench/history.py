"""Histories made without a server. They say what a server would have recorded; the workflow of `work.py` replays them."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import ActivityType, Payloads, WorkflowType
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

RUN = "6a39f4a4-4c5e-4d3b-9a3e-0d1f7f3b6c11"
START = 1_750_000_000


def activities(count: int) -> WorkflowHistory:
    """`Steps` with `count` activities one after the other: 5 events and 6 for each activity."""
    queue = TaskQueue(name="queue")
    events: list[HistoryEvent] = []

    def add(kind: EventType.ValueType) -> HistoryEvent:
        number = len(events) + 1
        time = Timestamp(seconds=START + number // 100, nanos=number % 100 * 10_000_000)
        events.append(HistoryEvent(event_id=number, event_time=time, event_type=kind, task_id=1_048_576 + number))
        return events[-1]

    def task() -> int:
        add(EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED).workflow_task_scheduled_event_attributes.task_queue.CopyFrom(queue)
        started = add(EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED).workflow_task_started_event_attributes
        started.scheduled_event_id, started.identity = len(events) - 1, "bench"
        completed = add(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED).workflow_task_completed_event_attributes
        completed.scheduled_event_id, completed.started_event_id = len(events) - 2, len(events) - 1
        return len(events)

    begun = add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED).workflow_execution_started_event_attributes
    begun.workflow_type.CopyFrom(WorkflowType(name="Steps"))
    begun.task_queue.CopyFrom(queue)
    begun.input.CopyFrom(payloads(count))
    begun.original_execution_run_id = begun.first_execution_run_id = RUN
    begun.workflow_task_timeout.FromSeconds(10)
    begun.attempt = 1
    turn = task()
    for number in range(count):
        scheduled = add(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED).activity_task_scheduled_event_attributes
        scheduled.activity_id = str(number + 1)
        scheduled.activity_type.CopyFrom(ActivityType(name="step"))
        scheduled.task_queue.CopyFrom(queue)
        scheduled.input.CopyFrom(payloads(number))
        scheduled.start_to_close_timeout.FromSeconds(60)
        scheduled.workflow_task_completed_event_id = turn
        started = add(EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED).activity_task_started_event_attributes
        started.scheduled_event_id, started.identity, started.attempt = len(events) - 1, "bench", 1
        completed = add(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED).activity_task_completed_event_attributes
        completed.scheduled_event_id, completed.started_event_id = len(events) - 2, len(events) - 1
        completed.result.CopyFrom(payloads(number + 1))
        turn = task()
    ended = add(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED).workflow_execution_completed_event_attributes
    ended.result.CopyFrom(payloads(count))
    ended.workflow_task_completed_event_id = turn
    return WorkflowHistory("bench", events)


def payloads(value: object) -> Payloads:
    return Payloads(payloads=DataConverter.default.payload_converter.to_payloads([value]))
