"""Making a connection: late, through a proxy, by a name, and how it fails; messages of all sizes over it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from client.programs import Box, Echo
from client.relay import connect_proxy, listening, unused_address
from client.wire import Answer, Call, loopback
from support import unique
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import DnsLoadBalancingConfig, GrpcCompression, HttpConnectProxyConfig, RPCError
from temporalio.worker import Worker

COUNT = "CountWorkflowExecutions"


async def test_a_lazy_client_connects_with_its_first_call() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, lazy=True)
        assert server.connections == 0
        await client.count_workflows("x")
        assert [call.method for call in server.calls] == ["GetSystemInfo", COUNT]
        assert server.connections == 1


async def test_first_calls_of_a_lazy_client_share_one_connection() -> None:
    async with loopback() as server:
        client = await Client.connect(server.address, lazy=True)
        await asyncio.gather(*[client.count_workflows("x") for _ in range(10)])
        assert (server.connections, len(server.of("GetSystemInfo")), len(server.of(COUNT))) == (1, 1, 10)


async def test_a_lazy_client_tries_to_connect_until_it_can() -> None:
    client = await Client.connect(unused_address(), lazy=True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Failed client connect: .*Connection refused"):
            await client.count_workflows("x")


async def test_a_worker_does_not_take_a_client_that_never_connected(address: str) -> None:
    lazy = await Client.connect(address, lazy=True)
    with pytest.raises(RuntimeError, match="Lazy clients cannot be used for workers"):
        Worker(lazy, task_queue=unique(), workflows=[Echo])


@pytest.mark.parametrize("dns", [None, DnsLoadBalancingConfig()])
async def test_nobody_listening_is_a_connect_failure(dns: DnsLoadBalancingConfig | None) -> None:
    for target in (unused_address(), unused_address().replace("127.0.0.1", "localhost")):
        with pytest.raises(RuntimeError, match="^Failed client connect: Server connection error: .*refused"):
            await Client.connect(target, dns_load_balancing_config=dns)


@pytest.mark.parametrize("dns", [None, DnsLoadBalancingConfig()])
async def test_a_refused_connection_names_each_address(dns: DnsLoadBalancingConfig | None, engine: str) -> None:
    port = int(unused_address().rpartition(":")[2])
    found = await asyncio.get_running_loop().getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
    tried = [f"[{at[0]}]:{port}" if ":" in str(at[0]) else f"{at[0]}:{port}" for *_, at in found]
    with pytest.raises(RuntimeError) as refused:
        await Client.connect(f"localhost:{port}", dns_load_balancing_config=dns)
    # The original tells of one.
    named = [address for address in tried if address in str(refused.value)]
    assert named == tried if engine == "outlast" else named


@pytest.mark.parametrize("target, error", [("", "empty host"), ("not a host", ""), ("[::1", "")])
async def test_a_target_that_is_no_address_is_a_value_error(target: str, error: str) -> None:
    with pytest.raises(ValueError, match=f"^invalid target URL: {error}"):
        await Client.connect(target)


async def test_a_server_of_another_kind_is_a_connect_failure() -> None:
    async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with listening(web_server) as address:
        with pytest.raises(RuntimeError, match="^Failed client connect: "):
            await Client.connect(address)


@pytest.mark.parametrize("status, name", [(7, "PermissionDenied"), (16, "Unauthenticated"), (14, "Unavailable")])
async def test_a_server_that_refuses_the_first_call_is_a_connect_failure(status: int, name: str) -> None:
    async with loopback(lambda call: Answer(status=status, words="closed today")) as server:
        with pytest.raises(RuntimeError) as failed:
            await Client.connect(server.address)
        assert "`get_system_info` call error after connection" in str(failed.value)
        assert name in str(failed.value) and "closed today" in str(failed.value)
        assert len(server.calls) == 1


async def test_a_server_without_system_info_is_good_enough() -> None:
    def old(call: Call) -> Answer:
        return Answer(status=12, words="unknown method GetSystemInfo") if call.method == "GetSystemInfo" else Answer()

    async with loopback(old) as server:
        client = await Client.connect(server.address)
        assert (await client.count_workflows("x")).count == 0


@contextmanager
def full_house() -> Iterator[str]:
    """The address of a listener whose queue is full: connections to it are neither made nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()


async def test_a_connection_that_is_not_made_in_time_is_a_failure() -> None:
    with full_house() as address:
        with pytest.raises(RuntimeError, match="^Failed client connect: "):
            await Client.connect(address, connect_timeout=timedelta(milliseconds=200))


