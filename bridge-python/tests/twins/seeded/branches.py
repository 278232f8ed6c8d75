"""The history of a random program as text that does not depend on how fast its branches went on beside each other: branch by
branch, each in its own order, known by the keys of their steps (workflow.py)."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from twins.plain import known, plain, story
from twins.seeded.workflow import BY_TIMER

KEY = re.compile(r"\[(m|\d+\.\d+):(\d+)u?(~?\^?)\]")
REFERENCES = ("scheduledEventId", "initiatedEventId", "acceptedEventId", "startedEventId")
OF_ALL = re.compile("WORKFLOW_EXECUTION_(STARTED|COMPLETED|FAILED|CANCELED|CONTINUED_AS_NEW|CANCEL_REQUESTED)$")
AGAIN = (EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)
COMES_LATER = re.compile("STARTED|COMPLETED|FAILED|CANCELED|TIMED_OUT|EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED|TERMINATED")
EACH_TIME = [
    # Commands are numbered over all branches.
    (re.compile(r'"timerId": "\d+"'), '"timerId": "N"'),
    (re.compile(r'\\"seq\\": ?\d+'), "SEQ"),
    (re.compile(r'\\"activation_index\\": ?\d+'), "INDEX"),
    # Of another history, or of another branch.
    (re.compile(r'"(parentInitiated|externalInitiated|acceptedRequestSequencing)EventId": "[^"]*"'), "ELSEWHERE"),
    # Without an attempt it is none with one of the two.
    (re.compile(r'\\"complete_time\\": ?(null|\{[^}]*\})'), "COMPLETED"),
    # By attempts of local activities in tasks: how many tasks there were is a matter of speed.
    (re.compile(r"^\.meteringMetadata.*"), "METERED"),
]


def branch_by_branch(history: WorkflowHistory) -> list[str]:
    def told(line: str) -> str:
        for pattern, word in EACH_TIME:
            line = pattern.sub(word, line)
        return line

    return [told(known(line)) for line in story(history, arranged)]


def arranged(events: list[HistoryEvent]) -> list[HistoryEvent]:
    places = dict(zip((event.event_id for event in events), places_of(events), strict=True))
    # A task that was too slow is done again, or one that news came in between; other failures are looked for elsewhere.
    done = [event for event in events if event.event_type not in AGAIN]
    kept = [event for event in done if not (places[event.event_id][2] and left_behind(event))]
    return sorted(kept, key=lambda event: places[event.event_id])


def left_behind(event: HistoryEvent) -> bool:
    """What comes of an operation that was given up, at any time or never."""
    name = EventType.Name(event.event_type)
    return "INITIATED" not in name and bool(COMES_LATER.search(name))


def places_of(events: list[HistoryEvent]) -> list[tuple[str, str, bool]]:
    """The branch of each event, its place there if it has one of its own, and whether its operation is left behind."""
    keys: dict[str, re.Match[str] | None] = {}
    branch_of_step: dict[str, str] = {}
    places: list[tuple[str, str, bool]] = []
    waiting: list[tuple[int, str]] = []
    for event in events:
        told = MessageToDict(event)
        attributes: Any = next((value for name, value in told.items() if name.endswith("Attributes")), {})
        referred = [keys[attributes[name]] for name in REFERENCES if keys.get(attributes.get(name))]
        key = referred[0] if referred else own_key(told["eventType"], attributes, plain(told, {}))
        keys[told["eventId"]] = key
        if key:
            branch_of_step.setdefault(key[2], key[1])
        millis = round(float(attributes.get("startToFireTimeout", "0s").rstrip("s")) * 1000)
        if not key and BY_TIMER < millis < 2 * BY_TIMER:
            waiting.append((len(places), str(millis - BY_TIMER)))
        places.append(place(key))
    for position, step in waiting:
        places[position] = (branch_of_step.get(step, "m"), "", False)
    return places


def own_key(name: str, attributes: Any, text: str) -> re.Match[str] | None:
    """By the name of what is asked for, else by the first key in the text."""
    if OF_ALL.search(name):
        return None
    execution = attributes.get("workflowExecution", {})
    named = attributes.get("activityId") or attributes.get("workflowId") or execution.get("workflowId")
    # The name of a child begins with that of its parent, which may be a child, too.
    found = list(KEY.finditer(named or ""))
    return found[-1] if found else KEY.search(text)


def place(key: re.Match[str] | None) -> tuple[str, str, bool]:
    if not key:
        return ("m", "", False)
    return (key[1], key[2] if "^" in key[3] else "", "~" in key[3])

