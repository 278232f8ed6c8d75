"""What may stand between a client and a server: a relay that ends TLS, its certificates, a proxy to be asked."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass
class Certificate:
    """A certificate and its key, as PEM."""

    cert: bytes
    key: bytes


class Authority:
    """Signs certificates that are good for an hour."""

    def __init__(self, name: str) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._sign(self.name, self.private, x509.BasicConstraints(ca=True, path_length=0))

    def issue(self, *names: str) -> Certificate:
        """A certificate for a server of these names, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        return Certificate(self._sign(subject, key, x509.BasicConstraints(False, None), usage, alternatives), pem)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder(
            self.name,
            subject,
            key.public_key(),
            x509.random_serial_number(),
            now - timedelta(hours=1),
            now + timedelta(hours=1),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class Seen:
    """What a relay has seen of its clients."""

    address: str = ""
    server_names: list[str | None] = field(default_factory=list)
    protocols: list[str | None] = field(default_factory=list)
    client_names: list[str | None] = field(default_factory=list)
    """Of the certificates that clients showed."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Hosts and credentials that the proxy was asked with."""

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass  # One side has left; the other is told by closing.
    finally:
        writer.close()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str) -> None:
    host, _, port = to.rpartition(":")
    server_reader, server_writer = await asyncio.open_connection(host, int(port))
    await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))


def server_context(certificate: Certificate, folder: Path, client_authority: Authority | None = None) -> ssl.SSLContext:
    """TLS for a gRPC server; with an authority, for clients with certificates only."""
    (folder / "cert").write_bytes(certificate.cert)
    (folder / "key").write_bytes(certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    context.set_alpn_protocols(["h2"])
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_authority.cert.decode())
    return context


@asynccontextmanager
async def tls_relay(context: ssl.SSLContext, to: str) -> AsyncIterator[Seen]:
    """Ends TLS and passes everything on to `to`."""
    seen = Seen()

    def note_name(_socket: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        seen.server_names.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        seen.protocols.append(tls.selected_alpn_protocol())
        shown = tls.getpeercert()
        seen.client_names.append(dict(part[0] for part in shown["subject"])["commonName"] if shown else None)
        await forward(reader, writer, to)

    context.sni_callback = note_name
    async with listening(serve, context) as seen.address:
        yield seen


@asynccontextmanager
async def connect_proxy(to: str, credentials: str | None = None) -> AsyncIterator[Seen]:
    """An HTTP proxy that leads every CONNECT to `to`, if the `user:password` is right."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, host, version = request.split()
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        basic = headers.get("proxy-authorization", "").removeprefix("Basic ")
        given = base64.b64decode(basic).decode() if basic else None
        seen.asked.append((host, given))
        if given != credentials:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await forward(reader, writer, to)

    async with listening(serve) as seen.address:
        yield seen


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serves on a free loopback port; at the end every connection is cut and its task is over."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass  # Cut, by one side or the other.
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def unused_address() -> str:
    """A loopback address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
