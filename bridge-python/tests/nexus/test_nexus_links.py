"""Links between callers, operations and what handlers start and signal; and what histories and lists tell of operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nexusrpc
from nexus.conftest import Port
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    StartOperationResultAsync,
    operation_handler,
    service_handler,
    sync_operation,
)
from support import new_worker, unique
from temporalio import nexus, workflow
from temporalio.api.common.v1 import Link
from temporalio.api.enums.v1 import EventType
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.converter import default
from temporalio.worker import Worker
from workflow.stories import Told, told


@workflow.defn(sandboxed=False)
class Hearing:
    """Ends once it heard this many signals."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self, count: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.heard) >= count)
        return self.heard

    @workflow.signal
    def hear(self, word: str) -> None:
        self.heard.append(word)


@workflow.defn(sandboxed=False)
class Echo:
    @workflow.run
    async def run(self, word: str) -> str:
        return word


async def with_signal(id: str, count: int, word: str) -> None:
    await nexus.client().start_workflow(
        Hearing.run,
        count,
        id=id,
        task_queue=nexus.info().task_queue,
        start_signal="hear",
        start_signal_args=[word],
    )


class Lasting(OperationHandler[str, str]):
    async def start(self, ctx: StartOperationContext, input: str) -> StartOperationResultAsync:
        await with_signal(input, 1, "one")
        return StartOperationResultAsync(token="lasting")

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        raise NotImplementedError


@nexusrpc.service(name="verschnörkelt-✒")
class Calls:
    signals: nexusrpc.Operation[str, str]
    lasts: nexusrpc.Operation[str, str]
    starts: nexusrpc.Operation[str, str]
    starts_two: nexusrpc.Operation[str, str]


@service_handler(service=Calls)
class Handler:
    @sync_operation
    async def signals(self, ctx: StartOperationContext, id: str) -> str:
        await with_signal(id, 2, "one")
        await nexus.client().get_workflow_handle(id).signal(Hearing.hear, "two")
        return "signalled"

    @operation_handler
    def lasts(self) -> OperationHandler[str, str]:
        return Lasting()

    @nexus.workflow_run_operation
    async def starts(self, ctx: nexus.WorkflowRunOperationContext, id: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Echo.run, "started", id=id)

    @nexus.workflow_run_operation
    async def starts_two(self, ctx: nexus.WorkflowRunOperationContext, id: str) -> nexus.WorkflowHandle[str]:
        queue = nexus.info().task_queue
        first = await nexus.client().execute_workflow(Echo.run, "first", id=f"{id}-first", task_queue=queue)
        return await ctx.start_workflow(Echo.run, f"{first} and second", id=id)


@workflow.defn(sandboxed=False)
class Caller:
    @workflow.run
    async def run(self, endpoint: str, operation: str, id: str, wait: bool) -> str | None:
        calls = workflow.create_nexus_client(service=Calls, endpoint=endpoint)
        handle = await calls.start_operation(operation, id, output_type=str, summary="a call")
        return await handle if wait else handle.operation_token


@asynccontextmanager
async def stage(port: Port) -> AsyncIterator[tuple[Worker, str]]:
    async with new_worker(port.client, Caller, Hearing, Echo, nexus_service_handlers=[Handler()]) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        yield worker, endpoint


async def call(port: Port, operation: str, wait: bool = True) -> tuple[str | None, str, Told, Told]:
    """What the caller returned, its id, its history and that of the workflow it called for."""
    id, caller_id = unique("called"), unique("caller")
    async with stage(port) as (worker, endpoint):
        caller = await port.client.start_workflow(
            Caller.run, args=[endpoint, operation, id, wait], id=caller_id, task_queue=worker.task_queue
        )
        returned = await caller.result()
        called = port.client.get_workflow_handle(id)
        await called.result()
        return returned, caller_id, await told(caller), await told(called)


def event_of(link: Link) -> tuple[str, str]:
    """The workflow and the kind of the event that a link leads to."""
    event = link.workflow_event
    assert event.namespace == "default" and event.run_id
    kind = event.request_id_ref.event_type if event.HasField("request_id_ref") else event.event_ref.event_type
    return event.workflow_id, EventType.Name(kind)


SCHEDULED = "EVENT_TYPE_NEXUS_OPERATION_SCHEDULED"
SIGNALED = "EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED"


