"""How a worker ends: idle, with activities inside and outside their grace, with workflow tasks in flight."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from support import eventually, new_worker, unique
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter, PayloadCodec
from temporalio.worker import Worker

from worker.programs import BRIEF, Collect, Echo, Greet, events, greet, kinds, only


async def test_an_idle_worker_shuts_down_while_its_polls_are_open(client: Client) -> None:
    worker = new_worker(client, Greet, activities=[greet])
    assert (worker.is_running, worker.is_shutdown) == (False, False)
    running = asyncio.create_task(worker.run())

    async def started() -> None:
        assert worker.is_running

    await eventually(started)
    await worker.shutdown()
    await running
    assert (worker.is_running, worker.is_shutdown) == (False, True)
    await worker.shutdown()


async def test_a_shutdown_before_the_start_ends_the_run_at_once(client: Client) -> None:
    worker = new_worker(client, Greet, activities=[greet])
    down = asyncio.create_task(worker.shutdown())
    await asyncio.sleep(0)
    await worker.run()
    await down
    assert worker.is_shutdown


async def test_a_worker_runs_once(client: Client) -> None:
    worker = new_worker(client, Echo)
    async with worker:

        async def started() -> None:
            assert worker.is_running

        await eventually(started)
        with pytest.raises(RuntimeError, match="^Already started$"):
            await worker.__aenter__()


async def test_cancelling_the_run_shuts_the_worker_down(client: Client) -> None:
    worker = new_worker(client, Greet, activities=[greet])
    running = asyncio.create_task(worker.run())
    await client.execute_workflow(Greet.run, "you", id=unique(), task_queue=worker.task_queue)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.is_shutdown


async def test_an_error_in_the_body_shuts_the_worker_down_and_goes_on_up(client: Client) -> None:
    worker = new_worker(client, Echo)
    with pytest.raises(LookupError, match="mine"):
        async with worker:
            await client.execute_workflow(Echo.run, 1, id=unique(), task_queue=worker.task_queue)
            raise LookupError("mine")
    assert worker.is_shutdown


class Slow:
    """An activity that starts, and ends when told or when cancelled."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.noticed = asyncio.Event()
        self.proceed = asyncio.Event()
        self.cancelled_by_shutdown: bool | None = None

    @activity.defn(name="slow")
    async def slow(self) -> str:
        self.started.set()
        try:
            await activity.wait_for_worker_shutdown()
            self.noticed.set()
            await self.proceed.wait()
            return "done"
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            self.cancelled_by_shutdown = details is not None and details.worker_shutdown
            raise


@workflow.defn
class RunSlow:
    @workflow.run
    async def run(self, local: bool) -> str:
        start = workflow.execute_local_activity if local else workflow.execute_activity
        result: str = await start("slow", start_to_close_timeout=BRIEF, result_type=str)
        return result


async def test_an_activity_that_ends_within_the_grace_counts(client: Client) -> None:
    slow = Slow()
    queue = unique("queue")
    grace = timedelta(seconds=60)
    async with Worker(client, task_queue=queue, activities=[slow.slow], graceful_shutdown_timeout=grace) as hands:
        async with Worker(client, task_queue=queue, workflows=[RunSlow]):
            handle = await client.start_workflow(RunSlow.run, False, id=unique(), task_queue=queue)
            await slow.started.wait()
            down = asyncio.create_task(hands.shutdown())
            await slow.noticed.wait()
            assert not down.done()
            slow.proceed.set()
            await down
            assert await handle.result() == "done"
    assert slow.cancelled_by_shutdown is None


async def test_an_activity_is_cancelled_after_the_grace_and_retried_elsewhere(client: Client) -> None:
    slow = Slow()
    queue = unique("queue")
    grace = timedelta(milliseconds=50)
    async with Worker(client, task_queue=queue, workflows=[RunSlow]):
        async with Worker(client, task_queue=queue, activities=[slow.slow], graceful_shutdown_timeout=grace):
            handle = await client.start_workflow(RunSlow.run, False, id=unique(), task_queue=queue)
            await slow.started.wait()
        assert slow.cancelled_by_shutdown is True
        [pending] = (await handle.describe()).raw_description.pending_activities
        assert pending.last_failure.application_failure_info.type == "WorkerShutdown"
        assert pending.last_failure.message == "Worker is shutting down and this activity did not complete in time"

        @activity.defn(name="slow")
        async def quick() -> str:
            return f"attempt {activity.info().attempt}"

        async with Worker(client, task_queue=queue, activities=[quick]):
            assert await handle.result() == "attempt 2"


async def test_without_a_grace_activities_are_cancelled_at_once(client: Client) -> None:
    slow = Slow()
    async with new_worker(client, RunSlow, activities=[slow.slow]) as worker:
        await client.start_workflow(RunSlow.run, False, id=unique(), task_queue=worker.task_queue)
        await slow.started.wait()
    assert slow.cancelled_by_shutdown is True


