"""Worker deployments: which version a workflow runs on, and when it moves to another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import (
    AutoUpgradeVersioningOverride,
    PinnedVersioningOverride,
    RawValue,
    SearchAttributeKey,
    VersioningBehavior,
    WorkerDeploymentVersion,
)

with workflow.unsafe.imports_passed_through():
    import pytest
    from deployments import Deployment
    from histories import awaited, found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.workflowservice.v1 import (
        DescribeWorkerDeploymentRequest,
        SetWorkerDeploymentRampingVersionRequest,
    )
    from temporalio.client import Client, WorkflowHandle
    from temporalio.worker import WorkerDeploymentConfig

TIMEOUT = timedelta(seconds=20)
BUILD_IDS = SearchAttributeKey.for_keyword_list("BuildIds")
VERSION = SearchAttributeKey.for_keyword("TemporalWorkerDeploymentVersion")


class Gate:
    """Waits for steps and tells at each which version it runs on."""

    def __init__(self) -> None:
        self.steps = 0
        self.versions: list[str] = []

    def note(self) -> None:
        version = workflow.info().get_current_deployment_version()
        assert version is None or workflow.info().get_current_build_id() == version.build_id
        self.versions.append(version.build_id if version else "none")

    @workflow.signal
    def step(self) -> None:
        self.steps += 1

    @workflow.update
    def where(self) -> str:
        return workflow.info().get_current_build_id()

    async def walk(self, code: str) -> list[str]:
        self.note()
        # So that the first task has a command: see test_takeover.py, the original goes astray without one.
        workflow.upsert_memo({"walks": True})
        await workflow.wait_condition(lambda: self.steps > 0)
        self.note()
        return [code, *self.versions]


@workflow.defn(name="Pinned", versioning_behavior=VersioningBehavior.PINNED)
class PinnedOne(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.walk("one")


@workflow.defn(name="Pinned", versioning_behavior=VersioningBehavior.PINNED)
class PinnedTwo(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.walk("two")


@workflow.defn(name="Moving", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class MovingOne(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.walk("one")


@workflow.defn(name="Moving", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class MovingTwo(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.walk("two")


@pytest.fixture
def deployment(client: Client) -> Deployment:
    return Deployment(client)


async def test_a_pinned_workflow_stays_while_new_ones_go_to_the_current_version(
    client: Client, deployment: Deployment
) -> None:
    async with deployment.worker("1.0", PinnedOne), deployment.worker("2.0", PinnedTwo):
        await deployment.set_current("1.0")
        old: Any = await client.start_workflow("Pinned", id=unique(), task_queue=deployment.queue)
        await awaited(old, "workflow_task_completed")
        await deployment.set_current("2.0")
        new: Any = await client.start_workflow("Pinned", id=unique(), task_queue=deployment.queue)
        for handle in (old, new):
            await handle.signal("step")
        assert await old.result() == ["one", "1.0", "1.0"]
        assert await new.result() == ["two", "2.0", "2.0"]
    described = await old.describe()
    assert described.typed_search_attributes[VERSION] == f"{deployment.name}:1.0"
    assert f"pinned:{deployment.name}:1.0" in described.typed_search_attributes[BUILD_IDS]
    info = described.raw_info.versioning_info
    assert info.behavior == VersioningBehavior.PINNED
    assert (info.deployment_version.deployment_name, info.deployment_version.build_id) == (deployment.name, "1.0")
    for task in await found(old, "workflow_task_completed"):
        assert task.versioning_behavior == VersioningBehavior.PINNED
        assert task.deployment_version.build_id == "1.0"
    await replay(old, PinnedOne)
    await replay(new, PinnedTwo)


async def moved(handle: WorkflowHandle[Any, Any], build_id: str) -> None:
    """Waits until the workflow's tasks go to a version: the server takes its time to tell all its parts."""

    async def is_there() -> None:
        assert await handle.execute_update("where") == build_id

    await eventually(is_there)


