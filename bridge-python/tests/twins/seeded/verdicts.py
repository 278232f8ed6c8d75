"""What an engine makes of cases (replay.py): in processes of its own, since an engine may hang in a case, or end in it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchover.processes import Process

PATIENCE = {"outlast": 30, "original": 5}
"""Seconds until a case hangs; it takes a hundredth of a second. The original hangs often, and if it was slow that is no fault."""
AT_ONCE = 8
SILENCE = 60
"""Seconds without any answer until a process is given up."""


@dataclass
class Verdict:
    """`fine`; `nondeterminism`, `failed`, `refused`; and what no engine may do: `panic`, `hang`, `crash`."""

    word: str
    text: str

    def fine(self) -> bool:
        return self.word == "fine"

    def definite(self) -> bool:
        return self.word not in ("panic", "hang", "crash")


async def verdicts(engine: str, folder: Path, cases: list[str]) -> dict[str, Verdict]:
    """By case."""
    found = await answers(engine, folder, cases, AT_ONCE)
    # Where a process ended in one of several cases, it shows which when each has one of its own.
    for case in (case for case in cases if case not in found):
        found |= await answers(engine, folder, [case], 1)
        found.setdefault(case, Verdict("crash", "its process gave no answer"))
    return found


async def answers(engine: str, folder: Path, cases: list[str], at_once: int) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    with tempfile.NamedTemporaryFile("w", suffix=".cases") as file:
        file.write("\n".join(cases))
        file.flush()
        arguments = (str(folder), file.name, str(PATIENCE[engine]), str(at_once))
        process = Process("twins.seeded.replay", engine, *arguments)
        try:
            await asyncio.to_thread(process.ready)
            while said := await line_of(process):
                found[said["case"]] = Verdict(said["word"], said["text"])
        finally:
            process.kill()
        if "panicked at" in process.said():
            found |= {case: Verdict("panic", process.said()) for case in cases if at_once == 1}
            found = found if at_once == 1 else {}
    return found


async def line_of(process: Process) -> Any:
    """The next answer; nothing once the process has ended, or says nothing any more."""
    assert process.process.stdout
    reading = asyncio.ensure_future(asyncio.to_thread(process.process.stdout.readline))
    done, _ = await asyncio.wait([reading], timeout=SILENCE)
    if not done:
        process.kill()
    line = await reading
    return json.loads(line) if line else None
