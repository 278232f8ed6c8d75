"""What a workflow hears of an operation that failed: the whole chain of errors, and where it was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import eventually, new_worker, unique
from temporalio import nexus, workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, NexusOperationError

BAD = "nexus operation completed unsuccessfully"


class Mishap(Exception):
    pass


def application_error() -> None:
    raise ApplicationError("spilt", type="Milk", non_retryable=True)


def application_error_from_another() -> None:
    raise ApplicationError("spilt", type="Milk", non_retryable=True) from Mishap("tripped")


def handler_error() -> None:
    raise nexusrpc.HandlerError("gone", type=nexusrpc.HandlerErrorType.NOT_FOUND) from Mishap("tripped")


def handler_error_from_another() -> None:
    cause = nexusrpc.HandlerError("busy", type=nexusrpc.HandlerErrorType.UNAVAILABLE)
    raise nexusrpc.HandlerError("gone", type=nexusrpc.HandlerErrorType.NOT_FOUND) from cause


def operation_error() -> None:
    try:
        application_error_from_another()
    except ApplicationError as error:
        raise nexusrpc.OperationError("nothing came of it", state=nexusrpc.OperationErrorState.FAILED) from error


def operation_cancelled() -> None:
    raise nexusrpc.OperationError("called off", state=nexusrpc.OperationErrorState.CANCELED)


MISHAPS = {
    mishap.__name__: mishap
    for mishap in [
        application_error,
        application_error_from_another,
        handler_error,
        handler_error_from_another,
        operation_error,
        operation_cancelled,
    ]
}
TRIES: dict[str, int] = {}


@service_handler
class Kitchen:
    @sync_operation
    async def spill(self, ctx: StartOperationContext, how: str) -> None:
        MISHAPS[how]()

    @sync_operation
    async def again(self, ctx: StartOperationContext, id: str) -> None:
        how, _, _ = id.partition(":")
        TRIES[id] = TRIES.get(id, 0) + 1
        match how:
            case "exception":
                raise Exception
            case "application":
                raise ApplicationError("later", type="Later")
            case "exhausted":
                raise nexusrpc.HandlerError("later", type=nexusrpc.HandlerErrorType.RESOURCE_EXHAUSTED)
            case "internal":
                raise nexusrpc.HandlerError("later", type=nexusrpc.HandlerErrorType.INTERNAL)

    @sync_operation
    async def twice(self, ctx: StartOperationContext, id: str) -> None:
        for _ in range(2):
            await nexus.client().start_workflow(Forever.run, id=id, task_queue=nexus.info().task_queue)


@workflow.defn
class Forever:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@workflow.defn(sandboxed=False)
class Cook:
    @workflow.run
    async def run(self, endpoint: str, service: str, operation: str, argument: str) -> None:
        kitchen = workflow.create_nexus_client(service=service, endpoint=endpoint)
        await kitchen.execute_operation(operation, argument)


def outline(error: BaseException | None) -> list[tuple[Any, ...]]:
    """An error and its causes: of each the kind, what it says, and what else counts."""
    chain: list[tuple[Any, ...]] = []
    while error:
        if isinstance(error, NexusOperationError):
            chain.append(("NexusOperationError", error.message, error.service, error.operation, error.operation_token))
        elif isinstance(error, nexusrpc.HandlerError):
            chain.append(("HandlerError", str(error), error.type.name, error.retryable))
        elif isinstance(error, ApplicationError):
            chain.append(("ApplicationError", error.message, error.type, error.non_retryable))
        else:
            chain.append((type(error).__name__, str(error)))
        error = error.__cause__
    return chain


async def cooked(port: Port, operation: str, argument: str, service: str = "Kitchen") -> WorkflowFailureError:
    async with new_worker(port.client, Cook, Forever, nexus_service_handlers=[Kitchen()]) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        with pytest.raises(WorkflowFailureError) as caught:
            await port.client.execute_workflow(
                Cook.run, args=[endpoint, service, operation, argument], id=unique(), task_queue=worker.task_queue
            )
        cause = caught.value.cause
        assert isinstance(cause, NexusOperationError)
        assert (cause.endpoint, cause.scheduled_event_id) == (endpoint, 5)
    return caught.value


SPILT = ("NexusOperationError", BAD, "Kitchen", "spill", "")
WRAPPED = ("HandlerError", "Handler failed with non-retryable application error", "INTERNAL", False)
MILK = ("ApplicationError", "spilt", "Milk", True)
TRIPPED = ("ApplicationError", "tripped", "Mishap", False)


@pytest.mark.parametrize(
    ("how", "chain"),
    [
        ("application_error", [WRAPPED, MILK]),
        ("application_error_from_another", [WRAPPED, MILK, TRIPPED]),
        ("handler_error", [("HandlerError", "gone", "NOT_FOUND", False), TRIPPED]),
        (
            "handler_error_from_another",
            [("HandlerError", "gone", "NOT_FOUND", False), ("HandlerError", "busy", "UNAVAILABLE", True)],
        ),
        (
            "operation_error",
            [("ApplicationError", "nothing came of it", "OperationError", True), MILK, TRIPPED],
        ),
        ("operation_cancelled", [("CancelledError", "called off")]),
    ],
)
async def test_a_caller_is_given_the_whole_chain(port: Port, how: str, chain: list[tuple[Any, ...]]) -> None:
    error = await cooked(port, "spill", how)
    assert outline(error.__cause__) == [SPILT, *chain]


@pytest.mark.parametrize("how", ["exception", "application", "exhausted", "internal"])
async def test_what_may_be_tried_again_is_tried_again(port: Port, how: str) -> None:
    async with new_worker(port.client, Cook, nexus_service_handlers=[Kitchen()]) as worker:
        endpoint, id = unique("endpoint"), unique(f"{how}:")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        handle = await port.client.start_workflow(
            Cook.run, args=[endpoint, "Kitchen", "again", id], id=unique(), task_queue=worker.task_queue
        )

        async def tried() -> None:
            assert TRIES.get(id, 0) >= 2

        await eventually(tried)
        (pending,) = (await handle.describe()).raw_description.pending_nexus_operations
        assert (pending.endpoint, pending.service, pending.operation) == (endpoint, "Kitchen", "again")
        await handle.terminate()


@pytest.mark.parametrize(
    ("service", "operation", "kind", "message"),
    [
        ("Kitchen", "cook", "NOT_FOUND", "has no operation 'cook'"),
        ("Cellar", "spill", "NOT_FOUND", "No handler for service 'Cellar'"),
        ("Kitchen", "twice", "INTERNAL", "already started"),
    ],
)
async def test_what_cannot_get_better_is_not_tried_again(
    port: Port, service: str, operation: str, kind: str, message: str
) -> None:
    error = await asyncio.wait_for(cooked(port, operation, unique("w"), service), 10)
    _, handler, *rest = outline(error.__cause__)
    assert handler[0] == "HandlerError" and handler[2:] == (kind, False)
    assert message in handler[1] or message in rest[0][1]
