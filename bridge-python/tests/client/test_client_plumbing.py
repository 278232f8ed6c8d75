"""What a client can be given: interceptors, plugins, codecs, converters, limits; and activities without a workflow."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from client.programs import ACTIVITIES, WORKFLOWS, Box, Echo, Fail
from client.wire import loopback
from logs import Kept, runtime
from support import eventually, new_worker, unique
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    ActivityExecutionStatus,
    ActivityFailureError,
    CancelWorkflowInput,
    Client,
    ClientConfig,
    Interceptor,
    OutboundInterceptor,
    Plugin,
    QueryWorkflowInput,
    SignalWorkflowInput,
    StartWorkflowInput,
    TerminateWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec
from temporalio.exceptions import ActivityAlreadyStartedError, ApplicationError
from temporalio.runtime import TelemetryFilter
from temporalio.service import ConnectConfig, PayloadLimitsConfig, RPCError, RPCStatusCode, ServiceClient


class Noting(Interceptor):
    """Notes calls as they go out; adds one to the number that a signal carries."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return NotingCalls(next, self)


class NotingCalls(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, owner: Noting) -> None:
        super().__init__(next)
        self.owner = owner

    def note(self, what: str) -> None:
        self.owner.notes.append(f"{self.owner.name} {what}")

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        self.note(f"start {input.workflow}")
        return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        self.note(f"signal {input.signal}")
        input.args = [value + 1 for value in input.args]
        await super().signal_workflow(input)

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        self.note(f"query {input.query}")
        return await super().query_workflow(input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        self.note("cancel")
        await super().cancel_workflow(input)

    async def terminate_workflow(self, input: TerminateWorkflowInput) -> None:
        self.note("terminate")
        await super().terminate_workflow(input)


class Base64Codec(PayloadCodec):
    """Wraps every payload whole."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"wrapped"}, data=base64.b64encode(payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(base64.b64decode(payload.data)) for payload in payloads]


class Settings(Plugin):
    """Gives a client another identity and namespace."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        self.seen.append("configure")
        return {**config, "namespace": "by-plugin"}

    async def connect_service_client(
        self, config: ConnectConfig, next: Callable[[ConnectConfig], Awaitable[ServiceClient]]
    ) -> ServiceClient:
        self.seen.append("connect")
        return await next(replace(config, identity="the plugin"))


@dataclass
class Point:
    x: int
    y: int


@activity.defn
async def double(value: int) -> int:
    if value < 0:
        raise ApplicationError("too small", value, type="Small", non_retryable=True)
    return value * 2


async def test_interceptors_see_calls_from_the_outside_in(address: str, queue: str) -> None:
    notes: list[str] = []
    client = await Client.connect(address, interceptors=[Noting("outer", notes), Noting("inner", notes)])
    handle = await client.start_workflow(Box.run, id=unique(), task_queue=queue)
    await handle.signal(Box.put, 5)
    assert await handle.query(Box.content) == [7]
    await handle.cancel()
    alone = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=unique("nobody"))
    await alone.terminate()
    calls = ["start Box", "signal put", "query content", "cancel", "start Echo", "terminate"]
    assert notes == [f"{who} {call}" for call in calls for who in ("outer", "inner")]


async def test_a_plugin_shapes_the_client_and_its_connection(address: str) -> None:
    plugin = Settings()
    client = await Client.connect(address, plugins=[plugin])
    assert (client.namespace, client.identity) == ("by-plugin", "the plugin")
    assert sorted(plugin.seen) == ["configure", "connect"]
    with pytest.raises(RPCError, match="by-plugin"):
        await client.count_workflows()


async def test_a_client_has_a_name_that_the_server_keeps(address: str, queue: str) -> None:
    client = await Client.connect(address, identity="somebody")
    handle = await client.start_workflow(Echo.run, 1, id=unique(), task_queue=queue)
    first = (await handle.fetch_history()).events[0]
    assert first.workflow_execution_started_event_attributes.identity == client.identity == "somebody"


async def test_a_client_can_be_made_again_from_its_settings(client: Client) -> None:
    config = client.config()
    config["namespace"] = "another"
    again = Client(**config)
    assert again.service_client is client.service_client and again.namespace == "another"


@pytest.fixture
async def encoded(address: str) -> AsyncIterator[tuple[Client, str]]:
    """A client with a codec, and the queue of a worker with the same."""
    converter = DataConverter(
        payload_codec=Base64Codec(), failure_converter_class=DefaultFailureConverterWithEncodedAttributes
    )
    client = await Client.connect(address, data_converter=converter)
    async with new_worker(client, *WORKFLOWS, activities=ACTIVITIES) as worker:
        yield client, worker.task_queue


