"""Native workers at work: activations by hand, evictions, failed tasks, and the slots of a custom supplier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import temporalio.client
from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

from support import eventually, unique
from surface import shapes
from surface.shapes import native

POLLS = ["poll_workflow_activation", "poll_activity_task", "poll_nexus_task"]
COMPLETIONS = ["complete_workflow_activation", "complete_activity_task", "complete_nexus_task"]


@workflow.defn(name="surface-idle", sandboxed=False)
class Idle:
    @workflow.run
    async def run(self) -> None: ...


def completed(run_id: str) -> bytes:
    message = WorkflowActivationCompletion(run_id=run_id)
    message.successful.commands.add().complete_workflow_execution.SetInParent()
    return message.SerializeToString()


def evicted(run_id: str) -> bytes:
    message = WorkflowActivationCompletion(run_id=run_id)
    message.successful.SetInParent()
    return message.SerializeToString()


async def test_a_workflow_by_hand_from_its_start_to_its_eviction(
    quiet: Any, connected: Any, client: temporalio.client.Client
) -> None:
    queue = unique()
    worker = native.new_worker(quiet, connected, shapes.worker(queue))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert begun.run_id == handle.first_execution_run_id
    assert [job.WhichOneof("variant") for job in begun.jobs] == ["initialize_workflow"]
    assert await worker.complete_workflow_activation(completed(begun.run_id)) == ()
    assert await handle.result() is None
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert [job.WhichOneof("variant") for job in gone.jobs] == ["remove_from_cache"]
    assert await worker.complete_workflow_activation(evicted(gone.run_id)) == ()
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError):
            await getattr(worker, poll)()
    assert await worker.finalize_shutdown() == ()


async def test_a_requested_eviction_comes_alone_and_the_run_begins_anew(
    quiet: Any, connected: Any, client: temporalio.client.Client
) -> None:
    queue = unique()
    worker = native.new_worker(quiet, connected, shapes.worker(queue))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(evicted(begun.run_id))
    worker.request_workflow_eviction(begun.run_id)
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert [job.WhichOneof("variant") for job in gone.jobs] == ["remove_from_cache"]
    assert gone.jobs[0].remove_from_cache.reason == gone.jobs[0].remove_from_cache.LANG_REQUESTED
    await worker.complete_workflow_activation(evicted(begun.run_id))
    await handle.signal("wake")
    again = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert (again.run_id, again.is_replaying) == (begun.run_id, True)
    assert [job.WhichOneof("variant") for job in again.jobs] == ["initialize_workflow"]
    await worker.complete_workflow_activation(evicted(begun.run_id))
    woken = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    assert (woken.run_id, woken.is_replaying) == (begun.run_id, False)
    assert [job.WhichOneof("variant") for job in woken.jobs] == ["signal_workflow"]
    await worker.complete_workflow_activation(completed(begun.run_id))
    assert await handle.result() is None


async def test_a_failed_workflow_task_is_told_to_the_forwarder_with_its_run(
    address: str, connected: Any, client: temporalio.client.Client
) -> None:
    entries: list[Any] = []
    runtime = shapes.runtime(shapes.logging(filter="warn", forward_to=entries.extend))
    own = await native.connect_client(runtime, shapes.client(f"http://{address}"))
    queue = unique()
    worker = native.new_worker(runtime, own, shapes.worker(queue))
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    failed = WorkflowActivationCompletion(run_id=begun.run_id)
    failed.failed.failure.message = "on purpose"
    await worker.complete_workflow_activation(failed.SerializeToString())

    async def told() -> Any:
        found = [entry for entry in entries if "Failing workflow task" in entry.message]
        assert found
        return found[0]

    entry = await eventually(told)
    assert (entry.target, entry.level) == ("temporalio_sdk_core::worker::workflow", 30)
    assert entry.fields["run_id"] == begun.run_id
    await handle.terminate()


class Permits:
    """A slot supplier that gives numbered permits and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.given: list[object] = []

    async def reserve_slot(self, context: Any, accept: Callable[[Any], None]) -> object:
        accept(asyncio.current_task())
        self.heard.append(("reserve", context))
        self.given.append(object())
        return self.given[-1]

    def try_reserve_slot(self, context: Any) -> object | None:
        return None

    def mark_slot_used(self, context: Any) -> None:
        self.heard.append(("used", context))

    def release_slot(self, context: Any) -> None:
        self.heard.append(("release", context))


async def test_a_custom_supplier_hears_of_its_slots(
    quiet: Any, connected: Any, client: temporalio.client.Client
) -> None:
    permits, queue = Permits(), unique()
    tuner = shapes.tuner(workflow_slot_supplier=native.CustomSlotSupplier(permits))
    worker = native.new_worker(
        quiet, connected, shapes.worker(queue, tuner=tuner, identity_override="me", max_cached_workflows=0)
    )
    await worker.validate()
    handle = await client.start_workflow("surface-idle", id=unique(), task_queue=queue)
    begun = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(completed(begun.run_id))
    await handle.result()

    async def released() -> tuple[Any, Any]:
        used = [context for verb, context in permits.heard if verb == "used"]
        given_back = [context for verb, context in permits.heard if verb == "release" and context.slot_info is not None]
        assert used and given_back
        return used[0], given_back[0]

    # The eviction frees the slot when nothing is cached.
    gone = WorkflowActivation.FromString(await worker.poll_workflow_activation())
    await worker.complete_workflow_activation(evicted(gone.run_id))
    used, released_context = await eventually(released)
    first = permits.heard[0][1]
    assert type(first) is native.SlotReserveCtx
    assert (first.slot_type, first.task_queue, first.worker_identity, first.is_sticky) == (
        "workflow",
        queue,
        "me",
        False,
    )
    assert (first.worker_build_id, first.worker_deployment_version) == (
        "build",
        {"deployment_name": "", "build_id": "build"},
    )
    assert type(used) is native.SlotMarkUsedCtx
    assert type(used.slot_info) is native.WorkflowSlotInfo
    assert (used.slot_info.workflow_type, used.slot_info.is_sticky) == ("surface-idle", False)
    assert any(used.permit is given for given in permits.given)
    assert type(released_context) is native.SlotReleaseCtx
    assert released_context.permit is used.permit
