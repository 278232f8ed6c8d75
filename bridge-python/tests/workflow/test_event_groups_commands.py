"""Event groups on every kind of command, and on what the core itself records for one: each event carries them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import nexusrpc.handler
from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from histories import kind, new_worker, replay
    from support import unique
    from temporalio.api.history.v1 import HistoryEvent
    from temporalio.client import Client, WorkflowHandle
    from temporalio.common import RetryPolicy, SearchAttributeKey
    from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception
    from workflow.nexus_endpoints import endpoint

TIMEOUT = timedelta(seconds=20)
BOTH = ["around", "given"]


@activity.defn
async def tick() -> None:
    pass


@activity.defn
async def doze() -> None:
    await asyncio.sleep(30)


@activity.defn
async def second_time() -> None:
    if activity.info().attempt == 1:
        raise ApplicationError("once more")


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Takes the task back and waits until it says so."""
    task.cancel()
    try:
        await task
    except BaseException as error:
        if not is_cancelled_exception(error):
            raise
    else:
        raise AssertionError("ended well")


def task_of(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work)


async def marked(handle: WorkflowHandle[Any, Any]) -> list[tuple[str, list[str]]]:
    """The events that commands leave, in order, each with the sorted labels of its groups."""
    left = []
    for event in (await handle.fetch_history()).events:
        if is_of_a_command(event):
            left.append((kind(event), sorted(marker.label.id for marker in event.event_group_markers)))
        else:
            assert not event.event_group_markers, event
    return left


def is_of_a_command(event: HistoryEvent) -> bool:
    words = kind(event)
    if words.startswith("workflow_task") or words.startswith("external_") or words == "workflow_execution_started":
        return False
    ends = ("scheduled", "initiated", "requested", "modified", "attributes", "recorded", "continued_as_new")
    return words.endswith(ends) or words in ("timer_started", "timer_canceled", "workflow_execution_completed")


@workflow.defn
class Timers:
    @workflow.run
    async def run(self) -> None:
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        with around.scope():
            await workflow.sleep(0.001, event_groups=[given])
            try:
                await workflow.wait_condition(lambda: False, timeout=0.001, event_groups=[given])
            except asyncio.TimeoutError:
                pass
            long = task_of(workflow.sleep(60, event_groups=[given]))
            await workflow.sleep(0.001)
            await cancelled(long)


