"""Interceptors: headers that travel from call to call, and functions from outside of the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NoReturn

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadConverter

with workflow.unsafe.imports_passed_through():
    import dataclasses

    import pytest
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio import client as clients
    from temporalio import worker as workers
    from temporalio.client import Client
    from temporalio.common import HeaderCodecBehavior
    from temporalio.converter import DataConverter
    from temporalio.worker import UnsandboxedWorkflowRunner
    from travel import Reversing, caller

KEY = "caller"
TIMEOUT = timedelta(seconds=20)


def sent(headers: Mapping[str, Payload], hop: str) -> dict[str, Payload]:
    """The headers with the path of the caller and one more hop."""
    return {**headers, KEY: PayloadConverter.default.to_payload(f"{caller.get()}>{hop}")}


def received(headers: Mapping[str, Payload]) -> None:
    """Takes over the path that the headers tell."""
    if KEY in headers:
        caller.set(PayloadConverter.default.from_payload(headers[KEY], str))


class Telling(clients.Interceptor, workers.Interceptor):
    """Sends along who called, and gives workflows a function from outside."""

    def intercept_client(self, next: clients.OutboundInterceptor) -> clients.OutboundInterceptor:
        return ClientSide(super().intercept_client(next))

    def intercept_activity(self, next: workers.ActivityInboundInterceptor) -> workers.ActivityInboundInterceptor:
        return ActivitySide(super().intercept_activity(next))

    def workflow_interceptor_class(
        self, input: workers.WorkflowInterceptorClassInput
    ) -> type[workers.WorkflowInboundInterceptor]:
        input.unsafe_extern_functions["outside_add"] = lambda a, b: a + b
        return WorkflowSide


class ClientSide(clients.OutboundInterceptor):
    async def start_workflow(self, input: clients.StartWorkflowInput) -> clients.WorkflowHandle[Any, Any]:
        input.headers = sent(input.headers, "start")
        return await super().start_workflow(input)

    async def signal_workflow(self, input: clients.SignalWorkflowInput) -> None:
        input.headers = sent(input.headers, "signal")
        await super().signal_workflow(input)

    async def query_workflow(self, input: clients.QueryWorkflowInput) -> Any:
        input.headers = sent(input.headers, "query")
        return await super().query_workflow(input)

    async def start_workflow_update(
        self, input: clients.StartWorkflowUpdateInput
    ) -> clients.WorkflowUpdateHandle[Any]:
        input.headers = sent(input.headers, "update")
        return await super().start_workflow_update(input)


class ActivitySide(workers.ActivityInboundInterceptor):
    async def execute_activity(self, input: workers.ExecuteActivityInput) -> Any:
        received(input.headers)
        return await super().execute_activity(input)


class WorkflowSide(workers.WorkflowInboundInterceptor):
    def init(self, outbound: workers.WorkflowOutboundInterceptor) -> None:
        super().init(WorkflowOut(outbound))

    async def execute_workflow(self, input: workers.ExecuteWorkflowInput) -> Any:
        received(input.headers)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: workers.HandleSignalInput) -> None:
        received(input.headers)
        await super().handle_signal(input)

    async def handle_query(self, input: workers.HandleQueryInput) -> Any:
        received(input.headers)
        return await super().handle_query(input)

    def handle_update_validator(self, input: workers.HandleUpdateInput) -> None:
        received(input.headers)
        super().handle_update_validator(input)

    async def handle_update_handler(self, input: workers.HandleUpdateInput) -> Any:
        received(input.headers)
        return await super().handle_update_handler(input)


class WorkflowOut(workers.WorkflowOutboundInterceptor):
    def start_activity(self, input: workers.StartActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = sent(input.headers, "activity")
        return super().start_activity(input)

    def start_local_activity(self, input: workers.StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        input.headers = sent(input.headers, "local")
        return super().start_local_activity(input)

    async def start_child_workflow(
        self, input: workers.StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        input.headers = sent(input.headers, "child")
        return await super().start_child_workflow(input)

    async def signal_child_workflow(self, input: workers.SignalChildWorkflowInput) -> None:
        input.headers = sent(input.headers, "childsignal")
        await super().signal_child_workflow(input)

    async def signal_external_workflow(self, input: workers.SignalExternalWorkflowInput) -> None:
        input.headers = sent(input.headers, "external")
        await super().signal_external_workflow(input)

    def continue_as_new(self, input: workers.ContinueAsNewInput) -> NoReturn:
        input.headers = sent(input.headers, "again")
        super().continue_as_new(input)


@activity.defn
async def who() -> str:
    return caller.get()


@workflow.defn
class Listening:
    def __init__(self) -> None:
        self.heard: list[str] = []

    @workflow.run
    async def run(self, depth: int, again: bool) -> list[str]:
        self.heard.append(caller.get())
        if again:
            workflow.continue_as_new(args=[depth, False])
        self.heard.append(await workflow.execute_activity(who, start_to_close_timeout=TIMEOUT))
        self.heard.append(await workflow.execute_local_activity(who, start_to_close_timeout=TIMEOUT))
        if depth:
            child = await workflow.start_child_workflow(
                Listening.run, args=[depth - 1, False], id=workflow.info().workflow_id + "c"
            )
            await child.signal(Listening.hear)
            await workflow.get_external_workflow_handle(child.id).signal(Listening.hear)
            self.heard += await child
        await workflow.wait_condition(lambda: sum("signal" in h or "external" in h for h in self.heard) >= 2)
        return self.heard

    @workflow.signal
    def hear(self) -> None:
        self.heard.append(caller.get())

    @workflow.query
    def asked(self) -> str:
        return caller.get()

    @workflow.update
    def told(self) -> str:
        return caller.get()


@pytest.fixture
async def telling(address: str) -> Client:
    return await Client.connect(address, interceptors=[Telling()])


async def test_headers_travel_with_every_call(telling: Client) -> None:
    caller.set("me")
    async with new_worker(telling, Listening, activities=[who]) as worker:
        handle = await telling.start_workflow(Listening.run, args=[0, True], id=unique(), task_queue=worker.task_queue)
        caller.set("query-me")
        assert await handle.query(Listening.asked) == "query-me>query"
        caller.set("update-me")
        assert await handle.execute_update(Listening.told) == "update-me>update"
        caller.set("signal-me")
        await handle.signal(Listening.hear)
        await handle.signal(Listening.hear)
        heard = await handle.result()
    path = "me>start>again"
    assert sorted(heard) == sorted(
        [path, f"{path}>activity", f"{path}>local", "signal-me>signal", "signal-me>signal"]
    )
    scheduled = (await found(handle, "activity_task_scheduled"))[0]
    assert PayloadConverter.default.from_payload(scheduled.header.fields[KEY]) == f"{path}>activity"
    await replay(handle, Listening, interceptors=[Telling()])


async def test_headers_travel_to_children_and_their_signals(telling: Client) -> None:
    caller.set("me")
    async with new_worker(telling, Listening, activities=[who]) as worker:
        handle = await telling.start_workflow(Listening.run, args=[1, False], id=unique(), task_queue=worker.task_queue)
        heard = await handle.result()
    start = "me>start"
    child = f"{start}>child"
    assert heard[:3] == [start, f"{start}>activity", f"{start}>local"]
    assert sorted(heard[3:]) == sorted(
        [child, f"{child}>activity", f"{child}>local", f"{start}>childsignal", f"{start}>external"]
    )
    await replay(handle, Listening, interceptors=[Telling()])
    await replay(telling.get_workflow_handle(handle.id + "c"), Listening, interceptors=[Telling()])


@pytest.mark.parametrize("behavior", [HeaderCodecBehavior.NO_CODEC, HeaderCodecBehavior.CODEC])
async def test_headers_are_encoded_only_if_asked(address: str, behavior: HeaderCodecBehavior) -> None:
    client = await Client.connect(
        address,
        interceptors=[Telling()],
        header_codec_behavior=behavior,
        data_converter=dataclasses.replace(DataConverter.default, payload_codec=Reversing()),
    )
    caller.set("me")
    async with new_worker(client, Listening, activities=[who]) as worker:
        handle = await client.start_workflow(Listening.run, args=[0, False], id=unique(), task_queue=worker.task_queue)
        await handle.signal(Listening.hear)
        await handle.signal(Listening.hear)
        assert "me>start>activity" in await handle.result()
    started = (await found(handle, "workflow_execution_started"))[0]
    scheduled = (await found(handle, "activity_task_scheduled"))[0]
    encoded = behavior == HeaderCodecBehavior.CODEC
    for attributes in (started, scheduled):
        assert (attributes.header.fields[KEY].metadata["encoding"] == b"reversed") is encoded
    await replay(handle, Listening, interceptors=[Telling()], header_codec_behavior=behavior)


@workflow.defn
class Outside:
    @workflow.run
    async def run(self) -> int:
        add = workflow.extern_functions()["outside_add"]
        return int(add(2, 3))


async def test_a_function_from_outside_can_be_called_in_the_sandbox(telling: Client) -> None:
    async with new_worker(telling, Outside) as worker:
        handle = await telling.start_workflow(Outside.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == 5
    await replay(handle, Outside, interceptors=[Telling()])


class Gatekeeper(workers.Interceptor):
    """Does not let workflows run as they were called."""

    def workflow_interceptor_class(
        self, input: workers.WorkflowInterceptorClassInput
    ) -> type[workers.WorkflowInboundInterceptor]:
        return Changing


class Changing(workers.WorkflowInboundInterceptor):
    async def execute_workflow(self, input: workers.ExecuteWorkflowInput) -> Any:
        input.args = [input.args[0] * 2]
        return -(await super().execute_workflow(input))


@workflow.defn
class Number:
    @workflow.run
    async def run(self, number: int) -> int:
        await asyncio.sleep(0)
        return number + 1


async def test_an_interceptor_may_change_arguments_and_results(client: Client) -> None:
    runner = UnsandboxedWorkflowRunner()
    async with new_worker(client, Number, interceptors=[Gatekeeper()], workflow_runner=runner) as worker:
        handle = await client.start_workflow(Number.run, 20, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == -41
    assert (await kinds(handle))[-1] == "workflow_execution_completed"
