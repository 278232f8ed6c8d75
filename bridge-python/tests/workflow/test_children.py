"""Child workflows: started, awaited, signalled; what they become when they or their parents end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from support import eventually, unique
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import (
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.converter import default
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    RetryState,
    TerminatedError,
    TimeoutError,
    TimeoutType,
    WorkflowAlreadyStartedError,
)
from temporalio.workflow import ParentClosePolicy
from workflow.stories import MOMENT, caused, fail_and_replay, failure_of, replay, run_and_replay, stage, start

pytestmark = pytest.mark.timeout(60)

KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")


@workflow.defn
class Child:
    """Does what its words say, or collects signals until it is told to end."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self, what: str, times: int = 1) -> Any:
        if what == "echo":
            return [workflow.info().workflow_id] * times
        if what == "fail":
            raise ApplicationError("child broke", 42, type="Broken")
        if what == "retry":
            if workflow.info().attempt < 3:
                raise ApplicationError("once more")
            return workflow.info().attempt
        if what == "again" and times > 0:
            workflow.continue_as_new(args=["again", times - 1])
        if what == "again":
            return [workflow.info().first_execution_run_id != workflow.info().run_id, workflow.info().continued_run_id]
        if what == "who":
            info = workflow.info()
            assert info.parent and info.root
            attributes = info.typed_search_attributes
            return [info.parent.workflow_id, info.root.workflow_id, workflow.memo(), attributes.get(KEYWORD)]
        await workflow.wait_condition(lambda: "end" in self.words)
        return self.words

    @workflow.signal
    def word(self, word: str) -> None:
        self.words.append(word)


@workflow.defn
class Parent:
    """Runs one child with the options given."""

    @workflow.run
    async def run(self, id: str, args: list[Any], options: dict[str, Any]) -> Any:
        given: dict[str, Any] = {}
        for name, value in options.items():
            given[name] = timedelta(milliseconds=value) if name.endswith("timeout") else value
        if "retry_policy" in given:
            given["retry_policy"] = RetryPolicy(initial_interval=MOMENT, maximum_attempts=given["retry_policy"])
        return await workflow.execute_child_workflow("Child", args=args, id=id, **given)


