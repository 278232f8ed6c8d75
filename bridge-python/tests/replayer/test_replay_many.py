"""Many histories: mixed results, many at once, given up half-way; and histories that are none."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from support import eventually, new_worker, unique
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from replayer.recordings import Child, TimerFirst, Visit, edited, record


async def stream(histories: Iterable[WorkflowHistory]) -> AsyncIterator[WorkflowHistory]:
    for history in histories:
        yield history


def renamed(history: WorkflowHistory, run: str) -> WorkflowHistory:
    """The same history as that of another run."""

    def change(events: list[dict[str, Any]]) -> None:
        events[0]["workflowExecutionStartedEventAttributes"]["originalExecutionRunId"] = run

    return edited(history, change)


@pytest.fixture(scope="module")
async def visit(client: Client) -> WorkflowHistory:
    return await record(client, Visit, "you")


@pytest.fixture(scope="module")
async def child(client: Client) -> WorkflowHistory:
    return await record(client, Child, 1)


async def test_failures_are_collected_by_run(visit: WorkflowHistory, child: WorkflowHistory) -> None:
    histories = [child, visit, renamed(child, unique()), renamed(visit, unique())]
    results = await Replayer(workflows=[TimerFirst, Child]).replay_workflows(
        stream(histories), raise_on_replay_failure=False
    )
    assert set(results.replay_failures) == {histories[1].run_id, histories[3].run_id}
    assert {type(failure) for failure in results.replay_failures.values()} == {NondeterminismError}


async def test_the_first_failure_is_raised_and_no_more_histories_are_asked_for(
    visit: WorkflowHistory, child: WorkflowHistory
) -> None:
    asked: list[WorkflowHistory] = []

    async def asking() -> AsyncIterator[WorkflowHistory]:
        for history in (child, visit, renamed(child, unique())):
            asked.append(history)
            yield history

    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[TimerFirst, Child]).replay_workflows(asking())
    assert asked == [child, visit]


async def test_results_come_one_by_one_in_the_order_of_the_histories(
    visit: WorkflowHistory, child: WorkflowHistory
) -> None:
    histories = [visit, child, renamed(visit, unique())]
    seen = []
    async with Replayer(workflows=[TimerFirst, Child]).workflow_replay_iterator(stream(histories)) as results:
        async for result in results:
            seen.append((result.history.run_id, type(result.replay_failure)))
    assert seen == [
        (visit.run_id, NondeterminismError),
        (child.run_id, type(None)),
        (histories[2].run_id, NondeterminismError),
    ]


async def test_fifty_histories_replay_in_one_go(visit: WorkflowHistory) -> None:
    histories = [visit, *(renamed(visit, unique()) for _ in range(49))]
    seen = []
    async with Replayer(workflows=[Visit]).workflow_replay_iterator(stream(histories)) as results:
        async for result in results:
            assert result.replay_failure is None
            seen.append(result.history.run_id)
    assert seen == [history.run_id for history in histories]


async def test_the_same_history_may_come_twice(visit: WorkflowHistory) -> None:
    results = await Replayer(workflows=[Visit]).replay_workflows(stream([visit, visit, visit]))
    assert results.replay_failures == {}


async def test_no_histories_give_no_results() -> None:
    results = await Replayer(workflows=[Visit]).replay_workflows(stream([]))
    assert results.replay_failures == {}


async def test_histories_straight_from_the_server(client: Client) -> None:
    async with new_worker(client, Child) as worker:
        ids = [unique() for _ in range(5)]
        for number, name in enumerate(ids):
            await client.execute_workflow(Child.run, number, id=name, task_queue=worker.task_queue)
    listed = f"TaskQueue = '{worker.task_queue}'"

    async def all_listed() -> None:
        assert (await client.count_workflows(listed)).count == 5

    await eventually(all_listed)
    results = await Replayer(workflows=[Child]).replay_workflows(client.list_workflows(listed).map_histories())
    assert results.replay_failures == {}


async def test_replayers_run_side_by_side_and_do_not_mix(visit: WorkflowHistory, child: WorkflowHistory) -> None:
    fits, fails = Replayer(workflows=[Visit, Child]), Replayer(workflows=[TimerFirst, Child])
    histories = [visit, child, renamed(visit, unique())]
    good, bad = await asyncio.gather(
        fits.replay_workflows(stream(histories), raise_on_replay_failure=False),
        fails.replay_workflows(stream(histories), raise_on_replay_failure=False),
    )
    assert good.replay_failures == {}
    assert set(bad.replay_failures) == {visit.run_id, histories[2].run_id}


async def test_one_replayer_runs_twice_at_once(visit: WorkflowHistory) -> None:
    replayer = Replayer(workflows=[Visit])
    results = await asyncio.gather(*(replayer.replay_workflow(visit) for _ in range(4)))
    assert [result.replay_failure for result in results] == [None] * 4


async def test_a_replayer_may_have_a_runtime_of_its_own(visit: WorkflowHistory) -> None:
    runtime = Runtime(telemetry=TelemetryConfig())
    assert (await Replayer(workflows=[Visit], runtime=runtime).replay_workflow(visit)).replay_failure is None


async def test_giving_up_half_way_lets_go_of_everything(visit: WorkflowHistory) -> None:
    runtime = Runtime(telemetry=TelemetryConfig())
    core = weakref.ref(runtime._core_runtime)
    tasks = len(asyncio.all_tasks())
    replayer = Replayer(workflows=[Visit], runtime=runtime)
    histories = stream(renamed(visit, unique()) for _ in range(10))
    async with replayer.workflow_replay_iterator(histories) as results:
        async for result in results:
            assert result.replay_failure is None
            break
    # A second one on the same runtime, to show that the first left it whole.
    assert (await replayer.replay_workflow(visit)).replay_failure is None
    del replayer, runtime, results, result

    async def gone() -> None:
        gc.collect()
        assert core() is None
        assert len(asyncio.all_tasks()) <= tasks

    await eventually(gone)


async def test_an_error_in_the_body_ends_the_replay_and_goes_on_up(visit: WorkflowHistory) -> None:
    with pytest.raises(LookupError, match="enough"):
        async with Replayer(workflows=[Visit]).workflow_replay_iterator(stream([visit, visit])) as results:
            async for _ in results:
                raise LookupError("enough")
    assert (await Replayer(workflows=[Visit]).replay_workflow(visit)).replay_failure is None


async def test_an_error_of_the_source_of_histories_goes_on_up(visit: WorkflowHistory) -> None:
    async def breaks() -> AsyncIterator[WorkflowHistory]:
        yield visit
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await Replayer(workflows=[Visit]).replay_workflows(breaks())


@workflow.defn(name="Visit", sandboxed=False)
class Looks:
    """Notes whether it is replayed."""

    seen: list[bool] = []

    @workflow.run
    async def run(self, name: str) -> str:
        Looks.seen.append(workflow.unsafe.is_replaying())
        return await Visit.run(self, name)  # type: ignore[arg-type]


async def test_a_replayed_workflow_knows_that_it_is_replayed(visit: WorkflowHistory) -> None:
    Looks.seen.clear()
    assert (await Replayer(workflows=[Looks]).replay_workflow(visit)).replay_failure is None
    assert Looks.seen == [True]


async def test_json_that_is_no_history_is_refused() -> None:
    with pytest.raises(Exception):
        WorkflowHistory.from_json("w", "{not json")
    with pytest.raises(Exception, match="events|no field"):
        WorkflowHistory.from_json("w", {"nonsense": 1})
