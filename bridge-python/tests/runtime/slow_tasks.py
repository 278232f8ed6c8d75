"""`python -m runtime.slow_tasks ENGINE ADDRESS`: a workflow whose payloads are kept in a store outside of history, and the warnings of tasks
that took long, as JSON. A process of its own, since the limit is read from the environment once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence

from switchover.processes import use

if __name__ == "__main__":
    use(sys.argv[1])

from support import unique
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker


class Shelf(StorageDriver):
    """Keeps payloads in this process."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def name(self) -> str:
        return "shelf"

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        first = len(self.kept)
        self.kept += [payload.SerializeToString() for payload in payloads]
        return [StorageDriverClaim({"place": str(place)}) for place in range(first, len(self.kept))]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return [Payload.FromString(self.kept[int(claim.claim_data["place"])]) for claim in claims]


@workflow.defn(sandboxed=False)
class Echo:
    @workflow.run
    async def run(self, text: str) -> str:
        await asyncio.sleep(0.01)
        return text


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)


async def main(address: str) -> None:
    records = Records()
    logger = logging.getLogger("slow")
    logger.propagate = False
    logger.addHandler(records)
    forwarding = LogForwardingConfig(logger=logger, append_target_to_name=False, prepend_target_on_message=False)
    runtime = Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="WARN", forwarding=forwarding)))
    storage = ExternalStorage(drivers=[Shelf()], payload_size_threshold=100)
    converter = dataclasses.replace(DataConverter.default, external_storage=storage)
    client = await Client.connect(address, runtime=runtime, data_converter=converter)
    async with Worker(client, task_queue=unique(), workflows=[Echo]) as worker:
        handle = await client.start_workflow(Echo.run, "x" * 500, id=unique(), task_queue=worker.task_queue)
        await handle.result()
        run = handle.first_execution_run_id
    while len(records.all) < 2:
        await asyncio.sleep(0.01)
    warnings = [
        {"target": record.temporal_log.target, "message": record.temporal_log.message, **record.temporal_log.fields}  # type: ignore[attr-defined]
        for record in records.all
    ]
    print(json.dumps({"run": run, "warnings": warnings}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2]))
