"""Logs of the core: handed to a Python logger with target, level and fields, or written to the console."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import pytest
from logs import Kept, runtime
from support import eventually, new_worker, unique
from temporalio import workflow
from temporalio.client import Client
from temporalio.runtime import TelemetryFilter


async def test_a_record_has_level_target_fields_and_time_of_the_core() -> None:
    kept = Kept()
    before = time.time()
    engine = runtime(kept)
    engine._core_runtime.write_test_info_log("something happened", "7")
    record = await kept.find("something happened")
    assert (record.levelno, record.levelname) == (logging.INFO, "INFO")
    assert record.name == f"{kept.logger.name}-sdk_core::temporal_sdk_bridge::runtime"
    assert record.getMessage() == (
        "[sdk_core::temporal_sdk_bridge::runtime] something happened {'extra_data': '7'}"
    )
    entry = record.temporal_log  # type: ignore[attr-defined]
    assert (entry.target, entry.message, entry.level) == ("temporal_sdk_bridge::runtime", "something happened", 20)
    assert entry.fields == {"extra_data": "7"}
    assert before - 1 <= entry.time <= time.time() + 1 and record.created == entry.time


async def test_the_record_can_be_left_plain() -> None:
    kept = Kept()
    engine = runtime(
        kept, append_target_to_name=False, prepend_target_on_message=False, append_log_fields_to_message=False
    )
    engine._core_runtime.write_test_debug_log("plain words", "x")
    record = await kept.find("plain words")
    assert (record.name, record.getMessage(), record.levelno) == (kept.logger.name, "plain words", logging.DEBUG)


async def test_the_order_of_records_is_the_order_of_events() -> None:
    kept = Kept()
    engine = runtime(kept)
    for number in range(200):
        engine._core_runtime.write_test_info_log(f"number {number}.", "")
    await kept.find("number 199.")
    numbers = [record.temporal_log.message for record in kept.records]  # type: ignore[attr-defined]
    assert [text for text in numbers if text.startswith("number")] == [f"number {n}." for n in range(200)]


@pytest.mark.parametrize(
    ("filter", "shown"),
    [
        (TelemetryFilter(core_level="DEBUG", other_level="ERROR"), {"info", "debug"}),
        (TelemetryFilter(core_level="INFO", other_level="DEBUG"), {"info"}),
        (TelemetryFilter(core_level="ERROR", other_level="DEBUG"), set()),
        ("error,temporal_sdk_bridge=debug", {"info", "debug"}),
        ("debug,temporal_sdk_bridge=off", set()),
        ("warn,temporal_sdk_bridge::runtime=info", {"info"}),
    ],
)
async def test_the_filter_decides_by_target_and_level(filter: TelemetryFilter | str, shown: set[str]) -> None:
    kept, marker = Kept(), Kept()
    engine, control = runtime(kept, filter), runtime(marker)
    engine._core_runtime.write_test_info_log("info", "")
    engine._core_runtime.write_test_debug_log("debug", "")
    # What was to be forwarded is gone once the runtime is; the second runtime shows that time has passed.
    control._core_runtime.write_test_info_log("marker", "")
    await marker.find("marker")
    if shown:
        for text in shown:
            await kept.find(text)
    assert {entry.message for entry in kept.entries} == shown


async def test_the_level_of_the_logger_counts_too() -> None:
    kept = Kept(level=logging.INFO)
    engine = runtime(kept)
    engine._core_runtime.write_test_debug_log("hidden", "")
    engine._core_runtime.write_test_info_log("shown", "")
    await kept.find("shown")
    assert not [record for record in kept.records if "hidden" in record.getMessage()]


@workflow.defn
class Stumble:
    @workflow.run
    async def run(self) -> None:
        raise RuntimeError("a bug of mine")


async def test_a_failing_workflow_task_is_a_warning_with_its_run(address: str) -> None:
    kept = Kept()
    client = await Client.connect(address, runtime=runtime(kept, TelemetryFilter("WARN", "ERROR")))
    async with new_worker(client, Stumble) as worker:
        handle = await client.start_workflow(Stumble.run, id=unique(), task_queue=worker.task_queue)
        record = await kept.find("Failing workflow task")
        await handle.terminate()
    entry = record.temporal_log  # type: ignore[attr-defined]
    assert record.levelno == logging.WARNING
    assert entry.target == "temporalio_sdk_core::worker::workflow"
    assert entry.fields["run_id"] == handle.first_execution_run_id
    assert "a bug of mine" in str(entry.fields["failure"])


async def test_a_logger_that_raises_stops_nothing(address: str) -> None:
    kept = Kept()

    def explode(record: logging.LogRecord) -> bool:
        if "explosive" in record.getMessage():
            raise RuntimeError("the logger is broken")
        return True

    kept.logger.addFilter(explode)
    engine = runtime(kept)
    engine._core_runtime.write_test_info_log("explosive", "")

    async def still_alive() -> None:
        engine._core_runtime.write_test_info_log("harmless", "")
        assert [record for record in kept.records if "harmless" in record.getMessage()]

    await eventually(still_alive)


async def test_two_runtimes_log_to_their_own_loggers() -> None:
    one, two = Kept(), Kept()
    engines = [runtime(one), runtime(two)]
    engines[0]._core_runtime.write_test_info_log("for one", "")
    engines[1]._core_runtime.write_test_info_log("for two", "")
    await one.find("for one")
    await two.find("for two")
    assert len(one.records) == len(two.records) == 1


CONSOLE = """
import os, sys
if os.environ.get("OUTLAST_ENGINE", "outlast") == "outlast":
    import outlast.compat.temporalio
    outlast.compat.temporalio.install()
from temporalio.runtime import LoggingConfig, LoggingFormat, Runtime, TelemetryConfig
form = LoggingFormat(sys.argv[1]) if sys.argv[1] else None
engine = Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="debug", format=form)))
engine._core_runtime.write_test_info_log("on the console", "more")
engine._core_runtime.write_test_debug_log("in detail", "most")
sys.stdout.flush()
"""


def console(form: str, **environment: str) -> list[str]:
    argv = [sys.executable, "-c", CONSOLE, form]
    done = subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout).splitlines()


@pytest.mark.parametrize("form", ["", "compact"])
def test_the_compact_console_format_has_a_line_for_each_event_and_is_the_default(form: str) -> None:
    first, second = console(form)
    target = "temporal_sdk_bridge::runtime"
    assert first.split(maxsplit=1)[1].lstrip() == f'INFO {target}: on the console extra_data="more"'
    assert second.split(maxsplit=1)[1].lstrip() == f'DEBUG {target}: in detail extra_data="most"'


def test_the_json_console_format_can_be_read_back() -> None:
    first, second = [json.loads(line) for line in console("json")]
    assert first["fields"] == {"message": "on the console", "extra_data": "more"}
    assert second["fields"] == {"message": "in detail", "extra_data": "most"}
    assert [entry["level"] for entry in (first, second)] == ["INFO", "DEBUG"]
    assert all(datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")) for entry in (first, second))


@pytest.mark.parametrize(("form", "environment"), [("pretty", {}), ("", {"TEMPORAL_CORE_PRETTY_LOGS": "1"})])
def test_the_pretty_console_format_leaves_room_between_events(form: str, environment: dict[str, str]) -> None:
    lines = console(form, **environment)
    assert "" in lines
    first, second = [line for line in lines if "::runtime" in line]
    assert 'on the console, extra_data: "more"' in first and 'in detail, extra_data: "most"' in second
