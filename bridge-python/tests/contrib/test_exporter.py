"""Metrics of the engine's buffer that the package hands on to OpenTelemetry, and runtimes that export to nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from support import eventually
from temporalio.contrib.opentelemetry import MetricsExporter
from temporalio.runtime import MetricBuffer, OpenTelemetryConfig, Runtime, TelemetryConfig


class Export:
    """A runtime whose metrics go by way of an exporter to a reader."""

    def __init__(self) -> None:
        buffer = MetricBuffer(10_000)
        self.runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer, attach_service_name=False))
        self.reader = InMemoryMetricReader()
        self.exporter = MetricsExporter(buffer, MeterProvider(metric_readers=[self.reader]))

    def drained(self, name: str) -> Any:
        """The metric, after what is in the buffer was handed on."""
        self.exporter._drain_once()
        return self.read(name)

    def read(self, name: str) -> Any:
        data = self.reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        assert len(found) == 1, found
        return found[0]


def values(metric: Any) -> dict[tuple[tuple[str, Any], ...], float]:
    return {tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points}


@pytest.fixture
def export() -> Iterator[Export]:
    yield Export()


def test_counters_add_up(export: Export) -> None:
    counter = export.runtime.metric_meter.create_counter("counted", "what is counted", "pieces")
    counter.add(100)
    counter.with_additional_attributes({"colour": "red", "size": 3}).add(200)
    metric = export.drained("counted")
    assert (metric.description, metric.unit) == ("what is counted", "pieces")
    expected = {(): 100, (("colour", "red"), ("size", 3)): 200}
    assert values(metric) == expected
    assert values(export.drained("counted")) == expected
    counter.add(50)
    assert values(export.drained("counted"))[()] == 150


def test_gauges_are_replaced_and_histograms_gather(export: Export) -> None:
    meter = export.runtime.metric_meter
    gauge, histogram = meter.create_gauge_float("level"), meter.create_histogram_float("spread")
    for value in (1.5, 9.5):
        gauge.set(value)
        assert values(export.drained("level")) == {(): value}
    for value in (1.0, 2.0, 3.0):
        histogram.record(value)
    (point,) = export.drained("spread").data.data_points
    assert (point.count, point.sum) == (3, 6.0)


async def test_an_exporter_runs_beside_the_program(export: Export) -> None:
    export.exporter._poll_interval = timedelta(milliseconds=10)
    counter = export.runtime.metric_meter.create_counter("counted")
    async with export.exporter:
        counter.add(42)

        async def arrived() -> None:
            assert values(export.read("counted")) == {(): 42}

        await eventually(arrived)
    counter.add(1)
    assert values(export.drained("counted")) == {(): 43}


async def test_a_buffer_without_a_runtime_has_nothing_to_hand_on() -> None:
    exporter = MetricsExporter(MetricBuffer(10), MeterProvider(metric_readers=[InMemoryMetricReader()]))
    with pytest.raises(RuntimeError):
        exporter._drain_once()
    with pytest.raises(RuntimeError):
        await exporter.run()


@pytest.mark.parametrize("url", ["http://localhost:4317", "http://no-such-host:4317", "https://127.0.0.1:9"])
def test_runtimes_that_export_to_nobody_are_made_even_in_an_empty_environment(url: str) -> None:
    metrics = OpenTelemetryConfig(url=url, metric_periodicity=timedelta(milliseconds=20))
    with patch.dict(os.environ, clear=True):
        runtime = Runtime(telemetry=TelemetryConfig(metrics=metrics, global_tags={"service_name": "s"}))
        runtime.metric_meter.create_counter("counted").add(1)
        del runtime
