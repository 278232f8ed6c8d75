"""What is held to the limit of payloads apart from inputs and results, and what is not: updates, memos, heartbeats, headers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Interceptor, StartActivityInput, WorkflowInboundInterceptor, WorkflowOutboundInterceptor

with workflow.unsafe.imports_passed_through():
    import pytest
    from histories import awaited, kinds, new_worker
    from limits import REFUSED, TOO_MUCH
    from support import eventually, unique
    from temporalio.api.enums.v1 import WorkflowTaskFailedCause
    from temporalio.client import Client, WorkflowFailureError
    from temporalio.runtime import BufferedMetricUpdate, MetricBuffer, Runtime, TelemetryConfig
    from temporalio.testing import WorkflowEnvironment

TIMEOUT = timedelta(seconds=20)

stopped: list[str] = []


@activity.defn
async def length(text: str) -> int:
    return len(text)


@activity.defn
async def beat_too_much() -> str:
    """Its second attempt says how the first one ended."""
    info = activity.info()
    if info.attempt > 1:
        return f"{stopped.count(info.workflow_id or '')} {list(info.heartbeat_details)}"
    activity.heartbeat("x" * TOO_MUCH)
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        stopped.append(info.workflow_id or "")
        raise
    return "never"


@workflow.defn
class Says:
    @workflow.run
    async def run(self, what: str) -> Any:
        if what == "memo":
            workflow.upsert_memo({"large": "m" * TOO_MUCH})
        if what == "heartbeat":
            return await workflow.execute_activity(
                beat_too_much,
                start_to_close_timeout=TIMEOUT,
                heartbeat_timeout=timedelta(seconds=5),
                retry_policy=RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=10)),
            )
        if what == "heartbeat once":
            once = RetryPolicy(maximum_attempts=1)
            return await workflow.execute_activity(beat_too_much, start_to_close_timeout=TIMEOUT, retry_policy=once)
        if what == "pages":
            asked = [
                workflow.execute_activity(length, "x" * 1_500_000, start_to_close_timeout=TIMEOUT) for _ in range(4)
            ]
            return sum(await asyncio.gather(*asked))
        if what == "header":
            return await workflow.execute_activity(length, "x" * (TOO_MUCH // 2), start_to_close_timeout=TIMEOUT)
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def answer(self, fails: bool) -> str:
        if fails:
            raise ApplicationError("u", "d" * TOO_MUCH)
        return "u" * TOO_MUCH


class LargeHeaders(Interceptor):
    """Each activity gets a header of more than half the limit."""

    def workflow_interceptor_class(self, _: Any) -> type[WorkflowInboundInterceptor]:
        return Inbound


class Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(Outbound(outbound))


class Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> Any:
        input.headers = {"large": Payload(data=b"h" * (TOO_MUCH // 2))}
        return super().start_activity(input)


async def test_headers_do_not_count(client: Client) -> None:
    async with new_worker(client, Says, activities=[length], interceptors=[LargeHeaders()]) as worker:
        ran = await client.execute_workflow(Says.run, "header", id=unique(), task_queue=worker.task_queue)
    assert ran == TOO_MUCH // 2


async def test_what_one_message_does_not_hold_goes_in_pages(temporal_cli: str) -> None:
    settings = ["history.enableWorkflowTaskCompletionPagination=true", "system.transactionSizeLimit=20971520"]
    extra = [word for setting in settings for word in ("--dynamic-config-value", setting)]
    async with (
        await WorkflowEnvironment.start_local(dev_server_existing_path=temporal_cli, dev_server_extra_args=extra) as env,
        new_worker(env.client, Says, activities=[length]) as worker,
    ):
        handle = await env.client.start_workflow(Says.run, "pages", id=unique(), task_queue=worker.task_queue)
        assert await handle.result() == 6_000_000
        assert "workflow_task_failed" not in await kinds(handle)


@pytest.mark.parametrize("what", ["memo", "result of an update", "failure of an update"])
async def test_what_is_too_large_fails_the_task_and_the_workflow_lives(client: Client, what: str) -> None:
    async with new_worker(client, Says) as worker:
        handle = await client.start_workflow(Says.run, what, id=unique(), task_queue=worker.task_queue)
        waiting = None
        if "update" in what:
            waiting = asyncio.create_task(handle.execute_update(Says.answer, what.startswith("failure")))
        failed = (await awaited(handle, "workflow_task_failed"))[0]
        assert failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE
        assert (failed.failure.message, failed.failure.application_failure_info.type) == (REFUSED, "PayloadsTooLarge")
        await handle.terminate()
        if waiting:
            await asyncio.wait([waiting], timeout=10)
            assert waiting.cancel() or waiting.exception()


async def test_a_heartbeat_that_is_too_large_fails_the_attempt_and_stops_it(client: Client) -> None:
    async with new_worker(client, Says, activities=[beat_too_much]) as worker:
        with pytest.raises(WorkflowFailureError) as caught:
            await client.execute_workflow(Says.run, "heartbeat once", id=unique(), task_queue=worker.task_queue)
        cause = caught.value.cause
        assert isinstance(cause, ActivityError) and isinstance(cause.cause, ApplicationError)
        assert (cause.cause.message, cause.cause.type, cause.cause.non_retryable) == (REFUSED, "PayloadsTooLarge", False)
        ran = await client.execute_workflow(Says.run, "heartbeat", id=unique(), task_queue=worker.task_queue)
    assert ran == "1 []"


async def test_metrics_say_that_payloads_were_too_large(address: str) -> None:
    buffer = MetricBuffer(10_000)
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=buffer)))
    seen: list[BufferedMetricUpdate] = []

    async def reasons() -> list[Any]:
        seen.extend(buffer.retrieve_updates())
        failed = [one for one in seen if one.metric.name == "temporal_workflow_task_execution_failed"]
        assert failed
        return [one.attributes["failure_reason"] for one in failed]

    async with new_worker(client, Says) as worker:
        handle = await client.start_workflow(Says.run, "memo", id=unique(), task_queue=worker.task_queue)
        assert set(await eventually(reasons)) == {"PayloadsTooLarge"}
        await handle.terminate()
