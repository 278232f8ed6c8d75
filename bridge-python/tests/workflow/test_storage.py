"""Payloads that lie outside: what tasks say of them, how they fail without them, and what a replay makes of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    import temporalio.bridge.worker
    from histories import awaited, new_worker
    from support import unique
    from temporalio.api.common.v1 import Payload
    from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
    from temporalio.common import RetryPolicy
    from temporalio.converter import (
        DataConverter,
        ExternalStorage,
        StorageDriver,
        StorageDriverClaim,
        StorageDriverRetrieveContext,
        StorageDriverStoreContext,
    )
    from temporalio.exceptions import ActivityError, ApplicationError
    from temporalio.worker import Replayer

BRIEF = timedelta(seconds=10)
LARGE = 3000
MISSING = "[TMPRL1105] Detected externally stored payload(s) but external storage is not configured."


class Shelf(StorageDriver):
    """Keeps payloads in memory, and counts how often it is asked."""

    def __init__(self, name: str = "shelf") -> None:
        self.kept: dict[str, bytes] = {}
        self.called = name
        self.stored = self.fetched = 0

    def name(self) -> str:
        return self.called

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        self.stored += 1
        claims = []
        for payload in payloads:
            key = unique("shelf")
            self.kept[key] = payload.SerializeToString()
            claims.append(StorageDriverClaim(claim_data={"key": key}))
        return claims

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        self.fetched += 1
        missing = [claim for claim in claims if claim.claim_data["key"] not in self.kept]
        if missing:
            raise ApplicationError("not on the shelf", type="Missing", non_retryable=True)
        return [Payload.FromString(self.kept[claim.claim_data["key"]]) for claim in claims]


class Careless(Shelf):
    """Says that it stored, or that it found, nothing."""

    def __init__(self, *, stores: bool = True, finds: bool = True) -> None:
        super().__init__("careless")
        self.stores, self.finds = stores, finds

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        return await super().store(context, payloads) if self.stores else []

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return await super().retrieve(context, claims) if self.finds else []


def converter(driver: StorageDriver) -> DataConverter:
    return dataclasses.replace(
        DataConverter.default, external_storage=ExternalStorage(drivers=[driver], payload_size_threshold=512)
    )


async def with_storage(address: str, driver: StorageDriver) -> Client:
    return await Client.connect(address, data_converter=converter(driver))


@activity.defn
async def letters(count: int, _: str) -> str:
    return "a" * count


@workflow.defn
class Hauling:
    """Sizes: of its input, of the input and the result of its activity, of its own result."""

    @workflow.run
    async def run(self, _: str, there: int, back: int, end: int) -> str:
        await workflow.execute_activity(
            letters,
            args=[back, "x" * there],
            schedule_to_close_timeout=BRIEF,
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
        return "y" * end


async def hauled(client: Client, given: int, there: int, back: int, end: int) -> WorkflowHistory:
    async with new_worker(client, Hauling, activities=[letters]) as worker:
        handle = await client.start_workflow(
            Hauling.run, args=["z" * given, there, back, end], id=unique(), task_queue=worker.task_queue
        )
        assert await handle.result() == "y" * end
        return await handle.fetch_history()


async def test_what_is_large_goes_to_the_shelf_and_comes_back(address: str) -> None:
    shelf = Shelf()
    history = await hauled(await with_storage(address, shelf), LARGE, LARGE, LARGE, LARGE)
    assert (shelf.stored, shelf.fetched) == (4, 4)
    await Replayer(workflows=[Hauling], data_converter=converter(shelf)).replay_workflow(history)


@pytest.mark.parametrize("sizes", [(LARGE, 1, 1, 1), (1, 1, LARGE, 1)], ids=["input", "result of the activity"])
async def test_a_replay_without_storage_fails_with_the_text_of_the_program(
    address: str, sizes: tuple[int, int, int, int]
) -> None:
    history = await hauled(await with_storage(address, Shelf()), *sizes)
    result = await Replayer(workflows=[Hauling]).replay_workflow(history, raise_on_replay_failure=False)
    assert type(result.replay_failure) is RuntimeError
    (text,) = result.replay_failure.args
    assert MISSING in text


async def test_a_replay_with_an_empty_shelf_asks_to_fail_where_the_history_goes_on(address: str) -> None:
    history = await hauled(await with_storage(address, Shelf()), LARGE, 1, 1, 1)
    replayer = Replayer(workflows=[Hauling], data_converter=converter(Shelf()))
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    assert isinstance(result.replay_failure, workflow.NondeterminismError)


async def test_a_worker_without_storage_fails_the_task(address: str, client: Client) -> None:
    far = await with_storage(address, Shelf())
    async with new_worker(client, Hauling, activities=[letters]) as worker:
        handle = await far.start_workflow(
            Hauling.run, args=["z" * LARGE, 1, 1, 1], id=unique(), task_queue=worker.task_queue
        )
        (failed,) = await awaited(handle, "workflow_task_failed")
        assert failed.failure.message == MISSING
        await handle.terminate()


async def test_what_is_gone_for_good_fails_the_workflow(address: str) -> None:
    client = await with_storage(address, Shelf())
    stranger = await with_storage(address, Shelf())
    async with new_worker(stranger, Hauling, activities=[letters]) as worker:
        handle = await client.start_workflow(
            Hauling.run, args=["z" * LARGE, 1, 1, 1], id=unique(), task_queue=worker.task_queue
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.non_retryable) == ("not on the shelf", "Missing", True)


@pytest.mark.parametrize(
    ("driver", "sizes", "message"),
    [
        (Careless(finds=False), (1, LARGE, 1, 1), "Failed decoding arguments"),
        (Careless(stores=False), (1, 1, LARGE, 1), "Driver 'careless' returned 0 claims, expected 1"),
    ],
    ids=["input", "result"],
)
async def test_an_activity_fails_with_its_driver(
    address: str, driver: Careless, sizes: tuple[int, int, int, int], message: str
) -> None:
    client = await with_storage(address, driver)
    async with new_worker(client, Hauling, activities=[letters]) as worker:
        handle = await client.start_workflow(
            Hauling.run, args=["z" * sizes[0], *sizes[1:]], id=unique(), task_queue=worker.task_queue
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    cause = caught.value.cause
    assert isinstance(cause, ActivityError) and isinstance(cause.cause, ApplicationError)
    assert cause.cause.message == message


async def test_the_engine_is_told_the_kinds_of_drivers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[temporalio.bridge.worker.WorkerConfig] = []
    create = temporalio.bridge.worker.Worker.create

    def noting(client: object, config: temporalio.bridge.worker.WorkerConfig) -> object:
        given.append(config)
        return create(client, config)  # type: ignore[arg-type]

    monkeypatch.setattr(temporalio.bridge.worker.Worker, "create", noting)
    storage = ExternalStorage(
        drivers=[Shelf("one"), Shelf("two"), Careless()], driver_selector=lambda _, __: None
    )
    client = await Client.connect(
        address, data_converter=dataclasses.replace(DataConverter.default, external_storage=storage)
    )
    async with new_worker(client, Hauling, activities=[letters]):
        pass
    assert [config.storage_drivers for config in given] == [{Shelf().type(), Careless().type()}]
