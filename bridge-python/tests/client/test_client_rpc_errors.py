"""Calls that fail: codes, words, details, what is tried again, deadlines, cancelled calls, lost connections."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import timedelta

import pytest

from client.wire import Answer, Call, loopback
from logs import Kept, runtime
from support import eventually, unique
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure, NotFoundFailure, QueryFailedFailure
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    DescribeNamespaceRequest,
)
from temporalio.client import Client
from temporalio.runtime import TelemetryFilter
from temporalio.service import KeepAliveConfig, RetryConfig, RPCError, RPCStatusCode

COUNT = "CountWorkflowExecutions"
QUICK = RetryConfig(initial_interval_millis=1, max_interval_millis=2)


def good(call: Call) -> Answer:
    return Answer(CountWorkflowExecutionsResponse(count=5).SerializeToString() if call.method == COUNT else b"")


def first(*answers: Answer | None) -> Callable[[Call], Answer | None]:
    """Answers counts with `answers`, one after the other, and then well."""
    left = list(answers)
    return lambda call: left.pop(0) if call.method == COUNT and left else good(call)


async def raw_count(client: Client) -> int:
    """A call that is not retried."""
    return (await client.workflow_service.count_workflow_executions(CountWorkflowExecutionsRequest())).count


@pytest.mark.parametrize("status", [code for code in RPCStatusCode if code != RPCStatusCode.OK])
async def test_every_code_comes_back_as_it_is(status: RPCStatusCode) -> None:
    async with loopback(first(Answer(status=status, words="what went wrong"))) as server:
        client = await Client.connect(server.address)
        with pytest.raises(RPCError) as failed:
            await raw_count(client)
        assert (failed.value.status, failed.value.message) == (status, "what went wrong")
        assert str(failed.value) == "what went wrong"
        assert failed.value.raw_grpc_status == b"" and failed.value.grpc_status == GrpcStatus()
        assert len(server.of(COUNT)) == 1
        assert await raw_count(client) == 5


@pytest.mark.parametrize(
    "status", ["UNKNOWN", "ABORTED", "OUT_OF_RANGE", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
)
async def test_a_passing_fault_is_tried_again(status: str) -> None:
    fault = Answer(status=RPCStatusCode[status])
    async with loopback(first(fault, fault, fault)) as server:
        client = await Client.connect(server.address, retry_config=QUICK)
        assert (await client.count_workflows("x")).count == 5
        assert len(server.of(COUNT)) == 4
        assert len({call.message for call in server.of(COUNT)}) == 1


@pytest.mark.parametrize(
    "status",
    ["CANCELLED", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"]
    + ["FAILED_PRECONDITION", "UNIMPLEMENTED", "UNAUTHENTICATED"],
)
async def test_a_lasting_fault_is_not_tried_again(status: str) -> None:
    async with loopback(first(Answer(status=RPCStatusCode[status]))) as server:
        client = await Client.connect(server.address, retry_config=QUICK)
        with pytest.raises(RPCError) as failed:
            await client.count_workflows("x")
        assert failed.value.status == RPCStatusCode[status]
        assert len(server.of(COUNT)) == 1


@pytest.mark.parametrize("attempts", [1, 3])
async def test_attempts_have_an_end(attempts: int) -> None:
    async with loopback(first(*[Answer(status=14, words=f"no {n}") for n in range(9)])) as server:
        retry = RetryConfig(initial_interval_millis=1, max_interval_millis=2, max_retries=attempts)
        client = await Client.connect(server.address, retry_config=retry)
        with pytest.raises(RPCError) as failed:
            await client.count_workflows("x")
        assert (failed.value.status, failed.value.message) == (RPCStatusCode.UNAVAILABLE, f"no {attempts - 1}")
        assert len(server.of(COUNT)) == attempts


async def test_a_fault_that_lasts_is_told_in_the_log() -> None:
    """The first tries are not, which pass by every day."""
    kept = Kept()
    async with loopback(first(*[Answer(status=14, words="no")] * 7)) as server:
        engine = runtime(kept, TelemetryFilter("WARN", "ERROR"))
        client = await Client.connect(server.address, retry_config=QUICK, runtime=engine)
        assert (await client.count_workflows("x")).count == 5

    async def told() -> None:
        texts = [f"gRPC call count_workflow_executions retried {n} times" for n in (5, 6, 7)]
        assert [entry.message for entry in kept.entries] == texts
        assert {entry.target for entry in kept.entries} == {"temporalio_client::retry"}
        assert {record.levelname for record in kept.records} == {"WARNING"}
        assert all("no" in entry.fields["error"] for entry in kept.entries)

    await eventually(told)


async def test_details_come_with_the_error() -> None:
    status = GrpcStatus(code=3, message="inner words")
    status.details.add().Pack(QueryFailedFailure())
    details = base64.b64encode(status.SerializeToString()).decode().rstrip("=")
    answer = Answer(status=3, words="outer%20words", headers={"grpc-status-details-bin": details})
    async with loopback(first(answer)) as server:
        client = await Client.connect(server.address)
        with pytest.raises(RPCError) as failed:
            await client.count_workflows("x")
    assert (failed.value.message, failed.value.raw_grpc_status) == ("outer words", status.SerializeToString())
    assert failed.value.grpc_status == status
    assert failed.value.grpc_status.details[0].Is(QueryFailedFailure.DESCRIPTOR)


async def test_a_real_server_s_details_can_be_unpacked(client: Client) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(unique()).describe()
    assert missing.value.grpc_status.code == RPCStatusCode.NOT_FOUND
    assert missing.value.grpc_status.message == missing.value.message
    assert missing.value.grpc_status.details[0].Unpack(NotFoundFailure())


async def test_an_unknown_namespace_is_named(client: Client, address: str) -> None:
    name = unique("namespace")
    failure = NamespaceNotFoundFailure()
    with pytest.raises(RPCError) as missing:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=name))
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    assert missing.value.grpc_status.details[0].Unpack(failure) and failure.namespace == name
    elsewhere = await Client.connect(address, namespace=name)
    with pytest.raises(RPCError, match=f"Namespace {name} is not found") as refused:
        await elsewhere.start_workflow("Echo", 1, id=unique(), task_queue="none")
    assert refused.value.status == RPCStatusCode.NOT_FOUND


async def test_a_deadline_ends_the_call() -> None:
    async with loopback(first(None)) as server:
        client = await Client.connect(server.address)
        with pytest.raises(RPCError) as late:
            await client.count_workflows("x", rpc_timeout=timedelta(milliseconds=200))
        assert (late.value.status, late.value.message) == (RPCStatusCode.CANCELLED, "Timeout expired")
        [call] = server.of(COUNT)
        await call.reset.wait()
        assert (await client.count_workflows("x")).count == 5


async def test_a_cancelled_call_is_taken_back() -> None:
    async with loopback(first(None)) as server:
        client = await Client.connect(server.address)
        waiting = asyncio.create_task(client.count_workflows("x"))
        [call] = await server.wait_for(COUNT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await call.reset.wait()
        assert (await client.count_workflows("x")).count == 5


async def test_many_calls_share_one_connection_and_end_out_of_order() -> None:
    held: list[Call] = []

    def odd_ones_first(call: Call) -> Answer | None:
        if call.method == COUNT and len(held) < 10:
            held.append(call)
            return None
        return good(call)

    async with loopback(odd_ones_first) as server:
        client = await Client.connect(server.address)
        slow = [asyncio.create_task(client.count_workflows("slow")) for _ in range(10)]
        await server.wait_for(COUNT, 10)
        assert [(await client.count_workflows("fast")).count for _ in range(5)] == [5] * 5
        assert server.connections == 1
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        for call in held:
            await call.reset.wait()


async def test_a_client_connects_again_when_the_server_hangs_up() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        server.hang_up()
        await client.count_workflows("x")
        assert (server.connections, len(server.of("GetSystemInfo"))) == (2, 1)


async def test_a_garbled_response_is_an_error_of_the_call() -> None:
    async with loopback(first(Answer(b"\xff\xff"))) as server:
        client = await Client.connect(server.address)
        with pytest.raises(Exception) as garbled:
            await raw_count(client)
        assert "decod" in str(garbled.value).lower() or "pars" in str(garbled.value).lower()
        assert await raw_count(client) == 5


async def test_an_idle_connection_is_kept_alive_by_pings() -> None:
    async with loopback() as server:
        keep_alive = KeepAliveConfig(interval_millis=50, timeout_millis=5000)
        client = await Client.connect(server.address, keep_alive_config=keep_alive)
        server.pinged.clear()

        async def pinged() -> None:
            assert server.pinged.is_set()

        await eventually(pinged)
        await client.count_workflows("x")
        assert server.connections == 1
