"""The histories of a fleet: every run of a workflow and of its children, checked, and replayed on an engine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from switchover.processes import Process
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowHistory

CLOSE_WHEN_NEWS_CAME = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
"""The server's own word for a task that closes a workflow while a signal comes in: it is done again. No other cause is good."""


async def of(client: Client, workflow_id: str, run_id: str | None) -> list[WorkflowHistory]:
    """The history of this run, of those it continued as, and of all children."""
    history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    found = [history]
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            after = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
            found += await of(client, workflow_id, after)
        elif event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
            child = event.child_workflow_execution_started_event_attributes.workflow_execution
            found += await of(client, child.workflow_id, child.run_id)
    return found


def check(history: WorkflowHistory) -> None:
    """No task of it failed, but for what the server does by itself."""
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failed = event.workflow_task_failed_event_attributes
            assert failed.cause == CLOSE_WHEN_NEWS_CAME, f"{history.workflow_id}: {failed}"


def identities(history: WorkflowHistory) -> set[str]:
    """The workers that completed its tasks."""
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return {
        event.workflow_task_completed_event_attributes.identity
        for event in history.events
        if event.event_type == completed
    }


def write(folder: Path, histories: list[WorkflowHistory]) -> None:
    for number, history in enumerate(histories):
        text = json.dumps({"id": history.workflow_id, "history": history.to_json_dict()})
        (folder / f"{number:04}.json").write_text(text)


async def replay(engine: str, folder: Path, count: int) -> None:
    """Replays what `write` wrote, in a process of `engine`."""
    process = Process("switchover.replay", engine, str(folder))
    out, _ = await asyncio.to_thread(process.process.communicate, timeout=60)
    assert out.strip(), process.said()
    answer = json.loads(out.splitlines()[-1])
    assert answer == {"replayed": count, "wrong": {}}, f"on {engine}: {answer}"
