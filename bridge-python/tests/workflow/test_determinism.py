"""Replay is live once more: clocks, chance and logs agree, and code that strayed is caught."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from support import unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
    from temporalio.exceptions import ApplicationError
    from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
    from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def tick() -> int:
    return 1


@activity.defn
async def tock() -> int:
    return 2


observed: dict[str, list[list[Any]]] = {}
"""What each run of a workflow saw, by its run id: one list for each time that it ran."""


@workflow.defn(sandboxed=False)
class Watching:
    @workflow.run
    async def run(self) -> list[Any]:
        seen: list[Any] = []
        observed.setdefault(workflow.info().run_id, []).append(seen)
        named = workflow.new_random("named")
        for _ in range(3):
            now = workflow.now()
            assert now.tzinfo is timezone.utc and abs(now.timestamp() - workflow.time()) < 1e-3
            seen.append([workflow.time_ns(), workflow.random().random(), str(workflow.uuid4()), str(workflow.uuid7())])
            seen.append([workflow.random_seed(), named.random(), workflow.info().get_current_history_length()])
            seen.append([workflow.info().get_current_history_size(), workflow.info().is_continue_as_new_suggested()])
            await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        return seen


async def test_time_and_chance_are_the_same_in_replay(client: Client) -> None:
    async with new_worker(client, Watching, activities=[tick]) as worker:
        handle = await client.start_workflow(Watching.run, id=unique(), task_queue=worker.task_queue)
        result = await handle.result()
    await replay(handle, Watching)
    live, replayed = observed[str(handle.first_execution_run_id)]
    assert live == replayed == result
    times = [seen[0] for seen in live[::3]]
    assert times == sorted(times) and len(set(times)) == 3
    assert len({seen[2] for seen in live[::3]}) == 3
    assert len({seen[0] for seen in live[1::3]}) == 1


async def test_time_is_the_start_of_the_task_and_length_counts_its_events(client: Client) -> None:
    async with new_worker(client, Watching, activities=[tick], max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Watching.run, id=unique(), task_queue=worker.task_queue)
        live = await handle.result()
    history = [event async for event in handle.fetch_history_events()]
    started = [event for event in history if event.HasField("workflow_task_started_event_attributes")]
    assert [seen[0] for seen in live[::3]] == [event.event_time.ToNanoseconds() for event in started[:3]]
    assert [seen[2] for seen in live[1::3]] == [event.event_id for event in started[:3]]
    sizes = [event.workflow_task_started_event_attributes.history_size_bytes for event in started[:3]]
    assert [seen[0] for seen in live[2::3]] == sizes
    runs = observed[str(handle.first_execution_run_id)]
    assert len(runs) == 4 and all(run == live[: len(run)] for run in runs)


async def test_two_runs_see_different_chance(client: Client) -> None:
    async with new_worker(client, Watching, activities=[tick]) as worker:
        one, two = [
            await client.execute_workflow(Watching.run, id=unique(), task_queue=worker.task_queue) for _ in range(2)
        ]
    assert one[0][1] != two[0][1] and one[0][2] != two[0][2] and one[1][0] != two[1][0]


@workflow.defn(sandboxed=False)
class Logging:
    def __init__(self) -> None:
        self.opened = False

    @workflow.run
    async def run(self) -> None:
        workflow.logger.info("first %s", workflow.info().workflow_id)
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        workflow.logger.info("second %s", workflow.info().workflow_id)
        await workflow.wait_condition(lambda: self.opened)
        workflow.logger.info("third %s", workflow.info().workflow_id)

    @workflow.signal
    def open(self) -> None:
        self.opened = True

    @workflow.query
    def replaying(self) -> list[bool]:
        workflow.logger.info("query %s", workflow.info().workflow_id)
        return [workflow.unsafe.is_replaying_history_events(), workflow.unsafe.is_read_only()]


async def test_the_log_tells_each_thing_once_however_often_it_is_replayed(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def logged(id: str) -> list[str]:
        lines = [record.getMessage() for record in caplog.records if record.name == "temporalio.workflow"]
        return [line.split(" ")[0] for line in lines if f" {id} " in line]

    with caplog.at_level(logging.INFO):
        async with new_worker(client, Logging, activities=[tick], max_cached_workflows=0) as worker:
            handle = await client.start_workflow(Logging.run, id=unique(), task_queue=worker.task_queue)
            await awaited(handle, "workflow_task_completed", 2)
            assert await handle.query(Logging.replaying) == [False, True]
            await handle.signal(Logging.open)
            await handle.result()
        assert logged(handle.id) == ["first", "second", "query", "third"]
        record = next(record for record in caplog.records if record.getMessage().startswith(f"first {handle.id}"))
        assert getattr(record, "temporal_workflow")["run_id"] == handle.first_execution_run_id
        caplog.clear()
        await replay(handle, Logging)
        assert logged(handle.id) == []


@workflow.defn(name="Straying")
class Straight:
    def __init__(self) -> None:
        self.opened = False

    @workflow.run
    async def run(self) -> int:
        one = await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        await workflow.wait_condition(lambda: self.opened)
        return one

    @workflow.signal
    def open(self) -> None:
        self.opened = True

    @workflow.query
    def ready(self) -> bool:
        return True


@workflow.defn(name="Straying")
class OtherActivity(Straight):
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(tock, start_to_close_timeout=TIMEOUT)


@workflow.defn(name="Straying")
class Timer(Straight):
    @workflow.run
    async def run(self) -> int:
        await workflow.sleep(60)
        return 0


@workflow.defn(name="Straying")
class Nothing(Straight):
    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: False)
        return 0


@workflow.defn(name="Straying")
class TooMuch(Straight):
    @workflow.run
    async def run(self) -> int:
        both = [workflow.start_activity(tick, start_to_close_timeout=TIMEOUT) for _ in range(2)]
        return await both[0]


@workflow.defn(name="Straying")
class TooSoon(Straight):
    @workflow.run
    async def run(self) -> int:
        return 0


@pytest.fixture(scope="module")
async def straight(client: Client) -> WorkflowHistory:
    """The history of a run of `Straight`."""
    async with new_worker(client, Straight, activities=[tick]) as worker:
        handle = await client.start_workflow("Straying", id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "workflow_task_completed", 2)
        await handle.signal("open")
        assert await handle.result() == 1
    return await handle.fetch_history()


@pytest.mark.parametrize("strayed", [OtherActivity, Timer, Nothing, TooMuch, TooSoon])
async def test_strayed_code_is_caught_in_replay(straight: WorkflowHistory, strayed: type) -> None:
    replayer = Replayer(workflows=[strayed], workflow_runner=UnsandboxedWorkflowRunner())
    with pytest.raises(workflow.NondeterminismError, match=r"\[TMPRL1100\] Nondeterminism error: "):
        await replayer.replay_workflow(straight)
    result = await replayer.replay_workflow(straight, raise_on_replay_failure=False)
    assert isinstance(result.replay_failure, workflow.NondeterminismError)


async def test_histories_are_replayed_one_after_another_each_with_its_own_end(straight: WorkflowHistory) -> None:
    async def histories() -> Any:
        for _ in range(3):
            yield straight

    async with Replayer(workflows=[Straight]).workflow_replay_iterator(histories()) as results:
        assert [result.replay_failure async for result in results] == [None] * 3
    bad = await Replayer(workflows=[Timer]).replay_workflows(histories(), raise_on_replay_failure=False)
    assert list(bad.replay_failures) == [straight.run_id]
    again = WorkflowHistory.from_json(straight.workflow_id, straight.to_json())
    assert (await Replayer(workflows=[Straight]).replay_workflow(again)).replay_failure is None


@pytest.fixture
def metrics() -> Iterator[MetricBuffer]:
    yield MetricBuffer(10_000)


async def test_strayed_code_fails_the_task_and_is_counted_until_it_is_mended(
    address: str, metrics: MetricBuffer
) -> None:
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=metrics)))
    async with new_worker(client, Straight, activities=[tick]) as worker:
        handle = await client.start_workflow(
            "Straying", id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        await awaited(handle, "workflow_task_completed", 2)
    async with new_worker(client, OtherActivity, activities=[tick], task_queue=worker.task_queue):
        await handle.signal("open")
        failed = (await awaited(handle, "workflow_task_failed"))[0]
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    assert "[TMPRL1100] Nondeterminism error: " in failed.failure.message
    counted = [
        update.attributes
        for update in metrics.retrieve_updates()
        if update.metric.name == "temporal_workflow_task_execution_failed"
    ]
    assert counted and {(a["failure_reason"], a["workflow_type"]) for a in counted} == {
        ("NonDeterminismError", "Straying")
    }
    async with new_worker(client, Straight, activities=[tick], task_queue=worker.task_queue):
        assert await handle.result() == 1
    await replay(handle, Straight)


@workflow.defn(name="Straying", failure_exception_types=[workflow.NondeterminismError])
class StrayingForGood(Straight):
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(tock, start_to_close_timeout=TIMEOUT)


@pytest.mark.parametrize("declared", ["worker", "workflow"])
async def test_strayed_code_may_be_declared_to_fail_the_workflow(client: Client, declared: str) -> None:
    async with new_worker(client, Straight, activities=[tick]) as worker:
        handle = await client.start_workflow("Straying", id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "workflow_task_completed", 2)
    strayed = OtherActivity if declared == "worker" else StrayingForGood
    types = [workflow.NondeterminismError] if declared == "worker" else []
    async with new_worker(
        client, strayed, task_queue=worker.task_queue, workflow_failure_exception_types=types
    ):
        await handle.signal("open")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert "Nondeterminism" in caught.value.cause.message
    assert (await kinds(handle))[-1] == "workflow_execution_failed"
    assert (await found(handle, "workflow_task_failed")) == []
