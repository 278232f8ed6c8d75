"""Calls through the native client: names, requests, metadata, deadlines and gRPC errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import temporalio.api.workflowservice.v1 as workflowservice
import temporalio.service
from temporalio.api.common.v1 import GrpcStatus

from surface import shapes
from surface.relay import Relay
from surface.shapes import line, native, raised

BAD_KEY = "invalid gRPC metadata key name"


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


async def test_every_call_of_the_python_layer_is_known(connected: Any) -> None:
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


async def test_headers_of_a_call_of_the_config_and_of_an_update_arrive(
    quiet: Any, connected: Any, address: str
) -> None:
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


async def test_an_update_of_metadata_that_fails_keeps_the_half_that_held(
    quiet: Any, connected: Any, address: str
) -> None:
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
