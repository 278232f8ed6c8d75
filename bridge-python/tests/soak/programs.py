"""Random workflow programs: what a workflow does, step by step, from a seed, and what must come of it. Pure: no clock, no `temporalio`.

A program is a list of steps, a step a dictionary that JSON can carry. Each step has a number, whatever happens on the way, and the
result of a program is all of them folded in the order in which they are written.
"""

from __future__ import annotations

import random
from typing import Any

Step = dict[str, Any]

LEAVES = ["activity", "local", "activity", "local", "timer", "patch", "cancel_timer", "cancel_activity", "cancel_child"]
PRIME = (1 << 31) - 1


def answer(number: int) -> int:
    """What an activity makes of a number."""
    return (number * 48_271 + 11) % PRIME


def fold(result: int, number: int) -> int:
    return (result * 31 + number + 1) % PRIME


def generate(seed: int) -> list[Step]:
    """A program that may contain anything."""
    maker = Maker(random.Random(seed))
    program = maker.steps(maker.random.randint(3, 8), depth=2)
    # Some are asked for things from outside, in any place; some continue as new, between steps of theirs.
    for kind, chance in [("signal", 0.5), ("update", 0.5), ("signal", 0.2), ("update", 0.2), ("continue", 0.4), ("continue", 0.1)]:
        if maker.random.random() < chance:
            program.insert(maker.random.randint(0, len(program)), maker.step(kind))
    return program


class Maker:
    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.count = 0

    def steps(self, count: int, depth: int) -> list[Step]:
        return [self.step(self.kind(depth), depth) for _ in range(count)]

    def kind(self, depth: int) -> str:
        chance = self.random.random()
        if depth > 0 and chance < 0.1:
            return "child"
        if depth > 0 and chance < 0.25:
            return "parallel"
        return self.random.choice(LEAVES)

    def step(self, kind: str, depth: int = 0) -> Step:
        self.count += 1
        step: Step = {"do": kind, "id": self.count, "number": self.random.randrange(PRIME)}
        if kind in ("activity", "local"):
            step["failures"] = self.random.choice([0, 0, 0, 1, 2])
        elif kind == "timer":
            step["ms"] = self.random.choice([1, 10, 100])
        elif kind == "cancel_activity":
            step["type"] = self.random.choice(["try", "wait", "abandon"])
        elif kind == "child":
            step["program"] = self.steps(self.random.randint(1, 3), depth - 1)
        elif kind == "parallel":
            step["branches"] = [self.steps(self.random.randint(1, 2), depth - 1) for _ in range(self.random.randint(2, 3))]
        return step


def expected(program: list[Step], result: int = 0) -> int:
    """The result, from the program alone."""
    for step in program:
        result = fold(result, value(step))
    return result


def value(step: Step) -> int:
    match step["do"]:
        case "activity" | "local" | "update":
            return answer(step["number"])
        case "child":
            return expected(step["program"])
        case "parallel":
            result = 0
            for branch in step["branches"]:
                result = fold(result, expected(branch))
            return result
        case "timer" | "patch" | "signal" | "continue" | "cancel_timer" | "cancel_activity" | "cancel_child":
            return int(step["number"])
        case other:
            raise AssertionError(other)
