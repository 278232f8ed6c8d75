"""Random programs on workers that are killed: every workflow must end with the result that its program alone says.

    python bridge-python/tests/soak/soak.py --workflows 10000 --workers 3 --cache 20 --seed 1 [--engine outlast]

Workflows are generated from seeds (`programs.py`), `--open` of them are open at once. That and their children are more than the
caches hold, so they are replayed again and again. All workers but the first are killed (SIGKILL) at random and started anew; the first lives from the start to the end,
and its memory is sampled: the median of the last quarter beside that of the first. A workflow that does not end within
`--patience` seconds has failed. The end is a line of JSON, and status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # In place of this folder, in which `soak` would be this file.
    sys.path[0] = str(Path(__file__).parents[1])

from soak.programs import Step, answer, expected, generate
from switchover.processes import Process


@dataclass
class Report:
    """What came of it."""

    workflows: int = 0
    kills: int = 0
    seconds: float = 0
    steps: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    task_failures: dict[str, int] = field(default_factory=dict)
    memory_kib: list[int] = field(default_factory=list, repr=False)

    def growth(self) -> float:
        """Memory of the long-lived worker: the last quarter's median over the first's."""
        quarter = max(1, len(self.memory_kib) // 4)
        return statistics.median(self.memory_kib[-quarter:]) / statistics.median(self.memory_kib[:quarter])


class Soak:
    def __init__(self, client: Any, address: str, options: argparse.Namespace) -> None:
        self.client = client
        self.options = options
        self.arguments = (address, f"soak-{uuid.uuid4()}", str(options.cache))
        self.random = random.Random(options.seed)
        self.report = Report()
        self.steps: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.one_ended = asyncio.Event()

    async def run(self) -> Report:
        began = time.monotonic()
        self.workers = [self.worker() for _ in range(self.options.workers)]
        troubles = [asyncio.create_task(self.kill()), asyncio.create_task(self.sample())]
        try:
            gate = asyncio.Semaphore(self.options.open)
            first = self.options.seed * 1_000_000
            await asyncio.gather(*(self.one(gate, first + number) for number in range(self.options.workflows)))
            if not self.workers[0].alive():
                self.report.wrong.append(f"the worker that nobody killed ended: {self.workers[0].said()}")
        finally:
            for trouble in troubles:
                trouble.cancel()
            for ended in await asyncio.gather(*troubles, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    self.report.wrong.append(f"the soak itself: {ended!r}")
            for worker in self.workers:
                worker.kill()
        self.report.seconds = round(time.monotonic() - began, 1)
        self.report.steps = dict(self.steps)
        self.report.task_failures = dict(self.failures)
        return self.report

    def worker(self) -> Process:
        return Process("soak.worker", self.options.engine, *self.arguments)

    async def kill(self) -> None:
        """All but the first, one at a time, each once it is at work. When is said in ended workflows: in seconds, a busy machine
        would come to nothing but starting workers."""
        after = 0.0
        while len(self.workers) > 1:
            after += self.random.uniform(0.5, 1.5) * self.options.kill_every
            while self.report.workflows < after:
                self.one_ended.clear()
                await self.one_ended.wait()
            victim = self.random.randrange(1, len(self.workers))
            if not self.workers[victim].alive():
                self.report.wrong.append(f"a worker ended by itself: {self.workers[victim].said()}")
            await asyncio.to_thread(self.workers[victim].ready)
            self.workers[victim].kill()
            self.report.kills += 1
            self.workers[victim] = self.worker()

    async def sample(self) -> None:
        await asyncio.to_thread(self.workers[0].ready)
        while self.workers[0].alive():
            self.report.memory_kib.append(self.workers[0].resident_kib())
            await asyncio.sleep(1)

    async def one(self, gate: asyncio.Semaphore, seed: int) -> None:
        async with gate:
            program = generate(seed)
            try:
                result = await asyncio.wait_for(self.execute(f"{self.arguments[1]}-{seed}", program), self.options.patience)
                if result != expected(program):
                    raise AssertionError(f"{result}, not {expected(program)}")
            except Exception as error:
                self.report.wrong.append(f"seed {seed}: {error!r} {json.dumps(program)}")
            self.report.workflows += 1
            self.one_ended.set()
            self.steps.update(step["do"] for step in program)
            if self.report.workflows % 500 == 0:
                print(f"{self.report.workflows} ended, {self.report.kills} kills", file=sys.stderr, flush=True)

    async def execute(self, name: str, program: list[Step]) -> int:
        from soak.workflows import TASK_LIMIT, Interpreter, Task

        await self.client.start_workflow(
            Interpreter.run, Task(program), id=name, task_queue=self.arguments[1], task_timeout=TASK_LIMIT
        )
        # Without a run, so that it follows what continues as new.
        handle = self.client.get_workflow_handle_for(Interpreter.run, name)
        # One after the other: where a worker is lost between a signal and an update, the original records what it cannot replay.
        for step in program:
            if step["do"] == "signal":
                await handle.signal(Interpreter.tell, args=[str(step["id"]), step["number"]])
            elif step["do"] == "update":
                await self.update(handle, step)
        result: int = await handle.result()
        if self.random.random() < self.options.inspect:
            await self.inspect(handle)
        return result

    async def update(self, handle: Any, step: Step) -> None:
        """Until it is answered: one that finds no worker in time, or a run that ends, is asked for again under the same id."""
        from soak.workflows import Interpreter
        from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError
        from temporalio.service import RPCError

        key = str(step["id"])
        while True:
            try:
                number = await handle.execute_update(Interpreter.ask, args=[key, step["number"]], id=key)
                assert number == answer(step["number"]), f"update {key} answered {number}"
                return
            except (RPCError, WorkflowUpdateRPCTimeoutOrCancelledError):
                await asyncio.sleep(0.2)

    async def inspect(self, handle: Any) -> None:
        """Counts the causes of failed tasks in the last run's history. The server fails one itself when news come at the end."""
        from temporalio.api.enums.v1 import WorkflowTaskFailedCause

        async for event in handle.fetch_history_events():
            if event.HasField("workflow_task_failed_event_attributes"):
                cause = event.workflow_task_failed_event_attributes.cause
                self.failures[WorkflowTaskFailedCause.Name(cause)] += 1


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--cache", type=int, default=20)
    parser.add_argument("--open", type=int, default=60, help="workflows that are open at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="outlast", choices=["outlast", "original"])
    parser.add_argument("--kill-every", type=float, default=130, help="workflows that end between kills, in the mean")
    parser.add_argument("--patience", type=float, default=300, help="seconds that a workflow may take")
    parser.add_argument("--inspect", type=float, default=1.0, help="the part of the histories that is read")
    return parser.parse_args(words)


async def main(chosen: argparse.Namespace) -> int:
    from conftest import DevServer
    from support import served
    from temporalio.client import Client

    server = DevServer()
    try:
        client = await served(await Client.connect(server.address))
        report = await Soak(client, server.address, chosen).run()
    finally:
        server.stop()
    said = asdict(report)
    said["memory_kib"] = report.memory_kib[:: max(1, len(report.memory_kib) // 20)]
    print(json.dumps({**said, "memory_growth": round(report.growth(), 3)}))
    good = {"WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND"}
    return int(bool(report.wrong) or not set(report.task_failures) <= good)


if __name__ == "__main__":
    import os

    arguments = options()
    os.environ["OUTLAST_ENGINE"] = arguments.engine
    sys.exit(asyncio.run(main(arguments)))
