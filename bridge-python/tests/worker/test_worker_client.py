"""The connection of a worker: exchanged while it runs, to a namespace that is not there, broken for good."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import time

import pytest
from support import eventually, new_worker, unique
from temporalio import activity
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from worker.programs import Collect, Echo, FanOut, Greet, double, events, greet


async def test_a_worker_goes_on_with_the_client_that_replaces_its_own(client: Client, address: str) -> None:
    one = await Client.connect(address, identity=unique("one"))
    two = await Client.connect(address, identity=unique("two"))
    async with new_worker(one, Collect) as worker:
        handle = await client.start_workflow(Collect.run, id=unique(), task_queue=worker.task_queue)
        await handle.execute_update(Collect.ask, "before")
        worker.client = two
        assert worker.client is two

        async def taken_over() -> None:
            await handle.execute_update(Collect.ask, "after")
            tasks = [event.workflow_task_completed_event_attributes.identity for event in await events(handle)]
            done_by = [name for name in tasks if name]
            assert done_by[0] == one.service_client.config.identity
            assert done_by[-1] == two.service_client.config.identity

        await eventually(taken_over)
        await handle.signal(Collect.say, "stop")
        assert (await handle.result())[0] == "before"


async def test_the_registration_of_a_worker_moves_with_its_client(client: Client, address: str) -> None:
    one, two = await Client.connect(address), await Client.connect(address)
    queue = unique("queue")
    async with Worker(one, task_queue=queue, workflows=[Echo]) as moved:
        moved.client = two
        with pytest.raises(RuntimeError, match="overlapping worker task types"):
            Worker(two, task_queue=queue, workflows=[Echo])
        Worker(one, task_queue=queue, workflows=[Echo])


async def test_a_client_is_not_taken_if_its_worker_would_overlap(client: Client, address: str) -> None:
    one, two = await Client.connect(address), await Client.connect(address)
    queue = unique("queue")
    async with (
        Worker(one, task_queue=queue, workflows=[Echo]) as first,
        Worker(two, task_queue=queue, workflows=[Echo]),
    ):
        with pytest.raises(ValueError, match="^Failed replacing client: .*overlapping worker task types"):
            first.client = two
        assert first.client is one
        ran = [await client.execute_workflow(Echo.run, i, id=unique(), task_queue=queue) for i in range(3)]
        assert ran == [0, 1, 2]


async def test_a_client_of_another_runtime_is_refused(client: Client, address: str) -> None:
    stranger = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig()))
    async with new_worker(client, Echo) as worker:
        with pytest.raises(ValueError, match="^New client is not on the same runtime as the existing client$"):
            worker.client = stranger
        assert worker.client is client


async def test_a_lazy_client_cannot_have_workers(address: str) -> None:
    lazy = await Client.connect(address, lazy=True)
    with pytest.raises(RuntimeError, match="^Lazy clients cannot be used for workers"):
        new_worker(lazy, Echo)


async def test_a_namespace_that_is_not_there_ends_the_run_before_it_began(client: Client) -> None:
    config = client.config()
    config["namespace"] = unique("nowhere")
    worker = new_worker(Client(**config), Greet, activities=[greet])
    with pytest.raises(RuntimeError) as ended:
        await worker.run()
    text = str(ended.value)
    assert text.startswith(
        f"Worker validation failed: Namespace {config['namespace']} was not found or otherwise could not be described: "
    )
    assert f"Namespace {config['namespace']} is not found" in text
    assert worker.is_shutdown and not worker.is_running


async def test_the_body_is_cancelled_and_the_error_shown_if_the_worker_cannot_start(client: Client) -> None:
    config = client.config()
    config["namespace"] = unique("nowhere")
    with pytest.raises(RuntimeError, match="^Worker validation failed: Namespace"):
        async with new_worker(Client(**config), Echo):
            await asyncio.Event().wait()


@pytest.mark.timeout(180)
async def test_a_namespace_that_vanishes_under_a_worker_is_fatal_after_a_minute_and_told_once(client: Client) -> None:
    cli = os.path.join(os.path.dirname(sys.executable), "temporal")
    told: list[BaseException] = []

    async def tell(error: BaseException) -> None:
        told.append(error)

    namespace = unique("only-here")
    async with await WorkflowEnvironment.start_local(
        namespace=namespace, dev_server_existing_path=os.environ.get("OUTLAST_TEMPORAL_BIN", cli), ip="127.0.0.1"
    ) as elsewhere:
        worker = new_worker(
            elsewhere.client, Echo, on_fatal_error=tell, max_cached_workflows=0, max_concurrent_workflow_task_polls=1
        )
        running = asyncio.create_task(worker.run())
        queue = worker.task_queue
        await elsewhere.client.execute_workflow(Echo.run, 1, id=unique(), task_queue=queue)
        worker.client = client  # whose server does not know the namespace
        # The poll that is open still belongs to the first server; with work it ends.
        await elsewhere.client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
        refused = time.monotonic()
        with pytest.raises(RuntimeError, match="^Workflow worker failed$") as ended:
            await running
        assert time.monotonic() - refused > 55
        cause = str(ended.value.__cause__)
        assert cause.startswith("Poll failure: Unhandled grpc error when polling: ")
        assert f"Namespace {namespace} is not found" in cause
        assert told == [ended.value]
        assert worker.is_shutdown


async def test_an_executor_that_breaks_is_fatal_and_the_queue_is_free_again(client: Client) -> None:
    class Broken(concurrent.futures.ThreadPoolExecutor):
        def submit(  # type: ignore[override]
            self, *args: object, **kwargs: object
        ) -> concurrent.futures.Future[object]:
            raise concurrent.futures.BrokenExecutor("out of order")

    @activity.defn(name="double")
    def breaks(number: int) -> int:
        return number

    told: list[BaseException] = []

    async def fails_to_tell(error: BaseException) -> None:
        told.append(error)
        raise RuntimeError("swallowed")

    queue = unique("queue")
    handle = await client.start_workflow(FanOut.run, args=["double", 1], id=unique(), task_queue=queue)
    with Broken(2) as pool:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[FanOut],
            activities=[breaks],
            activity_executor=pool,
            max_concurrent_activities=2,
            on_fatal_error=fails_to_tell,
        )
        with pytest.raises(RuntimeError, match="^Activity worker failed$") as ended:
            await worker.run()
    assert told == [ended.value]
    assert isinstance(ended.value.__cause__, concurrent.futures.BrokenExecutor)
    assert worker.is_shutdown
    async with Worker(client, task_queue=queue, workflows=[FanOut], activities=[double]):
        assert await handle.result() == [0]