async def test_an_auto_upgraded_workflow_moves_to_the_current_version(client: Client, deployment: Deployment) -> None:
    async with deployment.worker("1.0", MovingOne), deployment.worker("2.0", MovingTwo):
        await deployment.set_current("1.0")
        handle: Any = await client.start_workflow("Moving", id=unique(), task_queue=deployment.queue)
        await awaited(handle, "workflow_task_completed")
        await deployment.set_current("2.0")
        await moved(handle, "2.0")
        await handle.signal("step")
        assert await handle.result() == ["two", "1.0", "2.0"]
    tasks = await found(handle, "workflow_task_completed")
    builds = [task.deployment_version.build_id for task in tasks]
    assert builds == sorted(builds) and set(builds) == {"1.0", "2.0"}
    assert {task.versioning_behavior for task in tasks} == {VersioningBehavior.AUTO_UPGRADE}
    assert "workflow_task_failed" not in await kinds(handle)
    await replay(handle, MovingTwo)


@pytest.mark.parametrize("override", ["pinned", "auto-upgrade"])
async def test_a_start_may_override_the_behavior(client: Client, deployment: Deployment, override: str) -> None:
    async with deployment.worker("1.0", PinnedOne, MovingOne), deployment.worker("2.0", PinnedTwo, MovingTwo):
        await deployment.known("2.0")
        await deployment.set_current("1.0")
        if override == "pinned":
            handle: Any = await client.start_workflow(
                "Moving",
                id=unique(),
                task_queue=deployment.queue,
                versioning_override=PinnedVersioningOverride(deployment.version("2.0")),
            )
            expected = ["two", "2.0", "2.0"]
        else:
            handle = await client.start_workflow(
                "Pinned",
                id=unique(),
                task_queue=deployment.queue,
                versioning_override=AutoUpgradeVersioningOverride(),
            )
            expected = ["two", "1.0", "2.0"]
        await awaited(handle, "workflow_task_completed")
        if override == "auto-upgrade":
            await deployment.set_current("2.0")
            await moved(handle, "2.0")
        await handle.signal("step")
        assert await handle.result() == expected
    assert (await found(handle, "workflow_execution_started"))[0].HasField("versioning_override")


@workflow.defn
class Plain(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        return await self.walk("plain")


@pytest.mark.parametrize("default", [VersioningBehavior.PINNED, VersioningBehavior.AUTO_UPGRADE])
async def test_a_worker_gives_a_default_behavior_to_plain_workflows(
    client: Client, deployment: Deployment, default: VersioningBehavior
) -> None:
    async with deployment.worker("1.0", Plain, default=default):
        await deployment.set_current("1.0")
        handle = await client.start_workflow(Plain.run, id=unique(), task_queue=deployment.queue)
        await handle.signal(Plain.step)
        assert await handle.result() == ["plain", "1.0", "1.0"]
    assert {task.versioning_behavior for task in await found(handle, "workflow_task_completed")} == {default}
    await replay(handle, Plain)


def test_a_versioned_worker_wants_a_behavior_for_each_workflow(deployment: Deployment) -> None:
    with pytest.raises(ValueError, match="must specify a versioning behavior"):
        deployment.worker("1.0", Plain)


@workflow.defn(dynamic=True)
class Dynamic:
    @workflow.dynamic_config
    def config(self) -> workflow.DynamicWorkflowConfig:
        pinned = workflow.info().workflow_type == "StayPut"
        behavior = VersioningBehavior.PINNED if pinned else VersioningBehavior.AUTO_UPGRADE
        return workflow.DynamicWorkflowConfig(versioning_behavior=behavior)

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> str:
        return workflow.info().get_current_build_id()


async def test_a_dynamic_workflow_chooses_its_behavior(client: Client, deployment: Deployment) -> None:
    async with deployment.worker("1.0", Dynamic):
        await deployment.set_current("1.0")
        for name, behavior in (("StayPut", VersioningBehavior.PINNED), ("Move", VersioningBehavior.AUTO_UPGRADE)):
            handle: Any = await client.start_workflow(name, id=unique(), task_queue=deployment.queue)
            assert await handle.result() == "1.0"
            assert [task.versioning_behavior for task in await found(handle, "workflow_task_completed")] == [behavior]


async def test_all_of_a_ramp_goes_to_the_ramping_version(client: Client, deployment: Deployment) -> None:
    async with deployment.worker("1.0", PinnedOne), deployment.worker("2.0", PinnedTwo):
        await deployment.known("2.0")
        await deployment.set_current("1.0")
        described = await client.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace="default", deployment_name=deployment.name)
        )
        await client.workflow_service.set_worker_deployment_ramping_version(
            SetWorkerDeploymentRampingVersionRequest(
                namespace="default",
                deployment_name=deployment.name,
                build_id="2.0",
                percentage=100,
                conflict_token=described.conflict_token,
            )
        )
        handle: Any = await client.start_workflow("Pinned", id=unique(), task_queue=deployment.queue)
        await handle.signal("step")
        assert await handle.result() == ["two", "2.0", "2.0"]


