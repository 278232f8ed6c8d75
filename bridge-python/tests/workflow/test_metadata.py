"""What people see of a workflow: summaries, details, its handlers, its stack, its priority."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import Priority

with workflow.unsafe.imports_passed_through():
    import temporalio
    from histories import awaited, found, kind, new_worker, replay
    from support import unique
    from temporalio.api.sdk.v1 import EnhancedStackTrace, WorkflowMetadata
    from temporalio.client import Client, WorkflowHandle

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def priority() -> list[Any]:
    given = activity.info().priority
    return [given.priority_key, given.fairness_key, given.fairness_weight]


async def metadata(handle: WorkflowHandle[Any, Any]) -> WorkflowMetadata:
    answer = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert isinstance(answer, WorkflowMetadata)
    return answer


async def summaries(handle: WorkflowHandle[Any, Any]) -> dict[str, list[str]]:
    """The summaries that events carry, by the type of the event."""
    told: dict[str, list[str]] = {}
    async for event in handle.fetch_history_events():
        if event.user_metadata.HasField("summary"):
            told.setdefault(kind(event), []).append(json.loads(event.user_metadata.summary.data))
    return told


@workflow.defn
class Described:
    """Describes all that it does."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self, depth: int) -> str:
        workflow.set_current_details("step *one*")
        await workflow.execute_activity(priority, start_to_close_timeout=TIMEOUT, summary="an activity")
        await workflow.execute_local_activity(priority, start_to_close_timeout=TIMEOUT, summary="a local activity")
        if depth:
            await workflow.start_child_workflow(
                Described.run,
                depth - 1,
                id=workflow.info().workflow_id + "c",
                static_summary="a child",
                static_details="details\nof a child",
                parent_close_policy=workflow.ParentClosePolicy.TERMINATE,
            )
        workflow.set_current_details("step *two*")
        await workflow.wait_condition(lambda: self.over, timeout=60, timeout_summary="a wait")
        return workflow.get_current_details()

    @workflow.signal(description="ends it all")
    def end(self) -> None:
        self.over = True

    @workflow.query(description="is it over")
    def is_over(self) -> bool:
        return self.over

    @workflow.update(description="renames")
    def rename(self, to: str) -> None:
        workflow.set_current_details(to)


async def test_summaries_and_details_are_in_history_and_description(client: Client) -> None:
    async with new_worker(client, Described, activities=[priority]) as worker:
        handle = await client.start_workflow(
            Described.run,
            1,
            id=unique(),
            task_queue=worker.task_queue,
            static_summary="a *workflow*",
            static_details="details\nof it",
        )
        await awaited(handle, "timer_started")
        await handle.signal(Described.end)
        assert await handle.result() == "step *two*"
        child = client.get_workflow_handle(handle.id + "c")
    assert await summaries(handle) == {
        "workflow_execution_started": ["a *workflow*"],
        "activity_task_scheduled": ["an activity"],
        "marker_recorded": ["a local activity"],
        "timer_started": ["a wait"],
        "timer_canceled": ["a wait"],
        "start_child_workflow_execution_initiated": ["a child"],
    }
    given = ((handle, "a *workflow*", "details\nof it"), (child, "a child", "details\nof a child"))
    for run, summary, details in given:
        described = await run.describe()
        assert (await described.static_summary(), await described.static_details()) == (summary, details)
    await replay(handle, Described)


async def test_metadata_tells_handlers_and_current_details_live_and_after_replay(client: Client) -> None:
    async with new_worker(client, Described, activities=[priority]) as worker:
        handle = await client.start_workflow(Described.run, 0, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "timer_started")
        told = await metadata(handle)
        assert told.current_details == "step *two*"
        assert told.definition.type == "Described"
        assert [(s.name, s.description) for s in told.definition.signal_definitions] == [("end", "ends it all")]
        assert [(u.name, u.description) for u in told.definition.update_definitions] == [("rename", "renames")]
        queries = [(q.name, q.description) for q in told.definition.query_definitions]
        assert ("is_over", "is it over") in queries and ("__stack_trace" in [name for name, _ in queries])
        await handle.execute_update(Described.rename, "renamed")
        assert (await metadata(handle)).current_details == "renamed"
    async with new_worker(client, Described, activities=[priority], task_queue=worker.task_queue):
        again = await metadata(handle)
        assert again.current_details == "renamed" and again.definition == told.definition
        await handle.signal(Described.end)
        assert await handle.result() == "renamed"


async def test_a_stack_trace_shows_where_a_workflow_waits_live_and_after_replay(client: Client) -> None:
    def of_run(trace: str) -> str:
        """The part of the trace that is not about the query itself."""
        tasks = sorted(trace.removeprefix("Stack for ").strip().split("\n\n\nStack for "))
        assert len(tasks) == 2 and tasks[0].startswith("<Task pending name='query: __stack_trace")
        return tasks[1].strip()

    async with new_worker(client, Described, activities=[priority]) as worker:
        handle = await client.start_workflow(Described.run, 0, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "timer_started")
        live = of_run(await handle.query("__stack_trace"))
        run = f"run (workflow: Described, id: {handle.id}, run: {handle.first_execution_run_id})"
        assert live.startswith(f"<Task pending name='{run}'")
        enhanced = await handle.query("__enhanced_stack_trace", result_type=EnhancedStackTrace)
        assert (enhanced.sdk.name, enhanced.sdk.version) == ("sdk-python", temporalio.__version__)
        assert len(enhanced.stacks) == 2 and all(stack.locations for stack in enhanced.stacks)
    async with new_worker(client, Described, activities=[priority], task_queue=worker.task_queue):
        assert of_run(await handle.query("__stack_trace")) == live
        await handle.terminate()


@workflow.defn
class Important:
    @workflow.run
    async def run(self, depth: int) -> list[Any]:
        given = workflow.info().priority
        own = [given.priority_key, given.fairness_key, given.fairness_weight]
        inherited = await workflow.execute_activity(priority, start_to_close_timeout=TIMEOUT)
        changed = await workflow.execute_activity(
            priority, start_to_close_timeout=TIMEOUT, priority=Priority(priority_key=5, fairness_key="other")
        )
        below: list[Any] = []
        if depth:
            below = await workflow.execute_child_workflow(
                Important.run,
                depth - 1,
                id=workflow.info().workflow_id + "c",
                priority=Priority(priority_key=2, fairness_weight=3.0),
            )
        return [own, inherited, changed, *below]


async def test_priority_and_fairness_are_inherited_and_changed(client: Client) -> None:
    # An activity that is dispatched eagerly is not told what it inherits.
    async with new_worker(
        client, Important, activities=[priority], disable_eager_activity_execution=True
    ) as worker:
        handle = await client.start_workflow(
            Important.run,
            1,
            id=unique(),
            task_queue=worker.task_queue,
            priority=Priority(priority_key=4, fairness_key="tenant", fairness_weight=1.5),
        )
        own, inherited, changed, child, childs, childs_changed = await handle.result()
    assert own == inherited == [4, "tenant", 1.5]
    assert changed == [5, "other", 1.5]
    assert child == childs == [2, "tenant", 3.0]
    assert childs_changed == [5, "other", 3.0]
    scheduled = await found(handle, "activity_task_scheduled")
    assert [s.priority.priority_key for s in scheduled] == [0, 5]
    described = await handle.describe()
    assert described.raw_info.priority.fairness_key == "tenant"
    await replay(handle, Important)
    await replay(client.get_workflow_handle(handle.id + "c"), Important)
