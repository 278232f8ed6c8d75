"""Starting a runtime: what is refused and in which words; logs as they reach a forwarder."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from lifecycle import scripts
from support import eventually
from surface import shapes
from surface.shapes import line, native, raised

PROMETHEUS_ADDRESS = "ValueError: Invalid Prometheus address: invalid socket address syntax"
REFUSED: list[tuple[str, Any]] = [
    (
        "ValueError: Invalid runtime options: heartbeat_interval (1ms) must be between 1s and 60s",
        shapes.options(worker_heartbeat_interval_millis=1),
    ),
    (
        "ValueError: Invalid runtime options: heartbeat_interval (0ns) must be between 1s and 60s",
        shapes.options(worker_heartbeat_interval_millis=0),
    ),
    (
        "ValueError: Invalid runtime options: heartbeat_interval (61s) must be between 1s and 60s",
        shapes.options(worker_heartbeat_interval_millis=61_000),
    ),
    ("ValueError: Unrecognized logging format", shapes.options(shapes.logging(format="zz"))),
    ("ValueError: Either OpenTelemetry or Prometheus config must be provided", shapes.options(None, shapes.metrics())),
    (
        "ValueError: Cannot have OpenTelemetry and Prometheus metrics",
        shapes.options(None, shapes.metrics(prometheus=shapes.prometheus(), opentelemetry=shapes.otel())),
    ),
    (
        "ValueError: Cannot have buffer size with OpenTelemetry or Prometheus metric config",
        shapes.options(None, shapes.metrics(prometheus=shapes.prometheus(), buffered_with_size=1)),
    ),
    (
        "ValueError: Cannot have buffer size with OpenTelemetry or Prometheus metric config",
        shapes.options(None, shapes.metrics(opentelemetry=shapes.otel(), buffered_with_size=1)),
    ),
    *(
        (PROMETHEUS_ADDRESS, shapes.options(None, shapes.metrics(prometheus=shapes.prometheus(bind_address=address))))
        for address in ("", "nope", "127.0.0.1", "localhost:0", "127.0.0.1:99999")
    ),
    *(
        (
            f"ValueError: Invalid OTel URL: {why}",
            shapes.options(None, shapes.metrics(opentelemetry=shapes.otel(url=url))),
        )
        for url, why in {
            "": "relative URL without a base",
            "127.0.0.1:4317": "relative URL without a base",
            "http://": "empty host",
            "http://a b": "invalid international domain name",
        }.items()
    ),
    (
        "ValueError: Failed building OTel exporter: invalid HTTP header name",
        shapes.options(None, shapes.metrics(opentelemetry=shapes.otel(headers={"a b": "c"}))),
    ),
]


@pytest.mark.parametrize("text,options", REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_a_runtime_that_cannot_be_is_refused(text: str, options: Any) -> None:
    assert line(raised(native.init_runtime, options)) == text


def test_a_taken_port_for_prometheus_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        prometheus = shapes.prometheus(bind_address=f"127.0.0.1:{taken.getsockname()[1]}")
        error = raised(shapes.runtime, None, shapes.metrics(prometheus=prometheus))
        assert line(error) == "ValueError: Failed starting Prometheus exporter: Address already in use (os error 98)"


@pytest.mark.parametrize("interval", [None, 1_000, 60_000])
def test_heartbeat_intervals_from_a_second_to_a_minute_or_none(interval: int | None) -> None:
    assert type(shapes.runtime(worker_heartbeat_interval_millis=interval)) is native.RuntimeRef


def test_a_format_does_not_matter_to_a_forwarder() -> None:
    assert type(shapes.runtime(shapes.logging(format="zz", forward_to=print))) is native.RuntimeRef


def console(body: str) -> tuple[str, str]:
    """What a program of its own writes to stdout and stderr."""
    program = scripts.start(
        "def runtime(**log):\n    return shapes.runtime(shapes.logging(**{'filter': 'info', **log}))\n" + body
    )
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    return out, err


@pytest.mark.parametrize("style", ["compact", "pretty", "json", None])
def test_console_logs_go_to_stdout_with_target_message_and_field(style: str | None) -> None:
    out, _ = console(f"runtime(format={style!r}).write_test_info_log('the message', 'the extra')")
    for word in ("INFO", "the message", "extra_data", "the extra"):
        assert word in out
    if style == "json":
        assert json.loads(out)["fields"] == {"message": "the message", "extra_data": "the extra"}
    else:
        assert "temporal_sdk_bridge::runtime" in out


def test_the_console_filter_holds() -> None:
    out, _ = console("runtime(filter='error').write_test_info_log('the message', 'the extra')")
    assert out == ""


def test_a_bad_directive_is_ignored_with_a_note_on_stderr() -> None:
    out, err = console("runtime(filter='temporal_sdk_bridge=loud,info').write_test_info_log('the message', 'x')")
    assert "temporal_sdk_bridge=loud" in err
    assert "the message" in out


class Collector:
    """A forwarder that keeps batches and the threads that brought them."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.threads: set[int] = set()

    def __call__(self, batch: Sequence[Any]) -> None:
        self.threads.add(threading.get_ident())
        self.batches.append(list(batch))

    @property
    def entries(self) -> list[Any]:
        return [entry for batch in self.batches for entry in batch]

    async def wait_for(self, count: int) -> list[Any]:
        async def enough() -> None:
            assert len(self.entries) >= count

        await eventually(enough)
        return self.entries


