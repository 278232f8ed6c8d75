"""Programs and histories with one change, from a seed: code that is not what a history was made with, and histories that were
not made by any code. Pure: programs are dictionaries (program.py), histories are the JSON of their events.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

from soak.programs import Step
from twins.seeded.program import LEAVES, Maker, Program

Event = dict[str, Any]
NEW = 900
"""From here on ids are of steps that a change added."""


class Change:
    """One change of a program. `CODE` names the kinds."""

    def __init__(self, program: Program, source: random.Random) -> None:
        self.program = copy.deepcopy(program)
        self.random = source
        self.maker = Maker(source, wild=False)
        self.maker.count = NEW
        self.lists = [self.program["steps"]]
        for step in self.program["steps"]:
            self.lists += step.get("branches", []) if step["do"] == "parallel" else []

    def place(self, at_least: int = 1) -> tuple[list[Step], int]:
        """A list of steps, and where in it to begin. The list may be shorter, if none is long enough."""
        steps = self.random.choice([it for it in self.lists if len(it) >= at_least] or [self.lists[0]])
        return steps, self.random.randint(0, max(0, len(steps) - at_least))

    def another(self) -> Step:
        return self.maker.step(self.random.choice(LEAVES))

    def other(self) -> None:
        steps, at = self.place()
        steps[at : at + 1] = [self.another()]

    def renamed(self) -> None:
        for steps in self.lists:
            for step in steps:
                if step["do"] in ("activity", "local"):
                    step["type"] = "renamed"

    def more(self) -> None:
        steps, at = self.place()
        steps.insert(at, self.another())

    def less(self) -> None:
        steps, at = self.place()
        del steps[at : at + 1]

    def swapped(self) -> None:
        steps, at = self.place(2)
        steps[at : at + 2] = reversed(steps[at : at + 2])

    def early(self) -> None:
        steps = self.program["steps"]
        del steps[self.random.randrange(len(steps)) if steps else 0 :]

    def on(self) -> None:
        self.program["steps"].append(self.another())

    def end(self) -> None:
        self.program["end"] = "return" if self.program["end"] == "fail" else "fail"

    def together(self) -> None:
        steps, at = self.place(2)
        branches = [[step] for step in steps[at : at + 2]]
        steps[at : at + 2] = [{**self.maker.step("yield"), "do": "parallel", "branches": branches}]

    def harmless(self) -> None:
        """What asks for nothing, between steps that follow each other. Runs that were continued count the steps before."""
        steps = self.program["steps"]
        first = max((at + 1 for at, step in enumerate(steps) if step["do"] == "continue"), default=0)
        nothing = self.maker.step(self.random.choice(["yield", "details"]))
        steps.insert(self.random.randint(first, len(steps)), nothing)

    def patched(self) -> None:
        steps = self.program["steps"]
        patches = [step for step in steps if step["do"] in ("patch", "deprecate")]
        if patches:
            steps.remove(self.random.choice(patches))
        else:
            steps.insert(self.random.randint(0, len(steps)), self.maker.step("patch"))


CODE: dict[str, Callable[[Change], None]] = {
    kind: getattr(Change, kind)
    for kind in ("other", "renamed", "more", "less", "swapped", "early", "on", "end", "together", "patched", "harmless")
}


def changed_code(program: Program, kind: str, seed: str) -> Program:
    change = Change(program, random.Random(seed))
    CODE[kind](change)
    return change.program


def dropped(events: list[Event], at: int, source: random.Random) -> None:
    del events[at]


def repeated(events: list[Event], at: int, source: random.Random) -> None:
    events.insert(at, copy.deepcopy(events[at]))


def exchanged(events: list[Event], at: int, source: random.Random) -> None:
    """Two that stand beside each other; the ids stay in their order."""
    if at + 1 < len(events):
        one, two = events[at : at + 2]
        one["eventId"], two["eventId"] = two["eventId"], one["eventId"]
        events[at : at + 2] = [two, one]


def shifted(events: list[Event], at: int, source: random.Random) -> None:
    """The ids from here on."""
    by = source.choice([-1, 1, 5])
    for event in events[at:]:
        event["eventId"] = str(int(event["eventId"]) + by)


def stripped(events: list[Event], at: int, source: random.Random) -> None:
    """All attributes."""
    for name in [name for name in events[at] if name.endswith("Attributes")]:
        events[at][name] = {}


def lessened(events: list[Event], at: int, source: random.Random) -> None:
    """One attribute."""
    for name in [name for name in events[at] if name.endswith("Attributes") and events[at][name]]:
        del events[at][name][source.choice(sorted(events[at][name]))]


def truncated(events: list[Event], at: int, source: random.Random) -> None:
    del events[max(1, at) :]


def retyped(events: list[Event], at: int, source: random.Random) -> None:
    """The type of one, with the attributes of another."""
    events[at]["eventType"] = source.choice(events)["eventType"]


def redirected(events: list[Event], at: int, source: random.Random) -> None:
    """What it says of other events."""
    for attributes in [value for name, value in events[at].items() if name.endswith("Attributes")]:
        for name in [name for name in attributes if name.endswith("EventId")]:
            attributes[name] = str(source.randint(1, len(events) + 1))


def moved(events: list[Event], at: int, source: random.Random) -> None:
    """To the end, with the id that it has there."""
    last = events[-1]["eventId"]
    events.append({**events.pop(at), "eventId": str(int(last) + 1)})


DAMAGES = [dropped, repeated, exchanged, shifted, stripped, lessened, truncated, retyped, redirected, moved]
HISTORY: dict[str, Callable[[list[Event], int, random.Random], None]] = {damage.__name__: damage for damage in DAMAGES}


def damaged_history(events: list[Event], kind: str, seed: str) -> list[Event]:
    source = random.Random(seed)
    damaged = copy.deepcopy(events)
    HISTORY[kind](damaged, source.randrange(len(damaged)), source)
    return damaged