async def test_timers_and_their_cancellation(client: Client) -> None:
    async with new_worker(client, Timers) as worker:
        handle = await client.start_workflow(Timers.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert await marked(handle) == [
        ("timer_started", BOTH),
        ("timer_started", BOTH),
        ("timer_started", ["around"]),
        ("timer_started", BOTH),
        ("timer_canceled", BOTH),
        ("workflow_execution_completed", []),
    ]
    await replay(handle, Timers)


@workflow.defn
class Activities:
    @workflow.run
    async def run(self) -> None:
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        with around.scope():
            long = workflow.start_activity(
                doze,
                start_to_close_timeout=TIMEOUT,
                cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                event_groups=[given],
            )
            await workflow.sleep(0.001)
        await cancelled(long)


async def test_the_cancellation_of_an_activity_belongs_where_its_start_does(client: Client) -> None:
    async with new_worker(client, Activities, activities=[doze]) as worker:
        handle = await client.start_workflow(Activities.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert await marked(handle) == [
        ("activity_task_scheduled", BOTH),
        ("timer_started", ["around"]),
        ("activity_task_cancel_requested", BOTH),
        ("workflow_execution_completed", []),
    ]
    await replay(handle, Activities)


@workflow.defn
class Locals:
    @workflow.run
    async def run(self) -> None:
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        taken_back = workflow.create_event_group("taken back")
        with around.scope():
            await workflow.execute_local_activity(tick, start_to_close_timeout=TIMEOUT, event_groups=[given])
            long = workflow.start_local_activity(
                doze,
                start_to_close_timeout=TIMEOUT,
                cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
                event_groups=[taken_back],
            )
            await workflow.execute_local_activity(tick, start_to_close_timeout=TIMEOUT)
            await cancelled(long)
            await workflow.execute_local_activity(
                second_time,
                start_to_close_timeout=TIMEOUT,
                local_retry_threshold=timedelta(milliseconds=1),
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=2),
                event_groups=[given],
            )


async def test_markers_of_local_activities_and_the_timer_between_two_attempts(client: Client) -> None:
    async with new_worker(client, Locals, activities=[tick, doze, second_time]) as worker:
        handle = await client.start_workflow(Locals.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert await marked(handle) == [
        ("marker_recorded", BOTH),
        ("marker_recorded", ["around"]),
        ("marker_recorded", ["around", "taken back"]),
        ("marker_recorded", BOTH),
        ("timer_started", BOTH),
        ("marker_recorded", BOTH),
        ("workflow_execution_completed", []),
    ]
    await replay(handle, Locals)


@workflow.defn
class Child:
    def __init__(self) -> None:
        self.called = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.called)

    @workflow.signal
    def call(self) -> None:
        self.called = True


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> None:
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        id = workflow.info().workflow_id
        plain = await workflow.start_child_workflow(Child.run, id=id + "-plain")
        with around.scope():
            grouped = await workflow.start_child_workflow(
                Child.run,
                id=id + "-grouped",
                cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_REQUESTED,
                event_groups=[given],
            )
            await plain.signal(Child.call, event_groups=[given])
            await plain
        await cancelled(grouped)
        nobody = workflow.get_external_workflow_handle("event-groups-nobody")
        with around.scope():
            for ask in (nobody.signal("call", event_groups=[given]), nobody.cancel(event_groups=[given])):
                try:
                    await ask
                except FailureError:
                    continue
                raise AssertionError("somebody was there")


async def test_children_and_workflows_elsewhere(client: Client) -> None:
    async with new_worker(client, Parent, Child) as worker:
        handle = await client.start_workflow(Parent.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert await marked(handle) == [
        ("start_child_workflow_execution_initiated", []),
        ("start_child_workflow_execution_initiated", BOTH),
        ("signal_external_workflow_execution_initiated", BOTH),
        ("request_cancel_external_workflow_execution_initiated", BOTH),
        ("signal_external_workflow_execution_initiated", BOTH),
        ("request_cancel_external_workflow_execution_initiated", BOTH),
        ("workflow_execution_completed", []),
    ]
    await replay(handle, Parent)


@nexusrpc.handler.service_handler
class Port:
    @nexusrpc.handler.sync_operation
    async def quick(self, _context: nexusrpc.handler.StartOperationContext, _input: None) -> None:
        return None

    @nexusrpc.handler.sync_operation
    async def slow(self, _context: nexusrpc.handler.StartOperationContext, _input: None) -> None:
        await asyncio.sleep(3)


@workflow.defn
class Calls:
    @workflow.run
    async def run(self, where: str) -> None:
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        port = workflow.create_nexus_client(service=Port, endpoint=where)
        with around.scope():
            await port.execute_operation(Port.quick, None, event_groups=[given])
            long = task_of(
                port.execute_operation(
                    Port.slow,
                    None,
                    cancellation_type=workflow.NexusOperationCancellationType.TRY_CANCEL,
                    event_groups=[given],
                )
            )
            await workflow.sleep(0.001)
        await cancelled(long)


async def test_nexus_operations_and_their_cancellation(client: Client) -> None:
    async with new_worker(client, Calls, nexus_service_handlers=[Port()]) as worker, endpoint(worker) as where:
        handle = await client.start_workflow(Calls.run, where, id=unique(), task_queue=worker.task_queue)
        await handle.result()
        events = await marked(handle)
    assert events == [
        ("nexus_operation_scheduled", BOTH),
        ("timer_started", ["around"]),
        ("nexus_operation_scheduled", BOTH),
        ("nexus_operation_cancel_requested", BOTH),
        ("workflow_execution_completed", []),
    ]
    await replay(handle, Calls)


@workflow.defn
class Notes:
    @workflow.run
    async def run(self, again: bool) -> None:
        if again:
            return
        around, given = workflow.create_event_group("around"), workflow.create_event_group("given")
        with around.scope():
            workflow.upsert_memo({"key": "value"}, event_groups=[given])
            flag = SearchAttributeKey.for_bool("OutlastBool").value_set(False)
            workflow.upsert_search_attributes([flag], event_groups=[given])
            workflow.patched("one", event_groups=[given])
            workflow.deprecate_patch("two", event_groups=[given])
            workflow.continue_as_new(True, event_groups=[given])


async def test_notes_patches_with_their_search_attributes_and_the_next_run(client: Client) -> None:
    async with new_worker(client, Notes) as worker:
        handle = await client.start_workflow(Notes.run, False, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert await marked(first) == [
        ("workflow_properties_modified", BOTH),
        ("upsert_workflow_search_attributes", BOTH),
        ("marker_recorded", BOTH),
        ("upsert_workflow_search_attributes", BOTH),
        ("marker_recorded", BOTH),
        ("upsert_workflow_search_attributes", BOTH),
        ("workflow_execution_continued_as_new", BOTH),
    ]
    await replay(first, Notes)
