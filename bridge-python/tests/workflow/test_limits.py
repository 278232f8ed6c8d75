"""Payloads that are large, and payloads that are too large: warnings, refusals, and who says no."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, found, kinds, new_worker, replay
    from limits import REFUSED, TOO_MUCH, WARNED, logged, said
    from support import eventually, unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.exceptions import TerminatedError

TIMEOUT = timedelta(seconds=20)


@activity.defn
async def long(size: int) -> str:
    return "y" * size


@activity.defn
async def length(text: str) -> int:
    return len(text)


@workflow.defn
class Sizes:
    @workflow.run
    async def run(self, argument: int, activity_result: int, result: int) -> str:
        size = await workflow.execute_activity(length, "x" * argument, start_to_close_timeout=TIMEOUT)
        assert size == argument
        policy = RetryPolicy(maximum_attempts=1)
        text = await workflow.execute_activity(
            long, activity_result, start_to_close_timeout=TIMEOUT, retry_policy=policy
        )
        assert text == "y" * activity_result
        return "z" * result


async def test_a_megabyte_goes_everywhere(client: Client) -> None:
    async with new_worker(client, Sizes, activities=[long, length]) as worker:
        size = 1024 * 1024
        handle = await client.start_workflow(
            Sizes.run, args=[size, size, size], id=unique(), task_queue=worker.task_queue
        )
        assert await handle.result() == "z" * size
    await replay(handle, Sizes)


async def test_large_payloads_and_memos_are_warned_about_and_pass(address: str) -> None:
    client, kept = await logged(address, payloads_warn_size=1000, memo_warn_size=100)
    async with new_worker(client, Sizes, activities=[long, length]) as worker:
        handle = await client.start_workflow(
            Sizes.run, args=[2000, 3000, 4000], id=unique(), task_queue=worker.task_queue, memo={"note": "m" * 200}
        )
        assert await handle.result() == "z" * 4000

    async def told() -> None:
        assert {message for _, message, _ in said(kept)} == {WARNED.format("payloads"), WARNED.format("memo")}
        assert {level for level, _, _ in said(kept)} == {"WARNING"}
        sizes = sorted((fields["size"], fields["limit"]) for _, _, fields in said(kept))
        # The text, its quotes, and the metadata around it.
        assert [limit for _, limit in sizes] == [100, 1000, 1000, 1000]
        assert [size // 1000 for size, _ in sizes] == [0, 2, 3, 4]

    await eventually(told)


async def test_no_warnings_below_the_limits_or_without_limits(address: str) -> None:
    for limits in ({"payloads_warn_size": 5000, "memo_warn_size": 500}, {"payloads_warn_size": 0, "memo_warn_size": 0}):
        client, kept = await logged(address, **limits)
        async with new_worker(client, Sizes, activities=[long, length]) as worker:
            handle = await client.start_workflow(
                Sizes.run, args=[2000, 2000, 2000], id=unique(), task_queue=worker.task_queue, memo={"note": "m" * 200}
            )
            assert await handle.result() == "z" * 2000
            marker: Any = await client.start_workflow("Unheard", id=unique(), task_queue=worker.task_queue)
            await awaited(marker, "workflow_task_failed")
            await marker.terminate()

        async def told(run_id: str = marker.first_execution_run_id) -> None:
            assert [(level, message) for level, message, _ in said(kept)][:1] == [("WARNING", "Failing workflow task")]
            assert said(kept)[0][2]["run_id"] == run_id

        await eventually(told)


@pytest.mark.parametrize("sizes", [(TOO_MUCH, 1, 1), (1, 1, TOO_MUCH)], ids=["argument", "result"])
async def test_a_workflow_that_says_too_much_fails_its_task_before_the_server_hears_it(
    address: str, sizes: tuple[int, int, int]
) -> None:
    client, kept = await logged(address)
    async with new_worker(client, Sizes, activities=[long, length]) as worker:
        handle = await client.start_workflow(Sizes.run, args=sizes, id=unique(), task_queue=worker.task_queue)
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        await handle.terminate()
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE
    assert (failed.failure.message, failed.failure.application_failure_info.type) == (REFUSED, "PayloadsTooLarge")

    async def told() -> None:
        errors = [(message, fields) for level, message, fields in said(kept) if level == "ERROR"]
        assert errors and errors[0][0] == REFUSED
        assert errors[0][1]["limit"] == TOO_MUCH - 1 and TOO_MUCH < errors[0][1]["size"] < TOO_MUCH + 200

    await eventually(told)


async def test_an_activity_that_says_too_much_fails(client: Client) -> None:
    async with new_worker(client, Sizes, activities=[long, length]) as worker:
        handle = await client.start_workflow(
            Sizes.run, args=[1, TOO_MUCH, 1], id=unique(), task_queue=worker.task_queue
        )
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    cause = caught.value.cause
    assert isinstance(cause, ActivityError) and isinstance(cause.cause, ApplicationError)
    assert (cause.cause.message, cause.cause.type) == (REFUSED, "PayloadsTooLarge")
    await replay(handle, Sizes)


@pytest.mark.parametrize("sizes", [(TOO_MUCH, 1, 1), (1, 1, TOO_MUCH)], ids=["argument", "result"])
async def test_without_the_check_the_server_says_no(client: Client, sizes: tuple[int, int, int]) -> None:
    async with new_worker(client, Sizes, activities=[long, length], disable_payload_error_limit=True) as worker:
        handle = await client.start_workflow(Sizes.run, args=sizes, id=unique(), task_queue=worker.task_queue)
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, TerminatedError)
    assert "exceeds size limit" in caught.value.cause.message
    assert (await kinds(handle))[-1] == "workflow_execution_terminated"
    failed = (await found(handle, "workflow_task_failed"))[0]
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SCHEDULE_ACTIVITY_ATTRIBUTES
