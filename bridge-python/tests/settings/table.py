"""One setting, one value, and what becomes of it on the original and on ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REFUSED = "refused"


@dataclass(frozen=True)
class Row:
    """What the original makes of a value; what ours does where that differs, and then why."""

    value: Any
    original: str
    ours: str | None = None
    why: str = ""

    def expected(self, engine: str) -> str:
        if self.ours is None or engine == "original":
            return self.original
        return self.ours

    def __str__(self) -> str:
        return ascii(self.value)[1:40]


def rows(*table: Row) -> dict[str, Any]:
    """For `pytest.mark.parametrize`."""
    for row in table:
        assert (row.ours is None) == (row.why == ""), f"{row}: what differs has a reason, and nothing else has"
        assert row.ours != row.original, f"{row}: it does not differ"
    return {"argnames": "row", "argvalues": table, "ids": [f"{number}-{row}" for number, row in enumerate(table)]}
