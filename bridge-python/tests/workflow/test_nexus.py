"""Nexus: workflows that call operations, and workflows that answer them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import nexusrpc
import pytest
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import unique
from temporalio import nexus, workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.converter import default
from temporalio.exceptions import ApplicationError, NexusOperationError, TimeoutError, TimeoutType
from workflow.nexus_endpoints import endpoint
from workflow.stories import LONG, caused, fail_and_replay, replay, run_and_replay, stage, until

pytestmark = pytest.mark.timeout(60)


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Bill:
    total: int
    item: str


@nexusrpc.service
class Store:
    """What the caller knows of the other side."""

    price: nexusrpc.Operation[Order, Bill]
    deliver: nexusrpc.Operation[Order, Bill]
    fail: nexusrpc.Operation[str, None]
    look: nexusrpc.Operation[None, list[str]]


@workflow.defn
class Delivery:
    """The workflow behind the operation `deliver`."""

    @workflow.run
    async def run(self, order: Order) -> Bill:
        await workflow.sleep(0.01)
        if order.item == "broken":
            raise ApplicationError("fell off the lorry", type="Broken", non_retryable=True)
        return Bill(order.count * 3, order.item)


@service_handler(service=Store)
class StoreHandler:
    """The other side, in the same process."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.ids: list[str] = []

    @sync_operation
    async def price(self, ctx: StartOperationContext, order: Order) -> Bill:
        self.seen.append([type(order), ctx.service, ctx.operation, ctx.headers.get("tone")])
        return Bill(order.count * 2, order.item)

    @nexus.workflow_run_operation
    async def deliver(self, ctx: nexus.WorkflowRunOperationContext, order: Order) -> nexus.WorkflowHandle[Bill]:
        self.ids.append(unique("delivery"))
        return await ctx.start_workflow(Delivery.run, order, id=self.ids[-1])

    @sync_operation
    async def fail(self, _: StartOperationContext, how: str) -> None:
        if how == "handler":
            raise nexusrpc.HandlerError("who are you?", type=nexusrpc.HandlerErrorType.UNAUTHORIZED)
        if how == "application":
            raise ApplicationError("no good", type="Odd", non_retryable=True)
        raise nexusrpc.OperationError("not today", state=nexusrpc.OperationErrorState(how))

    @sync_operation
    async def look(self, _: StartOperationContext, __: None) -> list[str]:
        info = nexus.info()
        return [info.endpoint, info.namespace, info.task_queue, f"{nexus.in_operation()}", nexus.client().identity]


@workflow.defn
class Calls:
    """Calls one operation of the service."""

    @workflow.run
    async def run(self, endpoint: str, operation: str, input: Any, typed: bool) -> Any:
        store = workflow.create_nexus_client(service=Store, endpoint=endpoint)
        if operation == "price" and typed:
            bill = await store.execute_operation(
                Store.price, Order(**input), headers={"tone": "polite"}, summary="how much?"
            )
            assert isinstance(bill, Bill)
            return bill
        if operation == "deliver" and typed:
            handle = await store.start_operation(Store.deliver, Order(**input), schedule_to_close_timeout=LONG)
            assert handle.operation_token
            return await handle
        return await store.execute_operation(operation, input, schedule_to_close_timeout=timedelta(seconds=10))


async def test_a_sync_operation_answers_at_once(client: Client) -> None:
    store = StoreHandler()
    async with stage(client, Calls, nexus_service_handlers=[store]) as worker, endpoint(worker) as name:
        result, told = await run_and_replay(worker, Calls.run, name, "price", {"item": "nail", "count": 4}, True)
    assert result == {"total": 8, "item": "nail"}
    assert store.seen == [[Order, "Store", "price", "polite"]]
    assert told.kinds()[1:-1] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_COMPLETED"]
    scheduled = told.attributes("NEXUS_OPERATION_SCHEDULED")
    assert (scheduled.endpoint, scheduled.service, scheduled.operation) == (name, "Store", "price")
    assert dict(scheduled.nexus_header) == {"tone": "polite"}
    summary = told.one("NEXUS_OPERATION_SCHEDULED").user_metadata.summary
    assert default().payload_converter.from_payload(summary) == "how much?"


async def test_an_operation_by_name_and_what_the_handler_knows(client: Client) -> None:
    async with stage(client, Calls, nexus_service_handlers=[StoreHandler()]) as worker, endpoint(worker) as name:
        result, _ = await run_and_replay(worker, Calls.run, name, "look", None, False)
    assert result == [name, "default", worker.task_queue, "True", client.identity]


