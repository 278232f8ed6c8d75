"""A few seeds of `make twins`, and what generator and changes themselves promise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twins.seeded import changed, program
from twins.seeded.compare import Report, compare, judge
from twins.seeded.run import names_of
from twins.seeded.verdicts import Verdict

SEEDS = Path(__file__).with_name("seeds.txt")
KINDS = {*program.LEAVES, *program.ON_TOP, "child", "parallel", "race", "scope", "cancelled", "continue", "endless"}


def kept_seeds() -> list[int]:
    lines = SEEDS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.timeout(600)
async def test_kept_seeds_show_no_difference_that_is_a_fault(address: str, tmp_path: Path) -> None:
    report = await compare(address, tmp_path, names_of(kept_seeds()), cache=100, cases=1)
    assert not report.faults, "\n".join(text for faults in report.faults.values() for text in faults)
    assert report.counts["histories compared"] >= len(kept_seeds())
    replayed = sum(count for what, count in report.counts.items() if what.startswith("same ") and what.endswith(" fine"))
    assert replayed == report.counts["histories"]


def test_a_name_is_one_program_and_a_thousand_have_every_kind_of_step() -> None:
    assert program.named("wild-7") == program.named("wild-7") != program.named("steady-7")
    kinds: Counter[str] = Counter()
    for name in names_of(list(range(500))):
        kinds.update(step["do"] for step in program.every_step(program.named(name)["steps"]))
    assert set(kinds) == KINDS
    assert min(kinds.values()) > 50, kinds


def test_steady_programs_cancel_nothing_at_an_uncertain_time() -> None:
    for seed in range(500):
        for step in program.every_step(program.generate(seed)["steps"]):
            assert step.get("when") in (None, "unsent", "running")
            if step["do"] == "race":
                assert [steps[0]["do"] for steps in step["branches"][1:]] == ["endless"] * (len(step["branches"]) - 1)


def test_every_change_of_code_changes_some_programs_and_spares_the_one_it_is_given() -> None:
    for kind in changed.CODE:
        programs = [program.generate(seed) for seed in range(50)]
        after = [changed.changed_code(it, kind, str(seed)) for seed, it in enumerate(programs)]
        assert after == [changed.changed_code(it, kind, str(seed)) for seed, it in enumerate(programs)]
        assert programs == [program.generate(seed) for seed in range(50)]
        assert sum(one != other for one, other in zip(programs, after)) > 25, kind


def test_every_damage_changes_a_history() -> None:
    def history() -> list[dict[str, Any]]:
        attributes = {"activityTaskStartedEventAttributes": {"scheduledEventId": "1", "identity": "it"}}
        return [{"eventId": str(number), "eventType": f"T{number}", **attributes} for number in range(1, 9)]

    for kind in changed.HISTORY:
        damaged = [changed.damaged_history(history(), kind, str(seed)) for seed in range(20)]
        assert sum(it != history() for it in damaged) > 10, kind


def test_a_fault_is_what_ours_does_not_say_or_does_not_notice() -> None:
    def faults(kind: str, original: str, ours: str, recorder: str = "outlast") -> bool:
        report = Report()
        judge(report, f"{recorder}/steady-1.00 {kind} 0", [{"eventId": "1"}], Verdict(original, ""), Verdict(ours, ""))
        return bool(report.faults)

    for word in ("hang", "crash", "panic"):
        assert faults("more", "fine", word) and faults("dropped", word, word)
        assert not faults("dropped", word, "failed")
    assert faults("same", "fine", "nondeterminism") and faults("harmless", "nondeterminism", "nondeterminism")
    assert faults("same", "fine", "failed", "original") and faults("same", "failed", "hang", "original")
    assert not faults("same", "nondeterminism", "nondeterminism", "original"), "the original cannot replay it either"
    assert faults("more", "nondeterminism", "fine") and not faults("more", "fine", "nondeterminism")
    assert not faults("more", "nondeterminism", "failed")
