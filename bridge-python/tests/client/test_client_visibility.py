"""Looking at workflows: describe, list, count, history and reset."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from client.programs import INT, KEYWORD, Box, Echo, Fail, Wait
from support import eventually, unique
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import (
    ResetWorkflowExecutionRequest,
    UpdateWorkflowExecutionOptionsRequest,
)
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowHistoryEventFilterType,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import TerminatedError
from temporalio.service import RPCError, RPCStatusCode

SHORT_HISTORY = [
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
]


async def several(client: Client, queue: str, count: int) -> str:
    """Runs `count` workflows that can be found by the returned query."""
    mark = unique("mark")
    for number in range(count):
        attributes = TypedSearchAttributes([SearchAttributePair(KEYWORD, mark), SearchAttributePair(INT, number % 3)])
        await client.execute_workflow(
            Echo.run, number, id=f"{mark}-{number}", task_queue=queue, search_attributes=attributes
        )
    query = f"OutlastKeyword = '{mark}'"

    async def all_visible() -> None:
        assert (await client.count_workflows(f"{query} AND ExecutionStatus = 'Completed'")).count == count

    await eventually(all_visible)
    return query


async def test_describe_tells_about_a_running_and_a_closed_workflow(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    running = await handle.describe()
    assert (running.id, running.run_id, running.workflow_type) == (handle.id, handle.result_run_id, "Box")
    assert (running.status, running.close_time) == (WorkflowExecutionStatus.RUNNING, None)
    assert (running.namespace, running.task_queue) == ("default", queue)
    assert (running.parent_id, running.parent_run_id) == (None, None)
    assert (running.root_id, running.root_run_id) == (handle.id, handle.result_run_id)
    assert running.execution_time == running.start_time and running.start_time.tzinfo is not None
    await handle.signal(Box.close)
    await handle.result()
    closed = await handle.describe()
    assert closed.status == WorkflowExecutionStatus.COMPLETED
    assert closed.close_time is not None and closed.close_time >= closed.start_time
    assert closed.history_length == len((await handle.fetch_history()).events)


async def test_describe_tells_about_a_child_and_its_parent(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Fail.run, "child", id=unique(), task_queue=queue)
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    child = await client.get_workflow_handle(f"{handle.id}-child").describe()
    assert (child.parent_id, child.parent_run_id) == (handle.id, handle.result_run_id)
    assert (child.root_id, child.root_run_id) == (handle.id, handle.result_run_id)
    assert child.status == WorkflowExecutionStatus.FAILED


async def test_describe_shows_pending_work(client: Client) -> None:
    handle = await client.start_workflow(Wait.run, id=unique(), task_queue=unique("nobody"))
    description = await handle.describe()
    assert description.raw_description.HasField("pending_workflow_task")
    assert description.history_length == 2
    await handle.terminate()


async def test_describe_of_nobody_is_not_found(client: Client) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(unique()).describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND


@pytest.mark.parametrize("page_size", [1, 3, 7, 1000])
async def test_a_list_is_whole_whatever_the_size_of_its_pages(client: Client, queue: str, page_size: int) -> None:
    query = await several(client, queue, 7)
    found = [item async for item in client.list_workflows(query, page_size=page_size)]
    mark = query.split("'")[1]
    assert sorted(item.id for item in found) == [f"{mark}-{number}" for number in range(7)]
    # The last one started or closed comes first.
    closed = [item.close_time for item in found]
    assert closed == sorted(closed, key=lambda time: time.timestamp() if time else 0, reverse=True)
    assert {(item.workflow_type, item.status) for item in found} == {("Echo", WorkflowExecutionStatus.COMPLETED)}
    assert {item.typed_search_attributes[INT] for item in found} == {0, 1, 2}


async def test_a_list_has_a_limit_and_can_be_read_by_pages(client: Client, queue: str) -> None:
    query = await several(client, queue, 5)
    assert len([item async for item in client.list_workflows(query, limit=4, page_size=3)]) == 4
    pages = client.list_workflows(query, page_size=2)
    sizes = []
    while pages.next_page_token or pages.current_page is None:
        await pages.fetch_next_page()
        assert pages.current_page is not None
        sizes.append(len(pages.current_page))
    assert [size for size in sizes if size] == [2, 2, 1]
    first = client.list_workflows(query, page_size=2)
    await first.fetch_next_page()
    rest = client.list_workflows(query, page_size=2, next_page_token=first.next_page_token)
    assert len([item async for item in rest]) == 3


async def test_a_list_maps_to_histories(client: Client, queue: str) -> None:
    query = await several(client, queue, 3)
    histories = [history async for history in client.list_workflows(query).map_histories()]
    assert len({history.workflow_id for history in histories}) == 3
    assert [[event.event_type for event in history.events] for history in histories] == [SHORT_HISTORY] * 3


async def test_a_count_can_be_grouped(client: Client, queue: str) -> None:
    query = await several(client, queue, 4)
    assert (await client.count_workflows(query)).count == 4
    grouped = await client.count_workflows(f"{query} GROUP BY ExecutionStatus")
    assert grouped.count == 4
    assert [(group.count, group.group_values) for group in grouped.groups] == [(4, ["Completed"])]


async def test_a_query_that_is_none_is_an_invalid_argument(client: Client) -> None:
    for call in (client.count_workflows("what = = ever"), client.list_workflows("what = = ever").__anext__()):
        with pytest.raises(RPCError) as refused:
            await call
        assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
        assert "invalid query" in refused.value.message


@pytest.mark.parametrize("page_size", [None, 1, 2])
async def test_a_history_is_whole_whatever_the_size_of_its_pages(
    client: Client, queue: str, page_size: int | None
) -> None:
    handle = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
    await handle.result()
    events = [event async for event in handle.fetch_history_events(page_size=page_size)]
    assert [event.event_type for event in events] == SHORT_HISTORY
    assert [event.event_id for event in events] == [1, 2, 3, 4, 5]
    assert events == list((await handle.fetch_history()).events)


async def test_a_history_may_be_its_last_event_only(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Echo.run, "end", id=unique(), task_queue=queue)
    await handle.result()
    close = WorkflowHistoryEventFilterType.CLOSE_EVENT
    [event] = (await handle.fetch_history(event_filter_type=close)).events
    assert event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert json.loads(event.workflow_execution_completed_event_attributes.result.payloads[0].data) == "end"


async def test_a_history_can_be_followed_while_it_grows(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    seen = []
    async for event in handle.fetch_history_events(wait_new_event=True):
        seen.append(event.event_type)
        # The story goes on only because of what has been read of it.
        if len(seen) == 4:
            await handle.signal(Box.put, 1)
        elif seen.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1 and len(seen) == 8:
            await handle.signal(Box.close)
    assert seen[:4] == SHORT_HISTORY[:4] and seen[-1] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert seen.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 2
    assert seen == [event.event_type for event in (await handle.fetch_history()).events]


async def test_a_history_survives_json(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Echo.run, {"ä": [1.5, None]}, id=unique(), task_queue=queue, memo={"a": "b"})
    await handle.result()
    history = await handle.fetch_history()
    assert history.run_id == handle.result_run_id
    text = history.to_json()
    assert json.loads(text)["events"][0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"
    assert WorkflowHistory.from_json(handle.id, text) == history
    assert WorkflowHistory.from_json(handle.id, history.to_json_dict()) == history


async def test_a_reset_runs_again_from_where_it_is_told(client: Client, queue: str) -> None:
    handle = await client.start_workflow(
        Box.run, id=unique(), task_queue=queue, start_signal="put", start_signal_args=[1]
    )
    await handle.query(Box.content)
    await handle.signal(Box.put, 2)
    first_task = next(
        event.event_id
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    )
    response = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.result_run_id or ""),
            reason="once more",
            workflow_task_finish_event_id=first_task,
            request_id=unique(),
        )
    )
    assert response.run_id != handle.result_run_id
    with pytest.raises(WorkflowFailureError) as ended:
        await client.get_workflow_handle(handle.id, run_id=handle.result_run_id).result()
    assert isinstance(ended.value.cause, TerminatedError)
    again = client.get_workflow_handle(handle.id, run_id=response.run_id)
    await again.signal(Box.close)
    # Signals are carried over to the new run.
    assert await again.result() == [1, 2]
    failed = [
        event.workflow_task_failed_event_attributes
        for event in (await again.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]
    assert [attributes.new_run_id for attributes in failed] == [response.run_id]


async def test_a_raw_call_carries_what_the_client_has_no_method_for(client: Client) -> None:
    handle = await client.start_workflow(
        Wait.run, id=unique(), task_queue=unique("nobody"), run_timeout=timedelta(hours=1)
    )
    with pytest.raises(RPCError) as refused:
        await client.workflow_service.update_workflow_execution_options(
            UpdateWorkflowExecutionOptionsRequest(
                namespace=client.namespace, workflow_execution=WorkflowExecution(workflow_id=handle.id)
            )
        )
    assert refused.value.status == RPCStatusCode.INVALID_ARGUMENT
    raw = (await handle.describe()).raw_description
    assert raw.execution_config.workflow_run_timeout == Duration(seconds=3600)
    await handle.terminate()
