"""TLS: who is trusted, by which name, and how a client shows who it is. The relays end TLS before the dev server."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.relay import Authority, server_context, tls_relay
from client.wire import loopback
from temporalio.client import Client, TLSConfig

AUTHORITY = Authority("outlast tests")
STRANGER = Authority("somebody else")


async def works(client: Client) -> bool:
    return (await client.count_workflows("WorkflowId = 'none'")).count == 0


async def test_a_trusted_server_is_reached_over_http2(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("localhost"), tmp_path), address) as relay:
        client = await Client.connect(f"localhost:{relay.port}", tls=TLSConfig(server_root_ca_cert=AUTHORITY.cert))
        assert await works(client)
        assert (relay.server_names, relay.protocols, relay.client_names) == (["localhost"], ["h2"], [None])


async def test_an_unknown_authority_is_not_trusted(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(STRANGER.issue("localhost"), tmp_path), address) as relay:
        with pytest.raises(RuntimeError, match="Failed client connect: .*UnknownIssuer"):
            await Client.connect(f"localhost:{relay.port}", tls=TLSConfig(server_root_ca_cert=AUTHORITY.cert))
        with pytest.raises(RuntimeError, match="Failed client connect: .*UnknownIssuer"):
            await Client.connect(f"localhost:{relay.port}", tls=True)
        assert relay.protocols == []


async def test_a_certificate_must_have_the_name_that_was_dialled(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("elsewhere.test"), tmp_path), address) as relay:
        with pytest.raises(RuntimeError, match="Failed client connect: .*NotValidForName"):
            await Client.connect(f"localhost:{relay.port}", tls=TLSConfig(server_root_ca_cert=AUTHORITY.cert))
        assert relay.server_names == ["localhost"]


async def test_a_domain_stands_for_the_dialled_name(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("elsewhere.test"), tmp_path), address) as relay:
        tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, domain="elsewhere.test")
        assert await works(await Client.connect(relay.address, tls=tls))
        assert relay.server_names == ["elsewhere.test"]


async def test_a_domain_is_the_authority_of_requests_too(tmp_path: Path) -> None:
    context = server_context(AUTHORITY.issue("elsewhere.test"), tmp_path)
    async with loopback(tls=context) as server:
        tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, domain="elsewhere.test")
        await Client.connect(server.address, tls=tls)
        [call] = server.calls
        assert call.headers[":scheme"] == "https"
        assert call.headers[":authority"].startswith("elsewhere.test")


async def test_a_verification_name_only_checks_the_certificate(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("inside.test"), tmp_path), address) as relay:
        tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, verification_server_name="inside.test")
        assert await works(await Client.connect(f"localhost:{relay.port}", tls=tls))
        assert relay.server_names == ["localhost"]
        wrong = TLSConfig(server_root_ca_cert=AUTHORITY.cert, verification_server_name="outside.test")
        with pytest.raises(RuntimeError, match="Failed client connect: .*NotValidForName"):
            await Client.connect(f"localhost:{relay.port}", tls=wrong)


async def test_a_client_shows_its_certificate(address: str, tmp_path: Path) -> None:
    mine = AUTHORITY.issue("the client")
    context = server_context(AUTHORITY.issue("localhost"), tmp_path, client_authority=AUTHORITY)
    async with tls_relay(context, address) as relay:
        tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, client_cert=mine.cert, client_private_key=mine.key)
        assert await works(await Client.connect(f"localhost:{relay.port}", tls=tls))
        assert relay.client_names == ["the client"]


async def test_a_server_may_insist_on_a_certificate_that_it_trusts(address: str, tmp_path: Path) -> None:
    theirs = STRANGER.issue("the client")
    context = server_context(AUTHORITY.issue("localhost"), tmp_path, client_authority=AUTHORITY)
    async with tls_relay(context, address) as relay:
        for cert, key in ((None, None), (theirs.cert, theirs.key)):
            tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, client_cert=cert, client_private_key=key)
            with pytest.raises(RuntimeError, match="Failed client connect: "):
                await Client.connect(f"localhost:{relay.port}", tls=tls)


async def test_an_api_key_turns_tls_on_unless_told_not_to(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("localhost"), tmp_path), address) as relay:
        with pytest.raises(RuntimeError, match="UnknownIssuer"):
            await Client.connect(f"localhost:{relay.port}", api_key="key")
    assert await works(await Client.connect(address, api_key="key", tls=False))


async def test_tls_to_a_server_without_it_fails(address: str) -> None:
    with pytest.raises(RuntimeError, match="Failed client connect: "):
        await Client.connect(address, tls=TLSConfig(server_root_ca_cert=AUTHORITY.cert))


@pytest.mark.parametrize(
    "tls, error",
    [
        (TLSConfig(client_cert=b"only one"), "Must have both client cert and private key or neither"),
        (TLSConfig(client_private_key=b"only one"), "Must have both client cert and private key or neither"),
        (
            TLSConfig(verification_server_name="a.test"),
            "Must have server root CA cert when verification server name is set",
        ),
    ],
)
async def test_half_a_configuration_is_refused_before_anything_is_sent(tls: TLSConfig, error: str) -> None:
    async with loopback() as server:
        with pytest.raises(ValueError) as refused:
            await Client.connect(server.address, tls=tls)
        assert str(refused.value) == error
        assert server.connections == 0


async def test_a_client_certificate_of_nonsense_is_refused_before_anything_is_sent() -> None:
    async with loopback() as server:
        tls = TLSConfig(server_root_ca_cert=AUTHORITY.cert, client_cert=b"no", client_private_key=b"sense")
        with pytest.raises(RuntimeError, match="Failed client connect: "):
            await Client.connect(server.address, tls=tls)
        assert server.connections == 0


async def test_an_authority_of_nonsense_trusts_nobody(address: str, tmp_path: Path) -> None:
    async with tls_relay(server_context(AUTHORITY.issue("localhost"), tmp_path), address) as relay:
        with pytest.raises(RuntimeError, match="Failed client connect: "):
            await Client.connect(f"localhost:{relay.port}", tls=TLSConfig(server_root_ca_cert=b"nonsense"))
        assert relay.protocols == []
