"""Native workers: validation, malformed completions, the end of polls, and what comes after the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import temporalio.bridge.proto as core
from temporalio.bridge.proto.nexus import NexusTaskCompletion
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

from support import unique
from surface import shapes
from surface.shapes import line, native, raised

POLLS = ["poll_workflow_activation", "poll_activity_task", "poll_nexus_task"]
COMPLETIONS = ["complete_workflow_activation", "complete_activity_task", "complete_nexus_task"]


@pytest.fixture
async def worker(quiet: Any, connected: Any) -> Any:
    """A validated worker on a queue of its own."""
    made = native.new_worker(quiet, connected, shapes.worker(unique()))
    await made.validate()
    return made


async def test_validation_tells_of_the_namespace(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique()))
    info = core.NamespaceInfo.FromString(await worker.validate())
    assert info.HasField("limits")


async def test_validation_fails_for_a_namespace_that_is_not_there(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), namespace="nope"))
    with pytest.raises(RuntimeError) as caught:
        await worker.validate()
    text = "Worker validation failed: Namespace nope was not found or otherwise could not be described: Status {"
    assert str(caught.value).startswith(text)
    assert "Namespace nope is not found." in str(caught.value)


async def test_validation_is_done_once(worker: Any, engine: str) -> None:
    error = raised(worker.validate)
    assert not isinstance(error, (TypeError, AttributeError))
    if engine == "original":
        assert type(error).__name__ == "PanicException"
        assert "must only be set once" in str(error)


@pytest.mark.parametrize("method", [*COMPLETIONS, "record_activity_heartbeat"])
async def test_messages_are_bytes_and_decode(method: str, worker: Any) -> None:
    class Mine(bytes):
        pass

    send = getattr(worker, method)
    for value, name in (
        ("x", "'str' object"),
        (bytearray(), "'bytearray' object"),
        (None, "'None'"),
        (memoryview(b""), "'memoryview' object"),
    ):
        assert line(raised(send, value)) == f"TypeError: {name} is not an instance of 'bytes'"
    for wrong in (b"\xff", Mine(b"\xff")):
        assert line(raised(send, wrong)).startswith("ValueError: Invalid proto: failed to decode Protobuf message: ")


def workflow_completion(**status: bool) -> bytes:
    message = WorkflowActivationCompletion(run_id="RID")
    if status.get("successful"):
        message.successful.commands.add()
    return message.SerializeToString()


def activity_completion(result: bool = False, completed: bool = False) -> bytes:
    message = core.ActivityTaskCompletion(task_token=b"token")
    if result:
        message.result.SetInParent()
    if completed:
        message.result.completed.SetInParent()
    return message.SerializeToString()


EMPTY_ACTIVITY = (
    "Lang SDK sent us a malformed activity completion (Activity completion had empty result/status field): None"
)
MALFORMED: list[tuple[str, bytes, str]] = [
    (
        COMPLETIONS[0],
        b"",
        "Lang SDK sent us a malformed workflow completion for run (): Workflow completion had empty status field",
    ),
    (
        COMPLETIONS[0],
        workflow_completion(),
        "Lang SDK sent us a malformed workflow completion for run (RID): Workflow completion had empty status field",
    ),
    (
        COMPLETIONS[0],
        workflow_completion(successful=True),
        "Lang SDK sent us a malformed workflow completion for run (RID): "
        "At least one workflow command in the completion contained an empty variant",
    ),
    (COMPLETIONS[1], b"", EMPTY_ACTIVITY),
    (COMPLETIONS[1], activity_completion(), EMPTY_ACTIVITY),
    (COMPLETIONS[1], activity_completion(result=True), EMPTY_ACTIVITY),
    (
        COMPLETIONS[1],
        activity_completion(completed=True),
        "Lang SDK sent us a malformed activity completion "
        "(Activity completions must contain a `result` payload (which may be empty)): None",
    ),
    (COMPLETIONS[2], b"", "Lang SDK sent us a malformed nexus completion: Nexus completion had empty status field"),
]


@pytest.mark.parametrize("method,message,text", MALFORMED, ids=[str(number) for number in range(len(MALFORMED))])
async def test_a_malformed_completion_fails_in_the_future(method: str, message: bytes, text: str, worker: Any) -> None:
    with pytest.raises(RuntimeError) as caught:
        await getattr(worker, method)(message)
    assert line(caught.value) == f"RuntimeError: Completion failure\n\nCaused by:\n    {text}"


async def test_what_nobody_knows_is_taken_without_a_word(worker: Any) -> None:
    unknown = core.ActivityTaskCompletion(task_token=b"token")
    unknown.result.will_complete_async.SetInParent()
    assert await worker.complete_activity_task(unknown.SerializeToString()) == ()
    acknowledged = NexusTaskCompletion(task_token=b"token", ack_cancel=True)
    assert await worker.complete_nexus_task(acknowledged.SerializeToString()) == ()
    assert worker.record_activity_heartbeat(core.ActivityHeartbeat(task_token=b"token").SerializeToString()) is None
    assert worker.record_activity_heartbeat(b"") is None
    assert worker.request_workflow_eviction("no such run") is None
    assert line(raised(worker.request_workflow_eviction, 1)) == "TypeError: 'int' object is not an instance of 'str'"


async def failure(future: asyncio.Future[Any]) -> str:
    """The words with which it fails."""
    with pytest.raises(RuntimeError) as caught:
        await future
    return line(caught.value)


@pytest.mark.parametrize("kind", ["workflow", "activity", "nexus"])
async def test_kinds_that_are_off_are_shut_down_from_the_start(kind: str, quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique(), task_types=shapes.task_types(kind)))
    await worker.validate()
    for poll in POLLS:
        if kind not in poll:
            for _ in range(2):
                with pytest.raises(native.PollShutdownError):
                    await getattr(worker, poll)()
    message = WorkflowActivationCompletion(run_id="RID")
    message.successful.SetInParent()
    text = "RuntimeError: Completion failure\n\nCaused by:\n    {} not enabled on this worker"
    if kind != "workflow":
        assert await failure(worker.complete_workflow_activation(message.SerializeToString())) == text.format(
            "Workflows are"
        )
    if kind == "activity":
        unknown = NexusTaskCompletion(task_token=b"t", ack_cancel=True)
        assert await failure(worker.complete_nexus_task(unknown.SerializeToString())) == text.format("Nexus is")
    if kind == "workflow":
        done = core.ActivityTaskCompletion(task_token=b"token")
        done.result.completed.result.SetInParent()
        assert await failure(worker.complete_activity_task(done.SerializeToString())) == text.format("Activities are")


async def test_shutdown_ends_polls_again_and_again(worker: Any) -> None:
    waiting = [getattr(worker, poll)() for poll in POLLS]
    worker.initiate_shutdown()
    worker.initiate_shutdown()
    for ended in await asyncio.gather(*waiting, return_exceptions=True):
        assert (type(ended), ended.args) == (native.PollShutdownError, ())
    for _ in range(3):
        for poll in POLLS:
            with pytest.raises(native.PollShutdownError):
                await getattr(worker, poll)()
    assert await worker.finalize_shutdown() == ()


@pytest.mark.parametrize("count", [1, 3])
async def test_finalize_needs_all_polls_to_have_ended(count: int, worker: Any) -> None:
    waiting = [getattr(worker, poll)() for poll in POLLS[:count]]
    error = raised(worker.finalize_shutdown)
    assert line(error) == f"ValueError: Cannot finalize, expected 1 reference, got {count + 1}"
    for poll in waiting:
        assert poll.cancel()


@pytest.mark.parametrize(
    "method,arguments",
    [
        ("validate", ()),
        *((poll, ()) for poll in POLLS),
        *((completion, (b"",)) for completion in COMPLETIONS),
        ("record_activity_heartbeat", (b"",)),
        ("request_workflow_eviction", ("run",)),
        ("initiate_shutdown", ()),
        ("finalize_shutdown", ()),
        ("replace_client", "client"),
    ],
)
async def test_after_finalize_every_method_fails_at_the_call(
    method: str, arguments: Any, worker: Any, connected: Any, engine: str
) -> None:
    worker.initiate_shutdown()
    for poll in POLLS:
        with pytest.raises(native.PollShutdownError):
            await getattr(worker, poll)()
    await worker.finalize_shutdown()
    error = raised(getattr(worker, method), *((connected,) if arguments == "client" else arguments))
    assert not isinstance(error, (TypeError, AttributeError, native.PollShutdownError))
    if engine == "original":
        assert type(error).__name__ == "PanicException"


async def test_the_client_can_be_replaced(quiet: Any, connected: Any, address: str, worker: Any) -> None:
    other = await native.connect_client(quiet, shapes.client(f"http://{address}"))
    assert worker.replace_client(other) is None
    assert worker.replace_client(connected) is None
    assert line(raised(worker.replace_client, 1)) == "TypeError: 'int' object is not an instance of 'ClientRef'"
