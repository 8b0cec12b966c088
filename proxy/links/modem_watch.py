"""What is asked of a modem again and again: its network, its signal, the SIM's balance."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from proxy.config import ModemSettings
from proxy.gsm import at
from proxy.gsm.alphabet import decode_gsm, encode_gsm, pack_septets, unpack_septets
from proxy.links.modem_link import ModemLink, ModemLost

log = structlog.get_logger()

POLL_S: Final = 30.0
SEARCH_S: Final = 2.0
_IDLE_S: Final = 5.0
_USSD_S: Final = 60.0
_OPERATOR_EVERY: Final = 20
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){4,}")
_UCS2_DCS: Final = frozenset({0x08, 0x11, *range(0x48, 0x4C)})
"""Of a cell broadcast data coding scheme (3GPP TS 23.038 section 5): a UCS-2 text."""
_GSM_DCS: Final = 15
_NETWORK_ASKS: Final = 1
_SIM_GONE: Final = frozenset({10, 13, 15})
"""+CME ERROR: not inserted, failure, wrong (27.007 section 9.2)."""


class Watch:
    """Of one modem; remembers what it saw last."""

    def __init__(
        self,
        settings: ModemSettings,
        idle: Callable[[], bool],
        changed: Callable[[], None],
        balance: Callable[[str], None],
    ) -> None:
        """`changed`: the network was found or lost; `balance` gets the network's words."""
        self._settings = settings
        self._idle = idle
        self._changed = changed
        self._balance = balance
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.registered = False
        self.signal_dbm: int | None = None
        self.operator = ""
        self.balance_due_s = 0.0
        """Unix time."""
        self._polls = 0
        self._in_menu = False
        """The network has asked something back."""

    def heard(self, code: str, line: str) -> None:
        """+CREG and +CEREG: something about the network has changed.  +CUSD: an answer."""
        if code == "+CUSD":
            self._answered(line)
        else:
            self._wake.set()

    def look_soon(self) -> None:
        """Something went wrong that may have to do with the network."""
        self._wake.set()

    async def run(self, link: ModemLink) -> None:
        """As long as the link lives.  Raises ModemLost."""
        self._polls = 0
        self._in_menu = False
        while True:
            self._wake.clear()
            await self._poll(link)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S if self.registered else SEARCH_S):
                    await self._wake.wait()

    def lost(self) -> None:
        """The link is gone: nothing is known any more."""
        self.signal_dbm = None
        self._set(False)

    def _set(self, registered: bool) -> None:
        if registered != self.registered:
            self.registered = registered
            self._changed()

    async def _poll(self, link: ModemLink) -> None:
        registered = False
        for name in ("+CREG", "+CEREG"):  # circuits and packets; a modem for LTE may have one only
            reply = await link.command(f"AT{name}?")
            registered = at.registration(reply.lines, name) in at.REGISTERED
            if registered:
                break
        self.signal_dbm = at.signal_dbm((await link.command("AT+CSQ")).lines)
        if not registered:
            self._polls = 0
            await self._look_at_sim(link)
        elif self._polls % _OPERATOR_EVERY == 0:
            values = at.named((await link.command("AT+COPS?")).lines, "+COPS")
            self.operator = values[2][:40] if len(values) > 2 else ""
        self._polls += registered
        self._set(registered)
        if self._in_menu:
            self._in_menu = False
            await link.command("AT+CUSD=2")
        if registered and self._settings.balance_ussd and time.time() >= self.balance_due_s:
            await self._ask_balance(link, self._settings.balance_ussd)

    async def _look_at_sim(self, link: ModemLink) -> None:
        """Perhaps it is the reason.  Raises ModemLost: a start shows what can be done."""
        reply = await link.command("AT+CPIN?")
        pin = at.named(reply.lines, "+CPIN")
        locked = bool(pin) and pin[0].upper() in ("SIM PIN", "SIM PUK")
        if locked or (reply.result.kind == "cme" and reply.result.code in _SIM_GONE):
            reason = "the SIM wants its PIN again" if locked else "the SIM is gone"
            link.lose(reason)
            raise ModemLost(reason)

    # --------------------------------------------------------------------------- USSD

    async def _ask_balance(self, link: ModemLink, code: str) -> None:
        if not self._idle():
            return  # the next poll sees to it
        self.balance_due_s = time.time() + self._settings.balance_every_s
        reply = await link.command(f'AT+CUSD=1,"{code}",{_GSM_DCS}', _USSD_S)
        if not reply.ok:
            # Some modems want the septets packed, as they are sent.
            packed = pack_septets(encode_gsm(code, replace=True) or b"").hex().upper()
            reply = await link.command(f'AT+CUSD=1,"{packed}",{_GSM_DCS}', _USSD_S)
        if not reply.ok:
            log.warning("modem_balance_refused", upstream=self._settings.name)

    def _answered(self, line: str) -> None:
        m, text, dcs = at.ussd_text(line)
        if text:
            self._balance(ussd_words(text, dcs))
        if m == _NETWORK_ASKS:
            # A menu: it is left, or it would keep the next question out.
            self._in_menu = True
            self._wake.set()


def ussd_words(text: str, dcs: int | None) -> str:
    """The words of an answer that the modem may have left as hexadecimal digits."""
    words = text
    if _HEX.fullmatch(text) and not text.isdigit():
        octets = bytes.fromhex(text)
        if dcs in _UCS2_DCS:
            words = octets.decode("utf-16-be", "replace")
        elif dcs in (_GSM_DCS, 0, None):
            words = decode_gsm(unpack_septets(octets, len(octets) * 8 // 7))
    # A trailing CR is fill (23.038 section 6.1.2.3.1).
    return "".join(c if c.isprintable() else " " for c in words).strip()[:500]
