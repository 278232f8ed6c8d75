"""Answers of Nexus tasks that are too large for one message: what the caller hears in their place, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import nexusrpc
import pytest
from conftest import ENGINE
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, NexusOperationError

pytestmark = [
    pytest.mark.timeout(50),
    pytest.mark.skipif(ENGINE == "original", reason="the original loses the answer, and the operation times out"),
]

HUGE = 5 * 1024 * 1024
TOO_LARGE = "GRPC Message too large"


@service_handler
class Shop:
    @sync_operation
    async def say(self, ctx: StartOperationContext, how: str) -> str:
        much = "m" * HUGE
        match how:
            case "handler":
                raise nexusrpc.HandlerError(much, type=nexusrpc.HandlerErrorType.NOT_FOUND)
            case "application":
                raise ApplicationError(much, type="Mine", non_retryable=True)
            case "operation":
                raise nexusrpc.OperationError(much, state=nexusrpc.OperationErrorState.FAILED)
            case "cause":
                cause = ApplicationError(much, type="Inner")
                raise nexusrpc.OperationError("msg", state=nexusrpc.OperationErrorState.FAILED) from cause
        return much


@workflow.defn(sandboxed=False)
class Calls:
    @workflow.run
    async def run(self, endpoint: str, how: str) -> int:
        shop = workflow.create_nexus_client(service=Shop, endpoint=endpoint)
        minute = timedelta(seconds=60)
        return len(await shop.execute_operation(Shop.say, how, schedule_to_close_timeout=minute))


@pytest.fixture(scope="module")
async def place(port: Port) -> AsyncIterator[tuple[str, str]]:
    async with new_worker(port.client, Calls, nexus_service_handlers=[Shop()]) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        yield endpoint, worker.task_queue


def chain(error: BaseException | None) -> list[tuple[str, str, str]]:
    """Kind, type and message of an error and its causes."""
    found: list[tuple[str, str, str]] = []
    while error:
        kind: Any = getattr(error, "type", "") or ""
        found.append((type(error).__name__, getattr(kind, "name", str(kind)), str(error)))
        error = error.__cause__
    return found


@pytest.mark.parametrize(
    ("how", "kind", "type"),
    [
        ("result", "HandlerError", "INTERNAL"),
        ("handler", "HandlerError", "NOT_FOUND"),
        ("application", "ApplicationError", "Mine"),
        ("operation", "ApplicationError", "OperationError"),
        ("cause", "ApplicationError", "Inner"),
    ],
)
async def test_a_caller_hears_at_once_that_an_answer_was_too_large(
    port: Port, place: tuple[str, str], how: str, kind: str, type: str
) -> None:
    endpoint, queue = place
    with pytest.raises(WorkflowFailureError) as caught:
        await port.client.execute_workflow(Calls.run, args=[endpoint, how], id=unique(), task_queue=queue)
    operation, *causes = chain(caught.value.__cause__)
    assert operation[0] == NexusOperationError.__name__
    assert any(TOO_LARGE in said for _, _, said in causes), causes
    assert (kind, type) in [(kind, type) for kind, type, _ in causes]
