"""Failures: what fails a task, what fails a workflow, and what arrives at the other end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ApplicationErrorCategory,
    ChildWorkflowError,
    RetryState,
    TimeoutError,
    TimeoutType,
)

with workflow.unsafe.imports_passed_through():
    import dataclasses

    import pytest
    from histories import found, kinds, new_worker, replay, task_failure
    from support import unique
    from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
    from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes

TIMEOUT = timedelta(seconds=20)
ONCE = RetryPolicy(maximum_attempts=1)


async def failure(handle: WorkflowHandle[Any, Any]) -> BaseException:
    """The cause of the failure that the workflow ends with."""
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    return caught.value.cause


class Odd(Exception):
    pass


class Odder(Odd):
    pass


@workflow.defn
class Raising:
    """Raises a plain exception once, for as long as the queue's worker has this class."""

    @workflow.run
    async def run(self) -> str:
        raise Odder("not as it should be")


@workflow.defn(name="Raising")
class Mended:
    @workflow.run
    async def run(self) -> str:
        return "mended"


async def test_a_plain_exception_fails_the_task_and_mended_code_goes_on(client: Client) -> None:
    async with new_worker(client, Raising) as worker:
        handle = await client.start_workflow(
            Raising.run, id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        told = await task_failure(handle)
    assert (told.message, told.application_failure_info.type) == ("not as it should be", "Odder")
    assert 'raise Odder("not as it should be")' in told.stack_trace
    async with new_worker(client, Mended, task_queue=worker.task_queue):
        assert await handle.result() == "mended"
    assert "workflow_execution_failed" not in await kinds(handle)
    await replay(handle, Mended)


@workflow.defn(failure_exception_types=[Odd])
class Declared:
    @workflow.run
    async def run(self, kind: str) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Odder("outer") from error

    @workflow.update
    async def fail(self) -> None:
        raise Odder("in update")


async def test_a_declared_type_and_its_subtypes_fail_the_workflow_with_causes(client: Client) -> None:
    async with new_worker(client, Declared) as worker:
        handle = await client.start_workflow(Declared.run, "", id=unique(), task_queue=worker.task_queue)
        cause = await failure(handle)
    assert isinstance(cause, ApplicationError) and (cause.type, cause.message) == ("Odder", "outer")
    assert isinstance(cause.cause, ApplicationError) and cause.cause.type == "KeyError"
    assert cause.failure and "in run" in cause.failure.stack_trace
    await replay(handle, Declared)


@pytest.mark.parametrize("declared", [True, False])
async def test_the_worker_may_declare_failures_for_all_its_workflows(client: Client, declared: bool) -> None:
    types = [Exception] if declared else [KeyError]
    async with new_worker(client, Raising, workflow_failure_exception_types=types) as worker:
        handle = await client.start_workflow(Raising.run, id=unique(), task_queue=worker.task_queue)
        if declared:
            cause = await failure(handle)
            assert isinstance(cause, ApplicationError) and cause.type == "Odder"
        else:
            assert (await task_failure(handle)).message == "not as it should be"
            await handle.terminate()
    assert ("workflow_execution_failed" in await kinds(handle)) is declared


@workflow.defn
class Detailed:
    @workflow.run
    async def run(self) -> None:
        raise ApplicationError(
            "no",
            "detail",
            {"n": 2},
            None,
            type="Custom",
            non_retryable=True,
            next_retry_delay=timedelta(seconds=3),
            category=ApplicationErrorCategory.BENIGN,
        )


async def test_an_application_error_arrives_with_all_its_fields(client: Client) -> None:
    async with new_worker(client, Detailed) as worker:
        handle = await client.start_workflow(Detailed.run, id=unique(), task_queue=worker.task_queue)
        cause = await failure(handle)
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.non_retryable) == ("no", "Custom", True)
    assert list(cause.details) == ["detail", {"n": 2}, None]
    assert cause.next_retry_delay == timedelta(seconds=3)
    assert cause.category is ApplicationErrorCategory.BENIGN
    assert (await found(handle, "workflow_execution_failed"))[0].retry_state == RetryState.RETRY_POLICY_NOT_SET
    await replay(handle, Detailed)


@activity.defn
async def break_down() -> None:
    try:
        raise ValueError("root")
    except ValueError as error:
        raise ApplicationError("activity", 1, type="Broken", non_retryable=True) from error


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_child_workflow(Child.run, id=workflow.info().workflow_id + "-child")


@workflow.defn
class Child:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(break_down, start_to_close_timeout=TIMEOUT)


async def test_a_chain_of_causes_crosses_activity_child_and_parent(client: Client) -> None:
    async with new_worker(client, Parent, Child, activities=[break_down]) as worker:
        handle = await client.start_workflow(Parent.run, id=unique(), task_queue=worker.task_queue)
        child = await failure(handle)
    assert isinstance(child, ChildWorkflowError)
    assert (child.workflow_id, child.workflow_type, child.namespace) == (handle.id + "-child", "Child", "default")
    assert child.retry_state is RetryState.RETRY_POLICY_NOT_SET
    initiated = await found(handle, "start_child_workflow_execution_initiated")
    assert len(initiated) == 1 and child.started_event_id > child.initiated_event_id > 0
    act = child.cause
    assert isinstance(act, ActivityError)
    assert (act.activity_type, act.activity_id, act.message) == ("break_down", "1", "Activity task failed")
    assert act.retry_state is RetryState.NON_RETRYABLE_FAILURE
    assert act.started_event_id > act.scheduled_event_id > 0 and act.identity
    broken = act.cause
    assert isinstance(broken, ApplicationError) and (broken.type, list(broken.details)) == ("Broken", [1])
    assert isinstance(broken.cause, ApplicationError)
    assert (broken.cause.type, broken.cause.message, broken.cause.cause) == ("ValueError", "root", None)
    assert broken.cause.failure and 'raise ValueError("root")' in broken.cause.failure.stack_trace
    await replay(handle, Parent)
    await replay(client.get_workflow_handle(child.workflow_id), Child)


