"""A small soak, and what the programs themselves promise. The long one: `python bridge-python/tests/soak/soak.py`."""

from __future__ import annotations

from collections import Counter

import pytest
from soak import programs, soak
from soak.programs import Step
from temporalio.client import Client


def test_a_seed_is_one_program_and_a_thousand_seeds_have_every_kind_of_step() -> None:
    assert programs.generate(7) == programs.generate(7)
    kinds: Counter[str] = Counter()

    def count(steps: list[Step]) -> None:
        for step in steps:
            kinds[step["do"]] += 1
            for part in [step.get("program", []), *step.get("branches", [])]:
                count(part)

    for seed in range(1_000):
        count(programs.generate(seed))
    for kind in [*programs.LEAVES, "child", "parallel", "signal", "update", "continue"]:
        assert kinds[kind] > 100, kinds


def test_a_result_tells_apart_what_was_done_and_in_which_order() -> None:
    one, two = ({"do": "timer", "id": number, "number": number, "ms": 1} for number in (1, 2))
    results = {programs.expected(program) for program in ([], [one], [two], [one, two], [two, one], [one, one])}
    assert len(results) == 6


@pytest.mark.timeout(600)
async def test_random_programs_end_right_while_their_workers_are_killed(client: Client, address: str, engine: str) -> None:
    words = f"--workflows 100 --workers 3 --cache 8 --open 25 --seed 42 --engine {engine} --kill-every 20 --patience 500"
    report = await soak.Soak(client, address, soak.options(words.split())).run()
    assert report.wrong == []
    assert report.workflows == 100
    assert report.kills >= 2
    assert set(report.task_failures) <= {"WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND"}, report.task_failures