async def test_signals_of_a_handler_lead_to_their_caller_and_back(port: Port) -> None:
    returned, caller_id, caller, called = await call(port, "signals")
    assert returned == "signalled"
    signals = called.all("WORKFLOW_EXECUTION_SIGNALED")
    assert [[event_of(link) for link in signal.links] for signal in signals] == [[(caller_id, SCHEDULED)]] * 2
    called_id = called.attributes("WORKFLOW_EXECUTION_STARTED").workflow_id
    assert [event_of(link) for link in caller.one("NEXUS_OPERATION_COMPLETED").links] == [(called_id, SIGNALED)] * 2


async def test_a_signal_of_an_operation_that_lasts_is_linked_to_its_start(port: Port) -> None:
    returned, caller_id, caller, called = await call(port, "lasts", wait=False)
    assert returned == "lasting"
    assert [event_of(link) for link in called.one("WORKFLOW_EXECUTION_SIGNALED").links] == [(caller_id, SCHEDULED)]
    called_id = called.attributes("WORKFLOW_EXECUTION_STARTED").workflow_id
    assert [event_of(link) for link in caller.one("NEXUS_OPERATION_STARTED").links] == [(called_id, SIGNALED)]


async def test_a_workflow_behind_an_operation_and_its_caller_lead_to_each_other(port: Port) -> None:
    returned, caller_id, caller, called = await call(port, "starts")
    assert returned == "started"
    started = called.one("WORKFLOW_EXECUTION_STARTED")
    (callback,) = started.workflow_execution_started_event_attributes.completion_callbacks
    links = list(callback.links) or list(started.links)
    assert [event_of(link) for link in links] == [(caller_id, SCHEDULED)]
    called_id = started.workflow_execution_started_event_attributes.workflow_id
    (link,) = caller.one("NEXUS_OPERATION_STARTED").links
    assert event_of(link) == (called_id, "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED")
    token = nexus.WorkflowHandle[str].from_token(caller.attributes("NEXUS_OPERATION_STARTED").operation_token)
    assert (token.namespace, token.workflow_id) == ("default", called_id)
    assert callback.nexus.header["nexus-operation-token"] == token.to_token()


async def test_a_handler_may_run_a_workflow_before_it_starts_the_one_behind_the_operation(port: Port) -> None:
    returned, _, _, called = await call(port, "starts_two")
    assert returned == "first and second"
    assert len(called.attributes("WORKFLOW_EXECUTION_STARTED").completion_callbacks) == 1


async def test_an_operation_is_scheduled_with_its_summary_and_the_name_of_its_service(port: Port) -> None:
    _, _, caller, _ = await call(port, "starts")
    scheduled = caller.one("NEXUS_OPERATION_SCHEDULED")
    assert default().payload_converter.from_payload(scheduled.user_metadata.summary) == "a call"
    attributes = scheduled.nexus_operation_scheduled_event_attributes
    assert (attributes.service, attributes.operation, scheduled.event_id) == ("verschnörkelt-✒", "starts", 5)


async def test_callers_may_share_the_workflow_behind_their_operations(port: Port) -> None:
    count = 5

    @service_handler(name="Shared")
    class Shared:
        @nexus.workflow_run_operation
        async def join(self, ctx: nexus.WorkflowRunOperationContext, id: str) -> nexus.WorkflowHandle[list[str]]:
            policy = WorkflowIDConflictPolicy.USE_EXISTING
            return await ctx.start_workflow(Hearing.run, 1, id=id, id_conflict_policy=policy)

    id = unique("shared")
    async with new_worker(port.client, Joining, Hearing, nexus_service_handlers=[Shared()]) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        handle = await port.client.start_workflow(
            Joining.run, args=[endpoint, id, count], id=unique(), task_queue=worker.task_queue
        )
        await handle.execute_update(Joining.joined)
        await port.client.get_workflow_handle(id).signal(Hearing.hear, "all")
        assert await handle.result() == [["all"]] * count
        behind = await told(port.client.get_workflow_handle(id))
    assert behind.count("WORKFLOW_EXECUTION_OPTIONS_UPDATED") == count - 1


@workflow.defn(sandboxed=False)
class Joining:
    def __init__(self) -> None:
        self.all_in = False

    @workflow.run
    async def run(self, endpoint: str, id: str, count: int) -> list[list[str]]:
        shared = workflow.create_nexus_client(service="Shared", endpoint=endpoint)
        handles = [await shared.start_operation("join", id, output_type=list[str]) for _ in range(count)]
        self.all_in = True
        return list(await asyncio.gather(*handles))

    @workflow.update
    async def joined(self) -> None:
        await workflow.wait_condition(lambda: self.all_in)
