"""What the official Python SDK costs on our native module beside its own: `run.py [--out FILE | --into FILE]
[--quick] [--only WORD]`.

Every measurement is a fresh process (`child.py`); the engines take turns, and a figure is the median of several turns, so what
else the machine does falls on both. Rows (`python.*`, written to `--out` as `{name, original, outlast, ratio, unit, target}`):

* `python.SERVER.COMPRESSION.K_activities.{cpu,native_cpu,wall}`: milliseconds for each workflow of K activities in sequence,
  20 workflows at once, client and worker in one process, defaults (eager activities, gzip) but for the sandbox, which costs the
  same Python on either engine and is off. `SERVER` is `test` (`temporal-test-server`) or `dev` (`temporal server start-dev`);
  `gzip` is the default of `temporalio`, `none` is the same without compression. `cpu` is the whole process; `native_cpu` is
  the threads that Python did not start, those that have ended too (`meter.py`). Native code that runs on a Python thread, inside
  a call, is only in the whole. `wall` is for orientation.
* `python.replay.*`: the same for one replay of a history of 6,005 events (1,000 activities in sequence), made by `history.py`.
* `python.cached.memory`: growth of anonymous resident memory for each of 1,000 cached workflows that wait for a signal, on top of
  200 that were there before. Python's objects are in it.
* `python.ends.N_cached.*`: the end of a worker with N cached workflows, from the wish to the return of `run()`. Ours evicts them, and
  the original does not; the threads that do it are Python's but end with it, so they count as native.
* `python.SERVER.spawn.first_result`: from the start of the interpreter to the result of a workflow of one activity;
  `.shutdown`: from there through the worker's shutdown to the end of the process; `.aborts`: how often that end was an abort
  ("PyGILState_Release") or a segmentation fault, in which case the process does not count and is run anew.
* `python.import.native`: loading the native module by its file, in an interpreter with nothing else loaded, from a warm page cache.
* `python.wheel`: MB (10^6 bytes) of the wheel: `dist/*.whl` or `--wheel` for ours; otherwise the installed files, compressed anew.

An engine that is not installed has no figures. Nothing gates: a target that is missed is said in the table.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import statistics
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report import Row, table
from servers import server

HERE = Path(__file__).parent
PACKAGES = {"original": "temporalio", "outlast": "outlast"}
UNITS = {"cpu": "ms", "native_cpu": "ms", "wall": "ms"}


def installed(engine: str) -> bool:
    try:
        return bool(distribution(PACKAGES[engine]).files)
    except PackageNotFoundError:
        return False


def spawn(engine: str, *arguments: object, aborts: list[str] | None = None) -> tuple[float, Any, float]:
    """Runs a child to its end: when it began, what it answered, when it was gone.

    With `aborts`, one that answered and then crashed at the interpreter's end is noted there and run anew.
    """
    argv = [sys.executable, str(HERE / "child.py"), engine, *map(str, arguments)]
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    ended = time.monotonic()
    if aborts is not None and done.returncode in (-signal.SIGABRT, -signal.SIGSEGV) and done.stdout:
        aborts.append(engine)
        return spawn(engine, *arguments, aborts=aborts)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    # The engines may log to the same stream; the answer is the last line.
    return began, json.loads(done.stdout.splitlines()[-1]), ended


def turns(engines: list[str], times: int, one: Callable[[str], dict[str, float]]) -> dict[str, dict[str, float]]:
    """The engines one after the other, `times` times, every other time in the other order: medians by engine and figure."""
    seen: dict[str, dict[str, list[float]]] = {engine: defaultdict(list) for engine in engines}
    for turn in range(times):
        for engine in engines if turn % 2 == 0 else reversed(engines):
            for what, figure in one(engine).items():
                seen[engine][what].append(figure)
    return {engine: {what: statistics.median(all) for what, all in figures.items()} for engine, figures in seen.items()}


def rows(prefix: str, figures: dict[str, dict[str, float]], units: dict[str, str]) -> list[Row]:
    def of(engine: str, what: str) -> float | None:
        return round(figures[engine][what], 4) if engine in figures else None

    return [Row(f"{prefix}.{what}", unit, of("original", what), of("outlast", what)) for what, unit in units.items()]


def live(kind: str, engines: list[str], quick: bool) -> list[Row]:
    found: list[Row] = []
    with server(kind) as address:
        wait_until_useful(address)
        for compression in ["gzip", "none"]:

            def cycles(engine: str) -> dict[str, float]:
                answer = spawn(engine, "cycles", address, compression, 80 if quick else 300)[1]
                return {f"{k}_activities.{what}": ms for k, figures in answer.items() for what, ms in figures.items()}

            units = {f"{k}_activities.{what}": unit for k in [1, 10] for what, unit in UNITS.items()}
            found += rows(f"python.{kind}.{compression}", turns(engines, 3 if quick else 7, cycles), units)

        aborts: list[str] = []

        def hello(engine: str) -> dict[str, float]:
            began, answer, ended = spawn(engine, "hello", address, aborts=aborts)
            return {"first_result": (answer["result"] - began) * 1e3, "shutdown": (ended - answer["result"]) * 1e3}

        # Ends of processes vary by a tenth.
        times = 5 if quick else 75
        found += rows(f"python.{kind}.spawn", turns(engines, times, hello), {"first_result": "ms", "shutdown": "ms"})
        count = {engine: float(aborts.count(engine)) for engine in engines}
        found.append(Row(f"python.{kind}.spawn.aborts", "times", count.get("original"), count.get("outlast")))
    return found


def wait_until_useful(address: str) -> None:
    """The dev server listens before it has its namespace."""
    deadline = time.monotonic() + 60
    while True:
        try:
            spawn("original", "hello", address, aborts=[])
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise


def replay(engines: list[str], quick: bool) -> list[Row]:
    times = 3 if quick else 7
    return rows("python.replay", turns(engines, times, lambda engine: spawn(engine, "replay", 1_000, 3)[1]), UNITS)


def cached(engines: list[str], quick: bool) -> list[Row]:
    with server("test") as address:
        wait_until_useful(address)

        def one(engine: str) -> dict[str, float]:
            return {"memory": spawn(engine, "cached", address, 1_000)[1]["kib"]}

        return rows("python.cached", turns(engines, 1 if quick else 9, one), {"memory": "KiB"})


def ends(engines: list[str], quick: bool) -> list[Row]:
    found: list[Row] = []
    with server("dev") as address:
        wait_until_useful(address)
        for count in [0, 100] if quick else [0, 100, 1_000]:
            figures = turns(engines, 3 if quick else 5, lambda engine: spawn(engine, "ends", address, count)[1])
            found += rows(f"python.ends.{count}_cached", figures, UNITS)
    return found


def native_import(engines: list[str], quick: bool) -> list[Row]:
    times = 5 if quick else 21
    figures = turns(engines, times, lambda engine: {"native": spawn(engine, "import")[1]})
    return rows("python.import", figures, {"native": "ms"})


def wheels(engines: list[str], wheel: Path | None) -> list[Row]:
    sizes = {engine: recompressed(PACKAGES[engine]) for engine in engines}
    built = [wheel] if wheel else sorted((HERE.parents[1] / "dist").glob("outlast-*.whl"))
    if built:
        sizes["outlast"] = built[-1].stat().st_size
    megabytes = {engine: round(size / 1e6, 3) for engine, size in sizes.items()}
    return [Row("python.wheel", "MB", megabytes.get("original"), megabytes.get("outlast"))]


def recompressed(package: str) -> int:
    """The size of a wheel of what is installed, without what the interpreter has made of it since."""
    listed = [Path(str(file.locate())) for file in distribution(package).files or [] if ".." not in file.parts]
    spec = find_spec(package)
    # A package that is linked, not copied, has its files elsewhere.
    found = Path(spec.submodule_search_locations[0]).rglob("*") if spec and spec.submodule_search_locations else iter(())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted({*listed, *found}):
            if file.suffix != ".pyc" and file.is_file():
                archive.write(file)
    return buffer.tell()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=Path("bench-python.json"), help="where the rows go")
    words.add_argument("--into", type=Path, help="the project's bench.json, whose `python.*` rows are replaced")
    words.add_argument("--quick", action="store_true", help="fewer turns and workflows: to see that it works")
    words.add_argument("--only", action="append", help="test, dev, replay, cached, ends, import or wheel; may be repeated")
    words.add_argument("--wheel", type=Path, help="our wheel, for its size")
    options = words.parse_args()
    engines = [engine for engine in PACKAGES if installed(engine)]
    parts: dict[str, Callable[[], list[Row]]] = {
        "test": lambda: live("test", engines, options.quick),
        "dev": lambda: live("dev", engines, options.quick),
        "replay": lambda: replay(engines, options.quick),
        "cached": lambda: cached(engines, options.quick),
        "ends": lambda: ends(engines, options.quick),
        "import": lambda: native_import(engines, options.quick),
        "wheel": lambda: wheels(engines, options.wheel),
    }
    found: list[Row] = []
    for name, part in parts.items():
        if not options.only or name in options.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found += part()
    print(table(found))
    rows = [row.encoded() for row in found]
    if options.into is None:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")
        return
    others = json.loads(options.into.read_text()) if options.into.exists() else []
    others = [row for row in others if not row["name"].startswith("python.")]
    command = {"command": "python bridge-python/bench/run.py", "value": None}
    rows = [{**command, **row, "value": row["outlast"]} for row in rows]
    options.into.write_text(json.dumps(others + rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
