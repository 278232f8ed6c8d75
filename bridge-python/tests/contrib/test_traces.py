"""The package's OpenTelemetry: one span for each thing that happened, whatever is replayed, tried again or taken over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, nexus, workflow

with workflow.unsafe.imports_passed_through():
    import nexusrpc.handler
    import opentelemetry.trace
    import pytest
    from opentelemetry import baggage, context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import get_tracer
    from opentelemetry.util._once import Once
    from support import eventually, new_worker, unique
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.common import RetryPolicy
    from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, TracingInterceptor, create_tracer_provider
    from temporalio.contrib.opentelemetry import workflow as traced
    from temporalio.exceptions import ApplicationError, NexusOperationError
    from temporalio.testing import WorkflowEnvironment

BRIEF = timedelta(seconds=10)
SOON = RetryPolicy(initial_interval=timedelta(milliseconds=1))


def tree(spans: Sequence[ReadableSpan], parent: int | None = None, depth: int = 0) -> list[str]:
    """The names of spans below their parents, in the order in which they ended; links behind the names."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    lines = []
    for span in spans:
        if (span.parent.span_id if span.parent else None) != parent:
            continue
        links = [names.get(link.context.span_id, "?") for link in span.links]
        lines.append("  " * depth + span.name + "".join(f" <- {link}" for link in links))
        lines += tree(spans, span.context.span_id if span.context else None, depth + 1)
    return lines


@activity.defn
async def step(fails: int) -> str:
    with get_tracer("test").start_as_current_span("inside the activity"):
        if activity.info().attempt <= fails:
            raise RuntimeError("again")
    return str(baggage.get_baggage("colour"))


@workflow.defn
class Small:
    @workflow.run
    async def run(self, word: str) -> str:
        return word


@nexusrpc.handler.service_handler(name="Service")
class Service:
    @nexus.workflow_run_operation
    async def start(self, ctx: nexus.WorkflowRunOperationContext, word: str) -> nexus.WorkflowHandle[str]:
        return await ctx.start_workflow(Small.run, word, id=unique())

    @nexus.workflow_run_operation
    async def last(self, ctx: nexus.WorkflowRunOperationContext, word: str) -> nexus.WorkflowHandle[None]:
        return await ctx.start_workflow(Lasting.run, id=unique())


@workflow.defn
class Lasting:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@workflow.defn
class Tour:
    """Does one thing after another, each within a span of its own; fails tasks on the way, if told to."""

    def __init__(self) -> None:
        self.signals = self.updates = 0
        self.waits = False

    @workflow.run
    async def run(self, stops: list[str], endpoint: str) -> list[str]:
        tracer = get_tracer("test")
        traced.completed_span("begun")
        heard = []
        with tracer.start_as_current_span("tour"):
            for stop in stops:
                with tracer.start_as_current_span(stop):
                    heard.append(str(await self.visit(stop, endpoint)))
        return heard

    async def visit(self, stop: str, endpoint: str) -> Any:
        service = workflow.create_nexus_client(service="Service", endpoint=endpoint)
        match stop:
            case "activity":
                return await workflow.execute_activity(step, 0, start_to_close_timeout=BRIEF)
            case "retried":
                return await workflow.execute_activity(step, 1, start_to_close_timeout=BRIEF, retry_policy=SOON)
            case "local":
                return await workflow.execute_local_activity(step, 0, start_to_close_timeout=BRIEF)
            case "child":
                return await workflow.execute_child_workflow(Small.run, "child", id=f"{workflow.info().workflow_id}-c")
            case "timer":
                return await workflow.sleep(0.01)
            case "operation":
                return await service.execute_operation("start", "operation", output_type=str)
            case "cancelled operation":
                handle: workflow.NexusOperationHandle[Any] = await service.start_operation("last", "")
                handle.cancel()
                try:
                    await handle
                except NexusOperationError as error:
                    return type(error.cause).__name__
            case "signals":
                await workflow.wait_condition(lambda: self.signals > 1)
            case "update":
                self.waits = True
                await workflow.wait_condition(lambda: self.updates > 0)
            case "fails a task":
                replaying = workflow.unsafe.is_replaying()
                await asyncio.sleep(0.01)
                if not replaying:
                    raise RuntimeError("not at the first try")
        return stop

    @workflow.query
    def state(self) -> bool:
        return self.waits

    @workflow.signal
    def hear(self) -> None:
        self.signals += 1

    @workflow.update
    def change(self) -> None:
        self.updates += 1

    @change.validator
    def check(self) -> None:
        pass


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What was traced, by a provider that is everybody's while the test runs."""
    exporter = InMemorySpanExporter()
    provider = create_tracer_provider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    opentelemetry.trace._TRACER_PROVIDER_SET_ONCE, opentelemetry.trace._TRACER_PROVIDER = Once(), None
    opentelemetry.trace.set_tracer_provider(provider)
    yield exporter
    opentelemetry.trace._TRACER_PROVIDER_SET_ONCE, opentelemetry.trace._TRACER_PROVIDER = Once(), None


def plugged(client: Client, **options: Any) -> Client:
    config = client.config()
    config["plugins"] = [OpenTelemetryPlugin(**options)]
    return Client(**config)


def intercepted(client: Client, provider: TracerProvider) -> Client:
    config = client.config()
    config["interceptors"] = [TracingInterceptor(get_tracer("test", tracer_provider=provider))]
    return Client(**config)


async def toured(client: Client, env: WorkflowEnvironment, stops: list[str], **options: Any) -> list[str]:
    """The tour with its signals, query and update, on a worker that keeps no workflow."""
    async with new_worker(
        client, Tour, Small, Lasting, activities=[step], nexus_service_handlers=[Service()], **options
    ) as worker:
        endpoint = unique("endpoint")
        await env.create_nexus_endpoint(endpoint, worker.task_queue)
        with get_tracer("test").start_as_current_span("test"):
            handle = await client.start_workflow(
                Tour.run, args=[stops, endpoint], id=unique(), task_queue=worker.task_queue
            )
            if "signals" in stops:
                await handle.signal(Tour.hear)
                await handle.signal(Tour.hear)
            if "update" in stops:

                async def waits() -> None:
                    assert await handle.query(Tour.state)

                await eventually(waits)
                await handle.execute_update(Tour.change)
            return await handle.result()


STEP = ["StartActivity:step", "  RunActivity:step", "    inside the activity"]


def below(depth: int, *lines: str) -> list[str]:
    return ["  " * depth + line for line in lines]


async def test_every_thing_is_a_span_once_though_all_is_replayed(
    client: Client, env: WorkflowEnvironment, spans: InMemorySpanExporter
) -> None:
    stops = ["activity", "retried", "local", "child", "timer", "operation", "signals"]
    await toured(plugged(client, add_temporal_spans=True), env, stops, max_cached_workflows=0)
    lines = [line for line in tree(spans.get_finished_spans()) if "Signal" not in line]
    retried = [STEP[0], *STEP[1:], *STEP[1:]]
    started = ["StartNexusOperation:Service/start", "  RunStartNexusOperationHandler:Service/start"]
    started += ["    StartWorkflow:Small", "      RunWorkflow:Small"]
    assert lines == [
        "test",
        *below(1, "StartWorkflow:Tour", "  RunWorkflow:Tour", "    begun", "    tour"),
        *below(4, "activity", *below(1, *STEP), "retried", *below(1, *retried), "local", *below(1, *STEP)),
        *below(4, "child", "  StartChildWorkflow:Small", "    RunWorkflow:Small", "timer"),
        *below(4, "operation", *below(1, *started), "signals"),
    ]
    names = [span.name for span in spans.get_finished_spans()]
    assert names.count("SignalWorkflow:hear") == 2 and names.count("HandleSignal:hear") >= 2


