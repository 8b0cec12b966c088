"""What a modem says: lines, results and values of AT commands (3GPP TS 27.007, 27.005, V.250).

Everything here takes whatever a modem sends, of any length and in any pieces, and never raises
because of it.
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

ESC: Final = b"\x1b"
CTRL_Z: Final = b"\x1a"

LINE_MAX: Final = 4096
"""Octets of a line; a PDU takes 352, a USSD answer some hundred."""
_USSD_LINES_MAX: Final = 16


class Prompt(Enum):
    """The modem waits for a PDU (27.005 section 3.5.1)."""

    SEEN = ">"


Item: TypeAlias = "str | Prompt"

_BLANK: Final = b" \0"
"""Around a line these are nothing: some modems send NULs when they start."""
_ENDS: Final = re.compile(rb"[\r\n]+")
_NOT_TEXT: Final = re.compile(rb"[^\x20-\x7e\x1a]")
_CONTROL: Final = re.compile(r"[\x00-\x19\x1b-\x1f\x7f-\x9f]")


class LineReader:
    """Cuts octets into lines, without their ends and without empty ones, and sees the prompt.

    `garbage` counts octets that no modem sends: other than printable ASCII, or in a line longer
    than LINE_MAX.  Whoever finds much of it has the wrong baud rate, or the wrong device.
    """

    def __init__(self) -> None:
        self.garbage = 0
        self.wants_prompt = False
        """A ">" at the beginning of a line is the prompt; otherwise it is noise."""
        self._rest = b""
        self._skipping = False
        self._ussd: list[str] = []

    def feed(self, octets: bytes) -> list[Item]:
        """What is whole now, in order."""
        items: list[Item] = []
        pieces = _ENDS.split(self._rest + octets)
        self._rest = pieces.pop()
        for piece in pieces:
            if self._skipping:  # the end of a line that was too long
                self._skipping = False
                self.garbage += len(piece)
            elif piece:
                self._line(piece, items)
        if not self._skipping:
            self._rest = self._without_prompts(self._rest, items)
        if self._skipping or len(self._rest) > LINE_MAX:
            self.garbage += len(self._rest)
            self._skipping = True
            self._rest = b""
        return items

    def _without_prompts(self, octets: bytes, items: list[Item]) -> bytes:
        """What stands behind the prompts that it begins with; they are items, when wanted."""
        while (rest := octets.lstrip(_BLANK)).startswith(b">"):
            octets = rest[1:].lstrip(_BLANK)
            if self.wants_prompt:
                items.append(Prompt.SEEN)
        return octets

    def clear(self) -> None:
        """Forget a line that has begun."""
        self._rest = b""
        self._skipping = False
        self._ussd = []

    def _line(self, piece: bytes, items: list[Item]) -> None:
        piece = self._without_prompts(piece, items)
        if len(piece) > LINE_MAX:
            self.garbage += len(piece)
            return
        self.garbage += len(_NOT_TEXT.findall(piece))
        # The characters of a USSD text may be of any set; all octets are kept.
        text = piece.strip(_BLANK).decode("latin-1")
        if not text:
            return
        if self._ussd:
            self._more_ussd(text, items)
        elif not text.startswith("+CUSD:"):
            items.append(_shown(text))
        elif text.count('"') == 1:
            self._ussd = [text]  # its text goes on in the next line
        else:
            items.append(text)

    def _more_ussd(self, text: str, items: list[Item]) -> None:
        over = final_result(text) is not None or len(self._ussd) >= _USSD_LINES_MAX
        if not over:
            self._ussd.append(text)
            if '"' not in text:
                return
        items.append("\n".join(self._ussd))
        self._ussd = []
        if over:
            items.append(_shown(text))


def _shown(text: str) -> str:
    """What goes into events, the database and on screens: no database takes a NUL as text.

    Of control characters only Ctrl-Z stays, which ends the echo of a PDU.
    """
    return _CONTROL.sub("?", text)


class Result(NamedTuple):
    """The final result code of a command (V.250 section 5.7, 27.007 section 9.2, 27.005 3.2.5)."""

    ok: bool
    kind: str
    """"cms" or "cme": which list `code` is of; empty for a plain OK or ERROR."""
    code: int | None
    """None: the modem gives no number."""
    text: str
    """As the modem wrote it, cut to 80 characters."""


_ERROR: Final = re.compile(r"\+(CM[SE]) ERROR:\s*(?:(\d{1,5})\b)?", re.IGNORECASE)
_REFUSALS: Final = frozenset({"ERROR", "COMMAND NOT SUPPORT", "TOO MANY PARAMETERS"})
"""Not NO CARRIER, BUSY and their like: they end calls, which nobody makes here.  Behind a PDU, when
somebody has rung the SIM's number, one of these would look like a refusal of what was sent."""


