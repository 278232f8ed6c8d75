"""How much a worker does at once: slots, tuners, pollers, rates; and the sizes it refuses to send."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from limits import REFUSED
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import (
    FixedSizeSlotSupplier,
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    WorkerTuner,
)

from worker.programs import BRIEF, ONCE, Collect, FanOut, Greet, GreetLocally, double, events, greet, kinds
from worker.suppliers import Ledger


class Crowd:
    """An activity that counts how many of it run at once, and waits until so many do."""

    def __init__(self, full: int) -> None:
        self.full, self.running, self.most = full, 0, 0
        self.together = asyncio.Event()

    @activity.defn(name="crowd")
    async def join(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == self.full:
            self.together.set()
        await self.together.wait()
        await asyncio.sleep(0.02)
        self.running -= 1
        return number


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrent_activities": 2},
        {"tuner": WorkerTuner.create_fixed(activity_slots=2)},
        {
            "tuner": WorkerTuner.create_resource_based(
                target_memory_usage=0.99,
                target_cpu_usage=1.0,
                activity_config=ResourceBasedSlotConfig(minimum_slots=2, maximum_slots=2),
            )
        },
    ],
    ids=["option", "fixed tuner", "resource-based tuner"],
)
@pytest.mark.parametrize("eager", [True, False])
async def test_two_slots_run_two_activities_at_once_and_never_three(
    client: Client, options: dict[str, Any], eager: bool
) -> None:
    crowd = Crowd(full=2)
    async with new_worker(
        client, FanOut, activities=[crowd.join], disable_eager_activity_execution=not eager, **options
    ) as worker:
        ran = await client.execute_workflow(FanOut.run, args=["crowd", 7], id=unique(), task_queue=worker.task_queue)
    assert ran == list(range(7))
    assert crowd.most == 2


async def test_local_activities_have_slots_of_their_own(client: Client) -> None:
    crowd = Crowd(full=3)
    async with new_worker(
        client, FanOut, activities=[crowd.join], max_concurrent_local_activities=3, max_concurrent_activities=1
    ) as worker:
        ran = await client.execute_workflow(
            FanOut.run, args=["crowd", 7, True], id=unique(), task_queue=worker.task_queue
        )
    assert ran == list(range(7))
    assert crowd.most == 3


async def test_one_activity_slot_and_one_poller_get_through_many_activities(client: Client) -> None:
    crowd = Crowd(full=1)
    async with new_worker(
        client,
        FanOut,
        activities=[crowd.join],
        max_concurrent_activities=1,
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(1),
    ) as worker:
        ran = await client.execute_workflow(FanOut.run, args=["crowd", 6], id=unique(), task_queue=worker.task_queue)
    assert (ran, crowd.most) == (list(range(6)), 1)


async def test_two_workflow_slots_get_through_many_workflows(client: Client) -> None:
    async with new_worker(client, Collect, max_concurrent_workflow_tasks=2) as worker:
        queue = worker.task_queue
        handles = [await client.start_workflow(Collect.run, id=unique(), task_queue=queue) for _ in range(10)]
        await asyncio.gather(*(handle.signal(Collect.say, "stop") for handle in handles))
        assert [await handle.result() for handle in handles] == [["stop"]] * 10


async def test_a_tuner_is_put_together_of_different_suppliers(client: Client) -> None:
    target = ResourceBasedTunerConfig(target_memory_usage=0.99, target_cpu_usage=1.0)
    slots = Ledger()
    tuner = WorkerTuner.create_composite(
        workflow_supplier=FixedSizeSlotSupplier(5),
        activity_supplier=ResourceBasedSlotSupplier(ResourceBasedSlotConfig(minimum_slots=1, maximum_slots=9), target),
        local_activity_supplier=slots,
        nexus_supplier=ResourceBasedSlotSupplier(ResourceBasedSlotConfig(ramp_throttle=timedelta(0)), target),
    )
    async with new_worker(client, Greet, GreetLocally, activities=[greet], tuner=tuner) as worker:
        for program in (Greet.run, GreetLocally.run):
            assert await client.execute_workflow(program, "a", id=unique(), task_queue=worker.task_queue) == "Hello, a!"
    assert len(slots.used) == 1


async def test_a_resource_based_tuner_gives_its_least_even_when_the_machine_is_full(client: Client) -> None:
    tuner = WorkerTuner.create_resource_based(target_memory_usage=0.0, target_cpu_usage=0.0)
    async with new_worker(client, FanOut, activities=[double], tuner=tuner) as worker:
        ran = await client.execute_workflow(FanOut.run, args=["double", 5], id=unique(), task_queue=worker.task_queue)
    assert ran == [0, 2, 4, 6, 8]


async def test_autoscaling_pollers_get_through_a_burst(client: Client) -> None:
    scaling = PollerBehaviorAutoscaling(minimum=1, maximum=10, initial=2)
    async with new_worker(
        client,
        FanOut,
        activities=[double],
        workflow_task_poller_behavior=scaling,
        activity_task_poller_behavior=scaling,
        nexus_task_poller_behavior=scaling,
        disable_eager_activity_execution=True,
    ) as worker:
        queue = worker.task_queue
        ran = await asyncio.gather(
            *(client.execute_workflow(FanOut.run, args=["double", 3], id=unique(), task_queue=queue) for _ in range(20))
        )
    assert ran == [[0, 2, 4]] * 20


async def test_autoscaling_from_one_poller_needs_no_more(client: Client) -> None:
    one = PollerBehaviorAutoscaling(minimum=1, maximum=1, initial=1)
    async with new_worker(
        client, Greet, activities=[greet], activity_task_poller_behavior=one, max_cached_workflows=0
    ) as worker:
        assert await client.execute_workflow(Greet.run, "a", id=unique(), task_queue=worker.task_queue) == "Hello, a!"


async def test_a_rate_of_activities_slows_but_loses_nothing(client: Client) -> None:
    async with new_worker(
        client,
        FanOut,
        activities=[double],
        max_activities_per_second=20.0,
        max_task_queue_activities_per_second=500.0,
        disable_eager_activity_execution=True,
    ) as worker:
        loop = asyncio.get_running_loop()
        start = loop.time()
        ran = await client.execute_workflow(FanOut.run, args=["double", 30], id=unique(), task_queue=worker.task_queue)
        # With twenty a second at once and twenty a second after, thirty take half a second at the least.
        assert loop.time() - start > 0.4
    assert ran == [2 * n for n in range(30)]


@activity.defn
async def bulky(size: int) -> str:
    return "x" * size


@workflow.defn
class Bulky:
    """An activity's or its own result of that size."""

    @workflow.run
    async def run(self, size: int, by_activity: bool) -> Any:
        if by_activity:
            return len(
                await workflow.execute_activity(bulky, size, start_to_close_timeout=BRIEF, retry_policy=ONCE)
            )
        return "x" * size


