"""Interceptors and plugins: who is called in which order, and what they may change."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nexusrpc
import nexusrpc.handler
import pytest
import temporalio.client
import temporalio.worker
from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
    ExecuteNexusOperationStartInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    NexusOperationInboundInterceptor,
    StartActivityInput,
    Worker,
    WorkerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from worker.programs import Collect, Echo, FanOut, double


class Noting(Interceptor):
    """Writes down what passes, on both sides of activities and workflows."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return NotingActivity(self, super().intercept_activity(next))

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        name, note = self.name, self.notes.append

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
                note(f"{name} runs {workflow.info().workflow_type}")
                return await super().execute_workflow(input)

            async def handle_signal(self, input: HandleSignalInput) -> None:
                note(f"{name} hears {input.signal}")
                await super().handle_signal(input)

        class Outbound(WorkflowOutboundInterceptor):
            def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
                note(f"{name} starts {input.activity}")
                return super().start_activity(input)

        return Inbound


class NotingActivity(ActivityInboundInterceptor):
    def __init__(self, owner: Noting, next: ActivityInboundInterceptor) -> None:
        super().__init__(next)
        self.owner = owner

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        super().init(NotingOutbound(self.owner, outbound))

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self.owner.notes.append(f"{self.owner.name} runs {activity.info().activity_type}")
        return await super().execute_activity(input)


class NotingOutbound(ActivityOutboundInterceptor):
    def __init__(self, owner: Noting, next: ActivityOutboundInterceptor) -> None:
        super().__init__(next)
        self.owner = owner

    def heartbeat(self, *details: Any) -> None:
        self.owner.notes.append(f"{self.owner.name} beats {details}")
        super().heartbeat(*details)


@activity.defn(name="beat")
async def beat(number: int) -> int:
    activity.heartbeat(number)
    return number


async def test_interceptors_wrap_one_another_in_the_order_given(client: Client) -> None:
    notes: list[str] = []
    interceptors = [Noting("outer", notes), Noting("inner", notes)]
    async with new_worker(
        client,
        FanOut,
        activities=[beat],
        interceptors=interceptors,
        workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
    ) as worker:
        await client.execute_workflow(FanOut.run, args=["beat", 1], id=unique(), task_queue=worker.task_queue)
    assert notes[:4] == ["outer runs FanOut", "inner runs FanOut", "inner starts beat", "outer starts beat"]
    assert notes[4:] == ["outer runs beat", "inner runs beat", "inner beats (0,)", "outer beats (0,)"]


class Both(Noting, temporalio.client.Interceptor):
    """For a client, and by it for its workers."""


async def test_an_interceptor_of_the_client_comes_before_those_of_the_worker(client: Client) -> None:
    notes: list[str] = []
    config = client.config()
    config["interceptors"] = [Both("client", notes)]
    async with new_worker(
        Client(**config),
        Collect,
        interceptors=[Noting("worker", notes)],
        workflow_runner=temporalio.worker.UnsandboxedWorkflowRunner(),
    ) as worker:
        handle = await client.start_workflow(Collect.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Collect.say, "stop")
        await handle.result()
    assert notes[0] in ("client runs Collect", "client hears say")
    assert [n for n in notes if "hears" in n] == ["client hears say", "worker hears say"]


