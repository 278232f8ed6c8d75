"""Payloads: codecs on every path, converters of one's own, and contexts they are told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import found, new_worker, replay, task_failure
    from support import unique
    from temporalio.client import Client, WorkflowQueryFailedError, WorkflowUpdateFailedError
    from temporalio.converter import (
        ActivitySerializationContext,
        CompositePayloadConverter,
        DataConverter,
        DefaultFailureConverterWithEncodedAttributes,
        DefaultPayloadConverter,
        EncodingPayloadConverter,
        PayloadCodec,
        SerializationContext,
        WithSerializationContext,
        WorkflowSerializationContext,
    )

TIMEOUT = timedelta(seconds=20)
SECRET = "plain-secret"


class Hiding(PayloadCodec):
    """Hides payloads from whoever looks; no riddle, but enough to see who forgot it."""

    def __init__(self) -> None:
        self.encoded = 0
        self.decoded = 0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.encoded += len(payloads)
        hidden = [bytes(byte ^ 0x55 for byte in payload.SerializeToString()) for payload in payloads]
        return [Payload(metadata={"encoding": b"binary/hidden"}, data=data) for data in hidden]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.decoded += len(payloads)
        shown = []
        for payload in payloads:
            assert payload.metadata["encoding"] == b"binary/hidden", payload
            shown.append(Payload.FromString(bytes(byte ^ 0x55 for byte in payload.data)))
        return shown


@pytest.fixture
async def hiding(address: str) -> Client:
    """A client whose codec hides everything, failures too."""
    converter = DataConverter(
        payload_codec=Hiding(), failure_converter_class=DefaultFailureConverterWithEncodedAttributes
    )
    return await Client.connect(address, data_converter=converter)


@activity.defn
async def echo(words: list[str]) -> list[str]:
    activity.heartbeat(SECRET)
    return words


@activity.defn
async def fail(word: str) -> None:
    raise ApplicationError(word, word, type="Failed", non_retryable=True)


@workflow.defn
class Everywhere:
    """Sends one word along every path there is."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @workflow.run
    async def run(self, word: str, depth: int) -> list[str]:
        assert workflow.memo_value("word") == word
        workflow.upsert_memo({"upserted": word})
        await workflow.wait_condition(lambda: len(self.words) >= 2 or depth == 0)
        if depth:
            self.words += await workflow.execute_child_workflow(
                Everywhere.run,
                args=[word, depth - 1],
                id=workflow.info().workflow_id + "-child",
                memo={"word": word},
                static_summary=word,
            )
        self.words += await workflow.execute_activity(echo, [word], start_to_close_timeout=TIMEOUT, summary=word)
        self.words += await workflow.execute_local_activity(echo, [word], start_to_close_timeout=TIMEOUT)
        try:
            await workflow.execute_activity(fail, word, start_to_close_timeout=TIMEOUT)
        except ActivityError as error:
            assert isinstance(error.cause, ApplicationError)
            self.words += [error.cause.message, *error.cause.details]
        return self.words

    @workflow.signal
    def hear(self, word: str) -> None:
        self.words.append(word)

    @workflow.query
    def asked(self, word: str) -> str:
        if word == "fail":
            raise ApplicationError(SECRET)
        return word

    @workflow.update
    def told(self, word: str) -> str:
        self.words.append(word)
        return word

    @told.validator
    def check(self, word: str) -> None:
        if word == "refuse":
            raise ApplicationError(SECRET)


