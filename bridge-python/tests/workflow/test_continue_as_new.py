"""Continue-as-new: a run ends and the next one takes up its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client, WorkflowContinuedAsNewError, WorkflowHandle
    from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")
NUMBER = SearchAttributeKey.for_int("OutlastInt")


async def chain(client: Client, id: str) -> list[WorkflowHandle[Any, Any]]:
    """Handles of all runs of a workflow, first to last."""
    first = (await found(client.get_workflow_handle(id), "workflow_execution_started"))[0].first_execution_run_id
    runs = [client.get_workflow_handle(id, run_id=first)]
    while ended := await found(runs[-1], "workflow_execution_continued_as_new"):
        runs.append(client.get_workflow_handle(id, run_id=ended[0].new_execution_run_id))
    return runs


@activity.defn
async def tick() -> None:
    pass


@dataclass
class Progress:
    left: int
    runs: list[str] = field(default_factory=list)


@workflow.defn
class CountDown:
    @workflow.run
    async def run(self, progress: Progress, label: str) -> dict[str, Any]:
        info = workflow.info()
        progress.runs.append(info.run_id)
        if progress.left > 0:
            workflow.continue_as_new(args=[Progress(progress.left - 1, progress.runs), label + "!"])
        return {
            "runs": progress.runs,
            "label": label,
            "first": info.first_execution_run_id,
            "before": info.continued_run_id,
            "original": info.original_execution_run_id,
        }


async def test_arguments_and_identity_pass_from_run_to_run(client: Client) -> None:
    async with new_worker(client, CountDown) as worker:
        handle = await client.start_workflow(
            CountDown.run, args=[Progress(2), "go"], id=unique(), task_queue=worker.task_queue
        )
        result = await handle.result()
    runs = await chain(client, handle.id)
    ids = [run.run_id for run in runs]
    assert len(set(ids)) == 3 and ids[0] == handle.first_execution_run_id
    assert result == {"runs": ids, "label": "go!!", "first": ids[0], "before": ids[1], "original": ids[2]}
    assert (await kinds(runs[0]))[-1] == "workflow_execution_continued_as_new"
    assert (await kinds(runs[2]))[-1] == "workflow_execution_completed"
    for run in runs:
        await replay(run, CountDown)


async def test_a_result_that_does_not_follow_runs_names_the_next_run(client: Client) -> None:
    async with new_worker(client, CountDown) as worker:
        handle = await client.start_workflow(
            CountDown.run, args=[Progress(1), ""], id=unique(), task_queue=worker.task_queue
        )
        await handle.result()
        with pytest.raises(WorkflowContinuedAsNewError) as caught:
            await handle.result(follow_runs=False)
    assert caught.value.new_execution_run_id == (await chain(client, handle.id))[1].run_id


@workflow.defn
class Carry:
    """Continues once; the second run tells what it was given."""

    @workflow.run
    async def run(self, how: str) -> dict[str, Any]:
        info = workflow.info()
        if info.continued_run_id:
            return {
                "memo": dict(workflow.memo()),
                "keyword": info.typed_search_attributes.get(KEYWORD),
                "number": info.typed_search_attributes.get(NUMBER),
            }
        workflow.upsert_memo({"upserted": "m"})
        workflow.upsert_search_attributes([NUMBER.value_set(7)])
        if how == "keep":
            workflow.continue_as_new(how)
        attributes = TypedSearchAttributes([SearchAttributePair(KEYWORD, "replaced")])
        workflow.continue_as_new(how, memo={"only": [1, 2]}, search_attributes=attributes)


@pytest.mark.parametrize("how", ["keep", "replace"])
async def test_memo_and_search_attributes_are_kept_or_replaced(client: Client, how: str) -> None:
    """Of the memo the server keeps what the run started with; of the attributes, what is current."""
    async with new_worker(client, Carry) as worker:
        handle = await client.start_workflow(
            Carry.run,
            how,
            id=unique(),
            task_queue=worker.task_queue,
            memo={"started": "m"},
            search_attributes=TypedSearchAttributes([SearchAttributePair(KEYWORD, "first")]),
        )
        result = await handle.result()
    if how == "keep":
        assert result == {"memo": {"started": "m"}, "keyword": "first", "number": 7}
    else:
        assert result == {"memo": {"only": [1, 2]}, "keyword": "replaced", "number": None}
    for run in await chain(client, handle.id):
        await replay(run, Carry)


@workflow.defn
class Elsewhere:
    @workflow.run
    async def run(self, queue: str) -> str:
        workflow.continue_as_new(
            queue,
            workflow=Landing.run,
            task_queue=queue,
            run_timeout=timedelta(seconds=40),
            task_timeout=timedelta(seconds=7),
            backoff_start_interval=timedelta(milliseconds=20),
            retry_policy=RetryPolicy(maximum_attempts=4, initial_interval=timedelta(milliseconds=50)),
        )


@workflow.defn
class Landing:
    @workflow.run
    async def run(self, queue: str) -> list[Any]:
        info = workflow.info()
        assert info.retry_policy and info.run_timeout
        return [
            info.workflow_type,
            info.task_queue == queue,
            info.run_timeout.total_seconds(),
            info.task_timeout.total_seconds(),
            info.retry_policy.maximum_attempts,
            info.retry_policy.initial_interval.total_seconds(),
        ]


async def test_the_next_run_may_have_another_type_queue_timeouts_and_retry_policy(client: Client) -> None:
    async with new_worker(client, Elsewhere) as here, new_worker(client, Landing) as there:
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            "Elsewhere", there.task_queue, id=unique(), task_queue=here.task_queue, result_type=list
        )
        assert await handle.result() == ["Landing", True, 40.0, 7.0, 4, 0.05]
    first, second = await chain(client, handle.id)
    ended = (await found(first, "workflow_execution_continued_as_new"))[0]
    assert ended.workflow_type.name == "Landing" and ended.task_queue.name == there.task_queue
    assert ended.backoff_start_interval.ToTimedelta() == timedelta(milliseconds=20)
    started = (await found(second, "workflow_execution_started"))[0]
    assert started.first_workflow_task_backoff.ToTimedelta() >= timedelta(milliseconds=20)
    await replay(first, Elsewhere)
    await replay(second, Landing)


@workflow.defn
class Long:
    @workflow.run
    async def run(self, again: bool) -> list[Any]:
        suggested = [workflow.info().is_continue_as_new_suggested()]
        for n in range(100 if again else 1):
            workflow.upsert_memo({"n": n})
        await workflow.execute_activity(tick, start_to_close_timeout=timedelta(seconds=20))
        suggested.append(workflow.info().is_continue_as_new_suggested())
        if again:
            assert suggested == [False, True] and workflow.info().get_current_history_length() > 100
            workflow.continue_as_new(False)
        return suggested


async def test_a_long_history_suggests_it_and_the_next_run_is_short_again(client: Client) -> None:
    async with new_worker(client, Long, activities=[tick]) as worker:
        handle = await client.start_workflow(Long.run, True, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == [False, False]
    first, second = await chain(client, handle.id)
    started = await found(first, "workflow_task_started")
    assert [task.suggest_continue_as_new for task in started] == [False, True]
    await replay(first, Long)
    await replay(second, Long)


@workflow.defn
class Inbox:
    """Hands what it got to the next run, at most three items a run."""

    @workflow.init
    def __init__(self, got: list[int]) -> None:
        self.got = got
        self.fresh = 0

    @workflow.run
    async def run(self, got: list[int]) -> list[int]:
        await workflow.wait_condition(lambda: self.fresh >= 3 or -1 in self.got)
        if -1 in self.got:
            return self.got
        workflow.continue_as_new(self.got)

    @workflow.signal
    async def put(self, item: int) -> None:
        self.got.append(item)
        self.fresh += 1


async def test_no_signal_is_lost_between_runs(client: Client) -> None:
    async with new_worker(client, Inbox) as worker:
        handle = await client.start_workflow(Inbox.run, [], id=unique(), task_queue=worker.task_queue)
        for item in range(6):
            await handle.signal(Inbox.put, item)
        await awaited(
            client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id),
            "workflow_execution_continued_as_new",
        )
        for item in [*range(6, 12), -1]:
            await handle.signal(Inbox.put, item)
        assert await handle.result() == [*range(12), -1]
    runs = await chain(client, handle.id)
    assert len(runs) >= 2
    for run in runs:
        await replay(run, Inbox)


@workflow.defn
class FromHandler:
    @workflow.run
    async def run(self, round: int) -> int:
        await workflow.wait_condition(lambda: round == 2)
        return round

    @workflow.signal
    async def again(self) -> None:
        workflow.continue_as_new(2)


async def test_a_signal_handler_can_continue_as_new(client: Client) -> None:
    async with new_worker(client, FromHandler) as worker:
        handle = await client.start_workflow(FromHandler.run, 1, id=unique(), task_queue=worker.task_queue)
        await handle.signal(FromHandler.again)
        assert await handle.result() == 2
    first, second = await chain(client, handle.id)
    await replay(first, FromHandler)
    await replay(second, FromHandler)


@workflow.defn
class LastResult:
    @workflow.run
    async def run(self) -> Any:
        if workflow.info().continued_run_id:
            return workflow.get_last_completion_result()
        workflow.continue_as_new()


async def test_there_is_no_last_result_after_continuing(client: Client) -> None:
    async with new_worker(client, LastResult) as worker:
        assert await client.execute_workflow(LastResult.run, id=unique(), task_queue=worker.task_queue) is None