async def test_a_thread_learns_of_the_shutdown_and_is_waited_for(client: Client) -> None:
    started, seen = threading.Event(), []

    @activity.defn(name="slow")
    def slow() -> str:
        started.set()
        activity.wait_for_worker_shutdown_sync(timedelta(seconds=60))
        seen.append(activity.is_worker_shutdown())
        return "done"

    queue = unique("queue")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        async with Worker(client, task_queue=queue, workflows=[RunSlow]):
            async with Worker(
                client,
                task_queue=queue,
                activities=[slow],
                activity_executor=pool,
                max_concurrent_activities=4,
                graceful_shutdown_timeout=timedelta(seconds=60),
            ):
                handle = await client.start_workflow(RunSlow.run, False, id=unique(), task_queue=queue)
                await asyncio.get_running_loop().run_in_executor(None, started.wait)
            assert seen == [True]
            assert await handle.result() == "done"


@pytest.mark.parametrize("grace", [0, 60])
async def test_a_local_activity_is_waited_for_whatever_the_grace(client: Client, grace: int) -> None:
    slow = Slow()
    async with new_worker(
        client, RunSlow, activities=[slow.slow], graceful_shutdown_timeout=timedelta(seconds=grace)
    ) as worker:
        handle = await client.start_workflow(RunSlow.run, True, id=unique(), task_queue=worker.task_queue)
        await slow.started.wait()
        down = asyncio.create_task(worker.shutdown())
        await slow.noticed.wait()
        assert not down.done()
        slow.proceed.set()
        await down
    assert kinds(await events(handle))[-3:] == [
        "WORKFLOW_TASK_COMPLETED",
        "MARKER_RECORDED",
        "WORKFLOW_EXECUTION_COMPLETED",
    ]
    assert slow.cancelled_by_shutdown is None


class Gate(PayloadCodec):
    """Holds back what it encodes while closed."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.reached.set()
        await self.open.wait()
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


async def test_a_workflow_task_in_flight_is_finished_and_reported(client: Client) -> None:
    gate = Gate()
    config = client.config()
    config["data_converter"] = replace(DataConverter.default, payload_codec=gate)
    async with new_worker(Client(**config), Echo) as worker:
        handle = await client.start_workflow(Echo.run, "last words", id=unique(), task_queue=worker.task_queue)
        await gate.reached.wait()
        down = asyncio.create_task(worker.shutdown())
        await asyncio.sleep(0)
        assert not down.done()
        gate.open.set()
        await down
        assert kinds(await events(handle)) == [
            "WORKFLOW_EXECUTION_STARTED",
            "WORKFLOW_TASK_SCHEDULED",
            "WORKFLOW_TASK_STARTED",
            "WORKFLOW_TASK_COMPLETED",
            "WORKFLOW_EXECUTION_COMPLETED",
        ]
    assert await handle.result() == "last words"


async def test_a_run_goes_on_with_the_next_worker_on_the_queue(client: Client) -> None:
    queue = unique("queue")
    names = [unique("worker") for _ in range(3)]
    handle = await client.start_workflow(Collect.run, id=unique(), task_queue=queue)
    for number, name in enumerate(names):
        async with Worker(client, task_queue=queue, workflows=[Collect], identity=name):
            assert await handle.execute_update(Collect.ask, str(number)) == number + 1
    async with Worker(client, task_queue=queue, workflows=[Collect]):
        await handle.signal(Collect.say, "stop")
        assert await handle.result() == ["0", "1", "2", "stop"]
    tasks = [event.workflow_task_completed_event_attributes.identity for event in await events(handle)]
    assert list(dict.fromkeys(name for name in tasks if name))[:3] == names


async def test_the_sticky_queue_is_given_up_so_that_the_next_worker_need_not_wait(client: Client) -> None:
    queue = unique("queue")
    patience = timedelta(minutes=10)
    async with Worker(
        client, task_queue=queue, workflows=[Collect], sticky_queue_schedule_to_start_timeout=patience
    ):
        handle = await client.start_workflow(Collect.run, id=unique(), task_queue=queue)
        await handle.execute_update(Collect.ask, "a")
    async with Worker(client, task_queue=queue, workflows=[Collect]):
        await handle.signal(Collect.say, "stop")
        assert await handle.result() == ["a", "stop"]
    assert "WORKFLOW_TASK_TIMED_OUT" not in kinds(await events(handle))


async def test_many_workers_come_and_go_on_one_client(client: Client) -> None:
    queue = unique("queue")
    for number in range(10):
        async with Worker(client, task_queue=queue, workflows=[Echo]):
            handle = await client.start_workflow(Echo.run, number, id=unique(), task_queue=queue)
            assert await handle.result() == number
        only(await events(handle), "WORKFLOW_TASK_COMPLETED")
