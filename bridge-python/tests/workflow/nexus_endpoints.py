"""Nexus endpoints for tests: made by the operator's API, gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support import unique
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest, DeleteNexusEndpointRequest
from temporalio.worker import Worker


@asynccontextmanager
async def endpoint(worker: Worker) -> AsyncIterator[str]:
    """The name of an endpoint that leads to this worker's queue."""
    operator = worker.client.operator_service
    target = EndpointTarget(
        worker=EndpointTarget.Worker(namespace=worker.client.namespace, task_queue=worker.task_queue)
    )
    name = unique("endpoint")
    made = await operator.create_nexus_endpoint(
        CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    )
    try:
        yield name
    finally:
        await operator.delete_nexus_endpoint(
            DeleteNexusEndpointRequest(id=made.endpoint.id, version=made.endpoint.version)
        )
