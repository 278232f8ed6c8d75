"""A server of its own for Nexus: with its door for HTTP open, and with what is new about operations switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from conftest import binary, free_port
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

SETTINGS = [
    "system.enableEagerWorkflowStart=true",
    "frontend.enableExecuteMultiOperation=true",
    "frontend.activityAPIsEnabled=true",
    "activity.enableStandalone=true",
    "activity.enableCallbacks=true",
    "nexusoperation.enableStandalone=true",
    "component.nexusoperations.recordCancelRequestCompletionEvents=true",
    "history.enableChasm=true",
    "history.enableTransitionHistory=true",
    "history.enableCHASMCallbacks=true",
    "history.enableCHASMSignalBacklinks=true",
    "history.enableUpdateCallbacks=true",
    'system.refreshNexusEndpointsMinWait="0s"',
]


@dataclass
class Port:
    """The server: its environment, and where it answers HTTP."""

    env: WorkflowEnvironment
    http: str

    @property
    def client(self) -> Client:
        return self.env.client


@pytest.fixture(scope="session")
async def port() -> AsyncIterator[Port]:
    door = free_port()
    argv = ["--http-port", str(door)]
    for setting in SETTINGS:
        argv += ["--dynamic-config-value", setting]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal", "OUTLAST_TEMPORAL_BIN"),
        dev_server_extra_args=argv,
        dev_server_log_level="error",
    ) as env:
        yield Port(env, f"http://127.0.0.1:{door}")
