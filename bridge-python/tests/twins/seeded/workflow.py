"""The workflow that does what a program says. Whatever it asks for carries the key of its step, `[BRANCH:ID]`,
so that each event of a history can be told to its branch: in which order branches go on is a matter of speed.

What a step came to is its entry in the log, which is the result of the workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from soak.programs import Step, answer
from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType
from twins.seeded.activities import hang, outside, words
from twins.seeded.program import Program

LONG = timedelta(seconds=60)
"""Never over, however slow the machine."""
TASK = timedelta(seconds=30)
HOUR = timedelta(hours=1)
BY_TIMER = 500
"""Milliseconds. A local activity whose retry is a timer waits so long, and its id more: that names the timer's step."""
ONCE = RetryPolicy(maximum_attempts=1)
QUICKLY = RetryPolicy(maximum_attempts=3, initial_interval=timedelta(milliseconds=1), backoff_coefficient=1)
KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")
ACTIVITY = {
    "try": ActivityCancellationType.TRY_CANCEL,
    "wait": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    "abandon": ActivityCancellationType.ABANDON,
}
CHILD = {
    "try": ChildWorkflowCancellationType.TRY_CANCEL,
    "requested": ChildWorkflowCancellationType.WAIT_CANCELLATION_REQUESTED,
    "wait": ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    "abandon": ChildWorkflowCancellationType.ABANDON,
}
WAITS: Program = {"steps": [{"do": "end", "id": 0, "number": 0}], "end": "return"}
"""A child that is told when to end, or cancelled."""
CHANGED: dict[str, Program] = {}
"""By workflow id: the code that a replay has in place of what the history was made with."""


@dataclass
class Task:
    """A program, and how far it has come."""

    program: Program
    position: int = 0
    log: list[str] = field(default_factory=list)


