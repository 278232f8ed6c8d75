"""Where payloads are warned of that are large, and how they are measured: the sizes are what the warnings say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, new_worker
    from limits import WARNED, logged, said
    from support import eventually, unique

LARGE = 300
"""Characters; the limit is half of it."""
LISTED = LARGE + 32
"""Bytes of a text of so many, quoted, in a list of payloads: two quotes, and 30 that say what it is and how long."""
QUOTED = LARGE + 2
ONCE = RetryPolicy(maximum_attempts=1)
TIMEOUT = timedelta(seconds=20)

failed: set[str] = set()
"""Runs whose first task failed."""


@activity.defn
async def beats(fails: bool) -> None:
    activity.heartbeat("h" * LARGE)
    if fails:
        raise ApplicationError("no", non_retryable=True)


@activity.defn
async def gives(fails: bool) -> str:
    if fails:
        raise ApplicationError("no", "f" * LARGE, non_retryable=True)
    return "g" * LARGE


@workflow.defn(sandboxed=False)
class Large:
    """Says something large, in the way it is told."""

    def __init__(self) -> None:
        self.over = False

    @workflow.run
    async def run(self, way: str) -> None:
        try:
            await self.say(way)
        except FailureError:
            pass
        await workflow.wait_condition(lambda: self.over)

    async def say(self, way: str) -> None:
        fails = "fails" in way
        if "heartbeat" in way:
            await workflow.execute_activity(beats, fails, start_to_close_timeout=TIMEOUT, retry_policy=ONCE)
        if "local activity" in way:
            await workflow.execute_local_activity(gives, fails, start_to_close_timeout=TIMEOUT, retry_policy=ONCE)
        if way == "memo":
            workflow.upsert_memo({"note": "m" * LARGE})
        if way == "search attribute":
            key = SearchAttributeKey.for_text("OutlastText")
            workflow.upsert_search_attributes([key.value_set("k" * LARGE)])
        if way == "failed task" and workflow.info().run_id not in failed:
            failed.add(workflow.info().run_id)
            raise RuntimeError("r" * LARGE)

    @workflow.signal
    def end(self) -> None:
        self.over = True

    @workflow.query
    def text(self, size: int) -> str:
        return "q" * size

    @workflow.query
    def nothing(self) -> str:
        raise RuntimeError("n" * LARGE)

    @workflow.update
    def change(self, argument: str, size: int) -> str:
        return "u" * size


async def sizes(address: str, way: str) -> list[int]:
    """What was warned of while a workflow went that way."""
    client, kept = await logged(address, payloads_warn_size=LARGE // 2)
    async with new_worker(client, Large, activities=[beats, gives]) as worker:
        handle = await client.start_workflow(Large.run, way, id=unique(), task_queue=worker.task_queue)
        if way == "query":
            await handle.query(Large.text, LARGE)
        if way == "query fails":
            with pytest.raises(Exception, match="n" * LARGE):
                await handle.query(Large.nothing)
        if way == "update with a large argument":
            await handle.execute_update(Large.change, args=["a" * LARGE, 1])
        if way == "failed task":
            await awaited(handle, "workflow_task_failed")
        await handle.signal(Large.end)
        await handle.result()
        # Records come in their order: when this one is there, all of the workflow above are.
        last: Any = await client.start_workflow("Unheard", id=unique(), task_queue=worker.task_queue)

        async def before() -> list[tuple[str, str, dict[str, Any]]]:
            told = said(kept)
            runs = [fields.get("run_id") for _, _, fields in told]
            assert last.first_execution_run_id in runs
            return told[: runs.index(last.first_execution_run_id)]

        told = await eventually(before)
        await last.terminate()
    return sorted(fields["size"] for _, text, fields in told if text == WARNED.format("payloads"))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("memo", [len("note") + QUOTED]),
        ("search attribute", [len("OutlastText") + QUOTED]),
        ("query", [LISTED]),
        ("query fails", []),
        ("heartbeat", [LISTED]),
    ],
)
async def test_what_is_large_is_measured_as_by_the_original(address: str, way: str, expected: list[int]) -> None:
    assert await sizes(address, way) == expected


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("heartbeat, then fails", [LISTED, LISTED, ...]),
        ("failed task", [...]),
        ("update with a large argument", [...]),
    ],
)
async def test_what_holds_large_payloads_is_warned_of_once(address: str, way: str, expected: list[Any]) -> None:
    """Failures have stack traces, accepted updates the name of the client: how long depends."""
    found = await sizes(address, way)
    assert len(found) == len(expected)
    assert all(size > LISTED if one is ... else size == one for size, one in zip(found, expected, strict=True)), found


async def test_markers_are_measured_without_their_failure(address: str) -> None:
    """They hold the facts of the local activity, 200 to 300 bytes, and its result."""
    (given,), (failed,) = await sizes(address, "local activity"), await sizes(address, "local activity that fails")
    assert LISTED + 200 < given < LISTED + 300 and 200 < failed < 300
