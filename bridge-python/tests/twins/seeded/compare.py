"""Both engines beside each other on the same random programs: what they do live, and what they say of histories, as they are and
with one change. Faults are ours; what the original does wrong is counted, and so is where ours reports what the original does not.
It may, if it is right to; of code that asks for the same it may not.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

from switchover.processes import Process
from twins.seeded.changed import CODE, HISTORY, damaged_history
from twins.seeded.verdicts import Verdict, verdicts

ENGINES = ("original", "outlast")
UNREAD = ("stripped", "lessened", "redirected", "retyped")
"""Damages of what an event says of itself: no fault if our core does not read it, and so does not notice."""
ANY_PLACE = re.compile("EVENT_TYPE_WORKFLOW_TASK|core_local_activity")
"""Where these stand is read as it is: events of workflow tasks, and the markers of local activities within their task."""
SERVERS_OWN = {f"WORKFLOW_TASK_FAILED_CAUSE_{cause}" for cause in ("UNHANDLED_COMMAND", "FORCE_CLOSE_COMMAND")}
"""The server's word for a task that was open when news came, or when the run was terminated."""


@dataclass
class Report:
    """What came of it."""

    faults: dict[str, list[str]] = field(default_factory=dict)
    """By the name of the program."""
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """Each difference that is counted, for a reader."""

    def fault(self, name: str, text: str) -> None:
        self.faults.setdefault(name, []).append(text)

    def note(self, what: str, text: str) -> None:
        self.counts[what] += 1
        self.notes.append(f"{what}: {text}")


@dataclass
class Record:
    """A file of live.py."""

    name: str
    file: str
    id: str
    history: dict[str, Any]
    story: list[str]
    stuck: bool

    def failures(self) -> Iterator[str]:
        """Causes of tasks that failed on a worker."""
        for event in self.history["events"]:
            failed = event.get("workflowTaskFailedEventAttributes", {})
            if failed and failed.get("cause") not in SERVERS_OWN:
                yield f"a workflow task failed: {failed.get('cause')} {failed.get('failure', {}).get('message', '')}"


async def compare(address: str, folder: Path, names: list[str], cache: int, cases: int) -> Report:
    """Runs the programs of these names; gives `cases` of each kind of change for each engine's histories."""
    report = Report()
    for engine in ENGINES:
        (folder / engine).mkdir(parents=True)
    await asyncio.gather(*(run(engine, address, cache, folder / engine, names) for engine in ENGINES))
    records = {engine: list(recorded(folder / engine)) for engine in ENGINES}
    report.counts["programs"] += len(names)
    for engine in ENGINES:
        for missing in set(names) - {record.name for record in records[engine]}:
            report.fault(missing, f"nothing was recorded on {engine}")
        for record in records[engine]:
            look_at(report, engine, record)
    tell_apart(report, *(records[engine] for engine in ENGINES))
    for recorder in ENGINES:
        report.counts["histories"] += len(records[recorder])
        await replay(report, recorder, folder / recorder, records[recorder], cases)
    return report


async def run(engine: str, address: str, cache: int, folder: Path, names: list[str]) -> None:
    process = Process("twins.seeded.live", engine, address, str(cache), str(folder), *names)
    try:
        status = await asyncio.to_thread(process.process.wait)
    finally:
        process.kill()
    assert status == 0 or engine == "original", f"{engine} ended with {status}\n{process.said()}"


def recorded(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*.json")):
        yield Record(path.name.split(".")[0], path.stem, **json.loads(path.read_text()))


def look_at(report: Report, engine: str, record: Record) -> None:
    """No program gets stuck, no task fails."""
    for text in [*record.failures(), *(["it does not end"] if record.stuck else [])]:
        if engine == "original":
            report.note("trouble of the original", f"{record.file}: {text}")
        else:
            report.fault(record.name, f"{record.file}: {text}")


def tell_apart(report: Report, original: list[Record], ours: list[Record]) -> None:
    """The histories of steady programs, event by event."""
    steady = [{it.file: it for it in side if it.name.startswith("steady") and not it.stuck} for side in (original, ours)]
    stuck = {it.name for it in (*original, *ours) if it.stuck}
    for file in sorted(set(steady[0]) | set(steady[1])):
        name = file.split(".")[0]
        one, other = (side.get(file) for side in steady)
        # A child that was given up is where it is when its parent ends.
        if name in stuck or "~" in (one or other or Record("", "", "", {}, [], False)).id:
            continue
        difference = unified_diff(one.story if one else [], other.story if other else [], lineterm="", n=0)
        lines = [line for line in difference if not line.startswith(("---", "+++", "@@"))]
        report.counts["histories compared"] += 1
        if lines:
            report.fault(name, "\n".join([f"{file} is another history:", *lines]))


async def replay(report: Report, recorder: str, folder: Path, records: list[Record], cases: int) -> None:
    """Each history as it is, and with changes of every kind, on both."""
    asked = [f"{record.file} same 0" for record in records]
    for name in sorted({record.name for record in records}):
        source = random.Random(name)
        files = [record.file for record in records if record.name == name]
        asked += [f"{source.choice(files)} {kind} {n}" for kind in [*CODE, *HISTORY] for n in range(cases)]
    both = await asyncio.gather(*(verdicts(engine, folder, asked) for engine in ENGINES))
    events = {record.file: record.history["events"] for record in records}
    for case in asked:
        judge(report, f"{recorder}/{case}", events[case.split()[0]], *(side[case] for side in both))


def judge(report: Report, case: str, events: list[Any], original: Verdict, ours: Verdict) -> None:
    """`case` is `RECORDER/NAME.RUN KIND SEED`."""
    recorder, name, kind = *re.split("[/.]", case)[:2], case.split()[1]
    both = f"{case}: original: {original.word} {original.text[-300:]} | ours: {ours.word} {ours.text}"
    report.counts[f"{kind} {original.word} {ours.word}"] += 1
    unchanged = kind in ("same", "harmless")
    if not ours.definite():
        report.fault(name, both)
    elif recorder == "original" and unchanged and original.definite() and not original.fine():
        report.note("the original does not replay its own history", both)
    elif unchanged and not ours.fine():
        report.fault(name, both)
    elif not original.definite():
        report.note("the original never says", both)
    elif unchanged and not original.fine():
        report.note("the original does not replay", both)
    elif original.fine() and not ours.fine():
        report.note("ours reports, the original does not", both)
    elif ours.fine() and not original.fine():
        event = damage(events, case) if kind in HISTORY else ""
        if kind in UNREAD or ANY_PLACE.search(event):
            report.note("the original reports, ours does not read it", f"{both} {event}")
        else:
            report.fault(name, both)


def damage(events: list[Any], case: str) -> str:
    """The first event that is not as it was."""
    after = damaged_history(events, case.split()[1], case.split("/")[1])
    return next((f"{a} became {b}" for a, b in zip(events, after) if a != b), "")
