"""Moving long-lived workflows to a new version: on continue-as-new, and by an override for one task."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import OneTimeVersioningOverride, VersioningBehavior

with workflow.unsafe.imports_passed_through():
    from deployments import Deployment
    from histories import awaited, found, replay
    from support import eventually, unique
    from temporalio.client import Client


class Waiting:
    def __init__(self) -> None:
        self.opened = False

    @workflow.signal
    def open(self) -> None:
        self.opened = True

    @workflow.update
    def changed(self) -> bool:
        return workflow.info().is_target_worker_deployment_version_changed()

    async def gate(self) -> None:
        workflow.upsert_memo({"build": workflow.info().get_current_build_id()})
        await workflow.wait_condition(lambda: self.opened)


@workflow.defn(name="Moving", versioning_behavior=VersioningBehavior.PINNED)
class First(Waiting):
    @workflow.run
    async def run(self, upgrade: bool) -> str:
        await self.gate()
        behavior = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if upgrade else None
        workflow.continue_as_new(workflow="Landing", args=[False], initial_versioning_behavior=behavior)


@workflow.defn(name="Landing", versioning_behavior=VersioningBehavior.PINNED)
class OldLanding:
    @workflow.run
    async def run(self, _: bool) -> str:
        return f"old on {workflow.info().get_current_build_id()}"


@workflow.defn(name="Landing", versioning_behavior=VersioningBehavior.PINNED)
class NewLanding:
    @workflow.run
    async def run(self, _: bool) -> str:
        return f"new on {workflow.info().get_current_build_id()}"


async def continued(client: Client, upgrade: bool) -> str:
    """Continues a workflow that is pinned to 1.0, while 2.0 is current; tells where it landed."""
    deployment = Deployment(client)
    async with deployment.worker("1.0", First, OldLanding), deployment.worker("2.0", First, NewLanding):
        await deployment.set_current("1.0")
        handle: Any = await client.start_workflow("Moving", upgrade, id=unique(), task_queue=deployment.queue)
        await awaited(handle, "workflow_task_completed")
        assert await handle.execute_update("changed") is False
        await deployment.set_current("2.0")

        async def changed() -> None:
            assert await handle.execute_update("changed") is True

        await eventually(changed)
        await handle.signal("open")
        landed: str = await handle.result()
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    builds = {task.deployment_version.build_id for task in await found(first, "workflow_task_completed")}
    assert builds == {"1.0"}
    await replay(first, First)
    return landed


async def test_a_pinned_workflow_learns_of_a_new_version_and_may_continue_on_it(client: Client) -> None:
    assert await continued(client, upgrade=True) == "new on 2.0"


async def test_a_pinned_workflow_that_does_not_ask_continues_on_its_version(client: Client) -> None:
    assert await continued(client, upgrade=False) == "old on 1.0"


@workflow.defn(name="Once", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class Once(Waiting):
    @workflow.run
    async def run(self) -> list[str]:
        first = workflow.info().get_current_build_id()
        await self.gate()
        return [first, workflow.info().get_current_build_id()]


async def test_an_override_for_one_task_holds_for_one_task(client: Client) -> None:
    deployment = Deployment(client)
    async with deployment.worker("1.0", Once), deployment.worker("2.0", Once):
        await deployment.known("2.0")
        await deployment.set_current("1.0")
        handle: Any = await client.start_workflow(
            "Once",
            id=unique(),
            task_queue=deployment.queue,
            versioning_override=OneTimeVersioningOverride(deployment.version("2.0")),
        )
        await awaited(handle, "workflow_task_completed")
        await handle.signal("open")
        assert await handle.result() == ["2.0", "1.0"]
    await replay(handle, Once)
