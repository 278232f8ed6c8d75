"""Arguments for the native module, right in every field, to be spoiled one field at a time.

Builders return plain namespaces or the dataclasses of `temporalio.bridge`; `native` is the module under test.
"""

from __future__ import annotations

import dataclasses
import os
from types import SimpleNamespace
from typing import Any

from temporalio.bridge import client as bridge_client
from temporalio.bridge import runtime as bridge_runtime
from temporalio.bridge import temporal_sdk_bridge
from temporalio.bridge import testing as bridge_testing
from temporalio.bridge import worker as bridge_worker

native: Any = temporal_sdk_bridge

NOWHERE = "http://127.0.0.1:1"
"""A URL on which nothing listens."""


def duck(shape: Any) -> SimpleNamespace:
    """The same attributes without the class: the native side may only look at attributes."""
    return SimpleNamespace(**{field.name: getattr(shape, field.name) for field in dataclasses.fields(shape)})


def without(shape: Any, field: str) -> SimpleNamespace:
    """The same attributes, one missing."""
    attributes = duck(shape)
    delattr(attributes, field)
    return attributes


def logging(**change: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"filter": "error", "forward_to": None, "format": None, **change})


def metrics(**change: Any) -> bridge_runtime.MetricsConfig:
    base = bridge_runtime.MetricsConfig(None, None, 0, True, None, None)
    return dataclasses.replace(base, **change)


def prometheus(**change: Any) -> bridge_runtime.PrometheusConfig:
    base = bridge_runtime.PrometheusConfig("127.0.0.1:0", False, False, False, None)
    return dataclasses.replace(base, **change)


def otel(**change: Any) -> bridge_runtime.OpenTelemetryConfig:
    base = bridge_runtime.OpenTelemetryConfig(NOWHERE, {}, None, False, False, False, None)
    return dataclasses.replace(base, **change)


def options(logging: Any = None, metrics: Any = None, **change: Any) -> SimpleNamespace:
    """Runtime options; quiet and without heartbeats unless told."""
    telemetry = SimpleNamespace(logging=logging, metrics=metrics)
    base: dict[str, Any] = {
        "telemetry": telemetry,
        "worker_heartbeat_interval_millis": None,
        "disable_environment_info": False,
    }
    return SimpleNamespace(**{**base, **change})


def runtime(logging: Any = None, metrics: Any = None, **change: Any) -> Any:
    """A native runtime."""
    return native.init_runtime(options(logging, metrics, **change))


def client(target_url: str, /, **change: Any) -> bridge_client.ClientConfig:
    base = bridge_client.ClientConfig(
        target_url=target_url,
        metadata={},
        api_key=None,
        identity=f"surface-{os.getpid()}",
        tls_config=None,
        retry_config=None,
        keep_alive_config=None,
        client_name="surface",
        client_version="1",
        http_connect_proxy_config=None,
        dns_load_balancing_config=None,
        grpc_compression="none",
        payloads_warn_size=0,
        memo_warn_size=0,
        connect_timeout_millis=None,
    )
    return dataclasses.replace(base, **change)


def tls(**change: Any) -> bridge_client.ClientTlsConfig:
    return dataclasses.replace(bridge_client.ClientTlsConfig(None, None, None, None, None), **change)


def call(rpc: str, request: Any = b"", /, **change: Any) -> bridge_client.RpcCall:
    """One RPC, not retried; `request` is bytes or a message."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    return dataclasses.replace(bridge_client.RpcCall(rpc, body, False, {}, 10_000), **change)


def slots(count: int = 5) -> bridge_worker.FixedSizeSlotSupplier:
    return bridge_worker.FixedSizeSlotSupplier(count)


def tuner(**change: Any) -> bridge_worker.TunerHolder:
    return dataclasses.replace(bridge_worker.TunerHolder(slots(), slots(), slots(), slots()), **change)


def pollers(count: int) -> bridge_worker.PollerBehaviorSimpleMaximum:
    return bridge_worker.PollerBehaviorSimpleMaximum(count)


def task_types(kinds: str = "workflow local activity nexus") -> bridge_worker.WorkerTaskTypes:
    chosen = kinds.split()
    return bridge_worker.WorkerTaskTypes(
        "workflow" in chosen, "local" in chosen, "activity" in chosen, "nexus" in chosen
    )


def worker(task_queue: str, /, **change: Any) -> bridge_worker.WorkerConfig:
    base = bridge_worker.WorkerConfig(
        namespace="default",
        task_queue=task_queue,
        versioning_strategy=bridge_worker.WorkerVersioningStrategyNone("build"),
        identity_override=None,
        max_cached_workflows=10,
        tuner=tuner(),
        workflow_task_poller_behavior=pollers(2),
        nonsticky_to_sticky_poll_ratio=0.2,
        activity_task_poller_behavior=pollers(1),
        no_remote_activities=False,
        task_types=task_types(),
        sticky_queue_schedule_to_start_timeout_millis=10_000,
        max_heartbeat_throttle_interval_millis=60_000,
        default_heartbeat_throttle_interval_millis=30_000,
        max_activities_per_second=None,
        max_task_queue_activities_per_second=None,
        max_eager_activity_reservations_per_workflow_task=3,
        graceful_shutdown_period_millis=0,
        nondeterminism_as_workflow_fail=False,
        nondeterminism_as_workflow_fail_for_types=set(),
        nexus_task_poller_behavior=pollers(1),
        plugins=[],
        storage_drivers=set(),
        disable_payload_error_limit=False,
    )
    return dataclasses.replace(base, **change)


def replay_worker(**change: Any) -> bridge_worker.WorkerConfig:
    """As the replayer of the Python layer asks for it."""
    return worker("replay", **{"max_cached_workflows": 2, "task_types": task_types("workflow"), **change})


def dev_server(existing_path: str | None, /, **change: Any) -> bridge_testing.DevServerConfig:
    base = bridge_testing.DevServerConfig(
        existing_path=existing_path,
        sdk_name="surface",
        sdk_version="1",
        download_version="default",
        download_dest_dir=None,
        download_ttl_ms=None,
        namespace="default",
        ip="127.0.0.1",
        port=None,
        database_filename=None,
        ui=False,
        ui_port=None,
        log_format="pretty",
        log_level="error",
        extra_args=[],
        startup_timeout_ms=30_000,
    )
    return dataclasses.replace(base, **change)


def test_server(existing_path: str | None, /, **change: Any) -> bridge_testing.TestServerConfig:
    base = bridge_testing.TestServerConfig(existing_path, "surface", "1", "default", None, None, None, [], 30_000)
    return dataclasses.replace(base, **change)


test_server.__test__ = False  # type: ignore[attr-defined]


def chain(error: BaseException) -> list[tuple[type[BaseException], tuple[Any, ...]]]:
    """An error and its explicit causes, as (class, args)."""
    found: list[tuple[type[BaseException], tuple[Any, ...]]] = []
    link: BaseException | None = error
    while link is not None:
        found.append((type(link), link.args))
        link = link.__cause__
    return found


def raised(function: Any, *arguments: Any, **named: Any) -> BaseException:
    """What the call raises: at the call, not in a future that it might return. Panics count too."""
    try:
        result = function(*arguments, **named)
    except BaseException as error:
        return error
    raise AssertionError(f"nothing was raised, but {result!r} returned")


def line(error: BaseException) -> str:
    """`Class: message`, without the backtrace that RUST_BACKTRACE adds."""
    return f"{type(error).__name__}: {error}".partition("\n\nStack backtrace:")[0]
