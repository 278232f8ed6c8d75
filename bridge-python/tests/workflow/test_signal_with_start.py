"""A signal with start, asked for by a workflow: an operation of the server's own Nexus endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.api.common.v1 import Payload
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
    from temporalio.converter import DataConverter, PayloadCodec
    from temporalio.exceptions import NexusOperationError
    from temporalio.testing import WorkflowEnvironment

FLAGS = ["--dynamic-config-value", "history.enableSignalWithStartFromWorkflow=true"]


@pytest.fixture(scope="module")
async def server(temporal_cli: str) -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli, dev_server_extra_args=FLAGS
    ) as started:
        yield started


@workflow.defn
class Target:
    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self, word: str, count: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.heard) == count)
        return [word, *self.heard]

    @workflow.signal
    def say(self, word: str) -> None:
        self.heard.append(word)


@workflow.defn
class Caller:
    """Signals the target so often, starting it if need be; the runs that it met."""

    @workflow.run
    async def run(self, id: str, words: list[str], conflict: int, reuse: int) -> list[str | None]:
        runs = []
        for i, word in enumerate(words):
            target = await workflow.signal_with_start_workflow(
                Target.run,
                args=[f"start {i}", len(words)],
                id=id,
                task_queue=workflow.info().task_queue,
                signal=Target.say,
                signal_args=word,
                id_conflict_policy=WorkflowIDConflictPolicy(conflict),
                id_reuse_policy=WorkflowIDReusePolicy(reuse),
            )
            assert target.id == id
            runs.append(target.run_id)
        return runs


USE, REUSE = WorkflowIDConflictPolicy.USE_EXISTING, WorkflowIDReusePolicy.ALLOW_DUPLICATE


@pytest.mark.parametrize("cache", [0, 100])
async def test_the_first_starts_and_the_second_signals(server: WorkflowEnvironment, cache: int) -> None:
    client, id = server.client, unique("target")
    async with new_worker(client, Caller, Target, max_cached_workflows=cache) as worker:
        handle = await client.start_workflow(
            Caller.run, args=[id, ["one", "two"], USE, REUSE], id=unique(), task_queue=worker.task_queue
        )
        first, second = await handle.result()
        target = client.get_workflow_handle(id)
        assert await target.result() == ["start 0", "one", "two"]
        assert first == second == (await target.describe()).run_id
    scheduled = await found(handle, "nexus_operation_scheduled")
    assert [(event.endpoint, event.service) for event in scheduled] == [
        ("__temporal_system", "temporal.api.workflowservice.v1.WorkflowService")
    ] * 2
    assert (await kinds(handle)).count("nexus_operation_completed") == 2
    await replay(handle, Caller)
    await replay(target, Target)


class Hiding(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"hidden"}, data=each.SerializeToString()[::-1]) for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The server's own answer comes as it is."""
        return [
            Payload.FromString(each.data[::-1]) if each.metadata["encoding"] == b"hidden" else each
            for each in payloads
        ]


async def test_a_codec_hides_what_is_within(server: WorkflowEnvironment) -> None:
    config = server.client.config()
    config["data_converter"] = DataConverter(payload_codec=Hiding())
    client = Client(**config)
    id = unique("target")
    async with new_worker(client, Caller, Target) as worker:
        handle = await client.start_workflow(
            Caller.run, args=[id, ["secret"], USE, REUSE], id=unique(), task_queue=worker.task_queue
        )
        await handle.result()
        target = client.get_workflow_handle(id)
        assert await target.result() == ["start 0", "secret"]
    [started] = await found(target, "workflow_execution_started")
    assert [each.metadata["encoding"] for each in started.input.payloads] == [b"hidden"] * 2
    await replay(handle, Caller)
    await replay(target, Target)


async def test_a_closed_target_may_be_refused(server: WorkflowEnvironment) -> None:
    client, id = server.client, unique("target")
    rejects: Any = WorkflowIDReusePolicy.REJECT_DUPLICATE
    async with new_worker(client, Caller, Target) as worker:
        once = await client.start_workflow(
            Caller.run, args=[id, ["one"], USE, rejects], id=unique(), task_queue=worker.task_queue
        )
        [run] = await once.result()
        assert await client.get_workflow_handle(id).result() == ["start 0", "one"]
        again = await client.start_workflow(
            Caller.run, args=[id, ["one"], USE, rejects], id=unique(), task_queue=worker.task_queue
        )
        with pytest.raises(WorkflowFailureError) as refused:
            await again.result()
        assert (await client.get_workflow_handle(id).describe()).run_id == run
    failed = refused.value.cause
    assert isinstance(failed, NexusOperationError)
    assert (failed.endpoint, failed.operation) == ("__temporal_system", "SignalWithStartWorkflowExecution")
    assert str(failed.__cause__).startswith("WorkflowExecutionAlreadyStarted: Workflow execution already finished.")
    await replay(again, Caller)
