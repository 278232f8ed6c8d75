"""What random programs ask workers for, and what one sees of its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from soak.programs import answer
from temporalio import activity
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.service import RPCError


@activity.defn
async def work(key: str, number: int, how: str) -> int:
    attempt = activity.info().attempt
    match how:
        case "plain":
            raise ValueError("v") from KeyError("k")
        case "final":
            raise ApplicationError("m", number, key, type="T", non_retryable=True)
        case "benign":
            raise ApplicationError("b", category=ApplicationErrorCategory.BENIGN, non_retryable=True)
        case "delayed" if attempt < 2:
            raise ApplicationError("later", next_retry_delay=timedelta(milliseconds=5))
        case "retried" if attempt < 3:
            raise ApplicationError("not yet")
    return answer(number)


@activity.defn
async def hang(key: str) -> None:
    """Says that it runs, if its workflow can hear it, and waits to be cancelled. One beside its workflow holds up the end of its
    worker, and is not endless for that."""
    if activity.info().is_local:
        return await asyncio.sleep(20)
    await own().signal("hear", args=[key, 0])
    while True:
        activity.heartbeat(key)
        await asyncio.sleep(0.05)


@activity.defn
async def outside(key: str, number: int, what: str) -> str:
    """Does to its workflow what is done from outside."""
    match what:
        case "tell":
            await own().signal("hear", args=[key, number])
            return "told"
        case "query":
            return str(await answered(lambda: own().query("echo", key)))
        case update:
            try:
                ask = partial(own().execute_update, "ask", args=[key, number, update], id=key)
                return f"answered {await answered(ask)}"
            except WorkflowUpdateFailedError as error:
                return words(error)


async def answered(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Asks until there is an answer: on a busy machine one may take longer than a call may."""
    while True:
        try:
            return await ask()
        except (RPCError, WorkflowUpdateRPCTimeoutOrCancelledError):
            await asyncio.sleep(0.05)


def own() -> Any:
    name = activity.info().workflow_id
    assert name
    return activity.client().get_workflow_handle(name)


def words(error: BaseException) -> str:
    """What code can see of a failure."""
    kind = type(error).__name__
    told = f"{kind} {error.type} {error.message} {list(error.details)}" if isinstance(error, ApplicationError) else kind
    cause = error.cause if isinstance(error, (FailureError, WorkflowUpdateFailedError)) else None
    return f"{told} < {words(cause)}" if cause else told
