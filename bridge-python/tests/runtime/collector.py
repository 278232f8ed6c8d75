"""An OpenTelemetry collector for metrics over HTTP, and a reader for just enough of its messages."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KINDS = {5: "gauge", 7: "sum", 9: "histogram"}


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers as `int` (fixed ones as `bytes`), the rest as `bytes`."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        match tag & 7:
            case 0:
                yield tag >> 3, varint()
            case 1:
                yield tag >> 3, message[at : at + 8]
                at += 8
            case 2:
                size = varint()
                yield tag >> 3, message[at : at + size]
                at += size
            case 5:
                yield tag >> 3, message[at : at + 4]
                at += 4
            case other:
                raise ValueError(f"wire type {other}")


def every(message: bytes, number: int) -> list[Any]:
    return [value for found, value in fields(message) if found == number]


def first(message: bytes, number: int, default: Any = b"") -> Any:
    return next(iter(every(message, number)), default)


def attribute(pair: bytes) -> tuple[str, object]:
    value = first(pair, 2)
    readers: dict[int, Callable[[Any], object]] = {
        1: lambda v: v.decode(),
        2: bool,
        3: int,
        4: lambda v: struct.unpack("<d", v)[0],
    }
    return first(pair, 1).decode(), next((readers[n](v) for n, v in fields(value)), None)


def doubles(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 8}d", packed)


@dataclass(frozen=True)
class Point:
    """One data point; of a histogram, `value` is the sum."""

    attributes: dict[str, object]
    value: float
    count: int = 0
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Metric:
    name: str
    description: str
    unit: str
    kind: str
    temporality: int
    points: list[Point]


def point(message: bytes, kind: str) -> Point:
    if kind == "histogram":
        [total] = struct.unpack("<d", first(message, 5, bytes(8)))
        [count] = struct.unpack("<Q", first(message, 4, bytes(8)))
        return Point(dict(map(attribute, every(message, 9))), total, count, doubles(first(message, 7)))
    whole, real = first(message, 6, None), first(message, 4, None)
    [value] = struct.unpack("<q", whole) if whole is not None else struct.unpack("<d", real)
    return Point(dict(map(attribute, every(message, 7))), value)


def metric(message: bytes) -> Metric:
    kind, data = next((KINDS[number], value) for number, value in fields(message) if number in KINDS)
    return Metric(
        first(message, 1).decode(),
        first(message, 2).decode(),
        first(message, 3).decode(),
        kind,
        first(data, 2, 0),
        [point(each, kind) for each in every(data, 1)],
    )


@dataclass(frozen=True)
class Export:
    """One request of an exporter."""

    path: str
    headers: dict[str, str]
    resource: dict[str, object]
    metrics: list[Metric]


def export(path: str, headers: dict[str, str], body: bytes) -> Export:
    resource: dict[str, object] = {}
    metrics = []
    for batch in every(body, 1):
        resource |= dict(map(attribute, every(first(batch, 1), 1)))
        metrics += [metric(each) for scope in every(batch, 2) for each in every(scope, 2)]
    return Export(path, headers, resource, metrics)


@dataclass
class Collector:
    """Listens on a free port of loopback while entered."""

    exports: list[Export] = field(default_factory=list)

    def __enter__(self) -> Collector:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector.exports.append(export(self.path, headers, body))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1/metrics"

    def find(self, name: str) -> list[Metric]:
        """Every export of the metric, oldest first."""
        return [metric for export in list(self.exports) for metric in export.metrics if metric.name == name]
