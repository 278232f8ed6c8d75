"""Connecting a native client: what is refused at the call, and how it fails in the future."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.bridge.client import ClientDnsLoadBalancingConfig, ClientHttpConnectProxyConfig

from surface import shapes
from surface.shapes import line, native, raised

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


async def test_tls_to_a_plain_server_fails_and_plain_words_over_https_too(
    quiet: Any, connected: Any, address: str
) -> None:
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
