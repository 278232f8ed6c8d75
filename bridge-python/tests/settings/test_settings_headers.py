"""Values that go out as headers: the API key, metadata of clients and calls, names of the client."""

from __future__ import annotations

from typing import Any

import pytest

from client.wire import loopback
from settings.table import REFUSED, Row, rows
from surface import shapes
from surface.shapes import native

UTF8 = "caf\u00e9".encode().decode("latin-1")
"""How the bytes of a text look that are read one by one."""

NO_KEY = "a key that is empty is none"
TRIMMED = "HTTP/2 forbids space around a value; a key that was read from a file ends with a newline"

KEYS = [
    Row("key", "Bearer key"),
    Row("two words", "Bearer two words"),
    Row("Bearer key", "Bearer Bearer key"),
    Row("tab\tin", "Bearer tab\tin"),
    Row("caf\u00e9", f"Bearer {UTF8}"),
    Row("x" * 9000, "Bearer " + "x" * 9000),
    Row("", "Bearer ", "nothing", NO_KEY),
    Row(" ", "Bearer  ", "nothing", NO_KEY),
    Row(" lead", "Bearer  lead", "Bearer lead", TRIMMED),
    Row("trail ", "Bearer trail ", "Bearer trail", TRIMMED),
    Row("trail\n", "nothing", "Bearer trail", TRIMMED),
    Row("new\nline", "nothing"),
    Row("nul\0x", "nothing"),
    Row("\x7f", "nothing"),
]


@pytest.mark.parametrize(**rows(*KEYS))
async def test_api_keys(row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        client = await native.connect_client(quiet, shapes.client(f"http://{server.address}", api_key=row.value))
        assert server.calls[-1].headers.get("authorization", "nothing") == row.expected(engine)
        client.update_api_key("another")
        client.update_api_key(row.value)
        await client.call_workflow_service(shapes.call("get_system_info"))
        assert server.calls[-1].headers.get("authorization", "nothing") == row.expected(engine)


METADATA = [
    Row({"a": ""}, "''"),
    Row({"a": " x "}, "' x '"),
    Row({"a": "x\ty"}, r"'x\ty'"),
    Row({"a": "caf\u00e9"}, repr(UTF8)),
    Row({"a": "x" * 9000}, repr("x" * 9000)),
    *(Row({"a": text}, REFUSED) for text in ("\x7f", "\x01", "\0", "x\ny", "\r")),
    *(Row({key: "x"}, "'x'") for key in ("A", "a_b", "a.b", "-", ".", "_", "a!b", "a#$%&'*+^`|~b", "x" * 300)),
    *(Row({key: "x"}, REFUSED) for key in ("", " ", "a b", "a:b", ":a", ":path", "a/b", "a(b)", "a,b", "caf\u00e9")),
    *(Row({key: "x"}, "'x'") for key in ("authorization", "host", "grpc-x", "grpc-encoding", "grpc-accept-encoding")),
    Row({"temporal-namespace": "x"}, "'x'"),
    Row({"content-length": "5"}, "'5'"),
    Row({"te": "x"}, "'trailers'"),
    Row({"content-type": "x"}, "'application/grpc'"),
    Row({"user-agent": "x"}, "'x ...'"),
    *(
        Row({key: "x"}, "nothing")
        for key in ("connection", "transfer-encoding", "keep-alive", "upgrade", "proxy-connection")
    ),
    Row({"a-bin": b""}, "''"),
    Row({"-bin": b"x"}, "'eA'"),
    *(Row({key: b"x"}, "'eA'") for key in ("a-bin", "A-Bin", "a.b-bin", "a!b-bin", "grpc-trace-bin")),
    *(Row({key: b"x"}, REFUSED) for key in ("a", "bin", "a b-bin", "")),
    *(Row({key: "x"}, REFUSED) for key in ("a-bin", "A-BIN")),
]


def seen(headers: dict[str, str], metadata: dict[str, Any]) -> str:
    [name] = metadata
    value = headers.get(name.lower())
    if value is None:
        return "nothing"
    if name == "grpc-timeout" and value != "1S":
        return "the deadline"
    if name == "user-agent" and value.startswith("x "):
        return "'x ...'"
    return repr(value.rstrip("=") if name.lower().endswith("-bin") else value)


DEADLINE = {"grpc-timeout": "1S"}
CONNECTING = Row(DEADLINE, "'1S'", "the deadline", "a call of ours ends when it says that it does, also that of connecting")


@pytest.mark.parametrize(**rows(*METADATA, CONNECTING))
async def test_metadata_of_a_client(row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        config = shapes.client(f"http://{server.address}", metadata=row.value)
        try:
            await native.connect_client(quiet, config)
        except RuntimeError as error:
            assert "Invalid headers" in str(error) and not server.calls
            outcome = REFUSED
        else:
            outcome = seen(server.calls[-1].headers, row.value)
        assert outcome == row.expected(engine)


@pytest.mark.parametrize(**rows(*METADATA, Row(DEADLINE, "the deadline")))
async def test_metadata_of_a_call(row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        client = await native.connect_client(quiet, shapes.client(f"http://{server.address}"))
        try:
            await client.call_workflow_service(shapes.call("get_system_info", metadata=row.value))
        except ValueError:
            assert len(server.calls) == 1
            outcome = REFUSED
        else:
            outcome = seen(server.calls[-1].headers, row.value)
        assert outcome == row.expected(engine)


NAMES = [
    *(Row(text, repr(text)) for text in ("", " ", "a b", "tab\tin", "x" * 9000)),
    Row("caf\u00e9", repr(UTF8)),
    *(Row(text, "''") for text in ("new\nline", "\x01", "\x7f")),
]


@pytest.mark.parametrize("field", ["client_name", "client_version"])
@pytest.mark.parametrize(**rows(*NAMES))
async def test_names_of_a_client(field: str, row: Row, engine: str, quiet: Any) -> None:
    async with loopback() as server:
        await native.connect_client(quiet, shapes.client(f"http://{server.address}", **{field: row.value}))
        assert repr(server.calls[-1].headers[field.replace("_", "-")]) == row.expected(engine)


@pytest.mark.parametrize("identity", ["", " ", "caf\u00e9", "new\nline", "nul\0", "x" * 9000])
async def test_any_identity_will_do(identity: str, quiet: Any) -> None:
    async with loopback() as server:
        await native.connect_client(quiet, shapes.client(f"http://{server.address}", identity=identity))
        assert len(server.calls) == 1
