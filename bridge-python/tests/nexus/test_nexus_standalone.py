"""Operations without a workflow: a client starts them, waits for them, ends them and finds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import eventually, new_worker, unique
from temporalio import activity, nexus, workflow
from temporalio.client import (
    ActivityExecutionStatus,
    NexusClient,
    NexusOperationFailureError,
    WorkflowUpdateStage,
)
from temporalio.common import (
    NexusOperationExecutionStatus,
    NexusOperationIDConflictPolicy,
    NexusOperationIDReusePolicy,
    RetryPolicy,
)
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    NexusOperationAlreadyStartedError,
    TerminatedError,
)

BRIEF: Any = {"schedule_to_close_timeout": timedelta(seconds=30)}


@dataclass
class Parcel:
    text: str


@workflow.defn(sandboxed=False)
class Echo:
    @workflow.run
    async def run(self, parcel: Parcel) -> Parcel:
        return parcel


@workflow.defn(sandboxed=False)
class Kept:
    def __init__(self) -> None:
        self.free = False

    @workflow.run
    async def run(self, parcel: Parcel) -> Parcel:
        await workflow.wait_condition(lambda: self.free)
        return parcel

    @workflow.update
    def release(self) -> None:
        self.free = True


@activity.defn
async def measure(parcel: Parcel) -> int:
    return len(parcel.text)


@activity.defn
async def drop(parcel: Parcel) -> None:
    raise ApplicationError("broken", type="Glass", non_retryable=True)


@activity.defn
async def carry(parcel: Parcel) -> None:
    while True:
        await asyncio.sleep(0.2)
        activity.heartbeat()


@nexusrpc.service
class Depot:
    sync: nexusrpc.Operation[Parcel, Parcel]
    through: nexusrpc.Operation[Parcel, Parcel]
    kept: nexusrpc.Operation[Parcel, Parcel]
    fails: nexusrpc.Operation[str, None]
    measured: nexusrpc.Operation[Parcel, int]
    dropped: nexusrpc.Operation[Parcel, None]
    carried: nexusrpc.Operation[Parcel, None]


@service_handler(service=Depot)
class DepotHandler:
    @sync_operation
    async def sync(self, ctx: StartOperationContext, parcel: Parcel) -> Parcel:
        return parcel

    @nexus.workflow_run_operation
    async def through(self, ctx: nexus.WorkflowRunOperationContext, parcel: Parcel) -> nexus.WorkflowHandle[Parcel]:
        return await ctx.start_workflow(Echo.run, parcel, id=unique())

    @nexus.workflow_run_operation
    async def kept(self, ctx: nexus.WorkflowRunOperationContext, parcel: Parcel) -> nexus.WorkflowHandle[Parcel]:
        return await ctx.start_workflow(Kept.run, parcel, id=parcel.text)

    @sync_operation
    async def fails(self, ctx: StartOperationContext, how: str) -> None:
        if how == "handler":
            kind = nexusrpc.HandlerErrorType.INTERNAL
            raise nexusrpc.HandlerError("no", type=kind, retryable_override=False)
        raise ApplicationError("lost", type="Loss", non_retryable=True)

    @nexus.temporal_operation
    async def measured(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, parcel: Parcel
    ) -> nexus.TemporalOperationResult[int]:
        return await client.start_activity(
            measure, parcel, id=parcel.text, start_to_close_timeout=timedelta(seconds=5)
        )

    @nexus.temporal_operation
    async def dropped(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, parcel: Parcel
    ) -> nexus.TemporalOperationResult[None]:
        return await client.start_activity(
            drop,
            parcel,
            id=parcel.text,
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )

    @nexus.temporal_operation
    async def carried(
        self, ctx: nexus.TemporalStartOperationContext, client: nexus.TemporalNexusClient, parcel: Parcel
    ) -> nexus.TemporalOperationResult[None]:
        return await client.start_activity(
            carry,
            parcel,
            id=parcel.text,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=1),
        )


@asynccontextmanager
async def depot(port: Port) -> AsyncIterator[tuple[NexusClient[Depot], str]]:
    async with new_worker(
        port.client, Echo, Kept, activities=[measure, drop, carry], nexus_service_handlers=[DepotHandler()]
    ) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        yield port.client.create_nexus_client(service=Depot, endpoint=endpoint), endpoint


@pytest.mark.parametrize("operation", [Depot.sync, Depot.through], ids=["sync", "by a workflow"])
async def test_an_operation_gives_its_result_to_whoever_has_its_id(port: Port, operation: Any) -> None:
    id = unique("op")
    async with depot(port) as (client, endpoint):
        handle = await client.start_operation(operation, Parcel("a"), id=id, summary="heavy", **BRIEF)
        assert await handle.result() == Parcel("a")
        again = port.client.get_nexus_operation_handle(id, operation=operation)
        assert await again.result() == Parcel("a")
        told = await handle.describe()
    assert (told.operation_id, told.endpoint, told.service, told.operation) == (id, endpoint, "Depot", operation.name)
    assert told.status == NexusOperationExecutionStatus.COMPLETED and told.attempt == 1
    assert await told.static_summary() == "heavy"


async def test_how_an_operation_failed(port: Port) -> None:
    async with depot(port) as (client, _):
        causes = []
        for how in ("handler", "application"):
            with pytest.raises(NexusOperationFailureError) as caught:
                await client.execute_operation(Depot.fails, how, id=unique("op"), **BRIEF)
            causes.append(caught.value.cause)
    assert all(isinstance(cause, nexusrpc.HandlerError) for cause in causes)
    assert causes[0] and str(causes[0]) == "no"
    inner = causes[1].__cause__ if causes[1] else None
    assert isinstance(inner, ApplicationError) and (inner.message, inner.type) == ("lost", "Loss")


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_an_operation_can_be_ended(port: Port, how: str) -> None:
    id = unique("kept")
    async with depot(port) as (client, _):
        handle = await client.start_operation(Depot.kept, Parcel(id), id=unique("op"), **BRIEF)
        if how == "cancel":
            await handle.cancel()
        else:
            await handle.terminate(reason="enough")
        with pytest.raises(NexusOperationFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError if how == "cancel" else TerminatedError)


async def test_an_id_that_is_taken(port: Port) -> None:
    id, kept = unique("op"), unique("kept")
    reuse = NexusOperationIDReusePolicy.ALLOW_DUPLICATE
    async with depot(port) as (client, _):
        first = await client.start_operation(Depot.kept, Parcel(kept), id=id, id_reuse_policy=reuse, **BRIEF)
        second = await client.start_operation(
            Depot.kept,
            Parcel("other"),
            id=id,
            id_reuse_policy=reuse,
            id_conflict_policy=NexusOperationIDConflictPolicy.USE_EXISTING,
            **BRIEF,
        )
        assert (first.operation_id, first.run_id) == (second.operation_id, second.run_id)
        with pytest.raises(NexusOperationAlreadyStartedError):
            await client.start_operation(Depot.kept, Parcel("other"), id=id, id_reuse_policy=reuse, **BRIEF)

        async def running() -> None:
            assert (await first.describe()).operation_token

        await eventually(running)
        workflow_handle = port.client.get_workflow_handle(kept)
        await workflow_handle.start_update(Kept.release, wait_for_stage=WorkflowUpdateStage.COMPLETED)
        assert await first.result() == await second.result() == Parcel(kept)


async def test_operations_are_listed_and_counted(port: Port) -> None:
    ids = {unique("op") for _ in range(3)}
    async with depot(port) as (client, endpoint):
        for id in ids:
            await client.start_operation(Depot.kept, Parcel(unique("kept")), id=id, **BRIEF)

        async def listed() -> None:
            query = f'Endpoint = "{endpoint}"'
            found = {told.operation_id async for told in port.client.list_nexus_operations(query)}
            assert found == ids
            assert (await port.client.count_nexus_operations(query)).count == 3

        await eventually(listed)
        for id in ids:
            await port.client.get_nexus_operation_handle(id).terminate()


async def test_an_activity_may_be_behind_an_operation(port: Port) -> None:
    async with depot(port) as (client, _):
        id = unique("measured")
        assert await client.execute_operation(Depot.measured, Parcel(id), id=unique("op"), **BRIEF) == len(id)
        with pytest.raises(NexusOperationFailureError) as caught:
            await client.execute_operation(Depot.dropped, Parcel(unique()), id=unique("op"), **BRIEF)
    cause = caught.value.__cause__
    assert isinstance(cause, ApplicationError) and (cause.message, cause.type) == ("broken", "Glass")


async def test_a_cancellation_reaches_the_activity_behind_an_operation(port: Port) -> None:
    id = unique("carried")
    async with depot(port) as (client, _):
        handle = await client.start_operation(Depot.carried, Parcel(id), id=unique("op"), **BRIEF)
        await handle.cancel()

        async def cancelled() -> None:
            assert (await handle.describe()).status == NexusOperationExecutionStatus.CANCELED
            told = await port.client.get_activity_handle(id).describe()
            assert told.status == ActivityExecutionStatus.CANCELED

        await eventually(cancelled)
