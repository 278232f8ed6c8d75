"""`python -m runtime.slow_tasks ENGINE ADDRESS`: a workflow whose payloads are kept in a store outside of history, and the warnings of tasks
that took long, as JSON. A process of its own, since the limit is read from the environment once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence

from switchover.processes import use

if __name__ == "__main__":
    use(sys.argv[1])

from logs import Kept, runtime
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


async def main(address: str) -> None:
    kept = Kept()
    storage = ExternalStorage(drivers=[Shelf()], payload_size_threshold=100)
    converter = dataclasses.replace(DataConverter.default, external_storage=storage)
    client = await Client.connect(address, runtime=runtime(kept, "WARN"), data_converter=converter)
    async with Worker(client, task_queue=unique(), workflows=[Echo]) as worker:
        handle = await client.start_workflow(Echo.run, "x" * 500, id=unique(), task_queue=worker.task_queue)
        await handle.result()
        run = handle.first_execution_run_id
    while len(kept.entries) < 2:
        await asyncio.sleep(0.01)
    warnings = [{"target": entry.target, "message": entry.message, **entry.fields} for entry in kept.entries]
    print(json.dumps({"run": run, "warnings": warnings}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2]))
