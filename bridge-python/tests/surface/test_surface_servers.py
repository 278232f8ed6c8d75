"""Ephemeral servers from a binary that is there: real ones, and small programs that only pretend."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import conftest
from support import eventually
from surface import shapes
from surface.shapes import line, native, raised


def pretend(folder: Path, body: str) -> str:
    """An executable that is a Python program."""
    path = folder / "server"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    path.chmod(0o755)
    return str(path)


def recorder(folder: Path) -> tuple[str, Path]:
    """An executable that writes its arguments and process id to a file and then does nothing."""
    out = folder / "seen"
    body = f"open({str(out)!r} + '.new', 'w').write(json.dumps([sys.argv[1:], os.getpid()]))\n"
    return pretend(folder, body + f"os.rename({str(out)!r} + '.new', {str(out)!r})\ntime.sleep(600)"), out


async def gone(pid: int) -> None:
    """The process has ended, reaped or not."""

    async def ended() -> None:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        assert state == "Z"

    await eventually(ended)


async def failure(future: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        await future
    return line(caught.value)


DEV = "RuntimeError: Failed starting Temporal dev server: "
TEST = "RuntimeError: Failed starting test server: "


async def test_a_binary_that_is_not_there(quiet: Any) -> None:
    text = "ephemeral server executable does not exist: "
    assert await failure(native.start_dev_server(quiet, shapes.dev_server("/nope"))) == f"{DEV}{text}/nope"
    assert await failure(native.start_test_server(quiet, shapes.test_server("/nope"))) == f"{TEST}{text}/nope"
    assert await failure(native.start_dev_server(quiet, shapes.dev_server(""))) == f"{DEV}{text}"


async def test_a_binary_that_cannot_run(quiet: Any, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    text = f"{DEV}failed to start ephemeral server: Permission denied (os error 13)"
    assert await failure(native.start_dev_server(quiet, shapes.dev_server(str(plain)))) == text
    assert await failure(native.start_dev_server(quiet, shapes.dev_server(str(tmp_path)))) == text


async def test_an_address_that_is_none(quiet: Any, tmp_path: Path) -> None:
    path, seen = recorder(tmp_path)
    text = await failure(native.start_dev_server(quiet, shapes.dev_server(path, ip="no address")))
    assert text.startswith(f"{DEV}failed to start ephemeral server: ")
    assert not seen.exists()


async def test_a_server_that_never_listens_is_given_up_and_killed(quiet: Any, tmp_path: Path) -> None:
    path, seen = recorder(tmp_path)
    port = conftest.free_port()
    future = native.start_dev_server(quiet, shapes.dev_server(path, port=port, startup_timeout_ms=1500))
    words = f"{DEV}ephemeral server at 127.0.0.1:{port} did not start within 1.5s; last connection error: "
    text = await failure(future)
    assert text.startswith(words)
    assert "Connection refused" in text
    await gone(json.loads(seen.read_text())[1])


async def test_a_server_that_exits_is_an_error(quiet: Any, tmp_path: Path) -> None:
    path = pretend(tmp_path, "sys.exit(3)")
    port = conftest.free_port()
    config = shapes.test_server(path)
    config.port, config.startup_timeout_ms = port, 500
    text = await failure(native.start_test_server(quiet, config))
    assert text.startswith(
        f"{TEST}ephemeral server at 127.0.0.1:{port} did not start within 500ms; last connection error: "
    )


async def test_cancelling_the_start_kills_the_server(quiet: Any, tmp_path: Path) -> None:
    path, seen = recorder(tmp_path)
    future = native.start_dev_server(quiet, shapes.dev_server(path, startup_timeout_ms=60_000))

    async def started() -> int:
        assert seen.exists()
        pid: int = json.loads(seen.read_text())[1]
        return pid

    pid = await eventually(started)
    os.kill(pid, 0)
    assert future.cancel()
    await gone(pid)


COMMON = ["--log-format", "pretty", "--log-level", "error"]
for setting in (
    "enableServerVersionCheck=false",
    "enableUpdateWorkflowExecution=true",
    "enableUpdateWorkflowExecutionAsyncAccepted=true",
):
    COMMON += ["--dynamic-config-value", f"frontend.{setting}"]


@pytest.mark.parametrize(
    "change,tail",
    [
        ({}, ["--headless"]),
        ({"ui": True}, ["--ui-port", "UI"]),
        ({"ui": True, "ui_port": 5}, ["--ui-port", "5"]),
        ({"database_filename": "db", "extra_args": ["-x", "y"]}, ["--db-filename", "db", "--headless", "-x", "y"]),
    ],
)
async def test_the_arguments_of_a_dev_server(
    change: dict[str, Any], tail: list[str], quiet: Any, tmp_path: Path
) -> None:
    path, seen = recorder(tmp_path)
    port = conftest.free_port()
    future = native.start_dev_server(
        quiet, shapes.dev_server(path, port=port, startup_timeout_ms=60_000, namespace="ns", **change)
    )

    async def arguments() -> list[str]:
        assert seen.exists()
        found: list[str] = json.loads(seen.read_text())[0]
        return found

    head = ["server", "start-dev", "--port", str(port), "--namespace", "ns", "--ip", "127.0.0.1"]
    expected = [*head, *COMMON, *(str(port + 1000) if word == "UI" else word for word in tail)]
    assert await eventually(arguments) == expected
    future.cancel()


async def test_the_arguments_of_a_test_server(quiet: Any, tmp_path: Path) -> None:
    path, seen = recorder(tmp_path)
    config = shapes.test_server(path)
    config.extra_args = ["-x"]
    future = native.start_test_server(quiet, config)

    async def arguments() -> list[str]:
        assert seen.exists()
        found: list[str] = json.loads(seen.read_text())[0]
        return found

    port, *rest = await eventually(arguments)
    assert 1024 < int(port) < 65536
    assert rest == ["-x"]
    future.cancel()


async def test_a_test_server_lives_until_its_shutdown_which_may_be_repeated(quiet: Any) -> None:
    path = conftest.binary("temporal-test-server", "OUTLAST_TEST_SERVER_BIN")
    server = await native.start_test_server(quiet, shapes.test_server(path))
    assert type(server) is native.EphemeralServerRef
    host, port = server.target.split(":")
    assert host == "127.0.0.1"
    assert server.has_test_service is True
    client = await native.connect_client(quiet, shapes.client(f"http://{server.target}"))
    assert await client.call_test_service(shapes.call("get_current_time"))
    assert list(await asyncio.gather(server.shutdown(), server.shutdown())) == [(), ()]
    assert await server.shutdown() == ()
    for name in ("target", "has_test_service"):
        assert line(raised(getattr, server, name)) == "RuntimeError: Server shutdown"
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


async def test_a_dropped_server_is_killed(quiet: Any) -> None:
    path = conftest.binary("temporal-test-server", "OUTLAST_TEST_SERVER_BIN")
    server = await native.start_test_server(quiet, shapes.test_server(path))
    host, port = server.target.split(":")
    del server

    async def closed() -> None:
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0

    await eventually(closed)
