"""Nothing here can be said of the original: its tests are left out with it."""

from __future__ import annotations

import os

collect_ignore_glob = ["test_*.py"] if os.environ.get("OUTLAST_ENGINE") == "original" else []
