"""What comes in one activation, and in which order commands go: operations that end at once, and those begun by updates."""

from __future__ import annotations

from typing import Any

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import new_worker, unique
from temporalio import nexus, workflow
from temporalio.client import WithStartWorkflowOperation, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import CancelledError, NexusOperationError
from workflow.stories import replay, told


@workflow.defn(sandboxed=False)
class Behind:
    @workflow.run
    async def run(self, lasts: bool) -> str:
        if lasts:
            await workflow.wait_condition(lambda: False)
        return "later"


@service_handler(name="Service")
class Service:
    @sync_operation
    async def at_once(self, ctx: StartOperationContext, _: str) -> str:
        return "at once"

    @sync_operation
    async def never(self, ctx: StartOperationContext, _: str) -> str:
        raise nexusrpc.HandlerError("never", type=nexusrpc.HandlerErrorType.BAD_REQUEST)

    @nexus.workflow_run_operation
    async def later(self, ctx: nexus.WorkflowRunOperationContext, id: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Behind.run, False, id=id)

    @nexus.workflow_run_operation
    async def lasts(self, ctx: nexus.WorkflowRunOperationContext, id: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Behind.run, True, id=id)


@workflow.defn(sandboxed=False)
class Caller:
    """Starts an operation and cancels it, if it is to, once it is told that the operation started."""

    def __init__(self) -> None:
        self.started = self.may_go_on = False

    @workflow.run
    async def run(self, endpoint: str, operation: str, id: str, cancel: bool, wait: bool) -> str:
        service = workflow.create_nexus_client(service="Service", endpoint=endpoint)
        try:
            handle = await service.start_operation(operation, id, output_type=str)
        finally:
            self.started = True
        if wait:
            await workflow.wait_condition(lambda: self.may_go_on)
        if cancel:
            assert handle.cancel()
        return await handle

    @workflow.update
    async def when_started(self) -> None:
        await workflow.wait_condition(lambda: self.started)

    @workflow.signal
    def go_on(self) -> None:
        self.may_go_on = True


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("operation", ["at_once", "never"])
async def test_an_operation_that_ended_at_once_cannot_be_cancelled(port: Port, operation: str, cancel: bool) -> None:
    async with new_worker(
        port.client, Caller, nexus_service_handlers=[Service()], workflow_failure_exception_types=[Exception]
    ) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        handle = await port.client.start_workflow(
            Caller.run, args=[endpoint, operation, "", cancel, False], id=unique(), task_queue=worker.task_queue
        )
        if operation == "at_once":
            assert await handle.result() == "at once"
        else:
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
            cause = caught.value.cause
            assert isinstance(cause, NexusOperationError) and isinstance(cause.cause, nexusrpc.HandlerError)
            assert (cause.scheduled_event_id, cause.endpoint, cause.operation) == (5, endpoint, "never")
        story = await replay(worker, handle)
    assert story.count("NEXUS_OPERATION_STARTED") == story.count("NEXUS_OPERATION_CANCEL_REQUESTED") == 0


@pytest.mark.parametrize("cancel", [False, True])
async def test_an_update_that_comes_with_the_start_is_accepted_before_the_operation_is_asked_for(
    port: Port, cancel: bool
) -> None:
    async with new_worker(port.client, Caller, Behind, nexus_service_handlers=[Service()]) as worker:
        endpoint, id = unique("endpoint"), unique("behind")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        arguments: list[Any] = [endpoint, "lasts" if cancel else "later", id, cancel, True]
        start = WithStartWorkflowOperation(
            Caller.run,
            args=arguments,
            id=unique(),
            task_queue=worker.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        await port.client.execute_update_with_start_workflow(Caller.when_started, start_workflow_operation=start)
        handle = await start.workflow_handle()
        behind = port.client.get_workflow_handle(id)
        await handle.signal(Caller.go_on)
        if cancel:
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
            cause = caught.value.cause
            assert isinstance(cause, NexusOperationError) and isinstance(cause.cause, CancelledError)
            assert (cause.scheduled_event_id, cause.service, cause.operation) == (6, "Service", "lasts")
            token = nexus.WorkflowHandle[str].from_token(cause.operation_token)
            assert token == nexus.WorkflowHandle("default", id)
        else:
            assert await handle.result() == "later"
        ended = WorkflowExecutionStatus.CANCELED if cancel else WorkflowExecutionStatus.COMPLETED
        assert (await behind.describe()).status == ended
        story = await told(handle)
        assert story.one("WORKFLOW_EXECUTION_UPDATE_ACCEPTED").event_id == 5
        assert story.one("NEXUS_OPERATION_SCHEDULED").event_id == 6
        await replay(worker, handle)
