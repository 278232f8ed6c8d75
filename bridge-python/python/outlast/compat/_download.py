"""Fetches the programs of test servers: one file out of an archive that Temporal's download service names.

Called by the native module on a thread of its own, only when no existing program is given. Knows nothing of servers.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SERVICE = "https://temporal.download"
TIMEOUT = 60.0
#: Another process that downloads the same file is waited for no longer than this.
PATIENCE = 60.0
SIZE_MAX = 1 << 30


def fetch(
    name: str, version: str, dest_dir: str | None, ttl_ms: int | None, sdk_name: str, sdk_version: str
) -> str:
    """The path of the program `name` (`temporal` or `temporal-test-server`), downloaded unless it is there and fresh."""
    by_sdk = version == "default"
    tail = f"{sdk_name}-{sdk_version}" if by_sdk else version
    suffix = ".exe" if sys.platform == "win32" else ""
    folder = Path(dest_dir) if dest_dir else Path(tempfile.gettempdir())
    path = folder / f"{name}-{_plain(tail)}{suffix}"
    if _fresh(path, ttl_ms):
        return str(path)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(path.with_name(path.name + ".downloading")):
        if not _fresh(path, ttl_ms):
            query = {"sdk-name": sdk_name, "sdk-version": sdk_version} if by_sdk else {}
            _download(name, version, query, path)
    return str(path)


def _plain(text: str) -> str:
    """A version comes from the caller: it names a file, never a folder."""
    if not text or any(c in text for c in "/\\\0") or text in (".", ".."):
        raise ValueError(f"{text!r} is not a version")
    return text


def _fresh(path: Path, ttl_ms: int | None) -> bool:
    try:
        changed = path.stat().st_mtime
    except FileNotFoundError:
        return False
    return ttl_ms is None or time.time() - changed < ttl_ms / 1000


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Holds the lock file; one that its owner left behind is taken over when it has been there for too long."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > until:
                lock.unlink(missing_ok=True)
                until = time.monotonic() + PATIENCE
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _download(name: str, version: str, query: dict[str, str], path: Path) -> None:
    service = "cli" if name == "temporal" else name
    query = {"arch": _arch(), "platform": _platform(), **query}
    if service == "cli":
        query["format"] = "tar.gz"
    url = f"{SERVICE}/{service}/{urllib.parse.quote(version, safe='')}?{urllib.parse.urlencode(query)}"
    with _open(url) as answer:
        info: dict[str, Any] = json.loads(answer.read(1 << 20))
    archive, member = str(info["archiveUrl"]), str(info["fileToExtract"])
    with tempfile.TemporaryFile() as spool:
        with _open(archive) as answer:
            _copy(answer, spool)
        spool.seek(0)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        try:
            with os.fdopen(handle, "wb") as out:
                _extract(archive, member, spool, out)
            os.chmod(partial, 0o755)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise


def _open(url: str) -> Any:
    if urllib.parse.urlsplit(url).scheme != urllib.parse.urlsplit(SERVICE).scheme:
        raise ValueError(f"will not fetch {url}: its scheme is not that of {SERVICE}")
    agent = {"User-Agent": "outlast"}
    return urllib.request.urlopen(urllib.request.Request(url, headers=agent), timeout=TIMEOUT)


def _extract(archive: str, member: str, spool: IO[bytes], out: IO[bytes]) -> None:
    """Copies the one named file; nothing else in the archive is written anywhere."""
    if urllib.parse.urlsplit(archive).path.endswith(".zip"):
        with zipfile.ZipFile(spool) as zipped, zipped.open(member) as source:
            return _copy(source, out)
    with tarfile.open(fileobj=spool, mode="r:*") as tar:
        for entry in tar:
            if entry.name.removeprefix("./") == member and entry.isreg():
                file = tar.extractfile(entry)
                assert file is not None, "a regular file has content"
                return _copy(file, out)
    raise ValueError(f"{archive} has no file {member}")


def _copy(source: IO[bytes], to: IO[bytes]) -> None:
    shutil.copyfileobj(_Bounded(source), to)


class _Bounded:
    """Reads no more than SIZE_MAX."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source, self.left = source, SIZE_MAX

    def read(self, size: int = -1) -> bytes:
        data = self.source.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"the download is larger than {SIZE_MAX} bytes")
        return data


def _arch() -> str:
    machine = platform.machine().lower()
    known = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    if machine not in known:
        raise ValueError(f"there is no program for the architecture {machine}")
    return known[machine]


def _platform() -> str:
    if sys.platform.startswith("linux"):
        return "linux"
    known = {"darwin": "darwin", "win32": "windows"}
    if sys.platform not in known:
        raise ValueError(f"there is no program for the platform {sys.platform}")
    return known[sys.platform]
