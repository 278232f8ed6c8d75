"""`debug_mode`: workflows on the thread of the loop, so that a debugger may talk to the terminal; and where without it."""

from __future__ import annotations

import pdb
import threading
from types import FrameType
from typing import Any

import pytest
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker.workflow_sandbox._restrictions import RestrictedWorkflowAccessError


@workflow.defn(sandboxed=False)
class WhichThreads:
    """The thread of each of its tasks."""

    def __init__(self) -> None:
        self.seen = [threading.current_thread().name]
        self.told = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.told)
        return [*self.seen, threading.current_thread().name]

    @workflow.signal
    def tell(self) -> None:
        self.seen.append(threading.current_thread().name)
        self.told = True

    @workflow.query
    def thread(self) -> str:
        return threading.current_thread().name


@workflow.defn
class Stops:
    @workflow.run
    async def run(self, fruit: str) -> str:
        basket = [fruit]
        breakpoint()
        return "".join(basket)


@pytest.mark.parametrize("debug", [True, False])
async def test_each_task_runs_on_the_main_thread_only_in_debug_mode(client: Client, debug: bool) -> None:
    async with new_worker(client, WhichThreads, debug_mode=debug) as worker:
        handle = await client.start_workflow(WhichThreads.run, id=unique(), task_queue=worker.task_queue)
        threads = [await handle.query(WhichThreads.thread)]
        await handle.signal(WhichThreads.tell)
        threads += await handle.result()
    main = threading.main_thread().name
    assert len(threads) == 4
    for name in threads:
        assert name == main if debug else name.startswith("temporal_workflow_")


async def test_a_breakpoint_stops_in_the_workflow_and_the_task_outlasts_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[tuple[str, str, Any]] = []

    class Quits(pdb.Pdb):
        """Someone who types `q` at once."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.cmdqueue = ["q"]

        def interaction(self, frame: FrameType | None, traceback: Any) -> Any:
            assert frame is not None
            stops.append((threading.current_thread().name, frame.f_code.co_name, frame.f_locals.get("basket")))
            return super().interaction(frame, traceback)

    monkeypatch.setattr(pdb, "Pdb", Quits)
    async with new_worker(client, Stops, debug_mode=True) as worker:
        handle = await client.start_workflow(Stops.run, "pear", id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == "pear"
    assert stops == [(threading.main_thread().name, "run", ["pear"])]


async def test_without_debug_mode_a_breakpoint_says_how_to_have_one(client: Client) -> None:
    types = [RestrictedWorkflowAccessError]
    async with new_worker(client, Stops, workflow_failure_exception_types=types) as worker:
        with pytest.raises(WorkflowFailureError) as caught:
            await client.execute_workflow(Stops.run, "fig", id=unique(), task_queue=worker.task_queue)
    assert "debug_mode=True" in str(caught.value.cause)
