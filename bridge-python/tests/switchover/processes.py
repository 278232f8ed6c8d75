"""Worker processes of either engine: started, stopped, killed. Knows nothing of workflows, and imports no `temporalio` itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]


def use(engine: str) -> None:
    """Called in a process before it imports `temporalio`: from here on it runs on `engine`, or does not run at all."""
    if engine == "outlast":
        import outlast.compat.temporalio

        outlast.compat.temporalio.install()
    import temporalio.bridge.temporal_sdk_bridge as native

    ours = getattr(native, "__outlast__", False)
    assert ours == (engine == "outlast"), f"{engine} was asked for, but the native module is {native}"


def environment(engine: str) -> dict[str, str]:
    """This process's environment, without what carries our engine into subprocesses if the original is asked for."""
    kept = dict(os.environ)
    kept["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    if engine == "original":
        kept = {name: value for name, value in kept.items() if not name.startswith("OUTLAST_COMPAT")}
    return kept


class Process:
    """`python -m MODULE ENGINE ARGUMENT...`. What it says is kept, for the message of a failure."""

    def __init__(self, module: str, engine: str, *arguments: str) -> None:
        self.engine = engine
        self.log = tempfile.TemporaryFile()
        argv = [sys.executable, "-m", module, engine, *arguments]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, env=environment(engine)
        )

    def ready(self) -> None:
        """Returns once it said so."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.strip() == b"ready", f"{self.engine} did not start: {line!r}\n{self.said()}"

    def stop(self) -> None:
        """Asks it to end in good order, and sees that it does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.engine} did not stop in 30 s\n{self.said()}") from None
        # The original aborts at the interpreter's end now and then; ours must not.
        good = {0, -signal.SIGABRT} if self.engine == "original" else {0}
        assert status in good, f"{self.engine} ended with {status}\n{self.said()}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def alive(self) -> bool:
        return self.process.poll() is None

    def resident_kib(self) -> int:
        """Anonymous resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-5_000:]
