"""The sandbox: what a workflow may not call fails its task, and the doors that are left open."""

from __future__ import annotations

import dataclasses
import datetime
import os
import random
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    import support
    from histories import kinds, new_worker, replay, task_failure
    from support import unique
    from temporalio.client import Client
    from temporalio.worker import UnsandboxedWorkflowRunner
    from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

CALLS: dict[str, Callable[[], Any]] = {
    "datetime.datetime.now": lambda: datetime.datetime.now(),
    "time.time": lambda: time.time(),
    "random.random": lambda: random.random(),
    "os.getcwd": lambda: os.getcwd(),
    "__builtins__.open": lambda: open("/dev/null"),
}
counter = {"starts": 0}


@activity.defn
async def nothing() -> None:
    pass


@workflow.defn
class Calling:
    @workflow.run
    async def run(self, name: str, unrestricted: bool) -> bool:
        if not unrestricted:
            CALLS[name]()
        else:
            with workflow.unsafe.sandbox_unrestricted():
                CALLS[name]()
        return workflow.unsafe.in_sandbox()


@pytest.mark.parametrize("name", CALLS)
async def test_a_restricted_call_fails_the_task(client: Client, name: str) -> None:
    async with new_worker(client, Calling) as worker:
        handle = await client.start_workflow(Calling.run, args=[name, False], id=unique(), task_queue=worker.task_queue)
        failure = await task_failure(handle)
        await handle.terminate()
    assert re.match(f"Cannot access {re.escape(name)}(.__call__)? from inside a workflow.", failure.message)
    assert failure.application_failure_info.type == "RestrictedWorkflowAccessError"
    assert "in run" in failure.stack_trace


async def test_an_unrestricted_block_may_do_anything(client: Client) -> None:
    async with new_worker(client, Calling) as worker:
        handle = await client.start_workflow(
            Calling.run, args=["os.getcwd", True], id=unique(), task_queue=worker.task_queue
        )
        assert await handle.result() is True
    await replay(handle, Calling)


@pytest.mark.parametrize("runner", ["unsandboxed", "all passed through"])
async def test_a_runner_without_the_restriction_may_do_anything(client: Client, runner: str) -> None:
    restrictions = dataclasses.replace(SandboxRestrictions.default, invalid_module_members=NOTHING)
    chosen = UnsandboxedWorkflowRunner() if runner == "unsandboxed" else SandboxedWorkflowRunner(restrictions)
    async with new_worker(client, Calling, workflow_runner=chosen) as worker:
        handle = await client.start_workflow(
            Calling.run, args=["time.time", False], id=unique(), task_queue=worker.task_queue
        )
        assert await handle.result() is (runner != "unsandboxed")
    assert "workflow_task_failed" not in await kinds(handle)


NOTHING = type(SandboxRestrictions.invalid_module_members_default)()


@workflow.defn
class Counting:
    """Counts its starts in its module and in a module that is passed through."""

    @workflow.run
    async def run(self) -> list[int]:
        counter["starts"] += 1
        await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=20))
        return [counter["starts"], int(getattr(support, "outside", 0))]


async def test_module_state_is_fresh_in_each_run_and_shared_where_passed_through(client: Client) -> None:
    setattr(support, "outside", 41)
    async with new_worker(client, Counting, activities=[nothing]) as worker:
        handles = [
            await client.start_workflow(Counting.run, id=unique(), task_queue=worker.task_queue) for _ in range(3)
        ]
        assert [await handle.result() for handle in handles] == [[1, 41]] * 3
    assert counter["starts"] == 0
    await replay(handles[0], Counting)


@workflow.defn(sandboxed=False)
class Outside:
    @workflow.run
    async def run(self) -> list[bool]:
        counter["outside"] = 1
        return [workflow.unsafe.in_sandbox(), time.time() > 0]


async def test_a_workflow_defined_outside_of_the_sandbox_touches_the_real_module(client: Client) -> None:
    async with new_worker(client, Outside) as worker:
        assert await client.execute_workflow(Outside.run, id=unique(), task_queue=worker.task_queue) == [False, True]
    assert counter.pop("outside") == 1


@workflow.defn
class Recovering:
    @workflow.run
    async def run(self) -> str:
        time.time()
        return "recovered"


async def test_a_restricted_workflow_recovers_on_a_worker_that_allows_the_call(client: Client) -> None:
    async with new_worker(client, Recovering) as worker:
        handle = await client.start_workflow(
            Recovering.run, id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        await task_failure(handle)
    unsandboxed = UnsandboxedWorkflowRunner()
    async with new_worker(client, Recovering, task_queue=worker.task_queue, workflow_runner=unsandboxed):
        assert await handle.result() == "recovered"
    await replay(handle, Recovering, workflow_runner=unsandboxed)