TOO_MUCH = 3 * 1024 * 1024


async def test_an_activity_whose_result_is_too_large_fails_with_the_rule(client: Client) -> None:
    async with new_worker(client, Bulky, activities=[bulky]) as worker:
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Bulky.run, args=[TOO_MUCH, True], id=unique(), task_queue=worker.task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    cause = failed.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.message == REFUSED
    assert cause.type == "PayloadsTooLarge"


async def test_a_workflow_whose_result_is_too_large_fails_its_task_and_lives(client: Client) -> None:
    async with new_worker(client, Bulky, activities=[bulky]) as worker:
        handle = await client.start_workflow(
            Bulky.run, args=[TOO_MUCH, False], id=unique(), task_queue=worker.task_queue
        )

        async def failed() -> None:
            history = await events(handle)
            failures = [event for event, kind in zip(history, kinds(history)) if kind == "WORKFLOW_TASK_FAILED"]
            assert failures
            told = failures[0].workflow_task_failed_event_attributes.failure.message
            assert "[TMPRL1103] Attempted to upload payloads with size" in told

        await eventually(failed)
        await handle.terminate()


async def test_without_the_limit_the_server_decides(client: Client) -> None:
    async with new_worker(client, Bulky, activities=[bulky], disable_payload_error_limit=True) as worker:
        with pytest.raises(WorkflowFailureError) as failed:
            await client.execute_workflow(Bulky.run, args=[TOO_MUCH, True], id=unique(), task_queue=worker.task_queue)
    assert isinstance(failed.value.cause, ActivityError)
    assert "TMPRL1103" not in str(failed.value.cause.cause)