async def test_a_codec_hides_payloads_on_every_path(hiding: Client) -> None:
    async with new_worker(hiding, Everywhere, activities=[echo, fail]) as worker:
        handle = await hiding.start_workflow(
            Everywhere.run,
            args=[SECRET, 1],
            id=unique(),
            task_queue=worker.task_queue,
            memo={"word": SECRET},
            static_summary=SECRET,
            static_details=SECRET,
        )
        assert await handle.query(Everywhere.asked, SECRET) == SECRET
        with pytest.raises(WorkflowQueryFailedError, match="Encoded failure"):
            await handle.query(Everywhere.asked, "fail")
        await handle.signal(Everywhere.hear, SECRET)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(Everywhere.told, "refuse")
        assert str(caught.value.cause) == SECRET
        assert await handle.execute_update(Everywhere.told, SECRET) == SECRET
        assert await handle.result() == [SECRET] * 10
    described = await handle.describe()
    assert await described.memo() == {"word": SECRET, "upserted": SECRET}
    assert (await described.static_summary(), await described.static_details()) == (SECRET, SECRET)
    child = hiding.get_workflow_handle(handle.id + "-child")
    for run in (handle, child):
        history = await run.fetch_history()
        assert not [event for event in history.events if SECRET.encode() in event.SerializeToString()]
        await replay(run, Everywhere)
    codec = hiding.data_converter.payload_codec
    assert isinstance(codec, Hiding) and codec.encoded > 30 and codec.decoded > 30


