"""The smallest program that uses everything once."""

from datetime import timedelta

from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment


@activity.defn
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=timedelta(seconds=10))


async def test_on_a_dev_server(client: Client) -> None:
    async with new_worker(client, Hello, activities=[greet]) as worker:
        assert await client.execute_workflow(Hello.run, "you", id=unique(), task_queue=worker.task_queue) == "Hello, you!"


async def test_on_the_time_skipping_server(skipping: WorkflowEnvironment) -> None:
    client = skipping.client
    async with new_worker(client, Hello, activities=[greet]) as worker:
        assert await client.execute_workflow(Hello.run, "you", id=unique(), task_queue=worker.task_queue) == "Hello, you!"
