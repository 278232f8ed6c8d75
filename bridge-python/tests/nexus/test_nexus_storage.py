"""Arguments and results of operations that lie in external storage, and storage that fails once, or for good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import StartOperationContext, service_handler, sync_operation
from support import new_worker, unique
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import (
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from temporalio.exceptions import ApplicationError, NexusOperationError
from workflow.test_storage import Shelf, converter

LARGE = 4000


@service_handler(name="Sizes")
class Sizes:
    @sync_operation
    async def measure(self, ctx: StartOperationContext, text: str) -> int:
        return len(text)

    @sync_operation
    async def fill(self, ctx: StartOperationContext, size: int) -> str:
        return "x" * size


@workflow.defn(sandboxed=False)
class Asks:
    @workflow.run
    async def run(self, endpoint: str, operation: str) -> int:
        sizes = workflow.create_nexus_client(service="Sizes", endpoint=endpoint)
        if operation == "measure":
            return await sizes.execute_operation("measure", "y" * LARGE, output_type=int)
        return len(await sizes.execute_operation("fill", LARGE, output_type=str))


class Shaky(Shelf):
    """Fails the first time that it is asked to store, or to give."""

    def __init__(self, what: str) -> None:
        super().__init__("shaky")
        self.left = [what]

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        self.shake("store")
        return await super().store(context, payloads)

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        self.shake("retrieve")
        return await super().retrieve(context, claims)

    def shake(self, what: str) -> None:
        if what in self.left:
            self.left.remove(what)
            raise RuntimeError("for a moment")


class Full(Shelf):
    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        raise ApplicationError("full", non_retryable=True)


async def asked(port: Port, shelf: Shelf, operation: str) -> int:
    config = port.client.config()
    config["data_converter"] = converter(shelf)
    client = Client(**config)
    async with new_worker(client, Asks, nexus_service_handlers=[Sizes()]) as worker:
        endpoint = unique("endpoint")
        await port.env.create_nexus_endpoint(endpoint, worker.task_queue)
        return await client.execute_workflow(
            Asks.run,
            args=[endpoint, operation],
            id=unique(),
            task_queue=worker.task_queue,
            execution_timeout=timedelta(seconds=30),
        )


@pytest.mark.parametrize("operation", ["measure", "fill"])
async def test_what_is_large_is_stored_and_fetched(port: Port, operation: str) -> None:
    shelf = Shelf()
    assert await asked(port, shelf, operation) == LARGE
    assert (shelf.stored, shelf.fetched) == (1, 1)


@pytest.mark.parametrize(("operation", "what"), [("measure", "retrieve"), ("fill", "store")])
async def test_storage_that_fails_once_is_asked_again(port: Port, operation: str, what: str) -> None:
    shelf = Shaky(what)
    assert await asked(port, shelf, operation) == LARGE
    assert shelf.left == []


async def test_storage_that_fails_for_good_fails_the_operation(port: Port) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await asked(port, Full(), "fill")
    chain = []
    error: BaseException | None = caught.value
    while error:
        chain.append(type(error))
        error, last = error.__cause__, error
    assert chain == [WorkflowFailureError, NexusOperationError, nexusrpc.HandlerError, ApplicationError]
    assert "full" in str(last)
