"""Reads what a Prometheus endpoint on loopback shows."""

from __future__ import annotations

import asyncio
import re
import socket
import urllib.request
from dataclasses import dataclass

LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def free_address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@dataclass(frozen=True)
class Sample:
    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Page:
    """One answer of the endpoint."""

    samples: list[Sample]
    types: dict[str, str]

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def find(self, name: str, **labels: str) -> list[Sample]:
        wanted = labels.items()
        return [sample for sample in self.samples if sample.name == name and wanted <= sample.labels.items()]

    def value(self, name: str, **labels: str) -> float:
        """The value of the one sample that fits."""
        found = self.find(name, **labels)
        assert len(found) == 1, (name, labels, found, sorted(self.names()))
        return found[0].value

    def bounds(self, name: str, **labels: str) -> list[str]:
        """The upper bounds of a histogram's buckets in their order."""
        return [sample.labels["le"] for sample in self.find(f"{name}_bucket", **labels)]


def read(text: str) -> Page:
    samples, types = [], {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            types[name] = kind
        elif line and not line.startswith("#"):
            found = LINE.match(line)
            assert found, line
            labels = dict(LABEL.findall(found["labels"] or ""))
            samples.append(Sample(found["name"], labels, float(found["value"])))
    return Page(samples, types)


def fetch(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


async def scrape(address: str) -> Page:
    return read(await asyncio.get_running_loop().run_in_executor(None, fetch, address))
