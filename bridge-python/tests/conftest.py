"""What every test stands on: the engine under test, a real server, a client.

`OUTLAST_ENGINE=original` runs the same tests on the native module that `temporalio` ships, to show that a test tells the
truth; the default is ours. Servers are processes on loopback ports of their own; with xdist all workers share one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

# Sandboxes import modules anew: without bytecode on disk each would be compiled, and its asserts rewritten, every time.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
sys.dont_write_bytecode = False

ENGINE = os.environ.get("OUTLAST_ENGINE", "outlast")

if ENGINE == "outlast":
    import outlast.compat.temporalio

    outlast.compat.temporalio.install(subprocesses=True)

import temporalio.client
import temporalio.runtime
import temporalio.testing
from google.protobuf.message import Message  # noqa: F401  (a broken protobuf shows here, not in a hundred tests)
from support import served

ADDRESS = "OUTLAST_PY_SERVER"
"""Environment variable: the address of the server that the session uses."""

SERVER_SETTINGS = [
    "frontend.enableUpdateWorkflowExecution=true",
    "frontend.enableUpdateWorkflowExecutionAsyncAccepted=true",
    "frontend.enableExecuteMultiOperation=true",
    "frontend.workerVersioningDataAPIs=true",
    "frontend.workerVersioningWorkflowAPIs=true",
    "frontend.WorkerHeartbeatsEnabled=true",
    "frontend.activityAPIsEnabled=true",
    "system.enableEagerWorkflowStart=true",
    "system.enableActivityEagerExecution=true",
    "system.enableDeploymentVersions=true",
    "system.enableNexus=true",
    "system.forceSearchAttributesCacheRefreshOnRead=true",
    "frontend.WorkflowPauseEnabled=true",
    'history.workflowIdReuseMinimalInterval="0s"',
    "limit.historyCount.suggestContinueAsNew=100",
]
SEARCH_ATTRIBUTES = {
    "OutlastText": "Text",
    "OutlastKeyword": "Keyword",
    "OutlastInt": "Int",
    "OutlastDouble": "Double",
    "OutlastBool": "Bool",
    "OutlastTime": "Datetime",
    "OutlastList": "KeywordList",
}


def binary(name: str, variable: str) -> str:
    """The path of a server's binary: from the environment, else beside the interpreter, else on PATH."""
    beside = Path(sys.executable).parent / name
    found = os.environ.get(variable) or (str(beside) if beside.exists() else shutil.which(name))
    if not found:
        raise RuntimeError(f"`{name}` is not installed; set {variable}, or pip install -r bridge-python/requirements.txt")
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not come up:\n{log.read_text()}")
        process.poll()
        time.sleep(0.05)


class DevServer:
    """`temporal server start-dev` on a free port, gone with `stop()`."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="outlast-server-")
        log = Path(self.folder.name, "log")
        port = free_port()
        argv = [binary("temporal", "OUTLAST_TEMPORAL_BIN"), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        argv += ["--port", str(port), "--log-level", "error"]
        for setting in SERVER_SETTINGS:
            argv += ["--dynamic-config-value", setting]
        for name, kind in SEARCH_ATTRIBUTES.items():
            argv += ["--search-attribute", f"{name}={kind}"]
        with log.open("wb") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until_open(port, self.process, log)
        self.address = f"127.0.0.1:{port}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


_server: DevServer | None = None


def pytest_configure(config: pytest.Config) -> None:
    global _server
    if not hasattr(config, "workerinput") and ADDRESS not in os.environ and not config.option.collectonly:
        _server = DevServer()
        os.environ[ADDRESS] = _server.address


def pytest_unconfigure(config: pytest.Config) -> None:
    global _server
    if _server is not None:
        _server.stop()
        _server = None
        os.environ.pop(ADDRESS, None)


@pytest.fixture(scope="session")
def engine() -> str:
    """`outlast` or `original`."""
    return ENGINE


@pytest.fixture(scope="session")
def address() -> str:
    """`host:port` of the shared dev server, namespace `default`."""
    return os.environ[ADDRESS]


@pytest.fixture(scope="session")
async def client(address: str) -> AsyncIterator[temporalio.client.Client]:
    """A client of the shared dev server."""
    yield await served(await temporalio.client.Client.connect(address))


@pytest.fixture(scope="session")
async def env(client: temporalio.client.Client) -> AsyncIterator[temporalio.testing.WorkflowEnvironment]:
    """The shared dev server as an environment; time does not skip."""
    yield temporalio.testing.WorkflowEnvironment.from_client(client)


@pytest.fixture
async def skipping() -> AsyncIterator[temporalio.testing.WorkflowEnvironment]:
    """A time-skipping test server of the test's own."""
    path = binary("temporal-test-server", "OUTLAST_TEST_SERVER_BIN")
    async with await temporalio.testing.WorkflowEnvironment.start_time_skipping(test_server_existing_path=path) as started:
        yield started


@pytest.fixture(scope="session")
def temporal_cli() -> Iterator[str]:
    """The path of the `temporal` command."""
    yield binary("temporal", "OUTLAST_TEMPORAL_BIN")
