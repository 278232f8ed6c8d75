"""Metrics kept in a buffer: what every update says, who shares which object, and what the core adds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BUFFERED_METRIC_KIND_HISTOGRAM,
    BufferedMetricUpdate,
    MetricBuffer,
    MetricBufferDurationFormat,
    Runtime,
    TelemetryConfig,
)

from worker.programs import BRIEF, Collect, FanOut, Greet, GreetLocally, double, greet

SERVICE = {"service_name": "temporal-core-sdk"}


class Buffered:
    """A runtime with a buffer, and all that was ever in it."""

    def __init__(self, **options: object) -> None:
        self.buffer = MetricBuffer(100_000)
        self.runtime = Runtime(telemetry=TelemetryConfig(metrics=self.buffer, **options))  # type: ignore[arg-type]
        self.updates: list[BufferedMetricUpdate] = []

    def find(self, name: str, **attributes: object) -> list[BufferedMetricUpdate]:
        self.updates += self.buffer.retrieve_updates()
        wanted = attributes.items()
        return [u for u in self.updates if u.metric.name == name and wanted <= u.attributes.items()]

    def total(self, name: str, **attributes: object) -> float:
        return sum(update.value for update in self.find(name, **attributes))


def meter_and_buffer() -> tuple[MetricMeter, MetricBuffer]:
    buffer = MetricBuffer(1000)
    return Runtime(telemetry=TelemetryConfig(metrics=buffer)).metric_meter, buffer


def test_every_kind_of_instrument_is_buffered_in_order() -> None:
    meter, buffer = meter_and_buffer()
    meter.create_counter("c", "a counter", "widgets").add(3)
    meter.create_gauge("g", "a gauge").set(4)
    meter.create_gauge_float("gf").set(0.25)
    meter.create_histogram("h", unit="bytes").record(10)
    meter.create_histogram_float("hf").record(0.5)
    meter.create_histogram_timedelta("d", unit="duration").record(timedelta(milliseconds=1500))
    updates = buffer.retrieve_updates()
    metrics = [(update.metric, update.value) for update in updates]
    assert [(m.name, m.description, m.unit, m.kind, value) for m, value in metrics] == [
        ("c", "a counter", "widgets", BUFFERED_METRIC_KIND_COUNTER, 3),
        ("g", "a gauge", None, BUFFERED_METRIC_KIND_GAUGE, 4),
        ("gf", None, None, BUFFERED_METRIC_KIND_GAUGE, 0.25),
        ("h", None, "bytes", BUFFERED_METRIC_KIND_HISTOGRAM, 10),
        ("hf", None, None, BUFFERED_METRIC_KIND_HISTOGRAM, 0.5),
        ("d", None, "ms", BUFFERED_METRIC_KIND_HISTOGRAM, 1500),
    ]
    assert buffer.retrieve_updates() == []


def test_values_keep_their_python_types() -> None:
    meter, buffer = meter_and_buffer()
    meter.create_counter("c").add(1)
    meter.create_gauge_float("gf").set(2.0)
    meter.create_histogram_timedelta("d").record(timedelta(seconds=1))
    assert [type(update.value) for update in buffer.retrieve_updates()] == [int, float, int]


def test_durations_are_seconds_if_asked() -> None:
    buffer = MetricBuffer(1000, MetricBufferDurationFormat.SECONDS)
    meter = Runtime(telemetry=TelemetryConfig(metrics=buffer)).metric_meter
    meter.create_histogram_timedelta("d", unit="duration").record(timedelta(milliseconds=1500))
    meter.create_histogram_timedelta("e", unit="naps").record(timedelta(seconds=2))
    meter.create_histogram("h").record(7)
    assert [(u.metric.unit, u.value) for u in buffer.retrieve_updates()] == [("s", 1.5), ("naps", 2.0), (None, 7)]


def test_attributes_add_up_and_keep_their_types() -> None:
    meter, buffer = meter_and_buffer()
    inner = meter.with_additional_attributes({"s": "text", "i": 7, "shared": "outer"})
    counter = inner.create_counter("c")
    counter.add(1, {"f": 1.5, "b": True, "shared": "call"})
    counter.with_additional_attributes({"k": "v"}).add(1)
    counter.add(1)
    first, second, third = [update.attributes for update in buffer.retrieve_updates()]
    assert first == SERVICE | {"s": "text", "i": 7, "f": 1.5, "b": True, "shared": "call"}
    assert [type(first[name]) for name in ("s", "i", "f", "b")] == [str, int, float, bool]
    assert second == SERVICE | {"s": "text", "i": 7, "shared": "outer", "k": "v"}
    assert third == SERVICE | {"s": "text", "i": 7, "shared": "outer"}


def test_an_attribute_of_another_type_is_refused() -> None:
    meter, _ = meter_and_buffer()
    with pytest.raises(TypeError) as refused:
        meter.create_counter("c").add(1, {"list": [1]})  # type: ignore[dict-item]
    assert str(refused.value) == "Invalid value type for key list, must be str, int, float, or bool"


def test_negative_values_are_refused_and_nothing_is_kept() -> None:
    meter, buffer = meter_and_buffer()
    attempts: list[Callable[[], None]] = [
        lambda: meter.create_counter("c").add(-1),
        lambda: meter.create_gauge("g").set(-1),
        lambda: meter.create_histogram("h").record(-1),
        lambda: meter.create_histogram_timedelta("d").record(timedelta(seconds=-1)),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="negative"):
            attempt()
    assert buffer.retrieve_updates() == []


def test_one_instrument_is_one_object_and_one_set_of_attributes_is_one_dict() -> None:
    meter, buffer = meter_and_buffer()
    counter = meter.create_counter("c").with_additional_attributes({"k": "v"})
    counter.add(1)
    counter.add(2)
    first, second = buffer.retrieve_updates()
    counter.add(3)
    [third] = buffer.retrieve_updates()
    assert first.metric is second.metric is third.metric
    assert first.attributes is second.attributes is third.attributes


def test_a_full_buffer_drops_what_comes_after() -> None:
    buffer = MetricBuffer(10)
    counter = Runtime(telemetry=TelemetryConfig(metrics=buffer, logging=None)).metric_meter.create_counter("c")
    for value in range(1, 200):
        counter.add(value)
    kept = [update.value for update in buffer.retrieve_updates()]
    assert kept == list(range(1, len(kept) + 1)) and 1 <= len(kept) <= 10
    counter.add(7)
    assert buffer.retrieve_updates()[-1].value == 7


def test_a_buffer_without_a_runtime_has_nothing_to_give() -> None:
    with pytest.raises(RuntimeError, match="^Attempting to retrieve updates before runtime created$"):
        MetricBuffer(10).retrieve_updates()


def test_without_metrics_the_meter_does_nothing() -> None:
    meter = Runtime(telemetry=TelemetryConfig()).metric_meter
    assert meter is MetricMeter.noop
    meter.create_counter("c").add(1)


@activity.defn
async def measure(name: str) -> str:
    meter = activity.metric_meter()
    meter.create_counter("activity_counted").add(1, {"name": name})
    return name


@workflow.defn
class Measure:
    """Counts before and after an activity: with no cache the first count is replayed."""

    @workflow.run
    async def run(self) -> None:
        counter = workflow.metric_meter().create_counter("workflow_counted")
        counter.add(1, {"step": "before"})
        await workflow.execute_activity(measure, "a", start_to_close_timeout=BRIEF)
        counter.add(1, {"step": "after"})


async def test_workflows_and_activities_measure_with_their_own_labels_and_replay_is_silent(address: str) -> None:
    kept = Buffered()
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, Measure, activities=[measure], max_cached_workflows=0) as worker:
        await client.execute_workflow(Measure.run, id=unique(), task_queue=worker.task_queue)
    flow = {"namespace": "default", "task_queue": worker.task_queue, "workflow_type": "Measure"}
    for step in ("before", "after"):
        assert [u.attributes for u in kept.find("workflow_counted", step=step)] == [SERVICE | flow | {"step": step}]
    hand = {"namespace": "default", "task_queue": worker.task_queue, "activity_type": "measure"}
    assert [u.attributes for u in kept.find("activity_counted")] == [SERVICE | hand | {"name": "a"}]


async def test_the_core_counts_what_became_of_workflows_and_activities(address: str) -> None:
    @activity.defn(name="double")
    async def fails(_: int) -> int:
        raise ValueError("no")

    kept = Buffered()
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, Greet, GreetLocally, FanOut, Collect, activities=[greet, fails]) as worker:
        queue = worker.task_queue
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue)
        await client.execute_workflow(GreetLocally.run, "you", id=unique(), task_queue=queue)
        handle = await client.start_workflow(FanOut.run, args=["double", 1], id=unique(), task_queue=queue)

        async def failed() -> None:
            assert kept.total("temporal_activity_execution_failed", activity_type="double") == 1

        await eventually(failed)
        await handle.terminate()
        cancelled = await client.start_workflow(Collect.run, id=unique(), task_queue=queue)
        await cancelled.execute_update(Collect.ask, "x")
        await cancelled.cancel()

        async def gone() -> None:
            assert kept.total("temporal_workflow_canceled", workflow_type="Collect", task_queue=queue) == 1

        await eventually(gone)
    assert kept.total("temporal_workflow_completed", workflow_type="Greet", task_queue=queue) == 1
    assert kept.total("temporal_workflow_completed", workflow_type="GreetLocally", task_queue=queue) == 1
    assert kept.total("temporal_local_activity_total", activity_type="greet", task_queue=queue) == 1
    assert kept.total("temporal_activity_task_received", activity_type="greet", task_queue=queue) == 1
    assert not kept.find("temporal_workflow_failed")
    received = kept.find("temporal_activity_task_received", activity_type="greet")[0]
    assert received.metric.kind == BUFFERED_METRIC_KIND_COUNTER
    assert received.metric.description == "Count of activity task queue poll successes"
    latency = kept.find("temporal_workflow_task_execution_latency", task_queue=queue)[0]
    assert (latency.metric.unit, latency.metric.kind) == ("ms", BUFFERED_METRIC_KIND_HISTOGRAM)


async def test_long_polls_and_short_requests_are_counted_apart(address: str) -> None:
    kept = Buffered()
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, Greet, activities=[greet]) as worker:
        queue = worker.task_queue
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue)
        with pytest.raises(Exception, match="not found"):
            await client.get_workflow_handle("nobody").describe()

    def operations(name: str) -> set[object]:
        return {update.attributes["operation"] for update in kept.find(name)}

    assert {"PollWorkflowTaskQueue", "GetWorkflowExecutionHistory"} <= operations("temporal_long_request")
    assert {"GetSystemInfo", "StartWorkflowExecution", "RespondWorkflowTaskCompleted"} <= operations("temporal_request")
    assert "PollWorkflowTaskQueue" not in operations("temporal_request")
    assert operations("temporal_request_failure") == {"DescribeWorkflowExecution"}
    assert {"PollWorkflowTaskQueue", "GetWorkflowExecutionHistory"} <= operations("temporal_long_request_latency")
    [failure] = kept.find("temporal_request_failure")
    assert failure.attributes == SERVICE | {
        "operation": "DescribeWorkflowExecution",
        "namespace": "default",
        "status_code": "NOT_FOUND",
    }
    polls = kept.find("temporal_long_request", operation="PollWorkflowTaskQueue")
    assert {update.attributes["task_queue"] for update in polls} == {queue}


async def test_the_number_of_pollers_follows_the_worker_by_type(address: str) -> None:
    kept = Buffered()
    client = await Client.connect(address, runtime=kept.runtime)

    def pollers(queue: str) -> dict[object, object]:
        """The last value of each type."""
        return {u.attributes["poller_type"]: u.value for u in kept.find("temporal_num_pollers", task_queue=queue)}

    async with new_worker(
        client,
        Greet,
        activities=[greet],
        max_concurrent_workflow_task_polls=6,
        nonsticky_to_sticky_poll_ratio=0.5,
        max_concurrent_activity_task_polls=3,
    ) as worker:

        async def all_there() -> None:
            assert pollers(worker.task_queue) == {"workflow_task": 3, "sticky_workflow_task": 3, "activity_task": 3}

        await eventually(all_there)

    async def all_gone() -> None:
        assert set(pollers(worker.task_queue).values()) == {0}

    await eventually(all_gone)


async def test_hits_and_misses_and_evictions_of_the_cache_are_counted(address: str) -> None:
    kept = Buffered()
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, Collect, max_cached_workflows=1) as worker:
        queue = worker.task_queue
        first = await client.start_workflow(Collect.run, id=unique(), task_queue=queue)
        await first.execute_update(Collect.ask, "a")
        await first.execute_update(Collect.ask, "b")
        hits = kept.total("temporal_sticky_cache_hit", task_queue=queue)
        second = await client.start_workflow(Collect.run, id=unique(), task_queue=queue)
        await second.execute_update(Collect.ask, "c")
        await first.execute_update(Collect.ask, "d")
        for handle in (first, second):
            await handle.signal(Collect.say, "stop")
            assert (await handle.result())[-1] == "stop"
    assert hits >= 1
    assert kept.total("temporal_sticky_cache_total_forced_eviction", task_queue=queue) >= 2
    assert max(u.value for u in kept.find("temporal_sticky_cache_size", task_queue=queue)) == 1


@workflow.defn
class Stumble:
    @workflow.run
    async def run(self) -> None:
        raise RuntimeError("a bug")


async def test_a_metric_of_a_failing_workflow_task_names_its_reason(address: str) -> None:
    kept = Buffered(logging=None)
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, Stumble) as worker:
        handle = await client.start_workflow(Stumble.run, id=unique(), task_queue=worker.task_queue)

        async def failed() -> BufferedMetricUpdate:
            found = kept.find("temporal_workflow_task_execution_failed", task_queue=worker.task_queue)
            assert found
            return found[0]

        update = await eventually(failed)
        await handle.terminate()
    assert update.attributes["workflow_type"] == "Stumble"
    assert update.attributes["failure_reason"] == "WorkflowError"


async def test_global_tags_stay_out_of_the_buffer_and_the_prefix_applies(address: str) -> None:
    kept = Buffered(global_tags={"site": "north"}, metric_prefix="x_", attach_service_name=False)
    kept.runtime.metric_meter.create_counter("own").add(1)
    client = await Client.connect(address, runtime=kept.runtime)
    async with new_worker(client, FanOut, activities=[double]) as worker:
        await client.execute_workflow(FanOut.run, args=["double", 2], id=unique(), task_queue=worker.task_queue)
    assert [u.attributes for u in kept.find("own")] == [{}]
    [completed] = kept.find("x_workflow_completed")
    assert "site" not in completed.attributes and "service_name" not in completed.attributes


async def test_two_runtimes_keep_their_own(address: str) -> None:
    one, two = Buffered(), Buffered()
    one.runtime.metric_meter.create_counter("mine").add(1)
    client = await Client.connect(address, runtime=two.runtime)
    await client.count_workflows("WorkflowId = 'none'")
    assert one.total("mine") == 1 and not one.find("temporal_request")
    assert two.total("temporal_request", operation="CountWorkflowExecutions") == 1 and not two.find("mine")
