"""Dynamic workflows and handlers, handlers set while running, and names that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay, task_failure
    from support import eventually, unique
    from temporalio.client import Client, WorkflowFailureError, WorkflowQueryFailedError, WorkflowUpdateFailedError

TIMEOUT = timedelta(seconds=20)


@activity.defn(dynamic=True)
async def any_activity(args: Sequence[RawValue]) -> str:
    converter = activity.payload_converter()
    return f"{activity.info().activity_type}:{[converter.from_payload(arg.payload) for arg in args]}"


@workflow.defn(dynamic=True)
class AnyWorkflow:
    def __init__(self) -> None:
        self.signals: list[str] = []

    def told(self, name: str, args: Sequence[RawValue]) -> str:
        return f"{name}:{[workflow.payload_converter().from_payload(arg.payload) for arg in args]}"

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> list[str]:
        await workflow.wait_condition(lambda: len(self.signals) == 2)
        done = await workflow.execute_activity("AnyName", args=[1, None], start_to_close_timeout=TIMEOUT)
        return [self.told(workflow.info().workflow_type, args), *self.signals, str(done)]

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, args: Sequence[RawValue]) -> None:
        self.signals.append(self.told(name, args))

    @workflow.query(dynamic=True)
    def any_query(self, name: str, args: Sequence[RawValue]) -> str:
        return self.told(name, args)

    @workflow.update(dynamic=True)
    async def any_update(self, name: str, args: Sequence[RawValue]) -> str:
        return self.told(name, args)


async def test_dynamic_everything_gets_the_name_and_the_raw_arguments(client: Client) -> None:
    async with new_worker(client, AnyWorkflow, activities=[any_activity]) as worker:
        handle: Any = await client.start_workflow("Anything", args=["a", 2], id=unique(), task_queue=worker.task_queue)
        await handle.signal("s1")
        assert await handle.query("q", 7) == "q:[7]"
        assert await handle.execute_update("u", args=["x", "y"]) == "u:['x', 'y']"
        await handle.signal("s2", args=[{"k": 1}])
        assert await handle.result() == ["Anything:['a', 2]", "s1:[]", "s2:[{'k': 1}]", "AnyName:[1, None]"]
    started = (await found(handle, "workflow_execution_started"))[0]
    assert started.workflow_type.name == "Anything"
    await replay(handle, AnyWorkflow)


@workflow.defn(name="Known")
class Known:
    @workflow.run
    async def run(self) -> str:
        return "known"


async def test_a_known_type_is_preferred_to_the_dynamic_one(client: Client) -> None:
    async with new_worker(client, AnyWorkflow, Known) as worker:
        assert await client.execute_workflow("Known", id=unique(), task_queue=worker.task_queue) == "known"


@workflow.defn(dynamic=True)
class Strict:
    """Decides by its type's name whether a plain error fails the workflow."""

    @workflow.dynamic_config
    def config(self) -> workflow.DynamicWorkflowConfig:
        strict = workflow.info().workflow_type == "Strict"
        return workflow.DynamicWorkflowConfig(failure_exception_types=[ValueError] if strict else [])

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> None:
        raise ValueError("odd")


async def test_a_dynamic_workflow_is_configured_by_its_type(client: Client) -> None:
    async with new_worker(client, Strict) as worker:
        strict: Any = await client.start_workflow("Strict", id=unique(), task_queue=worker.task_queue)
        with pytest.raises(WorkflowFailureError) as caught:
            await strict.result()
        lenient: Any = await client.start_workflow("Lenient", id=unique(), task_queue=worker.task_queue)
        assert (await task_failure(lenient)).message == "odd"
        await lenient.terminate()
    assert isinstance(caught.value.cause, ApplicationError) and caught.value.cause.type == "ValueError"
    await replay(strict, Strict)


async def test_an_unknown_type_fails_the_task_until_a_worker_knows_it(client: Client) -> None:
    async with new_worker(client, AnyWorkflowNamed) as worker:
        handle: Any = await client.start_workflow(
            "Known", id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        failure = await task_failure(handle)
    assert failure.message == (
        "Workflow class Known is not registered on this worker, available workflows: AnyWorkflowNamed"
    )
    assert failure.application_failure_info.type == "NotFoundError"
    async with new_worker(client, Known, task_queue=worker.task_queue):
        assert await handle.result() == "known"
    await replay(handle, Known)


@workflow.defn
class AnyWorkflowNamed:
    @workflow.run
    async def run(self) -> None:
        pass


@workflow.defn
class Late:
    """Sets its handlers after it was spoken to."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.go = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.go)
        workflow.set_signal_handler("late", self.got.append)
        workflow.set_dynamic_signal_handler(self.other)
        workflow.set_query_handler("count", lambda: len(self.got))
        workflow.set_update_handler("rename", self.rename, validator=self.check)
        await workflow.wait_condition(lambda: "end" in self.got)
        return self.got

    async def other(self, name: str, args: Sequence[RawValue]) -> None:
        self.got.append(f"other {name}")

    async def rename(self, to: str) -> str:
        self.got.append(to)
        return to.upper()

    def check(self, to: str) -> None:
        if not to:
            raise ApplicationError("empty")

    @workflow.signal
    def start(self) -> None:
        self.go = True


async def test_signals_wait_for_handlers_that_are_set_later(client: Client) -> None:
    async with new_worker(client, Late) as worker:
        handle = await client.start_workflow(Late.run, id=unique(), task_queue=worker.task_queue)
        await handle.signal("late", "1")
        await handle.signal("stray")
        await handle.signal("late", "2")
        with pytest.raises(WorkflowQueryFailedError, match="Query handler for 'count' expected but not found"):
            await handle.query("count")
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("rename", "x")
        assert "Update handler for 'rename' expected but not found" in str(caught.value.cause)
        await handle.signal(Late.start)

        async def counted() -> None:
            try:
                assert await handle.query("count") == 3
            except WorkflowQueryFailedError as error:
                raise AssertionError(error) from error

        await eventually(counted)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update("rename", "")
        assert str(caught.value.cause) == "empty"
        assert await handle.execute_update("rename", "new") == "NEW"
        await handle.signal("late", "end")
        assert await handle.result() == ["1", "2", "other stray", "new", "end"]
    assert (await kinds(handle)).count("workflow_execution_update_accepted") == 1
    await replay(handle, Late)
