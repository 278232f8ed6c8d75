"""What a replay that fails logs."""

from __future__ import annotations

import pytest
from logs import Kept, runtime
from replayer.recordings import TimerFirst, Visit, record
from support import eventually
from temporalio.client import Client
from temporalio.runtime import TelemetryFilter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError


async def test_a_replay_that_fails_logs_it_like_a_worker(client: Client) -> None:
    kept = Kept()
    engine = runtime(kept, TelemetryFilter("WARN", "ERROR"))
    history = await record(client, Visit, "Ada")
    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[TimerFirst], runtime=engine).replay_workflow(history)

    async def told() -> None:
        found = [entry for entry in kept.records if "Failing workflow task" in entry.getMessage()]
        assert len(found) == 1
        (failing,) = found
        assert failing.levelname == "WARNING"
        entry = getattr(failing, "temporal_log")
        assert entry.fields["run_id"] == history.run_id
        assert "TMPRL1100" in entry.fields["failure"]

    await eventually(told)
