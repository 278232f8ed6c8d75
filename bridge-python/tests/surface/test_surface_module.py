"""What the native module holds: names, classes without constructors, exceptions, parameters by position and by name."""

from __future__ import annotations

import importlib
import pickle
import sys
from typing import Any

import pytest
import temporalio.bridge

from surface import shapes
from surface.shapes import native

FUNCTIONS = [
    "connect_client",
    "init_runtime",
    "new_metric_meter",
    "new_replay_worker",
    "new_worker",
    "raise_in_thread",
    "start_dev_server",
    "start_test_server",
]
CLASSES = {
    "ActivitySlotInfo": "activity_type",
    "BufferedLogEntry": "fields level message target time",
    "BufferedMetric": "description kind name unit",
    "BufferedMetricUpdate": "attributes metric value",
    "ClientRef": "call_cloud_service call_health_service call_operator_service call_test_service call_workflow_service "
    "update_api_key update_metadata",
    "EphemeralServerRef": "has_test_service shutdown target",
    "HistoryPusher": "close push_history",
    "LocalActivitySlotInfo": "activity_type",
    "MetricAttributesRef": "with_additional_attributes",
    "MetricCounterRef": "add",
    "MetricGaugeFloatRef": "set",
    "MetricGaugeRef": "set",
    "MetricHistogramDurationRef": "record",
    "MetricHistogramFloatRef": "record",
    "MetricHistogramRef": "record",
    "MetricMeterRef": "default_attributes new_counter new_gauge new_gauge_float new_histogram new_histogram_duration "
    "new_histogram_float",
    "RuntimeRef": "retrieve_buffered_metrics write_test_debug_log write_test_info_log",
    "SlotMarkUsedCtx": "permit slot_info",
    "SlotReleaseCtx": "permit slot_info",
    "SlotReserveCtx": "is_sticky slot_type task_queue worker_build_id worker_deployment_version worker_identity",
    "WorkerRef": "complete_activity_task complete_nexus_task complete_workflow_activation finalize_shutdown "
    "initiate_shutdown poll_activity_task poll_nexus_task poll_workflow_activation record_activity_heartbeat "
    "replace_client request_workflow_eviction validate",
    "WorkflowSlotInfo": "is_sticky workflow_type",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_there(name: str) -> None:
    assert callable(getattr(native, name))
    assert not isinstance(getattr(native, name), type)


@pytest.mark.parametrize("name", CLASSES)
def test_class_has_its_members_and_no_constructor(name: str) -> None:
    kind = getattr(native, name)
    assert set(CLASSES[name].split()) <= set(dir(kind))
    assert kind.__name__ == name
    with pytest.raises(TypeError, match=f"cannot create '.*{name}' instances"):
        kind()


def test_no_fips() -> None:
    assert native.FIPS is False


def test_a_custom_slot_supplier_wraps_any_object_and_needs_one() -> None:
    assert type(native.CustomSlotSupplier(object())) is native.CustomSlotSupplier
    assert type(native.CustomSlotSupplier(inner=object())) is native.CustomSlotSupplier
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'inner'"):
        native.CustomSlotSupplier()


def test_exceptions_are_plain_exceptions() -> None:
    assert native.RPCError.__bases__ == (Exception,)
    assert native.PollShutdownError.__bases__ == (Exception,)
    assert native.envconfig.ConfigError.__bases__ == (RuntimeError,)
    error = native.RPCError(5, "gone", b"\x01")
    assert error.args == (5, "gone", b"\x01")
    assert repr(error) == "RPCError(5, 'gone', b'\\x01')"
    assert repr(native.PollShutdownError()) == "PollShutdownError()"


def test_every_road_of_import_leads_to_one_module() -> None:
    name = "temporalio.bridge.temporal_sdk_bridge"
    assert sys.modules[name] is native
    assert importlib.import_module(name) is native
    assert temporalio.bridge.temporal_sdk_bridge is native
    namespace: dict[str, Any] = {}
    exec(f"from {name} import envconfig, RPCError, PollShutdownError, CustomSlotSupplier", namespace)
    assert namespace["envconfig"] is native.envconfig
    assert namespace["RPCError"] is native.RPCError


def test_envconfig_is_an_attribute_and_not_a_module_of_its_own() -> None:
    assert callable(native.envconfig.load_client_config)
    assert callable(native.envconfig.load_client_connect_config)
    assert "temporalio.bridge.temporal_sdk_bridge.envconfig" not in sys.modules


def test_parameters_may_be_named() -> None:
    runtime = native.init_runtime(options=shapes.options())
    assert native.new_metric_meter(runtime_ref=runtime) is None
    assert native.raise_in_thread(thread_id=1, exc=ValueError) is False
    worker, pusher = native.new_replay_worker(runtime_ref=runtime, config=shapes.replay_worker())
    assert (type(worker), type(pusher)) == (native.WorkerRef, native.HistoryPusher)
    with pytest.raises(TypeError, match="unexpected keyword argument 'opt'"):
        native.init_runtime(opt=shapes.options())
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'options'"):
        native.init_runtime()


def test_references_are_not_pickled(quiet: Any) -> None:
    with pytest.raises(TypeError, match="cannot pickle '.*RuntimeRef' object"):
        pickle.dumps(quiet)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: native.new_metric_meter(1),
        lambda: native.connect_client(1, shapes.client(shapes.NOWHERE)),
        lambda: native.new_worker(1, None, shapes.worker("q")),
        lambda: native.new_replay_worker(1, shapes.replay_worker()),
        lambda: native.start_dev_server(1, shapes.dev_server("/none")),
        lambda: native.start_test_server(1, shapes.test_server("/none")),
    ],
)
def test_a_runtime_must_be_a_runtime(wrong: Any) -> None:
    assert shapes.line(shapes.raised(wrong)) == "TypeError: 'int' object is not an instance of 'RuntimeRef'"


def test_a_client_must_be_a_client(quiet: Any) -> None:
    error = shapes.raised(native.new_worker, quiet, 1, shapes.worker("q"))
    assert shapes.line(error) == "TypeError: 'int' object is not an instance of 'ClientRef'"


def test_raise_in_thread_knows_no_such_thread() -> None:
    assert native.raise_in_thread(2**40, KeyError) is False
    with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
        native.raise_in_thread("a", KeyError)
