"""Local activities that are cancelled, or that outlast the workflow task they run in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from support import eventually
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ActivityError, CancelledError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType
from workflow.stories import LONG, failure_of, replay, run_and_replay, stage, start, until

pytestmark = pytest.mark.timeout(60)

SHORT_TASKS = {"task_timeout": timedelta(seconds=2)}
"""Tasks are kept alive by empty completions from about four fifths of this on."""


class Patient:
    """A local activity that waits for its cancellation, or for its end."""

    def __init__(self, then: Callable[[], Any] | None = None) -> None:
        self.started = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended: list[str] = []

    async def __aenter__(self) -> Patient:
        return self

    async def __aexit__(self, *_: object) -> None:
        """A test that goes wrong does not hold the worker's shutdown up."""
        self.may_end.set()

    @activity.defn(name="patient")
    async def run(self) -> str:
        self.started.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            self.ended.append("cancelled" if details and details.cancel_requested else f"{details}")
            raise
        self.ended.append("done")
        return "done"


@workflow.defn
class Races:
    """A local activity against a short timer: the timer wins and cancels it."""

    @workflow.run
    async def run(self, kind: int) -> str:
        handle = workflow.start_local_activity(
            "patient", start_to_close_timeout=LONG, cancellation_type=ActivityCancellationType(kind)
        )
        await workflow.sleep(0.05)
        handle.cancel()
        try:
            return f"returned {await handle}"
        except BaseException as error:
            assert is_cancelled_exception(error)
            return f"{type(error).__name__} {type(error.__cause__).__name__}"


@pytest.mark.parametrize(
    "kind", [ActivityCancellationType.TRY_CANCEL, ActivityCancellationType.WAIT_CANCELLATION_COMPLETED]
)
async def test_a_running_one_is_cancelled(client: Client, kind: int) -> None:
    patient = Patient()
    async with stage(client, Races, activities=[patient.run]) as worker, patient:
        result, story = await run_and_replay(worker, Races.run, kind, **SHORT_TASKS)
        await eventually(lambda: ended(patient))
    assert result == "ActivityError CancelledError"
    # On a slow machine the short workflow task may be done twice.
    assert set(patient.ended) == {"cancelled"}
    assert story.count("MARKER_RECORDED") == 1
    marker = story.attributes("MARKER_RECORDED")
    assert marker.marker_name == "core_local_activity" and marker.HasField("failure")


async def ended(patient: Patient) -> None:
    assert patient.ended


async def test_an_abandoned_one_is_cancelled_for_the_workflow_at_once(client: Client) -> None:
    patient = Patient()
    async with stage(client, Races, activities=[patient.run]) as worker, patient:
        result, story = await run_and_replay(worker, Races.run, ActivityCancellationType.ABANDON, **SHORT_TASKS)
    assert result == "ActivityError CancelledError"
    assert story.kinds()[-2:] == ["MARKER_RECORDED", "WORKFLOW_EXECUTION_COMPLETED"]


@workflow.defn
class CancelsAtOnce:
    @workflow.run
    async def run(self, kind: int) -> str:
        handle = workflow.start_local_activity(
            "patient", start_to_close_timeout=LONG, cancellation_type=ActivityCancellationType(kind)
        )
        # A breath, so that the task runs up to the command.
        await asyncio.sleep(0)
        handle.cancel()
        outcomes = await asyncio.gather(handle, return_exceptions=True)
        return f"{type(outcomes[0]).__name__}"


@pytest.mark.parametrize("kind", list(ActivityCancellationType))
async def test_one_cancelled_in_the_same_breath_never_runs(client: Client, kind: int) -> None:
    patient = Patient()
    async with stage(client, CancelsAtOnce, activities=[patient.run]) as worker, patient:
        result, _ = await run_and_replay(worker, CancelsAtOnce.run, kind)
    assert result in ("ActivityError", "CancelledError")
    assert not patient.started.is_set()


@workflow.defn
class Long:
    """One local activity; signals are counted meanwhile."""

    def __init__(self) -> None:
        self.pings = 0

    @workflow.run
    async def run(self) -> list[Any]:
        result = await workflow.execute_local_activity("patient", start_to_close_timeout=LONG)
        return [result, self.pings]

    @workflow.signal
    def ping(self) -> None:
        self.pings += 1

    @workflow.query
    def count(self) -> int:
        return self.pings


async def test_a_long_one_keeps_its_workflow_task_alive(client: Client) -> None:
    patient = Patient()
    async with stage(client, Long, activities=[patient.run]) as worker, patient:
        handle = await start(worker, Long.run, **SHORT_TASKS)
        await until(handle, "WORKFLOW_TASK_COMPLETED", 2)
        patient.may_end.set()
        assert await handle.result() == ["done", 0]
        story = await replay(worker, handle)
    assert patient.ended == ["done"]
    assert story.count("WORKFLOW_TASK_TIMED_OUT") == story.count("WORKFLOW_TASK_FAILED") == 0
    assert story.count("MARKER_RECORDED") == 1


async def test_signals_arrive_between_the_heartbeats(client: Client) -> None:
    patient = Patient()
    async with stage(client, Long, activities=[patient.run]) as worker, patient:
        handle = await start(worker, Long.run, **SHORT_TASKS)
        await patient.started.wait()
        for _ in range(3):
            await handle.signal(Long.ping)

        async def arrived() -> None:
            assert await handle.query(Long.count) == 3

        await eventually(arrived)
        patient.may_end.set()
        assert await handle.result() == ["done", 3]
        story = await replay(worker, handle)
    assert story.count("WORKFLOW_TASK_TIMED_OUT") == 0


async def test_a_cancelled_workflow_cancels_its_local_activity(client: Client) -> None:
    patient = Patient()
    async with stage(client, Long, activities=[patient.run]) as worker, patient:
        handle = await start(worker, Long.run, **SHORT_TASKS)
        await patient.started.wait()
        await handle.cancel()
        assert isinstance(await failure_of(handle), CancelledError)
        await eventually(lambda: ended(patient))
        story = await replay(worker, handle)
    assert set(patient.ended) == {"cancelled"}
    assert story.kinds()[-1] == "WORKFLOW_EXECUTION_CANCELED"


@workflow.defn
class SeesActivityError:
    """Cancelled from outside, it looks at what its local activity became."""

    @workflow.run
    async def run(self) -> str:
        try:
            await workflow.execute_local_activity(
                "patient",
                start_to_close_timeout=LONG,
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )
        except ActivityError as error:
            return f"{error.activity_type}: {type(error.cause).__name__}"
        return "not cancelled"


async def test_the_cancellation_reaches_the_workflow_through_the_activity(client: Client) -> None:
    patient = Patient()
    async with stage(client, SeesActivityError, activities=[patient.run]) as worker, patient:
        handle = await start(worker, SeesActivityError.run, **SHORT_TASKS)
        await patient.started.wait()
        await handle.cancel()
        assert await handle.result() == "patient: CancelledError"
        await replay(worker, handle)
