"""Limits of payloads: their texts, and clients whose log is kept."""

from __future__ import annotations

from typing import Any

from logs import Kept, runtime
from temporalio.client import Client
from temporalio.runtime import TelemetryFilter
from temporalio.service import PayloadLimitsConfig

TOO_MUCH = 2 * 1024 * 1024 + 1
"""The server takes payloads of two megabytes."""
REFUSED = "[TMPRL1103] Attempted to upload payloads with size that exceeded the error limit."
WARNED = "[TMPRL1103] Attempted to upload {} with size that exceeded the warning limit."


async def logged(address: str, **limits: int) -> tuple[Client, Kept]:
    """A client on a runtime of its own that forwards its log."""
    kept = Kept()
    engine = runtime(kept, TelemetryFilter("WARN", "ERROR"))
    return await Client.connect(address, runtime=engine, payload_limits=PayloadLimitsConfig(**limits)), kept


def said(kept: Kept) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, message and fields of each record."""
    return [(r.levelname, e.message, dict(e.fields)) for r, e in zip(kept.records, kept.entries, strict=True)]