@workflow.defn
class Interpreter:
    @workflow.init
    def __init__(self, task: Task) -> None:
        self.task = task
        self.program: Program = CHANGED.get(workflow.info().workflow_id, task.program)
        self.heard: dict[str, int] = {}
        self.waits_for_cancellation = False

    @workflow.run
    async def run(self, _: Task) -> list[str]:
        task = self.task
        while task.position < len(self.program["steps"]):
            step = self.program["steps"][task.position]
            task.log.append(await self.entry(step, "m"))
            task.position += 1
            if step["do"] == "continue":
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(task)
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self.program["end"] == "fail":
            raise ApplicationError("as it is written", task.log, type="End", non_retryable=True)
        return task.log

    @workflow.signal
    def hear(self, key: str, number: int) -> None:
        self.heard[key] = number

    @workflow.update
    async def ask(self, key: str, number: int, how: str) -> int:
        branch, number_of_step = key.strip("[]").split(":")
        step: Step = {"do": how, "id": int(number_of_step), "number": number, "ms": 1, "how": "ok", "timed_by": "all"}
        match how:
            case "fail":
                raise ApplicationError("no", key, type="Refused")
            case "timer" | "activity" | "local":
                # Its activity has the step's own key.
                await self.entry({**step, "id": f"{step['id']}u"}, branch)
        return answer(number)

    @ask.validator
    def askable(self, key: str, number: int, how: str) -> None:
        if how == "reject":
            raise ValueError("rejected")

    @workflow.query
    def echo(self, word: str) -> str:
        return f"{word}!"

    @workflow.query
    def cancellable(self) -> bool:
        return self.waits_for_cancellation

    async def entry(self, step: Step, branch: str) -> str:
        """What comes of a step, whatever that is."""
        key = f"[{branch}:{step['id']}]"
        try:
            return f"{key} {await self.perform(step, branch, key)}"
        except (FailureError, TimeoutError, asyncio.TimeoutError) as error:
            return f"{key} {words(error)}"

    async def branch(self, steps: list[Step], name: str) -> list[str]:
        return [await self.entry(step, name) for step in steps]

    async def perform(self, step: Step, branch: str, key: str) -> Any:
        number: int = step["number"]
        match step["do"]:
            case "activity" | "local":
                return await worker(step, key)
            case "timer":
                return await workflow.sleep(step["ms"] / 1_000, summary=key)
            case "timeout":
                return await workflow.wait_condition(lambda: False, timeout=step["ms"] / 1_000, timeout_summary=key)
            case "yield":
                return await asyncio.sleep(0)
            case "memo":
                return workflow.upsert_memo({key: number})
            case "attributes":
                return workflow.upsert_search_attributes([KEYWORD.value_set(key)])
            case "details":
                return workflow.set_current_details(key)
            case "patch":
                if not workflow.patched(key):
                    return "as it was before the patch"
                return await worker({**step, "do": "local", "how": "ok", "timed_by": "all"}, key)
            case "deprecate":
                return workflow.deprecate_patch(key)
            case "continue":
                return number
            case "end":
                return await workflow.wait_condition(lambda: "end" in self.heard)
            case "tell":
                told = await self.outside(step, key, "tell")
                await workflow.wait_condition(lambda: key in self.heard)
                return f"{told} {self.heard[key]}"
            case "query":
                return await self.outside(step, key, "query")
            case "ask":
                return await self.outside(step, key, step["update"])
            case "signal_nobody":
                return await workflow.get_external_workflow_handle(f"nobody-{key}").signal("hear", args=[key, number])
            case "cancel_nobody":
                return await workflow.get_external_workflow_handle(f"nobody-{key}").cancel()
            case "child" | "child_twice" | "signal_child":
                return await self.child(step, key)
            case "parallel":
                return await asyncio.gather(*self.branches(step, branch))
            case "race" | "scope" | "cancelled":
                return await getattr(self, step["do"])(step, branch, key)
            case other:
                return await self.cancel(step, branch, key, other)

    async def outside(self, step: Step, key: str, what: str) -> str:
        return await workflow.execute_activity(
            outside, args=[key, step["number"], what], activity_id=key, start_to_close_timeout=HOUR, retry_policy=ONCE
        )

    def branches(self, step: Step, branch: str) -> list[Coroutine[Any, Any, list[str]]]:
        return [self.branch(steps, f"{step['id']}.{number}") for number, steps in enumerate(step["branches"])]

    async def child(self, step: Step, key: str) -> Any:
        program = step.get("program", WAITS if step["do"] == "signal_child" else {"steps": [], "end": "return"})
        child = await self.start(program, key)
        if step["do"] == "signal_child":
            await child.signal(Interpreter.hear, args=[key, step["number"]])
            await workflow.get_external_workflow_handle(child.id).signal("hear", args=["end", 0])
        elif step["do"] == "child_twice":
            await child
            await self.start(program, key, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE)
        return await child

    async def start(self, program: Program, key: str, **options: Any) -> workflow.ChildWorkflowHandle[Any, Any]:
        name = f"{self.program['name']}/{key}"
        return await workflow.start_child_workflow(
            Interpreter.run, Task({**program, "name": name}), id=name, task_timeout=TASK, **options
        )

    # What does not end until it is cancelled.

    async def endless(self, step: Step, key: str, what: str) -> Any:
        how = step.get("cancellation", "wait")
        match what:
            case "timer":
                await workflow.sleep(HOUR, summary=key)
            case "condition":
                await workflow.wait_condition(lambda: False)
            case "activity":
                await workflow.execute_activity(
                    hang,
                    left(key, how),
                    activity_id=left(key, how),
                    schedule_to_close_timeout=HOUR,
                    heartbeat_timeout=LONG,
                    cancellation_type=ACTIVITY[how],
                    retry_policy=ONCE,
                )
            case "local":
                key = key.replace("]", "^]")
                await workflow.execute_local_activity(
                    hang, key, activity_id=key, schedule_to_close_timeout=HOUR, cancellation_type=ACTIVITY[how], retry_policy=ONCE
                )
            case "child":
                child = await self.start(WAITS, left(key, how), cancellation_type=CHILD[how])
                self.heard[left(key, how)] = 0
                await child
            case other:
                raise AssertionError(other)

    async def running(self, step: Step, key: str, what: str) -> None:
        """Returns once this endless thing is sent, and runs if it can tell."""
        match what:
            case "activity" | "child":
                key = left(key, step.get("cancellation", "wait"))
                await workflow.wait_condition(lambda: key in self.heard)
            case "local":
                # The one that is asked for later ends later than the other begins.
                await worker({**step, "how": "ok", "timed_by": "all"}, key)
            case _:
                await workflow.sleep(0.001, summary=key)

    async def begun(self, when: str, running: Callable[[], Awaitable[Any]], key: str) -> None:
        match when:
            case "unsent":
                # Asked for, but the task is not over.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            case "running":
                await running()
            case _:
                await workflow.sleep(0.01, summary=key)

    async def cancel(self, step: Step, branch: str, key: str, what: str) -> str:
        """One thing, cancelled by itself."""
        what = what.removeprefix("cancel_")
        task = asyncio.create_task(self.endless(step, key, what))
        await self.begun(step["when"], lambda: self.running(step, key, what), key)
        return await given_up(task)

    async def scope(self, step: Step, branch: str, key: str) -> list[str]:
        """All branches at once."""
        task = asyncio.create_task(self.all_endless(step))
        await self.begun(step["when"], lambda: self.all_running(step), key)
        return [await given_up(task)]

    async def cancelled(self, step: Step, branch: str, key: str) -> list[str]:
        """The workflow itself, by whoever started it."""
        task = asyncio.create_task(self.all_endless(step))
        await self.all_running(step)
        self.waits_for_cancellation = True
        try:
            await task
        except asyncio.CancelledError:
            return ["the workflow was cancelled"]
        except FailureError as error:
            return [words(error)]
        finally:
            self.waits_for_cancellation = False
        raise AssertionError("what is endless ended")

    def each_endless(self, step: Step) -> list[tuple[Step, str, str]]:
        inner = [(number, steps[0]) for number, steps in enumerate(step["branches"]) if steps[0]["do"] == "endless"]
        return [(it, f"[{step['id']}.{number}:{it['id']}]", it["of"]) for number, it in inner]

    async def all_endless(self, step: Step) -> None:
        # Over when all are, not when the first is.
        await asyncio.gather(*(self.endless(*each) for each in self.each_endless(step)), return_exceptions=True)

    async def all_running(self, step: Step) -> None:
        await asyncio.gather(*(self.running(*each) for each in self.each_endless(step)))

    async def race(self, step: Step, branch: str, key: str) -> list[str]:
        """Who is first; the others are cancelled."""
        first, *others = step["branches"]
        endless = [asyncio.create_task(self.endless(*each)) for each in self.each_endless(step)]
        if step["when"] == "running":
            await self.all_running(step)
        racers = [asyncio.create_task(self.branch(first, f"{step['id']}.0"))]
        racers += [
            asyncio.create_task(self.branch(steps, f"{step['id']}.{number}"))
            for number, steps in enumerate(others, 1)
            if steps[0]["do"] != "endless"
        ]
        done, pending = await workflow.wait([*racers, *endless], return_when=asyncio.FIRST_COMPLETED)
        return [str(task.result()) for task in done] + [await given_up(task) for task in pending]


