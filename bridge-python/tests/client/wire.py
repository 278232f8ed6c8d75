"""A gRPC server in a few lines, to see what a client really sends: HTTP/2 over asyncio, with answers made by the test.

It knows just enough: headers (HPACK with its dynamic table), whole unary calls, pings and resets. It does no flow control of its own: answers are small, and the windows it grants are large.
"""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

DATA, HEADERS, RESET, SETTINGS, PING, GO_AWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Codes of one length follow each other, and follow the codes of the length before: the characters say it all.
CODE_LENGTHS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b"!\"()?",
    11: b"'+|",
    12: b"#>",
    13: b"\0$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: bytes([*range(2, 9), 11, 12, *range(14, 22), *range(23, 32), 127, 220, 249]),
    30: b"\n\r\x16",
}
STATIC_NAMES = (
    ":authority :method :method :path :path :scheme :scheme :status :status :status :status :status :status :status "
    "accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow "
    "authorization cache-control content-disposition content-encoding content-language content-length content-location "
    "content-range content-type cookie date etag expect expires from host if-match if-modified-since if-none-match "
    "if-range if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization "
    "range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via "
    "www-authenticate"
).split()
STATIC_VALUES = {2: "GET", 3: "POST", 4: "/", 5: "/index.html", 6: "http", 7: "https", 8: "200", 16: "gzip, deflate"}


def huffman_codes() -> dict[tuple[int, int], str]:
    codes, code, before = {}, 0, 0
    for length, characters in CODE_LENGTHS.items():
        code <<= length - before
        for character in characters:
            codes[length, code] = chr(character)
            code += 1
        before = length
    return codes


HUFFMAN = huffman_codes()


def unhuffman(data: bytes) -> str:
    text, code, length = "", 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, length = code << 1 | byte >> shift & 1, length + 1
            if (length, code) in HUFFMAN:
                text, code, length = text + HUFFMAN[length, code], 0, 0
    assert length < 8 and code == (1 << length) - 1, "the padding of a Huffman string is all ones"
    return text


class HeaderReader:
    """Reads header blocks of one connection."""

    def __init__(self) -> None:
        self.dynamic: list[tuple[str, str]] = []
        self.size_max = 4096

    def entry(self, index: int) -> tuple[str, str]:
        if index <= len(STATIC_NAMES):
            return STATIC_NAMES[index - 1], STATIC_VALUES.get(index, "")
        return self.dynamic[index - len(STATIC_NAMES) - 1]

    def add(self, name: str, value: str) -> None:
        self.dynamic.insert(0, (name, value))
        while sum(len(name) + len(value) + 32 for name, value in self.dynamic) > self.size_max:
            self.dynamic.pop()

    def read(self, block: bytes) -> dict[str, str]:
        position = 0
        headers: dict[str, str] = {}

        def number(bits: int) -> int:
            nonlocal position
            limit = (1 << bits) - 1
            value, position = block[position] & limit, position + 1
            if value == limit:
                shift, more = 0, True
                while more:
                    byte, position = block[position], position + 1
                    value, shift, more = value + ((byte & 127) << shift), shift + 7, byte >= 128
            return value

        def text() -> str:
            nonlocal position
            huffman = block[position] & 128
            length = number(7)
            data, position = block[position : position + length], position + length
            return unhuffman(data) if huffman else data.decode("latin-1")

        while position < len(block):
            first = block[position]
            if first & 128:
                name, value = self.entry(number(7))
            elif first & 0xE0 == 0x20:
                self.size_max = number(5)
                continue
            else:
                index = number(6 if first & 64 else 4)
                name = self.entry(index)[0] if index else text()
                value = text()
                if first & 64:
                    self.add(name, value)
            headers[name] = value
        return headers


