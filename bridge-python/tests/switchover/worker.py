"""A worker of the fleet: `python -m switchover.worker ENGINE ADDRESS QUEUE CACHE`. It says `ready`, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta

from switchover.processes import use

use(sys.argv[1])

from switchover.fleet import Account, Doubler, double, flaky_double
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker


async def main(address: str, queue: str, cache: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Worker(
        await Client.connect(address),
        task_queue=queue,
        workflows=[Account, Doubler],
        activities=[double, flaky_double],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=int(cache),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
    ):
        print("ready", flush=True)
        await stopped.wait()


asyncio.run(main(*sys.argv[2:]))
