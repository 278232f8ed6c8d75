"""One slot supplier for all kinds of tasks: what it is asked for, how often its slots are used, and all its callbacks at fault."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import nexusrpc.handler
import pytest
from support import SOON, eventually, new_worker, unique
from temporalio import workflow
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

from worker.programs import BRIEF, Echo, greet
from worker.suppliers import Ledger, tuner


def one_for_all(supplier: CustomSlotSupplier) -> WorkerTuner:
    return tuner(supplier, supplier, supplier, supplier)


@nexusrpc.handler.service_handler(name="Doors")
class Doors:
    @nexusrpc.handler.sync_operation
    async def knock(self, _ctx: nexusrpc.handler.StartOperationContext, who: str) -> str:
        return f"come in, {who}"


@workflow.defn
class Visit:
    """Waits to be let go, then an activity, then a Nexus operation."""

    def __init__(self) -> None:
        self.free = False

    @workflow.run
    async def run(self, endpoint: str) -> str:
        await workflow.wait_condition(lambda: self.free)
        await workflow.execute_activity(greet, "you", start_to_close_timeout=BRIEF)
        doors = workflow.create_nexus_client(service="Doors", endpoint=endpoint)
        return await doors.execute_operation("knock", "you", output_type=str)

    @workflow.signal
    def let_go(self) -> None:
        self.free = True


@dataclass
class Unhurried(Ledger):
    """Thinks a moment before it gives a slot."""

    async def wait_for_room(self) -> None:
        await asyncio.sleep(0.01)


async def visited(env: WorkflowEnvironment, slots: Ledger) -> None:
    client = env.client
    async with new_worker(
        client, Visit, activities=[greet], nexus_service_handlers=[Doors()], tuner=one_for_all(slots)
    ) as worker:
        endpoint = unique("endpoint")
        await env.create_nexus_endpoint(endpoint, worker.task_queue)
        handle = await client.start_workflow(Visit.run, endpoint, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Visit.let_go)
        assert await handle.result() == "come in, you"


async def test_one_supplier_of_all_kinds_sees_five_slots_used_and_permits_of_its_own_come_back(
    env: WorkflowEnvironment,
) -> None:
    slots = Unhurried()
    await visited(env, slots)
    used = Counter(type(context.slot_info).__name__ for context in slots.used)
    assert used == {"WorkflowSlotInfo": 3, "ActivitySlotInfo": 1, "NexusSlotInfo": 1}
    assert {asked.is_sticky for asked in slots.asked} == {True, False}
    assert {context.slot_info is None for context in slots.released} == {True, False}
    returned = [context.permit for context in slots.released]
    assert len(set(map(id, returned))) == len(returned)
    assert set(map(id, returned)) <= set(map(id, slots.given))


class AtFault(CustomSlotSupplier):
    """Gives slots for workflow tasks; whatever else it is called for raises."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self.kinds.add(ctx.slot_type)
        if ctx.slot_type == "workflow":
            return SlotPermit()
        raise ValueError("none left")

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        raise ValueError("not even asked nicely")

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        raise ValueError("do not tell me")

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        raise ValueError("keep it")


class Deaf(CustomSlotSupplier):
    """Never answers."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self.kinds.add(ctx.slot_type)
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None: ...

    def release_slot(self, ctx: SlotReleaseContext) -> None: ...


async def test_workflows_run_though_everything_else_of_the_supplier_raises(client: Client) -> None:
    async with new_worker(client, Echo, activities=[greet], tuner=one_for_all(AtFault())) as worker:
        for number in range(3):
            ran = client.execute_workflow(Echo.run, number, id=unique(), task_queue=worker.task_queue)
            assert await asyncio.wait_for(ran, 20) == number


@pytest.mark.parametrize("supplier", [AtFault, Deaf])
async def test_a_worker_with_a_bad_supplier_shuts_down_at_once(
    client: Client, supplier: type[AtFault] | type[Deaf]
) -> None:
    slots = supplier()

    async def asked() -> None:
        assert slots.kinds >= {"workflow", "activity", "nexus"}

    worker = new_worker(
        client,
        Echo,
        activities=[greet],
        nexus_service_handlers=[Doors()],
        tuner=one_for_all(slots),
        graceful_shutdown_timeout=timedelta(seconds=0),
    )
    async with worker:
        await eventually(asked)
        began = time.monotonic()
    assert time.monotonic() - began < SOON
