"""One quiet native runtime and one connected native client for all tests of the surface."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import temporalio.client

from surface import shapes
from surface.relay import Relay


@pytest.fixture(scope="session")
def quiet() -> Any:
    """A native runtime without logs and metrics."""
    return shapes.runtime()


@pytest.fixture(scope="session")
async def connected(quiet: Any, address: str, client: temporalio.client.Client) -> AsyncIterator[Any]:
    """A native client of the shared dev server, which is up with its namespace by then."""
    yield await shapes.native.connect_client(quiet, shapes.client(f"http://{address}"))


@pytest.fixture
def free_address() -> str:
    """`ip:port` on loopback where nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
async def relay(address: str, connected: Any) -> AsyncIterator[Relay]:
    """A relay to the shared dev server."""
    async with Relay(address) as relay:
        yield relay
