"""A connection to a proxy in this process, without a network: cut where the test says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from support.running import Running

from proxy.links.esme_listener import EsmeSession


class Wire(asyncio.Transport):
    """Hands a session one piece at a time, and none while it does not read; keeps its answers."""

    def __init__(self, run: Running, pieces: Iterable[bytes]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self._loop = asyncio.get_running_loop()
        self._pieces = deque(piece for piece in pieces if piece)
        self.reading = True
        self.out = bytearray()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.session = EsmeSession(run.proxy.server)
        self.session.connection_made(self)
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self.reading and self._pieces and not self.ended.done():
            self.session.data_received(self._pieces.popleft())
            self._loop.call_soon(self._next)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self._loop.call_soon(self._next)

    def is_closing(self) -> bool:
        return self.ended.done()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closing()
        self.out += data

    def close(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self._loop.call_soon(self.session.connection_lost, None)

    abort = close

    async def everything(self) -> bytes:
        """What the session wrote until it closed the connection."""
        async with asyncio.timeout(20):
            await self.ended
        return bytes(self.out)
