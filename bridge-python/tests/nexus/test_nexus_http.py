"""Operations that are called by HTTP: what comes back, in status, headers and body, is what the handler made."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nexusrpc
import pytest
from nexus.conftest import Port
from nexusrpc.handler import (
    CancelOperationContext,
    OperationHandler,
    StartOperationContext,
    operation_handler,
    service_handler,
    sync_operation,
)
from support import new_worker, unique
from temporalio import nexus, workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError


@dataclass
class Letter:
    text: str


@dataclass
class Reply:
    text: str


@dataclass
class Opaque:
    what: Any


@workflow.defn
class Answering:
    @workflow.run
    async def run(self, letter: Letter) -> Reply:
        return Reply(letter.text)


class Bare(OperationHandler[Letter, Reply]):
    """Returns its result bare, which it must not."""

    async def start(self, ctx: StartOperationContext, input: Letter) -> Reply:  # type: ignore[override]
        return Reply("bare")

    async def cancel(self, ctx: CancelOperationContext, token: str) -> None:
        raise NotImplementedError


@nexusrpc.service
class Post:
    echo: nexusrpc.Operation[Letter, Reply]
    seen: nexusrpc.Operation[Letter, dict[str, str]]
    renamed: nexusrpc.Operation[Letter, Reply] = nexusrpc.Operation(name="re-named")
    said: nexusrpc.Operation[Letter, Reply]
    numbered: nexusrpc.Operation[None, Reply]
    started: nexusrpc.Operation[Letter, Reply]
    twice: nexusrpc.Operation[Letter, Reply]
    bare: nexusrpc.Operation[Letter, Reply]
    opaque: nexusrpc.Operation[Letter, Opaque]
    fails: nexusrpc.Operation[Letter, Reply]


@service_handler(service=Post)
class PostHandler:
    @sync_operation
    async def echo(self, ctx: StartOperationContext, letter: Letter) -> Reply:
        assert nexus.in_operation() and nexus.info().namespace == "default"
        ctx.outbound_links.extend(ctx.inbound_links)
        return Reply(letter.text)

    @sync_operation
    async def seen(self, ctx: StartOperationContext, letter: Letter) -> dict[str, str]:
        return dict(ctx.headers)

    @sync_operation(name="re-named")
    async def renamed(self, ctx: StartOperationContext, letter: Letter) -> Reply:
        return Reply(ctx.operation)

    @sync_operation
    async def said(self, ctx: StartOperationContext, letter: Letter) -> Reply:
        nexus.logger.info("a letter came", extra={"letter": letter.text})
        return Reply("said")

    @sync_operation
    async def numbered(self, ctx: StartOperationContext, _: None) -> Reply:
        return Reply(ctx.request_id)

    @nexus.workflow_run_operation
    async def started(self, ctx: nexus.WorkflowRunOperationContext, letter: Letter) -> nexus.WorkflowHandle[Reply]:
        policy = WorkflowIDReusePolicy.REJECT_DUPLICATE
        return await ctx.start_workflow(Answering.run, letter, id=letter.text, id_reuse_policy=policy)

    @nexus.workflow_run_operation
    async def twice(self, ctx: nexus.WorkflowRunOperationContext, letter: Letter) -> nexus.WorkflowHandle[Reply]:
        queue = nexus.info().task_queue
        await nexus.client().start_workflow(Answering.run, letter, id=letter.text, task_queue=queue)
        policy = WorkflowIDReusePolicy.REJECT_DUPLICATE
        return await ctx.start_workflow(Answering.run, letter, id=letter.text, id_reuse_policy=policy)

    @operation_handler
    def bare(self) -> OperationHandler[Letter, Reply]:
        return Bare()

    @sync_operation
    async def opaque(self, ctx: StartOperationContext, letter: Letter) -> Opaque:
        return Opaque(lambda: None)

    @sync_operation
    async def fails(self, ctx: StartOperationContext, letter: Letter) -> Reply:
        match letter.text:
            case "for good":
                raise ApplicationError("lost for good", "detail", type="Loss", non_retryable=True)
            case "for now":
                raise ApplicationError("lost for now", "detail", type="Loss")
            case "handler":
                kind = nexusrpc.HandlerErrorType.INTERNAL
                raise nexusrpc.HandlerError("fell over", type=kind, retryable_override=False) from RuntimeError("why")
            case "operation":
                raise nexusrpc.OperationError("came to nothing", state=nexusrpc.OperationErrorState.FAILED)
        raise AssertionError(letter.text)


@dataclass
class Answer:
    status: int
    headers: Any
    body: Any


def ask(url: str, body: Any, headers: dict[str, str]) -> Answer:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            answered = response.read()
            return Answer(response.status, response.headers, json.loads(answered) if answered else None)
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, json.loads(error.read()))


@dataclass
class Counter:
    """Where letters for a worker are taken."""

    url: str

    async def call(self, operation: str, body: Any, service: str = "Post", **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(ask, f"{self.url}/{service}/{operation}", body, names)

    async def cancel(self, operation: str, token: str) -> Answer:
        query = urllib.parse.urlencode({"token": token})
        return await asyncio.to_thread(ask, f"{self.url}/Post/{operation}/cancel?{query}", None, {})


@asynccontextmanager
async def counter(port: Port) -> AsyncIterator[Counter]:
    async with new_worker(port.client, Answering, nexus_service_handlers=[PostHandler()]) as worker:
        endpoint = await port.env.create_nexus_endpoint(unique("endpoint"), worker.task_queue)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield Counter(f"{port.http}/nexus/endpoints/{endpoint.id}/services")
    assert [warning for warning in caught if not issubclass(warning.category, ResourceWarning)] == []


async def test_results_come_back_as_json(port: Port) -> None:
    async with counter(port) as post:
        link = '<http://somewhere/>; type="some"'
        answer = await post.call("echo", {"text": "hello"}, Nexus_Link=link)
        assert (answer.status, answer.body) == (200, {"text": "hello"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["nexus-link"] == link
        assert (await post.call("re-named", {"text": ""})).body == {"text": "re-named"}
        request = unique("request")
        assert (await post.call("numbered", None, Nexus_Request_Id=request)).body == {"text": request}


async def test_headers_reach_the_handler_in_lower_case(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.call("seen", {"text": ""}, X_Tone="Soft", Operation_Timeout="777s")
    assert answer.body["x-tone"] == "Soft"
    assert answer.body["operation-timeout"].startswith("77")


async def test_a_handler_logs_with_what_it_handles(port: Port, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with counter(port) as post:
        assert (await post.call("said", {"text": "x"})).status == 200
    (record,) = [record for record in caplog.records if record.getMessage() == "a letter came"]
    assert (record.name, record.levelname) == ("temporalio.nexus", "INFO")
    told = vars(record)
    assert (told["letter"], told["service"], told["operation"]) == ("x", "Post", "said")


@pytest.mark.parametrize(
    ("operation", "text", "status", "message"),
    [
        ("fails", "for good", 500, "Handler failed with non-retryable application error"),
        ("fails", "for now", 500, "Handler failed with non-retryable application error"),
        ("fails", "handler", 500, "fell over"),
        ("fails", "operation", 424, "came to nothing"),
        ("echo", 7, 400, "Payload converter failed to decode Nexus operation input"),
        ("opaque", "", 500, "Internal handler error"),
        ("bare", "", 500, "Internal handler error"),
        ("nothing", "", 404, "Nexus service definition 'Post' has no operation 'nothing'"),
    ],
)
async def test_failures_come_back_with_their_status(
    port: Port, operation: str, text: Any, status: int, message: str
) -> None:
    async with counter(port) as post:
        answer = await post.call(operation, {"text": text})
    assert answer.status == status
    assert answer.body["message"].startswith(message)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["temporal-nexus-failure-source"] == "worker"
    assert answer.headers["nexus-operation-state"] == ("failed" if status == 424 else None)


async def test_a_service_that_nobody_serves(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.call("echo", {"text": ""}, service="Office")
    assert answer.status == 404
    assert "No handler for service 'Office'" in answer.body["message"]


async def test_a_request_that_comes_twice_starts_one_workflow(port: Port) -> None:
    one, two = unique("request"), unique("request")
    async with counter(port) as post:
        letter = {"text": unique("w")}
        for _ in range(2):
            answer = await post.call("started", letter, Nexus_Request_Id=one)
            assert (answer.status, answer.body["state"]) == (201, "running")
            assert answer.body["token"]
        answer = await post.call("started", letter, Nexus_Request_Id=two)
        assert (answer.status, answer.body["message"]) == (500, "Workflow execution already started")
        # The request's id is that of the workflow behind the operation alone.
        answer = await post.call("twice", {"text": unique("w")}, Nexus_Request_Id=one)
        assert (answer.status, answer.body["message"]) == (500, "Workflow execution already started")


async def test_a_token_that_is_none_cancels_nothing(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.cancel("started", "no-token")
    assert answer.status == 404
    assert "failed to decode operation token" in answer.body["message"].lower()
