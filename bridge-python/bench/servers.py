"""The two servers that are measured against, as processes on free loopback ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binary(name: str, variable: str) -> str:
    """From the environment, else beside the interpreter, else on PATH."""
    beside = Path(sys.executable).parent / name
    found = os.environ.get(variable) or (str(beside) if beside.exists() else shutil.which(name))
    if not found:
        sys.exit(f"`{name}` is not installed; set {variable}, or pip install -r bridge-python/requirements.txt")
    return found


@contextmanager
def server(kind: str) -> Iterator[str]:
    """`test` or `dev`, listening: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    if kind == "test":
        argv = [binary("temporal-test-server", "OUTLAST_TEST_SERVER_BIN"), str(port)]
    else:
        argv = [binary("temporal", "OUTLAST_TEMPORAL_BIN"), "server", "start-dev", "--headless", "--log-level", "never"]
        argv += ["--ip", "127.0.0.1", "--port", str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{argv[0]} did not come up")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
