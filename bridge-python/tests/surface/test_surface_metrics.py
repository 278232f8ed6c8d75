"""Custom metrics: instruments, attributes, and the updates that a buffered runtime hands out."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from support import eventually
from surface import shapes
from surface.shapes import line, native, raised

KINDS = {
    "new_counter": ("MetricCounterRef", "add", 0),
    "new_gauge": ("MetricGaugeRef", "set", 1),
    "new_gauge_float": ("MetricGaugeFloatRef", "set", 1),
    "new_histogram": ("MetricHistogramRef", "record", 2),
    "new_histogram_float": ("MetricHistogramFloatRef", "record", 2),
    "new_histogram_duration": ("MetricHistogramDurationRef", "record", 2),
}
SERVICE = {"service_name": "temporal-core-sdk"}


class Buffered:
    """A runtime with a buffer and its meter."""

    def __init__(self, **change: Any) -> None:
        self.runtime = shapes.runtime(None, shapes.metrics(**{"buffered_with_size": 1000, **change}))
        self.meter = native.new_metric_meter(self.runtime)
        self.attributes = self.meter.default_attributes

    def counter(self, name: str = "c", unit: str | None = None) -> Any:
        return self.meter.new_counter(name, None, unit)

    def updates(self, seconds: bool = False) -> list[Any]:
        return list(self.runtime.retrieve_buffered_metrics(seconds))


@pytest.fixture
def buffered() -> Buffered:
    return Buffered()


def test_without_metrics_there_is_no_meter(quiet: Any) -> None:
    assert native.new_metric_meter(quiet) is None


def test_without_a_buffer_nothing_is_retrieved(quiet: Any, engine: str) -> None:
    error = raised(quiet.retrieve_buffered_metrics, True)
    assert "Attempting to retrieve buffered metrics without buffer" in str(error)
    if engine == "original":
        assert type(error).__name__ == "PanicException"
    assert line(raised(quiet.retrieve_buffered_metrics, 1)) == "TypeError: 'int' object is not an instance of 'bool'"


@pytest.mark.parametrize("maker", KINDS)
def test_each_instrument_reports_its_name_words_kind_and_value(maker: str, buffered: Buffered) -> None:
    kind, verb, number = KINDS[maker]
    instrument = getattr(buffered.meter, maker)("my_name", "my words", "my unit")
    assert type(instrument) is getattr(native, kind)
    value = 1.5 if maker.endswith("float") else 7
    assert getattr(instrument, verb)(value, buffered.attributes) is None
    (update,) = buffered.updates()
    assert type(update) is native.BufferedMetricUpdate
    assert type(update.metric) is native.BufferedMetric
    metric = update.metric
    assert (metric.name, metric.description, metric.unit, metric.kind) == ("my_name", "my words", "my unit", number)
    assert (update.value, type(update.value), update.attributes) == (value, type(value), SERVICE)
    assert buffered.updates() == []


@pytest.mark.parametrize("maker", KINDS)
def test_values_are_checked(maker: str, buffered: Buffered) -> None:
    instrument = getattr(buffered.meter, maker)("n", None, None)
    put = getattr(instrument, KINDS[maker][1])
    if maker.endswith("float"):
        assert line(raised(put, "x", buffered.attributes)) == "TypeError: must be real number, not str"
    else:
        assert line(raised(put, -1, buffered.attributes)) == "OverflowError: can't convert negative int to unsigned"
        assert line(raised(put, 2**64, buffered.attributes)) == "OverflowError: int too big to convert"
        assert (
            line(raised(put, 1.5, buffered.attributes))
            == "TypeError: 'float' object cannot be interpreted as an integer"
        )
    assert line(raised(put, 1, None)) == "TypeError: 'None' is not an instance of 'MetricAttributesRef'"
    assert buffered.updates() == []


def test_empty_words_are_none(buffered: Buffered) -> None:
    buffered.meter.new_counter("c", "", "").add(1, buffered.attributes)
    (update,) = buffered.updates()
    assert (update.metric.description, update.metric.unit) == (None, None)


def test_no_prefix_and_no_global_tags_on_custom_updates() -> None:
    buffered = Buffered(metric_prefix="foo_", global_tags={"tag": "value"})
    buffered.counter("mine").add(1, buffered.attributes)
    (update,) = buffered.updates()
    assert (update.metric.name, update.attributes) == ("mine", SERVICE)


def test_the_service_name_is_attached_only_on_request() -> None:
    buffered = Buffered(attach_service_name=False)
    buffered.counter().add(1, buffered.attributes)
    assert [update.attributes for update in buffered.updates()] == [{}]


def test_default_attributes_are_a_new_reference_each_time(buffered: Buffered) -> None:
    assert buffered.meter.default_attributes is not buffered.meter.default_attributes
    assert type(buffered.attributes) is native.MetricAttributesRef


def test_one_object_for_an_instrument_and_one_dict_for_a_set_of_attributes(buffered: Buffered) -> None:
    counter, other = buffered.counter("a"), buffered.counter("b")
    more = buffered.attributes.with_additional_attributes(buffered.meter, {"k": "v"})
    counter.add(1, more)
    other.add(2, more)
    counter.add(3, buffered.attributes)
    first, second, third = buffered.updates()
    counter.add(4, more)
    (fourth,) = buffered.updates()
    assert first.metric is third.metric
    assert first.metric is fourth.metric
    assert first.metric is not second.metric
    assert first.attributes is second.attributes
    assert first.attributes is fourth.attributes
    assert first.attributes is not third.attributes


def test_attributes_add_up_with_their_types(buffered: Buffered) -> None:
    first = buffered.attributes.with_additional_attributes(buffered.meter, {"s": "v", "b": True, "i": 7, "f": 1.5})
    second = first.with_additional_attributes(buffered.meter, {"s": "w", "big": 2**63})
    buffered.counter().add(1, second)
    buffered.counter().add(1, first)
    new, old = buffered.updates()
    assert old.attributes == {**SERVICE, "s": "v", "b": True, "i": 7, "f": 1.5}
    assert new.attributes == {**SERVICE, "s": "w", "b": True, "i": 7, "f": 1.5, "big": float(2**63)}
    kinds = {key: type(value) for key, value in new.attributes.items()}
    assert kinds == {"service_name": str, "s": str, "b": bool, "i": int, "f": float, "big": float}


@pytest.mark.parametrize("value", [None, [], b"x", {}, object])
def test_attributes_of_other_types_are_refused(value: Any, buffered: Buffered) -> None:
    error = raised(buffered.attributes.with_additional_attributes, buffered.meter, {"K": value})
    assert line(error) == "TypeError: Invalid value type for key K, must be str, int, float, or bool"


def test_the_arguments_of_attributes_are_checked(buffered: Buffered) -> None:
    add = buffered.attributes.with_additional_attributes
    assert line(raised(add, buffered.meter, {1: "v"})) == "TypeError: 'int' object is not an instance of 'str'"
    assert line(raised(add, buffered.meter, [1])) == "TypeError: 'list' object is not an instance of 'dict'"
    assert line(raised(add, None, {})) == "TypeError: 'None' is not an instance of 'MetricMeterRef'"
    assert (
        line(raised(buffered.meter.new_counter, 1, None, None)) == "TypeError: 'int' object is not an instance of 'str'"
    )


@pytest.mark.parametrize("seconds,value,unit", [(True, 1.5, "s"), (False, 1500, "ms")])
def test_durations_come_in_the_unit_of_the_retrieval(
    seconds: bool, value: float, unit: str, buffered: Buffered
) -> None:
    buffered.meter.new_histogram_duration("d", None, "duration").record(1500, buffered.attributes)
    (update,) = buffered.updates(seconds)
    assert (update.value, type(update.value), update.metric.unit) == (value, type(value), unit)


def test_the_unit_of_a_duration_is_what_the_first_retrieval_saw(buffered: Buffered) -> None:
    duration = buffered.meter.new_histogram_duration("d", None, "duration")
    duration.record(1500, buffered.attributes)
    buffered.updates(True)
    duration.record(1500, buffered.attributes)
    (update,) = buffered.updates(False)
    assert (update.value, update.metric.unit) == (1500, "s")


def test_other_units_stay_as_they_are(buffered: Buffered) -> None:
    buffered.meter.new_histogram_duration("d", None, "fortnight").record(1, buffered.attributes)
    buffered.meter.new_histogram_float("f", None, "duration").record(1.0, buffered.attributes)
    assert [update.metric.unit for update in buffered.updates(True)] == ["fortnight", "duration"]


def test_a_full_buffer_drops_the_newest() -> None:
    buffered = Buffered(buffered_with_size=20)
    counter = buffered.counter()
    for number in range(100):
        counter.add(number, buffered.attributes)
    values = [update.value for update in buffered.updates()]
    assert values == list(range(len(values)))
    assert 0 < len(values) <= 20


async def test_a_runtime_with_a_server_tells_of_its_requests(address: str, connected: Any) -> None:
    buffered = Buffered()
    client = await native.connect_client(buffered.runtime, shapes.client(f"http://{address}"))
    await client.call_workflow_service(shapes.call("get_system_info"))
    updates: list[Any] = []

    async def counted() -> None:
        updates.extend(buffered.updates())
        assert "temporal_request" in {update.metric.name for update in updates}

    await eventually(counted)
    requests = [update for update in updates if update.metric.name == "temporal_request"]
    assert {update.attributes["operation"] for update in requests} == {"GetSystemInfo"}
    assert {update.metric.kind for update in requests} == {0}
    assert len({id(update.metric) for update in requests}) == 1


async def test_prometheus_shows_custom_and_prefixed_metrics(address: str, connected: Any, free_address: str) -> None:
    metrics = shapes.metrics(
        prometheus=shapes.prometheus(bind_address=free_address), metric_prefix="pre_", global_tags={"tag": "value"}
    )
    runtime = shapes.runtime(None, metrics)
    meter = native.new_metric_meter(runtime)
    meter.new_counter("mine", "words", None).add(3, meter.default_attributes)
    client = await native.connect_client(runtime, shapes.client(f"http://{address}"))
    await client.call_workflow_service(shapes.call("get_system_info"))

    async def page() -> list[str]:
        with urllib.request.urlopen(f"http://{free_address}/metrics") as response:
            lines: list[str] = response.read().decode().splitlines()
        assert any(found.startswith("pre_request{") for found in lines), lines
        return lines

    lines = await eventually(page)
    (mine,) = [found for found in lines if found.startswith("mine{")]
    assert mine.endswith(" 3")
    assert 'service_name="temporal-core-sdk"' in mine
    (request,) = [found for found in lines if found.startswith("pre_request{")]
    assert 'operation="GetSystemInfo"' in request
    assert 'tag="value"' in request
