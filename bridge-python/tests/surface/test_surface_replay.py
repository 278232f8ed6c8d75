"""The native replay worker and its pusher of histories."""

from __future__ import annotations

from typing import Any

import pytest
import temporalio.client
from temporalio import workflow
from temporalio.api.history.v1 import History
from temporalio.bridge.proto.workflow_activation import RemoveFromCache, WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

from support import new_worker, unique
from surface import shapes
from surface.shapes import line, native, raised

CLOSED = "RuntimeError: Replay worker is no longer accepting new histories"


@workflow.defn(name="surface-replayed", sandboxed=False)
class Replayed:
    @workflow.run
    async def run(self) -> str:
        return "done"


async def recorded(client: temporalio.client.Client) -> tuple[str, bytes]:
    """The run id and the history of a workflow that is over."""
    async with new_worker(client, Replayed) as worker:
        handle = await client.start_workflow(Replayed.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    events = [event async for event in handle.fetch_history_events()]
    assert handle.first_execution_run_id
    return handle.first_execution_run_id, History(events=events).SerializeToString()


def answer(run_id: str, completes: bool = False) -> bytes:
    message = WorkflowActivationCompletion(run_id=run_id)
    message.successful.SetInParent()
    if completes:
        message.successful.commands.add().complete_workflow_execution.SetInParent()
    return message.SerializeToString()


@pytest.fixture
def replay(quiet: Any) -> tuple[Any, Any]:
    worker, pusher = native.new_replay_worker(quiet, shapes.replay_worker())
    return worker, pusher


async def test_a_pair_of_worker_and_pusher(replay: Any) -> None:
    assert tuple(map(type, replay)) == (native.WorkerRef, native.HistoryPusher)


async def test_an_invalid_config_is_refused(quiet: Any) -> None:
    config = shapes.replay_worker(task_types=shapes.task_types(""))
    text = "ValueError: Invalid worker config: At least one task type must be enabled in `task_types`"
    assert line(raised(native.new_replay_worker, quiet, config)) == text


async def test_what_is_pushed_is_checked_at_the_call(replay: Any) -> None:
    _, pusher = replay
    for value, name in (("x", "str"), (bytearray(), "bytearray")):
        assert (
            line(raised(pusher.push_history, "id", value))
            == f"TypeError: '{name}' object is not an instance of 'bytes'"
        )
    assert line(raised(pusher.push_history, 1, b"")) == "TypeError: 'int' object is not an instance of 'str'"
    assert line(raised(pusher.push_history, "id", b"\xff")).startswith("ValueError: Invalid proto: ")


async def test_a_closed_pusher_takes_no_more(replay: Any) -> None:
    _, pusher = replay
    assert pusher.close() is None
    assert pusher.close() is None
    try:
        await pusher.push_history("id", b"")
    except RuntimeError as error:
        assert line(error) == CLOSED
    else:
        raise AssertionError("a closed pusher took a history")


async def test_without_histories_a_closed_replay_is_over_at_once(replay: Any) -> None:
    worker, pusher = replay
    pusher.close()
    for poll in (worker.poll_workflow_activation, worker.poll_workflow_activation, worker.poll_activity_task):
        with pytest.raises(native.PollShutdownError):
            await poll()
    worker.initiate_shutdown()
    assert await worker.finalize_shutdown() == ()


async def replayed(worker: Any, run_id: str, completes: bool) -> RemoveFromCache:
    """Answers the activations of one history until its eviction."""
    while True:
        activation = WorkflowActivation.FromString(await worker.poll_workflow_activation())
        assert activation.run_id == run_id
        kinds = [job.WhichOneof("variant") for job in activation.jobs]
        if kinds == ["remove_from_cache"]:
            await worker.complete_workflow_activation(answer(run_id))
            return activation.jobs[0].remove_from_cache
        assert activation.is_replaying
        await worker.complete_workflow_activation(answer(run_id, completes))


async def test_good_histories_are_evicted_with_a_good_reason_and_then_it_is_over(
    replay: Any, client: temporalio.client.Client
) -> None:
    worker, pusher = replay
    good = (RemoveFromCache.EvictionReason.CACHE_FULL, RemoveFromCache.EvictionReason.LANG_REQUESTED)
    for _ in range(3):
        run_id, history = await recorded(client)
        assert await pusher.push_history("id", history) == ()
        worker.request_workflow_eviction(run_id)
        assert (await replayed(worker, run_id, completes=True)).reason in good
    pusher.close()
    for _ in range(2):
        with pytest.raises(native.PollShutdownError):
            await worker.poll_workflow_activation()
    worker.initiate_shutdown()
    assert await worker.finalize_shutdown() == ()


async def test_another_program_is_evicted_for_nondeterminism(replay: Any, client: temporalio.client.Client) -> None:
    worker, pusher = replay
    run_id, history = await recorded(client)
    await pusher.push_history("id", history)
    removed = await replayed(worker, run_id, completes=False)
    assert removed.reason == RemoveFromCache.EvictionReason.NONDETERMINISM
    assert "[TMPRL1100] Nondeterminism error: " in removed.message
    pusher.close()
    with pytest.raises(native.PollShutdownError):
        await worker.poll_workflow_activation()
