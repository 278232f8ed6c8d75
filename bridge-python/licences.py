#!/usr/bin/env python3
"""Writes LICENSE-THIRD-PARTY: the crates that are built into the native module, with the licences they come under.

`licences.py` writes it anew, `licences.py --check` fails if that would change it. Cargo says what is built in: the
normal dependencies on each of TARGETS, without macros, which run at build time only. Of licences that may be chosen
from, MIT is chosen, else Apache-2.0; notices and third parties' parts inside a crate are kept whatever is chosen. A
crate without a licence file has that of another crate of its repository, or the plain text of its licence. Two texts
that differ in white space are one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NOTICE = HERE / "LICENSE-THIRD-PARTY"
PACKAGE = "outlast-bridge-python"
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
APACHE = (HERE / "LICENSE-APACHE").read_text()
LICENCE = re.compile(r"(LICEN[CS]E|COPYING|UNLICENSE)", re.I)
ALWAYS = re.compile(r"(NOTICE|LICEN[CS]E-THIRD-PARTY)", re.I)
HEAD = f"""\
Third-party software in the Python package `outlast`

Its native module contains the Rust crates below, under the licences after them. The Rust standard library is in it,
too: MIT OR Apache-2.0, https://github.com/rust-lang/rust. Written by bridge-python/licences.py for
{" and ".join(TARGETS)}; do not edit.
"""


def cargo(*arguments: str) -> str:
    done = subprocess.run(["cargo", *arguments, "--locked"], cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def built_in() -> set[tuple[str, str]]:
    """Name and version of each crate."""
    found = set()
    for target in TARGETS:
        options = ("-p", PACKAGE, "-F", "extension-module", "-e", "normal,no-proc-macro", "--target", target)
        for line in cargo("tree", *options, "--prefix", "none", "--format", "{p}").splitlines():
            name, version, *_ = line.split()
            found.add((name, version.removeprefix("v")))
    return found


def terms(crate: dict[str, Any]) -> list[str]:
    """What the licence of a crate demands of us: one of each choice."""
    text: str = crate["license"].replace("/", " OR ")
    chosen = []
    for part in text.split(" AND "):
        choices = [choice.strip(" ()") for choice in part.split(" OR ")]
        chosen.append(next((name for name in ("MIT", "Apache-2.0") if name in choices), choices[0]))
    return chosen


def files(crate: dict[str, Any]) -> list[Path]:
    """Those that say what `terms` has chosen; all of them, if their names do not tell which."""
    folder = Path(crate["manifest_path"]).parent
    every = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE.match(path.name))
    extra = sorted(path for path in folder.iterdir() if path.is_file() and ALWAYS.match(path.name))
    words = {term.split("-")[0].upper() for term in terms(crate)}
    named = [path for path in every if any(word in path.name.upper() for word in words)]
    chosen = named if len(terms(crate)) == 1 and named else every
    return sorted({*chosen, *extra})


def texts(crate: dict[str, Any], crates: list[dict[str, Any]]) -> list[str]:
    found = [path.read_text(errors="replace") for path in files(crate)]
    if found:
        return found
    for other in crates:
        same = other["repository"] == crate["repository"] and other["license"] == crate["license"]
        if same and files(other):
            return [path.read_text(errors="replace") for path in files(other)]
    if terms(crate) == ["Apache-2.0"]:
        return [APACHE]
    raise SystemExit(f"{crate['name']} is under {crate['license']} and has no text of it")


def notice() -> str:
    wanted = built_in()
    every = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", TARGETS[0]))["packages"]
    crates = [it for it in every if it["source"] and (it["name"], it["version"]) in wanted]
    crates.sort(key=lambda it: (it["name"], it["version"]))
    by_text: dict[str, tuple[str, list[str]]] = defaultdict(lambda: ("", []))
    for crate in crates:
        for text in texts(crate, crates):
            key = " ".join(text.split())
            first, users = by_text[key]
            by_text[key] = (first or text, [*users, f"{crate['name']} {crate['version']}"])
    parts = [HEAD, *(f"  {it['name']} {it['version']}: {it['license']}" for it in crates)]
    for text, users in by_text.values():
        body = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        parts += ["", "-" * 80, "", wrapped(users), "", body]
    return "\n".join(parts) + "\n"


def wrapped(users: list[str]) -> str:
    lines = [""]
    for user in users:
        if lines[-1] and len(lines[-1]) + len(user) > 110:
            lines.append("")
        lines[-1] += f"{user}, "
    return "\n".join(lines).rstrip(", ").replace(", \n", ",\n") + ":"


def main() -> None:
    text = notice()
    if sys.argv[1:] != ["--check"]:
        NOTICE.write_text(text)
    elif not NOTICE.exists() or NOTICE.read_text() != text:
        raise SystemExit(f"{NOTICE.name} is stale; run bridge-python/licences.py")


if __name__ == "__main__":
    main()
