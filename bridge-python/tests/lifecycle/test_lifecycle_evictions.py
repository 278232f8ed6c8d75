"""Clean-up code of cached workflows at the end of their worker and of the interpreter: in time, in its own loop, or not at all."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from lifecycle.scripts import run

WORKFLOWS = """
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

returned = False
cleaned, late, unraisable = [], [], []
sys.unraisablehook = lambda it: unraisable.append(f"{it.err_msg}: {it.exc_value!r}")
stays = threading.Event()

@workflow.defn(sandboxed=False)
class Waits:
    # Two coroutines, each with something to clean up.
    @workflow.run
    async def run(self, way: str) -> None:
        self.aside = asyncio.create_task(self.wait("aside"))
        await self.wait(way)

    async def wait(self, way):
        try:
            await workflow.wait_condition(lambda: False)
        finally:
            (late if returned else cleaned).append(way)
            # Only code that runs in its workflow's loop may ask this.
            workflow.info()
            while way == "spins":
                try:
                    await workflow.wait_condition(lambda: False)
                except BaseException:
                    pass
            if way == "blocks":
                stays.wait()

    @workflow.query
    def here(self) -> bool:
        return True

async def worked(ways):
    # A worker that ran so many workflows, and has ended.
    global returned
    client = await Client.connect(ADDRESS)
    worker = Worker(client, task_queue=unique("queue"), workflows=[Waits])
    running = asyncio.create_task(worker.run())
    async def one(way):
        handle = await client.start_workflow(Waits.run, way, id=unique(), task_queue=worker.task_queue)
        assert await handle.query(Waits.here)
        return handle
    handles = await asyncio.gather(*map(one, ways))
    await worker.shutdown()
    await running
    returned = True
    for handle in handles:
        await handle.terminate()
"""


def test_nothing_is_cleaned_up_after_the_worker_has_ended(engine: str) -> None:
    program = (
        WORKFLOWS
        + """
asyncio.run(worked(["plain"] * 200))
gc.collect()
print(len(cleaned), len(late), len(unraisable))
"""
    )
    if engine == "original":
        # Its workflows are collected some time later, on whatever thread, in no loop.
        pytest.skip("the original evicts nothing at the end")
    assert run(program) == ["400 0 0"]


@pytest.mark.parametrize(("way", "count"), [("spins", 1), ("blocks", 8)])
def test_workflows_that_do_not_go_hold_up_neither_others_nor_their_worker_nor_the_interpreter(
    engine: str, way: str, count: int
) -> None:
    program = (
        WORKFLOWS
        + f"""
asyncio.run(worked(["plain"] * 20 + ["{way}"] * {count}))
print(cleaned.count("plain"), cleaned.count("{way}"), len(late))
"""
    )
    if engine == "original":
        pytest.skip("the original evicts nothing at the end")
    told, counts = run(program)
    assert counts == f"20 {count} 0"
    assert f" {count} cached workflow run(s) did not let themselves be evicted" in told


def test_the_insides_of_the_package_are_those_that_are_wrapped(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "original":
        pytest.skip("of ours alone")
    import temporalio.worker
    from outlast.compat import _evictions

    assert temporalio.worker and _evictions.guard()
    other = ModuleType("other")
    other._WorkflowWorker = type("_WorkflowWorker", (), {"__init__": lambda self: None, "run": None})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "temporalio.worker._workflow", other)
    assert not _evictions.guard()
    monkeypatch.delitem(sys.modules, "temporalio.worker._workflow")
    assert not _evictions.guard()
