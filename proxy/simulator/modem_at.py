"""The command line of a modem: octets in, commands out, answers written as ITU-T V.250 says.

No modem is in here: a `Host` runs the commands. It is written from V.250 (commands and result
codes), 3GPP TS 27.007 section 4 (extended syntax) and TS 27.005 section 3.5 (the prompt of a
message), and knows nothing of this project's own client.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol

LINE_OCTETS_MAX: Final = 1024
"""A longer command line is an error, and not kept."""
DATA_OCTETS_MAX: Final = 1024
"""More than the longest TPDU with its SC address, in hex, has: what follows is not kept."""
INPUT_OCTETS_MAX: Final = 8192
"""What may arrive while a command runs; more is lost, as on a line without flow control."""
ANNOUNCED_MAX: Final = 1000
"""Unsolicited lines that wait for a command to end; the oldest are forgotten."""

_CR, _LF, _BACKSPACE, _CTRL_Z, _ESC = 0x0D, 0x0A, 0x08, 0x1A, 0x1B
_PREFIX: Final = re.compile(r"AT", re.IGNORECASE)
_BASIC: Final = re.compile(r"(D)(.*)|(S\d{1,3})(=\d{0,3}|\?|)|(&?[A-Z])(\d{0,5})(\??)", re.I | re.S)
_EXTENDED: Final = re.compile(r"([+^*%$#][A-Z0-9_]+)[ ]*(=\?|\?|=|)[ ]*(.*)", re.I | re.S)
_EXTENDED_STARTS: Final = "+^*%$#"

Form = Literal["run", "read", "test", "set"]


class AtError(Exception):
    """A command fails: with ERROR, or with a "+CME ERROR" or "+CMS ERROR" and its code."""

    def __init__(self, kind: Literal["", "CME", "CMS"] = "", code: int = 0) -> None:
        super().__init__(f"+{kind} ERROR: {code}" if kind else "ERROR")
        self.kind = kind
        self.code = code


class Command(NamedTuple):
    """One command of a line."""

    name: str
    """In capitals: "+CMGS", "E", "&F", "S0", "D"."""
    form: Form
    """AT+X, AT+X?, AT+X=?, or AT+X=… ; of basic commands "run", or "set" with a number."""
    text: str
    """The parameters as they were written."""

    @property
    def values(self) -> list[str]:
        """The parameters, without quotation marks; an absent one is "" (27.007 section 4.2)."""
        values, quoted, value = [], False, ""
        for char in self.text:
            if char == '"':
                quoted = not quoted
            elif char == "," and not quoted:
                values.append(value.strip(" "))
                value = ""
            else:
                value += char
        return [*values, value.strip(" ")]

    def value(self, index: int, default: str = "") -> str:
        """A parameter; the default when it is absent."""
        values = self.values
        return values[index] if index < len(values) and values[index] else default

    def number(self, index: int, low: int, high: int, default: int | None = None) -> int:
        """A numeric parameter.

        Raises AtError: absent without a default, no number, or not within low and high.
        """
        text = self.value(index)
        if not text and default is not None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise AtError("CME", 50)  # "Incorrect parameters"
        if not low <= int(text) <= high:
            raise AtError("CME", 50)
        return int(text)


class Prompt(NamedTuple):
    """The command wants data: "> ", then everything up to Ctrl-Z."""

    done: Callable[[bytes], Reply]
    """Called with the data; None of it has a Ctrl-Z or an ESC, with which it is abandoned."""
    text: bool = False
    """Lines for people: CR prompts again, backspace deletes (27.005 section 3.5.1)."""


class Later(NamedTuple):
    """The answer takes its time; what arrives meanwhile waits."""

    delay_s: float
    then: Callable[[], Reply]


Reply = list[str] | Prompt | Later
"""What a command is answered with: lines of information, before the final OK."""


@dataclass
class Format:
    """How answers are written: what ATE, ATQ, ATV and AT+CMEE set."""

    echo: bool = True
    quiet: bool = False
    verbose: bool = True
    cmee: int = 0
    """0: ERROR instead of +CME ERROR; 1: with the number; 2: with words (27.007 section 9.1)."""


class Host(Protocol):
    """What a terminal asks of the modem it belongs to."""

    @property
    def format(self) -> Format: ...
    def run(self, command: Command) -> Reply: ...
    def write(self, octets: bytes) -> None: ...
    def later(self, delay_s: float, action: Callable[[], None]) -> None: ...


def split_commands(text: str) -> list[Command]:
    """The commands of a line, without its "AT". Raises AtError when it is none (V.250 5.2)."""
    commands, at = [], 0
    while at < len(text):
        if text[at] in " ;":
            at += 1
        elif text[at] in _EXTENDED_STARTS:
            end = _end_of_extended(text, at)
            commands.append(_extended(text[at:end]))
            at = end
        else:
            match = _BASIC.match(text, at)
            if match is None:
                raise AtError
            commands.append(_basic(match))
            at = match.end()
    return commands


def _end_of_extended(text: str, start: int) -> int:
    quoted = False
    for at in range(start, len(text)):
        if text[at] == '"':
            quoted = not quoted
        elif text[at] == ";" and not quoted:
            return at
    return len(text)


def _extended(text: str) -> Command:
    match = _EXTENDED.fullmatch(text)
    if match is None:
        raise AtError
    name, sign, rest = match.groups()
    forms: dict[str, Form] = {"": "run", "?": "read", "=?": "test", "=": "set"}
    if rest and sign != "=":
        raise AtError
    return Command(name.upper(), forms[sign], rest)


def _basic(match: re.Match[str]) -> Command:
    dial, number, register, assigned, name, value, asks = match.groups()
    if dial:
        return Command("D", "run", number)
    if register:
        form: Form = "read" if assigned == "?" else "set" if assigned else "run"
        return Command(register.upper(), form, assigned.strip("=?"))
    if asks:
        return Command(name.upper(), "read", "")
    return Command(name.upper(), "set" if value else "run", value)


_RESULTS: Final = {"OK": 0, "RING": 2, "NO CARRIER": 3, "ERROR": 4}
_CME_TEXTS: Final = {
    3: "operation not allowed",
    4: "operation not supported",
    10: "SIM not inserted",
    11: "SIM PIN required",
    12: "SIM PUK required",
    16: "incorrect password",
    21: "invalid index",
    30: "no network service",
    50: "Incorrect parameters",
    100: "unknown",
}


class Terminal:
    """One serial line's worth of a modem: echo, lines, prompts, final results."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._input: deque[int] = deque()
        self._out = bytearray()
        self.late_echo = False
        """The echo of a line comes after its answer, as it does on a modem that lags."""
        self._echoed = bytearray()
        self._announced: deque[str] = deque(maxlen=ANNOUNCED_MAX)
        self._last = ""
        self.reset()

    def reset(self) -> None:
        """Forget everything that is under way; no answer comes."""
        self._epoch = object()
        self._line = bytearray()
        self._overlong = False
        self._busy = False
        self._prompt: Prompt | None = None
        self._rest: deque[Command] = deque()
        self._input.clear()
        self._echoed.clear()
        self._announced.clear()

    @property
    def idle(self) -> bool:
        """No command runs, and none waits for its data."""
        return not self._busy and self._prompt is None

    def receive(self, data: bytes) -> None:
        """Octets of the other side."""
        self._input.extend(data[: max(INPUT_OCTETS_MAX - len(self._input), 0)])
        self._work()

    def announce(self, line: str) -> None:
        """An unsolicited line: written when no command is under way."""
        self._announced.append(line)
        self._work()

    # Input.

    def _work(self) -> None:
        while self._input and not self._busy:
            octet = self._input.popleft()
            if self._prompt is not None:
                self._data_octet(octet, self._prompt)
            else:
                self._line_octet(octet)
        while self._announced and self.idle:
            self._info(self._announced.popleft())
        self._flush()

    def _flush(self) -> None:
        if self._out:
            octets, self._out = bytes(self._out), bytearray()
            self._host.write(octets)

    def _echo(self, octet: int) -> None:
        if self._host.format.echo:
            (self._echoed if self.late_echo else self._out).append(octet)

    def _line_octet(self, octet: int) -> None:
        self._echo(octet)
        if octet == _CR:
            line, self._line = self._line.decode("latin-1"), bytearray()
            overlong, self._overlong = self._overlong, False
            # What is before AT is noise on the line, and so is a line without it.
            found = _PREFIX.search(line)
            if found is not None:
                self._last = line[found.end() :]
                self._start(None if overlong else self._last)
            else:
                self._late_echo()
        elif octet == _BACKSPACE:
            del self._line[-1:]
        elif octet == ord("/") and self._line.strip().upper() == b"A":
            self._line.clear()
            self._start(self._last)  # A/ has no CR of its own (V.250 section 5.2.4)
        elif octet == _ESC:
            self._line.clear()
        elif octet >= 0x20:
            if len(self._line) < LINE_OCTETS_MAX:
                self._line.append(octet)
            else:
                self._overlong = True

    def _data_octet(self, octet: int, prompt: Prompt) -> None:
        self._echo(octet)
        if octet == _CTRL_Z:
            data, self._line = bytes(self._line), bytearray()
            self._prompt = None
            self._busy = True
            if self._took(partial(prompt.done, data)):
                self._next()
        elif octet == _ESC:
            self._line.clear()
            self._prompt = None
            self._final("OK")  # the command is abandoned (27.005 section 3.5.1)
        elif octet == _BACKSPACE and prompt.text:
            del self._line[-1:]
        elif octet != _LF and len(self._line) < DATA_OCTETS_MAX:
            self._line.append(octet)
            if octet == _CR and prompt.text:
                self._out += b"\n> "

    # Commands.

    def _start(self, text: str | None) -> None:
        """Run the commands of a line; None: it was too long."""
        try:
            if text is None:
                raise AtError
            self._rest = deque(split_commands(text))
        except AtError as error:
            self._failed(error)
            return
        self._busy = True
        self._next()

    def _next(self) -> None:
        while self._rest:
            command = self._rest.popleft()
            if not self._took(partial(self._host.run, command)):
                return
        self._final("OK")

    def _took(self, action: Callable[[], Reply]) -> bool:
        """Run one command, or the rest of it; True when the next one may run."""
        epoch = self._epoch
        try:
            reply = action()
        except AtError as error:
            if self._epoch is epoch:
                self._failed(error)
            return False
        if self._epoch is not epoch:  # the modem was reset by it
            return False
        if isinstance(reply, Later):
            self._flush()
            self._host.later(reply.delay_s, partial(self._resume, epoch, reply.then))
            return False
        if isinstance(reply, Prompt):
            self._prompt = reply
            self._busy = False
            self._out += b"\r\n> "
            return False
        for line in reply:
            self._info(line)
        return True

    def _resume(self, epoch: object, action: Callable[[], Reply]) -> None:
        if self._epoch is not epoch:
            return
        if self._took(action):
            self._next()
        self._work()

    # Answers.

    def _info(self, line: str) -> None:
        before = "\r\n" if self._host.format.verbose else ""
        self._out += f"{before}{line}\r\n".encode("latin-1", "replace")

    def _failed(self, error: AtError) -> None:
        cmee = self._host.format.cmee
        if not error.kind or (error.kind == "CME" and not cmee):
            self._final("ERROR")
        elif error.kind == "CME" and cmee == 2:
            self._final(f"+CME ERROR: {_CME_TEXTS.get(error.code, 'unknown')}")
        else:
            self._final(f"+{error.kind} ERROR: {error.code}")

    def _final(self, result: str) -> None:
        """End the line: nothing that follows in it runs."""
        self._busy = False
        self._rest.clear()
        how = self._host.format
        if not how.quiet:
            if how.verbose or result not in _RESULTS:
                self._out += f"\r\n{result}\r\n".encode()
            else:
                self._out += f"{_RESULTS[result]}\r".encode()
        self._late_echo()

    def _late_echo(self) -> None:
        self._out += self._echoed
        self._echoed.clear()
