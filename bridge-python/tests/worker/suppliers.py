"""A slot supplier that writes down everything it is asked, and how to make a tuner of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    ResourceBasedSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)


AnySupplier = FixedSizeSlotSupplier | ResourceBasedSlotSupplier | CustomSlotSupplier


class Permit(SlotPermit):
    """A permit that remembers for what it was asked."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked


@dataclass(frozen=True)
class Asked:
    """The context of a reservation, copied while it lasts."""

    slot_type: str
    task_queue: str
    worker_identity: str
    worker_build_id: str
    worker_deployment_version: object
    is_sticky: bool
    eager: bool


def copied(context: SlotReserveContext, eager: bool) -> Asked:
    return Asked(
        context.slot_type,
        context.task_queue,
        context.worker_identity,
        context.worker_build_id,
        context.worker_deployment_version,
        context.is_sticky,
        eager,
    )


@dataclass
class Ledger(CustomSlotSupplier):
    """Gives a slot to all who ask; `eager` says whether to those who will not wait too."""

    eager: bool = False
    asked: list[Asked] = field(default_factory=list)
    given: list[Permit] = field(default_factory=list)
    used: list[SlotMarkUsedContext] = field(default_factory=list)
    released: list[SlotReleaseContext] = field(default_factory=list)

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        asked = copied(ctx, eager=False)
        self.asked.append(asked)
        await self.wait_for_room()
        return self.permit(asked)

    async def wait_for_room(self) -> None:
        """For those who give less freely."""

    def permit(self, asked: Asked) -> Permit:
        permit = Permit(asked)
        self.given.append(permit)
        return permit

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        asked = copied(ctx, eager=True)
        self.asked.append(asked)
        return self.permit(asked) if self.eager else None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        self.used.append(ctx)

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        self.released.append(ctx)


def tuner(
    workflow: AnySupplier = FixedSizeSlotSupplier(10),
    activity: AnySupplier = FixedSizeSlotSupplier(10),
    local_activity: AnySupplier = FixedSizeSlotSupplier(10),
    nexus: AnySupplier = FixedSizeSlotSupplier(10),
) -> WorkerTuner:
    return WorkerTuner.create_composite(
        workflow_supplier=workflow,
        activity_supplier=activity,
        local_activity_supplier=local_activity,
        nexus_supplier=nexus,
    )
