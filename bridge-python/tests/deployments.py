"""A worker deployment of a test's own: its workers, and which version is current. Nothing here knows what is tested."""

from __future__ import annotations

from typing import Any

from histories import new_worker
from support import eventually, unique
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

WORKFLOW_QUEUE = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW


class Deployment:
    """A deployment of the test's own, with a task queue of its own."""

    def __init__(self, client: Client) -> None:
        self.client, self.name, self.queue = client, unique("deployment"), unique("queue")

    def version(self, build_id: str) -> WorkerDeploymentVersion:
        return WorkerDeploymentVersion(self.name, build_id)

    def worker(self, build_id: str, *workflows: type, default: Any = None, **options: Any) -> Worker:
        config = WorkerDeploymentConfig(
            version=self.version(build_id),
            use_worker_versioning=True,
            default_versioning_behavior=default or VersioningBehavior.UNSPECIFIED,
        )
        return new_worker(self.client, *workflows, task_queue=self.queue, deployment_config=config, **options)

    async def set_current(self, build_id: str) -> None:
        """Makes a version the current one, as soon as the server knows its workers."""

        async def made() -> None:
            try:
                service = self.client.workflow_service
                described = await service.describe_worker_deployment(
                    DescribeWorkerDeploymentRequest(namespace="default", deployment_name=self.name)
                )
                await service.set_worker_deployment_current_version(
                    SetWorkerDeploymentCurrentVersionRequest(
                        namespace="default",
                        deployment_name=self.name,
                        build_id=build_id,
                        conflict_token=described.conflict_token,
                    )
                )
            except RPCError as error:
                raise AssertionError(str(error)) from error

        await eventually(made)

        async def told() -> None:
            queue = TaskQueue(name=self.queue)
            request = DescribeTaskQueueRequest(namespace="default", task_queue=queue, task_queue_type=WORKFLOW_QUEUE)
            described = await self.client.workflow_service.describe_task_queue(request)
            assert described.versioning_info.current_deployment_version.build_id == build_id

        await eventually(told)

    async def known(self, build_id: str) -> None:
        """Waits until the server knows workers of a version."""

        async def is_known() -> None:
            try:
                described = await self.client.workflow_service.describe_worker_deployment(
                    DescribeWorkerDeploymentRequest(namespace="default", deployment_name=self.name)
                )
            except RPCError as error:
                raise AssertionError(str(error)) from error
            summaries = described.worker_deployment_info.version_summaries
            assert build_id in [summary.deployment_version.build_id for summary in summaries]

        await eventually(is_known)
