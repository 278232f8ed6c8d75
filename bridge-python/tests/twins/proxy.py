"""Stands between a client and its server, and keeps what is asked: every request with its metadata, as it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio

UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
OWN = {"user-agent", "te", "content-type", "grpc-accept-encoding", "accept-encoding", "grpc-encoding"}
"""Metadata that each hop writes anew."""


@dataclass
class Call:
    """One request."""

    method: str
    request: bytes
    metadata: list[tuple[str, str | bytes]]
    seconds: float | None
    """How long it might take, as the caller said."""


@dataclass
class Proxy(grpc.GenericRpcHandler):
    """`async with Proxy(server)`: its `address` is to be connected to."""

    server: str
    calls: list[Call] = field(default_factory=list)
    address: str = ""

    async def __aenter__(self) -> Proxy:
        self.channel = aio.insecure_channel(self.server, options=UNBOUNDED)
        self.listener = aio.server(options=UNBOUNDED)
        self.listener.add_generic_rpc_handlers((self,))
        port = self.listener.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self.listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop(None)
        await self.channel.close()

    def service(self, call: Any) -> Any:
        method: str = call.method

        async def forward(request: bytes, context: Any) -> Any:
            metadata = list(context.invocation_metadata())
            seconds = context.time_remaining()
            self.calls.append(Call(method, request, metadata, seconds))
            onward = [(name, value) for name, value in metadata if name not in OWN]
            ask: Any = self.channel.unary_unary(method)
            try:
                return await ask(request, metadata=onward, timeout=seconds)
            except aio.AioRpcError as error:
                trailing = tuple((k, v) for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin")
                await context.abort(error.code(), error.details() or "", trailing)

        return grpc.unary_unary_rpc_method_handler(forward)
