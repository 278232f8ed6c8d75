"""A worker of the soak: `python -m soak.worker ENGINE ADDRESS QUEUE CACHE`. It says `ready`, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta

from switchover.processes import use

use(sys.argv[1])

from soak.workflows import Interpreter, compute, forever
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker


async def main(address: str, queue: str, cache: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Worker(
        await Client.connect(address),
        task_queue=queue,
        workflows=[Interpreter],
        activities=[compute, forever],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=int(cache),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        # An endless activity hears of its cancellation with a heartbeat.
        max_heartbeat_throttle_interval=timedelta(milliseconds=200),
    ):
        print("ready", flush=True)
        await stopped.wait()


asyncio.run(main(*sys.argv[2:]))
