"""The Prometheus endpoint to the letter: its page, which limits histograms have, when polls are counted."""

from __future__ import annotations

import http.client
from datetime import timedelta

import pytest
from support import eventually, new_worker
from temporalio.client import Client

from runtime.test_prometheus import shown
from worker.programs import Greet, greet

GENERAL = [50.0, 100.0, 500.0, 1000.0, 2500.0, 10000.0]


def limits(bounds: list[str]) -> list[float]:
    """The upper limits of one series, but for the last one, which is infinite."""
    return [float(bound) for bound in bounds[: bounds.index("+Inf")]]


@pytest.mark.parametrize(
    "path, status, kind", [("/metrics", 200, "text/plain; version=0.0.4"), ("/", 404, None), ("/other", 404, None)]
)
async def test_there_is_one_page(address: str, path: str, status: int, kind: str | None) -> None:
    engine = shown(address)
    await Client.connect(address, runtime=engine.runtime)
    asked = http.client.HTTPConnection(engine.address, timeout=10)
    asked.request("GET", path)
    answer = asked.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (status, kind)


async def test_under_another_prefix_all_histograms_have_the_general_limits(address: str) -> None:
    engine = shown(address, {"metric_prefix": "my_"})
    await engine.run_greet()
    page = await engine.page()
    for name in ("workflow_endtoend", "workflow_task_execution", "activity_execution", "activity_schedule_to_start"):
        assert limits(page.bounds(f"my_{name}_latency")) == GENERAL


async def test_seconds_are_the_unit_of_limits_for_numbers_of_every_kind(address: str) -> None:
    engine = shown(address, durations_as_seconds=True)
    meter = engine.runtime.metric_meter
    meter.create_histogram("whole").record(1)
    meter.create_histogram_float("float").record(1.0)
    meter.create_histogram_timedelta("time").record(timedelta(seconds=1))
    page = await engine.page()
    for name in ("whole", "float", "time"):
        assert limits(page.bounds(name)) == [limit / 1000 for limit in GENERAL]


async def test_a_poll_counts_when_it_begins(address: str) -> None:
    engine = shown(address)
    client = await Client.connect(address, runtime=engine.runtime)
    async with new_worker(client, Greet, activities=[greet]) as worker:

        async def polls() -> None:
            page = await engine.page()
            for operation in ("PollWorkflowTaskQueue", "PollActivityTaskQueue"):
                labels = {"task_queue": worker.task_queue, "operation": operation}
                assert page.value("temporal_long_request", **labels) >= 1
                assert not page.find("temporal_long_request_latency_count", **labels)

        await eventually(polls)
