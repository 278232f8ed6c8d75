"""The raw services behind a client: every call reaches its method; health, operator, test and cloud; version sets."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from client.wire import Answer, Call, loopback
from support import eventually, unique
from temporalio.api.cloud.cloudservice.v1 import GetNamespaceRequest, GetNamespacesRequest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.api.testservice.v1 import LockTimeSkippingRequest, UnlockTimeSkippingRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetClusterInfoRequest, GetSystemInfoRequest
from temporalio.client import (
    BuildIdOpAddNewCompatible,
    BuildIdOpAddNewDefault,
    BuildIdOpPromoteSetByBuildId,
    Client,
    CloudOperationsClient,
    TaskReachabilityType,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

SERVICES = {
    "workflow_service": "temporal.api.workflowservice.v1.WorkflowService",
    "operator_service": "temporal.api.operatorservice.v1.OperatorService",
    "cloud_service": "temporal.api.cloud.cloudservice.v1.CloudService",
    "test_service": "temporal.api.testservice.v1.TestService",
    "health_service": "grpc.health.v1.Health",
}


def empty_request(method: Any) -> Message:
    """The request that a generated method wants, with nothing in it."""
    module = inspect.getmodule(method)
    kind = inspect.signature(method).parameters["req"].annotation
    made: Message = (eval(kind, vars(module)) if isinstance(kind, str) else kind)()
    return made


@pytest.mark.parametrize("which, count", list(zip(SERVICES, [123, 12, 76, 6, 1])))
async def test_every_method_is_called_by_its_name(which: str, count: int) -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        stub = getattr(client.service_client, which)
        names = [name for name, method in inspect.getmembers(stub, inspect.iscoroutinefunction) if name[0] != "_"]
        assert len(names) == count
        for name in names:
            method = getattr(stub, name)
            await method(empty_request(method))
        paths = [f"/{SERVICES[which]}/{name.title().replace('_', '')}" for name in names]
        assert [call.headers[":path"] for call in server.calls[1:]] == paths


async def test_a_healthy_server_is_serving(client: Client) -> None:
    assert await client.service_client.check_health() is True
    with pytest.raises(RPCError) as unknown:
        await client.service_client.check_health(service="no.such.Service")
    assert (unknown.value.status, unknown.value.message) == (RPCStatusCode.NOT_FOUND, "unknown service")


@pytest.mark.parametrize("status, healthy", [(0, False), (1, True), (2, False), (3, False)])
async def test_health_is_what_the_server_says(status: int, healthy: bool) -> None:
    def answer(call: Call) -> Answer:
        return Answer(bytes([8, status]) if call.method == "Check" else b"")

    async with loopback(answer) as server:
        client = await Client.connect(server.address)
        assert await client.service_client.check_health() is healthy
        assert server.calls[-1].headers[":path"] == "/grpc.health.v1.Health/Check"


async def test_the_operator_manages_search_attributes(client: Client) -> None:
    name = f"Attribute{unique('').replace('-', '')}"
    kind = IndexedValueType.INDEXED_VALUE_TYPE_INT
    request = AddSearchAttributesRequest(namespace="default", search_attributes={name: kind})
    await client.operator_service.add_search_attributes(request)

    async def added() -> None:
        listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
        assert listed.custom_attributes[name] == kind
        assert listed.system_attributes["WorkflowId"] == IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD

    try:
        await eventually(added)
    finally:
        # A dev server has room for a few of each kind only.
        remove = RemoveSearchAttributesRequest(namespace="default", search_attributes=[name])
        await client.operator_service.remove_search_attributes(remove)


async def test_the_server_tells_about_itself(client: Client) -> None:
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    assert info.server_version.count(".") == 2 and info.capabilities.supports_schedules
    cluster = await client.workflow_service.get_cluster_info(GetClusterInfoRequest())
    assert cluster.server_version == info.server_version and cluster.history_shard_count > 0
    namespace = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    assert namespace.namespace_info.name == "default"


async def test_a_service_that_is_not_there_is_unimplemented(client: Client) -> None:
    for call, service in (
        (client.test_service.lock_time_skipping(LockTimeSkippingRequest()), "testservice.v1.TestService"),
        (client.service_client.cloud_service.get_namespaces(GetNamespacesRequest()), "cloudservice.v1.CloudService"),
    ):
        with pytest.raises(RPCError) as missing:
            await call
        assert missing.value.status == RPCStatusCode.UNIMPLEMENTED
        assert "unknown service temporal.api." in missing.value.message and service in missing.value.message


async def test_the_test_service_knows_its_time(skipping: WorkflowEnvironment) -> None:
    service = skipping.client.test_service
    await service.lock_time_skipping(LockTimeSkippingRequest())
    before = (await service.get_current_time(Empty())).time.ToDatetime()
    after = (await service.get_current_time(Empty())).time.ToDatetime()
    assert after >= before
    await service.unlock_time_skipping(UnlockTimeSkippingRequest())


async def test_a_cloud_client_sends_its_key_and_version() -> None:
    async with loopback() as server:
        cloud = await CloudOperationsClient.connect(
            api_key="cloud-key", version="2024-05-13-00", target_host=server.address, tls=False
        )
        await cloud.cloud_service.get_namespace(GetNamespaceRequest(namespace="a.b"))
        call = server.calls[-1]
    assert call.headers[":path"] == "/temporal.api.cloud.cloudservice.v1.CloudService/GetNamespace"
    assert call.headers["authorization"] == "Bearer cloud-key"
    assert call.headers["temporal-cloud-api-version"] == "2024-05-13-00"
    assert GetNamespaceRequest.FromString(call.message).namespace == "a.b"


async def test_version_sets_of_a_task_queue_can_be_kept(client: Client) -> None:
    queue = unique("queue")
    assert await client.get_worker_build_id_compatibility(queue) is not None
    await client.update_worker_build_id_compatibility(queue, BuildIdOpAddNewDefault("1.0"))
    await client.update_worker_build_id_compatibility(queue, BuildIdOpAddNewCompatible("1.1", "1.0"))
    await client.update_worker_build_id_compatibility(queue, BuildIdOpAddNewDefault("2.0"))
    sets = await client.get_worker_build_id_compatibility(queue)
    assert [list(one.build_ids) for one in sets.version_sets] == [["1.0", "1.1"], ["2.0"]]
    assert sets.default_build_id() == "2.0"
    await client.update_worker_build_id_compatibility(queue, BuildIdOpPromoteSetByBuildId("1.0"))
    assert (await client.get_worker_build_id_compatibility(queue)).default_build_id() == "1.1"
    reachability = await client.get_worker_task_reachability(["1.1", "2.0"], [queue])
    reachable = {
        build: list(found.task_queue_reachability[queue])
        for build, found in reachability.build_id_reachability.items()
    }
    assert reachable["1.1"] == [TaskReachabilityType.NEW_WORKFLOWS]
    assert set(reachable) == {"1.1", "2.0"}
    with pytest.raises(RPCError) as missing:
        await client.update_worker_build_id_compatibility(queue, BuildIdOpAddNewCompatible("1.2", "none"))
    assert missing.value.status == RPCStatusCode.NOT_FOUND
