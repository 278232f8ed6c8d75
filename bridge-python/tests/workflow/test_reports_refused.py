"""Reports that the server does not take, for they are too large for one message: what comes in their place, and at once.

With the original these reports are lost, and each attempt waits for its timeout: a minute here, so that nothing but a report
can end it in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TerminatedError

with workflow.unsafe.imports_passed_through():
    import pytest
    from conftest import ENGINE
    from histories import awaited, kinds, new_worker, replay
    from limits import logged, said
    from support import eventually, unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.api.failure.v1 import Failure
    from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
    from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter
    from temporalio.worker import Worker

pytestmark = pytest.mark.timeout(50)
lost_by_the_original = pytest.mark.skipif(ENGINE == "original", reason="the original loses the report")

MB = 1024 * 1024
HUGE = 5 * MB
"""The server takes messages of four megabytes."""
MINUTE = timedelta(seconds=60)
TWICE = RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=10))
TOO_LARGE = "GRPC Message too large"


def chain(length: int, each: int) -> ApplicationError:
    error = ApplicationError(f"cause {length} " + "x" * each, type=f"Type{length}")
    for number in range(length - 1, 0, -1):
        outer = ApplicationError(f"cause {number} " + "x" * each, type=f"Type{number}")
        outer.__cause__, error = error, outer
    return error


LATER = timedelta(milliseconds=30)
FAILURES: dict[str, tuple[Any, ...]] = {
    # What is raised, from what, what is left out.
    "message": (ApplicationError("m" * HUGE, "detail", type="Mine", non_retryable=True), None, "message"),
    "details": (ApplicationError("msg", "d" * HUGE, type="Mine", non_retryable=True), None, "details"),
    "both": (ApplicationError("m" * 3 * MB, "d" * 3 * MB, type="Mine", non_retryable=True), None, "message"),
    "type": (ApplicationError("msg", type="t" * HUGE, non_retryable=True), None, "type"),
    "cause": (
        ApplicationError("msg", type="Mine", non_retryable=True),
        ApplicationError("c" * HUGE, type="Inner"),
        "message of the 1. cause",
    ),
    "causes": (ApplicationError("msg", type="Mine", non_retryable=True), chain(12, MB // 2), "message of the 1. cause"),
}
attempts: dict[str, int] = {}


def counted() -> int:
    id = activity.info().workflow_id or ""
    attempts[id] = attempts.get(id, 0) + 1
    return attempts[id]


@activity.defn
async def fails(how: str) -> str:
    counted()
    if how == "retried":
        raise ApplicationError("m" * HUGE, type="Mine", next_retry_delay=LATER)
    error, cause, _ = FAILURES[how]
    raise error from cause


@activity.defn
async def cancels_itself() -> None:
    counted()
    raise CancelledError("its own")


@activity.defn
async def beats_until_cancelled() -> None:
    counted()
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.05)


@activity.defn
async def gives(size: int) -> str:
    counted()
    return "r" * size


@activity.defn
async def beats_much(beat: int, text: int) -> None:
    if counted() == 1:
        activity.heartbeat("h" * beat)
        await asyncio.sleep(0.05 if text else 50)
        raise ApplicationError("m" * text, type="Mine")


@workflow.defn(sandboxed=False)
class Asks:
    """Asks for one activity and returns how it ended, or says too much itself."""

    @workflow.run
    async def run(self, what: str, *arguments: Any) -> Any:
        options: dict[str, Any] = {"start_to_close_timeout": MINUTE, "retry_policy": TWICE}
        if what == "local":
            try:
                await workflow.execute_local_activity(fails, arguments[0], start_to_close_timeout=MINUTE)
            except ApplicationError as error:
                return [error.message[:200], error.type, error.non_retryable]
        if what == "cancelled":
            options["cancellation_type"] = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
            options["heartbeat_timeout"] = timedelta(seconds=1)
            asked = workflow.start_activity(beats_until_cancelled, **options)
            await workflow.sleep(0.2)
            asked.cancel()
            await asked
        if what == "wait":
            await workflow.wait_condition(lambda: False)
        if what == "task":
            raise RuntimeError("m" * HUGE)
        if what == "failure":
            raise ApplicationError("m" * HUGE, type="Mine", non_retryable=True)
        return await workflow.execute_activity(what, args=arguments, **options)

    @workflow.query
    def much(self, size: int) -> str:
        return "q" * size

    @workflow.query
    def fails(self, size: int) -> str:
        raise ApplicationError("q" * size)


ACTIVITIES = [fails, cancels_itself, beats_until_cancelled, gives, beats_much]


@pytest.fixture(scope="module")
async def worker(client: Client) -> AsyncIterator[Worker]:
    async with new_worker(client, Asks, activities=ACTIVITIES) as running:
        yield running


async def start(worker: Worker, *arguments: Any) -> WorkflowHandle[Any, Any]:
    client: Client = worker.client
    handle: WorkflowHandle[Any, Any] = await client.start_workflow(
        "Asks", args=arguments, id=unique(), task_queue=worker.task_queue
    )
    return handle


async def cause_of(handle: WorkflowHandle[Any, Any]) -> Any:
    """Why its activity failed."""
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    return caught.value.cause.cause


@lost_by_the_original
@pytest.mark.parametrize("how", FAILURES)
async def test_a_failure_that_is_too_large_comes_at_once_and_says_what_is_left_out(worker: Worker, how: str) -> None:
    error, cause, left_out = FAILURES[how]
    handle = await start(worker, "fails", how)
    failure = await cause_of(handle)
    assert isinstance(failure, ApplicationError)
    assert failure.message.startswith(f"{TOO_LARGE}: the failure of an activity takes ")
    assert f"; left out of it: {left_out} (" in failure.message, failure.message[:300]
    assert error.message[:100] in failure.message.partition("The message was: ")[2]
    assert (failure.type or "")[:100] == error.type[:100] and failure.non_retryable
    assert failure.details == (error.details if how == "message" else ())
    assert attempts[handle.id] == 1
    if cause:
        below = failure.cause
        assert isinstance(below, ApplicationError)
        assert below.type == cause.type and below.message[:100] == cause.message[:100]
    await replay(handle, Asks)


@lost_by_the_original
async def test_a_failure_that_is_too_large_is_retried_as_it_says(worker: Worker) -> None:
    handle = await start(worker, "fails", "retried")
    failure = await cause_of(handle)
    assert isinstance(failure, ApplicationError)
    assert (failure.type, failure.non_retryable, failure.next_retry_delay) == ("Mine", False, LATER)
    assert attempts[handle.id] == 2


@lost_by_the_original
async def test_what_the_server_finds_wrong_with_a_failure_comes_in_its_place(worker: Worker) -> None:
    """Servers take no failure of another kind than the ordinary one from an activity."""
    handle = await start(worker, "cancels_itself")
    failure = await cause_of(handle)
    assert isinstance(failure, ApplicationError)
    assert failure.message.startswith("The server refused the failure of an activity: ")
    assert failure.message.endswith(". The message was: its own")
    assert attempts[handle.id] == 2


@lost_by_the_original
async def test_a_failure_keeps_its_heartbeat_s_progress_if_that_alone_is_not_too_large(worker: Worker) -> None:
    """Three megabytes of failure and one and a half of details: the server knows the details already."""
    handle = await start(worker, "beats_much", 3 * MB // 2, 3 * MB)
    await handle.result()
    assert attempts[handle.id] == 2


@lost_by_the_original
async def test_local_activities_say_too_much_without_harm_to_their_workflow(worker: Worker) -> None:
    handle = await start(worker, "local", "message")
    message, kind, non_retryable = await handle.result()
    assert message.startswith(f"{TOO_LARGE}: the failure of a local activity takes ")
    assert (kind, non_retryable) == ("Mine", True)
    await replay(handle, Asks)


class Talkative(DefaultFailureConverter):
    """Whoever is cancelled says a lot."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        super().to_failure(exception, payload_converter, failure)
        if failure.HasField("canceled_failure_info"):
            details = payload_converter.to_payloads(["d" * HUGE])
            failure.canceled_failure_info.details.payloads.extend(details)


