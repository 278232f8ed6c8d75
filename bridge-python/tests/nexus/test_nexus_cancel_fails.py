"""Cancelling an operation whose handler, or whose workflow, does as it likes: what each kind of cancellation waits for,
what the histories say of it, in which order, and the headers that come along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    operation_handler,
    service_handler,
)
from support import eventually, new_worker, unique
from temporalio import nexus, workflow
from temporalio.client import WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import NexusOperationError
from temporalio.nexus._operation_handlers import WorkflowRunOperationHandler
from temporalio.workflow import NexusOperationCancellationType
from workflow.stories import Told, told


@workflow.defn(sandboxed=False)
class Behind:
    """Ends when it is told to, and pays no heed to a cancellation."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self) -> str:
        while not self.over:
            try:
                await workflow.wait_condition(lambda: self.over)
            except asyncio.CancelledError:
                pass
        return "done"

    @workflow.signal
    def end(self) -> None:
        self.over = True


@nexusrpc.service
class Work:
    do: nexusrpc.Operation[str, str]


class Refusing(WorkflowRunOperationHandler[str, str]):
    """Will not cancel: raises what is no use to try again."""

    def __init__(self, asked: asyncio.Event) -> None:
        self.asked = asked

    async def start(self, ctx: StartOperationContext, input: str) -> StartOperationResultAsync:
        run = nexus.WorkflowRunOperationContext._from_start_operation_context(ctx)
        handle = await run.start_workflow(Behind.run, id=input)
        return StartOperationResultAsync(token=handle.to_token())

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        self.asked.set()
        raise nexusrpc.HandlerError("never", type=nexusrpc.HandlerErrorType.BAD_REQUEST)


@workflow.defn(sandboxed=False)
class Caller:
    def __init__(self) -> None:
        self.token: str | None = None
        self.when: datetime | None = None
        self.over = False

    @workflow.run
    async def run(self, endpoint: str, id: str, kind: int) -> tuple[str, str]:
        work = workflow.create_nexus_client(service=Work, endpoint=endpoint)
        how = NexusOperationCancellationType(kind)
        handle = await work.start_operation(Work.do, id, cancellation_type=how)
        self.token = handle.operation_token
        handle.cancel()
        if how == NexusOperationCancellationType.WAIT_REQUESTED:
            # What the server notes of the request alone wakes nobody.
            await workflow.sleep(0.1, summary="a task")
        try:
            heard = f"returned {await handle}"
        except NexusOperationError as error:
            heard = type(error.cause).__name__
        when = workflow.now()
        await workflow.wait_condition(lambda: self.over)
        return heard, when.isoformat()

    @workflow.update
    async def started(self) -> str:
        await workflow.wait_condition(lambda: self.token is not None)
        assert self.token
        return self.token

    @workflow.signal
    def end(self) -> None:
        self.over = True


def time_of(story: Told, kind: str) -> datetime:
    moment: datetime = story.one(kind).event_time.ToDatetime(timezone.utc)
    return moment


REQUESTED = "NEXUS_OPERATION_CANCEL_REQUESTED"
FAILED = "NEXUS_OPERATION_CANCEL_REQUEST_FAILED"


