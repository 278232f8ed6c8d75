"""What goes with every call: metadata of client and call, the API key, the namespace, deadlines, compression."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from client.wire import Answer, Call, Loopback, loopback
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import GrpcCompression, RPCError, __version__

COUNT = "CountWorkflowExecutions"


async def sent(server: Loopback, client: Client, **metadata: str | bytes) -> dict[str, str]:
    """The headers of a call made now."""
    await client.count_workflows("x", rpc_metadata=metadata)
    return server.of(COUNT)[-1].headers


async def test_connecting_asks_for_the_server_s_abilities_once() -> None:
    async with loopback() as server:
        await Client.connect(server.address)
        [call] = server.calls
    assert call.headers[":path"] == "/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo"
    assert (call.headers[":method"], call.headers[":scheme"]) == ("POST", "http")
    assert call.headers[":authority"] == server.address
    assert (call.headers["content-type"], call.headers["te"]) == ("application/grpc", "trailers")
    assert (call.headers["client-name"], call.headers["client-version"]) == ("temporal-python", __version__)
    assert "temporal-namespace" not in call.headers and "authorization" not in call.headers
    assert call.message == b""


async def test_the_namespace_is_a_header_of_calls_that_have_one() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, namespace="some.where")
        headers = await sent(server, client)
        assert headers["temporal-namespace"] == "some.where"
        # The header says what the request says, whoever makes it.
        await client.workflow_service.count_workflow_executions(CountWorkflowExecutionsRequest(namespace="else"))
        assert server.calls[-1].headers["temporal-namespace"] == "else"
        await client.workflow_service.get_system_info(GetSystemInfoRequest())
        assert "temporal-namespace" not in server.calls[-1].headers


async def test_metadata_of_the_client_goes_with_every_call() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, rpc_metadata={"one": "1", "two-bin": b"\x00\x02"})
        for headers in (server.calls[0].headers, await sent(server, client)):
            assert (headers["one"], headers["two-bin"].rstrip("=")) == ("1", "AAI")
        assert client.rpc_metadata == {"one": "1", "two-bin": b"\x00\x02"}


async def test_metadata_of_the_call_goes_with_it_only_and_wins() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, rpc_metadata={"one": "1", "both": "client"})
        headers = await sent(server, client, both="call", mine="3", **{"raw-bin": b"\xff"})
        assert (headers["one"], headers["both"], headers["mine"]) == ("1", "call", "3")
        assert headers["raw-bin"].rstrip("=") == "/w"
        headers = await sent(server, client)
        assert (headers["both"], headers.get("mine"), headers.get("raw-bin")) == ("client", None, None)


async def test_a_call_may_name_the_client_differently_but_not_the_namespace() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        headers = await sent(server, client, **{"client-name": "other", "temporal-namespace": "mine"})
        assert (headers["client-name"], headers["temporal-namespace"]) == ("other", "default")


async def test_metadata_can_be_replaced_while_running() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, rpc_metadata={"old": "1", "old-bin": b"1"})
        client.rpc_metadata = {"new": "2"}
        headers = await sent(server, client)
        assert (headers["new"], headers.get("old"), headers.get("old-bin")) == ("2", None, None)
        client.rpc_metadata = {}
        assert "new" not in await sent(server, client)


@pytest.mark.parametrize(
    "metadata, error",
    [
        ({"a b": "c"}, "Invalid ASCII header key 'a b': invalid gRPC metadata key name"),
        ({"a-bin": "c"}, "Invalid ASCII header key 'a-bin': invalid gRPC metadata key name"),
        ({"a": b"c"}, "Invalid binary header key 'a': invalid gRPC metadata key name"),
        ({"a": "line\nbreak"}, "Invalid ASCII header value for key 'a': failed to parse metadata value"),
    ],
)
async def test_bad_metadata_is_refused_by_client_and_by_connect(metadata: dict[str, str | bytes], error: str) -> None:
    async with loopback() as server:
        with pytest.raises(RuntimeError) as no_client:
            await Client.connect(server.address, rpc_metadata=metadata)
        assert str(no_client.value) == f"Failed client connect: Invalid headers: {error}"
        assert server.calls == []
        client = await Client.connect(server.address, rpc_metadata={"keep-bin": b"1"})
        with pytest.raises(ValueError) as refused:
            client.rpc_metadata = metadata
        assert str(refused.value) == error
        headers = await sent(server, client)
        assert headers["keep-bin"].rstrip("=") == "MQ" and "a" not in headers
        assert client.rpc_metadata == {"keep-bin": b"1"}


async def test_a_bad_binary_key_comes_after_the_text_was_replaced() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, rpc_metadata={"old": "1", "old-bin": b"1"})
        with pytest.raises(ValueError, match="Invalid binary header key 'oops'"):
            client.rpc_metadata = {"new": "2", "oops": b"2"}
        headers = await sent(server, client)
        assert (headers["new"], headers.get("old"), headers["old-bin"].rstrip("=")) == ("2", None, "MQ")


@pytest.mark.parametrize(
    "metadata, error",
    [
        ({"a b": "c"}, "Invalid metadata key: invalid gRPC metadata key name"),
        ({"a-bin": "c"}, "Invalid metadata value for binary key a-bin: expected bytes"),
        ({"a": b"c"}, "Invalid metadata value for ASCII key a: expected str"),
        ({"a": "line\nbreak"}, "Invalid metadata value: failed to parse metadata value"),
    ],
)
async def test_bad_metadata_of_a_call_fails_that_call(metadata: dict[str, str | bytes], error: str) -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        with pytest.raises(ValueError) as refused:
            await client.count_workflows("x", rpc_metadata=metadata)
        assert str(refused.value) == error
        assert server.of(COUNT) == []
        await sent(server, client)


async def test_metadata_of_another_type_is_a_type_error() -> None:
    number: Any = {"a": 1}
    union = r"failed to extract enum RpcMetadataValue \('str \| bytes'\)"
    async with loopback() as server:
        client = await Client.connect(server.address)
        with pytest.raises(TypeError, match=union):
            client.rpc_metadata = number
        with pytest.raises(TypeError, match="failed to extract field RpcCall.metadata") as refused:
            await client.count_workflows("x", rpc_metadata=number)
        assert isinstance(refused.value.__cause__, TypeError)
        assert "RpcMetadataValue ('str | bytes')" in str(refused.value.__cause__)


async def test_an_api_key_is_a_bearer_token_that_can_change() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, api_key="first", tls=False)
        assert server.calls[0].headers["authorization"] == "Bearer first"
        for key, header in (("second", "Bearer second"), (None, None), ("third", "Bearer third")):
            client.api_key = key
            assert (await sent(server, client)).get("authorization") == header
            assert client.api_key == key


async def test_metadata_may_bring_its_own_authorization() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, api_key="key", tls=False)
        assert (await sent(server, client, authorization="of the call"))["authorization"] == "of the call"
        client.rpc_metadata = {"authorization": "of the client"}
        assert (await sent(server, client))["authorization"] == "of the client"
        client.rpc_metadata = {}
        assert (await sent(server, client))["authorization"] == "Bearer key"


async def test_a_lazy_client_uses_what_was_set_before_it_connected() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, lazy=True, tls=False, api_key="old", rpc_metadata={"a": "old"})
        client.api_key = "new"
        client.rpc_metadata = {"a": "new"}
        headers = await sent(server, client)
        assert (headers["authorization"], headers["a"]) == ("Bearer new", "new")


@pytest.mark.parametrize("seconds", [0.25, 5, 90])
async def test_a_deadline_is_sent_as_it_was_given(seconds: float) -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        await client.count_workflows("x", rpc_timeout=timedelta(seconds=seconds))
        assert deadline(server.of(COUNT)[-1]) == seconds


async def test_long_polls_have_a_longer_deadline() -> None:
    def refuse(call: Call) -> Answer:
        return Answer() if call.method == "GetSystemInfo" else Answer(status=7)

    async with loopback(refuse) as server:
        client = await Client.connect(server.address)
        handle = client.get_workflow_handle("w")
        for call in (handle.result(), handle.execute_update("u"), handle.fetch_history(), handle.query("q")):
            with pytest.raises(RPCError):
                await call
        assert [(call.method, deadline(call)) for call in server.calls] == [
            ("GetSystemInfo", 30),
            ("GetWorkflowExecutionHistory", 70),
            ("UpdateWorkflowExecution", 70),
            ("GetWorkflowExecutionHistory", 30),
            ("QueryWorkflow", 30),
        ]


def deadline(call: Call) -> float:
    """Seconds."""
    text = call.headers["grpc-timeout"]
    return int(text[:-1]) * {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[text[-1]]


async def test_requests_are_compressed_by_default() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address)
        await client.count_workflows("x" * 10_000)
        [call] = server.of(COUNT)
        assert call.compressed and call.headers["grpc-encoding"] == "gzip"
        assert "gzip" in call.headers["grpc-accept-encoding"]
        assert len(call.body) < 1000
        assert CountWorkflowExecutionsRequest.FromString(call.message).query == "x" * 10_000


async def test_compression_can_be_switched_off() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, grpc_compression=GrpcCompression.NONE)
        await client.count_workflows("x" * 10_000)
        [call] = server.of(COUNT)
        assert not call.compressed and "grpc-encoding" not in call.headers
        assert "grpc-accept-encoding" not in call.headers


async def test_a_server_that_cannot_decompress_gets_plain_requests() -> None:
    def picky(call: Call) -> Answer:
        words = 'grpc: Decompressor is not installed for grpc-encoding "gzip"'
        return Answer(status=12, words=words) if "grpc-encoding" in call.headers else Answer()

    async with loopback(picky) as server:
        client = await Client.connect(server.address)
        assert [call.headers.get("grpc-encoding") for call in server.calls] == ["gzip", None]
        assert "grpc-encoding" not in await sent(server, client)
