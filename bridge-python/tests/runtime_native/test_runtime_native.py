"""The native runtime itself: two that do not mix, logs from every thread, and no waiting with the interpreter in hand."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import time
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest
import temporalio.bridge.temporal_sdk_bridge as native


def runtime(**telemetry: Any) -> Any:
    options = SimpleNamespace(
        telemetry=SimpleNamespace(**{"logging": None, "metrics": None, **telemetry}),
        worker_heartbeat_interval_millis=None,
        disable_environment_info=False,
    )
    return native.init_runtime(options)


def logging(forward_to: Any = None, *, filter: str = "error,temporal_sdk_bridge=debug", format: str | None = None) -> Any:
    return SimpleNamespace(filter=filter, forward_to=forward_to, format=format)


def metrics(**options: Any) -> Any:
    defaults = {
        "opentelemetry": None,
        "prometheus": None,
        "buffered_with_size": 0,
        "attach_service_name": True,
        "global_tags": None,
        "metric_prefix": None,
    }
    return SimpleNamespace(**{**defaults, **options})


class Taken:
    """A forwarder that keeps batches, and lets others wait for them."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.changed = threading.Condition()

    def __call__(self, batch: list[Any]) -> None:
        with self.changed:
            self.batches.append(batch)
            self.changed.notify_all()

    def wait(self, count: int) -> list[Any]:
        def entries() -> list[Any]:
            return [entry for batch in self.batches for entry in batch]

        with self.changed:
            assert self.changed.wait_for(lambda: len(entries()) >= count, 20), entries()
            return entries()


def test_records_of_two_runtimes_written_in_turn_on_one_thread_do_not_mix() -> None:
    takens = [Taken(), Taken()]
    runtimes = [runtime(logging=logging(taken)) for taken in takens]
    for number in range(100):
        for one in runtimes:
            one.write_test_info_log(f"{runtimes.index(one)} {number}", "")
    for index, taken in enumerate(takens):
        assert [entry.message for entry in taken.wait(100)] == [f"{index} {number}" for number in range(100)]


def test_a_burst_arrives_whole_and_in_batches_of_bounded_size() -> None:
    taken = Taken()
    engine = runtime(logging=logging(taken))
    for number in range(5000):
        engine.write_test_debug_log(str(number), "")
    assert [entry.message for entry in taken.wait(5000)] == [str(number) for number in range(5000)]
    assert max(len(batch) for batch in taken.batches) <= 2048


def test_what_was_logged_last_arrives_after_the_runtime_is_gone() -> None:
    taken = Taken()
    engine = runtime(logging=logging(taken))
    engine.write_test_info_log("last words", "x")
    del engine
    [entry] = taken.wait(1)
    assert (entry.target, entry.level, entry.fields) == ("temporal_sdk_bridge::runtime", 20, {"extra_data": "x"})
    assert entry.fields is not entry.fields
    assert abs(entry.time - time.time()) < 60


def test_a_runtime_may_be_dropped_by_its_own_forwarder_and_while_it_forwards() -> None:
    held: list[Any] = []
    dropped = threading.Event()

    def drop(_: list[Any]) -> None:
        held.clear()
        gc.collect()
        dropped.set()

    held.append(runtime(logging=logging(drop)))
    held[0].write_test_info_log("x", "")
    assert dropped.wait(20)


def test_dropping_does_not_wait_for_a_forwarder_that_is_busy() -> None:
    entered, leave = threading.Event(), threading.Event()

    def busy(_: list[Any]) -> None:
        entered.set()
        assert leave.wait(20)

    engine = runtime(logging=logging(busy))
    engine.write_test_info_log("x", "")
    assert entered.wait(20)
    del engine  # would wait for ever if it waited
    leave.set()


