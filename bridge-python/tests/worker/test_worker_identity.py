"""How a worker names itself: in histories, to those who ask for the pollers of a queue, in its own tasks."""

from __future__ import annotations

import temporalio.api.enums.v1 as enums
import temporalio.service
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from worker.programs import BRIEF, Echo, Greet, events, greet, kinds, only


async def test_the_identity_of_a_worker_is_on_what_it_did(client: Client) -> None:
    name = unique("worker")
    async with new_worker(client, Greet, activities=[greet], identity=name) as worker:
        handle = await client.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        await handle.result()
    history = await events(handle)
    attributes = [event.workflow_task_started_event_attributes for event in history]
    assert {a.identity for a in attributes if a.identity} == {name}
    assert only(history, "ACTIVITY_TASK_STARTED").activity_task_started_event_attributes.identity == name
    assert only(history, "ACTIVITY_TASK_COMPLETED").activity_task_completed_event_attributes.identity == name
    started = only(history, "WORKFLOW_EXECUTION_STARTED").workflow_execution_started_event_attributes
    assert started.identity == client.service_client.config.identity


async def test_without_a_name_of_its_own_a_worker_goes_by_its_clients(client: Client, address: str) -> None:
    named = await Client.connect(address, identity=unique("client"))
    async with new_worker(named, Echo) as worker:
        handle = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    task = only(await events(handle), "WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    assert task.identity == named.service_client.config.identity


async def test_the_first_task_of_a_run_says_which_sdk_did_it(client: Client) -> None:
    async with new_worker(client, Greet, activities=[greet]) as worker:
        handle = await client.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        await handle.result()
    tasks = [
        event.workflow_task_completed_event_attributes.sdk_metadata
        for event in await events(handle)
        if event.event_type == enums.EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    assert [(task.sdk_name, task.sdk_version) for task in tasks] == [
        ("temporal-python", temporalio.service.__version__),
        ("", ""),
    ]


async def test_the_build_id_is_on_every_workflow_task(client: Client) -> None:
    async with new_worker(client, Greet, activities=[greet], build_id="build-7") as worker:
        handle = await client.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        await handle.result()
    builds = [
        event.workflow_task_completed_event_attributes.worker_version.build_id
        for event in await events(handle)
        if event.event_type == enums.EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    assert builds == ["build-7", "build-7"]


@workflow.defn
class Builds:
    """The build that runs each of two tasks, as the workflow sees it."""

    @workflow.run
    async def run(self) -> list[str]:
        before = workflow.info().get_current_build_id()
        await workflow.execute_activity(greet, "you", start_to_close_timeout=BRIEF)
        return [before, workflow.info().get_current_build_id()]


async def test_a_workflow_knows_the_build_that_runs_it(client: Client) -> None:
    async with new_worker(client, Builds, activities=[greet], build_id="build-8") as worker:
        seen = await client.execute_workflow(Builds.run, id=unique(), task_queue=worker.task_queue)
    assert seen == ["build-8", "build-8"]


async def test_pollers_of_a_queue_are_listed_by_identity(client: Client) -> None:
    name = unique("worker")
    async with new_worker(client, Greet, activities=[greet], identity=name, max_activities_per_second=50) as worker:

        async def pollers(kind: enums.TaskQueueType.ValueType) -> None:
            described = await client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=client.namespace, task_queue=TaskQueue(name=worker.task_queue), task_queue_type=kind
                )
            )
            assert {poller.identity for poller in described.pollers} == {name}

        await eventually(lambda: pollers(enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
        await eventually(lambda: pollers(enums.TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY))


@activity.defn
async def whereabouts() -> tuple[str, str, str]:
    info = activity.info()
    return info.task_queue, info.workflow_namespace or "", info.workflow_type or ""


@workflow.defn
class Whereabouts:
    @workflow.run
    async def run(self) -> tuple[str, str, str]:
        return await workflow.execute_activity(whereabouts, start_to_close_timeout=BRIEF)


async def test_an_activity_knows_where_it_came_from(client: Client) -> None:
    async with new_worker(client, Whereabouts, activities=[whereabouts]) as worker:
        seen = await client.execute_workflow(Whereabouts.run, id=unique(), task_queue=worker.task_queue)
    assert seen == (worker.task_queue, client.namespace, "Whereabouts")


async def test_an_unversioned_deployment_is_named_in_the_task_but_does_not_steer_it(client: Client) -> None:
    name = unique("deployment")
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id="3"),
        use_worker_versioning=False,
        default_versioning_behavior=VersioningBehavior.UNSPECIFIED,
    )
    queue = unique("queue")
    async with Worker(client, task_queue=queue, workflows=[Echo], deployment_config=config):
        handle = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
        assert await handle.result() == 1
    history = await events(handle)
    task = only(history, "WORKFLOW_TASK_COMPLETED").workflow_task_completed_event_attributes
    assert (task.deployment_version.deployment_name, task.deployment_version.build_id) == ("", "")
    assert task.versioning_behavior == enums.VersioningBehavior.VERSIONING_BEHAVIOR_UNSPECIFIED
    assert kinds(history)[-1] == "WORKFLOW_EXECUTION_COMPLETED"