@pytest.mark.parametrize("how", list(NexusOperationCancellationType), ids=lambda how: how.name)
async def test_a_handler_that_will_not_cancel(port: Port, how: NexusOperationCancellationType) -> None:
    asked = asyncio.Event()

    @service_handler(service=Work)
    class Handler:
        @operation_handler
        def do(self) -> OperationHandler[str, str]:
            return Refusing(asked)

    async with new_worker(port.client, Caller, Behind, nexus_service_handlers=[Handler()]) as worker:
        endpoint, id = unique("endpoint"), unique("behind")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        start = WithStartWorkflowOperation(
            Caller.run,
            args=[endpoint, id, how],
            id=unique(),
            task_queue=worker.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        token = await port.client.execute_update_with_start_workflow(Caller.started, start_workflow_operation=start)
        assert nexus.WorkflowHandle[str].from_token(token) == nexus.WorkflowHandle("default", id)
        caller = await start.workflow_handle()
        behind: WorkflowHandle[Behind, str] = port.client.get_workflow_handle(id)
        if how == NexusOperationCancellationType.ABANDON:
            await caller.signal(Caller.end)
            heard, _ = await caller.result()
            await behind.signal(Behind.end)
            assert await behind.result() == "done" and not asked.is_set()
            story = await told(caller)
            assert (heard, story.count(REQUESTED)) == ("CancelledError", 0)
            return
        await asyncio.wait_for(asked.wait(), 10)
        if how == NexusOperationCancellationType.WAIT_REQUESTED:
            await caller.signal(Caller.end)
            await caller.result()
        else:

            async def noted() -> None:
                assert (await told(caller)).count(FAILED) == 1

            await eventually(noted)
        await behind.signal(Behind.end)
        await behind.result()
        if how == NexusOperationCancellationType.WAIT_COMPLETED:

            async def completed() -> None:
                assert (await told(caller)).count("NEXUS_OPERATION_COMPLETED") == 1

            await eventually(completed)
        await caller.signal(Caller.end) if how != NexusOperationCancellationType.WAIT_REQUESTED else None
        heard, moment = await caller.result()
        story, ended = await told(caller), await told(behind)
    when = datetime.fromisoformat(moment)
    match how:
        case NexusOperationCancellationType.TRY_CANCEL:
            assert heard == "CancelledError"
            assert when <= time_of(story, REQUESTED) <= time_of(story, FAILED)
        case NexusOperationCancellationType.WAIT_REQUESTED:
            assert heard == "HandlerError"
            assert time_of(story, FAILED) <= when <= time_of(ended, "WORKFLOW_EXECUTION_COMPLETED")
        case NexusOperationCancellationType.WAIT_COMPLETED:
            assert heard == "returned done"
            assert time_of(ended, "WORKFLOW_EXECUTION_COMPLETED") <= when
    refused = story.attributes(FAILED).failure
    assert refused.nexus_handler_failure_info.type == "BAD_REQUEST"
    assert refused.cause.message == "never"
    assert refused.cause.nexus_handler_failure_info.type == "BAD_REQUEST"


class Noting(OperationHandler[str, str]):
    """Starts nothing. Notes the headers of both requests; in a thread or on the loop."""

    def __init__(self) -> None:
        self.headers: list[Mapping[str, str]] = []
        self.cancelled = threading.Event()

    async def start(self, ctx: StartOperationContext, input: str) -> StartOperationResultAsync:
        self.headers.append(dict(ctx.headers))
        return StartOperationResultAsync("token")

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        self.headers.append(dict(ctx.headers))
        self.cancelled.set()


class NotingInThreads(Noting):
    def start(self, ctx: StartOperationContext, input: str) -> StartOperationResultAsync:  # type: ignore[override]
        assert threading.current_thread() is not threading.main_thread()
        self.headers.append(dict(ctx.headers))
        return StartOperationResultAsync("token")

    def cancel(self, ctx: CancelOperationContext, token: str) -> None:  # type: ignore[override]
        assert threading.current_thread() is not threading.main_thread()
        self.headers.append(dict(ctx.headers))
        self.cancelled.set()


@workflow.defn
class Fickle:
    @workflow.run
    async def run(self, endpoint: str) -> str:
        work = workflow.create_nexus_client(service=Work, endpoint=endpoint)
        handle = await work.start_operation(
            Work.do,
            "",
            headers={"x-tone": "soft"},
            cancellation_type=NexusOperationCancellationType.TRY_CANCEL,
        )
        handle.cancel()
        await workflow.sleep(0.1)
        try:
            await handle
        except NexusOperationError as error:
            return type(error.cause).__name__
        return ""


@pytest.mark.parametrize("kind", [Noting, NotingInThreads])
async def test_a_cancellation_brings_the_headers_of_its_operation(port: Port, kind: type[Noting]) -> None:
    noting = kind()

    @service_handler(service=Work)
    class Handler:
        @operation_handler
        def do(self) -> OperationHandler[str, str]:
            return noting

    with ThreadPoolExecutor(2) as pool:
        async with new_worker(
            port.client, Fickle, nexus_service_handlers=[Handler()], nexus_task_executor=pool
        ) as worker:
            endpoint = unique("endpoint")
            await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
            heard = await port.client.execute_workflow(
                Fickle.run, endpoint, id=unique(), task_queue=worker.task_queue
            )
            assert await asyncio.to_thread(noting.cancelled.wait, 10)
    assert heard == "CancelledError"
    started, cancelled = noting.headers
    assert (started["x-tone"], cancelled["x-tone"]) == ("soft", "soft")