class Failing(Hiding):
    """Cannot encode what contains a certain word."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(b"unspeakable" in payload.data for payload in payloads):
            raise RuntimeError("cannot be said")
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(b"unreadable" in payload.data for payload in payloads):
            raise RuntimeError("cannot be read")
        return list(payloads)


@workflow.defn
class Saying:
    @workflow.run
    async def run(self, word: str) -> str:
        return "unspeakable" if word == "speak" else word


@pytest.mark.parametrize("word", ["speak", "unreadable"])
async def test_a_codec_that_fails_fails_the_task(address: str, client: Client, word: str) -> None:
    failing = await Client.connect(address, data_converter=DataConverter(payload_codec=Failing()))
    async with new_worker(failing, Saying) as worker:
        handle = await client.start_workflow(
            Saying.run, word, id=unique(), task_queue=worker.task_queue, task_timeout=timedelta(seconds=1)
        )
        failure = await task_failure(handle)
    assert failure.message == ("Failed encoding completion: cannot be said" if word == "speak" else "cannot be read")
    async with new_worker(client, Saying, task_queue=worker.task_queue):
        assert await handle.result() == ("unspeakable" if word == "speak" else word)


@dataclasses.dataclass
class Point:
    x: int
    y: int


class PointConverter(EncodingPayloadConverter):
    """Writes points as two numbers."""

    @property
    def encoding(self) -> str:
        return "text/point"

    def to_payload(self, value: Any) -> Payload | None:
        if not isinstance(value, Point):
            return None
        return Payload(metadata={"encoding": self.encoding.encode()}, data=f"{value.x},{value.y}".encode())

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return Point(*map(int, payload.data.decode().split(",")))


class Points(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(PointConverter(), *DefaultPayloadConverter.default_encoding_payload_converters)


@activity.defn
async def mirror(point: Point) -> Point:
    return Point(point.y, point.x)


@workflow.defn(sandboxed=False)
class Mirroring:
    @workflow.run
    async def run(self, point: Point) -> Point:
        mirrored = await workflow.execute_activity(mirror, point, start_to_close_timeout=TIMEOUT)
        return Point(mirrored.x + 1, mirrored.y + 1)


async def test_a_converter_of_ones_own_is_used_everywhere(address: str) -> None:
    client = await Client.connect(address, data_converter=DataConverter(payload_converter_class=Points))
    async with new_worker(client, Mirroring, activities=[mirror]) as worker:
        handle = await client.start_workflow(Mirroring.run, Point(1, 2), id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == Point(3, 2)
    payloads = [
        (await found(handle, "workflow_execution_started"))[0].input,
        (await found(handle, "activity_task_scheduled"))[0].input,
        (await found(handle, "activity_task_completed"))[0].result,
        (await found(handle, "workflow_execution_completed"))[0].result,
    ]
    assert [payload.payloads[0].data for payload in payloads] == [b"1,2", b"1,2", b"2,1", b"3,2"]
    assert {payload.payloads[0].metadata["encoding"] for payload in payloads} == {b"text/point"}
    await replay(handle, Mirroring)


@activity.defn
async def same(value: Any) -> Any:
    return value


@workflow.defn
class Values:
    @workflow.run
    async def run(self, values: list[Any]) -> list[Any]:
        return [await workflow.execute_activity(same, value, start_to_close_timeout=TIMEOUT) for value in values]


async def test_values_of_all_kinds_cross_unchanged(client: Client) -> None:
    text = "\u00fcn\u00ef\u0000 \U0001f642"
    values: list[Any] = [None, True, -(2**62), 1.5, "", text, [], [[]], {}, {"a": [None, {"b": False}]}]
    async with new_worker(client, Values, activities=[same]) as worker:
        handle = await client.start_workflow(Values.run, values, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == values
    encodings = [
        event.input.payloads[0].metadata["encoding"] for event in await found(handle, "activity_task_scheduled")
    ]
    assert encodings == [b"binary/null", *[b"json/plain"] * 9]
    await replay(handle, Values)


@workflow.defn
class Bytes:
    @workflow.run
    async def run(self, data: bytes) -> bytes:
        return await workflow.execute_activity(reverse, data, start_to_close_timeout=TIMEOUT)


@activity.defn
async def reverse(data: bytes) -> bytes:
    return data[::-1]


async def test_bytes_cross_as_they_are(client: Client) -> None:
    data = bytes(range(256)) * 1000
    async with new_worker(client, Bytes, activities=[reverse]) as worker:
        handle = await client.start_workflow(Bytes.run, data, id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == data[::-1]
    scheduled = (await found(handle, "activity_task_scheduled"))[0].input.payloads[0]
    assert (scheduled.metadata["encoding"], scheduled.data) == (b"binary/plain", data)
    await replay(handle, Bytes)


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None:
        return None


async def test_no_arguments_are_no_payloads_and_no_result_is_a_null(client: Client) -> None:
    async with new_worker(client, Nothing) as worker:
        handle = await client.start_workflow(Nothing.run, id=unique(), task_queue=worker.task_queue)
        await handle.result()
    assert not (await found(handle, "workflow_execution_started"))[0].input.payloads
    (null,) = (await found(handle, "workflow_execution_completed"))[0].result.payloads
    assert (null.metadata["encoding"], null.data) == (b"binary/null", b"")


class Contextual(DefaultPayloadConverter, WithSerializationContext):
    """Writes into each text for whom it was written."""

    def __init__(self, context: str = "none") -> None:
        super().__init__()
        self.context = context

    def with_context(self, context: SerializationContext) -> "Contextual":
        if isinstance(context, ActivitySerializationContext):
            return Contextual(f"activity {context.activity_type} of {context.workflow_type}")
        assert isinstance(context, WorkflowSerializationContext)
        return Contextual("workflow")

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return super().to_payloads([f"{v} for {self.context}" if isinstance(v, str) else v for v in values])


@workflow.defn(sandboxed=False)
class Addressed:
    @workflow.run
    async def run(self, word: str) -> str:
        return await workflow.execute_activity(say, word, start_to_close_timeout=TIMEOUT)


@activity.defn
async def say(word: str) -> str:
    return f"<{word}>"


async def test_converters_are_told_what_they_convert_for(address: str) -> None:
    client = await Client.connect(address, data_converter=DataConverter(payload_converter_class=Contextual))
    async with new_worker(client, Addressed, activities=[say]) as worker:
        handle = await client.start_workflow(Addressed.run, "a", id=unique(), task_queue=worker.task_queue)
        act = "activity say of Addressed"
        assert await handle.result() == f"<a for workflow for {act}> for {act} for workflow"
    await replay(handle, Addressed)