async def test_a_codec_covers_everything_that_leaves(client: Client, encoded: tuple[Client, str]) -> None:
    secret, queue = encoded
    handle = await secret.start_workflow(
        Box.run, id=unique(), task_queue=queue, memo={"secret": "memo"}, static_summary="secret summary"
    )
    assert await handle.execute_update(Box.add, 41) == 41
    await handle.signal(Box.put, 1)
    assert await handle.query(Box.content) == [41, 1]
    await handle.signal(Box.close)
    assert await handle.result() == [41, 1]
    description = await handle.describe()
    assert await description.memo() == {"secret": "memo"}
    assert await description.static_summary() == "secret summary"
    assert b"secret summary" not in description.raw_description.SerializeToString()
    payloads = [
        payload
        for event in (await handle.fetch_history()).events
        for payload in [
            *event.workflow_execution_signaled_event_attributes.input.payloads,
            *event.workflow_execution_completed_event_attributes.result.payloads,
            *event.workflow_execution_update_accepted_event_attributes.accepted_request.input.args.payloads,
            *event.workflow_execution_started_event_attributes.memo.fields.values(),
        ]
    ]
    assert [payload.metadata["encoding"] for payload in payloads] == [b"wrapped"] * 4
    # Who does not know the codec cannot read.
    with pytest.raises(KeyError, match="Unknown payload encoding wrapped"):
        await client.get_workflow_handle(handle.id).result()


async def test_a_failure_s_words_may_be_encoded_too(encoded: tuple[Client, str]) -> None:
    secret, queue = encoded
    handle = await secret.start_workflow(Fail.run, "application", id=unique(), task_queue=queue)
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert (failed.value.cause.message, failed.value.cause.details) == ("it is over", (1, {"two": 2}))
    raw = (await handle.fetch_history()).events[-1].workflow_execution_failed_event_attributes.failure
    assert (raw.message, raw.stack_trace) == ("Encoded failure", "")
    assert raw.encoded_attributes.metadata["encoding"] == b"wrapped"


async def test_a_value_comes_back_as_the_type_that_is_asked_for(client: Client, queue: str) -> None:
    handle = await client.start_workflow(Echo.run, Point(1, 2), id=unique(), task_queue=queue)
    assert await client.get_workflow_handle(handle.id, result_type=Point).result() == Point(1, 2)
    assert await client.get_workflow_handle(handle.id).result() == {"x": 1, "y": 2}


async def test_bytes_and_messages_have_encodings_of_their_own(client: Client) -> None:
    values = ((b"\x00\xff", b"binary/plain"), (Payload(data=b"d"), b"json/protobuf"), (None, b"binary/null"))
    for value, encoding in values:
        handle = await client.start_workflow("Echo", value, id=unique(), task_queue=unique("nobody"))
        first = (await handle.fetch_history()).events[0]
        [payload] = first.workflow_execution_started_event_attributes.input.payloads
        assert payload.metadata["encoding"] == encoding
        await handle.terminate()


@pytest.mark.parametrize("payloads_limit, expected", [(1000, ["memo", "payloads"]), (0, ["memo"])])
async def test_large_memos_and_payloads_are_warned_about(payloads_limit: int, expected: list[str]) -> None:
    kept = Kept()
    engine = runtime(kept, TelemetryFilter("WARN", "WARN"))
    async with loopback() as server:
        client = await Client.connect(
            server.address,
            runtime=engine,
            payload_limits=PayloadLimitsConfig(payloads_warn_size=payloads_limit, memo_warn_size=1000),
        )
        for text in ("x" * 100, "x" * 2000):
            await client.start_workflow("W", text, id="w", task_queue="q", memo={"a": text})

    async def warned() -> None:
        pattern = r"\[TMPRL1103\] Attempted to upload (\w+) with size that exceeded the warning limit\."
        found = [match and match[1] for match in (re.search(pattern, record.getMessage()) for record in kept.records)]
        assert sorted(found, key=str) == expected

    await eventually(warned)


async def test_an_activity_needs_no_workflow(client: Client) -> None:
    async with new_worker(client, activities=[double]) as worker:
        handle = await client.start_activity(
            double, 21, id=unique(), task_queue=worker.task_queue, start_to_close_timeout=timedelta(seconds=10)
        )
        assert await handle.result() == 42
        description = await handle.describe()
        assert (description.status, description.activity_type) == (ActivityExecutionStatus.COMPLETED, "double")
        assert (description.attempt, description.task_queue) == (1, worker.task_queue)
        with pytest.raises(ActivityFailureError) as failed:
            await client.execute_activity(
                double, -1, id=unique(), task_queue=worker.task_queue, start_to_close_timeout=timedelta(seconds=10)
            )
        cause = failed.value.cause
        assert isinstance(cause, ApplicationError)
        assert (cause.message, cause.type, cause.details) == ("too small", "Small", (-1,))


async def test_an_activity_without_a_worker_is_cancelled_or_terminated(client: Client) -> None:
    ends = {"cancel": ActivityExecutionStatus.CANCELED, "terminate": ActivityExecutionStatus.TERMINATED}
    for end, status in ends.items():
        handle = await client.start_activity(
            double, 1, id=unique(), task_queue=unique("nobody"), schedule_to_close_timeout=timedelta(hours=1)
        )
        with pytest.raises(ActivityAlreadyStartedError) as taken:
            await client.start_activity(
                double, 1, id=handle.id, task_queue=unique("nobody"), schedule_to_close_timeout=timedelta(hours=1)
            )
        assert taken.value.run_id == handle.run_id
        assert (await handle.describe()).status == ActivityExecutionStatus.RUNNING
        await (handle.cancel(reason="why not") if end == "cancel" else handle.terminate(reason="why not"))
        with pytest.raises(ActivityFailureError):
            await handle.result()
        assert (await handle.describe()).status == status


async def test_an_activity_that_never_was_is_not_found(client: Client) -> None:
    with pytest.raises(RPCError) as missing:
        await client.get_activity_handle(unique()).describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND
