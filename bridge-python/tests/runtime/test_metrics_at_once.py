"""Metrics that programs measure are there as soon as the client knows the result: who reads them need not wait."""

from __future__ import annotations

from datetime import timedelta

from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import (
    MetricBuffer,
    MetricBufferDurationFormat,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from runtime.scrape import fetch, free_address, read, scrape


@activity.defn
async def count() -> None:
    counter = activity.metric_meter().create_counter("by-activity", "what an activity counts", "things")
    counter.add(12)
    counter.add(34, {"extra-label": 12.34})


@workflow.defn
class Measures:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(count, schedule_to_close_timeout=timedelta(seconds=30))
        sizes = workflow.metric_meter().create_histogram("by-workflow", "what a workflow measures", "sizes")
        sizes.record(56)
        sizes.with_additional_attributes({"extra-label": 1234}).record(78)


async def test_a_page_read_right_after_the_result_has_it_all(address: str) -> None:
    """Thirty times, as this may be a race."""
    where = free_address()
    metrics = PrometheusConfig(bind_address=where)
    client = await Client.connect(
        address, runtime=Runtime(telemetry=TelemetryConfig(metrics=metrics, metric_prefix="mine_"))
    )
    async with new_worker(client, Measures, activities=[count]) as worker:
        for runs in range(1, 31):
            await client.execute_workflow(Measures.run, id=unique(), task_queue=worker.task_queue)
            # At once: not even the loop of events goes round.
            text = fetch(where)
            page = read(text)
            flow = {"namespace": "default", "task_queue": worker.task_queue, "workflow_type": "Measures"}
            hand = {"namespace": "default", "task_queue": worker.task_queue, "activity_type": "count"}
            service = {"service_name": "temporal-core-sdk"}
            assert page.value("by_workflow_sum", extra_label="1234", **flow, **service) == 78 * runs
            assert page.value("by_activity", extra_label="12.34", **hand, **service) == 34 * runs
            plain = [each for each in page.find("by_workflow_sum", **flow) if "extra_label" not in each.labels]
            assert [each.value for each in plain] == [56 * runs]
            plain = [each for each in page.find("by_activity", **hand) if "extra_label" not in each.labels]
            assert [each.value for each in plain] == [12 * runs]
            lines = text.splitlines()
            assert "# HELP by_workflow what a workflow measures" in lines
            assert "# HELP by_activity what an activity counts" in lines
            # Whole numbers are written without a point.
            assert any(line.startswith("by_workflow_sum{") and line.endswith(f"}} {78 * runs}") for line in lines)

        async def counted() -> None:
            """What the core counts when the server took the answer may come after the client's."""
            page = await scrape(where)
            assert page.value("mine_workflow_completed", workflow_type="Measures") == 30
            assert page.value("mine_workflow_endtoend_latency_count", workflow_type="Measures") == 30

        await eventually(counted)


async def test_a_buffer_emptied_right_after_the_end_of_the_worker_has_it_all(address: str) -> None:
    buffer = MetricBuffer(10_000)
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
    for _ in range(10):
        async with new_worker(client, Measures, activities=[count]) as worker:
            await client.execute_workflow(Measures.run, id=unique(), task_queue=worker.task_queue)
        updates = [
            update
            for update in buffer.retrieve_updates()
            if update.attributes.get("task_queue") == worker.task_queue
        ]
        seen = [(update.metric.name, update.metric.unit, update.value) for update in updates]
        assert [value for name, _, value in seen if name == "temporal_workflow_completed"] == [1]
        assert [each for each in seen if each[0] == "by-workflow"] == [
            ("by-workflow", "sizes", 56),
            ("by-workflow", "sizes", 78),
        ]
        assert [each for each in seen if each[0] == "by-activity"] == [
            ("by-activity", "things", 12),
            ("by-activity", "things", 34),
        ]


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"Hello, {name}!"


async def test_a_task_in_the_sandbox_takes_more_than_three_milliseconds_and_less_than_three_seconds(
    address: str,
) -> None:
    """From when the task came to when its answer was taken: what the sandbox imports anew is in it."""
    for form, unit in ((MetricBufferDurationFormat.MILLISECONDS, "ms"), (MetricBufferDurationFormat.SECONDS, "s")):
        buffer = MetricBuffer(10_000, duration_format=form)
        client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
        async with new_worker(client, Hello, workflow_runner=SandboxedWorkflowRunner()) as worker:
            await client.execute_workflow(Hello.run, "you", id=unique(), task_queue=worker.task_queue)
        took = [
            update
            for update in buffer.retrieve_updates()
            if update.metric.name == "temporal_workflow_task_execution_latency"
        ]
        assert took and {update.metric.unit for update in took} == {unit}
        if unit == "ms":
            assert all(isinstance(update.value, int) for update in took)
            assert any(update.value > 3 for update in took), took
        else:
            assert all(isinstance(update.value, float) for update in took)
            assert any(update.value < 3 for update in took)
