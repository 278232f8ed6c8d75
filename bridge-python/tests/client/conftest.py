"""What the client's tests share: a worker that runs the programs of `programs.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from client.programs import ACTIVITIES, WORKFLOWS
from support import new_worker
from temporalio.client import Client


@pytest.fixture(scope="module")
async def queue(client: Client) -> AsyncIterator[str]:
    """The task queue of a worker that lives as long as the file's tests."""
    async with new_worker(client, *WORKFLOWS, activities=ACTIVITIES) as worker:
        yield worker.task_queue
