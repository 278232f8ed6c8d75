"""Random workflow programs for twins: everything that a workflow can do, from a seed. Pure: no clock, no `temporalio`.

A program is a dictionary that JSON can carry: its name, its steps, and how it ends. Steps are made as those of the soak are.

There are two kinds. A *steady* program does nothing whose course depends on how fast something is, so the histories that two
engines make of it can be compared: what it cancels was not sent or is known to run, races have one possible winner. A *wild*
one cancels and races at any time; its histories are only replayed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from soak import programs as soak
from soak.programs import Step

Program = dict[str, Any]

HOW = ["ok", "ok", "ok", "retried", "plain", "final", "delayed", "benign"]
"""How an activity ends: `work` in workflow.py."""
CANCELLATIONS = ["try", "wait", "abandon"]
CHILD_CANCELLATIONS = ["try", "requested", "wait", "abandon"]
UPDATES = ["now", "timer", "activity", "local", "fail", "reject"]
LEAVES = [
    *["activity", "local"] * 3,
    *["timer", "timeout", "yield", "memo", "attributes", "tell", "ask", "query"],
    *["signal_child", "signal_nobody", "cancel_nobody", "child_twice", "cancel_child"],
    *["cancel_timer", "cancel_activity", "cancel_local"] * 2,
]
"""What may stand anywhere, as often as it is likely."""
ON_TOP = ["patch", "patch", "deprecate", "details"]
"""What all branches see, or write into one list: not in a branch."""
ENDLESS = ["timer", "activity", "child", "condition"]
ENDS = ["return", "return", "return", "fail"]


def generate(seed: int, wild: bool = False) -> Program:
    maker = Maker(random.Random(seed if not wild else f"wild {seed}"), wild)
    chance = maker.random.random
    steps = maker.steps(maker.random.randint(2, 7), depth=2)
    for kind, likely in [("continue", 0.2), ("cancelled", 0.25), *((kind, 0.15) for kind in ON_TOP)]:
        if chance() < likely:
            steps.insert(maker.random.randint(0, len(steps)), maker.step(kind))
    return {"name": f"{'wild' if wild else 'steady'}-{seed}", "steps": steps, "end": maker.random.choice(ENDS)}


class Maker(soak.Maker):
    def __init__(self, source: random.Random, wild: bool) -> None:
        super().__init__(source)
        self.wild = wild

    def kind(self, depth: int) -> str:
        chance = self.random.random()
        if depth > 0 and chance < 0.35:
            return self.random.choice(["child", "parallel", "parallel", "race", "scope"])
        return self.random.choice(LEAVES)

    def step(self, kind: str, depth: int = 0) -> Step:
        choose = self.random.choice
        self.count += 1
        step: Step = {"do": kind, "id": self.count, "number": self.random.randrange(1_000)}
        match kind:
            case "activity" | "local":
                step["how"] = choose(HOW)
                step["timed_by"] = choose(["attempt", "all"])
                if kind == "local" and step["how"] in ("retried", "plain"):
                    step["by_timer"] = self.random.random() < 0.3
            case "timer" | "timeout":
                step["ms"] = choose([1, 10, 50])
            case "ask":
                step["update"] = choose(UPDATES)
            case "cancel_timer":
                step["when"] = self.when()
            case "cancel_activity" | "cancel_local":
                step["cancellation"] = choose(CANCELLATIONS)
                step["when"] = self.when()
            case "cancel_child":
                step["cancellation"] = choose(CHILD_CANCELLATIONS)
                step["when"] = self.when()
            case "child":
                steps = self.steps(self.random.randint(1, 3), depth - 1)
                step["program"] = {"name": "", "steps": steps, "end": choose(ENDS)}
            case "parallel":
                step["branches"] = [self.steps(self.random.randint(1, 3), depth - 1) for _ in range(choose([2, 3]))]
            case "race":
                # The first branch wins, unless the program is wild.
                losers = [[self.racer()] for _ in range(choose([1, 2]))]
                step["branches"] = [[self.step(choose(["activity", "timer", "local"]))], *losers]
                step["when"] = "unsent" if self.wild else "running"
            case "scope" | "cancelled":
                step["branches"] = [[self.endless()] for _ in range(choose([1, 2, 3]))]
                step["when"] = self.when()
        return step

    def when(self) -> str:
        return self.random.choice(["unsent", "running", "soon"] if self.wild else ["unsent", "running"])

    def racer(self) -> Step:
        return self.step(self.random.choice(["activity", "timer", "local"])) if self.wild else self.endless()

    def endless(self) -> Step:
        step = self.step("endless")
        step["of"] = self.random.choice(ENDLESS)
        step["cancellation"] = self.random.choice(CANCELLATIONS)
        return step


def every_step(steps: list[Step]) -> Iterator[Step]:
    """All steps, inner ones too."""
    for step in steps:
        yield step
        for inner in [*step.get("branches", []), step.get("program", {}).get("steps", [])]:
            yield from every_step(inner)


def named(name: str) -> Program:
    """The program of a name, `steady-SEED` or `wild-SEED`."""
    kind, seed = name.split("-")
    return generate(int(seed), kind == "wild")
