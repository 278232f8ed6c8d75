"""When slots for local activities are asked for: one ahead of need, by workers that may run any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from support import eventually, new_worker, unique
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import SlotMarkUsedContext, SlotPermit, SlotReleaseContext, SlotReserveContext

from worker.programs import Echo, FanOut, Greet, double, greet
from worker.suppliers import Ledger, tuner
from worker.test_worker_slots_shared import Unhurried, visited


@dataclass
class Diary(Ledger):
    """What happened, in order."""

    days: list[str] = field(default_factory=list)

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        self.days.append("asked")
        return await super().reserve_slot(ctx)

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        self.days.append("used")
        super().mark_slot_used(ctx)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        self.days.append("back" if ctx.slot_info else "back unused")
        super().release_slot(ctx)


async def test_one_supplier_of_all_kinds_is_asked_for_all_kinds_without_any_local_activity(
    env: WorkflowEnvironment,
) -> None:
    slots = Unhurried()
    await visited(env, slots)
    assert {asked.slot_type for asked in slots.asked} == {"workflow", "activity", "local-activity", "nexus"}


@pytest.mark.parametrize("options", [{}, {"no_remote_activities": True}], ids=["all", "local only"])
async def test_a_slot_is_taken_before_it_is_needed_and_given_back_unused(
    client: Client, options: dict[str, Any]
) -> None:
    slots = Diary()
    async with new_worker(client, Echo, activities=[greet], tuner=tuner(local_activity=slots), **options):

        async def asked() -> None:
            assert slots.days == ["asked"]

        await eventually(asked)
    assert slots.days == ["asked", "back unused"]
    [ended] = slots.released
    assert ended.permit is slots.given[0]
    assert (slots.asked[0].slot_type, slots.asked[0].is_sticky) == ("local-activity", False)


async def test_the_next_slot_is_asked_for_when_one_is_taken(client: Client) -> None:
    slots = Diary()
    async with new_worker(client, FanOut, activities=[double], tuner=tuner(local_activity=slots)) as worker:
        ran = client.execute_workflow(FanOut.run, args=["double", 1, True], id=unique(), task_queue=worker.task_queue)
        assert await ran == [0]
    assert sorted(slots.days) == ["asked", "asked", "back", "back unused", "used"]


@pytest.mark.parametrize("flows, hands", [([Echo], []), ([], [greet])], ids=["no activities", "no workflows"])
async def test_a_worker_that_can_run_none_asks_for_no_slot(client: Client, flows: list[type], hands: list[Any]) -> None:
    slots = Diary()
    async with new_worker(client, *flows, activities=hands, tuner=tuner(local_activity=slots)) as worker:
        if flows:
            await client.execute_workflow(Echo.run, 1, id=unique(), task_queue=worker.task_queue)
        else:
            async with new_worker(client, Greet, task_queue=worker.task_queue, no_remote_activities=True):
                await client.execute_workflow(Greet.run, "a", id=unique(), task_queue=worker.task_queue)
    assert slots.days == []
