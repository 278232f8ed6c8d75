"""The native module. Programs use `outlast` and `outlast.compat`."""

from outlast.compat import temporal_sdk_bridge as temporal_sdk_bridge

__all__ = ["__version__", "handles", "temporal_sdk_bridge"]

__version__: str

def handles() -> dict[str, int]:
    """How many native objects are alive, by kind. All zero once everything is dropped and collected."""
