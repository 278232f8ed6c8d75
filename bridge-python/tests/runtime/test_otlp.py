"""Metrics pushed to an OpenTelemetry collector over HTTP; the collector is a part of the test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from support import eventually, new_worker, unique
from temporalio.client import Client
from temporalio.runtime import OpenTelemetryConfig, OpenTelemetryMetricTemporality, Runtime, TelemetryConfig

from runtime.collector import Collector, Metric, Point
from worker.programs import Greet, greet

OFTEN = timedelta(milliseconds=50)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def exporting(collector: Collector, telemetry: dict[str, Any] | None = None, **options: Any) -> Runtime:
    options.setdefault("metric_periodicity", OFTEN)
    config = OpenTelemetryConfig(url=collector.url, http=True, **options)
    return Runtime(telemetry=TelemetryConfig(metrics=config, **(telemetry or {})))


async def exported(collector: Collector, name: str, times: int = 1) -> list[Metric]:
    """The exports of the metric as soon as there are so many."""

    async def there() -> list[Metric]:
        found = collector.find(name)
        assert len(found) >= times
        return found

    return await eventually(there)


def only(metric: Metric, **attributes: object) -> Point:
    [found] = [point for point in metric.points if attributes.items() <= point.attributes.items()]
    return found


async def test_custom_instruments_arrive_with_kind_unit_and_typed_attributes(collector: Collector) -> None:
    runtime = exporting(collector)
    meter = runtime.metric_meter
    meter.create_counter("counted", "How many", "widgets").add(3, {"s": "text", "i": 7, "f": 1.5, "b": True})
    meter.create_gauge("level").set(4)
    meter.create_gauge_float("exact").set(0.25)
    meter.create_histogram("sizes", unit="bytes").record(10)
    meter.create_histogram_float("shares").record(0.5)
    meter.create_histogram_timedelta("naps", unit="duration").record(timedelta(seconds=2))
    counted = (await exported(collector, "counted"))[0]
    assert (counted.kind, counted.description, counted.unit) == ("sum", "How many", "widgets")
    service = {"service_name": "temporal-core-sdk"}
    assert counted.points == [Point({"s": "text", "i": 7, "f": 1.5, "b": True} | service, 3)]
    level, exact, sizes, shares, naps = [
        (await exported(collector, name))[0] for name in ("level", "exact", "sizes", "shares", "naps")
    ]
    assert (level.kind, only(level).value) == ("gauge", 4)
    assert (exact.kind, only(exact).value) == ("gauge", 0.25)
    assert (sizes.kind, sizes.unit, only(sizes).value, only(sizes).count) == ("histogram", "bytes", 10, 1)
    assert (shares.kind, only(shares).value) == ("histogram", 0.5)
    assert (naps.kind, naps.unit, only(naps).value) == ("histogram", "ms", 2000)


async def test_the_core_reports_a_workflow(collector: Collector, address: str) -> None:
    runtime = exporting(collector, {"metric_prefix": "my_"})
    client = await Client.connect(address, runtime=runtime)
    async with new_worker(client, Greet, activities=[greet]) as worker:
        await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    completed = (await exported(collector, "my_workflow_completed"))[-1]
    where = {"namespace": "default", "task_queue": worker.task_queue, "workflow_type": "Greet"}
    assert only(completed, **where).value == 1
    latency = (await exported(collector, "my_workflow_task_execution_latency"))[-1]
    assert (latency.unit, latency.kind, only(latency, **where).count) == ("ms", "histogram", 2)
    assert not collector.find("temporal_workflow_completed")


async def test_headers_path_and_resource_are_those_of_the_config(collector: Collector) -> None:
    runtime = exporting(
        collector, {"global_tags": {"site": "north"}}, headers={"x-token": "secret", "x-other": "7"}
    )
    runtime.metric_meter.create_counter("counted").add(1)
    await exported(collector, "counted")
    export = collector.exports[0]
    assert export.path == "/v1/metrics"
    assert (export.headers["x-token"], export.headers["x-other"]) == ("secret", "7")
    assert export.headers["content-type"] == "application/x-protobuf"
    assert (export.resource["site"], export.resource["service.name"]) == ("north", "temporal-core-sdk")


@pytest.mark.parametrize(
    ("temporality", "code"),
    [(OpenTelemetryMetricTemporality.CUMULATIVE, 2), (OpenTelemetryMetricTemporality.DELTA, 1)],
)
async def test_sums_are_of_all_time_or_since_the_last_export(
    collector: Collector, temporality: OpenTelemetryMetricTemporality, code: int
) -> None:
    runtime = exporting(collector, metric_temporality=temporality)
    counter = runtime.metric_meter.create_counter("counted")
    counter.add(5)
    [first, *_] = await exported(collector, "counted")
    counter.add(2)

    async def caught_up() -> list[float]:
        values = [only(metric).value for metric in collector.find("counted")]
        total = values[-1] if temporality is OpenTelemetryMetricTemporality.CUMULATIVE else sum(values)
        assert total == 7
        return values

    values = await eventually(caught_up)
    assert first.temporality == code and values[0] == 5
    assert values[-1] == (7 if temporality is OpenTelemetryMetricTemporality.CUMULATIVE else values[-1])
    assert max(values) == (7 if temporality is OpenTelemetryMetricTemporality.CUMULATIVE else 5)


async def test_durations_and_buckets_are_as_asked(collector: Collector) -> None:
    runtime = exporting(collector, durations_as_seconds=True, histogram_bucket_overrides={"naps": [0.5, 1.0, 2.0]})
    runtime.metric_meter.create_histogram_timedelta("naps", unit="duration").record(timedelta(milliseconds=1500))
    naps = (await exported(collector, "naps"))[0]
    assert (naps.unit, only(naps).value, only(naps).bounds) == ("s", 1.5, (0.5, 1.0, 2.0))


async def test_exports_repeat_while_the_runtime_lives_and_the_last_comes_when_it_goes(collector: Collector) -> None:
    runtime = exporting(collector)
    counter = runtime.metric_meter.create_counter("counted")
    counter.add(1)
    await exported(collector, "counted", times=3)
    counter.add(1)
    del runtime, counter
    gc.collect()

    async def told() -> None:
        assert only(collector.find("counted")[-1]).value == 2

    await eventually(told)


async def test_a_collector_that_is_not_there_troubles_nobody(address: str) -> None:
    with Collector() as gone:
        config = OpenTelemetryConfig(url=gone.url, http=True, metric_periodicity=OFTEN)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=config, logging=None))
    client = await Client.connect(address, runtime=runtime)
    async with new_worker(client, Greet, activities=[greet]) as worker:
        assert (
            await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue) == "Hello, you!"
        )


@pytest.mark.parametrize("url", ["", "nonsense"])
@pytest.mark.parametrize("http", [True, False])
async def test_a_url_that_is_none_is_refused(url: str, http: bool) -> None:
    with pytest.raises(ValueError, match="^Invalid OTel URL: relative URL without a base$"):
        Runtime(telemetry=TelemetryConfig(metrics=OpenTelemetryConfig(url=url, http=http)))


@pytest.mark.parametrize(
    ("headers", "words"),
    [({"a b": "v"}, "invalid HTTP header name"), ({"k": "a\nb"}, "failed to parse header value")],
)
async def test_headers_that_cannot_be_sent_are_refused_for_grpc(headers: dict[str, str], words: str) -> None:
    config = OpenTelemetryConfig(url="http://127.0.0.1:1", headers=headers)
    with pytest.raises(ValueError, match=f"^Failed building OTel exporter: {words}$"):
        Runtime(telemetry=TelemetryConfig(metrics=config))
