"""Eager starts and eager activities: work that comes with the answer instead of through a queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client
    from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def number(n: int) -> int:
    return n


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"Hello, {name}"


async def test_an_eager_start_brings_the_first_task_to_a_worker_of_the_same_client(client: Client) -> None:
    async with new_worker(client, Hello) as worker:
        handle = await client.start_workflow(
            Hello.run, "you", id=unique(), task_queue=worker.task_queue, request_eager_start=True
        )
        assert await handle.result() == "Hello, you"
        assert getattr(handle, "__temporal_eagerly_started") is True
    started = (await found(handle, "workflow_execution_started"))[0]
    assert started.eager_execution_accepted
    assert await kinds(handle) == [
        "workflow_execution_started",
        "workflow_task_scheduled",
        "workflow_task_started",
        "workflow_task_completed",
        "workflow_execution_completed",
    ]
    await replay(handle, Hello)


@pytest.mark.parametrize("asked", ["not asked", "no worker", "other client"])
async def test_without_a_request_or_a_worker_of_this_client_a_start_is_not_eager(
    client: Client, address: str, asked: str
) -> None:
    starter = await Client.connect(address) if asked == "other client" else client
    queue = unique("queue")
    if asked == "no worker":
        handle = await starter.start_workflow(Hello.run, "you", id=unique(), task_queue=queue, request_eager_start=True)
        async with new_worker(client, Hello, task_queue=queue):
            assert await handle.result() == "Hello, you"
    else:
        async with new_worker(client, Hello, task_queue=queue):
            handle = await starter.start_workflow(
                Hello.run, "you", id=unique(), task_queue=queue, request_eager_start=asked != "not asked"
            )
            assert await handle.result() == "Hello, you"
    assert getattr(handle, "__temporal_eagerly_started") is False
    assert not (await found(handle, "workflow_execution_started"))[0].eager_execution_accepted


@workflow.defn
class Waiting:
    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.done)
        return await workflow.execute_activity(number, 5, start_to_close_timeout=TIMEOUT)

    @workflow.update
    def finish(self) -> str:
        self.done = True
        return "finishing"


async def test_an_eagerly_started_workflow_lives_on_like_any_other(client: Client) -> None:
    async with new_worker(client, Waiting, activities=[number], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(
            Waiting.run, id=unique(), task_queue=worker.task_queue, request_eager_start=True
        )
        assert await handle.execute_update(Waiting.finish) == "finishing"
        assert await handle.result() == 5
        assert getattr(handle, "__temporal_eagerly_started") is True
    assert "workflow_task_failed" not in await kinds(handle)
    assert "workflow_task_timed_out" not in await kinds(handle)
    await replay(handle, Waiting)


@workflow.defn
class Fan:
    @workflow.run
    async def run(self, count: int, queue: str | None) -> list[int]:
        handles = [
            workflow.start_activity(number, n, start_to_close_timeout=TIMEOUT, task_queue=queue) for n in range(count)
        ]
        return [await handle for handle in handles]


def eager(metrics: MetricBuffer) -> list[bool]:
    """Of each activity task that a worker received, whether it was eager."""
    received = [u for u in metrics.retrieve_updates() if u.metric.name == "temporal_activity_task_received"]
    return sorted(update.attributes["eager"] is True for update in received)


@pytest.mark.parametrize("how", ["default", "disabled", "limit of one", "queue limited"])
async def test_activities_are_dispatched_eagerly_up_to_the_limit(address: str, how: str) -> None:
    metrics = MetricBuffer(10_000)
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=metrics)))
    cases: dict[str, tuple[dict[str, Any], int]] = {
        "default": ({}, 3),
        "disabled": ({"disable_eager_activity_execution": True}, 0),
        "limit of one": ({"max_eager_activity_reservations_per_workflow_task": 1}, 1),
        "queue limited": ({"max_task_queue_activities_per_second": 1000.0}, 0),
    }
    options, count = cases[how]
    async with new_worker(client, Fan, activities=[number], **options) as worker:
        handle = await client.start_workflow(Fan.run, args=[5, None], id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == [0, 1, 2, 3, 4]
    assert eager(metrics) == [False] * (5 - count) + [True] * count
    assert len(await found(handle, "activity_task_completed")) == 5
    await replay(handle, Fan)


async def test_activities_of_another_queue_go_there(client: Client) -> None:
    async with new_worker(client, Fan, activities=[number]) as here, new_worker(client, activities=[number]) as there:
        handle = await client.start_workflow(
            Fan.run, args=[3, there.task_queue], id=unique(), task_queue=here.task_queue
        )
        assert await handle.result() == [0, 1, 2]
    assert {event.task_queue.name for event in await found(handle, "activity_task_scheduled")} == {there.task_queue}
