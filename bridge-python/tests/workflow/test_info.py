"""What a workflow knows about itself: live, in replay, as a child, after retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta, timezone
from typing import Any

from temporalio import activity, workflow
from temporalio.common import Priority, RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from histories import awaited, found, new_worker, replay
    from support import unique
    from temporalio.client import Client, WorkflowHandle

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def tick() -> None:
    pass


def told(info: workflow.Info) -> dict[str, Any]:
    """The info as plain data."""
    plain = {
        name: getattr(info, name)
        for name in (
            "attempt",
            "continued_run_id",
            "cron_schedule",
            "first_execution_run_id",
            "namespace",
            "original_execution_run_id",
            "run_id",
            "task_queue",
            "workflow_id",
            "workflow_type",
        )
    }
    for name in ("execution_timeout", "run_timeout", "task_timeout"):
        value = getattr(info, name)
        plain[name] = None if value is None else value.total_seconds()
    plain["parent"] = info.parent and [info.parent.namespace, info.parent.workflow_id, info.parent.run_id]
    plain["root"] = info.root and [info.root.workflow_id, info.root.run_id]
    plain["retry"] = info.retry_policy and info.retry_policy.maximum_attempts
    plain["priority"] = [info.priority.priority_key, info.priority.fairness_key, info.priority.fairness_weight]
    plain["attributes"] = {pair.key.name: pair.value for pair in info.typed_search_attributes}
    plain["memo"] = sorted(info.raw_memo)
    plain["headers"] = sorted(info.headers)
    plain["started"] = info.workflow_start_time.isoformat()
    plain["first_task"] = info.start_time.isoformat()
    return plain


seen: dict[str, list[Mapping[str, Any]]] = {}
"""What each run was told, once for each time that it ran."""


@workflow.defn(sandboxed=False)
class Telling:
    @workflow.run
    async def run(self, children: int) -> list[Any]:
        info = workflow.info()
        seen.setdefault(info.run_id, []).append(told(info))
        below: list[Any] = []
        if children:
            below = await workflow.execute_child_workflow(Telling.run, children - 1, id=info.workflow_id + "c")
        assert told(workflow.info()) == told(info)
        return [told(info), *below]


async def test_a_plain_workflow_knows_where_it_is(client: Client) -> None:
    async with new_worker(client, Telling) as worker:
        handle = await client.start_workflow(Telling.run, 0, id=unique(), task_queue=worker.task_queue)
        (info,) = await handle.result()
    history = [event async for event in handle.fetch_history_events()]
    run_id = handle.first_execution_run_id
    assert info == {
        "attempt": 1,
        "continued_run_id": None,
        "cron_schedule": None,
        "execution_timeout": None,
        "first_execution_run_id": run_id,
        "namespace": "default",
        "original_execution_run_id": run_id,
        "run_id": run_id,
        "task_queue": worker.task_queue,
        "workflow_id": handle.id,
        "workflow_type": "Telling",
        "run_timeout": None,
        "task_timeout": 10.0,
        "parent": None,
        "root": info["root"],
        "retry": None,
        "priority": [None, None, None],
        "attributes": info["attributes"],
        "memo": [],
        "headers": [],
        "started": info["started"],
        "first_task": info["first_task"],
    }
    assert info["root"] in (None, [handle.id, run_id])
    assert info["started"] == history[0].event_time.ToDatetime(timezone.utc).isoformat()
    assert info["first_task"] == history[2].event_time.ToDatetime(timezone.utc).isoformat()


async def test_everything_given_at_the_start_is_told_live_and_in_replay(client: Client) -> None:
    keyword = SearchAttributeKey.for_keyword("OutlastKeyword")
    async with new_worker(client, Telling) as worker:
        handle = await client.start_workflow(
            Telling.run,
            0,
            id=unique(),
            task_queue=worker.task_queue,
            execution_timeout=timedelta(seconds=60),
            run_timeout=timedelta(seconds=50),
            task_timeout=timedelta(seconds=9),
            retry_policy=RetryPolicy(maximum_attempts=3),
            memo={"m": 1},
            search_attributes=TypedSearchAttributes([SearchAttributePair(keyword, "k")]),
            priority=Priority(priority_key=2, fairness_key="tenant", fairness_weight=1.5),
        )
        (info,) = await handle.result()
    assert [info["execution_timeout"], info["run_timeout"], info["task_timeout"]] == [60.0, 50.0, 9.0]
    assert (info["retry"], info["memo"]) == (3, ["m"])
    assert info["attributes"]["OutlastKeyword"] == "k"
    assert info["priority"] == [2, "tenant", 1.5]
    await replay(handle, Telling)
    live, replayed = seen[info["run_id"]]
    # A replayer has no namespace or queue of its own.
    for name in ("namespace", "task_queue"):
        assert replayed[name] != live[name]
    assert {**replayed, "namespace": "default", "task_queue": worker.task_queue} == live == info


async def test_children_know_their_parent_and_their_root(client: Client) -> None:
    async with new_worker(client, Telling) as worker:
        handle = await client.start_workflow(Telling.run, 2, id=unique(), task_queue=worker.task_queue)
        top, middle, bottom = await handle.result()
    assert top["parent"] is None
    assert middle["parent"] == ["default", handle.id, top["run_id"]]
    assert bottom["parent"] == ["default", handle.id + "c", middle["run_id"]]
    assert middle["root"] == bottom["root"] == [handle.id, top["run_id"]]
    described = await client.get_workflow_handle(handle.id + "cc").describe()
    assert (described.parent_id, described.parent_run_id) == (handle.id + "c", middle["run_id"])
    assert (described.root_id, described.root_run_id) == (handle.id, top["run_id"])
    started = (await found(client.get_workflow_handle(handle.id + "cc"), "workflow_execution_started"))[0]
    for limit in ("workflow_execution_timeout", "workflow_run_timeout"):
        given = getattr(started, limit).ToTimedelta().total_seconds() if started.HasField(limit) else None
        assert bottom[limit.removeprefix("workflow_")] == given
    await replay(client.get_workflow_handle(handle.id + "cc"), Telling)
    live, replayed = seen[bottom["run_id"]]
    assert live["parent"] == replayed["parent"] and live["root"] == replayed["root"]


@workflow.defn
class Replaying:
    """Notes at each step whether history is being replayed."""

    def __init__(self) -> None:
        self.steps: list[bool] = []
        self.validated: list[list[bool]] = []

    @workflow.run
    async def run(self) -> list[bool]:
        self.note()
        await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        self.note()
        await workflow.wait_condition(lambda: len(self.validated) == 2)
        return self.steps

    def note(self) -> None:
        self.steps.append(workflow.unsafe.is_replaying())

    @workflow.query
    def asked(self) -> list[Any]:
        return [self.steps, workflow.unsafe.is_read_only(), workflow.unsafe.is_replaying_history_events()]

    @workflow.update
    def look(self) -> list[bool]:
        return [workflow.unsafe.is_read_only(), workflow.unsafe.is_replaying()]

    @look.validator
    def check(self) -> None:
        self.validated.append([workflow.unsafe.is_read_only(), workflow.unsafe.is_replaying_history_events()])


async def test_replaying_is_true_only_for_what_is_in_the_past(client: Client) -> None:
    async with new_worker(client, Replaying, activities=[tick]) as worker:
        handle = await client.start_workflow(Replaying.run, id=unique(), task_queue=worker.task_queue)
        await awaited(handle, "workflow_task_completed", 2)
        assert await handle.query(Replaying.asked) == [[False, False], True, False]
    async with new_worker(client, Replaying, activities=[tick], task_queue=worker.task_queue):
        assert await handle.query(Replaying.asked) == [[True, True], True, False]
        assert await handle.execute_update(Replaying.look) == [False, False]
        assert await handle.execute_update(Replaying.look) == [False, False]
        assert await handle.result() == [True, True]


async def lengths(handle: WorkflowHandle[Any, Any]) -> list[int]:
    """The id of each workflow task's started event."""
    events = [event async for event in handle.fetch_history_events()]
    return [event.event_id for event in events if event.HasField("workflow_task_started_event_attributes")]


