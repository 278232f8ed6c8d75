"""Addresses: of servers, of proxies, and names for TLS. What is looked up is what the error of the lookup names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.bridge.client import ClientDnsLoadBalancingConfig, ClientHttpConnectProxyConfig

from client.relay import Authority
from client.wire import loopback
from settings.table import REFUSED, Row, rows
from surface import shapes
from surface.shapes import native

SECRET = "users and passwords of a URL are not sent to the server"
RESOLVER = "the resolver says so, not the reader of the URL"
AT_ONCE = "such a name is refused before anything is looked up"
CLEAR = "with an API key or TLS settings, a scheme that is not understood is refused: the original sends the key in the clear"

SERVERS = [
    Row("http://LOCALHOST:PORT", "localhost", "LOCALHOST", "names are sent as they are written"),
    Row("http://127.1:PORT", "127.0.0.1", "127.1", "names are sent as they are written"),
    Row("http://127.0.0.1.:PORT", "127.0.0.1"),
    Row("http://%6cocalhost:PORT", "localhost"),
    Row("http://127.0.0.1:0PORT", "127.0.0.1"),
    Row("http://127.0.0.1:PORT/path?q#f", "127.0.0.1"),
    Row("http://127.0.0.1:PORT \n", "127.0.0.1"),
    Row("http://127.\t0.0.1:PORT", "127.0.0.1"),
    Row(" http:////127.0.0.1:PORT", "127.0.0.1"),
    Row("http://user:pw@127.0.0.1:PORT", "user:pw@127.0.0.1", "127.0.0.1", SECRET),
    Row("http://@127.0.0.1:PORT", "127.0.0.1"),
    Row("http://a@b@127.0.0.1:PORT", "a%40b@127.0.0.1", "127.0.0.1", SECRET),
    Row("http://[::ffff:127.0.0.1]:PORT", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "names are sent as they are written"),
    Row("HTTP://127.0.0.1:PORT", "127.0.0.1"),
    *(Row(f"{scheme}://127.0.0.1:PORT", "127.0.0.1") for scheme in ("grpc", "h2c", "ftp", "ws")),
    Row("http://caf\u00e9.invalid:1", "looks up xn--caf-dma.invalid"),
    Row("http://CAF\u00c9.invalid:1", "looks up xn--caf-dma.invalid"),
    Row("http://\u4e16\u754c\u3002invalid:7233", "looks up xn--rhqv96g.invalid"),
    Row("http://stra\u00dfe.invalid:1", "looks up xn--strae-oqa.invalid"),
    *(
        Row(f"http://{name}.invalid:1", f"looks up {name}.invalid")
        for name in ("a_b", "-a", "a-", "*", "a!b", "a$b", "a'b", "a(b)", "a,b", "a;b", "a=b", "a+b", "a~b", "a&b")
    ),
    Row("http://a..invalid:1", "looks up a..invalid"),
    Row("http://" + "x" * 64 + ".invalid:1", "looks up " + "x" * 64 + ".invalid"),
    Row("http://a%41.invalid:1", "looks up aa.invalid", "looks up aA.invalid", "names are sent as they are written"),
    *(Row(f"http://{host}:1", REFUSED) for host in ("a b", "a|b", "a<b", "a^b", "a]b", "[::1", "[127.0.0.1]", "::1", "")),
    *(Row(f"http://a:{port}", REFUSED) for port in ("x", "+1", " 1", "99999", "1:2")),
    *(Row(url, REFUSED) for url in ("", "a", "a:1", "//a:1", "://a:1")),
    *(Row(f"http://{address}:1", REFUSED, f"looks up {address}", RESOLVER) for address in ("1.2.3.4.5", "127.0.0.256")),
]


async def reached(quiet: Any, port: str, **change: Any) -> str:
    """Whom a client says that it speaks to, what it looks up, or that it does not try."""
    config = shapes.client("", dns_load_balancing_config=ClientDnsLoadBalancingConfig(30_000), **change)
    try:
        await asyncio.wait_for(native.connect_client(quiet, config), 60)
    except ValueError as error:
        assert str(error).startswith("invalid target URL: ")
        return REFUSED
    except RuntimeError as error:
        if "target URL has no host" in str(error):
            return REFUSED
        _, asked, rest = str(error).partition("DNS resolution error for '")
        assert asked, error
        return "looks up " + rest.partition("': ")[0]
    return "connected"


@pytest.mark.parametrize(**rows(*SERVERS))
async def test_servers(row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        port = server.address.rpartition(":")[2]
        outcome = await reached(quiet, port, target_url=row.value.replace("PORT", port))
        if outcome == "connected":
            outcome = server.calls[-1].headers[":authority"].removesuffix(f":{port}")
        assert outcome == row.expected(engine)


@pytest.mark.parametrize("secret", [{"api_key": "key"}, {"tls_config": shapes.tls()}], ids=["key", "tls"])
@pytest.mark.parametrize(**rows(*(Row(scheme, "connected", REFUSED, CLEAR) for scheme in ("grpc", "htps", "grpcs"))))
async def test_secrets_to_servers_of_unknown_schemes(secret: dict[str, Any], row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        outcome = await reached(quiet, "", target_url=f"{row.value}://{server.address}", **secret)
        assert outcome == row.expected(engine)


@pytest.mark.parametrize(
    "proxy",
    ["", "nope", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "http://127.0.0.1:1", "https://127.0.0.1:1", "a b:1"]
    + ["127.0.0.1:1/path", "user@127.0.0.1:1", "caf\u00e9.invalid:1", "unix:", "unix:relative", "unix:/x y"],
)
async def test_a_proxy_that_cannot_be_is_not_connected_to(proxy: str, quiet: Any) -> None:
    config = ClientHttpConnectProxyConfig(proxy, None)
    with pytest.raises(RuntimeError, match="^Failed client connect: Server connection error: "):
        await native.connect_client(quiet, shapes.client("http://a.invalid:1", http_connect_proxy_config=config))


OWN = Authority("outlast settings")
PAIR = OWN.issue("client")
TAKEN = "taken"
WRONG_PAIR = [
    {"client_cert": b"", "client_private_key": b""},
    {"client_cert": b"x", "client_private_key": PAIR.key},
    {"client_cert": PAIR.cert, "client_private_key": b"x"},
    {"client_cert": PAIR.cert, "client_private_key": OWN.issue("client").key},
    {"client_cert": PAIR.key, "client_private_key": PAIR.cert},
]
TLS = [
    Row({}, TAKEN),
    *(Row({"server_root_ca_cert": ca}, TAKEN) for ca in (b"", b"x", OWN.cert, OWN.cert * 2, b"x" + OWN.cert)),
    Row({"client_cert": PAIR.cert, "client_private_key": PAIR.key}, TAKEN),
    *(Row(pair, REFUSED) for pair in WRONG_PAIR),
    *(Row({"domain": name}, TAKEN) for name in ("127.0.0.1", "X.Test", "x.test.", "a_b.test")),
    *(Row({"domain": name}, REFUSED) for name in ("", " ", "x.test:7", "::1", "[::1]", "*.test", "x/y", "https://x", "u@x")),
    Row({"domain": "caf\u00e9.test"}, REFUSED),
    *(
        Row({"server_root_ca_cert": OWN.cert, "verification_server_name": name}, TAKEN)
        for name in ("x.test", "127.0.0.1", "::1")
    ),
    *(
        Row({"server_root_ca_cert": OWN.cert, "verification_server_name": name}, REFUSED)
        for name in ("", "a b", "caf\u00e9.test")
    ),
    *(Row({"server_root_ca_cert": ca, "verification_server_name": "x.test"}, REFUSED) for ca in (b"", b"x")),
]


@pytest.mark.parametrize(**rows(*TLS))
async def test_tls(row: Row, engine: str, quiet: Any) -> None:
    """What can be used leads to a connection, which is refused."""
    try:
        await native.connect_client(quiet, shapes.client("https://127.0.0.1:1", tls_config=shapes.tls(**row.value)))
        outcome = "connected"
    except ValueError:
        outcome = REFUSED
    except RuntimeError as error:
        outcome = TAKEN if "Connection refused" in str(error) else REFUSED
    assert outcome == row.expected(engine)
