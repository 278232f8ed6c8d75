"""What a local activity is told of itself is what a remote one is told, but for where it runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support import new_worker, unique
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy

LONG = timedelta(seconds=50)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[activity.Info] = []

    @activity.defn
    async def watch(self) -> None:
        self.seen.append(activity.info())


POLICIES = [
    None,
    RetryPolicy(),
    RetryPolicy(maximum_attempts=3),
    RetryPolicy(initial_interval=timedelta(seconds=3), backoff_coefficient=1.0),
    RetryPolicy(maximum_interval=timedelta(seconds=7), non_retryable_error_types=["Odd"]),
]


@workflow.defn(sandboxed=False)
class Both:
    @workflow.run
    async def run(self, which: int) -> None:
        policy = POLICIES[which]
        await workflow.execute_local_activity_method(Watcher.watch, start_to_close_timeout=LONG, retry_policy=policy)
        await workflow.execute_activity_method(Watcher.watch, start_to_close_timeout=LONG, retry_policy=policy)


@pytest.mark.parametrize("which", range(len(POLICIES)))
async def test_a_local_activity_knows_its_retry_policy_as_a_remote_one(client: Client, which: int) -> None:
    watcher = Watcher()
    async with new_worker(client, Both, activities=[watcher.watch]) as worker:
        await client.execute_workflow(Both.run, which, id=unique(), task_queue=worker.task_queue)
    local, remote = watcher.seen
    assert (local.is_local, remote.is_local) == (True, False)
    assert local.retry_policy and remote.retry_policy
    for what in ["initial_interval", "backoff_coefficient", "maximum_interval", "maximum_attempts"]:
        assert getattr(local.retry_policy, what) == getattr(remote.retry_policy, what), what
    for what in ["attempt", "priority", "start_to_close_timeout", "task_queue", "workflow_id", "workflow_type"]:
        assert getattr(local, what) == getattr(remote, what), what
