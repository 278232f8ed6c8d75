"""A replayer with more than workflows: interceptors, converters, plugins; and histories that are damaged."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from support import unique
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Plugin,
    Replayer,
    ReplayerConfig,
    Worker,
    WorkerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowReplayResult,
)
from temporalio.workflow import NondeterminismError

from replayer.recordings import BeforePatch, Visit, edited, record


@pytest.fixture(scope="module")
async def visit(client: Client) -> WorkflowHistory:
    return await record(client, Visit, "you")


class Reversed(PayloadCodec):
    """Turns every payload round."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"reversed"}, data=p.SerializeToString()[::-1]) for p in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) for p in payloads]


async def test_a_history_of_another_codec_needs_its_converter(client: Client) -> None:
    converter = replace(DataConverter.default, payload_codec=Reversed())
    config = client.config()
    config["data_converter"] = converter
    history = await record(Client(**config), Visit, "you")
    assert (await Replayer(workflows=[Visit], data_converter=converter).replay_workflow(history)).replay_failure is None
    with pytest.raises(RuntimeError, match="Unknown payload encoding reversed"):
        await Replayer(workflows=[Visit]).replay_workflow(history)


class Watch(Interceptor):
    """Notes the arguments with which workflows are run."""

    seen: list[Sequence[Any]] = []

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        input.unsafe_extern_functions["note"] = self.seen.append
        return WatchInbound


class WatchInbound(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        workflow.extern_functions()["note"](list(input.args))
        return await self.next.execute_workflow(input)


async def test_interceptors_see_what_is_replayed(visit: WorkflowHistory) -> None:
    Watch.seen.clear()
    await Replayer(workflows=[Visit], interceptors=[Watch()]).replay_workflow(visit)
    assert Watch.seen == [["you"]]


class Renaming(Plugin):
    """Brings the workflow, and notes when the replay begins and ends."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        await next(worker)

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        config["workflows"] = [*config.get("workflows", []), Visit]
        return config

    @asynccontextmanager
    async def run_replayer(
        self,
        replayer: Replayer,
        histories: AsyncIterator[WorkflowHistory],
        next: Callable[
            [Replayer, AsyncIterator[WorkflowHistory]],
            AbstractAsyncContextManager[AsyncIterator[WorkflowReplayResult]],
        ],
    ) -> AsyncIterator[AsyncIterator[WorkflowReplayResult]]:
        self.notes.append("begins")
        async with next(replayer, histories) as results:
            yield results
        self.notes.append("ends")


async def test_a_plugin_brings_workflows_and_wraps_the_replay(visit: WorkflowHistory) -> None:
    plugin = Renaming()
    replayer = Replayer(workflows=[], plugins=[plugin])
    assert (await replayer.replay_workflow(visit)).replay_failure is None
    assert plugin.notes == ["begins", "ends"]
    assert replayer.config()["workflows"] == []
    assert replayer.config(active_config=True)["workflows"] == [Visit]


async def test_namespace_and_identity_of_a_replay_are_free(visit: WorkflowHistory) -> None:
    replayer = Replayer(workflows=[Visit], namespace=unique("nowhere"), identity="replayer", build_id="b")
    assert (await replayer.replay_workflow(visit)).replay_failure is None


@workflow.defn(name="Patched", sandboxed=False)
class Where:
    """Like `BeforePatch`, noting where it believes itself."""

    seen: list[tuple[str, str, str]] = []

    @workflow.run
    async def run(self) -> str:
        info = workflow.info()
        Where.seen.append((info.namespace, info.workflow_id, info.run_id))
        return await BeforePatch.run(self)  # type: ignore[arg-type]


async def test_a_replayed_workflow_has_its_ids_and_the_replayers_namespace(client: Client) -> None:
    history = await record(client, BeforePatch)
    Where.seen.clear()
    await Replayer(workflows=[Where], namespace="elsewhere").replay_workflow(history)
    assert Where.seen == [("elsewhere", history.workflow_id, history.run_id)]


@pytest.mark.parametrize("kept", [3, 6])
async def test_a_history_cut_short_replays_as_far_as_it_goes(visit: WorkflowHistory, kept: int) -> None:
    assert (await Replayer(workflows=[Visit]).replay_workflow(cut(visit, kept))).replay_failure is None


@pytest.mark.parametrize("kept", [4, 10])
async def test_a_history_cut_between_a_task_and_its_commands_reads_as_if_it_had_none(
    visit: WorkflowHistory, kept: int, engine: str
) -> None:
    """A server writes both at once, so no history ends there; one that does is that of a task without commands."""
    result = await Replayer(workflows=[Visit]).replay_workflow(cut(visit, kept), raise_on_replay_failure=False)
    failure = result.replay_failure
    if engine == "original":
        assert failure is None
    else:
        assert f"event {kept} of the history records WORKFLOW_TASK_COMPLETED without commands" in str(failure)


def cut(history: WorkflowHistory, kept: int) -> WorkflowHistory:
    def shorten(events: list[Any]) -> None:
        del events[kept:]

    return edited(history, shorten)


DAMAGE: dict[str, tuple[Callable[[list[Any]], object], int]] = {
    "swapped": (lambda events: events.insert(5, events.pop(6)), 7),
    "twice": (lambda events: events.insert(5, events[5]), 6),
    "missing": (lambda events: events.pop(6), 8),
    "untyped": (lambda events: events[4].update(eventType="EVENT_TYPE_UNSPECIFIED"), 5),
}
"""What is done to a history, and the number of the event at which it shows."""


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damage_is_told_with_its_event_and_the_next_history_replays(visit: WorkflowHistory, kind: str) -> None:
    damage, event = DAMAGE[kind]
    replayer = Replayer(workflows=[Visit])
    result = await replayer.replay_workflow(edited(visit, damage), raise_on_replay_failure=False)
    assert isinstance(result.replay_failure, RuntimeError)
    assert not isinstance(result.replay_failure, NondeterminismError)
    assert re.search(rf"\b{event}\b", str(result.replay_failure))
    assert (await replayer.replay_workflow(visit)).replay_failure is None


@pytest.mark.parametrize("kept", [slice(0), slice(1, None)], ids=["no events", "no start"])
async def test_a_history_without_a_beginning_is_refused(visit: WorkflowHistory, kept: slice, engine: str) -> None:
    if engine == "original":
        pytest.skip("the original's thread panics and the replay waits for ever")
    broken = WorkflowHistory(visit.workflow_id, list(visit.events)[kept])
    with pytest.raises(Exception):
        await Replayer(workflows=[Visit]).replay_workflow(broken)
    assert (await Replayer(workflows=[Visit]).replay_workflow(visit)).replay_failure is None


async def test_a_history_that_begins_in_the_middle_says_so(visit: WorkflowHistory, engine: str) -> None:
    later = [type(event).FromString(event.SerializeToString()) for event in visit.events]
    for event in later:
        event.event_id += 4
    said = "event 5: .* begins with event 1" if engine == "outlast" else None
    with pytest.raises(Exception, match=said):
        await Replayer(workflows=[Visit]).replay_workflow(WorkflowHistory(visit.workflow_id, later))