async def test_connecting_can_be_given_up() -> None:
    async with loopback(lambda call: None) as server:
        connecting = asyncio.create_task(Client.connect(server.address))
        [call] = await server.wait_for("GetSystemInfo")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_name_is_resolved_with_and_without_balancing() -> None:
    async with loopback() as server:
        target = f"localhost:{server.address.rpartition(':')[2]}"
        for dns in (None, DnsLoadBalancingConfig(), DnsLoadBalancingConfig(resolution_interval_millis=1000)):
            client = await Client.connect(target, dns_load_balancing_config=dns)
            await client.count_workflows("x")
        assert [len(server.of(method)) for method in ("GetSystemInfo", COUNT)] == [3, 3]
        hasty = DnsLoadBalancingConfig(resolution_interval_millis=999)
        with pytest.raises(RuntimeError) as refused:
            await Client.connect(target, dns_load_balancing_config=hasty)
        assert str(refused.value) == (
            "Failed client connect: Invalid client configuration: "
            "dns_load_balancing.resolution_interval must be at least 1s, got 999ms"
        )


async def test_a_scheme_is_still_understood_with_a_warning() -> None:
    async with loopback() as server:
        with pytest.warns(UserWarning, match="Target host as URL with scheme no longer supported"):
            client = await Client.connect(f"http://{server.address}")
        await client.count_workflows("x")


async def test_two_runtimes_have_two_connections() -> None:
    async with loopback() as server:
        for _ in range(2):
            await Client.connect(server.address, runtime=Runtime(telemetry=TelemetryConfig(metrics=None)))
        assert server.connections == 2


async def test_a_proxy_is_asked_for_the_target(address: str) -> None:
    async with connect_proxy(address) as proxy:
        settings = HttpConnectProxyConfig(target_host=proxy.address)
        client = await Client.connect("only.the.proxy.knows.invalid:7233", http_connect_proxy_config=settings)
        assert (await client.count_workflows("WorkflowId = 'none'")).count == 0
        assert proxy.asked == [("only.the.proxy.knows.invalid:7233", None)]


async def test_a_proxy_may_want_credentials(address: str) -> None:
    async with connect_proxy(address, "user:pass word") as proxy:
        for credentials in (None, ("user", "wrong")):
            settings = HttpConnectProxyConfig(target_host=proxy.address, basic_auth=credentials)
            with pytest.raises(RuntimeError, match="^Failed client connect: .*407 Proxy Authentication Required"):
                await Client.connect(address, http_connect_proxy_config=settings)
        settings = HttpConnectProxyConfig(target_host=proxy.address, basic_auth=("user", "pass word"))
        client = await Client.connect(address, http_connect_proxy_config=settings)
        assert (await client.count_workflows("WorkflowId = 'none'")).count == 0
        assert [given for _, given in proxy.asked] == [None, "user:wrong", "user:pass word"]
        assert {host for host, _ in proxy.asked} == {address}


async def test_a_proxy_that_is_not_there_is_a_connect_failure(address: str) -> None:
    settings = HttpConnectProxyConfig(target_host=unused_address())
    with pytest.raises(RuntimeError, match="^Failed client connect: "):
        await Client.connect(address, http_connect_proxy_config=settings)


async def test_a_proxy_that_never_answers_is_a_connect_failure() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass

    async with listening(silent) as address:
        settings = HttpConnectProxyConfig(target_host=address)
        with pytest.raises(RuntimeError, match="^Failed client connect: Server connection error: "):
            await Client.connect(
                "a.invalid:1", http_connect_proxy_config=settings, connect_timeout=timedelta(milliseconds=200)
            )


@pytest.mark.parametrize("compression", [GrpcCompression.NONE, GrpcCompression.GZIP])
@pytest.mark.parametrize("size", [0, 100_000, 1_500_000])
async def test_payloads_of_all_sizes_pass(address: str, queue: str, compression: GrpcCompression, size: int) -> None:
    client = await Client.connect(address, grpc_compression=compression)
    value = os.urandom(size // 2).hex()
    assert await client.execute_workflow(Echo.run, value, id=unique(), task_queue=queue) == value


async def test_a_payload_over_the_server_s_limit_is_refused_and_the_client_lives_on(client: Client, queue: str) -> None:
    with pytest.raises(RPCError):
        await client.start_workflow(Echo.run, os.urandom(3_000_000).hex(), id=unique(), task_queue=queue)
    assert await client.execute_workflow(Echo.run, 1, id=unique(), task_queue=queue) == 1


async def test_an_answer_over_four_megabytes_is_read_whole(client: Client) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=unique("nobody"))
    for _ in range(4):
        await handle.signal("put", os.urandom(750_000).hex())
    pages = handle.fetch_history_events()
    await pages.fetch_next_page()
    assert pages.current_page is not None and len(pages.current_page) == 6
    assert sum(event.ByteSize() for event in pages.current_page) > 6_000_000
    await handle.terminate()
