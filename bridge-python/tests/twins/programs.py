"""Small workflows, one of each kind, whose histories are the same each time: nothing in them depends on how fast anything is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import Priority, RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory, CancelledError, ChildWorkflowError
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType, ParentClosePolicy

LONG = timedelta(seconds=20)
SHORT = timedelta(milliseconds=20)
KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")
OWN_KEYWORD = TypedSearchAttributes([SearchAttributePair(KEYWORD, "own")])
ONCE = RetryPolicy(maximum_attempts=1)
TWICE = RetryPolicy(maximum_attempts=2, initial_interval=SHORT)


@activity.defn
async def echo(number: int = 0) -> int:
    return number


@activity.defn
async def fail(how: str) -> str:
    if how == "plain":
        raise ValueError("v") from KeyError("k")
    if how == "final":
        raise ApplicationError("m", 1, "d", type="T", non_retryable=True)
    if how == "delayed" and activity.info().attempt < 2:
        raise ApplicationError("m", next_retry_delay=timedelta(milliseconds=5))
    if how == "benign":
        raise ApplicationError("b", category=ApplicationErrorCategory.BENIGN, non_retryable=True)
    if how == "cancelled":
        raise CancelledError("its own")
    if how == "beating":
        activity.heartbeat(1, "two")
        raise ApplicationError("after a heartbeat", non_retryable=True)
    return how


@activity.defn
async def hang() -> None:
    """Tells its workflow that it runs, then waits to be cancelled."""
    own = activity.info().workflow_id
    assert own
    await activity.client().get_workflow_handle(own).signal(Program.add, 0)
    while True:
        activity.heartbeat("x")
        await asyncio.sleep(0.02)


@activity.defn
async def sleep() -> None:
    await asyncio.sleep(2)


ACTIVITIES: list[Callable[..., Any]] = [echo, fail, hang, sleep]
HOW = ["plain", "final", "delayed", "benign", "beating"]


@workflow.defn
class Child:
    @workflow.run
    async def run(self, way: str) -> str:
        if way == "fail":
            raise ApplicationError("boom", type="CT")
        if way == "wait":
            await asyncio.Event().wait()
        return way


@workflow.defn
class Program:
    """Runs one of `PROGRAMS`."""

    def __init__(self) -> None:
        self.got: list[int] = []

    @workflow.run
    async def run(self, name: str) -> None:
        await PROGRAMS[name](self)

    @workflow.signal
    async def add(self, number: int) -> None:
        self.got.append(number)

    @workflow.update
    async def ask(self, number: int) -> int:
        await asyncio.sleep(0.01)
        if number == 0:
            raise ApplicationError("zero", type="Z")
        self.got.append(number)
        return number

    @ask.validator
    def ask_is_good(self, number: int) -> None:
        if number < 0:
            raise ValueError("negative")

    @workflow.query
    def count(self) -> int:
        return len(self.got)

    async def signalled(self, times: int = 1) -> None:
        await workflow.wait_condition(lambda: len(self.got) >= times)


PROGRAMS: dict[str, Callable[[Program], Awaitable[None]]] = {}


def program(run: Callable[[Program], Awaitable[None]]) -> Callable[[Program], Awaitable[None]]:
    PROGRAMS[run.__name__] = run
    return run


@program
async def activities(_: Program) -> None:
    await workflow.execute_activity(echo, 1, start_to_close_timeout=LONG)
    await workflow.execute_activity(
        echo,
        1,
        schedule_to_close_timeout=LONG,
        schedule_to_start_timeout=LONG,
        heartbeat_timeout=LONG,
        retry_policy=RetryPolicy(maximum_attempts=2, backoff_coefficient=1.5, non_retryable_error_types=["a", "b"]),
        activity_id="mine",
        summary="a summary",
        priority=Priority(priority_key=1),
        cancellation_type=ActivityCancellationType.ABANDON,
    )
    for how in HOW:
        with contextlib.suppress(ActivityError):
            await workflow.execute_activity(
                fail, how, start_to_close_timeout=LONG, heartbeat_timeout=LONG, retry_policy=TWICE
            )
    unsent = workflow.start_activity(echo, start_to_close_timeout=LONG)
    unsent.cancel()
    with contextlib.suppress(ActivityError, asyncio.CancelledError):
        await unsent


async def cancelled_activity(it: Program, how: ActivityCancellationType) -> None:
    running = workflow.start_activity(
        hang, start_to_close_timeout=LONG, heartbeat_timeout=LONG, cancellation_type=how, retry_policy=ONCE
    )
    await it.signalled()
    running.cancel()
    with contextlib.suppress(ActivityError, asyncio.CancelledError):
        await running


@program
async def activity_cancelled_and_waited_for(it: Program) -> None:
    await cancelled_activity(it, ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)


@program
async def activity_cancelled(it: Program) -> None:
    await cancelled_activity(it, ActivityCancellationType.TRY_CANCEL)


@program
async def activity_abandoned(it: Program) -> None:
    await cancelled_activity(it, ActivityCancellationType.ABANDON)


@program
async def local_activities(_: Program) -> None:
    await workflow.execute_local_activity(echo, 1, start_to_close_timeout=LONG, summary="a summary")
    for how in [*HOW, "cancelled"]:
        with contextlib.suppress(ActivityError, CancelledError):
            await workflow.execute_local_activity(fail, how, schedule_to_close_timeout=LONG, retry_policy=TWICE)
    with contextlib.suppress(ActivityError):
        await workflow.execute_local_activity(sleep, start_to_close_timeout=SHORT, retry_policy=ONCE)
    with contextlib.suppress(ActivityError):
        await workflow.execute_local_activity(
            fail,
            "plain",
            schedule_to_close_timeout=LONG,
            retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=300)),
            local_retry_threshold=timedelta(milliseconds=100),
        )


@program
async def timers(_: Program) -> None:
    await workflow.sleep(0.01, summary="a summary")
    with contextlib.suppress(asyncio.TimeoutError):
        await workflow.wait_condition(lambda: False, timeout=0.02, timeout_summary="waits")
    sent = asyncio.create_task(asyncio.sleep(5))
    await asyncio.sleep(0.01)
    sent.cancel()
    unsent = asyncio.create_task(asyncio.sleep(5))
    await asyncio.sleep(0)
    unsent.cancel()
    await asyncio.sleep(0.01)


@program
async def children(_: Program) -> None:
    own = workflow.info().workflow_id
    await workflow.execute_child_workflow(Child.run, "a", id=f"{own}-1")
    with contextlib.suppress(ChildWorkflowError):
        await workflow.execute_child_workflow(
            Child.run,
            "fail",
            id=f"{own}-2",
            memo={"a": "b"},
            run_timeout=LONG,
            task_timeout=LONG,
            execution_timeout=LONG,
            retry_policy=TWICE,
            priority=Priority(priority_key=3),
            static_summary="s",
            static_details="d",
            parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
        )
    with contextlib.suppress(ChildWorkflowError):
        await workflow.execute_child_workflow(
            Child.run, "a", id=f"{own}-2", id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE
        )


async def cancelled_child(how: ChildWorkflowCancellationType) -> None:
    own = workflow.info().workflow_id
    child = await workflow.start_child_workflow(
        Child.run, "wait", id=f"{own}-c", cancellation_type=how, parent_close_policy=ParentClosePolicy.TERMINATE
    )
    child.cancel()
    with contextlib.suppress(ChildWorkflowError, asyncio.CancelledError):
        await child


@program
async def child_cancelled_and_waited_for(_: Program) -> None:
    await cancelled_child(ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED)


@program
async def child_abandoned(_: Program) -> None:
    await cancelled_child(ChildWorkflowCancellationType.ABANDON)


@program
async def child_signalled(_: Program) -> None:
    own = workflow.info().workflow_id
    child = await workflow.start_child_workflow(Child.run, "wait", id=f"{own}-c", memo={"a": 1}, search_attributes=OWN_KEYWORD)
    await child.signal("x", 1)
    await workflow.get_external_workflow_handle(child.id).signal("x", 2)
    await workflow.get_external_workflow_handle(child.id, run_id=child.first_execution_run_id).cancel()
    # Else its end may come while the last task is on its way.
    with contextlib.suppress(ChildWorkflowError):
        await child


@program
async def strangers(_: Program) -> None:
    nobody = workflow.get_external_workflow_handle(f"nobody-{workflow.info().workflow_id}")
    with contextlib.suppress(ApplicationError):
        await nobody.signal("x", 1)
    with contextlib.suppress(ApplicationError):
        await nobody.cancel()


@program
async def patches_and_upserts(_: Program) -> None:
    workflow.patched("p1")
    workflow.patched("p1")
    workflow.deprecate_patch("p2")
    workflow.upsert_memo({"a": 1})
    workflow.set_current_details("details")
    await asyncio.sleep(0.01)
    workflow.upsert_search_attributes([KEYWORD.value_set("zz")])
    workflow.upsert_memo({"a": None, "b": 2})
    workflow.patched("p3")


@program
async def messages(it: Program) -> None:
    await it.signalled(2)


@program
async def failing(_: Program) -> None:
    raise ApplicationError("wf", {"x": 1}, type="WT", next_retry_delay=timedelta(seconds=3)) from ValueError("c")


@program
async def continuing(_: Program) -> None:
    if not workflow.info().continued_run_id:
        workflow.continue_as_new("continuing", run_timeout=LONG, task_timeout=LONG, retry_policy=TWICE, memo={"q": 1})


@program
async def continuing_elsewhere(_: Program) -> None:
    workflow.continue_as_new("failing", task_queue="elsewhere", search_attributes=OWN_KEYWORD)


@program
async def cancelled(_: Program) -> None:
    await asyncio.Event().wait()
