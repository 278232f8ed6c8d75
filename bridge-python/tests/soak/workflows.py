"""The workflow that does what a program says, and its activities."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from soak.programs import Step, answer, fold
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, ChildWorkflowError
from temporalio.workflow import ActivityCancellationType

TASK_LIMIT = timedelta(seconds=3)
"""What a task of a worker that was killed costs."""
LIMIT = timedelta(seconds=4)
QUICKLY = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_interval=timedelta(seconds=1))
CANCELLATION = {
    "try": ActivityCancellationType.TRY_CANCEL,
    "wait": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "abandon": ActivityCancellationType.ABANDON,
}


@activity.defn
async def compute(number: int, failures: int) -> int:
    """Fails as often as it is told to, then answers."""
    if activity.info().attempt <= failures:
        raise ApplicationError("not yet")
    return answer(number)


@activity.defn
async def forever() -> None:
    """Ends only when it is cancelled, its worker stops, or nobody wants it any more."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.1)


@dataclass
class Task:
    """A program, and how far it has come."""

    program: list[Step]
    position: int = 0
    result: int = 0
    signalled: dict[str, int] = field(default_factory=dict)
    updated: dict[str, int] = field(default_factory=dict)


@workflow.defn
class Interpreter:
    @workflow.init
    def __init__(self, task: Task) -> None:
        self.task = task

    @workflow.run
    async def run(self, _: Task) -> int:
        task = self.task
        while task.position < len(task.program):
            step = task.program[task.position]
            number = await self.perform(step)
            task.result = fold(task.result, number)
            task.position += 1
            if step["do"] == "continue":
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(task)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return task.result

    @workflow.signal
    def tell(self, key: str, number: int) -> None:
        self.task.signalled[key] = number

    @workflow.update
    async def ask(self, key: str, number: int) -> int:
        if key not in self.task.updated:
            self.task.updated[key] = await local(number, 0)
        return self.task.updated[key]

    @workflow.query
    def position(self) -> int:
        return self.task.position

    async def perform(self, step: Step) -> int:
        number: int = step["number"]
        key = str(step["id"])
        match step["do"]:
            case "activity":
                return await workflow.execute_activity(
                    compute, args=[number, step["failures"]], start_to_close_timeout=LIMIT, retry_policy=QUICKLY
                )
            case "local":
                return await local(number, step["failures"])
            case "timer":
                await asyncio.sleep(step["ms"] / 1_000)
                return number
            case "patch":
                if not workflow.patched(f"patch-{key}"):
                    raise AssertionError("code that was there from the start is not patched")
                return await local(number, 0) and number
            case "child":
                return await workflow.execute_child_workflow(
                    Interpreter.run, Task(step["program"]), id=self.below(key), task_timeout=TASK_LIMIT
                )
            case "parallel":
                branches = await asyncio.gather(*(self.branch(branch) for branch in step["branches"]))
                result = 0
                for branch in branches:
                    result = fold(result, branch)
                return result
            case "signal":
                await workflow.wait_condition(lambda: key in self.task.signalled)
                return self.task.signalled[key]
            case "update":
                await workflow.wait_condition(lambda: key in self.task.updated)
                return self.task.updated[key]
            case "continue":
                return number
            case "cancel_timer" | "cancel_activity" | "cancel_child":
                await self.cancel(step)
                return number
            case other:
                raise AssertionError(other)

    async def branch(self, steps: list[Step]) -> int:
        result = 0
        for step in steps:
            result = fold(result, await self.perform(step))
        return result

    async def cancel(self, step: Step) -> None:
        """Starts what would not end, does something else, and cancels it."""
        endless: Awaitable[Any]
        match step["do"]:
            case "cancel_timer":
                endless = asyncio.sleep(3_600)
            case "cancel_activity":
                endless = workflow.execute_activity(
                    forever,
                    schedule_to_close_timeout=timedelta(hours=1),
                    heartbeat_timeout=LIMIT,
                    retry_policy=QUICKLY,
                    cancellation_type=CANCELLATION[step["type"]],
                )
            case _:
                waits = {"do": "signal", "id": 0, "number": 0}
                endless = workflow.execute_child_workflow(
                    Interpreter.run, Task([waits]), id=self.below(f"{step['id']}-endless"), task_timeout=TASK_LIMIT
                )
        running = asyncio.ensure_future(endless)
        await local(step["number"], 0)
        running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            return
        except (ActivityError, ChildWorkflowError) as error:
            if isinstance(error.cause, CancelledError):
                return
            raise
        raise AssertionError("what is endless ended")

    def below(self, key: str) -> str:
        return f"{workflow.info().workflow_id}/{key}"


async def local(number: int, failures: int) -> int:
    return await workflow.execute_local_activity(
        compute, args=[number, failures], start_to_close_timeout=LIMIT, retry_policy=QUICKLY
    )
