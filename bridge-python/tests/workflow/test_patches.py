"""Patches: code that changes under running workflows, marked in the history."""

from __future__ import annotations

import json
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.history.v1 import MarkerRecordedEventAttributes
    from temporalio.client import Client
    from temporalio.common import SearchAttributeKey
    from temporalio.worker import PatchActivationInput

VERSIONS = SearchAttributeKey.for_keyword_list("TemporalChangeVersion")
TIMEOUT = timedelta(seconds=20)


@activity.defn
async def old() -> str:
    return "old"


@activity.defn
async def new() -> str:
    return "new"


class Gate:
    """What all versions of the story share: they wait until they may go on."""

    def __init__(self) -> None:
        self.opened = 0

    @workflow.signal
    def open(self) -> None:
        self.opened += 1

    @workflow.query
    def ready(self) -> bool:
        return True

    async def passed(self, times: int = 1) -> None:
        await workflow.wait_condition(lambda: self.opened >= times)


@workflow.defn(name="Story")
class Unpatched(Gate):
    @workflow.run
    async def run(self) -> str:
        await self.passed()
        return await workflow.execute_activity(old, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Story")
class PatchedAfterGate(Gate):
    @workflow.run
    async def run(self) -> str:
        await self.passed()
        act = new if workflow.patched("better") else old
        return await workflow.execute_activity(act, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Story")
class PatchedBeforeGate(Gate):
    @workflow.run
    async def run(self) -> str:
        first = workflow.patched("better")
        await self.passed()
        assert workflow.patched("better") is first
        return await workflow.execute_activity(new if first else old, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Story")
class Deprecated(Gate):
    @workflow.run
    async def run(self) -> str:
        workflow.deprecate_patch("better")
        await self.passed()
        return await workflow.execute_activity(new, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Story")
class Removed(Gate):
    @workflow.run
    async def run(self) -> str:
        await self.passed()
        return await workflow.execute_activity(new, start_to_close_timeout=TIMEOUT)


def told(marker: MarkerRecordedEventAttributes) -> tuple[str, bool]:
    """A patch marker as `(id, deprecated)`."""
    assert marker.marker_name == "core_patch"
    data = json.loads(marker.details["patch-data"].payloads[0].data)
    return data["id"], data["deprecated"]


async def test_a_new_run_takes_the_patched_path_and_marks_it_in_history_and_visibility(client: Client) -> None:
    async with new_worker(client, PatchedBeforeGate, activities=[old, new]) as worker:
        handle = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        await handle.signal("open")
        assert await handle.result() == "new"
    assert [told(marker) for marker in await found(handle, "marker_recorded")] == [("better", False)]
    upserts = await found(handle, "upsert_workflow_search_attributes")
    assert json.loads(upserts[0].search_attributes.indexed_fields["TemporalChangeVersion"].data) == ["better"]
    assert (await handle.describe()).typed_search_attributes[VERSIONS] == ["better"]

    async def listed() -> None:
        query = f"WorkflowId = '{handle.id}' AND TemporalChangeVersion = 'better'"
        assert (await client.count_workflows(query)).count == 1

    await eventually(listed)
    await replay(handle, PatchedBeforeGate)


async def test_an_old_history_keeps_the_old_path_under_new_code_even_after_it_went_live(client: Client) -> None:
    async with new_worker(client, Unpatched, activities=[old, new]) as worker:
        handle = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        assert await handle.query("ready")
    async with new_worker(client, PatchedBeforeGate, activities=[old, new], task_queue=worker.task_queue):
        await handle.signal("open")
        assert await handle.result() == "old"
    assert "marker_recorded" not in await kinds(handle)
    await replay(handle, PatchedBeforeGate)
    await replay(handle, Unpatched)


async def test_a_patch_first_asked_for_beyond_the_old_history_takes_the_new_path(client: Client) -> None:
    async with new_worker(client, Unpatched, activities=[old, new]) as worker:
        handle = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        assert await handle.query("ready")
    async with new_worker(client, PatchedAfterGate, activities=[old, new], task_queue=worker.task_queue):
        await handle.signal("open")
        assert await handle.result() == "new"
    assert [told(marker) for marker in await found(handle, "marker_recorded")] == [("better", False)]
    await replay(handle, PatchedAfterGate)


async def test_a_patched_history_replays_under_code_that_deprecates_the_patch(client: Client) -> None:
    async with new_worker(client, PatchedBeforeGate, activities=[old, new]) as worker:
        handle = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        assert await handle.query("ready")
    async with new_worker(client, Deprecated, activities=[old, new], task_queue=worker.task_queue):
        await handle.signal("open")
        assert await handle.result() == "new"
    assert [told(marker) for marker in await found(handle, "marker_recorded")] == [("better", False)]
    await replay(handle, PatchedBeforeGate)
    await replay(handle, Deprecated)


async def test_a_deprecated_marker_may_be_without_a_call_but_a_live_one_may_not(client: Client) -> None:
    async with new_worker(client, Deprecated, activities=[new]) as worker:
        deprecated = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        await deprecated.signal("open")
        assert await deprecated.result() == "new"
    async with new_worker(client, PatchedBeforeGate, activities=[new]) as worker:
        patched = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        await patched.signal("open")
        assert await patched.result() == "new"
    assert [told(marker) for marker in await found(deprecated, "marker_recorded")] == [("better", True)]
    await replay(deprecated, Removed)
    await replay(deprecated, PatchedBeforeGate)
    with pytest.raises(workflow.NondeterminismError, match="TMPRL1100"):
        await replay(patched, Removed)


@workflow.defn
class Looping:
    @workflow.run
    async def run(self) -> list[list[bool]]:
        rounds = []
        for _ in range(3):
            rounds.append([workflow.patched("one"), workflow.patched("two")])
            await workflow.execute_activity(old, start_to_close_timeout=TIMEOUT)
        return rounds


async def test_a_patch_in_a_loop_is_marked_once(client: Client) -> None:
    async with new_worker(client, Looping, activities=[old], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Looping.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == [[True, True]] * 3
    assert [told(marker) for marker in await found(handle, "marker_recorded")] == [("one", False), ("two", False)]
    assert set((await handle.describe()).typed_search_attributes[VERSIONS]) == {"one", "two"}
    await replay(handle, Looping)


@workflow.defn
class PatchedInUpdate(Gate):
    @workflow.run
    async def run(self) -> None:
        await self.passed()

    @workflow.update
    async def step(self) -> str:
        return await workflow.execute_activity(new if workflow.patched("step") else old, start_to_close_timeout=TIMEOUT)


async def test_a_patch_inside_an_update_handler_is_marked_and_replays(client: Client) -> None:
    async with new_worker(client, PatchedInUpdate, activities=[old, new]) as worker:
        handle = await client.start_workflow(PatchedInUpdate.run, id=unique(), task_queue=worker.task_queue)
        assert [await handle.execute_update(PatchedInUpdate.step) for _ in range(2)] == ["new", "new"]
        await handle.signal("open")
        await handle.result()
    assert [told(marker) for marker in await found(handle, "marker_recorded")] == [("step", False)]
    await replay(handle, PatchedInUpdate)


async def test_a_worker_may_hold_a_patch_back_and_the_choice_stays(client: Client) -> None:
    asked: list[str] = []

    def hold_back(ask: PatchActivationInput) -> bool:
        asked.append(ask.patch_id)
        return False

    async with new_worker(
        client, PatchedBeforeGate, activities=[old, new], patch_activation_callback=hold_back
    ) as worker:
        handle = await client.start_workflow("Story", id=unique(), task_queue=worker.task_queue)
        await handle.signal("open")
        assert await handle.result() == "old"
    assert asked == ["better"]
    assert "marker_recorded" not in await kinds(handle)
    await replay(handle, PatchedBeforeGate)