def final_result(line: str) -> Result | None:
    """The result a line ends a command with, or None when it is something else."""
    if line == "OK":
        return Result(True, "", None, line)
    match = _ERROR.match(line)
    if match:
        code = int(match[2]) if match[2] else None
        return Result(False, match[1].lower(), code, line[:80])
    if line in _REFUSALS:
        return Result(False, "", None, line)
    return None


# What a modem says when it has just started, or goes off: everything set so far is forgotten.
_BANNERS: Final = re.compile(
    r"RDY$|\^SYSSTART|\+CFUN:|START$|MODEM:STARTUP|NORMAL POWER DOWN|POWERED DOWN"
    r"|UNDER-VOLTAGE|OVER-VOLTAGE POWER DOWN|\+CPIN: (?!READY)|\+QPOWD|SYSTEM START"
)
_URCS: Final = re.compile(r"(\+CMTI|\+CMT|\+CDSI|\+CDS|\+CBM|\+CUSD|\+CREG|\+CEREG|\+CGREG)\s*:")


def is_banner(line: str) -> bool:
    """A line that nobody asked for and that means: the modem has started anew, or stops."""
    return _BANNERS.match(line) is not None


def urc_of(line: str) -> str:
    """Which unsolicited result code of 27.005 or 27.007 a line may be ("+CMTI"), or ""."""
    match = _URCS.match(line)
    return match[1] if match else ""


PDU_FOLLOWS: Final = frozenset({"+CMT", "+CDS", "+CBM"})
"""Codes whose PDU stands in the next line (27.005 section 3.4.1)."""


def octets_of(line: str) -> bytes | None:
    """The octets of a PDU line, or None when it is none."""
    if len(line) % 2 or not _HEX.fullmatch(line):
        return None
    return bytes.fromhex(line)


_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_VALUE: Final = re.compile(r'\s*(?:"([^"]*)"?|(\([^)]*\)?)|([^,"(]*))[^,]*(,|$)', re.DOTALL)


def values_of(line: str) -> list[str]:
    """The values behind the colon: without quotation marks, and (…) as one value."""
    _, _, rest = line.partition(":")
    values = []
    at = 0
    while True:
        match = _VALUE.match(rest, at)
        if match is None:
            break
        values.append(
            next((group for group in match.groups()[:3] if group is not None), "").strip()
        )
        at = match.end()
        if not match[4]:
            break
    return values