@workflow.defn
class Growing:
    @workflow.run
    async def run(self, activities: int) -> list[list[int]]:
        sizes = []
        for _ in range(activities):
            sizes.append([workflow.info().get_current_history_length(), workflow.info().get_current_history_size()])
            await workflow.execute_activity(tick, start_to_close_timeout=TIMEOUT)
        return sizes


async def test_length_and_size_grow_with_history(client: Client) -> None:
    async with new_worker(client, Growing, activities=[tick]) as worker:
        handle = await client.start_workflow(Growing.run, 4, id=unique(), task_queue=worker.task_queue)
        grown = await handle.result()
    assert [length for length, _ in grown] == (await lengths(handle))[:4]
    sizes = [size for _, size in grown]
    assert sizes == [task.history_size_bytes for task in (await found(handle, "workflow_task_started"))[:4]]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4
    await replay(handle, Growing)


@workflow.defn
class Init:
    """Takes its arguments twice: when it is made and when it runs."""

    @workflow.init
    def __init__(self, name: str, number: int) -> None:
        self.made = f"{name}{number}"
        self.early: list[str] = []

    @workflow.run
    async def run(self, name: str, number: int) -> list[str]:
        await workflow.wait_condition(lambda: "end" in self.early)
        return [self.made, f"{name}{number}", *self.early]

    @workflow.signal
    def hear(self, word: str) -> None:
        self.early.append(word if word == "end" else self.made + word)


async def test_init_runs_before_handlers_of_the_first_task(client: Client) -> None:
    id, queue = unique(), unique("queue")
    handle = await client.start_workflow(
        Init.run, args=["a", 1], id=id, task_queue=queue, start_signal="hear", start_signal_args=["!"]
    )
    await handle.signal(Init.hear, "?")
    async with new_worker(client, Init, task_queue=queue):
        await handle.signal(Init.hear, "end")
        assert await handle.result() == ["a1", "a1", "a1!", "a1?", "end"]
    await replay(handle, Init)


@workflow.defn
class Cron:
    @workflow.run
    async def run(self) -> list[Any]:
        info = workflow.info()
        return [info.cron_schedule, info.attempt, workflow.has_last_completion_result()]


async def test_a_cron_workflow_knows_its_schedule(client: Client) -> None:
    async with new_worker(client, Cron) as worker:
        handle = await client.start_workflow(
            Cron.run, id=unique(), task_queue=worker.task_queue, cron_schedule="@every 1s"
        )
        first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
        (one,) = await awaited(first, "workflow_execution_completed")
        second = client.get_workflow_handle(handle.id, run_id=one.new_execution_run_id)
        (two,) = await awaited(second, "workflow_execution_completed")
        await handle.terminate()
    results = [json.loads(ended.result.payloads[0].data) for ended in (one, two)]
    assert results == [["@every 1s", 1, False], ["@every 1s", 1, True]]
    await replay(second, Cron)
