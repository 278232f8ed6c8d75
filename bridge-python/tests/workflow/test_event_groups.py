"""Event groups: commands carry the names of the groups that they belong to into history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from histories import awaited, kind, new_worker, replay
    from support import unique
    from temporalio.api.common.v1 import Payload
    from temporalio.client import Client, WorkflowHandle
    from temporalio.common import RawValue
    from temporalio.converter import DataConverter, PayloadCodec

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def tick() -> None:
    pass


async def groups(handle: WorkflowHandle[Any, Any], name: str) -> list[list[Any]]:
    """The groups of each event of a type: a label is a pair, a signal's or update's group its kind."""
    told = []
    async for event in handle.fetch_history_events():
        if kind(event) == name:
            markers: list[Any] = []
            for marker in event.event_group_markers:
                if marker.HasField("label"):
                    label = json.loads(marker.label.label.data) if marker.label.HasField("label") else None
                    markers.append((marker.label.id, label))
                else:
                    markers.append(str(marker.WhichOneof("variant")))
            told.append(markers)
    return told


@workflow.defn
class Grouping:
    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self) -> None:
        outer, inner = workflow.create_event_group("outer", label="Outer"), workflow.create_event_group("inner")
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        with outer.scope():
            await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
            with inner.scope():
                await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT, event_groups=[inner])
        workflow.upsert_memo({"a": 1}, event_groups=[outer])
        assert workflow.patched("p", event_groups=[inner])
        await workflow.execute_local_activity(tick, start_to_close_timeout=TIMEOUT)
        await workflow.wait_condition(lambda: self.done)

    @workflow.update
    async def finish(self) -> None:
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.done = True


async def test_labels_of_groups_are_in_the_events_of_their_commands(client: Client) -> None:
    async with new_worker(client, Grouping, activities=[tick]) as worker:
        handle = await client.start_workflow(Grouping.run, id=unique(), task_queue=worker.task_queue)
        await handle.execute_update(Grouping.finish)
        await handle.result()
    outer, inner = ("outer", "Outer"), ("inner", None)
    scheduled = await groups(handle, "activity_task_scheduled")
    assert [markers for markers in scheduled if markers != ["inbound_update"]] == [[], [outer], [outer, inner], [inner]]
    assert scheduled.count(["inbound_update"]) == 1
    assert await groups(handle, "workflow_properties_modified") == [[outer]]
    assert await groups(handle, "marker_recorded") == [[inner], []]
    await replay(handle, Grouping)


@workflow.defn
class Signalled:
    def __init__(self) -> None:
        self.ticks = 0

    @workflow.run
    async def run(self) -> None:
        with workflow.create_event_group("run").scope():
            await workflow.wait_condition(lambda: self.ticks == 2)

    @workflow.signal
    async def tick(self) -> None:
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.ticks += 1


async def test_commands_of_a_signal_handler_name_the_event_of_their_signal(client: Client) -> None:
    async with new_worker(client, Signalled, activities=[tick]) as worker:
        handle = await client.start_workflow(Signalled.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Signalled.tick)
        await handle.signal(Signalled.tick)
        await handle.result()
    history = (await handle.fetch_history()).events
    signals = [event.event_id for event in history if kind(event) == "workflow_execution_signaled"]
    named = [
        marker.inbound_event.inbound_event_id
        for event in history
        if kind(event) == "activity_task_scheduled"
        for marker in event.event_group_markers
    ]
    assert named == signals and len(named) == 2
    await replay(handle, Signalled)


@workflow.defn
class Late:
    """Has no handlers at first: signals wait for them."""

    def __init__(self) -> None:
        self.open = False
        self.ticks: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        workflow.set_signal_handler("open", self.opened)
        await workflow.wait_condition(lambda: self.open)
        workflow.set_signal_handler("known", self.known)
        await workflow.wait_condition(lambda: self.ticks == ["known"])
        workflow.set_dynamic_signal_handler(self.other)
        workflow.set_dynamic_update_handler(self.asked)
        await workflow.wait_condition(lambda: len(self.ticks) == 3)
        return self.ticks

    def opened(self) -> None:
        self.open = True

    async def known(self) -> None:
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.ticks.append("known")

    async def other(self, name: str, _: Sequence[RawValue]) -> None:
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.ticks.append(name)

    async def asked(self, name: str, _: Sequence[RawValue]) -> None:
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.ticks.append(name)


async def test_a_signal_that_waited_for_its_handler_is_still_named_by_its_own_event(client: Client) -> None:
    async with new_worker(client, Late, activities=[tick]) as worker:
        handle = await client.start_workflow(Late.run, id=unique(), task_queue=worker.task_queue)
        for name in ("other", "known", "open"):
            await handle.signal(name)
        await awaited(handle, "activity_task_scheduled", 2)
        await handle.execute_update("asked", id="the update")
        assert await handle.result() == ["known", "other", "asked"]
    history = (await handle.fetch_history()).events
    other, known, _ = [event.event_id for event in history if kind(event) == "workflow_execution_signaled"]
    named = [
        [marker.inbound_event.inbound_event_id or marker.inbound_update.inbound_update_id]
        for event in history
        if kind(event) == "activity_task_scheduled"
        for marker in event.event_group_markers
    ]
    assert named == [[known], [other], ["the update"]]
    await replay(handle, Late)


class Wrapping(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"wrapped"}, data=each.SerializeToString()) for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(each.data) for each in payloads]


async def test_a_codec_hides_labels_but_not_ids(address: str) -> None:
    codec = Wrapping()
    client = await Client.connect(address, data_converter=DataConverter(payload_codec=codec))
    async with new_worker(client, Grouping, activities=[tick]) as worker:
        handle = await client.start_workflow(Grouping.run, id=unique(), task_queue=worker.task_queue)
        await handle.execute_update(Grouping.finish)
        await handle.result()
    for event in (await handle.fetch_history()).events:
        for marker in event.event_group_markers:
            if marker.HasField("inbound_update"):
                continue
            assert marker.label.id in ("outer", "inner")
            assert marker.label.HasField("label") == (marker.label.id == "outer")
            if marker.label.id == "outer":
                assert marker.label.label.metadata["encoding"] == b"wrapped"
                [shown] = await codec.decode([marker.label.label])
                assert json.loads(shown.data) == "Outer"
    await replay(handle, Grouping)