async def test_logs_reach_the_forwarder_in_full() -> None:
    collector = Collector()
    runtime = shapes.runtime(shapes.logging(filter="info,temporal_sdk_bridge=debug", forward_to=collector))
    before = time.time()
    assert runtime.write_test_info_log("one", "first") is None
    assert runtime.write_test_debug_log("two", "second") is None
    one, two = await collector.wait_for(2)
    assert (one.target, one.level, one.message, one.fields) == (
        "temporal_sdk_bridge::runtime",
        20,
        "one",
        {"extra_data": "first"},
    )
    assert (two.target, two.level, two.message, two.fields) == (
        "temporal_sdk_bridge::runtime",
        10,
        "two",
        {"extra_data": "second"},
    )
    assert type(one) is native.BufferedLogEntry
    assert isinstance(one.time, float)
    assert before - 1 < one.time <= time.time()
    assert one.fields is not one.fields


async def test_the_forwarder_is_called_on_a_native_thread_with_a_list() -> None:
    collector = Collector()
    got: list[type] = []

    def forward(batch: Sequence[Any]) -> None:
        got.append(type(batch))
        collector(batch)

    runtime = shapes.runtime(shapes.logging(filter="info", forward_to=forward))
    runtime.write_test_info_log("a", "b")
    await collector.wait_for(1)
    assert got == [list]
    assert threading.get_ident() not in collector.threads


async def test_the_filter_holds_before_the_forwarder() -> None:
    collector = Collector()
    runtime = shapes.runtime(shapes.logging(filter="info", forward_to=collector))
    runtime.write_test_debug_log("not this", "x")
    runtime.write_test_info_log("but this", "x")
    assert [entry.message for entry in await collector.wait_for(1)] == ["but this"]


async def test_a_flood_of_logs_comes_in_batches_of_at_most_2048_and_in_order() -> None:
    collector = Collector()
    runtime = shapes.runtime(shapes.logging(filter="info", forward_to=collector))
    for number in range(1000):
        runtime.write_test_info_log(str(number), "x")
    entries = await collector.wait_for(1000)
    assert [int(entry.message) for entry in entries] == list(range(1000))
    assert max(map(len, collector.batches)) <= 2048
    assert len(collector.batches) < 1000


async def test_an_exception_in_the_forwarder_stops_nothing() -> None:
    calls: list[int] = []

    def broken(batch: Sequence[Any]) -> None:
        calls.append(len(batch))
        raise ValueError("the forwarder broke")

    async def called(times: int) -> None:
        assert len(calls) >= times

    runtime = shapes.runtime(shapes.logging(filter="info", forward_to=broken))
    for times in (1, 2, 3):
        runtime.write_test_info_log("a", "b")
        await eventually(lambda times=times: called(times))  # type: ignore[misc]
    assert sum(calls) == 3


async def test_two_runtimes_forward_each_to_their_own() -> None:
    here, there = Collector(), Collector()
    first = shapes.runtime(shapes.logging(filter="info", forward_to=here))
    second = shapes.runtime(shapes.logging(filter="info", forward_to=there))
    first.write_test_info_log("here", "x")
    second.write_test_info_log("there", "x")
    assert [entry.message for entry in await here.wait_for(1)] == ["here"]
    assert [entry.message for entry in await there.wait_for(1)] == ["there"]


@pytest.mark.parametrize("method", ["write_test_info_log", "write_test_debug_log"])
def test_without_logging_a_test_log_is_a_misuse(method: str, quiet: Any, engine: str) -> None:
    error = raised(getattr(quiet, method), "a", "b")
    assert "Panic" in type(error).__name__ or isinstance(error, Exception)
    if engine == "original":
        assert line(error) == "PanicException: called `Option::unwrap()` on a `None` value"
    assert line(raised(getattr(quiet, method), 1, 2)) == "TypeError: 'int' object is not an instance of 'str'"
