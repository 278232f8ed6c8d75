"""One history at a time: which programs fit it, and with which words the others fail."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support import new_worker, unique
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from replayer.recordings import (
    AfterPatch,
    BeforePatch,
    Buggy,
    Child,
    EndsEarly,
    Ledger,
    LedgerWithoutActivity,
    OtherActivity,
    Parent,
    Patched,
    TimerFirst,
    Visit,
    edited,
    greet,
    record,
)


RULE = "[TMPRL1100] Nondeterminism error: "


@pytest.fixture(scope="module")
async def visit(client: Client) -> WorkflowHistory:
    return await record(client, Visit, "you")


async def test_the_program_that_made_a_history_fits_it(visit: WorkflowHistory) -> None:
    result = await Replayer(workflows=[Visit]).replay_workflow(visit)
    assert result.replay_failure is None
    assert result.history is visit


async def test_a_history_is_as_good_from_json(visit: WorkflowHistory) -> None:
    text = visit.to_json()
    for source in (text, json.loads(text)):
        again = WorkflowHistory.from_json(visit.workflow_id, source)
        assert again.run_id == visit.run_id and len(again.events) == len(visit.events)
        assert (await Replayer(workflows=[Visit]).replay_workflow(again)).replay_failure is None


@pytest.mark.parametrize("program", [TimerFirst, OtherActivity, EndsEarly])
async def test_another_program_does_not_fit(visit: WorkflowHistory, program: type) -> None:
    with pytest.raises(NondeterminismError) as failed:
        await Replayer(workflows=[program]).replay_workflow(visit)
    assert RULE in failed.value.message


async def test_a_failure_can_be_had_as_a_value(visit: WorkflowHistory) -> None:
    result = await Replayer(workflows=[TimerFirst]).replay_workflow(visit, raise_on_replay_failure=False)
    assert isinstance(result.replay_failure, NondeterminismError)
    assert RULE in str(result.replay_failure)
    assert result.history is visit


async def test_a_failed_replay_leaves_the_replayer_fit_for_the_next(visit: WorkflowHistory, client: Client) -> None:
    other = await record(client, Child, 1)
    replayer = Replayer(workflows=[TimerFirst, Child])
    for _ in range(3):
        with pytest.raises(NondeterminismError):
            await replayer.replay_workflow(visit)
        assert (await replayer.replay_workflow(other)).replay_failure is None


async def test_a_program_that_raises_during_replay_is_a_failure_but_not_nondeterminism(visit: WorkflowHistory) -> None:
    with pytest.raises(RuntimeError) as failed:
        await Replayer(workflows=[Buggy]).replay_workflow(visit)
    assert not isinstance(failed.value, NondeterminismError)
    assert "lost" in str(failed.value)


async def test_an_unknown_type_is_a_failure_that_names_what_is_known(visit: WorkflowHistory) -> None:
    with pytest.raises(RuntimeError) as failed:
        await Replayer(workflows=[Child]).replay_workflow(visit)
    assert "Workflow class Visit is not registered on this worker, available workflows: Child" in str(failed.value)


async def test_a_replayer_without_workflows_is_refused() -> None:
    with pytest.raises(ValueError, match="^At least one workflow must be specified$"):
        Replayer(workflows=[])


async def test_every_run_of_a_chain_replays(client: Client) -> None:
    async with new_worker(client, Parent, Child) as worker:
        handle = await client.start_workflow(Parent.run, 0, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == 3
    runs: list[WorkflowHistory] = []
    run: str | None = handle.first_execution_run_id
    while run:
        runs.append(await client.get_workflow_handle(handle.id, run_id=run).fetch_history())
        last = runs[-1].events[-1]
        run = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id or None
    assert len(runs) == 3
    for history in runs:
        assert (await Replayer(workflows=[Parent, Child]).replay_workflow(history)).replay_failure is None


async def test_updates_replay_and_what_they_did_is_checked(client: Client) -> None:
    async with new_worker(client, Ledger, activities=[greet]) as worker:
        handle = await client.start_workflow(Ledger.run, id=unique(), task_queue=worker.task_queue)
        assert [await handle.execute_update(Ledger.enter, name) for name in ("a", "b")] == [1, 2]
        with pytest.raises(Exception, match="Workflow update failed"):
            await handle.execute_update(Ledger.enter, "")
        await handle.signal(Ledger.close)
        assert await handle.result() == ["Hello, a!", "Hello, b!"]
        history = await handle.fetch_history()
    assert (await Replayer(workflows=[Ledger]).replay_workflow(history)).replay_failure is None
    with pytest.raises(NondeterminismError, match=re.escape(RULE)):
        await Replayer(workflows=[LedgerWithoutActivity]).replay_workflow(history)


@pytest.mark.parametrize(
    ("recorded", "fits", "fails"),
    [
        (BeforePatch, [BeforePatch, Patched], [AfterPatch]),
        (Patched, [Patched, AfterPatch], [BeforePatch]),
        (AfterPatch, [AfterPatch, Patched], []),
    ],
)
async def test_a_patch_lets_old_and_new_histories_fit(
    client: Client, recorded: type, fits: list[type], fails: list[type]
) -> None:
    history = await record(client, recorded)
    for program in fits:
        assert (await Replayer(workflows=[program]).replay_workflow(history)).replay_failure is None, program
    for program in fails:
        with pytest.raises(NondeterminismError, match=re.escape(RULE)):
            await Replayer(workflows=[program]).replay_workflow(history)


async def test_a_history_that_is_not_over_replays_as_far_as_it_goes(client: Client) -> None:
    async with new_worker(client, Ledger, activities=[greet]) as worker:
        handle = await client.start_workflow(Ledger.run, id=unique(), task_queue=worker.task_queue)
        await handle.execute_update(Ledger.enter, "a")
        history = await handle.fetch_history()
        await handle.terminate()
    assert (await Replayer(workflows=[Ledger]).replay_workflow(history)).replay_failure is None
    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[LedgerWithoutActivity]).replay_workflow(history)


async def test_a_terminated_run_replays(client: Client) -> None:
    async with new_worker(client, Ledger, activities=[greet]) as worker:
        handle = await client.start_workflow(Ledger.run, id=unique(), task_queue=worker.task_queue)
        await handle.execute_update(Ledger.enter, "a")
        await handle.terminate()
        history = await handle.fetch_history()
    assert (await Replayer(workflows=[Ledger]).replay_workflow(history)).replay_failure is None


@workflow.defn
class Fails:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError("as planned")


async def test_a_run_that_failed_as_planned_replays_without_failure(client: Client) -> None:
    async with new_worker(client, Fails) as worker:
        handle = await client.start_workflow(Fails.run, id=unique(), task_queue=worker.task_queue)
        with pytest.raises(Exception, match="Workflow execution failed"):
            await handle.result()
        history = await handle.fetch_history()
    assert (await Replayer(workflows=[Fails]).replay_workflow(history)).replay_failure is None


def rename_activity(events: list[dict[str, Any]]) -> None:
    [scheduled] = [event for event in events if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_SCHEDULED"]
    scheduled["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "shout"


def drop_timer(events: list[dict[str, Any]]) -> None:
    events[:] = [event for event in events if not event["eventType"].startswith("EVENT_TYPE_TIMER_STARTED")]


async def test_a_history_with_a_hole_is_no_history(visit: WorkflowHistory) -> None:
    with pytest.raises(RuntimeError, match=r"\b10\b.*\b12\b|\b12\b.*\b10\b") as failed:
        await Replayer(workflows=[Visit]).replay_workflow(edited(visit, drop_timer))
    assert not isinstance(failed.value, NondeterminismError)


async def test_a_changed_name_of_an_activity_is_told_with_both_names(visit: WorkflowHistory) -> None:
    with pytest.raises(NondeterminismError) as failed:
        await Replayer(workflows=[Visit]).replay_workflow(edited(visit, rename_activity))
    assert RULE in str(failed.value)
    assert "greet" in str(failed.value) and "shout" in str(failed.value)
