"""One quiet native runtime and one connected native client for all tests of the surface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import temporalio.client
from surface import shapes


@pytest.fixture(scope="session")
def quiet() -> Any:
    """A native runtime without logs and metrics."""
    return shapes.runtime()


@pytest.fixture(scope="session")
async def connected(quiet: Any, address: str, client: temporalio.client.Client) -> AsyncIterator[Any]:
    """A native client of the shared dev server, which is up with its namespace by then."""
    yield await shapes.native.connect_client(quiet, shapes.client(f"http://{address}"))
