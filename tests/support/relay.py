"""A fault in the wire between a proxy and PostgreSQL: it cuts, stalls, or swallows an answer."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

_SOCKET = ".s.PGSQL.5432"
_READY = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery outside a transaction: what was asked is committed."""


class Wire:
    """One connection through the relay."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.said = bytearray()
        """What the client has sent: its SQL tells which connection it is."""
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.swallow = asyncio.Event()
        self.swallowed = asyncio.Event()

    def cut(self) -> None:
        """Both ends at once."""
        for writer in (self.client, self.server):
            writer.transport.abort()

    async def up(self, reader: asyncio.StreamReader) -> None:
        """From the client to the server."""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                self.said += data
                await self.flowing.wait()
                self.server.write(data)
                await self.server.drain()
        await self.flowing.wait()
        self.server.close()

    async def down(self, reader: asyncio.StreamReader) -> None:
        """From the server to the client."""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.swallow.is_set():
                    if data.endswith(_READY):
                        self.swallowed.set()
                        self.cut()
                    continue
                await self.flowing.wait()
                self.client.write(data)
                await self.client.drain()
        self.client.close()


class Relay:
    """Listens like PostgreSQL in a directory of its own."""

    def __init__(self, database_url: str) -> None:
        query = parse_qs(urlsplit(database_url).query)
        self._real = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.directory = Path(tempfile.mkdtemp(prefix="relay-"))
        self.url = re.sub(r"\?.*", f"?host={quote(str(self.directory))}&port=5432", database_url)
        self.wires: list[Wire] = []
        self.away = False
        self.refused = 0
        """Connections that were not taken."""
        self.stalled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._connected, self.directory / _SOCKET)

    async def stop(self) -> None:
        """Cut everything."""
        self.cut()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            self.refused += 1
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._real)
        wire = Wire(writer, server_writer)
        if self.stalled:
            wire.flowing.clear()
        self.wires.append(wire)
        for direction in (wire.up(reader), wire.down(server_reader)):
            task = asyncio.create_task(direction)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cut(self) -> None:
        """Every connection, now."""
        wires, self.wires = self.wires, []
        for wire in wires:
            wire.cut()

    def go_away(self) -> None:
        """Cut, and refuse new connections."""
        self.away = True
        self.cut()

    def come_back(self) -> None:
        """Take connections again."""
        self.away = False

    def stall(self) -> None:
        """Nothing passes, nothing is closed."""
        self.stalled = True
        for wire in self.wires:
            wire.flowing.clear()

    def flow(self) -> None:
        """Let pass what was held."""
        self.stalled = False
        for wire in self.wires:
            wire.flowing.set()

    def wire_of(self, sql: str) -> Wire:
        """The connection on which this SQL was prepared."""
        return next(
            w
            for w in reversed(self.wires)
            if sql.encode() in w.said and not w.client.transport.is_closing()
        )


@asynccontextmanager
async def relay_to(database_url: str) -> AsyncIterator[Relay]:
    """A relay in front of a database on a unix socket."""
    relay = Relay(database_url)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