async def test_without_spans_of_the_package_only_those_of_the_program_are_there(
    client: Client, env: WorkflowEnvironment, spans: InMemorySpanExporter
) -> None:
    await toured(plugged(client), env, ["activity", "timer", "local"], max_cached_workflows=0)
    inside = "  inside the activity"
    assert tree(spans.get_finished_spans()) == [
        "test",
        "  begun",
        "  tour",
        *below(2, "activity", inside, "timer", "local", inside),
    ]


async def test_updates_are_spans(client: Client, env: WorkflowEnvironment, spans: InMemorySpanExporter) -> None:
    await toured(plugged(client, add_temporal_spans=True), env, ["activity", "update"], max_cached_workflows=0)
    lines = [line for line in tree(spans.get_finished_spans()) if "Query" not in line]
    assert lines[-3:] == below(
        1, "StartWorkflowUpdate:change", "  ValidateUpdate:change", "  HandleUpdate:change"
    )


@workflow.defn(sandboxed=False)
class FailsOnce:
    failed = False

    @workflow.run
    async def run(self, for_good: bool) -> None:
        with get_tracer("test").start_as_current_span("whole"):
            with get_tracer("test").start_as_current_span("part"):
                pass
            if for_good:
                raise ApplicationError("no", non_retryable=True)
            if not FailsOnce.failed:
                FailsOnce.failed = True
                raise RuntimeError("not yet")


@pytest.mark.parametrize("for_good", [False, True])
async def test_a_task_that_failed_leaves_the_spans_that_ended(
    client: Client, spans: InMemorySpanExporter, for_good: bool
) -> None:
    FailsOnce.failed = False
    client = plugged(client, add_temporal_spans=True)
    async with new_worker(client, FailsOnce, max_cached_workflows=0) as worker:
        handle = await client.start_workflow(FailsOnce.run, for_good, id=unique(), task_queue=worker.task_queue)
        if for_good:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        else:
            await handle.result()
    parts = ["part"] if for_good else ["part", "part"]
    whole = ["  RunWorkflow:FailsOnce", "    whole", *below(3, *parts)]
    assert tree(spans.get_finished_spans()) == ["StartWorkflow:FailsOnce", *whole]


async def test_the_older_interceptor_tells_what_was_not_replayed(client: Client, env: WorkflowEnvironment) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    client = intercepted(client, provider)
    stops = ["fails a task", "signals", "retried", "update", "cancelled operation"]
    heard = await toured(client, env, stops)
    assert heard[-1] == "CancelledError"
    lines = tree(exporter.get_finished_spans())
    kept: list[str] = []
    for line in lines:
        # A signal or a query may be handled again, by the task that failed.
        if not ("Query" in line or ("Signal" in line and line in kept)):
            kept.append(line)
    signalled = [line for line in kept if "Signal" in line]
    assert signalled == ["  HandleSignal:hear <- SignalWorkflow:hear", "SignalWorkflow:hear"]
    assert [line for line in kept if line not in signalled] == [
        "StartWorkflow:Tour",
        "  RunWorkflow:Tour",
        "  begun",
        "  StartActivity:step",
        "    RunActivity:step",
        "    RunActivity:step",
        "  ValidateUpdate:change <- StartWorkflowUpdate:change",
        "  HandleUpdate:change <- StartWorkflowUpdate:change",
        "  StartNexusOperation:Service/last",
        "    RunStartNexusOperationHandler:Service/last",
        "      StartWorkflow:Lasting",
        "        RunWorkflow:Lasting",
        "    RunCancelNexusOperationHandler:Service/last",
        "  CompleteWorkflow:Tour",
        "StartWorkflowUpdate:change",
    ]


@pytest.mark.parametrize("stop", ["activity", "retried", "local"])
async def test_baggage_goes_along_to_activities(client: Client, env: WorkflowEnvironment, stop: str) -> None:
    client = intercepted(client, TracerProvider())
    token = context.attach(baggage.set_baggage("colour", "green"))
    try:
        assert await toured(client, env, [stop]) == ["green"]
    finally:
        context.detach(token)
