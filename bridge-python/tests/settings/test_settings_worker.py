"""Texts and lists that a worker is given: each makes a worker that asks for tasks and ends in order, or is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.bridge import worker as bridge

from client.wire import Answer, Call, loopback
from settings.table import REFUSED, Row, rows
from surface import shapes
from surface.shapes import native

WORKS = "works"
TEXTS = [" ", "a b", "caf\u00e9", "new\nline", "nul\0", "x" * 3000, "a.b", "/_sys/x"]


def deployment(name: str, build: str, versioned: bool, behavior: int = 0) -> bridge.WorkerDeploymentOptions:
    return bridge.WorkerDeploymentOptions(bridge.WorkerDeploymentVersion(name, build), versioned, behavior)


async def becomes(quiet: Any, change: dict[str, Any]) -> str:
    """What becomes of a worker with these settings."""

    def server(call: Call) -> Answer | None:
        return None if call.method.startswith("Poll") else Answer()

    async with loopback(server) as served:
        client = await native.connect_client(quiet, shapes.client(f"http://{served.address}"))
        config = shapes.worker("queue")
        for name, value in change.items():
            setattr(config, name, value)
        try:
            worker = native.new_worker(quiet, client, config)
        except (ValueError, RuntimeError):
            return REFUSED
        await worker.validate()
        polls = [worker.poll_workflow_activation, worker.poll_activity_task, worker.poll_nexus_task]
        waiting = [asyncio.ensure_future(poll()) for poll in polls]
        if "task_types" not in change:
            for poll in ("PollWorkflowTaskQueue", "PollActivityTaskQueue", "PollNexusTaskQueue"):
                await served.wait_for(poll)
        worker.initiate_shutdown()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ended] == [native.PollShutdownError] * 3
        await worker.finalize_shutdown()
        return WORKS


SETTINGS: dict[str, Callable[[str], dict[str, Any]]] = {
    "namespace": lambda text: {"namespace": text},
    "task queue": lambda text: {"task_queue": text},
    "identity": lambda text: {"identity_override": text},
    "build": lambda text: {"versioning_strategy": bridge.WorkerVersioningStrategyNone(text)},
    "older build": lambda text: {"versioning_strategy": bridge.WorkerVersioningStrategyLegacyBuildIdBased(text)},
    "deployment": lambda text: {"versioning_strategy": deployment(text, "b", True)},
    "deployment's build": lambda text: {"versioning_strategy": deployment("d", text, True)},
    "unversioned deployment": lambda text: {"versioning_strategy": deployment(text, text, False)},
    "plugins": lambda text: {"plugins": [text, text]},
    "storage drivers": lambda text: {"storage_drivers": {text}},
    "workflow types": lambda text: {"nondeterminism_as_workflow_fail_for_types": {text}},
}
EMPTY = [
    Row("namespace", REFUSED),
    Row("task queue", WORKS, REFUSED, "no server has tasks for it: there the polls fail, and a minute later the worker"),
    Row("identity", REFUSED, WORKS, "it is sent as it is"),
    Row("build", WORKS),
    Row("older build", REFUSED),
    Row("deployment", REFUSED),
    Row("deployment's build", REFUSED),
    Row("unversioned deployment", WORKS),
    Row("plugins", WORKS),
    Row("storage drivers", WORKS),
    Row("workflow types", WORKS),
]


@pytest.mark.parametrize("setting", SETTINGS)
async def test_any_text_will_do(setting: str, quiet: Any) -> None:
    for text in TEXTS:
        assert await becomes(quiet, SETTINGS[setting](text)) == WORKS, text


@pytest.mark.parametrize(**rows(*EMPTY))
async def test_no_text(row: Row, engine: str, quiet: Any) -> None:
    assert await becomes(quiet, SETTINGS[row.value]("")) == row.expected(engine)


LOCAL = "local activities without workflows"
ONE_POLLER = "a worker without workflows has no sticky queue that needs a second poller"
KINDS = [
    *(Row((kinds, 0, 1), WORKS) for kinds in ("workflow", "activity", "nexus", "workflow local", "activity nexus")),
    *(Row((kinds, 10, 2), WORKS) for kinds in ("workflow", "activity", "nexus", "workflow local", "activity nexus")),
    *(Row((kinds, 10, 1), REFUSED) for kinds in ("workflow", "workflow local", "workflow nexus", "workflow activity")),
    *(Row((kinds, 10, 1), REFUSED, WORKS, ONE_POLLER) for kinds in ("activity", "nexus", "activity nexus")),
    *(Row((kinds, 0, 2), REFUSED) for kinds in ("", "local", "local activity", "local nexus")),
]


@pytest.mark.parametrize(**rows(*KINDS))
async def test_kinds_of_tasks_with_caches_and_pollers(row: Row, engine: str, quiet: Any) -> None:
    kinds, cached, pollers = row.value
    change = {
        "task_types": shapes.task_types(kinds),
        "max_cached_workflows": cached,
        "workflow_task_poller_behavior": shapes.pollers(pollers),
    }
    assert await becomes(quiet, change) == row.expected(engine)


@pytest.mark.parametrize("behavior", [0, 1, 2, 3, -1])
async def test_any_versioning_behavior_will_do(behavior: int, quiet: Any) -> None:
    assert await becomes(quiet, {"versioning_strategy": deployment("d", "b", True, behavior)}) == WORKS
