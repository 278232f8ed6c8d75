"""Rows of the benchmark, with their targets, as JSON and as a table. It knows nothing of how a figure came about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

TARGETS: list[tuple[str, Literal["ratio", "outlast"], float]] = [
    (r"python\.(test|dev)\.\w+\.\d+_activities\.native_cpu", "ratio", 0.4),
    (r"python\.(test|dev)\.\w+\.\d+_activities\.cpu", "ratio", 0.8),
    (r"python\.replay\.native_cpu", "ratio", 0.2),
    (r"python\.replay\.cpu", "ratio", 0.8),
    (r"python\.cached\.memory", "ratio", 0.7),
    (r"python\.(test|dev)\.spawn\.(first_result|shutdown)", "ratio", 1.0),
    (r"python\.(test|dev)\.spawn\.aborts", "outlast", 0.0),
    (r"python\.import\.native", "outlast", 10.0),
    (r"python\.wheel", "outlast", 6.0),
]
"""Which row, what of it, at most. A row of no pattern is information."""


@dataclass(frozen=True)
class Row:
    """One figure for both engines; `None` for one that is not there."""

    name: str
    unit: str
    original: float | None
    outlast: float | None

    @property
    def ratio(self) -> float | None:
        return round(self.outlast / self.original, 3) if self.outlast is not None and self.original else None

    @property
    def target(self) -> str | None:
        found = self._target()
        return f"{found[0]} <= {found[1]:g}" if found else None

    @property
    def holds(self) -> bool | None:
        """`None` where there is no target, or nothing to hold it against."""
        found = self._target()
        figure = (self.ratio if found[0] == "ratio" else self.outlast) if found else None
        return None if found is None or figure is None else figure <= found[1]

    def _target(self) -> tuple[Literal["ratio", "outlast"], float] | None:
        return next(((what, limit) for pattern, what, limit in TARGETS if re.fullmatch(pattern, self.name)), None)

    def encoded(self) -> dict[str, Any]:
        figures = {"original": self.original, "outlast": self.outlast, "ratio": self.ratio}
        return {"name": self.name, **figures, "unit": self.unit, "target": self.target}


def table(rows: list[Row]) -> str:
    lines = [f"{'name':<44} {'original':>10} {'outlast':>10} {'ratio':>7} {'unit':<6} {'target':<14} holds"]
    for row in rows:
        holds = {True: "yes", False: "NO", None: ""}[row.holds]
        figures = f"{shown(row.original):>10} {shown(row.outlast):>10} {shown(row.ratio):>7}"
        lines.append(f"{row.name:<44} {figures} {row.unit:<6} {row.target or '':<14} {holds}".rstrip())
    return "\n".join(lines)


def shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"
