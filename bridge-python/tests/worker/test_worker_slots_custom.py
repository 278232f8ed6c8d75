"""Slot suppliers written in Python: what they are asked, with which words, and what becomes of their permits."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import nexusrpc
import nexusrpc.handler
import pytest
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    ActivitySlotInfo,
    LocalActivitySlotInfo,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerDeploymentConfig,
    WorkflowSlotInfo,
)

from worker.programs import Echo, FanOut, Greet, GreetLocally, double, events, greet, kinds
from worker.suppliers import Asked, Ledger, Permit, tuner


def permits(contexts: list[SlotMarkUsedContext] | list[SlotReleaseContext]) -> list[int]:
    return [id(context.permit) for context in contexts]


def request(used: SlotMarkUsedContext) -> Asked:
    """What was asked when the slot was given."""
    assert isinstance(used.permit, Permit)
    return used.permit.asked


async def test_an_activity_slot_is_reserved_used_and_released_with_one_permit(client: Client) -> None:
    slots = Ledger()
    name = unique("worker")
    async with new_worker(
        client,
        Greet,
        activities=[greet],
        tuner=tuner(activity=slots),
        identity=name,
        build_id="b1",
        disable_eager_activity_execution=True,
    ) as worker:
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    asked = slots.asked[0]
    assert (asked.slot_type, asked.task_queue, asked.is_sticky) == ("activity", worker.task_queue, False)
    assert (asked.worker_identity, asked.worker_build_id) == (name, "b1")
    assert asked.worker_deployment_version == {"deployment_name": "", "build_id": "b1"}
    [used] = slots.used
    assert isinstance(used.slot_info, ActivitySlotInfo) and used.slot_info.activity_type == "greet"
    assert any(used.permit is permit for permit in slots.given)
    [ended] = [release for release in slots.released if release.permit is used.permit]
    assert isinstance(ended.slot_info, ActivitySlotInfo) and ended.slot_info.activity_type == "greet"


async def test_workflow_slots_tell_sticky_reservations_from_others(client: Client) -> None:
    slots = Ledger()
    async with new_worker(client, Greet, activities=[greet], tuner=tuner(workflow=slots)) as worker:
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    assert {asked.slot_type for asked in slots.asked} == {"workflow"}
    assert {asked.is_sticky for asked in slots.asked if not asked.eager} == {True, False}
    assert {asked.task_queue for asked in slots.asked if not asked.is_sticky} == {worker.task_queue}
    infos = [used.slot_info for used in slots.used]
    assert all(isinstance(info, WorkflowSlotInfo) for info in infos)
    seen = [(info.workflow_type, info.is_sticky) for info in infos if isinstance(info, WorkflowSlotInfo)]
    assert seen == [("Greet", False), ("Greet", True)]
    assert [request(used).is_sticky for used in slots.used] == [False, True]


async def test_a_local_activity_takes_a_slot_of_its_own_kind(client: Client) -> None:
    slots = Ledger()
    async with new_worker(client, GreetLocally, activities=[greet], tuner=tuner(local_activity=slots)) as worker:
        await client.execute_workflow(GreetLocally.run, "you", id=unique(), task_queue=worker.task_queue)
    assert {asked.slot_type for asked in slots.asked} == {"local-activity"}
    [used] = slots.used
    assert isinstance(used.slot_info, LocalActivitySlotInfo) and used.slot_info.activity_type == "greet"
    assert id(used.permit) in permits(slots.released)


async def test_each_kind_of_task_that_may_come_is_asked_for_before_it_does(client: Client) -> None:
    slots = Ledger()
    asks = tuner(workflow=slots, activity=slots, local_activity=slots, nexus=slots)
    async with new_worker(client, Greet, activities=[greet], tuner=asks):

        async def asked() -> None:
            assert {asked.slot_type for asked in slots.asked} == {"workflow", "activity", "local-activity"}

        await eventually(asked)
    async with new_worker(client, activities=[greet], tuner=tuner(local_activity=(alone := Ledger()))):
        pass
    assert not alone.asked
    assert not slots.used and all(release.slot_info is None for release in slots.released)
    assert sorted(permits(slots.released)) == sorted(id(permit) for permit in slots.given)


@nexusrpc.handler.service_handler(name="Pigeons")
class Pigeons:
    @nexusrpc.handler.sync_operation
    async def send(self, _ctx: nexusrpc.handler.StartOperationContext, word: str) -> str:
        return f"sent {word}"


@workflow.defn
class SendPigeon:
    @workflow.run
    async def run(self, endpoint: str) -> str:
        pigeons = workflow.create_nexus_client(service="Pigeons", endpoint=endpoint)
        return await pigeons.execute_operation("send", "north", output_type=str)


async def test_a_nexus_task_takes_a_slot_of_its_own_kind(env: WorkflowEnvironment) -> None:
    client, slots = env.client, Ledger()
    async with new_worker(client, SendPigeon, nexus_service_handlers=[Pigeons()], tuner=tuner(nexus=slots)) as worker:
        endpoint = unique("endpoint")
        await env.create_nexus_endpoint(endpoint, worker.task_queue)
        sent = await client.execute_workflow(SendPigeon.run, endpoint, id=unique(), task_queue=worker.task_queue)
    assert sent == "sent north"
    assert {asked.slot_type for asked in slots.asked} == {"nexus"}
    [used] = slots.used
    info = used.slot_info
    assert (getattr(info, "service"), getattr(info, "operation")) == ("Pigeons", "send")
    assert id(used.permit) in permits(slots.released)


async def test_every_permit_given_while_work_went_on_is_released_once_in_the_end(client: Client) -> None:
    flows, hands = Ledger(), Ledger(eager=True)
    async with new_worker(client, FanOut, activities=[double], tuner=tuner(flows, hands)) as worker:
        queue = worker.task_queue
        await asyncio.gather(
            *(client.execute_workflow(FanOut.run, args=["double", 3], id=unique(), task_queue=queue) for _ in range(5))
        )
    for slots in (flows, hands):
        released = permits(slots.released)
        assert len(set(released)) == len(released)
        assert set(permits(slots.used)) <= set(released) <= {id(permit) for permit in slots.given}
    assert len(hands.used) == 15


async def test_an_eager_activity_runs_in_a_slot_that_was_taken_without_waiting(client: Client) -> None:
    slots = Ledger(eager=True)
    async with new_worker(client, Greet, activities=[greet], tuner=tuner(activity=slots)) as worker:
        handle = await client.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert any(asked.eager and asked.slot_type == "activity" for asked in slots.asked)
    [used] = slots.used
    assert request(used).eager


async def test_without_an_eager_slot_the_activity_goes_over_the_queue(client: Client) -> None:
    slots = Ledger(eager=False)
    async with new_worker(client, Greet, activities=[greet], tuner=tuner(activity=slots)) as worker:
        ran = await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    assert ran == "Hello, you!"
    assert any(asked.eager for asked in slots.asked)
    [used] = slots.used
    assert not request(used).eager


@dataclass
class Gated(Ledger):
    """Makes everyone wait at a gate, and notes who was sent away while waiting."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    sent_away: int = 0

    async def wait_for_room(self) -> None:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.sent_away += 1
            raise


