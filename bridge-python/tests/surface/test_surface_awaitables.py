"""The rules of what is awaited: whose future it is, what is checked at the call, what cancelling does, and forks."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest

from support import eventually, unique
from surface import shapes
from surface.relay import Relay
from surface.shapes import line, native, raised


async def test_a_plain_future_of_the_running_loop(connected: Any) -> None:
    future = connected.call_workflow_service(shapes.call("get_system_info"))
    assert type(future) is asyncio.Future
    assert future.get_loop() is asyncio.get_running_loop()
    assert not future.done()
    assert type(await future) is bytes


async def test_work_starts_at_the_call_and_not_when_awaited(connected: Any) -> None:
    future = connected.call_workflow_service(shapes.call("get_system_info"))

    async def done() -> None:
        assert future.done()

    await eventually(done)
    assert future.result()


async def test_without_a_value_the_result_is_an_empty_tuple(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique()))
    await worker.validate()
    worker.initiate_shutdown()
    for poll in (worker.poll_workflow_activation, worker.poll_activity_task, worker.poll_nexus_task):
        with pytest.raises(native.PollShutdownError):
            await poll()
    assert await worker.finalize_shutdown() == ()


async def without_a_loop(function: Callable[..., Any], *arguments: Any) -> BaseException:
    """What the call raises in a thread that runs no loop."""
    return await asyncio.to_thread(raised, function, *arguments)


async def test_without_a_running_loop_each_awaitable_fails_at_the_call(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique()))
    call = shapes.call("get_system_info")
    calls: list[tuple[Any, ...]] = [
        (native.connect_client, quiet, shapes.client(shapes.NOWHERE)),
        (native.start_dev_server, quiet, shapes.dev_server("/none")),
        (native.start_test_server, quiet, shapes.test_server("/none")),
        (connected.call_workflow_service, call),
        (connected.call_operator_service, call),
        (connected.call_cloud_service, call),
        (connected.call_test_service, call),
        (connected.call_health_service, call),
        (worker.validate,),
        (worker.poll_workflow_activation,),
        (worker.poll_activity_task,),
        (worker.poll_nexus_task,),
        (worker.complete_workflow_activation, b""),
        (worker.complete_activity_task, b""),
        (worker.complete_nexus_task, b""),
    ]
    for function, *arguments in calls:
        assert line(await without_a_loop(function, *arguments)) == "RuntimeError: no running event loop", function


async def test_arguments_are_looked_at_before_the_loop(quiet: Any) -> None:
    error = await without_a_loop(native.connect_client, quiet, shapes.client(""))
    assert line(error) == "ValueError: invalid target URL: relative URL without a base"


async def test_errors_of_the_work_come_in_the_future(connected: Any) -> None:
    future = connected.call_workflow_service(shapes.call("no_such_thing"))
    with pytest.raises(ValueError, match="^Unknown RPC call no_such_thing$"):
        await future


async def polling(relay: Relay, client: Any) -> asyncio.Future[bytes]:
    """A long poll that waits at the server."""
    request = PollActivityTaskQueueRequest(namespace="default", task_queue=TaskQueue(name=unique()), identity="me")
    before = relay.frames.count(Relay.HEADERS)
    future: asyncio.Future[bytes] = client.call_workflow_service(
        shapes.call("poll_activity_task_queue", request, timeout_millis=60_000)
    )

    async def sent() -> None:
        assert relay.frames.count(Relay.HEADERS) > before

    await eventually(sent)
    return future


async def test_cancelling_the_future_aborts_the_call_on_the_wire(relay: Relay, quiet: Any) -> None:
    client = await native.connect_client(quiet, shapes.client(relay.url))
    future = await polling(relay, client)
    assert Relay.RST_STREAM not in relay.frames
    assert future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future

    async def reset() -> None:
        assert Relay.RST_STREAM in relay.frames

    await eventually(reset)
    assert await client.call_workflow_service(shapes.call("get_system_info"))


async def test_a_cancelled_future_stays_cancelled(connected: Any) -> None:
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        cancelled = connected.call_workflow_service(shapes.call("get_system_info"))
        cancelled.cancel()
        for _ in range(20):
            await connected.call_workflow_service(shapes.call("get_system_info"))
        assert cancelled.cancelled()
        assert complaints == []
    finally:
        loop.set_exception_handler(None)


async def test_a_forgotten_future_does_no_harm(connected: Any) -> None:
    for _ in range(20):
        connected.call_workflow_service(shapes.call("get_system_info"))
    gc.collect()
    assert await connected.call_workflow_service(shapes.call("get_system_info"))


async def test_many_calls_at_once_each_get_their_own_answer(connected: Any) -> None:
    names = [f"no_{number}" for number in range(200)]
    results = await asyncio.gather(
        *(connected.call_workflow_service(shapes.call(name)) for name in names), return_exceptions=True
    )
    assert [str(result) for result in results] == [f"Unknown RPC call {name}" for name in names]


def test_a_loop_in_another_thread_gets_its_own_futures(quiet: Any, address: str) -> None:
    got: list[Any] = []

    async def go() -> None:
        client = await native.connect_client(quiet, shapes.client(f"http://{address}"))
        future = client.call_workflow_service(shapes.call("get_system_info"))
        got.append(future.get_loop() is asyncio.get_running_loop())
        got.append(type(await future))

    thread = threading.Thread(target=lambda: asyncio.run(go()))
    thread.start()
    thread.join()
    assert got == [True, bytes]


async def test_a_client_may_be_used_from_several_loops(connected: Any) -> None:
    def other() -> bytes:
        async def go() -> bytes:
            answer: bytes = await connected.call_workflow_service(shapes.call("get_system_info"))
            return answer

        return asyncio.run(go())

    here = await connected.call_workflow_service(shapes.call("get_system_info"))
    there = await asyncio.gather(asyncio.to_thread(other), asyncio.to_thread(other))
    assert list(there) == [here, here]


async def test_the_gil_is_free_while_a_connection_is_tried(quiet: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        future = native.connect_client(quiet, shapes.client("http://127.0.0.1:%d" % silent.getsockname()[1]))
        peer, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        assert not future.done()
        future.cancel()
        peer.close()


def in_a_fork(*calls: Callable[[], Any]) -> list[str]:
    """What each call raises in a forked child, which ends at once without cleaning up."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = "\n".join(line(raised(call)) for call in calls)
        except BaseException as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return [found.replace(str(child), "CHILD").replace(str(os.getpid()), "PARENT") for found in text.splitlines()]


