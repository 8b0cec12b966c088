"""The octets to and from a modem: a serial line, or TCP to one (ser2net).

A device is a path ("/dev/ttyUSB0", "/dev/serial/by-id/…"), "usb:VID:PID[:SERIAL]" for a modem
that comes back under another path, or "tcp://host:port".  Octets are read and written without
blocking; opening and closing a line, which may wait for the device, is done in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

_READ_OCTETS = 4096
_UNWRITTEN_MAX = 8192
"""A modem that does not take the few hundred octets of one command does not get the next."""
_EMPTY_READS_MAX = 3
_OPEN_S = 10.0


class PortError(Exception):
    """The device can't be opened or does not take octets any more; the text says why."""


class Port(Protocol):
    """An open line."""

    def write(self, octets: bytes) -> None:
        """Send, now or when the line takes it.  Raises PortError."""

    def close(self) -> None:
        """Nothing is received or written any more; `lost` is not called."""


Received = Callable[[bytes], None]
Lost = Callable[[str], None]


async def candidates(device: str) -> list[str]:
    """The addresses to try, in order: one, or the ports of the USB device that are there now.

    A USB modem has several ports, of which some speak AT.  SERIAL is the device's serial number,
    or where it is plugged in ("1-1.4"), for those that have none.
    """
    if not device.startswith("usb:"):
        return [device]
    return await asyncio.to_thread(_usb_ports, device)


def _usb_ports(device: str) -> list[str]:
    _, vendor, product, *rest = device.split(":", 3)
    wanted = (int(vendor, 16), int(product, 16))
    found: list[tuple[str, str]] = []
    for port in list_ports.comports():
        if (port.vid, port.pid) != wanted:
            continue
        location = port.location or ""  # "1-1.4", or with the interface "1-1.4:1.2"
        if rest and rest[0] not in (port.serial_number, location, location.partition(":")[0]):
            continue
        found.append((location, port.device))
    return [path for _, path in sorted(found)]


async def open_port(address: str, baud: int, received: Received, lost: Lost) -> Port:
    """Open a path or tcp://host:port.  Raises PortError.

    `received` gets what comes; `lost` is called once, with the reason, when the line is gone.
    """
    try:
        async with asyncio.timeout(_OPEN_S):
            if address.startswith("tcp://"):
                return await _open_tcp(address, received, lost)
            return await _open_serial(address, baud, received, lost)
    except TimeoutError:
        raise PortError(f"{address}: not open within {_OPEN_S:.0f} s") from None
    except (OSError, ValueError, termios.error) as error:  # a SerialException is an OSError
        if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EBUSY):
            raise PortError(f"{address} is in use by another program") from None
        raise PortError(str(error) or type(error).__name__) from None


# ----------------------------------------------------------------------------------- serial


async def _open_serial(path: str, baud: int, received: Received, lost: Lost) -> Port:
    opening = asyncio.get_running_loop().run_in_executor(None, _open_line, path, baud)
    try:
        line = await asyncio.shield(opening)
    except (asyncio.CancelledError, TimeoutError):
        # What opens after nobody waits any more is closed again.
        opening.add_done_callback(_close_unwanted)
        raise
    return _SerialPort(line, received, lost)


def _open_line(path: str, baud: int) -> Any:
    # Exclusive: a second program on the line would take half of the answers.
    line = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
    with suppress(OSError):
        # That lock is of the file: another container has another one for the same device.
        fcntl.ioctl(line.fd, termios.TIOCEXCL)
    return line


def _close_unwanted(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close_line(opening.result())


def _close_line(line: Any) -> None:
    with suppress(OSError, ValueError, termios.error):
        # Without this, closing waits for a modem that does not take what was written.
        termios.tcflush(line.fd, termios.TCIOFLUSH)
    with suppress(OSError, ValueError, TypeError):
        fcntl.ioctl(line.fd, termios.TIOCNXCL)
    with suppress(OSError, ValueError, termios.error):
        line.close()


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(
        event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0)
    )


class _SerialPort:
    """A serial line, opened by pyserial, read and written by the event loop."""

    def __init__(self, line: Any, received: Received, lost: Lost) -> None:
        self._line = line
        self._fd: int = line.fd
        self._received = received
        self._lost = lost
        self._unwritten = b""
        self._empty_reads = 0
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def write(self, octets: bytes) -> None:
        if not self._open:
            raise PortError("the line is closed")
        if len(self._unwritten) + len(octets) > _UNWRITTEN_MAX:
            raise PortError("the modem does not take what is written")
        waiting = bool(self._unwritten)
        self._unwritten += octets
        if not waiting:
            self._write()
            if self._unwritten and self._open:
                self._loop.add_writer(self._fd, self._write)

    def _write(self) -> None:
        try:
            written = os.write(self._fd, self._unwritten)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(os.strerror(error.errno or 0))
            return
        self._unwritten = self._unwritten[written:]
        if not self._unwritten:
            self._loop.remove_writer(self._fd)

    def _read(self) -> None:
        try:
            octets = os.read(self._fd, _READ_OCTETS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._broken(os.strerror(error.errno or 0))
            return
        if octets:
            self._empty_reads = 0
            self._received(octets)
            return
        # pyserial sets VMIN 0, so nothing may also mean "nothing yet".  uvloop tells only once of
        # a line that hung up: it has to be asked.
        self._empty_reads += 1
        if self._empty_reads >= _EMPTY_READS_MAX or _hung_up(self._fd):
            self._broken("the device hung up")

    def _broken(self, reason: str) -> None:
        if self._open:
            self.close()
            # Later: whoever is writing finds out in the same way as one who waits.
            self._loop.call_soon(self._lost, reason)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._loop.run_in_executor(None, _close_line, self._line)


# -------------------------------------------------------------------------------------- TCP


async def _open_tcp(address: str, received: Received, lost: Lost) -> Port:
    parts = urlsplit(address)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{address} names no host and port")
    _, port = await asyncio.get_running_loop().create_connection(
        lambda: _TcpPort(received, lost), parts.hostname, parts.port
    )
    return port


class _TcpPort(asyncio.Protocol):
    """A connection to a program that passes octets on to a line."""

    def __init__(self, received: Received, lost: Lost) -> None:
        self._received = received
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._open:
            self._received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._open = False
            self._lost(str(exc) if exc is not None else "the connection was closed")

    def write(self, octets: bytes) -> None:
        transport = self._transport
        if not self._open or transport is None or transport.is_closing():
            raise PortError("the connection is closed")
        if transport.get_write_buffer_size() + len(octets) > _UNWRITTEN_MAX:
            raise PortError("the modem does not take what is written")
        transport.write(octets)

    def close(self) -> None:
        self._open = False
        if self._transport is not None:
            self._transport.abort()
