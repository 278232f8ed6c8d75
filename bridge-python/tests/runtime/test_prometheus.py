"""Metrics on a Prometheus endpoint: names, labels, suffixes, units, buckets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support import eventually, new_worker, unique
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from runtime.scrape import Page, free_address, scrape
from worker.programs import Greet, greet


class Shown:
    """A runtime with an endpoint, and a client of it."""

    def __init__(self, address: str, server: str, runtime: Runtime) -> None:
        self.address, self.server, self.runtime = address, server, runtime

    async def page(self) -> Page:
        return await scrape(self.address)

    async def run_greet(self) -> str:
        """Runs a workflow of one activity; the queue on which it ran."""
        client = await Client.connect(self.server, runtime=self.runtime)
        async with new_worker(client, Greet, activities=[greet]) as worker:
            await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        return worker.task_queue


def shown(server: str, telemetry: dict[str, Any] | None = None, **options: Any) -> Shown:
    address = free_address()
    config = TelemetryConfig(metrics=PrometheusConfig(bind_address=address, **options), **(telemetry or {}))
    return Shown(address, server, Runtime(telemetry=config))


async def test_a_workflow_leaves_its_counters_under_their_names(address: str) -> None:
    engine = shown(address)
    queue = await engine.run_greet()
    page = await engine.page()
    where = {"namespace": "default", "task_queue": queue}
    assert page.value("temporal_workflow_completed", workflow_type="Greet", **where) == 1
    assert page.value("temporal_worker_start", **where) == 1
    assert page.value("temporal_workflow_task_queue_poll_succeed", **where) >= 1
    assert page.value("temporal_activity_task_received", activity_type="greet", **where) == 1
    assert page.value("temporal_request", operation="StartWorkflowExecution", namespace="default") == 1
    assert page.value("temporal_request", operation="RespondWorkflowTaskCompleted", namespace="default") == 2
    assert page.value("temporal_long_request", operation="PollWorkflowTaskQueue", **where) >= 1
    assert page.types["temporal_workflow_completed"] == "counter"
    assert page.types["temporal_num_pollers"] == "gauge"
    assert page.types["temporal_request_latency"] == "histogram"


async def test_every_latency_of_a_plain_workflow_is_there_in_milliseconds(address: str) -> None:
    engine = shown(address)
    queue = await engine.run_greet()
    page = await engine.page()
    flow, hand = {"task_queue": queue, "workflow_type": "Greet"}, {"task_queue": queue, "activity_type": "greet"}
    assert page.value("temporal_workflow_endtoend_latency_count", **flow) == 1
    assert page.value("temporal_workflow_task_execution_latency_count", **flow) == 2
    assert page.value("temporal_workflow_task_schedule_to_start_latency_count", task_queue=queue) >= 1
    assert page.value("temporal_workflow_task_replay_latency_count", **flow) >= 1
    assert page.value("temporal_activity_execution_latency_count", **hand) == 1
    assert page.value("temporal_activity_succeed_endtoend_latency_count", **hand) == 1
    assert page.value("temporal_activity_schedule_to_start_latency_count", task_queue=queue) == 1
    # A run over a real server takes more than a millisecond; in seconds this would be below one.
    assert page.value("temporal_workflow_endtoend_latency_sum", **flow) >= 1


async def test_while_a_worker_runs_its_pollers_and_slots_are_shown_by_kind(address: str) -> None:
    engine = shown(address)
    client = await Client.connect(address, runtime=engine.runtime)
    async with new_worker(client, Greet, activities=[greet], max_concurrent_activities=7) as worker:

        async def polling() -> Page:
            page = await engine.page()
            pollers = {
                sample.labels["poller_type"]: sample.value
                for sample in page.find("temporal_num_pollers", task_queue=worker.task_queue)
            }
            assert pollers == {"workflow_task": 1, "sticky_workflow_task": 4, "activity_task": 5}
            return page

        page = await eventually(polling)
        slots = {
            sample.labels["worker_type"]: sample.value
            for sample in page.find("temporal_worker_task_slots_available", task_queue=worker.task_queue)
        }
        assert slots == {"WorkflowWorker": 100, "ActivityWorker": 7, "LocalActivityWorker": 100}

    async def over() -> None:
        page = await engine.page()
        assert [s.value for s in page.find("temporal_num_pollers", task_queue=worker.task_queue)] == [0, 0, 0]

    await eventually(over)


async def test_global_tags_and_the_service_name_are_on_every_metric(address: str) -> None:
    engine = shown(address, {"global_tags": {"site": "north", "rack": "7"}})
    await engine.run_greet()
    page = await engine.page()
    assert page.samples
    for sample in page.samples:
        assert (sample.labels.get("site"), sample.labels.get("rack")) == ("north", "7"), sample
        assert sample.labels.get("service_name") == "temporal-core-sdk", sample


async def test_the_service_name_can_be_left_off(address: str) -> None:
    engine = shown(address, {"attach_service_name": False})
    await engine.run_greet()
    page = await engine.page()
    assert page.samples and not [sample for sample in page.samples if "service_name" in sample.labels]


async def test_the_prefix_of_the_cores_metrics_can_be_chosen_and_leaves_others_alone(address: str) -> None:
    engine = shown(address, {"metric_prefix": "mine_"})
    engine.runtime.metric_meter.create_counter("theirs").add(3)
    await engine.run_greet()
    page = await engine.page()
    assert page.value("mine_workflow_completed", workflow_type="Greet") == 1
    assert page.value("theirs") == 3
    assert not [name for name in page.names() if name.startswith("temporal_")]


async def test_counters_end_in_total_if_asked(address: str) -> None:
    engine = shown(address, counters_total_suffix=True)
    await engine.run_greet()
    page = await engine.page()
    assert page.value("temporal_workflow_completed_total", workflow_type="Greet") == 1
    assert "temporal_workflow_completed" not in page.names()
    assert "temporal_num_pollers" in page.names()


async def test_units_are_part_of_the_name_if_asked(address: str) -> None:
    engine = shown(address, unit_suffix=True)
    await engine.run_greet()
    names = (await engine.page()).names()
    assert "temporal_workflow_endtoend_latency_milliseconds_count" in names
    assert "temporal_workflow_completed" in names


async def test_durations_are_seconds_if_asked(address: str) -> None:
    engine = shown(address, durations_as_seconds=True, unit_suffix=True)
    meter = engine.runtime.metric_meter
    meter.create_histogram_timedelta("nap", unit="duration").record(timedelta(milliseconds=1500))
    await engine.run_greet()
    page = await engine.page()
    assert page.value("temporal_workflow_endtoend_latency_seconds_count", workflow_type="Greet") == 1
    assert page.value("nap_seconds_sum") == 1.5


async def test_buckets_can_be_chosen_by_full_name_for_the_core_and_for_custom_histograms(address: str) -> None:
    buckets = {"temporal_request_latency": [10.0, 250.0], "mine": [1.0, 2.0, 4.0]}
    engine = shown(address, histogram_bucket_overrides=buckets)
    meter = engine.runtime.metric_meter
    meter.create_histogram("mine").record(3)
    meter.create_histogram_float("other").record(0.5)
    await engine.run_greet()
    page = await engine.page()
    assert page.bounds("temporal_request_latency", operation="StartWorkflowExecution") == ["10", "250", "+Inf"]
    assert page.bounds("mine") == ["1", "2", "4", "+Inf"]
    counts = {s.labels["le"]: s.value for s in page.find("mine_bucket")}
    assert counts == {"1": 0, "2": 0, "4": 1, "+Inf": 1}
    assert len(page.bounds("other")) > 4
    assert len(page.bounds("temporal_workflow_endtoend_latency", workflow_type="Greet")) > 4


async def test_a_part_of_the_name_is_enough_to_choose_buckets() -> None:
    address = free_address()
    buckets = {"latency": [7.0], "size": [8.0]}
    config = PrometheusConfig(bind_address=address, histogram_bucket_overrides=buckets)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=config))
    meter = runtime.metric_meter
    for name in ("my_latency", "latency_of_mine", "sizes", "weight"):
        meter.create_histogram(name).record(1)
    page = await scrape(address)
    assert [page.bounds(name)[0] for name in ("my_latency", "latency_of_mine", "sizes")] == ["7", "7", "8"]
    assert len(page.bounds("weight")) > 2


async def test_custom_instruments_of_every_kind_are_shown_with_their_attributes(address: str) -> None:
    engine = shown(address)
    meter = engine.runtime.metric_meter.with_additional_attributes({"who": "me", "n": 7, "f": 1.5, "b": True})
    meter.create_counter("counted", "How many").add(2)
    meter.create_counter("counted").add(3, {"who": "you"})
    meter.create_gauge("level").set(9)
    meter.create_gauge("level").set(4)
    meter.create_gauge_float("exact").set(0.25)
    meter.create_histogram("sizes", unit="bytes").record(10)
    meter.create_histogram_float("shares").record(0.5)
    meter.create_histogram_timedelta("naps").record(timedelta(seconds=2))
    page = await engine.page()
    assert page.find("counted", who="me", n="7", f="1.5", b="true")[0].value == 2
    assert page.value("counted", who="you", n="7") == 3
    assert page.value("level") == 4
    assert page.value("exact") == 0.25
    assert (page.value("sizes_sum"), page.value("sizes_count")) == (10, 1)
    assert page.value("shares_sum") == 0.5
    assert page.value("naps_sum") == 2000


async def test_two_runtimes_show_their_own_metrics_only(address: str) -> None:
    one, two = shown(address), shown(address)
    one.runtime.metric_meter.create_counter("mine").add(1)
    queue = await two.run_greet()
    first, second = await one.page(), await two.page()
    assert first.value("mine") == 1 and not first.find("temporal_workflow_completed")
    assert second.value("temporal_workflow_completed", task_queue=queue) == 1 and not second.find("mine")


async def test_an_address_in_use_is_refused_and_a_free_one_works_next() -> None:
    address = free_address()
    first = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    with pytest.raises(ValueError) as refused:
        Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    assert str(refused.value) == "Failed starting Prometheus exporter: Address already in use (os error 98)"
    first.metric_meter.create_counter("still").add(1)
    assert (await scrape(address)).value("still") == 1


@pytest.mark.parametrize("bind", ["nonsense", "127.0.0.1", "localhost:80", "127.0.0.1:99999"])
async def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(ValueError, match="^Invalid Prometheus address: invalid socket address syntax$"):
        Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=bind)))


async def test_calls_are_counted_by_the_task_queue_that_they_name(address: str) -> None:
    engine = shown(address)
    client = await Client.connect(address, runtime=engine.runtime)
    started, signalled, updated = unique("started"), unique("signalled"), unique("updated")
    handle = await client.start_workflow("Nobody", id=unique(), task_queue=started)
    with_signal = await client.start_workflow("Nobody", id=unique(), task_queue=signalled, start_signal="now")
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        "Nobody", id=unique(), task_queue=updated, id_conflict_policy=WorkflowIDConflictPolicy.FAIL
    )
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
        await client.execute_update_with_start_workflow(
            "ask", start_workflow_operation=start, rpc_timeout=timedelta(milliseconds=500)
        )
    await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace="default", task_queue=TaskQueue(name=started))
    )
    page = await engine.page()
    assert page.value("temporal_request", operation="StartWorkflowExecution", task_queue=started) == 1
    assert page.value("temporal_request", operation="SignalWithStartWorkflowExecution", task_queue=signalled) == 1
    # The server may ask for another try.
    assert page.value("temporal_long_request", operation="ExecuteMultiOperation", task_queue=updated) >= 1
    assert page.value("temporal_request", operation="DescribeTaskQueue", task_queue=started) == 1
    assert page.value("temporal_request_latency_count", operation="StartWorkflowExecution", task_queue=started) == 1
    assert "task_queue" not in page.find("temporal_request", operation="GetSystemInfo")[0].labels
    for one in (handle, with_signal):
        await one.terminate()
