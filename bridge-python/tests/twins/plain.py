"""Histories and requests without what is different each time: times, ids, tokens, who took which task when."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import temporalio.api.workflowservice.v1 as service
from google.protobuf.json_format import MessageToDict
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

if TYPE_CHECKING:
    from twins.proxy import Call

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
PART_OF_A_TIME = re.compile(r'\\?"(seconds|nanos)\\?": ?\d+')
RUN = re.compile(r'"runId": "ID", ')
STACK = re.compile(r'"stackTrace": "(?:[^"\\]|\\.)*"')
TASKS = re.compile(r"EVENT_TYPE_WORKFLOW_TASK_(SCHEDULED|STARTED|COMPLETED)")
EACH_TIME = {"eventTime", "taskId", "version", "requestId", "historySizeBytes", "workflowTaskCompletedEventId"}
EACH_TIME |= {"firstWorkflowTaskBackoff", "workflowExecutionExpirationTime"}


def story(
    history: WorkflowHistory, arranged: Callable[[list[HistoryEvent]], list[HistoryEvent]] = list
) -> list[str]:
    """One line for each event that is not about workflow tasks: which of those there were is a matter of speed. What
    all of them said of their worker comes last. `arranged` gives the order of events, and leaves some out."""
    kept = arranged([event for event in history.events if not TASKS.match(EventType.Name(event.event_type))])
    number = {str(event.event_id): f"#{n}" for n, event in enumerate(kept)}
    lines = []
    for event in kept:
        told = MessageToDict(event)
        told["eventId"] = number[told["eventId"]]
        lines.append(plain(told, number))
    said = set()
    for event in history.events:
        if EventType.Name(event.event_type) == "EVENT_TYPE_WORKFLOW_TASK_COMPLETED":
            told = MessageToDict(event.workflow_task_completed_event_attributes)
            said |= {f"{path} = {value}" for path, value in leaves(told) if value != "{}" and not path.endswith("EventId")}
    return lines + sorted(said)


def plain(told: Any, number: dict[str, str]) -> str:
    """An event as text."""

    def clean(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: clean(inner, key) for key, inner in value.items() if key not in EACH_TIME}
        if isinstance(value, list):
            return [clean(inner, name) for inner in value]
        if name == "data" and isinstance(value, str):
            return base64.b64decode(value).decode(errors="replace")
        if name.endswith("EventId"):
            return number.get(value, "a task")
        return value

    return anonymous(json.dumps(clean(told, ""), sort_keys=True))


def known(line: str) -> str:
    """The line without the run that the cancellation of a child names: ours names none, for the child may have gone on as another."""
    return RUN.sub("", line) if "CANCEL_EXTERNAL" in line or "EXTERNAL_WORKFLOW_EXECUTION_CANCEL" in line else line


def anonymous(text: str) -> str:
    for pattern, word in [(UUID, "ID"), (TIME, "TIME"), (PART_OF_A_TIME, "T"), (STACK, "STACK")]:
        text = pattern.sub(word, text)
    return text


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every field with a value, named by its path; items of a list share theirs."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from leaves(inner, f"{path}[]")
    else:
        yield path, str(value)


UNSTEADY = re.compile(
    r"token|time$|id$|\.data$|stackTrace|history|elapsed|hostInfo|pollerInfo|current|last|total|slots|heartbeat", re.I
)
"""Fields whose presence counts, not their value."""


def requests(calls: list[Call]) -> dict[str, list[str]]:
    """For each RPC what was ever said in it: fields and metadata, with their values where these do not change."""
    said: dict[str, set[str]] = defaultdict(set)
    for call in calls:
        name = call.method.rsplit("/", 1)[1]
        request = getattr(service, f"{name}Request", None)
        facts = said[name]
        for key, value in call.metadata:
            if key != "user-agent":  # it names the HTTP library
                facts.add(f"metadata {key} = {anonymous(str(value))}")
        # What is left of it when the call comes: on a busy machine that is seconds less.
        facts.add(f"timeout = {call.seconds and math.ceil(call.seconds / 10) * 10}")
        if request is None:
            continue
        for path, value in leaves(MessageToDict(request.FromString(call.request))):
            if path.startswith(".workerHeartbeat"):
                continue  # the state of a moment
            steady = not UNSTEADY.search(path)
            facts.add(f"{anonymous(path)} = {anonymous(value)}" if steady else anonymous(path))
    return {name: sorted(facts) for name, facts in said.items()}
