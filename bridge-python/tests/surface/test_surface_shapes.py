"""Arguments are read attribute by attribute: what is missing, of a wrong type or out of range is named by its path."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from temporalio.bridge import client as bridge_client
from temporalio.bridge import worker as bridge_worker

from support import unique
from surface import shapes
from surface.shapes import chain, native, raised

STR = "'int' object is not an instance of 'str'"
BOOL = "'int' object is not an instance of 'bool'"
NEGATIVE = "can't convert negative int to unsigned"
NOT_AN_INT = "'str' object cannot be interpreted as an integer"
RETRY = bridge_client.ClientRetryConfig(100, 0.2, 1.5, 5000, None, 3)
KEEP_ALIVE = bridge_client.ClientKeepAliveConfig(1000, 1000)
PROXY = bridge_client.ClientHttpConnectProxyConfig("127.0.0.1:1", None)
DNS = bridge_client.ClientDnsLoadBalancingConfig(1000)
RESOURCES = bridge_worker.ResourceBasedSlotSupplier(1, 2, 3, bridge_worker.ResourceBasedTunerConfig(0.5, 0.5))
DEPLOYMENT = bridge_worker.WorkerDeploymentOptions(bridge_worker.WorkerDeploymentVersion("d", "b"), True, 1)

OPTIONAL = {"connect_timeout_millis", "startup_timeout_ms", "no_remote_activities", "disable_environment_info", "format"}
"""Attributes that older Python layers do not have, or that nothing reads."""


class Taker:
    """Calls that take a shape: each fails before it does any work."""

    def __init__(self, quiet: Any, connected: Any) -> None:
        self.quiet = quiet
        self.connected = connected

    def runtime(self, options: Any) -> Any:
        return native.init_runtime(options)

    def logging(self, logging: Any) -> Any:
        return native.init_runtime(shapes.options(logging=logging))

    def metrics(self, metrics: Any) -> Any:
        return native.init_runtime(shapes.options(metrics=metrics))

    def prometheus(self, prometheus: Any) -> Any:
        return self.metrics(shapes.metrics(prometheus=prometheus))

    def otel(self, otel: Any) -> Any:
        return self.metrics(shapes.metrics(opentelemetry=otel))

    def client(self, config: Any) -> Any:
        return native.connect_client(self.quiet, config)

    def tls(self, tls: Any) -> Any:
        return self.client(shapes.client(shapes.NOWHERE, tls_config=tls))

    def retry(self, retry: Any) -> Any:
        return self.client(shapes.client(shapes.NOWHERE, retry_config=retry))

    def keep_alive(self, keep_alive: Any) -> Any:
        return self.client(shapes.client(shapes.NOWHERE, keep_alive_config=keep_alive))

    def proxy(self, proxy: Any) -> Any:
        return self.client(shapes.client(shapes.NOWHERE, http_connect_proxy_config=proxy))

    def dns(self, dns: Any) -> Any:
        return self.client(shapes.client(shapes.NOWHERE, dns_load_balancing_config=dns))

    def call(self, call: Any) -> Any:
        return self.connected.call_workflow_service(call)

    def worker(self, config: Any) -> Any:
        return native.new_worker(self.quiet, self.connected, config)

    def replay(self, config: Any) -> Any:
        return native.new_replay_worker(self.quiet, config)

    def tuner(self, tuner: Any) -> Any:
        return self.worker(shapes.worker("q", tuner=tuner))

    def task_types(self, kinds: Any) -> Any:
        return self.worker(shapes.worker("q", task_types=kinds))

    def dev_server(self, config: Any) -> Any:
        return native.start_dev_server(self.quiet, config)

    def test_server(self, config: Any) -> Any:
        return native.start_test_server(self.quiet, config)


@pytest.fixture
async def take(quiet: Any, connected: Any) -> Taker:
    return Taker(quiet, connected)


TELEMETRY = ["RuntimeOptions.telemetry"]
LOGGING = [*TELEMETRY, "TelemetryConfig.logging"]
METRICS = [*TELEMETRY, "TelemetryConfig.metrics"]
# For each taker: a good shape and the path of fields under which its errors appear.
SHAPES: dict[str, tuple[Any, list[str]]] = {
    "runtime": (shapes.options(), []),
    "logging": (shapes.logging(), LOGGING),
    "metrics": (shapes.metrics(), METRICS),
    "prometheus": (shapes.prometheus(), [*METRICS, "MetricsConfig.prometheus"]),
    "otel": (shapes.otel(), [*METRICS, "MetricsConfig.opentelemetry"]),
    "client": (shapes.client(shapes.NOWHERE), []),
    "tls": (shapes.tls(), ["ClientConfig.tls_config"]),
    "retry": (RETRY, ["ClientConfig.retry_config"]),
    "keep_alive": (KEEP_ALIVE, ["ClientConfig.keep_alive_config"]),
    "proxy": (PROXY, ["ClientConfig.http_connect_proxy_config"]),
    "dns": (DNS, ["ClientConfig.dns_load_balancing_config"]),
    "call": (shapes.call("get_system_info"), []),
    "worker": (shapes.worker("q"), []),
    "replay": (shapes.replay_worker(), []),
    "tuner": (shapes.tuner(), ["WorkerConfig.tuner"]),
    "task_types": (shapes.task_types(), ["WorkerConfig.task_types"]),
    "dev_server": (shapes.dev_server("/none"), []),
    "test_server": (shapes.test_server("/none"), []),
}


def expected(path: list[str], *inner: tuple[type[BaseException], str]) -> list[tuple[type[BaseException], tuple[str]]]:
    """The chain of errors: one TypeError for each field on the path, then what went wrong."""
    fields = [(TypeError, (f"failed to extract field {field}",)) for field in path]
    return [*fields, *((kind, (text,)) for kind, text in inner)]


@pytest.mark.parametrize("name", SHAPES)
async def test_each_missing_attribute_is_an_attribute_error_under_its_path(name: str, take: Taker) -> None:
    good, path = SHAPES[name]
    names = [field.name for field in dataclasses.fields(good)] if dataclasses.is_dataclass(good) else list(vars(good))
    checked = [field for field in names if field not in OPTIONAL]
    assert checked
    for field in checked:
        shape = SimpleNamespace(**{other: getattr(good, other) for other in names if other != field})
        missing = f"'types.SimpleNamespace' object has no attribute '{field}'"
        assert chain(raised(getattr(take, name), shape)) == expected(path, (AttributeError, missing)), field


WRONG: list[tuple[str, Any, str, Any, type[BaseException], str]] = [
    ("runtime", shapes.options(), "RuntimeOptions.worker_heartbeat_interval_millis", "x", TypeError, NOT_AN_INT),
    ("runtime", shapes.options(), "RuntimeOptions.worker_heartbeat_interval_millis", -1, OverflowError, NEGATIVE),
    (
        "runtime",
        shapes.options(),
        "RuntimeOptions.worker_heartbeat_interval_millis",
        2**70,
        OverflowError,
        "int too big to convert",
    ),
    ("runtime", shapes.options(), "RuntimeOptions.disable_environment_info", 1, TypeError, BOOL),
    (
        "runtime",
        shapes.options(),
        "RuntimeOptions.telemetry",
        1,
        AttributeError,
        "'int' object has no attribute 'logging'",
    ),
    ("logging", shapes.logging(), "LoggingConfig.filter", 1, TypeError, STR),
    ("logging", shapes.logging(), "LoggingConfig.format", 1, TypeError, STR),
    ("metrics", shapes.metrics(), "MetricsConfig.buffered_with_size", -1, OverflowError, NEGATIVE),
    ("metrics", shapes.metrics(), "MetricsConfig.attach_service_name", 1, TypeError, BOOL),
    (
        "metrics",
        shapes.metrics(),
        "MetricsConfig.global_tags",
        [],
        TypeError,
        "'list' object is not an instance of 'dict'",
    ),
    ("metrics", shapes.metrics(), "MetricsConfig.global_tags", {"a": 1}, TypeError, STR),
    ("metrics", shapes.metrics(), "MetricsConfig.metric_prefix", 1, TypeError, STR),
    ("prometheus", shapes.prometheus(), "PrometheusConfig.bind_address", 1, TypeError, STR),
    ("prometheus", shapes.prometheus(), "PrometheusConfig.unit_suffix", 1, TypeError, BOOL),
    (
        "prometheus",
        shapes.prometheus(),
        "PrometheusConfig.histogram_bucket_overrides",
        {"a": "b"},
        TypeError,
        "Can't extract `str` to `Vec`",
    ),
    (
        "prometheus",
        shapes.prometheus(),
        "PrometheusConfig.histogram_bucket_overrides",
        {"a": ["b"]},
        TypeError,
        "must be real number, not str",
    ),
    ("otel", shapes.otel(), "OpenTelemetryConfig.url", 1, TypeError, STR),
    ("otel", shapes.otel(), "OpenTelemetryConfig.headers", None, TypeError, "'None' is not an instance of 'dict'"),
    ("otel", shapes.otel(), "OpenTelemetryConfig.metric_periodicity_millis", -5, OverflowError, NEGATIVE),
    ("client", shapes.client(""), "ClientConfig.target_url", 1, TypeError, STR),
    ("client", shapes.client(""), "ClientConfig.identity", None, TypeError, "'None' is not an instance of 'str'"),
    ("client", shapes.client(""), "ClientConfig.metadata", None, TypeError, "'None' is not an instance of 'dict'"),
    ("client", shapes.client(""), "ClientConfig.payloads_warn_size", -1, OverflowError, NEGATIVE),
    ("client", shapes.client(""), "ClientConfig.connect_timeout_millis", "x", TypeError, NOT_AN_INT),
    ("tls", shapes.tls(), "ClientTlsConfig.server_root_ca_cert", "x", TypeError, "Can't extract `str` to `Vec`"),
    ("tls", shapes.tls(), "ClientTlsConfig.domain", b"x", TypeError, "'bytes' object is not an instance of 'str'"),
    ("retry", RETRY, "ClientRetryConfig.initial_interval_millis", -1, OverflowError, NEGATIVE),
    ("retry", RETRY, "ClientRetryConfig.multiplier", "x", TypeError, "must be real number, not str"),
    (
        "proxy",
        PROXY,
        "ClientHttpConnectProxyConfig.basic_auth",
        ["a", "b"],
        TypeError,
        "'list' object is not an instance of 'tuple'",
    ),
    (
        "proxy",
        PROXY,
        "ClientHttpConnectProxyConfig.basic_auth",
        ("a",),
        ValueError,
        "expected tuple of length 2, but got tuple of length 1",
    ),
    ("dns", DNS, "ClientDnsLoadBalancingConfig.resolution_interval_millis", "x", TypeError, NOT_AN_INT),
    ("call", shapes.call("x"), "RpcCall.rpc", 1, TypeError, STR),
    ("call", shapes.call("x"), "RpcCall.req", "x", TypeError, "Can't extract `str` to `Vec`"),
    ("call", shapes.call("x"), "RpcCall.req", None, TypeError, "'None' is not an instance of 'Sequence'"),
    ("call", shapes.call("x"), "RpcCall.retry", 1, TypeError, BOOL),
    (
        "call",
        shapes.call("x"),
        "RpcCall.metadata",
        MappingProxyType({}),
        TypeError,
        "'mappingproxy' object is not an instance of 'dict'",
    ),
    ("call", shapes.call("x"), "RpcCall.metadata", {1: "a"}, TypeError, STR),
    ("call", shapes.call("x"), "RpcCall.timeout_millis", -1, OverflowError, NEGATIVE),
    ("worker", shapes.worker("q"), "WorkerConfig.max_cached_workflows", -1, OverflowError, NEGATIVE),
    (
        "worker",
        shapes.worker("q"),
        "WorkerConfig.nonsticky_to_sticky_poll_ratio",
        "x",
        TypeError,
        "must be real number, not str",
    ),
    ("worker", shapes.worker("q"), "WorkerConfig.plugins", "ab", TypeError, "Can't extract `str` to `Vec`"),
    (
        "worker",
        shapes.worker("q"),
        "WorkerConfig.plugins",
        {"a"},
        TypeError,
        "'set' object is not an instance of 'Sequence'",
    ),
    ("worker", shapes.worker("q"), "WorkerConfig.plugins", [1], TypeError, STR),
    (
        "worker",
        shapes.worker("q"),
        "WorkerConfig.storage_drivers",
        [],
        TypeError,
        "'list' object is not an instance of 'set'",
    ),
    ("worker", shapes.worker("q"), "WorkerConfig.nondeterminism_as_workflow_fail_for_types", {1}, TypeError, STR),
    ("worker", shapes.worker("q"), "WorkerConfig.nondeterminism_as_workflow_fail", 1, TypeError, BOOL),
    ("task_types", shapes.task_types(), "WorkerTaskTypes.enable_nexus", 1, TypeError, BOOL),
    (
        "dev_server",
        shapes.dev_server("/none"),
        "DevServerConfig.port",
        70000,
        OverflowError,
        "number too large to fit in target type",
    ),
    (
        "dev_server",
        shapes.dev_server("/none"),
        "DevServerConfig.port",
        -1,
        OverflowError,
        "number too small to fit in target type",
    ),
    (
        "dev_server",
        shapes.dev_server("/none"),
        "DevServerConfig.extra_args",
        "ab",
        TypeError,
        "Can't extract `str` to `Vec`",
    ),
    ("test_server", shapes.test_server("/none"), "TestServerConfig.existing_path", 1, TypeError, STR),
]


@pytest.mark.parametrize("name,good,field,value,kind,text", WRONG, ids=[f"{row[2]}={row[3]!r}"[:60] for row in WRONG])
async def test_a_wrong_value_is_a_type_error_that_names_the_field(
    name: str, good: Any, field: str, value: Any, kind: type[BaseException], text: str, take: Taker
) -> None:
    attributes = vars(shapes.duck(good) if dataclasses.is_dataclass(good) else good)
    shape = SimpleNamespace(**{**attributes, field.split(".")[1]: value})
    assert chain(raised(getattr(take, name), shape)) == expected([*SHAPES[name][1], field], (kind, text))


async def test_no_attribute_of_an_older_layer_is_needed_and_unknown_ones_are_ignored(take: Taker) -> None:
    config = vars(shapes.duck(shapes.worker(unique())))
    del config["no_remote_activities"]
    assert type(take.worker(SimpleNamespace(**config, brand_new=1))) is native.WorkerRef


@pytest.mark.parametrize("request_bytes", [bytearray(), memoryview(b""), []])
async def test_a_request_may_be_any_sequence_of_bytes(request_bytes: Any, take: Taker) -> None:
    call = SimpleNamespace(rpc="get_system_info", req=request_bytes, retry=False, metadata={}, timeout_millis=None)
    assert isinstance(await take.call(call), bytes)


METADATA = (
    "failed to extract enum RpcMetadataValue ('str | bytes')\n"
    f"- variant Str (str): TypeError: failed to extract field RpcMetadataValue::Str.0, caused by TypeError: {STR}\n"
    "- variant Bytes (bytes): TypeError: failed to extract field RpcMetadataValue::Bytes.0, caused by TypeError: "
    "'int' object is not an instance of 'Sequence'"
)


async def test_metadata_is_text_or_bytes(take: Taker) -> None:
    error = raised(take.call, shapes.call("x", metadata={"a": 1}))
    assert chain(error) == expected(["RpcCall.metadata"], (TypeError, METADATA))
    error = raised(take.client, shapes.client("", metadata={"a": 1}))
    assert chain(error) == expected(["ClientConfig.metadata"], (TypeError, METADATA))
    assert chain(raised(take.connected.update_metadata, {"a": 1})) == expected([], (TypeError, METADATA))


async def test_a_poller_behaviour_tries_each_variant(take: Taker) -> None:
    text = (
        "failed to extract enum PollerBehavior ('SimpleMaximum | Autoscaling')\n"
        "- variant SimpleMaximum (SimpleMaximum): TypeError: failed to extract field PollerBehavior::SimpleMaximum.0, "
        "caused by TypeError: failed to extract field PollerBehaviorSimpleMaximum.simple_maximum, "
        f"caused by OverflowError: {NEGATIVE}\n"
        "- variant Autoscaling (Autoscaling): TypeError: failed to extract field PollerBehavior::Autoscaling.0, "
        "caused by AttributeError: 'PollerBehaviorSimpleMaximum' object has no attribute 'minimum'"
    )
    for kind in ("workflow", "activity", "nexus"):
        field = f"{kind}_task_poller_behavior"
        error = raised(take.worker, shapes.worker("q", **{field: shapes.pollers(-1)}))
        assert chain(error) == expected([f"WorkerConfig.{field}"], (TypeError, text))


async def test_a_versioning_strategy_tries_each_variant(take: Taker) -> None:
    strategy = SimpleNamespace(version=SimpleNamespace(deployment_name=1, build_id="b"))
    here = "failed to extract field WorkerVersioningStrategy"
    text = (
        "failed to extract enum WorkerVersioningStrategy ('None | DeploymentBased | LegacyBuildIdBased')\n"
        f"- variant None (None): TypeError: {here}::None.0, caused by AttributeError: "
        "'types.SimpleNamespace' object has no attribute 'build_id_no_versioning'\n"
        f"- variant DeploymentBased (DeploymentBased): TypeError: {here}::DeploymentBased.0, caused by TypeError: "
        "failed to extract field WorkerDeploymentOptions.version, caused by TypeError: "
        f"failed to extract field WorkerDeploymentVersion.deployment_name, caused by TypeError: {STR}\n"
        f"- variant LegacyBuildIdBased (LegacyBuildIdBased): TypeError: {here}::LegacyBuildIdBased.0, caused by "
        "AttributeError: 'types.SimpleNamespace' object has no attribute 'build_id_with_versioning'"
    )
    error = raised(take.worker, shapes.worker("q", versioning_strategy=strategy))
    assert chain(error) == expected(["WorkerConfig.versioning_strategy"], (TypeError, text))


@pytest.mark.parametrize("kind", ["workflow", "activity", "local_activity", "nexus"])
async def test_a_slot_supplier_that_fits_no_variant_names_all(kind: str, take: Taker) -> None:
    field = f"{kind}_slot_supplier"
    links = chain(raised(take.tuner, shapes.tuner(**{field: SimpleNamespace(num_slots=-1)})))
    assert links[:-1] == expected(["WorkerConfig.tuner", f"TunerHolder.{field}"])
    assert links[-1][0] is TypeError
    head, *variants = str(links[-1][1][0]).splitlines()
    assert head == "failed to extract enum SlotSupplier ('FixedSize | ResourceBased | Custom')"
    assert [variant.split()[2] for variant in variants] == ["FixedSize", "ResourceBased", "Custom"]
    assert variants[0].endswith(f"FixedSizeSlotSupplier.num_slots, caused by OverflowError: {NEGATIVE}")
    assert variants[1].endswith("'types.SimpleNamespace' object has no attribute 'minimum_slots'")


async def test_the_first_variant_that_fits_is_taken(take: Taker) -> None:
    both = SimpleNamespace(num_slots=1, minimum_slots=-1)
    assert type(take.worker(shapes.worker(unique(), tuner=shapes.tuner(nexus_slot_supplier=both)))) is native.WorkerRef
