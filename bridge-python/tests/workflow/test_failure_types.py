"""Which errors fail a task and which the workflow: by run, signal and update, declared in every place there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, new_worker
    from support import unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import (
        Client,
        WorkflowFailureError,
        WorkflowUpdateFailedError,
        WorkflowUpdateStage,
    )
    from temporalio.common import RawValue
    from temporalio.exceptions import ApplicationError


class Own(Exception):
    pass


class Base:
    """Runs, is signalled or is updated into trouble."""

    async def meet(self, trouble: str) -> None:
        if trouble == "raise":
            raise Own("on purpose")
        if trouble == "stray" and not workflow.unsafe.is_replaying():
            await asyncio.sleep(0.01)
        if trouble == "wait":
            await workflow.wait_condition(lambda: False)

    @workflow.signal
    async def signal(self, trouble: str) -> None:
        await self.meet(trouble)

    @workflow.update
    async def update(self, trouble: str) -> None:
        await asyncio.sleep(0.01)
        await self.meet(trouble)


@workflow.defn
class Undeclared(Base):
    @workflow.run
    async def run(self, trouble: str) -> None:
        await self.meet(trouble)


@workflow.defn(failure_exception_types=[Own, workflow.NondeterminismError])
class Declared(Base):
    @workflow.run
    async def run(self, trouble: str) -> None:
        await self.meet(trouble)


@workflow.defn(failure_exception_types=[Exception])
class DeclaredByBase(Base):
    @workflow.run
    async def run(self, trouble: str) -> None:
        await self.meet(trouble)


@workflow.defn(dynamic=True)
class DeclaredLate(Base):
    @workflow.dynamic_config
    def config(self) -> workflow.DynamicWorkflowConfig:
        return workflow.DynamicWorkflowConfig(failure_exception_types=[Exception])

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        await self.meet(workflow.payload_converter().from_payload(args[0].payload, str))


async def begin(client: Client, queue: str, name: str, way: str, trouble: str) -> tuple[Any, Any]:
    """The workflow, and the update if that is the way."""
    first = trouble if way == "run" else "wait"
    handle = await client.start_workflow(name, first, id=unique(), task_queue=queue)
    if way == "signal":
        await handle.signal("signal", trouble)
    if way == "update":
        stage = WorkflowUpdateStage.ACCEPTED
        return handle, await handle.start_update("update", trouble, wait_for_stage=stage)
    return handle, None


TEXTS = {"raise": "on purpose", "stray": "Nondeterminism error"}


@pytest.mark.parametrize("way", ["run", "signal", "update"])
@pytest.mark.parametrize(
    ("kind", "trouble"), [(Undeclared, "raise"), (Undeclared, "stray"), (DeclaredLate, "stray")]
)
async def test_undeclared_errors_fail_the_task(client: Client, kind: type, way: str, trouble: str) -> None:
    """Types that the workflow declares when it runs are unknown to the core, which finds the nondeterminism."""
    async with new_worker(client, kind, max_cached_workflows=0) as worker:
        handle, _ = await begin(client, worker.task_queue, kind.__name__, way, trouble)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        await handle.terminate()
    assert TEXTS[trouble] in failed.failure.message
    causes = WorkflowTaskFailedCause
    assert failed.cause == (
        causes.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
        if trouble == "stray"
        else causes.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    )


PLACES: dict[str, tuple[type, list[type[BaseException]]]] = {
    "worker": (Undeclared, [Own, workflow.NondeterminismError]),
    "worker's base": (Undeclared, [Exception]),
    "workflow": (Declared, []),
    "workflow's base": (DeclaredByBase, []),
    "late": (DeclaredLate, []),
}


ALL = [
    (place, trouble) for place in PLACES for trouble in TEXTS if not (place == "late" and trouble == "stray")
]


@pytest.mark.parametrize("way", ["run", "signal", "update"])
@pytest.mark.parametrize(("place", "trouble"), ALL)
async def test_declared_errors_fail_the_workflow_or_the_update(
    client: Client, place: str, way: str, trouble: str
) -> None:
    kind, types = PLACES[place]
    async with new_worker(
        client, kind, max_cached_workflows=0, workflow_failure_exception_types=types
    ) as worker:
        name = "Whatever" if kind is DeclaredLate else kind.__name__
        handle, update = await begin(client, worker.task_queue, name, way, trouble)
        if way == "update" and trouble == "raise":
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await update.result()
            cause = refused.value.cause
            await handle.terminate()
        else:
            with pytest.raises(WorkflowFailureError) as ended:
                await handle.result()
            cause = ended.value.cause
    assert isinstance(cause, ApplicationError)
    assert TEXTS[trouble] in cause.message
    assert cause.type == ("Own" if trouble == "raise" else None)
    assert await found(handle, "workflow_task_failed") == []
