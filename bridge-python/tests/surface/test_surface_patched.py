"""Functions and methods of the native surface that a test puts its own before: the Python layer calls what stands there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import temporalio.bridge.temporal_sdk_bridge as native
from support import unique
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Replayer, Worker

from worker.programs import Echo, greet


class Watched:
    """Calls the original and keeps the arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.original = getattr(native, name)
        monkeypatch.setattr(native, name, self)

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.original(*args)


async def test_a_new_worker_is_made_by_what_stands_there_and_names_its_plugins(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, "new_worker")
    plugins = [SimplePlugin("first"), SimplePlugin("second")]
    Worker(client, task_queue=(queue := unique("queue")), activities=[greet], plugins=plugins)
    [(_, connection, config)] = watched.calls
    assert sorted(config.plugins) == ["first", "second"]
    assert (config.namespace, config.task_queue) == ("default", queue)
    assert type(connection) is native.ClientRef


async def test_so_are_a_replay_a_runtime_and_a_connection(
    client: Client, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays, runtimes = Watched(monkeypatch, "new_replay_worker"), Watched(monkeypatch, "init_runtime")
    connections = Watched(monkeypatch, "connect_client")
    runtime = Runtime(telemetry=TelemetryConfig())
    again = await Client.connect(address, runtime=runtime)
    handle = await again.start_workflow("nobody", id=unique(), task_queue=unique("queue"))
    history = await handle.fetch_history()
    await handle.terminate()
    try:
        await Replayer(workflows=[Echo]).replay_workflow(history)
    except Exception:
        pass
    assert [len(each.calls) for each in (replays, runtimes, connections)] == [1, 1, 1]


def test_the_module_is_one_however_it_is_imported() -> None:
    assert importlib.import_module("temporalio.bridge.temporal_sdk_bridge") is native
    import temporalio.bridge

    assert temporalio.bridge.temporal_sdk_bridge is native
