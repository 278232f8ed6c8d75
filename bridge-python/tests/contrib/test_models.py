"""Pydantic's models through the package's converter, inside and outside of the sandbox; and state that each run has alone."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel, Field
    from support import eventually, new_worker, unique
    from temporalio.client import Client
    from temporalio.contrib.pydantic import pydantic_data_converter

BRIEF = timedelta(seconds=20)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Part(BaseModel):
    name: str = Field(min_length=1)
    price: Decimal
    size: Size


class Order(BaseModel):
    id: uuid.UUID
    at: datetime
    due: date
    lasts: timedelta
    host: IPv4Address
    parts: list[Part]
    by_name: dict[str, Part]
    either: Part | int
    pair: tuple[int, str]


def order() -> Order:
    part = Part(name="wheel", price=Decimal("1.50"), size=Size.LARGE)
    return Order(
        id=uuid.uuid4(),
        at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        due=date(2025, 2, 3),
        lasts=timedelta(days=1, seconds=2),
        host=IPv4Address("10.0.0.1"),
        parts=[part, part],
        by_name={"wheel": part},
        either=part,
        pair=(1, "one"),
    )


@activity.defn
async def pack(orders: list[Order]) -> list[Order]:
    assert all(isinstance(one, Order) and isinstance(one.parts[0].size, Size) for one in orders)
    return orders


@workflow.defn
class Shop:
    @workflow.run
    async def run(self, orders: list[Order], loose: tuple[int, dict[str, float], datetime, uuid.UUID]) -> list[Order]:
        assert all(isinstance(one, Order) for one in orders)
        assert isinstance(loose[2], datetime) and isinstance(loose[3], uuid.UUID)
        again = [one.model_copy(deep=True) for one in orders]
        assert Part.model_validate(again[0].parts[0].model_dump()) == orders[0].parts[0]
        assert workflow.now() > orders[0].at
        return await workflow.execute_activity(pack, again, start_to_close_timeout=BRIEF)


async def test_models_come_through_whole(client: Client) -> None:
    config = client.config()
    config["data_converter"] = pydantic_data_converter
    client = Client(**config)
    orders = [order(), order()]
    loose: Any = (7, {"seven": 7.0}, datetime(2025, 1, 2, 3, 4, 5), uuid.uuid4())
    async with new_worker(client, Shop, activities=[pack]) as worker:
        came = await client.execute_workflow(
            Shop.run, args=[orders, loose], id=unique(), task_queue=worker.task_queue
        )
    assert came == orders


words = ["of the module"]


@workflow.defn
class Noting:
    """Notes in a global, which is its own in the sandbox."""

    def __init__(self) -> None:
        words.append("made")

    @workflow.run
    async def run(self) -> list[str]:
        words.append("runs")
        await workflow.wait_condition(lambda: "end" in words)
        return words

    @workflow.signal
    def note(self, word: str) -> None:
        words.append(word)

    @workflow.query
    def noted(self) -> list[str]:
        return words


async def test_every_run_has_its_own_globals(client: Client) -> None:
    async with new_worker(client, Noting) as worker:
        handles = [
            await client.start_workflow(Noting.run, id=unique(), task_queue=worker.task_queue) for _ in range(10)
        ]

        async def run() -> None:
            for handle in handles:
                assert "runs" in await handle.query(Noting.noted)

        await eventually(run)
        for number, handle in enumerate(handles):
            await handle.signal(Noting.note, f"{number}")
        for handle in handles:
            await handle.signal(Noting.note, "end")
        for number, handle in enumerate(handles):
            assert await handle.result() == ["of the module", "made", "runs", f"{number}", "end"]
    assert words == ["of the module"]
