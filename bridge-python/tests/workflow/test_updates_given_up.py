"""Updates that fail their tasks, end in the task they came with, or are no longer waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.common.v1 import Payload, WorkflowExecution
    from temporalio.api.update.v1 import UpdateRef
    from temporalio.api.workflowservice.v1 import PollWorkflowExecutionUpdateRequest
    from temporalio.client import (
        Client,
        WorkflowHandle,
        WorkflowUpdateFailedError,
        WorkflowUpdateRPCTimeoutOrCancelledError,
        WorkflowUpdateStage,
    )
    from temporalio.common import RawValue
    from temporalio.exceptions import ApplicationError, CancelledError
    from temporalio.service import RPCError, RPCStatusCode
    from temporalio.worker import UnsandboxedWorkflowRunner

BRIEF = timedelta(seconds=5)
AN_INSTANT = timedelta(milliseconds=1)
ACCEPTED = WorkflowUpdateStage.ACCEPTED

mended = {"validator": 0, "handler": 0}
"""How often each failed so far."""


@activity.defn
async def nobody() -> None:
    pass


@workflow.defn
class Target:
    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.done)
        return "over"

    @workflow.update
    def end(self) -> None:
        self.done = True

    @workflow.update
    def told(self, what: str) -> str:
        return what

    @told.validator
    def check(self, what: str) -> None:
        pass

    @workflow.update
    async def gives_up_at_once(self) -> None:
        running = workflow.start_activity(nobody, schedule_to_close_timeout=BRIEF)
        running.cancel()
        await running

    @workflow.update
    async def validated(self) -> str:
        return "valid"

    @validated.validator
    def asks_for_too_much(self) -> None:
        if mended["validator"] < 2:
            mended["validator"] += 1
            workflow.start_activity(nobody, schedule_to_close_timeout=BRIEF)

    @workflow.update
    def stumbles(self) -> str:
        if mended["handler"] < 1:
            mended["handler"] += 1
            raise RuntimeError("on purpose")
        return "got up"

    @workflow.update
    async def sleeps(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @workflow.update
    async def takes_anything(self) -> None:
        def anything(name: str, args: Sequence[RawValue]) -> str:
            return name

        def not_that(name: str, args: Sequence[RawValue]) -> None:
            if name == "that":
                raise ApplicationError("not that")

        workflow.set_dynamic_update_handler(anything, validator=not_that)


async def started(client: Client, queue: str, **options: Any) -> WorkflowHandle[Any, str]:
    return await client.start_workflow(Target.run, id=unique(), task_queue=queue, **options)


async def test_updates_fail_alone_whatever_is_wrong_with_them(client: Client) -> None:
    """The worker does not even know the activity that one of them gives up at once."""
    async with new_worker(client, Target) as worker:
        handle = await started(client, worker.task_queue)

        async def refused(name: str, *args: Any) -> Any:
            with pytest.raises(WorkflowUpdateFailedError) as failed:
                await handle.execute_update(name, args=args)
            return failed.value.cause

        assert isinstance(await refused("gives_up_at_once"), CancelledError)
        cause = await refused("told", "a", "b")
        assert isinstance(cause, ApplicationError)
        assert "check() takes 2 positional arguments but 3 were given" in cause.message
        garbled = RawValue(Payload(metadata={"encoding": b"never-heard-of"}, data=b"x"))
        cause = await refused("told", garbled)
        assert isinstance(cause, ApplicationError) and cause.message == "Failed decoding arguments"
        await handle.execute_update(Target.takes_anything)
        assert await handle.execute_update("this") == "this"
        assert (await refused("that")).message == "not that"
        await handle.execute_update(Target.end)
        assert await handle.result() == "over"
        seen = await kinds(handle)
        assert "workflow_task_failed" not in seen and "activity_task_scheduled" not in seen
        await replay(handle, Target)


async def test_updates_that_fail_their_tasks_come_again_exactly_as_often(client: Client) -> None:
    mended.update(validator=0, handler=0)
    async with new_worker(client, Target, workflow_runner=UnsandboxedWorkflowRunner()) as worker:
        handle = await started(client, worker.task_queue, task_timeout=timedelta(seconds=1))
        assert await handle.execute_update(Target.validated) == "valid"
        assert mended == {"validator": 2, "handler": 0}
        assert await handle.execute_update(Target.stumbles) == "got up"
        assert mended == {"validator": 2, "handler": 1}
        await handle.execute_update(Target.end)
        await handle.result()
    assert len(await found(handle, "workflow_execution_update_accepted")) == 3


async def test_an_update_does_not_go_to_the_next_run_of_its_id(client: Client) -> None:
    async with new_worker(client, Target) as worker:
        first = await started(client, worker.task_queue)
        await first.execute_update(Target.end)
        await first.result()
        second = await client.start_workflow(Target.run, id=first.id, task_queue=worker.task_queue)
        with pytest.raises(RPCError) as missing:
            await first.execute_update(Target.end)
        assert missing.value.status == RPCStatusCode.NOT_FOUND
        assert "workflow execution not found" in str(missing.value)
        assert missing.value.message == str(missing.value)
        await second.terminate()


async def admitted(client: Client, id: str, update: str) -> None:
    reference = UpdateRef(workflow_execution=WorkflowExecution(workflow_id=id), update_id=update)

    async def there() -> None:
        try:
            await client.workflow_service.poll_workflow_execution_update(
                PollWorkflowExecutionUpdateRequest(namespace=client.namespace, update_ref=reference)
            )
        except RPCError as error:
            assert error.status != RPCStatusCode.NOT_FOUND
            raise

    await eventually(there)


async def test_a_start_of_an_update_is_given_up_without_a_worker(client: Client) -> None:
    queue = unique("nobody")
    for _ in range(5):
        handle = await started(client, queue)
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            await handle.start_update(Target.sleeps, 1000, wait_for_stage=ACCEPTED, rpc_timeout=AN_INSTANT)
        begun = asyncio.create_task(handle.start_update(Target.sleeps, 1000, wait_for_stage=ACCEPTED, id="u"))
        await admitted(client, handle.id, "u")
        begun.cancel()
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            await begun
        await handle.terminate()


async def test_a_wait_for_an_update_is_given_up_and_the_worker_ends(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with new_worker(client, Target) as worker:
        for _ in range(5):
            handle = await started(client, worker.task_queue)
            update = await handle.start_update(Target.sleeps, 1000, wait_for_stage=ACCEPTED)
            with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
                await update.result(rpc_timeout=AN_INSTANT)
            called = asyncio.Event()
            poll = client.workflow_service.poll_workflow_execution_update

            async def told(*args: Any, poll: Any = poll, called: asyncio.Event = called, **kwargs: Any) -> Any:
                called.set()
                return await poll(*args, **kwargs)

            with monkeypatch.context() as patched:
                patched.setattr(client.workflow_service, "poll_workflow_execution_update", told)
                waiting = asyncio.create_task(update.result())
                await called.wait()
            # The call has only just been made.
            waiting.cancel()
            with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
                await waiting
            assert update.workflow_run_id == handle.first_execution_run_id


async def test_a_query_without_a_worker_runs_into_its_deadline(client: Client) -> None:
    async with new_worker(client, Target) as worker:
        handle = await started(client, worker.task_queue)
        await handle.execute_update(Target.end)
        assert await handle.result() == "over"
    with pytest.raises(RPCError) as late:
        await handle.query("__temporal_workflow_metadata", rpc_timeout=timedelta(seconds=1))
    status = late.value.status
    assert status == RPCStatusCode.DEADLINE_EXCEEDED or (
        status == RPCStatusCode.CANCELLED and "timeout" in str(late.value).lower()
    )


leaps = {"count": 0}


@workflow.defn(sandboxed=False)
class Leaping:
    @workflow.run
    async def run(self) -> None:
        await asyncio.Future()

    @workflow.update
    def leaps(self) -> str:
        if leaps["count"] < 1:
            leaps["count"] += 1
            workflow.continue_as_new()
        return "stayed"


async def test_an_update_that_continues_as_new_fails_its_task_once(client: Client) -> None:
    leaps["count"] = 0
    async with new_worker(client, Leaping) as worker:
        handle = await client.start_workflow(
            Leaping.run, id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        assert await asyncio.wait_for(handle.execute_update(Leaping.leaps), 10) == "stayed"
    assert leaps["count"] == 1
    seen = await kinds(handle)
    assert "workflow_execution_continued_as_new" not in seen
    assert seen.count("workflow_execution_update_completed") == 1
    await handle.terminate()
