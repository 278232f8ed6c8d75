"""What a worker may be made of: every refusal with its words, and what is refused twice on one queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    FixedSizeSlotSupplier,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from worker.programs import Echo, Greet, greet


@workflow.defn(name="Echo")
class AnotherEcho:
    @workflow.run
    async def run(self) -> None: ...


@activity.defn(name="greet")
async def another_greet() -> None: ...


@activity.defn
def blocking() -> None: ...


async def undecorated() -> None: ...


def resources(memory: float) -> ResourceBasedSlotSupplier:
    return ResourceBasedSlotSupplier(ResourceBasedSlotConfig(), ResourceBasedTunerConfig(memory, 0.5))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, ValueError, "At least one activity, Nexus service, or workflow must be specified"),
        ({"workflows": [Echo, AnotherEcho]}, ValueError, "More than one workflow named Echo"),
        ({"activities": [greet, another_greet]}, ValueError, "More than one activity named greet"),
        (
            {"activities": [blocking]},
            ValueError,
            "Activity blocking is not async so an activity_executor must be present",
        ),
        (
            {"activities": [undecorated]},
            TypeError,
            "Activity undecorated missing attributes, was it decorated with @activity.defn?",
        ),
        (
            {"workflows": [dict]},
            ValueError,
            "Workflow dict missing attributes, was it decorated with @workflow.defn?",
        ),
        (
            {"workflows": [Echo], "use_worker_versioning": True},
            ValueError,
            "build_id must be specified when use_worker_versioning is True",
        ),
        (
            {"workflows": [Echo], "tuner": WorkerTuner.create_fixed(), "max_concurrent_activities": 2},
            ValueError,
            "Cannot specify max_concurrent_workflow_tasks, max_concurrent_activities, "
            "max_concurrent_local_activities, or max_concurrent_nexus_tasks when also specifying tuner",
        ),
    ],
)
async def test_a_registration_that_makes_no_sense_is_refused(
    client: Client, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refused:
        Worker(client, task_queue=unique("queue"), **options)
    assert str(refused.value) == words


def deployment(name: str, build: str) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(name, build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


NAMELESS = (
    "WorkerDeploymentVersion must have a non-empty build_id and deployment_name "
    "when deployment-based versioning is enabled"
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"workflow_task_poller_behavior": PollerBehaviorSimpleMaximum(1)},
            "`max_cached_workflows` > 0 requires `workflow_task_poller_behavior` to be at least 2",
        ),
        (
            {"workflow_task_poller_behavior": PollerBehaviorSimpleMaximum(0), "max_cached_workflows": 0},
            "SimpleMaximum poller behavior must be at least 1",
        ),
        (
            {"activity_task_poller_behavior": PollerBehaviorSimpleMaximum(0)},
            "SimpleMaximum poller behavior must be at least 1",
        ),
        (
            {"nexus_task_poller_behavior": PollerBehaviorSimpleMaximum(0)},
            "SimpleMaximum poller behavior must be at least 1",
        ),
        (
            {"activity_task_poller_behavior": PollerBehaviorAutoscaling(minimum=0, maximum=2, initial=1)},
            "Autoscaling minimum poller behavior must be at least 1",
        ),
        (
            {"activity_task_poller_behavior": PollerBehaviorAutoscaling(minimum=3, maximum=2, initial=2)},
            "Autoscaling maximum must be greater than or equal to minimum",
        ),
        (
            {"workflow_task_poller_behavior": PollerBehaviorAutoscaling(minimum=2, maximum=5, initial=9)},
            "Autoscaling initial must be between minimum and maximum",
        ),
        (
            {"nexus_task_poller_behavior": PollerBehaviorAutoscaling(minimum=2, maximum=5, initial=1)},
            "Autoscaling initial must be between minimum and maximum",
        ),
        ({"max_activities_per_second": 0.0}, "`max_worker_activities_per_second` must be positive and nonzero"),
        ({"max_activities_per_second": -1.0}, "`max_worker_activities_per_second` must be positive and nonzero"),
        ({"deployment_config": deployment("shop", "")}, NAMELESS),
        ({"deployment_config": deployment("", "7")}, NAMELESS),
    ],
)
async def test_the_core_refuses_settings_that_cannot_work_and_leaves_the_queue_free(
    client: Client, options: dict[str, Any], words: str
) -> None:
    queue = unique("queue")
    with pytest.raises(ValueError) as refused:
        Worker(client, task_queue=queue, workflows=[Greet], activities=[greet], **options)
    assert str(refused.value) == f"Invalid worker config: {words}"
    async with Worker(client, task_queue=queue, workflows=[Greet], activities=[greet]):
        assert await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue) == "Hello, you!"


@pytest.mark.parametrize(
    ("options", "field", "cause"),
    [
        ({"max_cached_workflows": -1}, "max_cached_workflows", OverflowError),
        ({"identity": 7}, "identity_override", TypeError),
        ({"graceful_shutdown_timeout": timedelta(seconds=-1)}, "graceful_shutdown_period_millis", OverflowError),
        ({"max_activities_per_second": "many"}, "max_activities_per_second", TypeError),
        ({"max_concurrent_activities": -1}, "tuner", None),
    ],
)
async def test_a_setting_of_the_wrong_type_is_named(
    client: Client, options: dict[str, Any], field: str, cause: type[Exception] | None
) -> None:
    with pytest.raises(TypeError) as refused:
        Worker(client, task_queue=unique("queue"), activities=[greet], **options)
    assert str(refused.value) == f"failed to extract field WorkerConfig.{field}"
    assert cause is None or isinstance(refused.value.__cause__, cause)


async def test_resource_based_suppliers_of_one_worker_share_one_target(client: Client) -> None:
    tuner = WorkerTuner.create_composite(
        workflow_supplier=resources(0.5),
        activity_supplier=resources(0.6),
        local_activity_supplier=FixedSizeSlotSupplier(1),
        nexus_supplier=FixedSizeSlotSupplier(1),
    )
    with pytest.raises(ValueError) as refused:
        Worker(client, task_queue=unique("queue"), workflows=[Greet], activities=[greet], tuner=tuner)
    assert str(refused.value) == "All resource-based slot suppliers must have the same ResourceBasedTunerOptions"


OVERLAP = (
    "Registration of multiple workers with overlapping worker task types on the same namespace, task queue, "
    "and deployment build ID not allowed"
)


async def test_a_second_worker_for_the_same_tasks_is_refused_until_the_first_has_shut_down(client: Client) -> None:
    queue = unique("queue")
    async with Worker(client, task_queue=queue, workflows=[Echo]):
        with pytest.raises(RuntimeError) as refused:
            Worker(client, task_queue=queue, workflows=[Greet])
        assert str(refused.value).startswith("Failed creating worker\n\nCaused by:\n    " + OVERLAP)
    async with Worker(client, task_queue=queue, workflows=[Greet], activities=[greet]):
        assert await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue) == "Hello, you!"


async def test_workers_for_different_tasks_share_a_queue_and_a_client(client: Client) -> None:
    queue = unique("queue")
    async with (
        Worker(client, task_queue=queue, workflows=[Greet], identity="flows"),
        Worker(client, task_queue=queue, activities=[greet], identity="hands"),
    ):
        assert await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=queue) == "Hello, you!"


async def test_one_client_has_workers_on_two_queues(client: Client) -> None:
    async with new_worker(client, Echo) as one, new_worker(client, Echo) as other:
        both = [
            await client.execute_workflow(Echo.run, worker.task_queue, id=unique(), task_queue=worker.task_queue)
            for worker in (one, other)
        ]
    assert both == [one.task_queue, other.task_queue]


async def test_two_clients_may_each_have_a_worker_on_one_queue(client: Client, address: str) -> None:
    other = await Client.connect(address)
    queue = unique("queue")
    async with (
        Worker(client, task_queue=queue, workflows=[Echo]),
        Worker(other, task_queue=queue, workflows=[Echo]),
    ):
        ran = [await client.execute_workflow(Echo.run, i, id=unique(), task_queue=queue) for i in range(4)]
    assert ran == [0, 1, 2, 3]


async def test_two_builds_of_one_deployment_share_a_queue_and_a_client(client: Client) -> None:
    queue, name = unique("queue"), unique("deployment")
    first = Worker(client, task_queue=queue, workflows=[Echo], deployment_config=deployment(name, "1"))
    second = Worker(client, task_queue=queue, workflows=[Echo], deployment_config=deployment(name, "2"))
    with pytest.raises(RuntimeError, match="overlapping worker task types"):
        Worker(client, task_queue=queue, workflows=[Echo], deployment_config=deployment(name, "2"))
    assert first.task_queue == second.task_queue
