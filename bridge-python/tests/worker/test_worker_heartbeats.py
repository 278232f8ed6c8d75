"""What a worker tells the server about itself every second."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import temporalio.service
from support import eventually, new_worker, unique
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import DescribeWorkerRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import ResourceBasedSlotConfig, WorkerTuner

from worker.programs import Greet, greet


async def beats(client: Client, queue: str) -> list[WorkerHeartbeat]:
    """The last heartbeats of the workers on a queue."""
    listed = await client.workflow_service.list_workers(
        ListWorkersRequest(namespace=client.namespace, query=f"TaskQueue = '{queue}'", page_size=100)
    )
    return [info.worker_heartbeat for info in listed.workers_info if info.worker_heartbeat.task_queue == queue]


async def beat_of(client: Client, queue: str, check: Callable[[WorkerHeartbeat], object] = bool) -> WorkerHeartbeat:
    """The heartbeat of the one worker on the queue as soon as it passes the check."""

    async def there() -> WorkerHeartbeat:
        found = await beats(client, queue)
        assert len(found) == 1
        described = await client.workflow_service.describe_worker(
            DescribeWorkerRequest(namespace=client.namespace, worker_instance_key=found[0].worker_instance_key)
        )
        assert check(described.worker_info.worker_heartbeat)
        return described.worker_info.worker_heartbeat

    return await eventually(there)


@pytest.fixture(scope="module")
async def beating(address: str) -> AsyncIterator[Client]:
    """A client whose workers tell of themselves every second."""
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1))
    yield await Client.connect(address, runtime=runtime)


async def test_a_worker_is_listed_with_who_it_is(beating: Client) -> None:
    name = unique("worker")
    async with new_worker(beating, Greet, activities=[greet], identity=name, build_id="b7") as worker:
        beat = await beat_of(beating, worker.task_queue)
    assert beat.worker_identity == name
    assert (beat.sdk_name, beat.sdk_version) == ("temporal-python", temporalio.service.__version__)
    assert beat.deployment_version.build_id == "b7"
    assert beat.status == WorkerStatus.WORKER_STATUS_RUNNING
    assert beat.host_info.process_id == str(os.getpid()) and beat.host_info.host_name
    assert 0 <= beat.host_info.current_host_mem_usage <= 1
    assert beat.worker_instance_key and beat.host_info.worker_grouping_key


async def test_slots_pollers_and_work_done_are_told(beating: Client) -> None:
    async with new_worker(beating, Greet, activities=[greet], max_concurrent_activities=7) as worker:
        queue = worker.task_queue
        for _ in range(3):
            await beating.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue)
        beat = await beat_of(beating, queue, lambda b: b.activity_task_slots_info.total_processed_tasks == 3)
    flows, hands = beat.workflow_task_slots_info, beat.activity_task_slots_info
    assert (hands.current_available_slots, hands.current_used_slots, hands.slot_supplier_kind) == (7, 0, "Fixed")
    assert (flows.current_available_slots, flows.total_processed_tasks) == (100, 6)
    assert flows.total_failed_tasks == hands.total_failed_tasks == 0
    assert (beat.workflow_poller_info.current_pollers, beat.workflow_sticky_poller_info.current_pollers) == (1, 4)
    assert beat.activity_poller_info.current_pollers == 5
    assert beat.total_sticky_cache_hit == 3


async def test_a_worker_that_is_gone_is_listed_as_shutting_down(beating: Client) -> None:
    async with new_worker(beating, Greet, activities=[greet]) as worker:
        key = (await beat_of(beating, worker.task_queue)).worker_instance_key
    beat = await beat_of(beating, worker.task_queue)
    assert beat.worker_instance_key == key
    assert beat.status == WorkerStatus.WORKER_STATUS_SHUTTING_DOWN


async def test_workers_of_one_process_share_a_group_but_not_a_key(beating: Client) -> None:
    async with new_worker(beating, Greet) as one, new_worker(beating, Greet) as other:
        first, second = [await beat_of(beating, worker.task_queue) for worker in (one, other)]
    assert first.worker_instance_key != second.worker_instance_key
    assert first.host_info.worker_grouping_key == second.host_info.worker_grouping_key


async def test_plugins_and_the_kind_of_slots_are_told(beating: Client) -> None:
    tuner = WorkerTuner.create_resource_based(
        target_memory_usage=0.9, target_cpu_usage=0.9, activity_config=ResourceBasedSlotConfig(minimum_slots=2)
    )
    plugins = [SimplePlugin("outlast-test")]
    async with new_worker(beating, Greet, activities=[greet], plugins=plugins, tuner=tuner) as worker:
        beat = await beat_of(beating, worker.task_queue)
    assert [plugin.name for plugin in beat.plugins] == ["outlast-test"]
    assert beat.activity_task_slots_info.slot_supplier_kind == "ResourceBased"


async def test_only_what_a_worker_does_has_pollers(beating: Client) -> None:
    async with new_worker(beating, activities=[greet]) as worker:
        beat = await beat_of(beating, worker.task_queue, lambda b: b.activity_poller_info.current_pollers == 5)
    assert beat.workflow_poller_info.current_pollers == beat.workflow_sticky_poller_info.current_pollers == 0
    assert beat.nexus_poller_info.current_pollers == 0
    assert beat.activity_task_slots_info.current_available_slots == 100
    idle = [beat.workflow_task_slots_info, beat.local_activity_slots_info, beat.nexus_task_slots_info]
    assert [(slots.current_available_slots, slots.slot_supplier_kind) for slots in idle] == [(0, "Fixed")] * 3
    group = beat.host_info.worker_grouping_key
    assert str(uuid.UUID(group)) == group


@pytest.mark.parametrize(("hidden", "known"), [(False, True), (True, False)])
async def test_the_environment_is_told_unless_forbidden(address: str, hidden: bool, known: bool) -> None:
    runtime = Runtime(
        telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1), disable_environment_info=hidden
    )
    client = await Client.connect(address, runtime=runtime)
    async with new_worker(client, Greet) as worker:
        beat: Any = await beat_of(client, worker.task_queue)
    assert beat.HasField("environment") is known


async def test_without_an_interval_a_worker_keeps_to_itself(address: str, beating: Client) -> None:
    silent = await Client.connect(
        address, runtime=Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=None)
    )
    async with new_worker(silent, Greet, activities=[greet]) as quiet, new_worker(beating, Greet) as loud:
        await silent.execute_workflow(Greet.run, "you", id=unique(), task_queue=quiet.task_queue)
        await beat_of(beating, loud.task_queue)
        assert await beats(beating, quiet.task_queue) == []
