"""Activities: every way to write one, to call one and to read what it returns."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from support import unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import Priority, RawValue, RetryPolicy
from temporalio.converter import default
from temporalio.worker import SharedStateManager
from workflow.stories import LONG, run_and_replay, stage


@dataclass
class Order:
    item: str
    count: int


@dataclass
class Receipt:
    order: Order
    total: int


@activity.defn
async def add(a: int, b: int) -> int:
    return a + b


@activity.defn
async def nothing() -> None:
    return None


@activity.defn
async def sell(order: Order) -> Receipt:
    return Receipt(order, order.count * 3)


@activity.defn
def thread_name() -> str:
    return threading.current_thread().name


@activity.defn
def process() -> int:
    activity.heartbeat("alive")
    return os.getpid()


@activity.defn(name="greeting")
class Greeting:
    """A callable with state: the instance is the activity."""

    def __init__(self, word: str) -> None:
        self.word = word

    async def __call__(self, name: str) -> str:
        return f"{self.word}, {name}!"


class Counter:
    def __init__(self) -> None:
        self.value = 0

    @activity.defn
    async def increase(self, by: int) -> int:
        self.value += by
        return self.value


@activity.defn
async def raw(value: RawValue) -> RawValue:
    assert value.payload.metadata["encoding"] == b"json/plain"
    return RawValue(default().payload_converter.to_payload({"was": value.payload.data.decode()}))


@activity.defn(dynamic=True)
async def anything(args: Sequence[RawValue]) -> str:
    values = [activity.payload_converter().from_payload(arg.payload) for arg in args]
    return f"{activity.info().activity_type}{values}"


@workflow.defn
class Kinds:
    """Calls activities of every kind, one after the other."""

    @workflow.run
    async def run(self) -> list[Any]:
        receipt = await workflow.execute_activity(sell, Order("nail", 7), start_to_close_timeout=LONG)
        assert isinstance(receipt, Receipt)
        return [
            await workflow.execute_activity(add, args=[2, 3], start_to_close_timeout=LONG),
            await workflow.execute_activity(nothing, start_to_close_timeout=LONG),
            receipt,
            await workflow.execute_activity_class(Greeting, "you", start_to_close_timeout=LONG),
            await workflow.execute_activity_method(Counter.increase, 5, start_to_close_timeout=LONG),
            await workflow.execute_activity_method(Counter.increase, 5, start_to_close_timeout=LONG),
        ]


async def test_functions_callables_and_methods_return_their_values(client: Client) -> None:
    activities: list[Any] = [add, nothing, sell, Greeting("Hello"), Counter().increase]
    async with stage(client, Kinds, activities=activities) as worker:
        result, told = await run_and_replay(worker, Kinds.run)
    receipt = {"order": {"item": "nail", "count": 7}, "total": 21}
    assert result == [5, None, receipt, "Hello, you!", 5, 10]
    types = [e.activity_task_scheduled_event_attributes.activity_type.name for e in told.all("ACTIVITY_TASK_SCHEDULED")]
    assert types == ["sell", "add", "nothing", "greeting", "increase", "increase"]


@workflow.defn
class ByName:
    @workflow.run
    async def run(self) -> list[Any]:
        typed = await workflow.execute_activity(
            "sell", Order("nut", 2), result_type=Receipt, start_to_close_timeout=LONG
        )
        untyped = await workflow.execute_activity("sell", {"item": "nut", "count": 1}, start_to_close_timeout=LONG)
        unknown = await workflow.execute_activity("unheard-of", args=["a", 1], start_to_close_timeout=LONG)
        return [isinstance(typed, Receipt) and typed.total, untyped, unknown]


async def test_an_activity_is_called_by_name_and_unknown_names_reach_the_dynamic_one(client: Client) -> None:
    async with stage(client, ByName, activities=[sell, anything]) as worker:
        result, _ = await run_and_replay(worker, ByName.run)
    assert result == [6, {"order": {"item": "nut", "count": 1}, "total": 3}, "unheard-of['a', 1]"]


@workflow.defn
class OneSync:
    @workflow.run
    async def run(self, name: str) -> Any:
        return await workflow.execute_activity(name, start_to_close_timeout=LONG)


async def test_a_sync_activity_runs_in_a_thread_of_the_executor(client: Client) -> None:
    with ThreadPoolExecutor(5, thread_name_prefix="loom") as executor:
        async with stage(
            client, OneSync, activities=[thread_name], activity_executor=executor, max_concurrent_activities=5
        ) as worker:
            result, _ = await run_and_replay(worker, OneSync.run, "thread_name")
    assert result.startswith("loom")


async def test_a_sync_activity_runs_in_another_process_and_can_heartbeat(client: Client) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor, context.Manager() as manager:
        async with stage(
            client,
            OneSync,
            activities=[process],
            activity_executor=executor,
            max_concurrent_activities=1,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
        ) as worker:
            result, _ = await run_and_replay(worker, OneSync.run, "process")
    assert isinstance(result, int) and result != os.getpid()


@workflow.defn
class Raw:
    @workflow.run
    async def run(self, value: RawValue) -> RawValue:
        return await workflow.execute_activity(raw, value, start_to_close_timeout=LONG)


async def test_raw_values_pass_through_unread(client: Client) -> None:
    async with stage(client, Raw, activities=[raw]) as worker:
        result, told = await run_and_replay(worker, Raw.run, ["x", 1])
    assert default().payload_converter.from_payload(result.payload) == {"was": '["x",1]'}
    sent = told.attributes("ACTIVITY_TASK_SCHEDULED").input.payloads[0]
    assert sent == told.attributes("WORKFLOW_EXECUTION_STARTED").input.payloads[0]


@workflow.defn
class FanOut:
    @workflow.run
    async def run(self, count: int) -> list[int]:
        handles = [workflow.start_activity(add, args=[n, n], start_to_close_timeout=LONG) for n in range(count)]
        assert not any(handle.done() for handle in handles)
        return await asyncio.gather(*handles)


async def test_many_handles_run_at_once_and_results_keep_their_order(client: Client) -> None:
    async with stage(client, FanOut, activities=[add]) as worker:
        result, told = await run_and_replay(worker, FanOut.run, 40)
    assert result == [2 * n for n in range(40)]
    scheduled = [e.activity_task_scheduled_event_attributes for e in told.all("ACTIVITY_TASK_SCHEDULED")]
    assert [s.activity_id for s in scheduled] == [str(n + 1) for n in range(40)]
    assert len({s.workflow_task_completed_event_id for s in scheduled}) == 1


@workflow.defn
class Elsewhere:
    @workflow.run
    async def run(self, queue: str) -> Any:
        return await workflow.execute_activity("greeting", "you", task_queue=queue, start_to_close_timeout=LONG)


async def test_an_activity_goes_to_the_queue_it_names(client: Client) -> None:
    async with (
        stage(client, Elsewhere, activities=[Greeting("Here")]) as worker,
        stage(client, activities=[Greeting("There")]) as other,
    ):
        result, told = await run_and_replay(worker, Elsewhere.run, other.task_queue)
    assert result == "There, you!"
    assert told.attributes("ACTIVITY_TASK_SCHEDULED").task_queue.name == other.task_queue


@workflow.defn
class AllOptions:
    """Every option that crosses to the server."""

    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_activity(
            "unheard-of",
            schedule_to_close_timeout=timedelta(seconds=50),
            schedule_to_start_timeout=timedelta(seconds=40),
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=2),
                backoff_coefficient=1.5,
                maximum_interval=timedelta(seconds=9),
                maximum_attempts=4,
                non_retryable_error_types=["Hopeless"],
            ),
            activity_id="my-id",
            versioning_intent=workflow.VersioningIntent.DEFAULT,
            summary="what it is for",
            priority=Priority(priority_key=3, fairness_key="tenant", fairness_weight=2.5),
        )


async def test_every_option_reaches_the_history_and_the_activity(client: Client) -> None:
    seen: list[activity.Info] = []

    @activity.defn(dynamic=True)
    async def look(_: Sequence[RawValue]) -> str:
        seen.append(activity.info())
        return "seen"

    async with stage(client, AllOptions, activities=[look]) as worker:
        before = datetime.now(timezone.utc) - LONG
        result, told = await run_and_replay(worker, AllOptions.run, id=(name := unique("options")))
    assert result == "seen"

    scheduled = told.attributes("ACTIVITY_TASK_SCHEDULED")
    assert (scheduled.activity_id, scheduled.activity_type.name) == ("my-id", "unheard-of")
    assert scheduled.schedule_to_close_timeout.ToTimedelta() == timedelta(seconds=50)
    assert scheduled.schedule_to_start_timeout.ToTimedelta() == timedelta(seconds=40)
    assert scheduled.start_to_close_timeout.ToTimedelta() == timedelta(seconds=30)
    assert scheduled.heartbeat_timeout.ToTimedelta() == timedelta(seconds=20)
    assert (scheduled.priority.priority_key, scheduled.priority.fairness_key) == (3, "tenant")
    metadata = told.one("ACTIVITY_TASK_SCHEDULED").user_metadata
    assert default().payload_converter.from_payload(metadata.summary) == "what it is for"

    [info] = seen
    assert (info.activity_id, info.activity_type, info.attempt) == ("my-id", "unheard-of", 1)
    assert (info.workflow_id, info.workflow_type, info.task_queue) == (name, "AllOptions", worker.task_queue)
    assert info.workflow_run_id == told.attributes("WORKFLOW_EXECUTION_STARTED").original_execution_run_id
    assert info.namespace == "default" and not info.is_local and info.in_workflow and info.task_token
    assert info.schedule_to_close_timeout == timedelta(seconds=50)
    assert (info.start_to_close_timeout, info.heartbeat_timeout) == (timedelta(seconds=30), timedelta(seconds=20))
    assert list(info.heartbeat_details) == []
    assert info.retry_policy == RetryPolicy(
        initial_interval=timedelta(seconds=2),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(seconds=9),
        maximum_attempts=4,
        non_retryable_error_types=["Hopeless"],
    )
    assert info.priority == Priority(priority_key=3, fairness_key="tenant", fairness_weight=2.5)
    assert before < info.scheduled_time <= info.started_time
    assert info.current_attempt_scheduled_time == info.scheduled_time


@workflow.defn
class Sizes:
    @workflow.run
    async def run(self, size: int) -> int:
        text = await workflow.execute_activity("echo", "x" * size, result_type=str, start_to_close_timeout=LONG)
        return len(text)


async def test_large_and_empty_values_come_back_whole(client: Client) -> None:
    @activity.defn
    async def echo(text: str) -> str:
        return text

    async with stage(client, Sizes, activities=[echo]) as worker:
        assert (await run_and_replay(worker, Sizes.run, 0))[0] == 0
        assert (await run_and_replay(worker, Sizes.run, 400_000))[0] == 400_000