class Doubling(Interceptor):
    """Changes what goes in and what comes out of activities."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        class Inbound(ActivityInboundInterceptor):
            async def execute_activity(self, input: ExecuteActivityInput) -> Any:
                input.args = [input.args[0] + 100]
                return -await super().execute_activity(input)

        return Inbound(next)


async def test_an_interceptor_may_change_arguments_and_results(client: Client) -> None:
    async with new_worker(client, FanOut, activities=[double], interceptors=[Doubling()]) as worker:
        ran = await client.execute_workflow(FanOut.run, args=["double", 2], id=unique(), task_queue=worker.task_queue)
    assert ran == [-200, -202]


@nexusrpc.handler.service_handler(name="Pigeons")
class Pigeons:
    @nexusrpc.handler.sync_operation
    async def send(self, _ctx: nexusrpc.handler.StartOperationContext, word: str) -> str:
        return f"sent {word}"


@workflow.defn
class SendPigeon:
    @workflow.run
    async def run(self, endpoint: str) -> str:
        pigeons = workflow.create_nexus_client(service="Pigeons", endpoint=endpoint)
        return await pigeons.execute_operation("send", "north", output_type=str)


class NotingNexus(Interceptor):
    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def intercept_nexus_operation(self, next: NexusOperationInboundInterceptor) -> NexusOperationInboundInterceptor:
        notes = self.notes

        class Inbound(NexusOperationInboundInterceptor):
            async def execute_nexus_operation_start(self, input: ExecuteNexusOperationStartInput) -> Any:
                notes.append(f"{input.ctx.service}.{input.ctx.operation} {input.input}")
                return await super().execute_nexus_operation_start(input)

        return Inbound(next)


async def test_nexus_operations_are_intercepted(env: WorkflowEnvironment) -> None:
    notes: list[str] = []
    async with new_worker(
        env.client, SendPigeon, nexus_service_handlers=[Pigeons()], interceptors=[NotingNexus(notes)]
    ) as worker:
        endpoint = unique("endpoint")
        await env.create_nexus_endpoint(endpoint, worker.task_queue)
        sent = await env.client.execute_workflow(
            SendPigeon.run, endpoint, id=unique(), task_queue=worker.task_queue
        )
    assert (sent, notes) == ("sent north", ["Pigeons.send north"])


class Around(SimplePlugin):
    """Moves the worker to another queue and notes the beginning and the end of its run."""

    def __init__(self, name: str, notes: list[str]) -> None:
        super().__init__(name)
        self.notes = notes

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        self.notes.append(f"{self.name()} configures")
        config = super().configure_worker(config)
        config["task_queue"] += f"-{self.name()}"
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        self.notes.append(f"{self.name()} begins")
        try:
            await super().run_worker(worker, next)
        finally:
            self.notes.append(f"{self.name()} ends")


class AroundClient(Around):
    """Another type, for the client."""


async def test_plugins_configure_in_order_and_wrap_the_run_clients_first(client: Client) -> None:
    notes: list[str] = []
    config = client.config()
    config["plugins"] = [AroundClient("c", notes)]
    queue = unique("queue")
    async with new_worker(
        Client(**config), Echo, task_queue=queue, plugins=[Around("a", notes), Around("b", notes)]
    ) as worker:
        assert worker.task_queue == f"{queue}-c-a-b"
        assert await client.execute_workflow(Echo.run, 1, id=unique(), task_queue=f"{queue}-c-a-b") == 1
    assert worker.config()["task_queue"] == queue
    assert notes == [f"{name} configures" for name in "cab"] + [f"{name} begins" for name in "cab"] + [
        f"{name} ends" for name in "bac"
    ]


async def test_one_type_of_plugin_on_client_and_worker_is_warned_of(client: Client) -> None:
    config = client.config()
    config["plugins"] = [SimplePlugin("one")]
    with pytest.warns(UserWarning, match="is present from both client and worker"):
        new_worker(Client(**config), Echo, plugins=[SimplePlugin("two")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new_worker(Client(**config), Echo)


async def test_a_simple_plugin_brings_workflows_activities_and_surroundings(client: Client) -> None:
    notes: list[str] = []

    @asynccontextmanager
    async def around() -> AsyncIterator[None]:
        notes.append("before")
        yield
        notes.append("after")

    plugin = SimplePlugin("all", workflows=[FanOut], activities=[double], run_context=around)
    async with new_worker(client, plugins=[plugin]) as worker:
        ran = await client.execute_workflow(FanOut.run, args=["double", 3], id=unique(), task_queue=worker.task_queue)
        assert notes == ["before"]
    assert (ran, notes) == ([0, 2, 4], ["before", "after"])


async def test_an_error_of_a_plugin_ends_the_run(client: Client) -> None:
    class Refuses(SimplePlugin):
        async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
            raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        await new_worker(client, Echo, plugins=[Refuses("no")]).run()


