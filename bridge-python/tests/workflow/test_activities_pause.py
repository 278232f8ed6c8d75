"""Activities paused by an operator: what threads, coroutines and completions from outside see, and what is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from support import eventually, unique
from temporalio import activity, workflow
from temporalio.activity import ActivityCancellationDetails
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest
from temporalio.client import AsyncActivityCancelledError, Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import CancelledError
from workflow.stories import replay, stage, start, told

pytestmark = pytest.mark.timeout(60)

PAUSED = ActivityCancellationDetails(paused=True)


@activity.defn
async def in_a_coroutine(swallow: bool) -> ActivityCancellationDetails | None:
    """Beats until told to stop; with details of an attempt before, it is done. The last beat says `goodbye`."""
    try:
        while not activity.info().heartbeat_details:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        return activity.cancellation_details()
    except asyncio.CancelledError:
        if not swallow:
            raise
        return activity.cancellation_details()
    finally:
        activity.heartbeat("goodbye", activity.info().attempt)


@activity.defn
def in_a_thread(swallow: bool) -> ActivityCancellationDetails | None:
    try:
        while not activity.info().heartbeat_details:
            activity.heartbeat()
            time.sleep(0.05)
        return activity.cancellation_details()
    except CancelledError:
        if not swallow:
            raise
        return activity.cancellation_details()
    finally:
        activity.heartbeat("goodbye", activity.info().attempt)


@activity.defn
async def by_others(_: bool) -> None:
    activity.raise_complete_async()


KINDS = {"coroutine": in_a_coroutine, "thread": in_a_thread, "others": by_others}


@workflow.defn
class One:
    @workflow.run
    async def run(self, kind: str, swallow: bool, attempts: int) -> ActivityCancellationDetails | None:
        done: ActivityCancellationDetails | None = await workflow.execute_activity(
            KINDS[kind].__name__,
            swallow,
            activity_id="it",
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(maximum_attempts=attempts, initial_interval=timedelta(milliseconds=10)),
            result_type=ActivityCancellationDetails,
        )
        return done


@asynccontextmanager
async def one(client: Client, *args: Any, **options: Any) -> AsyncIterator[tuple[Any, WorkflowHandle[Any, Any]]]:
    """A worker and a workflow, its activity at work."""
    with ThreadPoolExecutor(2) as threads:
        async with stage(
            client, One, activities=list(KINDS.values()), activity_executor=threads, **options
        ) as worker:
            handle = await start(worker, One.run, *args)
            await pending(handle, lambda it: it.attempt == 1 and it.HasField("last_started_time"))
            yield worker, handle


async def pending(handle: WorkflowHandle[Any, Any], check: Any) -> PendingActivityInfo:
    async def checked() -> PendingActivityInfo:
        every = (await handle.describe()).raw_description.pending_activities
        assert len(every) == 1 and check(every[0]), every
        return every[0]

    return await eventually(checked)


def which(handle: WorkflowHandle[Any, Any]) -> Any:
    return {"namespace": "default", "execution": WorkflowExecution(workflow_id=handle.id), "id": "it"}


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_an_activity_that_ends_well_when_paused_is_done(client: Client, kind: str) -> None:
    """With the worker's own throttle: a beat every four seconds."""
    usual = {
        "max_heartbeat_throttle_interval": timedelta(seconds=60),
        "default_heartbeat_throttle_interval": timedelta(seconds=30),
    }
    async with one(client, kind, True, 1, **usual) as (worker, handle):
        await client.workflow_service.pause_activity(PauseActivityRequest(**which(handle)))
        assert await handle.result() == PAUSED
        await replay(worker, handle)


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize("throttle", [50, 300, 1500])
async def test_the_last_words_of_a_paused_attempt_reach_the_next(client: Client, kind: str, throttle: int) -> None:
    slow = timedelta(milliseconds=throttle)
    options = {"max_heartbeat_throttle_interval": slow, "default_heartbeat_throttle_interval": slow}
    async with one(client, kind, False, 2, **options) as (worker, handle):
        await client.workflow_service.pause_activity(PauseActivityRequest(**which(handle)))
        paused = await pending(handle, lambda it: it.paused and it.heartbeat_details.payloads)
        assert [each.data for each in paused.heartbeat_details.payloads] == [b'"goodbye"', b"1"]
        await client.workflow_service.unpause_activity(UnpauseActivityRequest(**which(handle)))
        assert await handle.result() is None
        story = await told(handle)
        assert story.attributes("ACTIVITY_TASK_STARTED").attempt == 2
        await replay(worker, handle)


async def test_who_completes_a_paused_activity_from_outside_is_told(client: Client) -> None:
    async with one(client, "others", True, 1) as (worker, handle):
        outside = client.get_async_activity_handle(
            workflow_id=handle.id, run_id=handle.result_run_id, activity_id="it"
        )
        await outside.heartbeat()
        await client.workflow_service.pause_activity(PauseActivityRequest(**which(handle)))
        with pytest.raises(AsyncActivityCancelledError) as caught:
            await outside.heartbeat("still here")
        assert caught.value.details == PAUSED
        await outside.complete(None)
        assert await handle.result() is None
