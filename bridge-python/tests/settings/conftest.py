"""A quiet native runtime for all tests of settings."""

from __future__ import annotations

from typing import Any

import pytest

from surface import shapes


@pytest.fixture(scope="session")
def quiet() -> Any:
    """A native runtime without logs and metrics."""
    return shapes.runtime()
