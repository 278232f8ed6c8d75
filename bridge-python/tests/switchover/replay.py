"""Replays histories: `python -m switchover.replay ENGINE FOLDER`. Each file is one; the answer is one line of
JSON: how many were replayed, and what was wrong by workflow.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from switchover.processes import use

use(sys.argv[1])

from switchover.fleet import Account, Doubler
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner


async def main(folder: str) -> None:
    async def histories() -> AsyncIterator[WorkflowHistory]:
        for file in sorted(Path(folder).glob("*.json")):
            written = json.loads(file.read_text())
            yield WorkflowHistory.from_json(written["id"], written["history"])

    replayer = Replayer(workflows=[Account, Doubler], workflow_runner=UnsandboxedWorkflowRunner())
    wrong: dict[str, str] = {}
    replayed = 0
    async with replayer.workflow_replay_iterator(histories()) as results:
        async for result in results:
            replayed += 1
            if result.replay_failure:
                wrong[result.history.workflow_id] = repr(result.replay_failure)
    print(json.dumps({"replayed": replayed, "wrong": wrong}))


asyncio.run(main(sys.argv[2]))