async def test_a_workflow_answers_an_operation(client: Client) -> None:
    store = StoreHandler()
    async with stage(client, Calls, Delivery, nexus_service_handlers=[store]) as worker, endpoint(worker) as name:
        result, told = await run_and_replay(worker, Calls.run, name, "deliver", {"item": "nut", "count": 2}, True)
        behind = client.get_workflow_handle(store.ids[0])
        assert (await behind.describe()).status == WorkflowExecutionStatus.COMPLETED
        started = (await replay(worker, behind)).attributes("WORKFLOW_EXECUTION_STARTED")
    assert result == {"total": 6, "item": "nut"} and len(store.ids) == 1
    assert told.kinds()[1:-1] == ["NEXUS_OPERATION_SCHEDULED", "NEXUS_OPERATION_STARTED", "NEXUS_OPERATION_COMPLETED"]
    assert told.attributes("NEXUS_OPERATION_STARTED").operation_token
    assert len(started.completion_callbacks) == 1
    [link] = told.one("NEXUS_OPERATION_STARTED").links
    assert link.workflow_event.workflow_id == store.ids[0]


async def test_the_workflow_behind_an_operation_fails(client: Client) -> None:
    store = StoreHandler()
    async with stage(client, Calls, Delivery, nexus_service_handlers=[store]) as worker, endpoint(worker) as name:
        error, told = await fail_and_replay(worker, Calls.run, name, "deliver", {"item": "broken", "count": 1}, True)
    assert isinstance(error, NexusOperationError)
    assert (error.endpoint, error.service, error.operation) == (name, "Store", "deliver")
    assert error.operation_token == told.attributes("NEXUS_OPERATION_STARTED").operation_token
    assert error.scheduled_event_id == told.one("NEXUS_OPERATION_SCHEDULED").event_id
    cause = caused(error, ApplicationError)
    assert (cause.message, cause.type) == ("fell off the lorry", "Broken")


@pytest.mark.parametrize("how", ["failed", "canceled"])
async def test_an_operation_error_ends_the_operation(client: Client, how: str) -> None:
    async with stage(client, Calls, nexus_service_handlers=[StoreHandler()]) as worker, endpoint(worker) as name:
        error, told = await fail_and_replay(worker, Calls.run, name, "fail", how, False, same_end=False)
    assert told.count(f"NEXUS_OPERATION_{how.upper()}") == 1
    if how == "failed":
        assert isinstance(error, NexusOperationError) and error.operation == "fail"
        assert caused(error, ApplicationError).message == "not today"


@pytest.mark.parametrize("how", ["handler", "application"])
async def test_an_error_that_cannot_be_retried_reaches_the_caller(client: Client, how: str) -> None:
    async with stage(client, Calls, nexus_service_handlers=[StoreHandler()]) as worker, endpoint(worker) as name:
        error, told = await fail_and_replay(worker, Calls.run, name, "fail", how, False, same_end=False)
    assert isinstance(error, NexusOperationError)
    cause = caused(error, nexusrpc.HandlerError)
    if how == "handler":
        assert (cause.type, cause.retryable) == (nexusrpc.HandlerErrorType.UNAUTHORIZED, False)
        assert "who are you?" in str(cause)
    else:
        assert not cause.retryable
        assert caused(cause, ApplicationError).message == "no good"
    assert told.count("NEXUS_OPERATION_FAILED") == 1


async def test_a_retryable_error_is_tried_again(client: Client) -> None:
    attempts: list[str] = []

    @service_handler(service=Once)
    class Handler:
        @sync_operation
        async def do(self, ctx: StartOperationContext, word: str) -> str:
            attempts.append(ctx.request_id)
            if len(attempts) == 1:
                raise nexusrpc.HandlerError("come back", type=nexusrpc.HandlerErrorType.UNAVAILABLE)
            return word * 2

    async with stage(client, CallsOnce, nexus_service_handlers=[Handler()]) as worker, endpoint(worker) as name:
        result, told = await run_and_replay(worker, CallsOnce.run, name, "ab", {})
    assert result == "abab"
    assert len(attempts) == 2 and attempts[0] == attempts[1]
    assert told.count("NEXUS_OPERATION_SCHEDULED") == 1


@nexusrpc.service
class Once:
    do: nexusrpc.Operation[str, str]


