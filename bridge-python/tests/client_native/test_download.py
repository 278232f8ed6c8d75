"""The download of server programs, against a service of our own on loopback: names, cache, safe extraction."""

from __future__ import annotations

import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from outlast.compat import _download


class Service(http.server.ThreadingHTTPServer):
    """Names an archive, and gives it."""

    def __init__(self, members: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.members, self.asked, self.wanted = members, [], "temporal"
        self.url = f"http://127.0.0.1:{self.server_port}"

    def archive(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in self.members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return out.getvalue()

    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/archive.tar.gz":
            body = self.server.archive()
        else:
            named = {"archiveUrl": f"{self.server.url}/archive.tar.gz", "fileToExtract": self.server.wanted}
            body = json.dumps(named).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service({"LICENSE": b"words", "temporal": b"program", "../evil": b"no"})
    threading.Thread(target=service.serve_forever, daemon=True).start()
    monkeypatch.setattr(_download, "SERVICE", service.url)
    yield service
    service.shutdown()
    service.server_close()


def test_the_named_file_and_nothing_else(service: Service, tmp_path: Path) -> None:
    path = Path(_download.fetch("temporal", "default", str(tmp_path / "in"), None, "sdk-python", "1.0"))
    assert path == tmp_path / "in" / "temporal-sdk-python-1.0"
    assert path.read_bytes() == b"program" and os.access(path, os.X_OK)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    asked = urlsplit(service.asked[0])
    query = parse_qs(asked.query)
    assert asked.path == "/cli/default"
    assert (query["format"], query["sdk-name"], query["sdk-version"]) == (["tar.gz"], ["sdk-python"], ["1.0"])


def test_what_is_there_is_not_fetched_until_it_is_old(service: Service, tmp_path: Path) -> None:
    first = Path(_download.fetch("temporal-test-server", "v2", str(tmp_path), None, "s", "1"))
    assert first.name == "temporal-test-server-v2"
    assert _download.fetch("temporal-test-server", "v2", str(tmp_path), 60_000, "s", "1") == str(first)
    assert len(service.asked) == 2
    os.utime(first, (0, 0))
    _download.fetch("temporal-test-server", "v2", str(tmp_path), 60_000, "s", "1")
    assert len(service.asked) == 4


def test_an_archive_without_the_file_leaves_nothing(service: Service, tmp_path: Path) -> None:
    service.wanted = "absent"
    with pytest.raises(ValueError, match="has no file absent"):
        _download.fetch("temporal", "v1", str(tmp_path), None, "s", "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["../up", "a/b", "..", ""])
def test_a_version_names_no_folder(version: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        _download.fetch("temporal", version, str(tmp_path), None, "s", "1")


def test_another_scheme_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scheme"):
        _download._open("file:///etc/passwd")
