"""What the core logs, forwarded to a Python logger that keeps it."""

from __future__ import annotations

import logging
from typing import Any

from support import eventually, unique
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter


class Kept(logging.Handler):
    """A logger of its own that keeps its records."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.logger = logging.getLogger(unique("log"))
        self.logger.setLevel(level)
        self.logger.propagate = False
        self.logger.addHandler(self)

    @property
    def entries(self) -> list[Any]:
        """What the core said, without what Python made of it."""
        return [getattr(record, "temporal_log") for record in self.records]

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    async def find(self, text: str) -> logging.LogRecord:
        async def there() -> logging.LogRecord:
            found = [record for record in self.records if text in record.getMessage()]
            assert found, [record.getMessage() for record in self.records]
            return found[0]

        return await eventually(there)


def runtime(kept: Kept, filter: TelemetryFilter | str = TelemetryFilter("DEBUG", "ERROR"), **options: Any) -> Runtime:
    """One that forwards what passes the filter."""
    forwarding = LogForwardingConfig(logger=kept.logger, **options)
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=filter, forwarding=forwarding)))
