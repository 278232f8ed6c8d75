"""Durable workflows: functions that survive crashes, restarts and years of waiting.

The authoring API of this package is still to come. Today it runs programs written for `temporalio` on the Outlast core:
see `outlast.compat.temporalio`.
"""

from outlast._native import __version__

__all__ = ["__version__"]
