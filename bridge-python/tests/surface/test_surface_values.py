"""Every duration and number that only the core sees, at its edges and beyond: of local activities, and of settings.

A row says what becomes of a value, on both cores unless it says what the original does. Where that takes the whole process
down, the row is ours alone. The same tables, with more values and without a server, are `core/machine/tests/values.rs`,
`core/worker/tests/shell/values.rs` and the tests of `core/client/src/retry.rs`.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import temporalio.client
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.bridge import client as bridge_client
from temporalio.bridge import worker as bridge
from temporalio.bridge.proto import ActivityHeartbeat, ActivityTaskCompletion
from temporalio.bridge.proto.activity_task import ActivityTask
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import ScheduleLocalActivity
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion

from support import unique
from surface import shapes
from surface.shapes import line, native, raised

pytestmark = pytest.mark.timeout(60)

NAN, INF = float("nan"), float("inf")
U64 = 2**64 - 1
I64 = 2**63 - 1


def of(seconds: int, nanos: int = 0) -> Duration:
    return Duration(seconds=seconds, nanos=nanos)


# Name, value, and how long it is in nanoseconds.
DURATIONS = {
    "-5s": (of(-5), -5 * 10**9),
    "-1us": (of(0, -1_000), -1_000),
    "signs mixed, negative": (of(-5, 1), -1),
    "nanos below a second": (of(1, -(2**31)), -1),
    "least": (of(-I64 - 1, -999_999_999), -1),
    "zero": (of(0), 0),
    "7s": (of(7), 7 * 10**9),
    "signs mixed": (of(5, -1), 4_999_999_999),
    "nanos above a second": (of(0, 2_000_000_000), 2 * 10**9),
    "most": (of(I64, 999_999_999), I64 * 10**9 + 999_999_999),
    "beyond": (of(I64, 2**31 - 1), I64 * 10**9 + 999_999_999),
}


class Hand:
    """A native worker whose workflows and activities are answered by hand."""

    def __init__(self, quiet: Any, connected: Any, client: temporalio.client.Client, **change: Any) -> None:
        self.queue = unique()
        self.client = client
        self.waiting: list[asyncio.Future[ActivityTask]] = []
        self.worker = native.new_worker(quiet, connected, shapes.worker(self.queue, **change))

    async def __aenter__(self) -> Hand:
        await self.worker.validate()
        self.handle = await self.client.start_workflow("by-hand", id=unique(), task_queue=self.queue)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.worker.initiate_shutdown()
        polls = [self.worker.poll_workflow_activation, self.worker.poll_activity_task, self.worker.poll_nexus_task]
        for poll in polls:
            with pytest.raises(native.PollShutdownError):
                while True:
                    await self.answer(WorkflowActivation.FromString(await poll()))
        for ended in await asyncio.gather(*self.waiting, return_exceptions=True):
            assert isinstance(ended, native.PollShutdownError)
        await self.worker.finalize_shutdown()

    async def activation(self) -> WorkflowActivation:
        return WorkflowActivation.FromString(await self.worker.poll_workflow_activation())

    async def answer(self, to: WorkflowActivation, **command: Any) -> None:
        completion = WorkflowActivationCompletion(run_id=to.run_id)
        completion.successful.SetInParent()
        for name, value in command.items():
            getattr(completion.successful.commands.add(), name).MergeFrom(value)
        await self.worker.complete_workflow_activation(completion.SerializeToString())

    async def ends(self, activation: WorkflowActivation) -> None:
        """The workflow ends, and leaves."""
        completion = WorkflowActivationCompletion(run_id=activation.run_id)
        completion.successful.commands.add().complete_workflow_execution.SetInParent()
        await self.worker.complete_workflow_activation(completion.SerializeToString())
        await self.answer(await self.activation())
        await self.handle.result()

    async def activity(self) -> ActivityTask:
        return ActivityTask.FromString(await self.worker.poll_activity_task())

    async def done(self, task: ActivityTask, fails: Duration | None = None, failed: bool = False) -> None:
        completion = ActivityTaskCompletion(task_token=task.task_token)
        if failed:
            failure = completion.result.failed.failure
            failure.application_failure_info.type = "E"
            if fails is not None:
                failure.application_failure_info.next_retry_delay.CopyFrom(fails)
        else:
            completion.result.completed.result.SetInParent()
        await self.worker.complete_activity_task(completion.SerializeToString())


LOCAL = {"task_types": shapes.task_types("workflow local")}


def request(**change: Any) -> ScheduleLocalActivity:
    base: dict[str, Any] = {"start_to_close_timeout": of(30), "local_retry_threshold": of(0, 1)}
    return ScheduleLocalActivity(seq=1, activity_id="a", activity_type="t", **{**base, **change})


LIMITS = ["schedule_to_close_timeout", "schedule_to_start_timeout", "start_to_close_timeout"]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("field", LIMITS)
async def test_time_limits_of_a_local_activity(
    quiet: Any, connected: Any, client: temporalio.client.Client, engine: str, field: str, name: str
) -> None:
    value, nanos = DURATIONS[name]
    async with Hand(quiet, connected, client, **LOCAL) as hand:
        first = await hand.activation()
        await hand.answer(first, schedule_local_activity=request(**{field: value}))
        if nanos < 0:
            gone = await hand.activation()
            words = f'{field} of activity "a" of type "t" is -' if engine == "outlast" else f"Could not convert {field}"
            assert f"Invalid schedule local activity request (seq 1): {words}" in gone.jobs[0].remove_from_cache.message
            await hand.handle.terminate()
            return await hand.answer(gone)
        if nanos == 0 and field != "start_to_close_timeout":
            # The original looks at what waits when somebody asks for it.
            hand.waiting.append(asyncio.ensure_future(hand.activity()))
            heard = await hand.activation()
            cause = heard.jobs[0].resolve_activity.result.failed.failure.cause
            over = {"schedule_to_close_timeout": 3, "schedule_to_start_timeout": 2}[field]
            assert cause.timeout_failure_info.timeout_type == over
            return await hand.ends(heard)
        task = await hand.activity()
        shown = {"schedule_to_close_timeout": 0, "start_to_close_timeout": 30 * 10**9}
        if field in shown:
            shown[field] = nanos
        # No attempt may take longer than all of them.
        whole = shown["schedule_to_close_timeout"]
        if whole:
            shown["start_to_close_timeout"] = min(whole, shown["start_to_close_timeout"])
        start = task.start
        told = {name: getattr(start, name).seconds * 10**9 + getattr(start, name).nanos for name in shown}
        assert told == shown
        if not nanos:
            # Over before it is done: another attempt is due, which is too long to wait for here.
            assert (await hand.activity()).HasField("cancel")
            await hand.done(task)
            heard = await hand.activation()
            assert heard.jobs[0].resolve_activity.result.HasField("backoff")
        else:
            await hand.done(task)
            heard = await hand.activation()
            assert heard.jobs[0].resolve_activity.result.HasField("completed")
        await hand.ends(heard)


# What the workflow asks for, and what the wait after a failure is, in nanoseconds; none is no wait of the workflow.
Waits = list[tuple[str, Callable[[], ScheduleLocalActivity], Duration | None, int | None]]


def policy(**fields: Any) -> Callable[[], ScheduleLocalActivity]:
    def make() -> ScheduleLocalActivity:
        asked = request(attempt=fields.pop("attempt", 0))
        for name, value in fields.items():
            if isinstance(value, Duration):
                getattr(asked.retry_policy, name).CopyFrom(value)
            else:
                setattr(asked.retry_policy, name, value)
        return asked

    return make


SECOND = 10**9


def or_default(nanos: int) -> int | None:
    """The wait that a duration of so many nanoseconds is, where one below zero counts as not given."""
    return SECOND if nanos < 0 else nanos or None


WAITS: Waits = [
    *(
        (f"initial_interval {name}", policy(initial_interval=value), None, or_default(nanos))
        for name, (value, nanos) in DURATIONS.items()
        # The last nanoseconds of hundreds of billions of years are lost to rounding here.
        if name not in ("most", "beyond")
    ),
    *(
        (
            f"maximum_interval {name}",
            policy(maximum_interval=value, attempt=20),
            None,
            100 * SECOND if nanos < 0 else min(max(nanos, SECOND), 2**19 * SECOND),
        )
        for name, (value, nanos) in DURATIONS.items()
    ),
    *((f"next_retry_delay {name}", policy(), value, or_default(nanos)) for name, (value, nanos) in DURATIONS.items()),
    *(
        (f"backoff_coefficient {value}", policy(backoff_coefficient=value, attempt=3), None, wait * SECOND)
        for value, wait in [
            *((value, 4) for value in (-INF, -1.0, 0.0, 0.5, NAN)),
            (1.0, 1),
            (3.0, 9),
            (1e300, 100),
            (INF, 100),
        ]
    ),
    *(
        (f"attempt {value}", policy(attempt=value), None, wait * SECOND)
        for value, wait in [(0, 1), (1, 1), (2, 2), (2**31, 100), (2**32 - 1, 100)]
    ),
    *(
        (f"maximum_attempts {value}", policy(maximum_attempts=value, attempt=9), None, 100 * SECOND)
        for value in (-(2**31), -1, 0, 2**31 - 1)
    ),
]


@pytest.mark.parametrize("asked,delay,nanos", [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
async def test_waits_of_a_local_activity(
    quiet: Any, connected: Any, client: temporalio.client.Client, asked: Any, delay: Any, nanos: int | None
) -> None:
    async with Hand(quiet, connected, client, **LOCAL) as hand:
        await hand.answer(await hand.activation(), schedule_local_activity=asked())
        task = await hand.activity()
        await hand.done(task, fails=delay, failed=True)
        if nanos is None:
            again = await hand.activity()
            assert again.start.attempt == task.start.attempt + 1
            await hand.done(again)
        heard = await hand.activation()
        result = heard.jobs[0].resolve_activity.result
        if nanos is None:
            assert result.HasField("completed")
        else:
            wait = result.backoff.backoff_duration
            assert wait.seconds * SECOND + wait.nanos == nanos
        await hand.ends(heard)


@pytest.mark.parametrize("name,seconds,over", [("0", 0, True), ("-5", -5, True), ("most", I64, False)])
async def test_the_rest_of_the_whole_time_of_a_local_activity(
    quiet: Any, connected: Any, client: temporalio.client.Client, name: str, seconds: int, over: bool
) -> None:
    asked = request(
        schedule_to_close_timeout=of(50), attempt=2, original_schedule_time=Timestamp(seconds=seconds)
    )
    async with Hand(quiet, connected, client, **LOCAL) as hand:
        await hand.answer(await hand.activation(), schedule_local_activity=asked)
        if not over:
            await hand.done(await hand.activity())
        heard = await hand.activation()
        assert heard.jobs[0].resolve_activity.result.HasField("failed") == over
        await hand.ends(heard)


# Settings of a worker: the refusal, or nothing if it works; and what the original does if it is not the same.
OURS = "takes the process down"
POSITIVE = "ValueError: Invalid worker config: `max_worker_activities_per_second` must be positive and nonzero"


def extract(field: str) -> str:
    return f"TypeError: failed to extract field WorkerConfig.{field}"


def slots(count: int) -> dict[str, Any]:
    one = shapes.slots(count)
    return {"tuner": bridge.TunerHolder(one, one, one, one)}


def by_resources(least: int = 3, most: int = 9, ramp: int = 0, memory: float = 0.8, cpu: float = 0.9) -> dict[str, Any]:
    one = bridge.ResourceBasedSlotSupplier(least, most, ramp, bridge.ResourceBasedTunerConfig(memory, cpu))
    return {"tuner": bridge.TunerHolder(one, one, one, one)}


TIMES = [
    "sticky_queue_schedule_to_start_timeout_millis",
    "max_heartbeat_throttle_interval_millis",
    "default_heartbeat_throttle_interval_millis",
    "graceful_shutdown_period_millis",
]
SETTINGS: list[tuple[dict[str, Any], str | None, str | None]] = [
    *(({field: value}, None, None) for field in TIMES for value in (0, 1, 2**63, U64)),
    *(({field: value}, extract(field), None) for field in TIMES for value in (-1, U64 + 1)),
    *(({"max_cached_workflows": value}, None, None) for value in (1, 1_000)),
    *(({"max_cached_workflows": value}, None, OURS) for value in (2**31, 2**63, U64)),
    *(({"max_cached_workflows": value}, extract("max_cached_workflows"), None) for value in (-1, U64 + 1)),
    *(
        ({"nonsticky_to_sticky_poll_ratio": value}, None, None)
        for value in (-INF, -1.0, -0.0, 0.0, 1e-9, 1.0, 1.5, INF, NAN)
    ),
    *(({"max_activities_per_second": value}, POSITIVE, None) for value in (-INF, -1.0, -0.0, 0.0, NAN, INF)),
    *(({"max_activities_per_second": value}, None, None) for value in (1e-9, 1e9, 1e300)),
    ({"max_activities_per_second": 1e-300}, None, OURS),
    *(({"max_task_queue_activities_per_second": value}, None, None) for value in (1.0, 1e300, INF, NAN)),
    *(({"max_eager_activity_reservations_per_workflow_task": value}, None, None) for value in (0, U64)),
    *((slots(value), None, None) for value in (2, 2**31, 2**61 - 1)),
    *((slots(value), None, OURS) for value in (2**61, 2**63, U64)),
    (slots(-1), extract("tuner"), None),
    *((by_resources(*value), None, None) for value in ((3, 0), (3, 2), (3, U64), (U64, U64))),
    *((by_resources(ramp=value), None, None) for value in (0, 1, 2**63, U64)),
    *((by_resources(memory=value), None, None) for value in (-INF, -1.0, 0.0, 1.5, INF)),
    *((by_resources(cpu=value), None, None) for value in (-INF, -1.0, 0.0, 1.5, INF)),
    (
        by_resources(memory=NAN),
        "ValueError: All resource-based slot suppliers must have the same ResourceBasedTunerOptions",
        None,
    ),
    *(
        ({f"{kind}_task_poller_behavior": shapes.pollers(value)}, None, None)
        for kind in ("workflow", "activity", "nexus")
        for value in (1_000, 2**63, U64)
    ),
    *(
        ({f"{kind}_task_poller_behavior": bridge.PollerBehaviorAutoscaling(*value)}, None, None)
        for kind in ("workflow", "activity", "nexus")
        for value in ((1, U64, 1), (U64, U64, U64))
    ),
]


@pytest.mark.parametrize("change,refusal,original", SETTINGS, ids=[str(number) for number in range(len(SETTINGS))])
async def test_a_setting_of_a_worker_is_refused_or_works(
    quiet: Any,
    connected: Any,
    client: temporalio.client.Client,
    engine: str,
    change: dict[str, Any],
    refusal: str | None,
    original: str | None,
) -> None:
    if engine == "original" and original is not None:
        pytest.skip(f"the original {original}")
    if refusal is not None:
        assert line(raised(native.new_worker, quiet, connected, shapes.worker(unique(), **change))) == refusal
        return
    async with Hand(quiet, connected, client, **change) as hand:
        completion = WorkflowActivationCompletion(run_id=(await hand.activation()).run_id)
        command = completion.successful.commands.add().schedule_activity
        command.seq, command.activity_id, command.activity_type, command.task_queue = 1, "1", "a", hand.queue
        command.start_to_close_timeout.CopyFrom(of(50))
        await hand.worker.complete_workflow_activation(completion.SerializeToString())
        task = await hand.activity()
        for _ in range(3):
            hand.worker.record_activity_heartbeat(ActivityHeartbeat(task_token=task.task_token).SerializeToString())
        await hand.done(task)
        await hand.ends(await hand.activation())


def retries(**change: Any) -> dict[str, Any]:
    base = bridge_client.ClientRetryConfig(50, 0.2, 1.5, 200, 1_000, 4)
    return {"retry_config": bridge_client.ClientRetryConfig(**{**base.__dict__, **change})}


def pings(interval: int, timeout: int) -> dict[str, Any]:
    return {"keep_alive_config": bridge_client.ClientKeepAliveConfig(interval, timeout)}


def unread(field: str) -> str:
    return f"TypeError: failed to extract field ClientConfig.{field}"


CLIENTS: list[tuple[dict[str, Any], str | None]] = [
    *((retries(initial_interval_millis=value), None) for value in (0, 1, U64)),
    *((retries(max_interval_millis=value), None) for value in (0, 1, U64)),
    *((retries(max_elapsed_time_millis=value), None) for value in (None, 0, 1, U64)),
    *((retries(max_retries=value), None) for value in (0, 1, U64)),
    *((retries(randomization_factor=value), None) for value in (-INF, -1.0, 0.0, 1.5, NAN, INF)),
    *((retries(multiplier=value), None) for value in (-INF, -1.0, 0.0, 0.5, 1e300, NAN, INF)),
    *((retries(**{field: -1}), unread("retry_config")) for field in ("initial_interval_millis", "max_retries")),
    *((pings(*value), None) for value in ((1_000, 1_000), (2**63, 2**63), (U64, U64), (30_000, 0))),
    (pings(-1, 1), unread("keep_alive_config")),
    *(({"connect_timeout_millis": value}, None) for value in (1_000, 2**63, U64)),
    *(({"dns_load_balancing_config": bridge_client.ClientDnsLoadBalancingConfig(value)}, None) for value in (1_000, U64)),
    *(({"payloads_warn_size": value, "memo_warn_size": value}, None) for value in (0, 1, U64)),
    ({"payloads_warn_size": -1}, unread("payloads_warn_size")),
]


@pytest.mark.parametrize("change,refusal", CLIENTS, ids=[str(number) for number in range(len(CLIENTS))])
async def test_a_setting_of_a_client_is_refused_or_works(
    quiet: Any, address: str, change: dict[str, Any], refusal: str | None
) -> None:
    config = shapes.client(f"http://{address}", **change)
    if refusal is not None:
        assert line(raised(native.connect_client, quiet, config)) == refusal
        return
    connected = await native.connect_client(quiet, config)
    assert await connected.call_workflow_service(shapes.call("get_system_info", retry=True))


@pytest.mark.parametrize("value,words", [(0, "0ns"), (1, "1ms"), (999, "999ms")])
async def test_names_are_not_looked_up_without_end(quiet: Any, address: str, value: int, words: str) -> None:
    often = bridge_client.ClientDnsLoadBalancingConfig(value)
    with pytest.raises(RuntimeError) as refused:
        await native.connect_client(quiet, shapes.client(f"http://{address}", dns_load_balancing_config=often))
    assert str(refused.value).startswith(
        "Failed client connect: Invalid client configuration: dns_load_balancing.resolution_interval must be at least 1s, "
        f"got {words}"
    )


@pytest.mark.parametrize("value", [1_000, 2**40, 2**63, U64])
async def test_a_time_limit_of_a_call_works_however_long(connected: Any, engine: str, value: int) -> None:
    if engine == "original" and value > 2**40:
        pytest.skip("the original panics")
    assert await connected.call_workflow_service(shapes.call("get_system_info", timeout_millis=value))


BUCKETS: dict[str, tuple[list[float], list[str] | None]] = {
    # What is told, and the buckets that Prometheus shows where the original does not show the same.
    "-1 1": ([-1.0, 1.0], None),
    "0": ([0.0], None),
    "1 inf": ([1.0, INF], None),
    "empty": ([], ["+Inf"]),
    "nan": ([NAN], ["+Inf"]),
    "-inf": ([-INF], ["+Inf"]),
    "unsorted": ([2.0, 1.0, 3.0], ["1", "2", "3", "+Inf"]),
    "twice": ([1.0, 1.0], ["1", "+Inf"]),
    "1 nan 2": ([1.0, NAN, 2.0], ["1", "2", "+Inf"]),
}


@pytest.mark.parametrize("name", BUCKETS)
async def test_buckets_of_histograms(engine: str, free_address: str, name: str) -> None:
    told, shown = BUCKETS[name]
    if engine == "original" and shown is not None:
        pytest.skip("the original shows buckets that are none, or drops the metric")
    prometheus = shapes.prometheus(bind_address=free_address, histogram_bucket_overrides={"mine": told})
    runtime = shapes.runtime(None, shapes.metrics(prometheus=prometheus, attach_service_name=False))
    meter = native.new_metric_meter(runtime)
    meter.new_histogram_float("mine", "", "").record(0.5, meter.default_attributes)

    def read() -> str:
        with urllib.request.urlopen(f"http://{free_address}/metrics") as page:
            return str(page.read().decode())

    text = await asyncio.to_thread(read)
    bounds = [row.partition('le="')[2].partition('"')[0] for row in text.splitlines() if row.startswith("mine_bucket")]
    assert bounds == (shown if shown is not None else [*(f"{bound:g}" for bound in told if bound < INF), "+Inf"])


@pytest.mark.parametrize("name", BUCKETS)
async def test_buckets_of_histograms_that_are_sent(engine: str, name: str) -> None:
    told, _ = BUCKETS[name]
    if engine == "original" and name not in ("-1 1", "0", "empty"):
        pytest.skip("the original panics")
    runtime = shapes.runtime(None, shapes.metrics(opentelemetry=shapes.otel(histogram_bucket_overrides={"mine": told})))
    meter = native.new_metric_meter(runtime)
    meter.new_histogram_float("mine", "", "").record(0.5, meter.default_attributes)


def sent_each(millis: int) -> Any:
    return shapes.metrics(opentelemetry=shapes.otel(metric_periodicity_millis=millis))


def kept(updates: int) -> Any:
    return shapes.metrics(buffered_with_size=updates)


RUNTIMES: list[tuple[Callable[[], dict[str, Any]], str | None, bool]] = [
    *(
        (lambda value=value: {"worker_heartbeat_interval_millis": value}, refusal, True)
        for value, refusal in [
            (-1, "TypeError: failed to extract field RuntimeOptions.worker_heartbeat_interval_millis"),
            *(
                (value, f"ValueError: Invalid runtime options: heartbeat_interval ({words}) must be between 1s and 60s")
                for value, words in [
                    (0, "0ns"),
                    (999, "999ms"),
                    (60_001, "60.001s"),
                    (U64, "18446744073709551.615s"),
                ]
            ),
            (1_000, None),
            (60_000, None),
        ]
    ),
    *((lambda value=value: {"metrics": sent_each(value)}, None, True) for value in (0, 1, 2**63, U64)),
    *((lambda value=value: {"metrics": kept(value)}, None, True) for value in (1, 10_000)),
    *((lambda value=value: {"metrics": kept(value)}, None, False) for value in (2**31, 2**60, U64)),
]


@pytest.mark.parametrize("options,refusal,both", RUNTIMES, ids=[str(number) for number in range(len(RUNTIMES))])
async def test_a_setting_of_a_runtime_is_refused_or_works(
    engine: str, options: Callable[[], dict[str, Any]], refusal: str | None, both: bool
) -> None:
    if engine == "original" and not both:
        pytest.skip("the original takes room for the whole buffer at once, and aborts or panics")
    if refusal is None:
        assert type(shapes.runtime(**options())) is native.RuntimeRef
    else:
        assert line(raised(shapes.runtime, **options())) == refusal