async def test_nothing_is_polled_until_a_slot_is_there(client: Client) -> None:
    slots = Gated()
    async with new_worker(client, Greet, activities=[greet], tuner=tuner(activity=slots)) as worker:
        handle = await client.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)

        async def scheduled() -> None:
            assert slots.asked and kinds(await events(handle))[-1] == "ACTIVITY_TASK_SCHEDULED"

        await eventually(scheduled)
        assert slots.used == [] and slots.given == []
        slots.gate.set()
        assert await handle.result() == "Hello, you!"
    assert len(slots.used) == 1


async def test_a_pending_reservation_is_cancelled_when_the_worker_shuts_down(client: Client) -> None:
    slots = Gated()
    async with new_worker(client, Greet, activities=[greet], tuner=tuner(activity=slots)):

        async def waiting() -> None:
            assert slots.asked

        await eventually(waiting)

    async def all_away() -> None:
        assert slots.sent_away == len([asked for asked in slots.asked if not asked.eager]) > 0

    await eventually(all_away)
    assert slots.given == [] and slots.released == []


@dataclass
class OneAtATime(Ledger):
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def wait_for_room(self) -> None:
        await self.room.acquire()

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        super().release_slot(ctx)
        self.loop.call_soon_threadsafe(self.room.release)


async def test_a_supplier_decides_how_much_runs_at_once(client: Client) -> None:
    running = most = 0

    @activity.defn
    async def count(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    slots = OneAtATime()
    async with new_worker(client, FanOut, activities=[count], tuner=tuner(activity=slots)) as worker:
        await client.execute_workflow(FanOut.run, args=["count", 5], id=unique(), task_queue=worker.task_queue)
    assert most == 1 and len(slots.used) == 5


@dataclass
class Flaky(Ledger):
    """Fails the first reservations, then behaves; fails every callback that nobody waits for."""

    failures: int = 3

    async def wait_for_room(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no slot today")

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        super().mark_slot_used(ctx)
        raise RuntimeError("not marked")

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        super().release_slot(ctx)
        raise RuntimeError("not released")

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        super().try_reserve_slot(ctx)
        raise RuntimeError("not tried")


async def test_errors_of_a_supplier_are_logged_and_work_goes_on(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    slots = Flaky()
    with caplog.at_level(logging.WARNING, "temporalio.worker._tuning"):
        async with new_worker(client, Greet, activities=[greet], tuner=tuner(activity=slots)) as worker:
            ran = await client.execute_workflow(Greet.run, "a", id=unique(), task_queue=worker.task_queue)
    assert ran == "Hello, a!"
    assert slots.failures == 0 and len(slots.used) == 1
    logged = {record.getMessage() for record in caplog.records}
    callbacks = ("reserve_slot", "try_reserve_slot", "mark_slot_used", "release_slot")
    assert {f"Error in custom slot supplier `{name}`" for name in callbacks} <= logged


async def test_a_supplier_is_told_the_deployment_version(client: Client) -> None:
    slots = Ledger()
    version = WorkerDeploymentVersion(deployment_name=unique("shop"), build_id="9")
    config = WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED)
    async with new_worker(client, Echo, tuner=tuner(workflow=slots), deployment_config=config):

        async def asked() -> None:
            assert slots.asked

        await eventually(asked)
    assert slots.asked[0].worker_deployment_version == {
        "deployment_name": version.deployment_name,
        "build_id": "9",
    }
    assert slots.asked[0].worker_build_id == "9"


async def test_one_supplier_may_serve_two_kinds_of_tasks(client: Client) -> None:
    slots = Ledger()
    async with new_worker(
        client, Greet, activities=[greet], tuner=tuner(workflow=slots, activity=slots)
    ) as worker:
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    assert {asked.slot_type for asked in slots.asked} == {"workflow", "activity"}
    assert len(slots.used) == 3


async def test_permits_may_be_any_object(client: Client) -> None:
    class Numbers(Ledger):
        async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
            return 7_000_000 + len(self.used)  # type: ignore[return-value]

    slots = Numbers()
    async with new_worker(
        client, Greet, activities=[greet], tuner=tuner(activity=slots), disable_eager_activity_execution=True
    ) as worker:
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    seen: list[object] = [used.permit for used in slots.used]
    assert seen == [7_000_000]