async def test_a_fork_may_not_use_what_the_parent_made(quiet: Any, connected: Any) -> None:
    worker = native.new_worker(quiet, connected, shapes.worker(unique()))
    call = shapes.call("get_system_info")
    found = in_a_fork(
        lambda: native.connect_client(quiet, shapes.client(shapes.NOWHERE)),
        lambda: connected.call_workflow_service(call),
        lambda: connected.call_operator_service(call),
        lambda: connected.call_cloud_service(call),
        lambda: connected.call_test_service(call),
        lambda: connected.call_health_service(call),
        lambda: native.new_worker(quiet, connected, shapes.worker("q")),
        lambda: native.new_replay_worker(quiet, shapes.replay_worker()),
        lambda: worker.validate(),
        lambda: worker.poll_workflow_activation(),
        lambda: worker.poll_activity_task(),
        lambda: worker.poll_nexus_task(),
    )
    actions = ["create client", *["use client"] * 5, "create worker", "create replay worker", *["use worker"] * 4]
    tail = "across forks (original runtime PID is PARENT, current is CHILD)"
    assert found == [f"AssertionError: Cannot {action} {tail}" for action in actions]


async def test_in_a_fork_bad_arguments_come_first(quiet: Any) -> None:
    found = in_a_fork(
        lambda: native.connect_client(quiet, shapes.client("")),
        lambda: native.new_worker(quiet, 1, shapes.worker("q")),
    )
    assert found == [
        "ValueError: invalid target URL: relative URL without a base",
        "TypeError: 'int' object is not an instance of 'ClientRef'",
    ]
