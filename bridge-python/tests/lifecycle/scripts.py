"""Small programs in processes of their own, on the engine under test, and what a clean end looks like."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent

PREAMBLE = f"""
import asyncio, gc, os, sys, threading, time
if os.environ.get("OUTLAST_ENGINE", "outlast") == "outlast":
    import outlast.compat.temporalio
    outlast.compat.temporalio.install()
sys.path.insert(0, {str(TESTS)!r})
from surface import shapes
from surface.shapes import native
from support import unique
# A shell that runs tests in the background lets them ignore interrupts, and programs inherit that.
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
ADDRESS = os.environ["OUTLAST_PY_SERVER"]
URL = "http://" + ADDRESS

async def busy(runtime, count=1):
    # A client, and workers with a poll of each kind in flight.
    client = await native.connect_client(runtime, shapes.client(URL))
    held = [client]
    for _ in range(count):
        worker = native.new_worker(runtime, client, shapes.worker(unique("life")))
        await worker.validate()
        held += [worker, worker.poll_workflow_activation(), worker.poll_activity_task(), worker.poll_nexus_task()]
    return held

async def stop(worker, *polls):
    # The orderly end of a worker.
    worker.initiate_shutdown()
    for poll in polls:
        try:
            await poll
        except native.PollShutdownError:
            pass
    await worker.finalize_shutdown()
"""

UGLY = ["panicked", "FATAL", "Fatal Python error", "PyGILState", "never retrieved", "Segmentation", "abort"]
"""Words that no program may leave on stderr."""

PATIENCE = 20 if os.environ.get("OUTLAST_ENGINE") == "original" else 60
"""Seconds until a program hangs. The original does hang at times, and has more tries instead."""


def start(body: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The program, running; with pipes."""
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + textwrap.dedent(body), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )


def ended(
    program: subprocess.Popen[str], code: int = 0, traceback: str | None = None, misuse: bool = False
) -> list[str]:
    """The lines that the program wrote, once it has ended with `code` and without complaints.

    `traceback` is the last line of the one traceback that is expected on stderr. `misuse` says that the program does on
    purpose what makes the original panic, which it reports on stderr.
    """
    try:
        out, err = program.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        out, err = program.communicate()
        raise AssertionError(f"the program hung\n--- stdout\n{out}\n--- stderr\n{err}") from None
    whole = f"exit code {program.returncode}\n--- stdout\n{out}\n--- stderr\n{err}"
    assert program.returncode == code, whole
    if os.environ.get("OUTLAST_ENGINE") == "original":
        # It reports results that come for a closed loop; ours has to be silent.
        err = re.sub(r"Traceback \(most recent call last\):\n(  .*\n)+RuntimeError: Event loop is closed\n", "", err)
        # It drops a runtime that only a pending call holds on a thread of that runtime.
        if misuse or "Cannot drop a runtime in a context where blocking is not allowed" in err:
            err = err.replace("panicked", "")
    for word in UGLY:
        assert word not in err, f"{word!r}: {whole}"
    if traceback is None:
        assert "Traceback" not in err, whole
    else:
        chained = err.count("During handling of the above") + err.count("direct cause of the following")
        assert err.count("Traceback") == 1 + chained and traceback in err, whole
    return out.splitlines()


def run(
    body: str, *arguments: str, code: int = 0, traceback: str | None = None, misuse: bool = False, **environment: str
) -> list[str]:
    """`start` and `ended` in one."""
    return ended(start(body, *arguments, **environment), code, traceback, misuse)


def retried(attempt: Callable[[], list[str]], again: Callable[[], list[str]] | None = None) -> list[str]:
    """The lines of a program that ended well.

    The native module that `temporalio` ships aborts now and then at the end of an interpreter, so on it a program may
    try five times. Ours has one try.
    """
    for _ in range(4 if os.environ.get("OUTLAST_ENGINE") == "original" else 0):
        try:
            return attempt()
        except AssertionError as error:
            print(f"again, because: {error}")
            attempt = again or attempt
    return attempt()


def spawned(queue: Any, url: str) -> None:
    """What a spawned child does; it imports this file by its name and finds the engine in the environment."""
    if os.environ.get("OUTLAST_ENGINE", "outlast") == "outlast":
        import outlast.compat.temporalio

        outlast.compat.temporalio.install()
    from surface import shapes

    async def ask() -> bool:
        client = await shapes.native.connect_client(shapes.runtime(), shapes.client(url))
        return len(await client.call_workflow_service(shapes.call("get_system_info"))) > 0

    queue.put(asyncio.run(ask()))
