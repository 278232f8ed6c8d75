"""The workflows that are measured: as little code of their own as there can be."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def step(number: int) -> int:
    return number + 1


@workflow.defn
class Steps:
    """Activities one after the other, each fed the result of the one before."""

    @workflow.run
    async def run(self, count: int) -> int:
        number = 0
        while number < count:
            number = await workflow.execute_activity(step, number, start_to_close_timeout=timedelta(seconds=60))
        return number


@workflow.defn
class Blocked:
    """Waits for a signal."""

    def __init__(self) -> None:
        self.released = False

    @workflow.signal
    def release(self) -> None:
        self.released = True

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.released)