def number_of(value: str) -> int | None:
    """A value as a number of up to nine digits, or None."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def numbers_of(value: str) -> set[int]:
    """What "(0-2)", "(0,1,3)" or "1" offers.  Ranges end at 255: no setting here is greater."""
    offered: set[int] = set()
    for part in value.strip("()").split(","):
        first, dash, last = (text.strip() for text in part.partition("-"))
        low, high = number_of(first), number_of(last if dash else first)
        if low is not None and high is not None:
            offered.update(range(low, min(high, 255) + 1))
    return offered


def named(lines: list[str], prefix: str) -> list[str]:
    """The values of the first line that begins with the prefix and a colon; else none."""
    for line in lines:
        if line.startswith(prefix + ":"):
            return values_of(line)
    return []


# ---------------------------------------------------------------------- what commands answer


def registration(lines: list[str], prefix: str) -> int | None:
    """<stat> of the answer to +CREG? or +CEREG? (27.007 sections 7.2, 10.1.22), or None."""
    values = named(lines, prefix)
    if len(values) < 2:  # some modems leave <n> away
        return number_of(values[0]) if values else None
    return number_of(values[1])


REGISTERED: Final = frozenset({1, 5, 6, 7})
"""Home, roaming, and both for short messages only."""


def signal_dbm(lines: list[str]) -> int | None:
    """<rssi> of +CSQ in dBm (27.007 section 8.5); None: not known."""
    values = named(lines, "+CSQ")
    rssi = number_of(values[0]) if values else None
    return -113 + 2 * rssi if rssi is not None and rssi <= 31 else None


def pin_attempts(lines: list[str]) -> int | None:
    """How often PIN 1 may still be tried, of whichever command the modem knows; None: not said.

    +CPINR (27.007 section 8.65), +SPIC (SIMCom), ^CPIN (Huawei), +CPINC (Wavecom),
    +QPINC (Quectel), #PCT (Telit).
    """
    for line in lines:
        values = values_of(line)
        if line.startswith("+CPINR:") and values and values[0] == "SIM PIN":
            return number_of(values[1]) if len(values) > 1 else None
        if line.startswith("+QPINC:") and values and values[0] == "SC":
            return number_of(values[1]) if len(values) > 1 else None
        if line.startswith("^CPIN:") and len(values) > 3:
            # state, of what is asked for, PUK, PIN, PUK2, PIN2
            return number_of(values[3])
        if line.startswith(("+SPIC:", "+CPINC:", "#PCT:")) and values:
            return number_of(values[0])
    return None


class Stored(NamedTuple):
    """One message of a storage, as +CMGL lists it (27.005 section 4.1)."""

    slot: int
    status: int
    """0 unread, 1 read, 2 not sent, 3 sent."""
    pdu: str
    """Its hexadecimal digits."""


def listed(lines: list[str]) -> list[Stored]:
    """The messages of an answer to +CMGL; what is not whole is left out."""
    found = []
    header: list[str] | None = None
    for line in lines:
        if line.startswith("+CMGL:"):
            header = values_of(line)
        elif header is not None and octets_of(line) is not None:
            slot = number_of(header[0])
            status = number_of(header[1]) if len(header) > 1 else None
            if slot is not None and status is not None:
                found.append(Stored(slot, status, line.upper()))
            header = None
    return found


def stored_pdu(lines: list[str], prefix: str = "+CMGR") -> str | None:
    """The PDU of an answer to +CMGR, or None: the slot is empty, or the answer is not whole."""
    for header, line in pairwise(lines):
        if header.startswith(prefix + ":") and octets_of(line) is not None:
            return line.upper()
    return None


class Storage(NamedTuple):
    """How full a storage is."""

    used: int
    total: int


def storages_offered(lines: list[str]) -> list[list[str]]:
    """By use (read, write, receive) the storages that +CPMS=? names (27.005 section 3.2.2)."""
    return [re.findall(r"[A-Z]{2}", value) for value in named(lines, "+CPMS")]


def storage_of(lines: list[str], use: int) -> Storage | None:
    """Of the answer to +CPMS=…: used and total of the storage for this use (0 read, 2 receive)."""
    values = [number_of(value) for value in named(lines, "+CPMS")]
    pair = values[2 * use : 2 * use + 2]
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None:
        return Storage(pair[0], pair[1])
    return None


def reporting_choices(lines: list[str], *, stored_reports: bool) -> list[str]:
    """Settings for +CNMI (27.005 section 3.4.1), best first, of what the answer to +CNMI=? offers.

    New messages are stored and told (mt 1); status reports come directly (ds 1) or stored (ds 2):
    `stored_reports` says which is better.  Without an answer what most modems take.
    """
    ds_wanted = (2, 1, 0) if stored_reports else (1, 2, 0)
    offered = [numbers_of(value) for value in named(lines, "+CNMI")]
    if len(offered) < 2:
        return [*(f"2,1,0,{ds},0" for ds in ds_wanted), "1,1,0,1,1", "2,1"]

    def best(position: int, *wanted: int) -> int:
        there = offered[position] if position < len(offered) else set()
        return next((value for value in wanted if value in there), 0)

    mode, mt, bfr = best(0, 2, 1, 3), best(1, 1, 2, 3), best(4, 0, 1)
    choices = [f"{mode},{mt},0,{ds},{bfr}" for ds in ds_wanted if ds == best(3, ds)]
    return [*choices, f"{mode},{mt}"]


def ussd_text(line: str) -> tuple[int, str, int | None]:
    """<m>, the text as sent and <dcs> of a +CUSD line (27.007 section 7.15)."""
    values = values_of(line)
    m = number_of(values[0]) if values else None
    text = values[1] if len(values) > 1 else ""
    dcs = number_of(values[2]) if len(values) > 2 else None
    return (m if m is not None else 0), text, dcs
