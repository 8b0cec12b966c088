"""The socket that a modem is plugged into: a pseudo-terminal, and TCP as ser2net offers it.

Programs open the pty, go, and come again. As on a real line nothing is kept for them: what the
modem says while nobody has it open is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import termios
import tty
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

UNWRITTEN_OCTETS_MAX: Final = 65_536
"""What is kept for a reader that is slow; more is lost."""
LOOK_S: Final = 0.01
"""How often we look whether somebody has opened the pty: the kernel does not tell."""

DEAD_ENDS_MAX: Final = 100
"""Paths of ptys that were unplugged, and are kept from others until the modem is gone."""


class Pty:
    """One pseudo-terminal, from plugging in to unplugging. It must be made in a running loop."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._unwritten = bytearray()
        self._attached = False
        self._timer: asyncio.TimerHandle | None = None
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        """Of the end that programs open."""
        try:
            tty.setraw(slave)
        finally:
            os.close(slave)
        self._look()

    @property
    def attached(self) -> bool:
        """Somebody has it open (known up to LOOK_S late)."""
        return self._attached

    def close(self) -> int | None:
        """Unplug it: whoever has it open sees the line hang up.

        Returns a descriptor of the dead end. As long as it is open no other pty gets this path,
        to which a program that waits for the modem to come back may look; None: there is none.
        """
        self._detach()
        end = None
        with contextlib.suppress(OSError):
            end = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        os.close(self._master)
        return end

    def write(self, octets: bytes) -> None:
        """What the modem says; lost when nobody listens, or reads too slowly."""
        if self._attached:
            room = UNWRITTEN_OCTETS_MAX - len(self._unwritten)
            self._unwritten += octets[: max(room, 0)]
            self._write()

    def _write(self) -> None:
        try:
            del self._unwritten[: os.write(self._master, self._unwritten)]
        except BlockingIOError:
            pass
        except OSError:
            self._hung_up()
            return
        if self._unwritten:
            self._loop.add_writer(self._master, self._write)
        else:
            self._loop.remove_writer(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other end open any more
            self._hung_up()
            return
        self._receive(data)

    def _look(self) -> None:
        """Attend to it as soon as somebody has it open, or has left something to read."""
        self._timer = None
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        events = sum(event for _, event in poll.poll(0))
        if events & select.POLLIN or not events & select.POLLHUP:
            self._attached = True
            self._loop.add_reader(self._master, self._read)
        else:
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def _hung_up(self) -> None:
        self._detach()
        # What was not read is not for the next one, and neither is how this one set the terminal.
        with contextlib.suppress(OSError, termios.error):
            slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                tty.setraw(slave, termios.TCSAFLUSH)
            finally:
                os.close(slave)
        self._timer = self._loop.call_later(LOOK_S, self._look)

    def _detach(self) -> None:
        self._attached = False
        self._unwritten.clear()
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Connection(asyncio.Protocol):
    def __init__(self, port: Port) -> None:
        self._port = port
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.disconnected(self)

    def data_received(self, data: bytes) -> None:
        self._port.received(self, data)


class Port:
    """The line's outlets: what the modem says goes to all of them, any of them may speak."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._pty: Pty | None = None
        self._server: asyncio.Server | None = None
        self._connection: _Connection | None = None
        self._link: Path | None = None
        self._dead_ends: deque[int] = deque()
        self.path = ""
        self.tcp_port = 0
        """Where it listens; 0: it does not."""

    @property
    def plugged(self) -> bool:
        """There is a pty."""
        return self._pty is not None

    @property
    def attended(self) -> bool:
        """Somebody has the pty open, or is connected."""
        pty = self._pty is not None and self._pty.attached
        return pty or self._connection is not None

    async def plug_in(self, link: Path | None, tcp_port: int | None) -> None:
        """Make a pty, whose `path` is not that of one before, and listen when told to.

        Raises OSError: no pty left, the port is taken, the link cannot be made.
        """
        pty = Pty(self._receive)
        self._pty, self.path, self._link = pty, pty.path, link
        try:
            if link is not None:
                _point(link, self.path)
            if tcp_port is not None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(
                    lambda: _Connection(self), "127.0.0.1", tcp_port
                )
                self.tcp_port = self._server.sockets[0].getsockname()[1]
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Unplug, and give back the paths of all ptys; again is harmless."""
        await self.unplug()
        while self._dead_ends:
            os.close(self._dead_ends.popleft())

    async def unplug(self) -> None:
        """Hang up on everybody; again is harmless."""
        if self._pty is not None:
            end, self._pty = self._pty.close(), None
            if end is not None:
                self._dead_ends.append(end)
            if len(self._dead_ends) > DEAD_ENDS_MAX:
                os.close(self._dead_ends.popleft())
        if self._link is not None:
            # Only our own: another modem may have taken the name over.
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self.path:
                    self._link.unlink()
            self._link = None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._drop()
        if server is not None:
            await server.wait_closed()

    def write(self, octets: bytes) -> None:
        """What the modem says."""
        if self._pty is not None:
            self._pty.write(octets)
        if self._connection is not None and self._connection.transport is not None:
            transport = self._connection.transport
            if transport.get_write_buffer_size() < UNWRITTEN_OCTETS_MAX:
                transport.write(octets)

    # What connections tell.

    def connected(self, connection: _Connection) -> None:
        """The line has one end: a new connection takes it over from the one before."""
        self._drop()
        self._connection = connection
        if self._server is None and connection.transport is not None:
            connection.transport.abort()

    def disconnected(self, connection: _Connection) -> None:
        """Forget it."""
        if self._connection is connection:
            self._connection = None

    def received(self, connection: _Connection, data: bytes) -> None:
        """Octets for the modem."""
        if self._connection is connection:
            self._receive(data)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


def _point(link: Path, target: str) -> None:
    """Make or move a symbolic link, in one step. Raises OSError; FileExistsError: no link."""
    if link.exists() and not link.is_symlink():
        raise FileExistsError(f"{link} exists and is no symbolic link")
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.symlink_to(target)
    os.replace(beside, link)
