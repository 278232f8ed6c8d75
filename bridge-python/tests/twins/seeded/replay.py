"""Replays histories of random programs on one engine: `python -m twins.seeded.replay ENGINE FOLDER CASES PATIENCE AT_ONCE`.

A case is a line of the file CASES, `NAME.RUN KIND SEED`: the history in that file of live.py, and what is changed in it or in its
code before it is replayed (changed.py); the kind `same` changes nothing. It says `ready`, then, for each case in any order, a
line of JSON: the verdict. A case that is not over after PATIENCE seconds hangs, and is left behind.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from switchover.processes import use

# What engines log goes elsewhere than the answers.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

use(sys.argv[1])

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError
from twins.seeded import changed, workflow


async def verdict(folder: Path, case: str) -> tuple[str, str]:
    """In a word, and what was said."""
    try:
        history = prepared(folder, case)
        replayer = Replayer(
            workflows=[workflow.Interpreter], workflow_runner=UnsandboxedWorkflowRunner(), debug_mode=True
        )
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    except Exception as error:
        return "refused", repr(error)
    except BaseException as error:
        return "panic", repr(error)
    failure = result.replay_failure
    if failure is None:
        return "fine", ""
    return "nondeterminism" if isinstance(failure, NondeterminismError) else "failed", str(failure)


def prepared(folder: Path, case: str) -> WorkflowHistory:
    name, kind, _ = case.split()
    events = json.loads((folder / f"{name}.json").read_text())["history"]["events"]
    # Code goes by the name in its program, so that the workflow's id can be that of the case.
    if kind in changed.CODE:
        workflow.CHANGED[case] = changed.changed_code(program(events), kind, case)
    elif kind in changed.HISTORY:
        events = changed.damaged_history(events, kind, case)
    return WorkflowHistory.from_json(case, {"events": events})


def program(events: list[dict[str, Any]]) -> Any:
    """What the history was made with."""
    arguments = events[0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
    return json.loads(base64.b64decode(arguments[0]["data"]))["program"]


async def main(folder: Path, cases: list[str], patience: float, at_once: int) -> None:
    gate = asyncio.Semaphore(at_once)

    async def answer(case: str) -> None:
        async with gate:
            replaying = asyncio.create_task(verdict(folder, case))
            done, _ = await asyncio.wait([replaying], timeout=patience)
            word, text = replaying.result() if done else ("hang", "")
        print(json.dumps({"case": case, "word": word, "text": text}), file=ANSWERS)

    print("ready", file=ANSWERS)
    await asyncio.gather(*(answer(case) for case in cases))
    # What hangs is left as it is.
    os._exit(0)


if __name__ == "__main__":
    _, _, folder, file, patience, at_once = sys.argv
    asyncio.run(main(Path(folder), Path(file).read_text().splitlines(), float(patience), int(at_once)))