def test_every_metric_of_a_prometheus_runtime_is_on_its_own_page() -> None:
    pages = []
    for name in ("one", "two"):
        prometheus = SimpleNamespace(
            bind_address="127.0.0.1:0",
            counters_total_suffix=False,
            unit_suffix=False,
            durations_as_seconds=False,
            histogram_bucket_overrides={"dur": [1.5]},
        )
        # Port 0 would not tell which it is: a free one is found here.
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            prometheus.bind_address = "127.0.0.1:%d" % probe.getsockname()[1]
        engine = runtime(metrics=metrics(prometheus=prometheus, global_tags={"zone": name}))
        meter = native.new_metric_meter(engine)
        attributes = meter.default_attributes.with_additional_attributes(meter, {"n": 1, "ok": True})
        meter.new_counter(f"count_{name}", "what it counts", None).add(2, attributes)
        meter.new_histogram_duration("durations", None, "duration").record(1, attributes)
        with urllib.request.urlopen(f"http://{prometheus.bind_address}/metrics") as answer:
            pages.append(answer.read().decode())
    labels = 'n="1",ok="true",service_name="temporal-core-sdk",zone="one"'
    assert f"count_one{{{labels}}} 2\n" in pages[0] and "count_two" not in pages[0]
    assert f'durations_bucket{{{labels},le="1.5"}} 1\n' in pages[0]
    assert "# HELP count_two what it counts\n" in pages[1] and "count_one" not in pages[1]


def test_a_buffer_gives_one_object_for_one_metric_and_one_dict_for_one_set_of_attributes() -> None:
    engine = runtime(metrics=metrics(buffered_with_size=100, global_tags={"zone": "b"}))
    meter = native.new_metric_meter(engine)
    attributes = meter.default_attributes
    assert attributes is not meter.default_attributes
    meter.new_histogram_duration("d", "", "duration").record(1500, attributes)
    meter.new_gauge_float("g", None, "u").set(-2.5, attributes)
    [first, gauge] = engine.retrieve_buffered_metrics(True)
    meter.new_histogram_duration("d", "", "duration").record(1500, meter.default_attributes)
    [second] = engine.retrieve_buffered_metrics(False)
    assert first.metric is second.metric and first.attributes is second.attributes is gauge.attributes
    assert first.attributes == {"service_name": "temporal-core-sdk"}
    assert (first.metric.unit, first.metric.description, first.metric.kind) == ("s", None, 2)
    assert (first.value, second.value) == (1.5, 1500) and isinstance(second.value, int)
    assert (gauge.metric.name, gauge.metric.unit, gauge.metric.kind, gauge.value) == ("g", "u", 1, -2.5)


def test_an_exception_is_raised_in_another_thread() -> None:
    class Stop(Exception):
        pass

    ready, seen = threading.Event(), []

    def work() -> None:
        try:
            ready.set()
            while True:
                ctypes.pythonapi.PyErr_CheckSignals()
        except Stop:
            seen.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(20)
    assert native.raise_in_thread(thread.ident, Stop) is True
    thread.join(20)
    assert seen == ["stopped"]
    assert native.raise_in_thread(-1, Stop) is False
    with pytest.raises(TypeError, match="'str' object cannot be interpreted as an integer"):
        native.raise_in_thread("1", Stop)


@pytest.mark.parametrize("forwarded", [True, False])
def test_a_program_ends_in_peace_while_it_logs(forwarded: bool) -> None:
    program = f"""
import outlast.compat.temporalio, threading
outlast.compat.temporalio.install()
from types import SimpleNamespace as N
import temporalio.bridge.temporal_sdk_bridge as native
logging = N(filter="debug", forward_to=(lambda batch: None) if {forwarded} else None, format="json")
options = N(telemetry=N(logging=logging, metrics=None), worker_heartbeat_interval_millis=None, disable_environment_info=True)
engine = native.init_runtime(options)
def work():
    while True:
        engine.write_test_info_log("x", "y")
threading.Thread(target=work, daemon=True).start()
engine.write_test_info_log("x", "y")
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
