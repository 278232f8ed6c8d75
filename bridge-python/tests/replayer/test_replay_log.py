"""What a replay that fails logs."""

from __future__ import annotations

import logging

import pytest
from replayer.recordings import TimerFirst, Visit, record
from support import eventually, unique
from temporalio.client import Client
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError


async def test_a_replay_that_fails_logs_it_like_a_worker(client: Client) -> None:
    records: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger = logging.getLogger(unique("engine"))
    logger.propagate = False
    logger.addHandler(Keeping())
    config = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), LogForwardingConfig(logger))
    runtime = Runtime(telemetry=TelemetryConfig(logging=config))
    history = await record(client, Visit, "Ada")
    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[TimerFirst], runtime=runtime).replay_workflow(history)

    async def told() -> None:
        found = [entry for entry in records if "Failing workflow task" in entry.getMessage()]
        assert len(found) == 1
        (failing,) = found
        assert failing.levelname == "WARNING"
        entry = getattr(failing, "temporal_log")
        assert entry.fields["run_id"] == history.run_id
        assert "TMPRL1100" in entry.fields["failure"]

    await eventually(told, seconds=5)
