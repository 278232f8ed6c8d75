"""Connecting and calling through the native client: refusals at the call, failures in the future, metadata, gRPC errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import temporalio.api.workflowservice.v1 as workflowservice
import temporalio.service
from surface import shapes
from surface.relay import Relay
from surface.shapes import line, native, raised
from temporalio.api.common.v1 import GrpcStatus
from temporalio.bridge.client import ClientDnsLoadBalancingConfig, ClientHttpConnectProxyConfig

URLS = {
    "": "relative URL without a base",
    "nope": "relative URL without a base",
    "127.0.0.1:7233": "relative URL without a base",
    "http://": "empty host",
    "http://:80": "empty host",
    "http://a b": "invalid international domain name",
    "http://[::1": "invalid IPv6 address",
    "http://x:99999": "invalid port number",
    "http://x:abc": "invalid port number",
}
BAD_KEY = "invalid gRPC metadata key name"


@pytest.mark.parametrize("url", URLS)
async def test_a_bad_url_is_refused_at_the_call(url: str, quiet: Any) -> None:
    error = raised(native.connect_client, quiet, shapes.client(url))
    assert line(error) == f"ValueError: invalid target URL: {URLS[url]}"


@pytest.mark.parametrize("name", ["zz", "Gzip", ""])
async def test_only_two_compressions_are_known(name: str, quiet: Any) -> None:
    error = raised(native.connect_client, quiet, shapes.client(shapes.NOWHERE, grpc_compression=name))
    assert line(error) == f"ValueError: invalid grpc_compression: {name}"


@pytest.mark.parametrize("half", ["client_cert", "client_private_key"])
async def test_half_a_client_identity_is_refused_at_the_call(half: str, quiet: Any) -> None:
    config = shapes.client(shapes.NOWHERE, tls_config=shapes.tls(**{half: b"x"}))
    text = "ValueError: Must have both client cert and private key or neither"
    assert line(raised(native.connect_client, quiet, config)) == text


async def test_a_name_to_verify_needs_a_ca(quiet: Any) -> None:
    config = shapes.client(shapes.NOWHERE, tls_config=shapes.tls(verification_server_name="x"))
    text = "ValueError: Must have server root CA cert when verification server name is set"
    assert line(raised(native.connect_client, quiet, config)) == text


async def fails(quiet: Any, url: str, **change: Any) -> str:
    """The words with which connecting fails in the future."""
    future = native.connect_client(quiet, shapes.client(url, **change))
    with pytest.raises(RuntimeError) as caught:
        await asyncio.wait_for(future, 60)
    head, _, cause = str(caught.value).partition("Failed client connect: ")
    assert head == "" and cause
    return cause


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("balanced", [False, True])
async def test_a_refused_port(scheme: str, balanced: bool, quiet: Any) -> None:
    dns = ClientDnsLoadBalancingConfig(30_000) if balanced else None
    tls = shapes.tls() if scheme == "https" else None
    cause = await fails(quiet, f"{scheme}://127.0.0.1:1", dns_load_balancing_config=dns, tls_config=tls)
    assert cause.startswith("Server connection error: ")
    assert "Connection refused" in cause


async def test_a_name_that_does_not_resolve(quiet: Any) -> None:
    cause = await fails(quiet, "http://nope.invalid:1")
    assert cause.startswith("Server connection error: ")
    assert "failed to lookup address information" in cause
    cause = await fails(quiet, "http://nope.invalid:1", dns_load_balancing_config=ClientDnsLoadBalancingConfig(30_000))
    assert cause.startswith("DNS resolution error for 'nope.invalid': failed to lookup address information")


HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"a b": "c"}, f"Invalid ASCII header key 'a b': {BAD_KEY}"),
    ({"": "c"}, f"Invalid ASCII header key '': {BAD_KEY}"),
    ({"a-bin": "c"}, f"Invalid ASCII header key 'a-bin': {BAD_KEY}"),
    ({"a": b"c"}, f"Invalid binary header key 'a': {BAD_KEY}"),
    ({"a b-bin": b"c"}, f"Invalid binary header key 'a b-bin': {BAD_KEY}"),
    ({"a": "c\nd"}, "Invalid ASCII header value for key 'a': failed to parse metadata value"),
]


@pytest.mark.parametrize("metadata,text", HEADERS, ids=[str(row[0]) for row in HEADERS])
async def test_bad_headers(metadata: dict[str, Any], text: str, quiet: Any, connected: Any, address: str) -> None:
    assert await fails(quiet, f"http://{address}", metadata=metadata) == f"Invalid headers: {text}"
    assert line(raised(connected.update_metadata, metadata)) == f"ValueError: {text}"


async def test_tls_to_a_plain_server_fails_and_plain_words_over_https_too(quiet: Any, connected: Any, address: str) -> None:
    for tls in (shapes.tls(), shapes.tls(server_root_ca_cert=b"garbage"), None):
        cause = await fails(quiet, f"https://{address}", tls_config=tls)
        assert cause.startswith("Server connection error: ")


async def test_a_client_key_that_is_none_fails(quiet: Any) -> None:
    tls = shapes.tls(client_cert=b"x", client_private_key=b"y")
    assert (await fails(quiet, "https://127.0.0.1:1", tls_config=tls)).startswith("Server connection error: ")


@pytest.mark.parametrize("domain", ["a b", ""])
async def test_a_domain_that_is_none_fails(domain: str, quiet: Any) -> None:
    cause = await fails(quiet, "https://127.0.0.1:1", tls_config=shapes.tls(domain=domain))
    assert cause.startswith("Invalid URI: ")


@pytest.fixture
async def answering() -> AsyncIterator[Any]:
    """Makes loopback servers that give one answer to whatever comes, and hang up."""
    servers: list[asyncio.Server] = []
    heard: list[bytes] = []

    async def make(answer: bytes) -> tuple[str, list[bytes]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.read(4096))
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return "127.0.0.1:%d" % server.sockets[0].getsockname()[1], heard

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 404 Not Found\r\n\r\n"])
async def test_a_server_that_speaks_something_else(answer: bytes, quiet: Any, answering: Any) -> None:
    target, _ = await answering(answer)
    cause = await fails(quiet, f"http://{target}")
    assert cause.startswith("`get_system_info` call error after connection: Status {")


@pytest.mark.parametrize(
    "proxy,words",
    [("127.0.0.1:1", "Connection refused"), ("unix:/nope/x", "No such file"), ("nope.invalid:1", "failed to lookup")],
)
async def test_a_proxy_that_is_not_there(proxy: str, words: str, quiet: Any, address: str) -> None:
    config = ClientHttpConnectProxyConfig(proxy, None)
    cause = await fails(quiet, f"http://{address}", http_connect_proxy_config=config)
    assert cause.startswith("Server connection error: ")
    assert words in cause


async def test_a_proxy_that_refuses_was_shown_the_credentials(quiet: Any, answering: Any) -> None:
    target, heard = await answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    config = ClientHttpConnectProxyConfig(target, ("user", "pass"))
    cause = await fails(quiet, "http://example.invalid:7233", http_connect_proxy_config=config)
    assert cause.startswith("Server connection error: ")
    assert "CONNECT call failed with status: 407 Proxy Authentication Required" in cause
    first, *headers = heard[0].decode().split("\r\n")
    assert first.startswith("CONNECT example.invalid:7233 HTTP/1.1")
    assert "proxy-authorization: basic dxnlcjpwyxnz" in [header.lower() for header in headers]


async def test_connecting_is_eager_and_accepts_odd_but_legal_configs(quiet: Any, connected: Any, address: str) -> None:
    url = f"http://{address}"
    for change in (
        {"grpc_compression": "gzip"},
        {"metadata": {"Upper-Case": "x", "accent": "é", "raw-bin": b"\x00\xff"}},
        {"tls_config": shapes.tls()},
        {"client_version": ""},
        {"dns_load_balancing_config": ClientDnsLoadBalancingConfig(1_000)},
    ):
        assert type(await native.connect_client(quiet, shapes.client(url, **change))) is native.ClientRef
    assert type(await native.connect_client(quiet, shapes.duck(shapes.client(url)))) is native.ClientRef


@pytest.mark.parametrize("service", ["workflow", "operator", "cloud", "test", "health"])
@pytest.mark.parametrize("name", ["nope", "", "GetSystemInfo", "Check"])
async def test_an_unknown_call_is_refused_before_anything_else(service: str, name: str, connected: Any) -> None:
    call = shapes.call(name, b"\xff", metadata={"a b": "c"})
    with pytest.raises(ValueError) as caught:
        await getattr(connected, f"call_{service}_service")(call)
    assert line(caught.value) == f"ValueError: Unknown RPC call {name}"


def stubs() -> list[tuple[str, str]]:
    """Every call that the Python layer knows, as (service, name)."""
    services = {
        "workflow": temporalio.service.WorkflowService,
        "operator": temporalio.service.OperatorService,
        "cloud": temporalio.service.CloudService,
        "test": temporalio.service.TestService,
        "health": temporalio.service.HealthService,
    }
    return [(service, name) for service, kind in services.items() for name in dir(kind) if not name.startswith("_")]


async def test_every_call_of_the_python_layer_is_known(quiet: Any, answering: Any, address: str, connected: Any) -> None:
    calls = stubs()
    assert len(calls) >= 218
    # A request that no message accepts: a known call complains of it, and nothing is sent.
    for service, name in calls:
        future = getattr(connected, f"call_{service}_service")(shapes.call(name, b"\xff"))
        with pytest.raises(ValueError, match="^Invalid proto: failed to decode Protobuf message: "):
            await future


async def test_every_call_of_the_python_layer_reaches_the_server(connected: Any) -> None:
    async def answer(service: str, name: str) -> str:
        future = getattr(connected, f"call_{service}_service")(shapes.call(name, timeout_millis=1_000))
        try:
            return type(await future).__name__
        except native.RPCError as error:
            return f"RPCError {error.args[0]}"

    calls = [call for call in stubs() if not call[1].startswith("shutdown_worker")]
    answers = dict(zip(calls, await asyncio.gather(*(answer(*call) for call in calls)), strict=True))
    assert {found for (service, _), found in answers.items() if service in ("cloud", "test")} == {"RPCError 12"}
    assert answers["health", "check"] == "bytes"
    assert answers["workflow", "get_system_info"] == "bytes"
    assert answers["workflow", "describe_workflow_execution"] == "RPCError 3"
    assert set(answers.values()) <= {"bytes", *(f"RPCError {code}" for code in range(1, 17))}


PROTOS = [b"\xff", b"\x0a", b"\x0a\x05a", b"\x00", b"\x0a\x01\xff", b"\x09"]


@pytest.mark.parametrize("request_bytes", PROTOS, ids=repr)
async def test_a_request_that_is_no_message_is_not_sent(request_bytes: bytes, connected: Any) -> None:
    with pytest.raises(ValueError, match="^Invalid proto: failed to decode Protobuf message: "):
        await connected.call_workflow_service(shapes.call("describe_namespace", request_bytes, metadata={"a b": "c"}))


CALL_METADATA: list[tuple[dict[str, Any], str]] = [
    ({"k": b"x"}, "Invalid metadata value for ASCII key k: expected str"),
    ({"k-bin": "x"}, "Invalid metadata value for binary key k-bin: expected bytes"),
    ({"a b": "x"}, f"Invalid metadata key: {BAD_KEY}"),
    ({"a b-bin": b"x"}, f"Invalid metadata key: {BAD_KEY}"),
    ({"": "x"}, f"Invalid metadata key: {BAD_KEY}"),
    ({"k": "a\nb"}, "Invalid metadata value: failed to parse metadata value"),
]


@pytest.mark.parametrize("metadata,text", CALL_METADATA, ids=[str(row[0]) for row in CALL_METADATA])
async def test_bad_metadata_of_a_call(metadata: dict[str, Any], text: str, connected: Any) -> None:
    with pytest.raises(ValueError) as caught:
        await connected.call_workflow_service(shapes.call("get_system_info", metadata=metadata))
    assert line(caught.value) == f"ValueError: {text}"


async def test_an_error_of_the_server_is_code_message_and_details(connected: Any) -> None:
    request = workflowservice.DescribeNamespaceRequest(namespace="nope")
    with pytest.raises(native.RPCError) as caught:
        await connected.call_workflow_service(shapes.call("describe_namespace", request))
    code, message, details = caught.value.args
    assert (code, message) == (5, "Namespace nope is not found.")
    status = GrpcStatus.FromString(details)
    assert (status.code, status.message) == (code, message)
    assert [any.type_url.rsplit(".", 1)[1] for any in status.details] == ["NamespaceNotFoundFailure"]
    assert caught.value.__cause__ is None


async def test_an_error_without_details_has_empty_ones(connected: Any) -> None:
    with pytest.raises(native.RPCError) as caught:
        await connected.call_workflow_service(shapes.call("describe_workflow_execution"))
    code, _, details = caught.value.args
    assert code == 3
    assert type(details) is bytes
    with pytest.raises(native.RPCError) as caught:
        await connected.call_test_service(shapes.call("get_current_time"))
    assert caught.value.args == (12, "unknown service temporal.api.testservice.v1.TestService", b"")


async def test_a_deadline_of_nothing_is_exceeded(connected: Any) -> None:
    with pytest.raises(native.RPCError) as caught:
        await connected.call_workflow_service(shapes.call("get_system_info", timeout_millis=0))
    assert caught.value.args[0] in (1, 4)
    assert caught.value.args[2] == b""


async def test_a_silent_server_is_given_up_at_the_deadline(relay: Relay, quiet: Any) -> None:
    client = await native.connect_client(quiet, shapes.client(relay.url))
    relay.gate.clear()
    with pytest.raises(native.RPCError) as caught:
        await client.call_workflow_service(shapes.call("get_system_info", timeout_millis=300))
    assert caught.value.args == (1, "Timeout expired", b"")
    relay.gate.set()
    assert await client.call_workflow_service(shapes.call("get_system_info"))


async def test_an_invalid_request_is_not_tried_again(relay: Relay, quiet: Any) -> None:
    client = await native.connect_client(quiet, shapes.client(relay.url))
    await client.call_workflow_service(shapes.call("get_system_info"))
    before = relay.frames.count(Relay.HEADERS)
    with pytest.raises(native.RPCError) as caught:
        await client.call_workflow_service(shapes.call("describe_workflow_execution", retry=True))
    assert caught.value.args[0] == 3
    assert relay.frames.count(Relay.HEADERS) == before + 1


NEWER = {"supported-server-versions": ">99.0.0"}
"""Asks the server to refuse whoever sends it: shows which headers arrive."""


async def refused(client: Any, **change: Any) -> bool:
    try:
        await client.call_workflow_service(shapes.call("get_cluster_info", **change))
    except native.RPCError as error:
        assert "not supported" in error.args[1], error.args
        return True
    return False


async def test_headers_of_a_call_of_the_config_and_of_an_update_arrive(quiet: Any, connected: Any, address: str) -> None:
    url = f"http://{address}"
    client = await native.connect_client(quiet, shapes.client(url))
    assert not await refused(client)
    assert await refused(client, metadata=NEWER)
    assert not await refused(client)
    client.update_metadata(NEWER)
    assert await refused(client)
    assert not await refused(client, metadata={"supported-server-versions": ">1.0.0"})
    client.update_metadata({})
    assert not await refused(client)


async def test_an_update_of_metadata_that_fails_keeps_the_half_that_held(quiet: Any, connected: Any, address: str) -> None:
    client = await native.connect_client(quiet, shapes.client(f"http://{address}"))
    with pytest.raises(ValueError, match="Invalid ASCII header key 'a b'"):
        client.update_metadata({**NEWER, "a b": "c"})
    assert not await refused(client)
    with pytest.raises(ValueError, match="Invalid binary header key 'a b-bin'"):
        client.update_metadata({**NEWER, "a b-bin": b"c"})
    assert await refused(client)


async def test_api_keys_are_text_or_none(connected: Any) -> None:
    assert connected.update_api_key("key") is None
    assert connected.update_api_key(None) is None
    assert line(raised(connected.update_api_key, 1)) == "TypeError: 'int' object is not an instance of 'str'"


def test_metadata_is_a_dict_with_text_keys(connected: Any) -> None:
    assert connected.update_metadata(headers={}) is None
    assert line(raised(connected.update_metadata, [1])) == "TypeError: 'list' object is not an instance of 'dict'"
    assert line(raised(connected.update_metadata, {1: "a"})) == "TypeError: 'int' object is not an instance of 'str'"
