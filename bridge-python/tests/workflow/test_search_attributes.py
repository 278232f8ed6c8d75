"""Search attributes: typed values set at the start and by the workflow, seen by everyone alike."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, new_worker, replay
    from support import eventually, unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client
    from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

TEXT = SearchAttributeKey.for_text("OutlastText")
KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")
INT = SearchAttributeKey.for_int("OutlastInt")
DOUBLE = SearchAttributeKey.for_float("OutlastDouble")
BOOL = SearchAttributeKey.for_bool("OutlastBool")
TIME = SearchAttributeKey.for_datetime("OutlastTime")
LIST = SearchAttributeKey.for_keyword_list("OutlastList")
NOON = datetime(2031, 2, 3, 12, 0, 0, 250000, tzinfo=timezone.utc)
VALUES: dict[str, tuple[SearchAttributeKey[Any], Any, Any]] = {
    "text": (TEXT, "some words", "other words"),
    "keyword": (KEYWORD, "key ✓", "other"),
    "int": (INT, -(2**40), 0),
    "double": (DOUBLE, 2.5, -0.125),
    "bool": (BOOL, True, False),
    "datetime": (TIME, NOON, NOON.replace(year=1999)),
    "keyword_list": (LIST, ["a", "b"], []),
}


@workflow.defn
class Upserting:
    @workflow.run
    async def run(self, kind: str) -> list[str]:
        key, first, second = VALUES[kind]
        seen = []
        for update in [key.value_set(first), key.value_set(second), key.value_unset(), key.value_set(first)]:
            workflow.upsert_search_attributes([update])
            seen.append(repr(workflow.info().typed_search_attributes.get(key)))
        return seen


@pytest.mark.parametrize("kind", VALUES)
async def test_a_value_of_each_type_is_set_changed_unset_and_described(client: Client, kind: str) -> None:
    key, first, second = VALUES[kind]
    async with new_worker(client, Upserting) as worker:
        handle = await client.start_workflow(Upserting.run, kind, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == [repr(first), repr(second), repr(None), repr(first)]
    described = await handle.describe()
    assert described.typed_search_attributes[key] == first
    upserts = await found(handle, "upsert_workflow_search_attributes")
    fields = [event.search_attributes.indexed_fields[key.name] for event in upserts]
    assert len(fields) == 4 and fields[0] == fields[3] and fields[0].metadata["type"]
    assert fields[2].metadata["encoding"] == b"binary/null"
    await replay(handle, Upserting)


@workflow.defn
class Started:
    @workflow.run
    async def run(self) -> list[Any]:
        attributes = workflow.info().typed_search_attributes
        before = [attributes[KEYWORD], attributes[INT], attributes.get(BOOL) is not None, len(attributes)]
        changes: list[SearchAttributeUpdate[Any]] = [KEYWORD.value_unset(), INT.value_set(6), BOOL.value_set(False)]
        workflow.upsert_search_attributes(changes)
        attributes = workflow.info().typed_search_attributes
        return before + [attributes.get(KEYWORD), attributes[INT], attributes[BOOL], len(attributes)]


async def test_one_upsert_changes_what_the_start_gave_and_leaves_the_rest(client: Client) -> None:
    given = TypedSearchAttributes(
        [SearchAttributePair(KEYWORD, "k"), SearchAttributePair(INT, 5), SearchAttributePair(LIST, ["x"])]
    )
    async with new_worker(client, Started) as worker:
        handle = await client.start_workflow(
            Started.run, id=unique(), task_queue=worker.task_queue, search_attributes=given
        )
        assert await handle.result() == ["k", 5, False, 3, None, 6, False, 3]
    described = (await handle.describe()).typed_search_attributes
    assert described.get(KEYWORD) is None
    assert (described[INT], described[BOOL], described[LIST]) == (6, False, ["x"])
    assert len(await found(handle, "upsert_workflow_search_attributes")) == 1
    await replay(handle, Started)


async def test_an_upserted_value_finds_the_workflow(client: Client) -> None:
    async with new_worker(client, Upserting) as worker:
        handle = await client.start_workflow(Upserting.run, "int", id=unique(), task_queue=worker.task_queue)
        await handle.result()

    async def listed() -> None:
        query = f"WorkflowId = '{handle.id}' AND OutlastInt = {-(2**40)}"
        assert [(w.id, w.typed_search_attributes[INT]) async for w in client.list_workflows(query)] == [
            (handle.id, -(2**40))
        ]

    await eventually(listed)


@workflow.defn
class Unknown:
    @workflow.run
    async def run(self) -> None:
        workflow.upsert_search_attributes([SearchAttributeKey.for_keyword("OutlastUnheardOf").value_set("x")])


async def test_an_unregistered_name_is_refused_by_the_server_and_fails_the_task(client: Client) -> None:
    async with new_worker(client, Unknown) as worker:
        handle = await client.start_workflow(Unknown.run, id=unique(), task_queue=worker.task_queue)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        await handle.terminate()
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
    assert "OutlastUnheardOf" in failed.failure.message
    assert await found(handle, "upsert_workflow_search_attributes") == []