@workflow.defn
class Flaky:
    """Fails until its third attempt."""

    @workflow.run
    async def run(self, non_retryable: bool) -> list[Any]:
        attempt = workflow.info().attempt
        last = workflow.get_last_failure()
        if attempt < 3:
            raise ApplicationError(f"attempt {attempt}", type="Again", next_retry_delay=timedelta(milliseconds=10))
        assert isinstance(last, ApplicationError)
        return [attempt, last.message, workflow.info().continued_run_id is not None]


async def test_a_workflow_is_retried_by_its_policy_and_knows_its_last_failure(client: Client) -> None:
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=5)
    async with new_worker(client, Flaky) as worker:
        handle = await client.start_workflow(
            Flaky.run, False, id=unique(), task_queue=worker.task_queue, retry_policy=policy
        )
        assert await handle.result() == [3, "attempt 2", True]
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    failed = (await found(first, "workflow_execution_failed"))[0]
    assert failed.retry_state == RetryState.IN_PROGRESS and failed.new_execution_run_id
    last = (await found(handle, "workflow_execution_started"))[0]
    assert last.attempt == 3 and last.first_execution_run_id == handle.first_execution_run_id
    await replay(first, Flaky)
    await replay(handle, Flaky)


@pytest.mark.parametrize("why", ["attempts", "type"])
async def test_retries_end_by_attempts_or_by_type(client: Client, why: str) -> None:
    policy = RetryPolicy(maximum_attempts=2) if why == "attempts" else RetryPolicy(non_retryable_error_types=["Again"])
    async with new_worker(client, Flaky) as worker:
        handle = await client.start_workflow(
            Flaky.run, False, id=unique(), task_queue=worker.task_queue, retry_policy=policy
        )
        cause = await failure(handle)
    assert isinstance(cause, ApplicationError)
    assert cause.message == ("attempt 2" if why == "attempts" else "attempt 1")
    state = (await found(handle, "workflow_execution_failed"))[0].retry_state
    assert state == (
        RetryState.MAXIMUM_ATTEMPTS_REACHED if why == "attempts" else RetryState.NON_RETRYABLE_FAILURE
    )


@workflow.defn
class Forever:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@pytest.mark.parametrize("limit", ["run_timeout", "execution_timeout"])
async def test_a_workflow_that_takes_too_long_times_out(client: Client, limit: str) -> None:
    options: dict[str, Any] = {limit: timedelta(seconds=1)}
    async with new_worker(client, Forever) as worker:
        handle = await client.start_workflow(Forever.run, id=unique(), task_queue=worker.task_queue, **options)
        cause = await failure(handle)
    assert isinstance(cause, TimeoutError)
    assert (await kinds(handle))[-1] == "workflow_execution_timed_out"
    assert cause.type in (TimeoutType.START_TO_CLOSE, None) and cause.message == "Workflow timed out"
    await replay(handle, Forever)


async def test_messages_and_traces_can_be_encoded_out_of_sight(address: str) -> None:
    converter = dataclasses.replace(
        DataConverter.default, failure_converter_class=DefaultFailureConverterWithEncodedAttributes
    )
    client = await Client.connect(address, data_converter=converter)
    async with new_worker(client, Parent, Child, activities=[break_down]) as worker:
        handle = await client.start_workflow(Parent.run, id=unique(), task_queue=worker.task_queue)
        cause = await failure(handle)
    told = (await found(handle, "workflow_execution_failed"))[0].failure
    chain = [told]
    while chain[-1].HasField("cause"):
        chain.append(chain[-1].cause)
    assert len(chain) == 4
    assert all(part.message == "Encoded failure" and part.stack_trace == "" for part in (chain[0], *chain[2:]))
    assert json.loads(chain[3].encoded_attributes.data)["message"] == "root"
    texts = []
    while cause is not None:
        texts.append(cause.message if isinstance(cause, ActivityError | ApplicationError) else type(cause).__name__)
        cause = cause.__cause__  # type: ignore[assignment]
    assert texts == ["ChildWorkflowError", "Activity task failed", "activity", "root"]
    await replay(handle, Parent)


@workflow.defn
class Unreadable:
    @workflow.run
    async def run(self, number: int) -> None:
        pass


async def test_arguments_that_cannot_be_read_fail_the_task(client: Client) -> None:
    async with new_worker(client, Unreadable) as worker:
        handle = await client.start_workflow("Unreadable", "word", id=unique(), task_queue=worker.task_queue)
        told = await task_failure(handle)
        await handle.terminate()
    assert told.message == "Failed decoding arguments"
    assert told.cause.message and "int" in told.cause.message


@workflow.defn
class Unwritable:
    @workflow.run
    async def run(self) -> Any:
        return object()


async def test_a_result_that_cannot_be_written_fails_the_task(client: Client) -> None:
    async with new_worker(client, Unwritable) as worker:
        handle = await client.start_workflow(Unwritable.run, id=unique(), task_queue=worker.task_queue)
        told = await task_failure(handle)
        await handle.terminate()
    assert "not JSON serializable" in told.message
