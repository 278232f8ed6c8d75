"""Run programs written for the package `temporalio` on the Outlast core, unchanged.

In a program, before or after `temporalio` is imported:

    import outlast.compat.temporalio
    outlast.compat.temporalio.install()

Or from outside: `python -m outlast.compat.temporalio SCRIPT [ARGS]`, `python -m outlast.compat.temporalio -m MODULE [ARGS]`.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

_NAME = "temporalio.bridge.temporal_sdk_bridge"


def install(*, subprocesses: bool = False) -> None:
    """Put our native module in the place of the package's own."""
    from outlast.compat import temporal_sdk_bridge as ours

    sys.modules[_NAME] = ours
    bridge = sys.modules.get("temporalio.bridge")
    if bridge is not None:
        bridge.temporal_sdk_bridge = ours  # type: ignore[attr-defined]
