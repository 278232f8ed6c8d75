"""Random programs on both engines: `python bridge-python/tests/twins/seeded/run.py --seeds 100 --into FOLDER`, or `make twins`.

Each seed is a steady and a wild program (program.py). They run in batches, one after the other with a cache, without one, and
with one that is too small. Seeds are printed at the start and appended to FOLDER/seeds; programs that showed a fault are
printed with the command that repeats them, and their histories stay in FOLDER/failed. Differences that are no faults
are counted, and each is a line of FOLDER/notes. Status 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TextIO

if __name__ == "__main__":
    # In place of this folder.
    sys.path[0] = str(Path(__file__).parents[2])

from twins.seeded.compare import ENGINES, Report, compare

BATCH = 15
CACHES = [100, 0, 4]


def names_of(seeds: list[int]) -> list[str]:
    return [f"{kind}-{seed}" for seed in seeds for kind in ("steady", "wild")]


async def batches(address: str, into: Path, seeds: list[int], cases: int) -> Report:
    whole = Report()
    parts = [seeds[first : first + BATCH] for first in range(0, len(seeds), BATCH)]
    # One seed alone runs in each way.
    for number, part in enumerate(parts if len(seeds) > 1 else parts * len(CACHES)):
        cache = CACHES[number % len(CACHES)]
        with tempfile.TemporaryDirectory(prefix="outlast-twins-") as name:
            report = await compare(address, Path(name), names_of(part), cache, cases)
            keep(report, Path(name), into / "failed")
        for program, faults in report.faults.items():
            whole.faults.setdefault(program, []).extend(faults)
        whole.counts += report.counts
        whole.notes += report.notes
        print(f"seeds {part[0]} to {part[-1]}, cache {cache}: {len(report.faults)} programs with faults", flush=True)
    return whole


def keep(report: Report, folder: Path, into: Path) -> None:
    """The histories of what failed: those of wild programs do not come again."""
    for name, faults in report.faults.items():
        print(f"{name}:\n  " + "\n  ".join(faults), flush=True)
        for engine in ENGINES:
            (into / engine).mkdir(parents=True, exist_ok=True)
            for path in (folder / engine).glob(f"{name}.*"):
                shutil.copy(path, into / engine)


def tell(report: Report, out: TextIO) -> None:
    """All counts, then what is wrong."""
    for what, count in sorted(report.counts.items()):
        print(f"{count:7} {what}", file=out)
    for seed in sorted({name.split("-")[1] for name in report.faults}, key=int):
        print(f"seed {seed} showed a fault; again: make twins SEED={seed}", file=out)


async def main(options: argparse.Namespace) -> int:
    from conftest import DevServer
    from support import served
    from temporalio.client import Client

    first = random.SystemRandom().randrange(1_000_000) if options.first is None else options.first
    seeds = [options.seed] if options.seed is not None else list(range(first, first + options.seeds))
    options.into.mkdir(parents=True, exist_ok=True)
    with (options.into / "seeds").open("a") as file:
        for out in (sys.stdout, file):
            print(f"{datetime.now():%Y-%m-%d %H:%M} seeds {seeds[0]} to {seeds[-1]}", file=out, flush=True)
        server = DevServer()
        try:
            await served(await Client.connect(server.address))
            report = await batches(server.address, options.into, seeds, options.cases)
        finally:
            server.stop()
        (options.into / "notes").write_text("\n".join(report.notes))
        tell(report, sys.stdout)
        tell(Report(report.faults), file)
    return int(bool(report.faults))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, help="the first; any, unless it is given")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--cases", type=int, default=2, help="changes of each kind for each program")
    parser.add_argument("--into", type=Path, required=True)
    sys.exit(asyncio.run(main(parser.parse_args())))