def header_block(headers: dict[str, str]) -> bytes:
    """Headers as literals, without tables and Huffman codes."""

    def text(value: str) -> bytes:
        data = value.encode("latin-1")
        if len(data) < 127:
            return bytes([len(data)]) + data
        rest, size = len(data) - 127, b"\x7f"
        while rest >= 128:
            size, rest = size + bytes([rest & 127 | 128]), rest >> 7
        return size + bytes([rest]) + data

    return b"".join(b"\0" + text(name) + text(value) for name, value in headers.items())


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@dataclass
class Call:
    """One unary call as it came in."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client has aborted the call."""

    @property
    def method(self) -> str:
        return self.headers[":path"].rpartition("/")[2]

    @property
    def compressed(self) -> bool:
        return self.body[0] == 1

    @property
    def message(self) -> bytes:
        """The request, uncompressed."""
        message = self.body[5:]
        return gzip.decompress(message) if self.compressed else message


@dataclass
class Answer:
    """A response message, or a status with its words and details; more headers if wanted."""

    message: bytes = b""
    status: int = 0
    words: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def frames(self, stream: int) -> bytes:
        head = {":status": "200", "content-type": "application/grpc"}
        tail = {"grpc-status": str(int(self.status)), "grpc-message": self.words, **self.headers}
        if self.status:
            return frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block({**head, **tail}))
        body = b"\0" + len(self.message).to_bytes(4, "big") + self.message
        return (
            frame(HEADERS, END_HEADERS, stream, header_block(head))
            + frame(DATA, 0, stream, body)
            + frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block(tail))
        )


@dataclass
class Loopback:
    """What the server has seen, and how it answers: `None` leaves the call open."""

    answer: Callable[[Call], Answer | None]
    address: str = ""
    calls: list[Call] = field(default_factory=list)
    pinged: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def of(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    async def wait_for(self, method: str, count: int = 1) -> list[Call]:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.of(method)) >= count)
        return self.of(method)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            await self.converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # The client has left, which is its right.
        finally:
            self.writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Closes every connection; the next call has to make a new one."""
        for writer in list(self.writers):
            writer.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        windows = (4).to_bytes(2, "big") + (2**31 - 1).to_bytes(4, "big")
        writer.write(frame(SETTINGS, 0, 0, windows) + frame(WINDOW, 0, 0, (2**30).to_bytes(4, "big")))
        headers = HeaderReader()
        open_calls: dict[int, Call] = {}
        while True:
            start = await reader.readexactly(9)
            kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big")
            payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.pinged.set()
                writer.write(frame(PING, ACK, 0, payload))
            elif kind == RESET and stream in open_calls:
                open_calls.pop(stream).reset.set()
            elif kind == GO_AWAY:
                return
            elif kind in (HEADERS, DATA):
                if flags & PADDED:
                    payload = payload[1 : len(payload) - payload[0]]
                if kind == HEADERS:
                    block = payload[5:] if flags & PRIORITY else payload
                    while not flags & END_HEADERS:
                        start = await reader.readexactly(9)
                        assert start[3] == CONTINUATION
                        block += await reader.readexactly(int.from_bytes(start[:3], "big"))
                        flags |= start[4] & END_HEADERS
                    open_calls[stream] = Call(headers.read(block))
                elif stream in open_calls:
                    open_calls[stream].body += payload
                if flags & END_STREAM and stream in open_calls:
                    call = open_calls[stream]
                    self.calls.append(call)
                    async with self.arrived:
                        self.arrived.notify_all()
                    if answer := self.answer(call):
                        del open_calls[stream]
                        writer.write(answer.frames(stream))
            await writer.drain()


def ok(call: Call) -> Answer | None:
    """Answers everything with an empty message, which is a message of every type."""
    return Answer()


@asynccontextmanager
async def loopback(
    answer: Callable[[Call], Answer | None] = ok, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Loopback]:
    """A server on a free port of the loopback interface."""
    served = Loopback(answer)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        server.close()
        served.hang_up()
        while served.writers:
            await asyncio.sleep(0)
