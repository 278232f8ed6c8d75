"""A place on the wire between a native client and the server, to see what the client really sends."""

from __future__ import annotations

import asyncio
from typing import Any


class Relay:
    """A TCP relay to the server that notes the types of the HTTP/2 frames which the client sends.

    While `gate` is cleared nothing passes to the server.
    """

    HEADERS = 1
    RST_STREAM = 3

    def __init__(self, address: str) -> None:
        self.host, port = address.split(":")
        self.port = int(port)
        self.frames: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __aenter__(self) -> Relay:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port)

        async def down() -> None:
            while data := await up_reader.read(65536):
                writer.write(data)
            writer.close()

        back = asyncio.ensure_future(down())
        try:
            up_writer.write(await reader.readexactly(24))
            while True:
                head = await reader.readexactly(9)
                self.frames.append(head[3])
                await self.gate.wait()
                up_writer.write(head + await reader.readexactly(int.from_bytes(head[:3], "big")))
        except (asyncio.IncompleteReadError, ConnectionError):
            up_writer.close()
            back.cancel()
