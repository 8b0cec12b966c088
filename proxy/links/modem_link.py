"""One connected modem: a command at a time, its answer, and what it says unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from proxy.gsm import at
from proxy.links.modem_port import Port, PortError, open_port

log = structlog.get_logger()

_LINES_MAX: Final = 4096
"""Of one answer: +CMGL of a storage of a thousand messages has two thousand."""
_GARBAGE_MAX: Final = 2048
_FLOOD_OCTETS: Final = 512 * 1024
"""In a second: more than any modem has to say, and enough to keep everybody else waiting."""

Unasked = Callable[[str, str, "str | None"], None]
"""Gets a code ("+CMTI"), its line, and the PDU line behind it, where there is one."""


class ModemLost(Exception):
    """The modem does not answer as a modem should, or is gone; the text says why.

    From `submit`: not one octet of the PDU was written.
    """


class Unanswered(ModemLost):
    """A PDU was written whole, and what became of it is not known."""


class Reply(NamedTuple):
    """The answer to a command."""

    result: at.Result
    lines: list[str]

    @property
    def ok(self) -> bool:
        """OK, as against some ERROR."""
        return self.result.ok


class _Pending:
    """The command that waits for its answer."""

    __slots__ = ("answer", "echo", "lines", "prefix", "prompt")

    def __init__(self, text: str, loop: asyncio.AbstractEventLoop) -> None:
        self.echo = text
        name = text[2:].partition("=")[0].partition("?")[0].upper()
        self.prefix = name if name[:1] in "+^*#$" else ""
        self.lines: list[str] = []
        self.answer: asyncio.Future[at.Result] = loop.create_future()
        self.prompt: asyncio.Future[None] = loop.create_future()

    @property
    def name(self) -> str:
        """Without its values: one of them may be a PIN."""
        return self.echo.partition("=")[0]


class ModemLink:
    """An open line to a modem.  `gone` has the reason as soon as it is of no use any more."""

    def __init__(self, name: str, command_timeout_s: float) -> None:
        self._name = name
        self._command_timeout_s = command_timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = at.LineReader()
        self._port: Port | None = None
        self._lock = asyncio.Lock()
        self._pending: _Pending | None = None
        self._pdu_of: tuple[str, str] | None = None
        """A code whose PDU comes in the next line."""
        self._heard = asyncio.Event()
        self._second = self._octets = 0
        """The loop's second, and what came in it."""
        self.unasked: Unasked = lambda _code, _line, _pdu: None
        self.echoes = False
        """It has repeated a command."""
        self.always_echoes = False
        """It does so whatever it is told."""
        self.settled = False
        """Its settings are made: an echo or a banner means that it has lost them."""
        self.gone: asyncio.Future[str] = self._loop.create_future()

    async def open(self, address: str, baud: int) -> None:
        """Raises PortError."""
        port = await open_port(address, baud, self._received, self.lose)
        if self.gone.done():
            port.close()
            raise PortError(self.gone.result())
        self._port = port

    @property
    def busy(self) -> bool:
        """A command is under way."""
        return self._lock.locked()

    def lose(self, reason: str) -> None:
        """Give this link up; whoever waits for an answer hears of it."""
        if self.gone.done():
            return
        self.gone.set_result(reason)
        if self._port is not None:
            self._port.close()
        pending = self._pending
        if pending is not None:
            for waiting in (pending.answer, pending.prompt):
                if not waiting.done():
                    waiting.set_exception(ModemLost(reason))
                    waiting.exception()  # perhaps nobody waits for this one

    # -------------------------------------------------------------------------- commands

    async def command(self, text: str, timeout_s: float | None = None) -> Reply:
        """Send a command and wait for its result.

        Raises ModemLost when there is none in time: what comes later would be taken for the
        answer to another command, so that the link is given up.
        """
        async with self._lock:
            return await self._answer_to(text, timeout_s or self._command_timeout_s)

    async def _answer_to(self, text: str, timeout_s: float) -> Reply:
        pending = self._begin(text)
        try:
            self._write(text.encode("ascii", "replace") + b"\r")
            async with asyncio.timeout(timeout_s):
                result = await pending.answer
        except TimeoutError:
            self.lose(f"no answer to {pending.name}")
            raise ModemLost(f"no answer to {pending.name}") from None
        except asyncio.CancelledError:
            self.lose("a command was given up")
            raise
        finally:
            self._pending = None
        return Reply(result, pending.lines)

    async def probe(self, text: str, timeout_s: float) -> bool:
        """Whether the modem answers this with OK in time.  Raises ModemLost when it is gone."""
        async with self._lock:
            pending = self._begin(text)
            try:
                self._write(text.encode("ascii") + b"\r")
                async with asyncio.timeout(timeout_s):
                    return (await pending.answer).ok
            except TimeoutError:
                return False
            finally:
                self._pending = None

    async def quiet(self, for_s: float, at_most_s: float) -> None:
        """Until nothing has come for so long; what came before is forgotten."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while await self._hears_something(for_s):
                    pass
        self._reader.clear()
        self._pdu_of = None

    async def _hears_something(self, within_s: float) -> bool:
        self._heard.clear()
        try:
            # Not `timeout`: one inside another's can't tell whose it was.
            return await asyncio.wait_for(self._heard.wait(), within_s)
        except TimeoutError:
            return False

    def abandon(self) -> None:
        """Leave whatever is being entered.  Raises ModemLost."""
        self._write(at.ESC + b"\r")

    async def submit(
        self,
        digits: str,
        octets: int,
        answer_timeout_s: float,
        late_s: float,
        written: Callable[[], None],
        overdue: Callable[[], None],
    ) -> Reply:
        """+CMGS of 27.005 section 4.3: a PDU in hexadecimal digits, of `octets` without the SMSC.

        `written` is called immediately before the PDU is written, `overdue` when there is no
        answer in time; an answer is then awaited for another `late_s`.

        Raises ModemLost, or Unanswered once the PDU was written.
        """
        async with self._lock:
            await self._pdu_mode()
            pending = self._begin(f"AT+CMGS={octets}")
            self._reader.wants_prompt = True
            try:
                refused = await self._prompt(pending)
                if refused is not None:
                    return Reply(refused, pending.lines)
                return await self._pdu(pending, digits, answer_timeout_s, late_s, written, overdue)
            except asyncio.CancelledError:
                self.lose("sending was given up")
                raise
            finally:
                self._reader.wants_prompt = False
                self._pending = None

    async def _pdu_mode(self) -> None:
        """A modem that has silently started anew may be in text mode: it would take the length
        for a number, and the PDU for a text.  Raises ModemLost."""
        if not (await self._answer_to("AT+CMGF=0", self._command_timeout_s)).ok:
            self.lose("the modem leaves PDU mode")
            raise ModemLost("the modem leaves PDU mode")

    async def _prompt(self, pending: _Pending) -> at.Result | None:
        """Wait for the prompt; a result instead of it is a refusal.  Raises ModemLost."""
        self._write(pending.echo.encode() + b"\r")
        try:
            async with asyncio.timeout(self._command_timeout_s):
                await asyncio.wait(
                    (pending.prompt, pending.answer), return_when=asyncio.FIRST_COMPLETED
                )
        except TimeoutError:
            self._cancel_entry("no prompt for a PDU")
        if self.gone.done():
            raise ModemLost(self.gone.result())
        if pending.answer.done():
            return pending.answer.result()
        return None

    def _cancel_entry(self, reason: str) -> None:
        """Nothing was written behind the prompt, and nothing will be: ESC, and the link ends."""
        with suppress(ModemLost):
            self._write(at.ESC)
        self.lose(reason)

    async def _pdu(
        self,
        pending: _Pending,
        digits: str,
        answer_timeout_s: float,
        late_s: float,
        written: Callable[[], None],
        overdue: Callable[[], None],
    ) -> Reply:
        pending.echo = digits
        pending.lines.clear()  # a reference from before the PDU is another message's
        written()
        self._write(digits.encode("ascii") + at.CTRL_Z)
        try:
            try:
                async with asyncio.timeout(answer_timeout_s):
                    result = await asyncio.shield(pending.answer)
            except TimeoutError:
                if _taken(pending):
                    raise
                overdue()
                async with asyncio.timeout(late_s):
                    result = await pending.answer
        except (TimeoutError, ModemLost) as error:
            reason = str(error) or "no answer to a PDU"
            self.lose(reason)
            if _taken(pending):  # it has said so, only its OK is missing
                return Reply(at.Result(True, "", None, ""), pending.lines)
            raise Unanswered(reason) from None
        if not result.ok and _taken(pending):
            self.lose("a reference and an error for one PDU")
            raise Unanswered("the modem gave a reference, and then an error")
        return Reply(result, pending.lines)

    def _begin(self, text: str) -> _Pending:
        if self.gone.done():
            raise ModemLost(self.gone.result())
        self._pending = _Pending(text, self._loop)
        return self._pending

    def _write(self, octets: bytes) -> None:
        if self._port is None or self.gone.done():
            raise ModemLost(self.gone.result() if self.gone.done() else "the line is not open")
        try:
            self._port.write(octets)
        except PortError as error:
            self.lose(str(error))
            raise ModemLost(str(error)) from None

    # ------------------------------------------------------------------------- receiving

    def _received(self, octets: bytes) -> None:
        self._heard.set()
        second = int(self._loop.time())
        self._octets = len(octets) + (self._octets if second == self._second else 0)
        self._second = second
        if self._octets > _FLOOD_OCTETS:
            self.lose("a flood on the line")
        for item in self._reader.feed(octets):
            if self.gone.done():
                return
            if isinstance(item, at.Prompt):
                if self._pending is not None and not self._pending.prompt.done():
                    self._pending.prompt.set_result(None)
            else:
                self._line(item)
        if self._reader.garbage > _GARBAGE_MAX and self.settled:
            self.lose("garbage on the line")

    def _line(self, line: str) -> None:
        pending = self._pending
        if self._is_unasked(line, pending):
            return
        result = at.final_result(line)
        if pending is None:
            if result is None and at.is_banner(line):
                self._started_anew(line)
        elif result is not None:
            # Before the prompt an OK answers something else: nothing was sent yet.
            early = result.ok and self._reader.wants_prompt and not pending.prompt.done()
            if not early and not pending.answer.done():
                self._reader.garbage = 0
                pending.answer.set_result(result)
        elif pending.prefix and line.startswith(pending.prefix + ":"):
            self._answer_line(pending, line)
        elif at.is_banner(line):
            self._started_anew(line)
        elif line.rstrip("\x1a").upper() == pending.echo.upper():
            self.echoes = True
            if self.settled and not self.always_echoes:
                # Echo was switched off: whatever else was set is forgotten as well, and a PDU
                # in text mode would go to a wrong number.
                self.lose("the modem echoes again")
        else:
            self._answer_line(pending, line)

    def _is_unasked(self, line: str, pending: _Pending | None) -> bool:
        """Hand on what the modem says by itself, with the PDU that may stand in the next line."""
        if self._pdu_of is not None:
            (code, header), self._pdu_of = self._pdu_of, None
            if at.octets_of(line) is not None:
                self.unasked(code, header, line)
                return True
        code = at.urc_of(line)
        # What AT+CUSD asks for always comes by itself.
        if not code or (pending is not None and pending.prefix == code != "+CUSD"):
            return False
        if code in at.PDU_FOLLOWS:
            self._pdu_of = (code, line)
        else:
            self.unasked(code, line, None)
        return True

    def _started_anew(self, line: str) -> None:
        if self.settled:
            self.lose(f"the modem has started anew: {line[:40]}")

    def _answer_line(self, pending: _Pending, line: str) -> None:
        pending.lines.append(line)
        if len(pending.lines) > _LINES_MAX:
            self.lose(f"endless answer to {pending.name}")


def _taken(pending: _Pending) -> bool:
    """The modem has given a reference, so the network has taken the message."""
    return any(line.startswith("+CMGS:") for line in pending.lines)
