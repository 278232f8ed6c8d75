"""CPU time of this process, native threads apart from Python's, and the memory it holds. Knows nothing of what is measured.

Python's threads are those that `threading` started, and the main one; the kernel's clock of each is read. A native thread that
once called into Python is known to `threading` as a dummy and counts as native. Native is the whole less Python's threads, so
threads that have ended count too. Native code called on a Python thread counts as Python's: that part only shows in the whole.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cpu:
    """Nanoseconds of CPU, and of the clock on the wall."""

    whole: int
    native: int
    wall: int

    @staticmethod
    def now() -> Cpu:
        started = [t for t in threading.enumerate() if not isinstance(t, threading._DummyThread)]
        clocks = [time.pthread_getcpuclockid(t.ident) for t in started if t.ident is not None]
        python = sum(time.clock_gettime_ns(clock) for clock in clocks)
        whole = time.process_time_ns()
        return Cpu(whole, whole - python, time.monotonic_ns())

    def since(self, before: Cpu, per: int) -> dict[str, float]:
        """Milliseconds from `before` until here, for each of `per` things."""
        spent = (self.whole - before.whole, self.native - before.native, self.wall - before.wall)
        whole, native, wall = (round(ns / per / 1e6, 4) for ns in spent)
        return {"cpu": whole, "native_cpu": native, "wall": wall}


def resident_kib() -> int:
    """Anonymous resident memory in KiB: the heap and stacks, not the pages of libraries as they are touched."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
