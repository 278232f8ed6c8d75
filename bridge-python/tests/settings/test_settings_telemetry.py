"""Telemetry: prefixes, tags, filters, formats, addresses and headers make a runtime, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from settings.table import REFUSED, Row, rows
from surface import shapes
from surface.shapes import native

WORKS = "works"
TEXTS = ["", " ", "x", "x y", "caf\u00e9", "1a", "a-b", "a.b", "new\nline", "x" * 3000]
EXPORTERS: dict[str, Callable[[], dict[str, Any]]] = {
    "prometheus": lambda: {"prometheus": shapes.prometheus()},
    "otel": lambda: {"opentelemetry": shapes.otel()},
    "buffer": lambda: {"buffered_with_size": 5},
}


def becomes(logging: Any = None, metrics: Any = None) -> str:
    """What becomes of a runtime with these settings."""
    try:
        native.init_runtime(shapes.options(logging, metrics))
    except ValueError:
        return REFUSED
    return WORKS


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    "setting",
    [lambda text: {"metric_prefix": text}, lambda text: {"global_tags": {text: "x"}}, lambda text: {"global_tags": {"x": text}}],
    ids=["prefix", "tag", "value of a tag"],
)
def test_any_text_will_do(exporter: str, setting: Callable[[str], dict[str, Any]]) -> None:
    for text in TEXTS:
        assert becomes(None, shapes.metrics(**EXPORTERS[exporter](), **setting(text))) == WORKS, text


@pytest.mark.parametrize("exporter", ["prometheus", "otel"])
def test_any_tag_of_our_own_will_do(exporter: str) -> None:
    for name in ("service_name", "namespace", "task_queue", "le", "__name__", "quantile"):
        assert becomes(None, shapes.metrics(**EXPORTERS[exporter](), global_tags={name: "x"})) == WORKS, name


@pytest.mark.parametrize("bounds", [{}, {"": [1.0]}, {"x": []}, {"x": [2.0, 1.0]}, {"x": [1.0, 1.0]}, {"caf\u00e9": [1.0]}])
def test_any_bounds_will_do(bounds: dict[str, list[float]]) -> None:
    for exporter in (shapes.prometheus, shapes.otel):
        name = "prometheus" if exporter is shapes.prometheus else "opentelemetry"
        assert becomes(None, shapes.metrics(**{name: exporter(histogram_bucket_overrides=bounds)})) == WORKS


BIND = [
    *(Row(address, WORKS) for address in ("127.0.0.1:0", "127.0.0.1:00", "0.0.0.0:0")),
    *(
        Row(address, REFUSED)
        for address in ("", "127.0.0.1", "localhost:0", " 127.0.0.1:0", "127.0.0.1:0 ", "127.1:0", "0:0", "127.0.0.1:+0")
    ),
    *(Row(address, REFUSED) for address in ("127.0.0.1:65536", "[127.0.0.1]:0", "[::1%lo]:0", "tcp://127.0.0.1:0")),
    Row("203.0.113.1:0", REFUSED),
]


@pytest.mark.parametrize(**rows(*BIND))
def test_addresses_for_prometheus(row: Row, engine: str) -> None:
    assert becomes(None, shapes.metrics(prometheus=shapes.prometheus(bind_address=row.value))) == row.expected(engine)


LATER = "the resolver says so, not the reader of the URL"
COLLECTORS = [
    *(Row(url, WORKS) for url in ("http://a", "https://a", "HTTP://a", "http://a:", "http://a:0", "http://a_b", "http://*")),
    *(Row(url, WORKS) for url in ("grpc://a", "a://b", "http:a", "http:/a", "http:///a", "http:\\\\a", "http://a\\b")),
    *(Row(url, WORKS) for url in (" http://a", "http://a ", "http://a\n", "http://a:1/x y", "http://u:p@a", "http://[::1]")),
    *(Row(url, WORKS) for url in ("http://caf\u00e9:1", "http://\u4e16:1", "http://a%41")),
    *(Row(url, REFUSED) for url in ("", "http", "//a", "/a", "?", "://a", "1http://a", "ht tp://a", "127.0.0.1:4317")),
    *(Row(url, REFUSED) for url in ("http:", "http://", "http://?", "http://#", "https://user@:1", "file:///x")),
    *(Row(url, REFUSED) for url in ("http://a b", "http://a|b", "http://%", "http://%zz", "http://a%20b")),
    *(Row(url, REFUSED) for url in ("http://[::1", "http://[x]", "http://a:99999")),
    *(Row(url, REFUSED, WORKS, LATER) for url in ("http://1.2.3.4.5", "http://256.1.1.1", "http://xn--a")),
]


@pytest.mark.parametrize("http", [False, True])
@pytest.mark.parametrize(**rows(*COLLECTORS))
def test_addresses_of_collectors(row: Row, http: bool, engine: str) -> None:
    metrics = shapes.metrics(opentelemetry=shapes.otel(url=row.value, http=http))
    assert becomes(None, metrics) == row.expected(engine)


HEADERS = [
    *(Row((key, "x"), WORKS) for key in ("a", "A", "a!b", "a-bin", "te", "content-type", "grpc-x", "host", "user-agent")),
    *(Row(("a", value), WORKS) for value in ("", "\t", "caf\u00e9", "x y")),
    *(Row((key, "x"), REFUSED) for key in ("", "a b", "caf\u00e9", ":a", "a:b")),
    *(Row(("a", value), REFUSED) for value in ("\n", "\x7f", "\0")),
]


@pytest.mark.parametrize(**rows(*HEADERS))
def test_headers_for_collectors(row: Row, engine: str) -> None:
    headers = dict([row.value])
    assert becomes(None, shapes.metrics(opentelemetry=shapes.otel(headers=headers))) == row.expected(engine)
    # By HTTP, what is no header is left out.
    assert becomes(None, shapes.metrics(opentelemetry=shapes.otel(headers=headers, http=True))) == WORKS


FILTERS = ["", "info", "INFO", "off", "5", "0", "6", "a=b", "a=info", "a=b=c", "=", "=info", "info,,", ",", "caf\u00e9=info"]
FILTERS += ["[s]=info", "t[s{f=1}]=debug", 't[s{f="x"}]=debug', "a::b=trace", "a-b=info", "*=info", "a=", "  info  "]
FILTERS += ["info;debug", "a =info", "a= info", "[", "]", "{", "t[", "t[s", "t[s{", "x" * 3000, "/re/", "loud"]


@pytest.mark.parametrize("forward_to", [None, lambda batch: None], ids=["console", "forwarded"])
def test_any_filter_will_do(forward_to: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for text in FILTERS:
        assert becomes(shapes.logging(filter=text, forward_to=forward_to)) == WORKS, text


def test_formats_of_the_console_are_three() -> None:
    for text, expected in {"compact": WORKS, "pretty": WORKS, "json": WORKS, "Compact": REFUSED, "": REFUSED}.items():
        assert becomes(shapes.logging(format=text)) == expected
        assert becomes(shapes.logging(format=text, forward_to=lambda batch: None)) == WORKS