@activity.defn
async def where() -> str:
    return activity.info().task_queue


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class Family:
    @workflow.run
    async def run(self, depth: int) -> list[str]:
        version = workflow.info().get_current_deployment_version()
        assert version
        below: list[str] = []
        if depth:
            below = await workflow.execute_child_workflow(Family.run, depth - 1, id=workflow.info().workflow_id + "c")
        await workflow.execute_activity(where, start_to_close_timeout=TIMEOUT)
        return [version.build_id, *below]


async def test_children_of_a_pinned_workflow_run_on_its_version(client: Client, deployment: Deployment) -> None:
    async with deployment.worker("1.0", Family, activities=[where]):
        await deployment.set_current("1.0")
        handle = await client.start_workflow(Family.run, 1, id=unique(), task_queue=deployment.queue)
        assert await handle.result() == ["1.0", "1.0"]
    child = client.get_workflow_handle(handle.id + "c")
    started = (await found(child, "workflow_execution_started"))[0]
    assert started.inherited_pinned_version.build_id == "1.0"
    await replay(handle, Family)
    await replay(child, Family)


@workflow.defn
class BuildIds(Gate):
    @workflow.run
    async def run(self) -> list[str]:
        seen = [workflow.info().get_current_build_id()]
        await workflow.wait_condition(lambda: self.steps > 0)
        return [*seen, workflow.info().get_current_build_id()]

    @workflow.query
    def now(self) -> str:
        return workflow.info().get_current_build_id()


async def test_the_build_id_is_that_of_the_task_also_in_replay_by_another_build(client: Client) -> None:
    queue = unique("queue")
    async with new_worker(client, BuildIds, task_queue=queue, build_id="first"):
        handle = await client.start_workflow(BuildIds.run, id=unique(), task_queue=queue)
        await awaited(handle, "workflow_task_completed")
        assert await handle.query(BuildIds.now) == "first"
    async with new_worker(client, BuildIds, task_queue=queue, build_id="second"):
        await handle.signal(BuildIds.step)
        assert await handle.result() == ["first", "second"]
        assert await handle.query(BuildIds.now) == "second"
    tasks = await found(handle, "workflow_task_completed")
    assert [task.worker_version.build_id for task in tasks] == ["first", "second"]
    await replay(handle, BuildIds)


async def test_workers_without_versioning_may_still_name_their_deployment(client: Client) -> None:
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(unique("deployment"), "7"), use_worker_versioning=False
    )
    async with new_worker(client, Plain, deployment_config=config) as worker:
        handle = await client.start_workflow(Plain.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal(Plain.step)
        assert await asyncio.wait_for(handle.result(), 20) == ["plain", "7", "7"]
    info = (await handle.describe()).raw_info
    assert int(info.versioning_info.behavior) == VersioningBehavior.UNSPECIFIED
    await replay(handle, Plain)