async def worker(step: Step, key: str) -> Any:
    """An activity that ends, on a worker or beside the workflow."""
    limits: dict[str, Any] = {"activity_id": key}
    limits["start_to_close_timeout" if step["timed_by"] == "attempt" else "schedule_to_close_timeout"] = LONG
    arguments = [key, step["number"], step["how"]]
    kind = step.get("type", "work")
    if step["do"] == "activity":
        return await workflow.execute_activity(kind, args=arguments, result_type=int, retry_policy=QUICKLY, **limits)
    policy = QUICKLY
    if step.get("by_timer"):
        waits = timedelta(milliseconds=BY_TIMER + step["id"])
        policy = RetryPolicy(maximum_attempts=2, initial_interval=waits, backoff_coefficient=1)
        limits["local_retry_threshold"] = timedelta(milliseconds=1)
    return await workflow.execute_local_activity(kind, args=arguments, result_type=int, retry_policy=policy, **limits)


def left(key: str, how: str) -> str:
    """Marks what may be left behind: its end comes when it comes, or never."""
    return key if how == "wait" else key.replace("]", "~]")


async def given_up(task: asyncio.Task[Any]) -> str:
    """Cancels it; what it came to."""
    task.cancel()
    try:
        return str(await task)
    except (FailureError, asyncio.CancelledError) as error:
        return words(error)