@workflow.defn
class CallsOnce:
    """Calls an operation with timeouts in milliseconds."""

    @workflow.run
    async def run(self, endpoint: str, word: str, timeouts: dict[str, int]) -> str:
        once = workflow.create_nexus_client(service=Once, endpoint=endpoint)
        options: Any = {name: timedelta(milliseconds=value) for name, value in timeouts.items()}
        return await once.execute_operation(Once.do, word, **options)


async def test_an_operation_nobody_answers_times_out(client: Client) -> None:
    async with stage(client, CallsOnce) as worker, endpoint(worker) as name:
        error, told = await fail_and_replay(worker, CallsOnce.run, name, "x", {"schedule_to_close_timeout": 300})
    assert isinstance(error, NexusOperationError) and error.service == "Once"
    assert caused(error, TimeoutError).type == TimeoutType.SCHEDULE_TO_CLOSE
    assert told.count("NEXUS_OPERATION_TIMED_OUT") == 1


async def test_a_handler_learns_its_deadline_and_that_it_is_too_late(client: Client) -> None:
    cancelled = asyncio.Event()
    reasons: list[str | None] = []
    deadlines: list[datetime | None] = []

    @service_handler(service=Once)
    class Handler:
        @sync_operation
        async def do(self, ctx: StartOperationContext, word: str) -> str:
            deadlines.append(ctx.request_deadline)
            try:
                # Not for ever, so that an engine that never tells does not hang the tests.
                await asyncio.wait_for(asyncio.Event().wait(), 12)
            finally:
                reasons.append(ctx.task_cancellation.cancellation_reason())
                cancelled.set()
            return word

    async with stage(client, CallsOnce, nexus_service_handlers=[Handler()]) as worker, endpoint(worker) as name:
        error, _ = await fail_and_replay(worker, CallsOnce.run, name, "x", {"schedule_to_close_timeout": 3_000})
        await cancelled.wait()
    assert caused(error, TimeoutError).type == TimeoutType.SCHEDULE_TO_CLOSE
    assert reasons[0] == "TIMED_OUT"
    assert deadlines[0] is not None and deadlines[0].tzinfo is not None


@workflow.defn
class CallsNobody:
    @workflow.run
    async def run(self) -> str:
        once = workflow.create_nexus_client(service=Once, endpoint="no-such-endpoint")
        return await once.execute_operation(Once.do, "x")


async def test_an_endpoint_that_does_not_exist_fails_the_task_not_the_workflow(client: Client) -> None:
    """The endpoint may come to be, so the workflow waits for it."""
    async with stage(client, CallsNobody) as worker:
        handle = await worker.client.start_workflow(CallsNobody.run, id=unique(), task_queue=worker.task_queue)
        failed = (await until(handle, "WORKFLOW_TASK_FAILED")).attributes("WORKFLOW_TASK_FAILED")
        assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
        await handle.terminate()
    assert "no-such-endpoint" in failed.failure.message


@workflow.defn
class Many:
    @workflow.run
    async def run(self, endpoint: str, count: int) -> list[int]:
        store = workflow.create_nexus_client(service=Store, endpoint=endpoint)
        prices = [store.execute_operation(Store.price, Order("pin", n)) for n in range(count)]
        deliveries = [store.execute_operation(Store.deliver, Order("pin", n)) for n in range(count)]
        return [bill.total for bill in await asyncio.gather(*prices, *deliveries)]


async def test_many_operations_at_once(client: Client) -> None:
    async with (
        stage(client, Many, Delivery, nexus_service_handlers=[StoreHandler()]) as worker,
        endpoint(worker) as name,
    ):
        result, told = await run_and_replay(worker, Many.run, name, 6)
    assert result == [2 * n for n in range(6)] + [3 * n for n in range(6)]
    assert told.count("NEXUS_OPERATION_COMPLETED") == 12


async def test_two_callers_share_one_workflow_behind_the_operation(client: Client) -> None:
    shared = unique("shared")

    @service_handler(service=Store)
    class Handler(StoreHandler):
        @nexus.workflow_run_operation
        async def deliver(self, ctx: nexus.WorkflowRunOperationContext, order: Order) -> nexus.WorkflowHandle[Bill]:
            return await ctx.start_workflow(
                Delivery.run, order, id=shared, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
            )

    async with (
        stage(client, Many, Delivery, nexus_service_handlers=[Handler()]) as worker,
        endpoint(worker) as name,
    ):
        result, _ = await run_and_replay(worker, Many.run, name, 2)
        callbacks = (await client.get_workflow_handle(shared).describe()).raw_description.callbacks
    assert result[:2] == [0, 2] and set(result[2:]) <= {0, 3}
    assert len(callbacks) >= 1
