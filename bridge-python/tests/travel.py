"""Who called, and a codec that turns the bytes of payloads round: outside of any sandbox, to be passed through."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Reversing(PayloadCodec):
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"reversed"}, data=p.SerializeToString()[::-1]) for p in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(p.data[::-1]) if p.metadata["encoding"] == b"reversed" else p for p in payloads]