@lost_by_the_original
async def test_a_cancellation_with_details_that_are_too_large_comes_without_them(client: Client) -> None:
    config = client.config()
    config["data_converter"] = replace(DataConverter.default, failure_converter_class=Talkative)
    talkative = Client(**config)
    async with new_worker(talkative, Asks, activities=ACTIVITIES) as worker:
        handle = await start(worker, "cancelled")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        [cancelled] = await awaited(handle, "activity_task_canceled")
    assert not cancelled.details.payloads
    assert attempts[handle.id] == 1


@lost_by_the_original
@pytest.mark.parametrize(("what", "arguments"), [("gives", [HUGE]), ("beats_much", [HUGE, 0])], ids=["result", "heartbeat"])
async def test_without_the_check_of_limits_an_attempt_fails_and_does_not_time_out(
    client: Client, what: str, arguments: list[int]
) -> None:
    async with new_worker(client, Asks, activities=ACTIVITIES, disable_payload_error_limit=True) as worker:
        handle = await start(worker, what, *arguments)
        if what == "beats_much":
            await handle.result()
        else:
            failure = await cause_of(handle)
            assert isinstance(failure, ApplicationError)
            assert failure.message.startswith(f"{TOO_LARGE}: the result of an activity takes ")
            assert (failure.type, failure.non_retryable) == ("PayloadsTooLarge", False)
        assert attempts[handle.id] == 2


