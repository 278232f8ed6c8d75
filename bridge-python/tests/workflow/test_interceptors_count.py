"""What interceptors are called for, and how often: each thing that a workflow that stays cached does or is asked, once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ContinueAsNewInput,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    SignalChildWorkflowInput,
    SignalExternalWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

BRIEF = timedelta(seconds=20)

calls: Counter[str] = Counter()


class Tally(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return ActivityIn(super().intercept_activity(next))

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        return WorkflowIn


class ActivityIn(ActivityInboundInterceptor):
    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        super().init(ActivityOut(outbound))

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        calls[f"run {input.args[0]}"] += 1
        return await super().execute_activity(input)


class ActivityOut(ActivityOutboundInterceptor):
    def heartbeat(self, *details: Any) -> None:
        calls[f"heartbeat {details[0]}"] += 1
        super().heartbeat(*details)


class WorkflowIn(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(WorkflowOut(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        calls[f"execute {input.args[0]}"] += 1
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        calls[f"signalled {input.args[0]}"] += 1
        await super().handle_signal(input)

    async def handle_query(self, input: HandleQueryInput) -> Any:
        calls[f"queried {input.args[0]}"] += 1
        return await super().handle_query(input)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        calls[f"validated {input.args[0]}"] += 1
        super().handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        calls[f"updated {input.args[0]}"] += 1
        return await super().handle_update_handler(input)


class WorkflowOut(WorkflowOutboundInterceptor):
    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        calls["continue as new"] += 1
        super().continue_as_new(input)

    def info(self) -> workflow.Info:
        calls["info"] += 1
        return super().info()

    async def signal_child_workflow(self, input: SignalChildWorkflowInput) -> None:
        calls[f"signal child {input.args[0]}"] += 1
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: SignalExternalWorkflowInput) -> None:
        calls[f"signal external {input.args[0]}"] += 1
        await super().signal_external_workflow(input)

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        calls[f"start {input.args[0]}"] += 1
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        calls[f"start child {input.args[0]}"] += 1
        return await super().start_child_workflow(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        calls[f"start local {input.args[0]}"] += 1
        return super().start_local_activity(input)


@activity.defn
async def work(word: str) -> None:
    if not activity.info().is_local:
        activity.heartbeat(word)


@workflow.defn(sandboxed=False)
class Busy:
    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self, role: str) -> None:
        if role == "next":
            return
        if role == "first":
            await workflow.execute_activity(work, "far", start_to_close_timeout=BRIEF)
            await workflow.execute_local_activity(work, "near", start_to_close_timeout=BRIEF)
            id = workflow.info().workflow_id
            child = await workflow.start_child_workflow(Busy.run, "child", id=f"{id}-child")
            await child.signal(Busy.tell, "to the child")
            await child
            other = await workflow.start_child_workflow(Busy.run, "other", id=f"{id}-other")
            await workflow.get_external_workflow_handle(other.id).signal(Busy.tell, "to the other")
            await other
        await workflow.wait_condition(lambda: self.told)
        if role == "first":
            workflow.continue_as_new("next")

    @workflow.query
    def ask(self, word: str) -> str:
        return word

    @workflow.signal
    def tell(self, word: str) -> None:
        self.told = True

    @workflow.update
    def change(self, word: str) -> str:
        return word

    @workflow.update
    def checked(self, word: str) -> str:
        return word

    @checked.validator
    def check(self, word: str) -> None:
        raise ApplicationError("no")


async def test_each_call_is_intercepted_once(client: Client) -> None:
    calls.clear()
    async with new_worker(client, Busy, activities=[work], interceptors=[Tally()]) as worker:
        handle = await client.start_workflow(Busy.run, "first", id=unique(), task_queue=worker.task_queue)
        assert await handle.query(Busy.ask, "a question") == "a question"
        await handle.signal(Busy.tell, "to the first")
        assert await handle.execute_update(Busy.change, "a change") == "a change"
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(Busy.checked, "a mistake")
        await handle.result()
    assert dict(calls) == dict.fromkeys(
        [
            *("execute first", "execute child", "execute other", "execute next"),
            *("start far", "run far", "heartbeat far", "start local near", "run near"),
            *("start child child", "signal child to the child", "signalled to the child"),
            *("start child other", "signal external to the other", "signalled to the other"),
            *("signalled to the first", "queried a question"),
            *("updated a change", "validated a mistake"),
            *("info", "continue as new"),
        ],
        1,
    )
