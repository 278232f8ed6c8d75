"""Workers that do only a part, or do it another way: kinds of activities, caches, executors, codecs, debug mode."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import SharedStateManager, Worker

from worker.programs import BRIEF, ONCE, Collect, Echo, FanOut, Greet, GreetLocally, double, events, greet, kinds, only


async def polled(client: Client, queue: str, kind: TaskQueueType.ValueType) -> int:
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
    )
    return len(described.pollers)


@pytest.mark.parametrize(
    ("options", "flows", "hands"),
    [
        ({"workflows": [Echo]}, True, False),
        ({"activities": [greet]}, False, True),
        ({"workflows": [Echo], "activities": [greet]}, True, True),
        ({"workflows": [Echo], "activities": [greet], "no_remote_activities": True}, True, False),
    ],
)
async def test_a_worker_polls_only_for_what_it_does(
    client: Client, options: dict[str, Any], flows: bool, hands: bool
) -> None:
    queue = unique("queue")
    async with Worker(client, task_queue=queue, **options):

        async def polls() -> tuple[int, int]:
            seen = (
                await polled(client, queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
                await polled(client, queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
            )
            assert (bool(seen[0]) or not flows) and (bool(seen[1]) or not hands)
            return seen

        seen = await eventually(polls)
    assert (bool(seen[0]), bool(seen[1])) == (flows, hands)


async def test_without_remote_activities_local_ones_still_run(client: Client) -> None:
    async with new_worker(client, GreetLocally, activities=[greet], no_remote_activities=True) as worker:
        assert (
            await client.execute_workflow(GreetLocally.run, "you", id=unique(), task_queue=worker.task_queue)
            == "Hello, you!"
        )


async def test_the_cache_makes_later_tasks_sticky_and_without_it_none_is(client: Client) -> None:
    for cached in (0, 10):
        async with new_worker(client, Collect, max_cached_workflows=cached) as worker:
            handle = await client.start_workflow(Collect.run, id=unique(), task_queue=worker.task_queue)
            for number in range(2):
                await handle.execute_update(Collect.ask, str(number))
            await handle.signal(Collect.say, "stop")
            assert await handle.result() == ["0", "1", "stop"]
        history = await events(handle)
        queues = [
            event.workflow_task_scheduled_event_attributes.task_queue
            for event, kind in zip(history, kinds(history))
            if kind == "WORKFLOW_TASK_SCHEDULED"
        ]
        sticky = [queue for queue in queues[1:] if queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY]
        assert len(sticky) == (len(queues) - 1 if cached else 0)
        assert all(queue.normal_name == worker.task_queue for queue in sticky)


async def test_a_cache_of_one_serves_many_workflows_in_turn(client: Client) -> None:
    async with new_worker(client, Collect, max_cached_workflows=1) as worker:
        queue = worker.task_queue
        handles = [await client.start_workflow(Collect.run, id=unique(), task_queue=queue) for _ in range(4)]
        for round in range(3):
            for handle in handles:
                assert await handle.execute_update(Collect.ask, f"round {round}") == round + 1
        for handle in handles:
            assert await handle.query(Collect.words) == ["round 0", "round 1", "round 2"]
            await handle.signal(Collect.say, "stop")
            assert (await handle.result())[-1] == "stop"


@activity.defn(dynamic=True)
async def anything(args: Sequence[RawValue]) -> str:
    info = activity.info()
    words = [activity.payload_converter().from_payload(arg.payload, int) for arg in args]
    return f"{info.activity_type}{words}"


async def test_a_dynamic_activity_takes_what_no_other_does(client: Client) -> None:
    async with new_worker(client, FanOut, activities=[double, anything]) as worker:
        queue = worker.task_queue
        assert await client.execute_workflow(FanOut.run, args=["double", 2], id=unique(), task_queue=queue) == [0, 2]
        ran = await client.execute_workflow(FanOut.run, args=["unheard-of", 2], id=unique(), task_queue=queue)
    assert ran == ["unheard-of[0]", "unheard-of[1]"]


@workflow.defn
class Once:
    """The named activity in one attempt."""

    @workflow.run
    async def run(self, name: str) -> Any:
        return await workflow.execute_activity(name, start_to_close_timeout=BRIEF, retry_policy=ONCE)


async def test_an_activity_that_is_not_registered_fails_with_what_is(client: Client) -> None:
    async with new_worker(client, Once, activities=[greet, double]) as worker:
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Once.run, "unheard-of", id=unique(), task_queue=worker.task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError) and cause.type == "NotFoundError"
    assert "unheard-of" in cause.message and "available activities: double, greet" in cause.message


class Shop:
    """An object with activities."""

    def __init__(self, name: str) -> None:
        self.name = name

    @activity.defn
    async def which(self) -> str:
        return self.name

    @activity.defn
    def which_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()


async def test_activities_of_an_object_see_it_and_plain_ones_run_in_the_pool(client: Client) -> None:
    shop = Shop("corner")
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        async with new_worker(
            client,
            Once,
            activities=[shop.which, shop.which_thread],
            activity_executor=pool,
            max_concurrent_activities=5,
        ) as worker:
            queue = worker.task_queue
            assert await client.execute_workflow(Once.run, "which", id=unique(), task_queue=queue) == "corner"
            assert await client.execute_workflow(Once.run, "which_thread", id=unique(), task_queue=queue) is False


@activity.defn
def process_of_mine() -> list[Any]:
    activity.heartbeat("from afar")
    return [os.getpid(), activity.info().attempt]


@pytest.mark.timeout(90)
async def test_an_activity_may_run_in_another_process_and_heartbeat_from_there(client: Client) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool, context.Manager() as manager:
        async with new_worker(
            client,
            Once,
            activities=[process_of_mine],
            activity_executor=pool,
            max_concurrent_activities=1,
            shared_state_manager=SharedStateManager.create_from_multiprocessing(manager),
        ) as worker:
            pid, attempt = await client.execute_workflow(
                Once.run, "process_of_mine", id=unique(), task_queue=worker.task_queue
            )
    assert pid != os.getpid() and attempt == 1


@workflow.defn
class Blocks:
    """Holds its thread for longer than a workflow may."""

    @workflow.run
    async def run(self) -> str:
        with workflow.unsafe.sandbox_unrestricted():
            threading.Event().wait(2.5)
        return "took its time"


async def test_debug_mode_lets_a_workflow_hold_its_thread(client: Client) -> None:
    async with new_worker(client, Blocks, debug_mode=True) as worker:
        handle = await client.start_workflow(Blocks.run, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == "took its time"
    assert "WORKFLOW_TASK_FAILED" not in kinds(await events(handle))


class Sealed(PayloadCodec):
    """Seals every payload; refuses to open one that says `poison`."""

    def __init__(self) -> None:
        self.sealed = self.opened = 0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.sealed += len(payloads)
        return [Payload(metadata={"encoding": b"sealed"}, data=p.SerializeToString()) for p in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.opened += len(payloads)
        if any(b"poison" in payload.data for payload in payloads):
            raise RuntimeError("it smells")
        return [Payload.FromString(payload.data) for payload in payloads]


def sealing(client: Client, codec: PayloadCodec) -> Client:
    config = client.config()
    config["data_converter"] = replace(DataConverter.default, payload_codec=codec)
    return Client(**config)


async def test_a_codec_seals_all_that_goes_over_the_wire(client: Client) -> None:
    codec = Sealed()
    sealed = sealing(client, codec)
    async with new_worker(sealed, Greet, activities=[greet]) as worker:
        handle = await sealed.start_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == "Hello, you!"
    history = await events(handle)
    payloads = [
        *only(history, "WORKFLOW_EXECUTION_STARTED").workflow_execution_started_event_attributes.input.payloads,
        *only(history, "ACTIVITY_TASK_SCHEDULED").activity_task_scheduled_event_attributes.input.payloads,
        *only(history, "ACTIVITY_TASK_COMPLETED").activity_task_completed_event_attributes.result.payloads,
        *only(history, "WORKFLOW_EXECUTION_COMPLETED").workflow_execution_completed_event_attributes.result.payloads,
    ]
    assert [payload.metadata["encoding"] for payload in payloads] == [b"sealed"] * 4
    assert codec.sealed == 4 and codec.opened >= 4


async def test_a_codec_that_fails_fails_the_workflow_task_and_not_the_worker(client: Client) -> None:
    sealed = sealing(client, Sealed())
    async with new_worker(sealed, Echo) as worker:
        bad = await sealed.start_workflow(Echo.run, "poison", id=unique(), task_queue=worker.task_queue)

        async def failed() -> str:
            history = await events(bad)
            failures = [event for event, kind in zip(history, kinds(history)) if kind == "WORKFLOW_TASK_FAILED"]
            assert failures
            return failures[0].workflow_task_failed_event_attributes.failure.message

        assert await eventually(failed) == "it smells"
        assert await sealed.execute_workflow(Echo.run, "sound", id=unique(), task_queue=worker.task_queue) == "sound"
        await bad.terminate()


@workflow.defn
class Beats:
    """An activity with heartbeats that fails once; what its second attempt was told."""

    @workflow.run
    async def run(self) -> Any:
        return await workflow.execute_activity(
            beats_and_fails, start_to_close_timeout=BRIEF, heartbeat_timeout=timedelta(seconds=20)
        )


@activity.defn
async def beats_and_fails() -> list[Any]:
    if activity.info().attempt == 1:
        for number in range(50):
            activity.heartbeat(number, "of fifty")
        raise ApplicationError("again", next_retry_delay=timedelta(milliseconds=1))
    return list(activity.info().heartbeat_details)


async def test_the_last_heartbeat_reaches_the_next_attempt_however_many_came_before(client: Client) -> None:
    async with new_worker(client, Beats, activities=[beats_and_fails]) as worker:
        told = await client.execute_workflow(Beats.run, id=unique(), task_queue=worker.task_queue)
    assert told == [49, "of fifty"]


async def test_ten_workers_on_one_queue_share_the_work(client: Client, address: str) -> None:
    clients = [await Client.connect(address, identity=f"{n}") for n in range(10)]
    queue = unique("queue")
    workers = [Worker(each, task_queue=queue, workflows=[Greet], activities=[greet]) for each in clients]
    runs = [asyncio.create_task(worker.run()) for worker in workers]
    ran = await asyncio.gather(
        *(client.execute_workflow(Greet.run, str(n), id=unique(), task_queue=queue) for n in range(30))
    )
    await asyncio.gather(*(worker.shutdown() for worker in workers))
    await asyncio.gather(*runs)
    assert ran == [f"Hello, {n}!" for n in range(30)]