@pytest.mark.parametrize("query", ["much", "fails"])
async def test_who_asks_a_query_reads_that_the_answer_is_too_large(worker: Worker, query: str) -> None:
    handle = await start(worker, "wait")
    await awaited(handle, "workflow_task_completed")
    with pytest.raises(WorkflowQueryFailedError) as caught:
        await handle.query(query, HUGE)
    assert str(caught.value) == TOO_LARGE
    assert await handle.query("much", 10) == "q" * 10
    await handle.terminate()


@pytest.mark.skipif(ENGINE == "original", reason="the original ends the workflow, GrpcMessageTooLarge, and the caller waits")
@pytest.mark.parametrize("query", ["much", "fails"])
async def test_a_query_beside_a_workflow_task_does_no_harm_to_the_workflow(client: Client, query: str) -> None:
    queue = unique()
    handle = await client.start_workflow("Asks", args=["wait"], id=unique(), task_queue=queue)
    asking = asyncio.create_task(handle.query(query, HUGE))
    # It waits at the server beside the workflow's first task, or for it.
    await asyncio.sleep(0)
    async with new_worker(client, Asks, task_queue=queue):
        with pytest.raises(WorkflowQueryFailedError, match=TOO_LARGE):
            await asking
        assert await handle.query("much", 10) == "q" * 10
    assert "workflow_execution_terminated" not in await kinds(handle)
    await handle.terminate()


@lost_by_the_original
async def test_a_workflow_task_that_fails_with_too_much_fails_at_once(worker: Worker) -> None:
    handle = await start(worker, "task")
    failed = (await awaited(handle, "workflow_task_failed"))[0]
    assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
    assert failed.failure.message.startswith(f"{TOO_LARGE}: the failure of a workflow task takes ")
    assert "workflow_task_timed_out" not in await kinds(handle)
    await handle.terminate()


async def test_a_workflow_that_fails_with_too_much_ends_where_limits_are_not_checked(client: Client) -> None:
    """The server ends such workflows when it hears of them."""
    async with new_worker(client, Asks, disable_payload_error_limit=True) as worker:
        handle = await start(worker, "failure")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, TerminatedError) and caught.value.cause.message == "GrpcMessageTooLarge"


@lost_by_the_original
async def test_what_is_replaced_is_told_in_the_log(address: str) -> None:
    client, kept = await logged(address)
    async with new_worker(client, Asks, activities=ACTIVITIES) as worker:
        await cause_of(await start(worker, "fails", "details"))

    async def told() -> None:
        [fields] = [fields for level, text, fields in said(kept) if (level, text) == ("WARNING", REPLACED)]
        assert fields["what"] == "the failure of an activity" and HUGE < fields["bytes"] < HUGE + 5000
        assert "4194304" in fields["error"]

    await eventually(told)


REPLACED = "The server refused a report; a small one that says so is sent in its place"
