"""Versions of a deployment that follow one another quickly: a ramp up, down and half way, three versions, a loop that waits for one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from deployments import Deployment
from histories import replay
from support import eventually, unique
from temporalio import workflow
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior


class Gated:
    def __init__(self) -> None:
        self.opened = False

    @workflow.signal
    def open(self) -> None:
        self.opened = True

    async def gate(self, name: str) -> str:
        await workflow.wait_condition(lambda: self.opened)
        version = workflow.info().get_current_deployment_version()
        assert version and version.to_canonical_string().endswith(f".{version.build_id}")
        return f"{name} on {version.build_id}"


@workflow.defn(name="Gate", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class One(Gated):
    @workflow.run
    async def run(self) -> str:
        return await self.gate("one")

    @workflow.query
    def state(self) -> str:
        return "one"


@workflow.defn(name="Gate", versioning_behavior=VersioningBehavior.PINNED)
class Two(Gated):
    @workflow.run
    async def run(self) -> str:
        return await self.gate("two")

    @workflow.query
    def state(self) -> str:
        return "two"


@workflow.defn(name="Gate", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Three(Gated):
    @workflow.run
    async def run(self) -> str:
        return await self.gate("three")

    @workflow.query
    def state(self) -> str:
        return "three"


class Hasty(Deployment):
    """Sets versions by their canonical names and waits for nothing but the call."""

    async def token(self, build_id: str) -> bytes:
        await self.known(build_id)
        request = DescribeWorkerDeploymentRequest(namespace="default", deployment_name=self.name)
        return (await self.client.workflow_service.describe_worker_deployment(request)).conflict_token

    async def current(self, build_id: str) -> None:
        await self.client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace="default",
                deployment_name=self.name,
                version=self.version(build_id).to_canonical_string(),
                conflict_token=await self.token(build_id),
            )
        )

    async def ramp(self, build_id: str, percentage: float) -> None:
        await self.client.workflow_service.set_worker_deployment_ramping_version(
            SetWorkerDeploymentRampingVersionRequest(
                namespace="default",
                deployment_name=self.name,
                version=self.version(build_id).to_canonical_string(),
                percentage=percentage,
                conflict_token=await self.token(build_id),
            )
        )


@pytest.fixture
def deployment(client: Client) -> Hasty:
    return Hasty(client)


async def test_each_version_serves_what_began_while_it_was_current(client: Client, deployment: Hasty) -> None:
    async with deployment.worker("1.0", One), deployment.worker("2.0", Two), deployment.worker("3.0", Three):
        handles: list[Any] = []
        for build, state in (("1.0", "one"), ("2.0", "two"), ("3.0", "three")):
            await deployment.current(build)
            handles.append(await client.start_workflow("Gate", id=unique(), task_queue=deployment.queue))
            assert await handles[-1].query("state") == state
        for handle in handles:
            await handle.signal("open")
        results = await asyncio.gather(*(handle.result() for handle in handles))
    assert results == ["three on 3.0", "two on 2.0", "three on 3.0"]


async def test_a_ramp_goes_up_and_down_and_half_way(client: Client, deployment: Hasty) -> None:
    async def landed() -> str:
        handle: Any = await client.start_workflow("Gate", id=unique(), task_queue=deployment.queue)
        await handle.signal("open")
        return str(await handle.result())

    async with deployment.worker("1.0", One), deployment.worker("2.0", Two):
        await deployment.known("2.0")
        await deployment.current("1.0")
        await deployment.ramp("2.0", 100)
        assert [await landed() for _ in range(3)] == ["two on 2.0"] * 3
        await deployment.ramp("2.0", 0)
        assert [await landed() for _ in range(3)] == ["one on 1.0"] * 3
        await deployment.ramp("2.0", 50)
        seen = set()

        async def both() -> None:
            seen.add(await landed())
            assert seen == {"one on 1.0", "two on 2.0"}

        await eventually(both)


@workflow.defn(name="Restless", versioning_behavior=VersioningBehavior.PINNED)
class RestlessOne:
    """Looks every 10 ms whether there is a newer version, and goes there."""

    @workflow.run
    async def run(self, moved: bool) -> str:
        while not moved:
            await asyncio.sleep(0.01)
            if workflow.info().is_target_worker_deployment_version_changed():
                workflow.continue_as_new(
                    True, initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
                )
        return "stayed on one"


@workflow.defn(name="Restless", versioning_behavior=VersioningBehavior.PINNED)
class RestlessTwo:
    @workflow.run
    async def run(self, _: bool) -> str:
        return "came to two"


async def test_a_loop_of_short_timers_sees_the_new_version_and_replays(client: Client, deployment: Hasty) -> None:
    async with deployment.worker("1.0", RestlessOne), deployment.worker("2.0", RestlessTwo):
        await deployment.set_current("1.0")
        handle: Any = await client.start_workflow("Restless", False, id=unique(), task_queue=deployment.queue)

        async def running() -> None:
            described = await handle.describe()
            info = described.raw_description.workflow_execution_info.versioning_info
            assert info.deployment_version.build_id == "1.0"

        await eventually(running)
        await deployment.set_current("2.0")
        assert await asyncio.wait_for(handle.result(), 20) == "came to two"
    await replay(client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id), RestlessOne)
