"""Updates and signals that are there before the first worker: one task has them all, and the run's end as well."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, kinds, new_worker, replay
    from support import eventually, unique
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.update.v1 import UpdateRef
    from temporalio.api.workflowservice.v1 import PollWorkflowExecutionUpdateRequest
    from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
    from temporalio.common import RawValue
    from temporalio.exceptions import ApplicationError, CancelledError
    from temporalio.service import RPCError, RPCStatusCode
    from workflow.stories import LONG


async def admitted(client: Client, handle: WorkflowHandle[Any, Any], name: str, *args: Any, id: str) -> asyncio.Task[Any]:
    """An update that the server has, on its way to its end."""
    task = asyncio.create_task(handle.execute_update(name, args=args, id=id))
    reference = UpdateRef(workflow_execution=WorkflowExecution(workflow_id=handle.id), update_id=id)

    async def there() -> None:
        try:
            await client.workflow_service.poll_workflow_execution_update(
                PollWorkflowExecutionUpdateRequest(namespace=client.namespace, update_ref=reference)
            )
        except RPCError as error:
            assert error.status != RPCStatusCode.NOT_FOUND
            raise

    await eventually(there)
    return task


@workflow.defn
class Ending:
    """Ends in its first task, as told, whatever its handlers still do; or waits for them."""

    def __init__(self) -> None:
        self.may_go = False

    @workflow.run
    async def run(self, end: str, late: bool, waits: bool) -> None:
        if late:
            workflow.set_update_handler("late", self.handle)
            workflow.set_signal_handler("late", self.handle)
            workflow.set_dynamic_update_handler(self.handle_any)
            workflow.set_dynamic_signal_handler(self.handle_any)
        if waits:
            self.may_go = True
            await workflow.wait_condition(workflow.all_handlers_finished)
        if end == "fail":
            raise ApplicationError("as told")
        if end == "again":
            workflow.continue_as_new(args=["fail", late, waits])
        await workflow.wait_condition(lambda: False)

    async def handle(self) -> str:
        await workflow.wait_condition(lambda: self.may_go)
        return "handled"

    async def handle_any(self, name: str, _: Sequence[RawValue]) -> str:
        await workflow.wait_condition(lambda: self.may_go)
        return name

    @workflow.update
    async def update(self) -> str:
        return await self.handle()

    @workflow.signal
    async def signal(self) -> None:
        await self.handle()

    @workflow.update(dynamic=True)
    async def any_update(self, name: str, args: Sequence[RawValue]) -> str:
        return await self.handle_any(name, args)

    @workflow.signal(dynamic=True)
    async def any_signal(self, name: str, args: Sequence[RawValue]) -> None:
        await self.handle_any(name, args)


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "leaves"])
@pytest.mark.parametrize("handler", ["known", "late", "unknown", "late unknown"])
@pytest.mark.parametrize("end", ["fail", "again", "cancel"])
@pytest.mark.parametrize("way", ["update", "signal"])
async def test_handlers_of_the_first_task_are_finished_or_warned_about_at_the_end(
    client: Client, way: str, end: str, handler: str, waits: bool
) -> None:
    queue, late = unique("queue"), handler.startswith("late")
    name = "nothing-like-it" if handler.endswith("unknown") else "late" if late else way
    handle = await client.start_workflow(Ending.run, args=[end, late, waits], id=unique(), task_queue=queue)
    if end == "cancel":
        await handle.cancel()
    update: asyncio.Task[Any] | None = None
    if way == "update":
        update = await admitted(client, handle, name, id="the update")
    else:
        await handle.signal(name)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with new_worker(client, Ending, task_queue=queue):
            if update and waits:
                assert await update == ("handled" if handler == "known" else name)
            elif update:
                with pytest.raises(WorkflowUpdateFailedError) as refused:
                    await update
                assert isinstance(refused.value.cause, ApplicationError)
                assert refused.value.cause.type == "AcceptedUpdateCompletedWorkflow"
            with pytest.raises(WorkflowFailureError) as ended:
                await handle.result()
    assert isinstance(ended.value.cause, CancelledError if end == "cancel" else ApplicationError)
    kind = workflow.UnfinishedUpdateHandlersWarning if way == "update" else workflow.UnfinishedSignalHandlersWarning
    assert any(issubclass(each.category, kind) for each in warned) == (not waits)
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert (await kinds(first)).count("workflow_task_completed") == 1
    await replay(first, Ending)


@activity.defn
async def nothing() -> None:
    pass


@workflow.defn
class Doors:
    """As many updates at once as there are doors, each for one activity or a sleep."""

    @workflow.init
    def __init__(self, doors: int) -> None:
        self.doors = asyncio.Semaphore(doors)
        self.inside, self.most, self.ever, self.over = 0, 0, 0, False

    @workflow.run
    async def run(self, doors: int) -> tuple[int, int]:
        await workflow.wait_condition(lambda: self.over)
        return self.ever, self.most

    @workflow.update
    async def go(self, sleep: float) -> None:
        if sleep:
            try:
                await asyncio.wait_for(self.doors.acquire(), 0.1)
            except asyncio.TimeoutError:
                return
        else:
            await self.doors.acquire()
        self.inside += 1
        self.ever += 1
        self.most = max(self.most, self.inside)
        if sleep:
            await asyncio.sleep(sleep)
        else:
            await workflow.execute_activity(nothing, schedule_to_close_timeout=LONG)
        self.inside -= 1
        self.doors.release()

    @workflow.signal
    def end(self) -> None:
        self.over = True


@pytest.mark.parametrize(("doors", "sleep", "ever"), [(1, 0, 5), (3, 0, 5), (1, 0.5, 1), (3, 0.5, 3)])
@pytest.mark.parametrize("cache", [0, 100])
async def test_five_updates_of_one_task_share_doors(
    client: Client, doors: int, sleep: float, ever: int, cache: int
) -> None:
    queue = unique("queue")
    handle = await client.start_workflow(Doors.run, doors, id=unique(), task_queue=queue)
    updates = [await admitted(client, handle, "go", sleep, id=f"{i}") for i in range(5)]
    async with new_worker(client, Doors, activities=[nothing], task_queue=queue, max_cached_workflows=cache):
        await asyncio.gather(*updates)
        await handle.signal(Doors.end)
        assert await handle.result() == (ever, doors)
    accepted = await found(handle, "workflow_execution_update_accepted")
    assert [event.protocol_instance_id for event in accepted] == [f"{i}" for i in range(5)]
    await replay(handle, Doors)


@workflow.defn
class Quick:
    def __init__(self) -> None:
        self.asked = "no"

    @workflow.run
    async def run(self) -> str:
        return "ended"

    @workflow.update
    async def ask(self) -> str:
        self.asked = "yes"
        return "answered"

    @workflow.query
    def was_asked(self) -> str:
        return self.asked


@pytest.mark.parametrize("cache", [0, 100])
async def test_a_run_that_ends_in_its_first_task_answers_first_and_can_be_queried(client: Client, cache: int) -> None:
    queue = unique("queue")
    handle = await client.start_workflow(Quick.run, id=unique(), task_queue=queue)
    update = await admitted(client, handle, "ask", id="the update")
    async with new_worker(client, Quick, task_queue=queue, max_cached_workflows=cache):
        assert await handle.result() == "ended"
        assert await update == "answered"
        assert await handle.query(Quick.was_asked) == "yes"
    await replay(handle, Quick)
