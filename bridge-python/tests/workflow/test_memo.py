"""Memo: notes on a workflow, given at the start and changed by the workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from histories import found, kinds, new_worker, replay
    from support import unique
    from temporalio.client import Client


@dataclass
class Note:
    text: str
    weight: int


@workflow.defn
class Reader:
    @workflow.run
    async def run(self) -> list[Any]:
        note = workflow.memo_value("note", type_hint=Note)
        missing = False
        try:
            workflow.memo_value("absent")
        except KeyError:
            missing = True
        return [
            isinstance(note, Note) and note.weight,
            workflow.memo()["note"],
            workflow.memo_value("absent", "default"),
            missing,
            sorted(workflow.info().raw_memo),
        ]


async def test_a_workflow_reads_what_the_start_gave_with_and_without_a_type(client: Client) -> None:
    async with new_worker(client, Reader) as worker:
        handle = await client.start_workflow(
            Reader.run, id=unique(), task_queue=worker.task_queue, memo={"note": Note("n", 3), "list": [1, None]}
        )
        assert await handle.result() == [3, {"text": "n", "weight": 3}, "default", True, ["list", "note"]]
    described = await handle.describe()
    assert await described.memo() == {"note": {"text": "n", "weight": 3}, "list": [1, None]}
    assert await described.memo_value("note", type_hint=Note) == Note("n", 3)
    await replay(handle, Reader)


@workflow.defn
class Writer:
    @workflow.run
    async def run(self) -> list[Any]:
        seen: list[Any] = [dict(workflow.memo())]
        workflow.upsert_memo({"changed": 2, "added": {"deep": [True]}, "removed": None, "never": None})
        seen.append(dict(workflow.memo()))
        workflow.upsert_memo({"added": None, "changed": "x"})
        seen.append(dict(workflow.memo()))
        return seen


async def test_an_upsert_adds_changes_and_removes(client: Client) -> None:
    async with new_worker(client, Writer) as worker:
        handle = await client.start_workflow(
            Writer.run, id=unique(), task_queue=worker.task_queue, memo={"kept": 0, "changed": 1, "removed": 1}
        )
        assert await handle.result() == [
            {"kept": 0, "changed": 1, "removed": 1},
            {"kept": 0, "changed": 2, "added": {"deep": [True]}},
            {"kept": 0, "changed": "x"},
        ]
    assert await (await handle.describe()).memo() == {"kept": 0, "changed": "x"}
    changes = await found(handle, "workflow_properties_modified")
    assert [sorted(change.upserted_memo.fields) for change in changes] == [
        ["added", "changed", "never", "removed"],
        ["added", "changed"],
    ]
    await replay(handle, Writer)


@workflow.defn
class Waiting:
    @workflow.run
    async def run(self) -> dict[str, Any]:
        await workflow.wait_condition(lambda: "done" in workflow.memo())
        return dict(workflow.memo())

    @workflow.update
    async def note(self, key: str, value: str) -> int:
        workflow.upsert_memo({key: value})
        return len(workflow.memo())


async def test_upserts_in_update_handlers_survive_workers_without_a_cache(client: Client) -> None:
    async with new_worker(client, Waiting, max_cached_workflows=0) as worker:
        handle = await client.start_workflow(Waiting.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.execute_update(Waiting.note, args=["a", "1"]) == 1
        assert await handle.execute_update(Waiting.note, args=["b", "2"]) == 2
        assert await (await handle.describe()).memo() == {"a": "1", "b": "2"}
        assert await handle.execute_update(Waiting.note, args=["done", "!"]) == 3
        assert await handle.result() == {"a": "1", "b": "2", "done": "!"}
    assert (await kinds(handle)).count("workflow_properties_modified") == 3
    await replay(handle, Waiting)
