"""The workflows and activities that the client's tests talk to. Their worker is in `conftest.py`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError

TEXT = SearchAttributeKey.for_text("OutlastText")
KEYWORD = SearchAttributeKey.for_keyword("OutlastKeyword")
INT = SearchAttributeKey.for_int("OutlastInt")
DOUBLE = SearchAttributeKey.for_float("OutlastDouble")
BOOL = SearchAttributeKey.for_bool("OutlastBool")
TIME = SearchAttributeKey.for_datetime("OutlastTime")
LIST = SearchAttributeKey.for_keyword_list("OutlastList")


@activity.defn
async def refuse(reason: str) -> None:
    raise ApplicationError(reason, "detail", type="Refused", non_retryable=True)


@workflow.defn
class Echo:
    """Returns what it is given."""

    @workflow.run
    async def run(self, value: Any) -> Any:
        return value


@workflow.defn
class Box:
    """Keeps the numbers it is sent until it is closed, then returns them."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.closed = False
        self.gate_open = False

    @workflow.run
    async def run(self) -> list[int]:
        await workflow.wait_condition(lambda: self.closed)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.values

    @workflow.signal
    async def put(self, value: int) -> None:
        self.values.append(value)

    @workflow.signal
    async def put_both(self, first: int, second: int) -> None:
        self.values += [first, second]

    @workflow.signal
    async def open_gate(self) -> None:
        self.gate_open = True

    @workflow.signal
    async def close(self) -> None:
        self.closed = True

    @workflow.query
    def content(self) -> list[int]:
        return self.values

    @workflow.query
    def at_least(self, limit: int) -> list[int]:
        return [value for value in self.values if value >= limit]

    @workflow.query
    def broken(self) -> None:
        raise ApplicationError("the box is broken")

    @workflow.update
    async def add(self, value: int) -> int:
        """Adds `value` and returns the sum; 13 is refused half way."""
        if value == 13:
            raise ApplicationError("no thirteen", "unlucky", type="Superstition")
        self.values.append(value)
        return sum(self.values)

    @add.validator
    def check(self, value: int) -> None:
        if value < 0:
            raise ValueError("must not be negative")

    @workflow.update
    async def add_behind_gate(self, value: int) -> int:
        """Is accepted at once and done when the gate is open."""
        await workflow.wait_condition(lambda: self.gate_open)
        self.values.append(value)
        return sum(self.values)


@workflow.defn
class Steps:
    """Continues as new until nothing is left, then returns the number of runs."""

    @workflow.run
    async def run(self, left: int, done: int = 1) -> int:
        if left:
            workflow.continue_as_new(args=[left - 1, done + 1])
        return done


@workflow.defn
class Fail:
    """Fails in the way it is told."""

    @workflow.run
    async def run(self, how: str) -> None:
        if how == "application":
            raise ApplicationError("it is over", 1, {"two": 2}, type="Over", non_retryable=True)
        if how == "chain":
            try:
                raise ApplicationError("the root", type="Root")
            except ApplicationError as error:
                raise ApplicationError("the top", type="Top") from error
        if how == "activity":
            await workflow.execute_activity(refuse, "not today", start_to_close_timeout=timedelta(seconds=10))
        if how == "child":
            await workflow.execute_child_workflow(Fail.run, "application", id=f"{workflow.info().workflow_id}-child")
        if how == "attempts" and workflow.info().attempt < 2:
            raise ApplicationError(f"attempt {workflow.info().attempt}")


@workflow.defn
class Wait:
    """Waits until it is cancelled; then ends as cancelled, or, if told, with a farewell."""

    @workflow.run
    async def run(self, farewell: str = "") -> str:
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            if not farewell:
                raise
        return farewell


WORKFLOWS = [Echo, Box, Steps, Fail, Wait]
ACTIVITIES = [refuse]
