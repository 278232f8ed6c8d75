"""Every lifecycle test needs the shared server to be up with its namespace."""

from __future__ import annotations

import pytest
import temporalio.client


@pytest.fixture(autouse=True)
async def served(client: temporalio.client.Client) -> None:
    """The `client` fixture waits for the namespace."""