async def test_a_child_returns_its_value_and_the_history_tells_of_both(client: Client) -> None:
    name = unique("child")
    async with stage(client, Parent, Child) as worker:
        result, told = await run_and_replay(worker, Parent.run, name, ["echo", 2], {})
        child = client.get_workflow_handle(name)
        assert (await replay(worker, child)).kinds() == ["WORKFLOW_EXECUTION_STARTED", "WORKFLOW_EXECUTION_COMPLETED"]
    assert result == [name, name]
    assert told.kinds() == [
        "WORKFLOW_EXECUTION_STARTED",
        "START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        "CHILD_WORKFLOW_EXECUTION_STARTED",
        "CHILD_WORKFLOW_EXECUTION_COMPLETED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]


async def test_an_id_is_made_up_for_a_child_without_one(client: Client) -> None:
    async with stage(client, Unnamed, Child) as worker:
        result, told = await run_and_replay(worker, Unnamed.run)
    initiated = told.attributes("START_CHILD_WORKFLOW_EXECUTION_INITIATED")
    assert result == [initiated.workflow_id] and len(initiated.workflow_id) == 36


@workflow.defn
class Unnamed:
    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_child_workflow(Child.run, args=["echo", 1])


@workflow.defn
class Talks:
    """Starts a child, talks to it through the handle and waits for it."""

    @workflow.run
    async def run(self, id: str) -> list[Any]:
        handle = await workflow.start_child_workflow(Child.run, args=["listen", 1], id=id)
        assert (handle.id, handle.done()) == (id, False)
        for word in ("one", "two"):
            await handle.signal(Child.word, word)
        await handle.signal("word", "end")
        return [handle.first_execution_run_id, await handle]


async def test_a_parent_signals_its_child(client: Client) -> None:
    name = unique("child")
    async with stage(client, Talks, Child) as worker:
        [run, words], told = await run_and_replay(worker, Talks.run, name)
        assert (await client.get_workflow_handle(name).describe()).run_id == run
    assert words == ["one", "two", "end"]
    assert told.count("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED") == 3
    initiated = told.all("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED")
    assert all(e.signal_external_workflow_execution_initiated_event_attributes.child_workflow_only for e in initiated)


async def test_a_failure_of_a_child_names_it_and_carries_its_cause(client: Client) -> None:
    name = unique("child")
    async with stage(client, Parent, Child) as worker:
        error, told = await fail_and_replay(worker, Parent.run, name, ["fail"], {})
    assert isinstance(error, ChildWorkflowError)
    assert (error.workflow_id, error.workflow_type, error.namespace) == (name, "Child", "default")
    assert error.message == "Child Workflow execution failed"
    assert error.retry_state == RetryState.RETRY_POLICY_NOT_SET
    assert told.events[error.initiated_event_id - 1] == told.one("START_CHILD_WORKFLOW_EXECUTION_INITIATED")
    started = told.one("CHILD_WORKFLOW_EXECUTION_STARTED")
    assert told.events[error.started_event_id - 1] == started
    assert error.run_id == started.child_workflow_execution_started_event_attributes.workflow_execution.run_id
    cause = caused(error, ApplicationError)
    assert (cause.message, cause.type, list(cause.details)) == ("child broke", "Broken", [42])


async def test_a_child_that_times_out(client: Client) -> None:
    async with stage(client, Parent, Child) as worker:
        error, told = await fail_and_replay(worker, Parent.run, unique(), ["listen"], {"execution_timeout": 500})
    assert isinstance(error, ChildWorkflowError) and error.retry_state == RetryState.TIMEOUT
    assert caused(error, TimeoutError).type == TimeoutType.START_TO_CLOSE
    assert told.count("CHILD_WORKFLOW_EXECUTION_TIMED_OUT") == 1


async def test_a_child_that_is_terminated(client: Client) -> None:
    name = unique("child")
    async with stage(client, Parent, Child) as worker:
        handle = await start(worker, Parent.run, name, ["listen"], {})
        await eventually(lambda: running(client, name))
        await client.get_workflow_handle(name).terminate("enough")
        error = await failure_of(handle)
        told = await replay(worker, handle)
    assert isinstance(error, ChildWorkflowError) and error.workflow_id == name
    assert isinstance(error.cause, TerminatedError)
    assert told.count("CHILD_WORKFLOW_EXECUTION_TERMINATED") == 1


async def running(client: Client, id: str) -> None:
    assert await status(client, id) == WorkflowExecutionStatus.RUNNING


async def status(client: Client, id: str) -> WorkflowExecutionStatus | None:
    found = [w async for w in client.list_workflows(f"WorkflowId = '{id}'")]
    assert found, "not there yet"
    return (await client.get_workflow_handle(id).describe()).status


async def test_a_child_that_continues_as_new_is_one_child(client: Client) -> None:
    async with stage(client, Parent, Child) as worker:
        [moved, last], told = await run_and_replay(worker, Parent.run, unique(), ["again", 2], {})
    assert moved and last
    assert told.count("CHILD_WORKFLOW_EXECUTION_STARTED") == told.count("CHILD_WORKFLOW_EXECUTION_COMPLETED") == 1


async def test_a_child_is_retried_by_its_policy(client: Client) -> None:
    async with stage(client, Parent, Child) as worker:
        result, told = await run_and_replay(worker, Parent.run, unique(), ["retry"], {"retry_policy": 3})
        error, _ = await fail_and_replay(worker, Parent.run, unique(), ["retry"], {"retry_policy": 2})
    assert result == 3
    assert told.count("CHILD_WORKFLOW_EXECUTION_COMPLETED") == 1
    assert isinstance(error, ChildWorkflowError) and error.retry_state == RetryState.MAXIMUM_ATTEMPTS_REACHED


@workflow.defn
class StartsTaken:
    """Starts a child under an id that may be taken."""

    @workflow.run
    async def run(self, id: str, reuse: int) -> str:
        try:
            handle = await workflow.start_child_workflow(
                Child.run, args=["echo", 1], id=id, id_reuse_policy=WorkflowIDReusePolicy(reuse)
            )
        except WorkflowAlreadyStartedError as error:
            return f"{error.workflow_id} {error.workflow_type} {error.message}"
        return f"{await handle}"


async def test_an_id_that_is_running_cannot_be_taken(client: Client) -> None:
    async with stage(client, StartsTaken, Child) as worker:
        other = await start(worker, Child.run, "listen")
        result, told = await run_and_replay(worker, StartsTaken.run, other.id, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        await other.signal(Child.word, "end")
        await other.result()
        reused, _ = await run_and_replay(worker, StartsTaken.run, other.id, WorkflowIDReusePolicy.ALLOW_DUPLICATE)
        never, _ = await run_and_replay(worker, StartsTaken.run, other.id, WorkflowIDReusePolicy.REJECT_DUPLICATE)
    taken = f"{other.id} Child Workflow execution already started"
    assert (result, never) == (taken, taken)
    assert reused == f"['{other.id}']"
    assert told.count("START_CHILD_WORKFLOW_EXECUTION_FAILED") == 1
    assert told.count("CHILD_WORKFLOW_EXECUTION_STARTED") == 0


@workflow.defn
class Dresses:
    """A child with everything on it."""

    @workflow.run
    async def run(self, id: str) -> Any:
        return await workflow.execute_child_workflow(
            Child.run,
            args=["who", 1],
            id=id,
            run_timeout=timedelta(seconds=40),
            execution_timeout=timedelta(seconds=50),
            task_timeout=timedelta(seconds=5),
            memo={"note": [1, 2]},
            search_attributes=TypedSearchAttributes([SearchAttributePair(KEYWORD, "green")]),
            static_summary="a dressed child",
            static_details="in *green*",
            parent_close_policy=ParentClosePolicy.ABANDON,
        )


async def test_options_reach_the_child(client: Client) -> None:
    name = unique("child")
    async with stage(client, Dresses, Child) as worker:
        handle = await start(worker, Dresses.run, name)
        assert await handle.result() == [handle.id, handle.id, {"note": [1, 2]}, "green"]
        told = await replay(worker, handle)
        child = await replay(worker, client.get_workflow_handle(name))
        described = await client.get_workflow_handle(name).describe()
    initiated = told.attributes("START_CHILD_WORKFLOW_EXECUTION_INITIATED")
    assert initiated.parent_close_policy == ParentClosePolicy.ABANDON
    started = child.attributes("WORKFLOW_EXECUTION_STARTED")
    assert started.workflow_run_timeout.ToTimedelta() == timedelta(seconds=40)
    assert started.workflow_execution_timeout.ToTimedelta() == timedelta(seconds=50)
    assert started.workflow_task_timeout.ToTimedelta() == timedelta(seconds=5)
    assert default().payload_converter.from_payload(child.events[0].user_metadata.summary) == "a dressed child"
    assert await described.static_details() == "in *green*"
    assert described.typed_search_attributes[KEYWORD] == "green"


@workflow.defn
class Leaves:
    """Ends while its child still runs."""

    @workflow.run
    async def run(self, id: str, policy: int) -> str:
        await workflow.start_child_workflow(
            Child.run, args=["listen", 1], id=id, parent_close_policy=ParentClosePolicy(policy)
        )
        return "gone"


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        (ParentClosePolicy.TERMINATE, WorkflowExecutionStatus.TERMINATED),
        (ParentClosePolicy.REQUEST_CANCEL, WorkflowExecutionStatus.CANCELED),
        (ParentClosePolicy.ABANDON, WorkflowExecutionStatus.COMPLETED),
    ],
)
async def test_what_becomes_of_a_child_when_the_parent_closes(
    client: Client, policy: ParentClosePolicy, becomes: WorkflowExecutionStatus
) -> None:
    name = unique("child")
    async with stage(client, Leaves, Child) as worker:
        result, _ = await run_and_replay(worker, Leaves.run, name, policy)
        child = client.get_workflow_handle(name)
        if policy == ParentClosePolicy.ABANDON:
            await child.signal(Child.word, "end")

        async def closed() -> None:
            assert (await child.describe()).status == becomes

        await eventually(closed)
        if becomes != WorkflowExecutionStatus.TERMINATED:
            await replay(worker, child)
    assert result == "gone"


@workflow.defn
class Brood:
    @workflow.run
    async def run(self, count: int) -> list[Any]:
        prefix = workflow.info().workflow_id
        children = [
            workflow.execute_child_workflow(Child.run, args=["echo", 1], id=f"{prefix}-{n}") for n in range(count)
        ]
        return list(await asyncio.gather(*children))


async def test_many_children_at_once(client: Client) -> None:
    async with stage(client, Brood, Child) as worker:
        handle = await start(worker, Brood.run, 12)
        assert await handle.result() == [[f"{handle.id}-{n}"] for n in range(12)]
        told = await replay(worker, handle)
    assert told.count("CHILD_WORKFLOW_EXECUTION_COMPLETED") == 12
