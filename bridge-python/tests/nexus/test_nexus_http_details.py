"""Failures of operations that are called by HTTP, by callers that do not say what they understand: the whole failure
comes along, as the details of the text."""

from __future__ import annotations

from typing import Any

import nexusrpc
import pytest
from google.protobuf import json_format
from nexus.conftest import Port
from nexus.test_nexus_http import counter
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DefaultFailureConverter, default
from temporalio.exceptions import ApplicationError


def unfolded(body: dict[str, Any]) -> list[BaseException]:
    """The failure in the details and its causes."""
    assert body["metadata"] == {"type": "temporal.api.failure.v1.Failure"}
    assert "message" not in body["details"]
    # The text and its trace are told twice, or once where there is none.
    assert body["details"].get("stackTrace") == body.get("stackTrace")
    failure = json_format.ParseDict(body["details"], Failure())
    error: BaseException | None = DefaultFailureConverter().from_failure(failure, default().payload_converter)
    chain = []
    while error:
        chain.append(error)
        error = error.__cause__
    return chain


@pytest.mark.parametrize(("text", "final"), [("for good", True), ("for now", False)])
async def test_an_error_of_the_application_comes_whole(port: Port, text: str, final: bool) -> None:
    async with counter(port) as post:
        answer = await post.call("fails", {"text": text})
    assert answer.headers["nexus-request-retryable"] == ("false" if final else "true")
    handler, application = unfolded(answer.body)
    assert isinstance(handler, nexusrpc.HandlerError) and isinstance(application, ApplicationError)
    assert (handler.type, handler.retryable) == (nexusrpc.HandlerErrorType.INTERNAL, not final)
    assert (application.message, application.type) == (f"lost {text}", "Loss")
    assert (application.non_retryable, application.details) == (final, ("detail",))


async def test_an_error_of_the_handler_comes_with_its_cause(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.call("fails", {"text": "handler"})
    handler, cause = unfolded(answer.body)
    assert isinstance(handler, nexusrpc.HandlerError) and isinstance(cause, ApplicationError)
    assert (handler.type, handler.retryable) == (nexusrpc.HandlerErrorType.INTERNAL, False)
    assert (cause.message, cause.type) == ("why", "RuntimeError")


async def test_an_error_of_the_operation_comes_with_its_trace(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.call("fails", {"text": "operation"})
    (error,) = unfolded(answer.body)
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable) == ("OperationError", True)


@pytest.mark.parametrize(
    ("operation", "text", "kind", "causes"),
    [
        ("echo", 7, "BAD_REQUEST", ["Failed converting field text on dataclass", "Expected value to be str"]),
        ("opaque", "", "INTERNAL", ["Object of type function is not JSON serializable"]),
        ("bare", "", "INTERNAL", ["Operation start method must return either"]),
        ("nothing", "", "NOT_FOUND", []),
    ],
)
async def test_what_the_package_finds_wrong_comes_with_its_causes(
    port: Port, operation: str, text: Any, kind: str, causes: list[str]
) -> None:
    async with counter(port) as post:
        answer = await post.call(operation, {"text": text})
    handler, *found = unfolded(answer.body)
    assert isinstance(handler, nexusrpc.HandlerError)
    assert handler.type == nexusrpc.HandlerErrorType[kind]
    assert len(found) == len(causes)
    for error, message in zip(found, causes):
        assert isinstance(error, ApplicationError) and error.message.startswith(message)


async def test_a_token_that_is_none_is_told_with_its_cause(port: Port) -> None:
    async with counter(port) as post:
        answer = await post.cancel("started", "no-token")
    handler, *causes = unfolded(answer.body)
    assert isinstance(handler, nexusrpc.HandlerError) and causes
    assert handler.type == nexusrpc.HandlerErrorType.NOT_FOUND
