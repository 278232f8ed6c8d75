"""Small things that many tests need. Nothing here knows what is tested."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

T = TypeVar("T")

# The sandbox would import pytest's rewritten asserts anew for every workflow, a tenth of a second each.
RUNNER = SandboxedWorkflowRunner(SandboxRestrictions.default.with_passthrough_modules("_pytest", "pytest"))


SOON = 30
"""Seconds. What should come at once comes within them on the slowest of machines; what it would come by otherwise (a poll that
nobody ends, a grace, a timeout) takes a minute at least. So a test that asserts it does not depend on how busy the machine is."""


def unique(prefix: str = "t") -> str:
    """A name that no other test uses: for workflow ids and task queues."""
    return f"{prefix}-{uuid.uuid4()}"


def new_worker(client: Client, *workflows: type, activities: Sequence[Callable[..., Any]] = (), **options: Any) -> Worker:
    """A worker on a task queue of its own (`worker.task_queue`), for `async with`."""
    options.setdefault("task_queue", unique("queue"))
    options.setdefault("workflow_runner", RUNNER)
    return Worker(client, workflows=workflows, activities=activities, **options)


async def served(client: Client) -> Client:
    """This client, once the server serves its namespace: that is made while the port already listens."""

    async def counted() -> None:
        try:
            await client.count_workflows("WorkflowId = 'none'")
        except RPCError as error:
            raise AssertionError(f"the server does not serve {client.namespace}: {error!r}") from error

    await eventually(counted, 60)
    return client


async def eventually(check: Callable[[], Awaitable[T]], seconds: float = SOON) -> T:
    """Calls `check` until it raises no AssertionError and returns what it returned; the last error after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await check()
        except AssertionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.05)
