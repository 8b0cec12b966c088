"""From an open line to a modem that may send: probing, who it is, the PIN, its settings."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from proxy.config import ModemSettings
from proxy.gsm import at
from proxy.links.modem_link import ModemLink, ModemLost, Reply

log = structlog.get_logger()

_PROBES: Final = 8
_PROBE_S: Final = 1.0
_QUIET_S: Final = 0.1
_QUIET_MAX_S: Final = 2.0
_SIM_TRIES: Final = 15
_SIM_PAUSE_S: Final = 1.0
_RADIO_S: Final = 15.0
_ATTEMPTS: Final = ("AT+CPINR", "AT^CPIN?", "AT+SPIC", "AT+CPINC?", 'AT+QPINC="SC"', "AT#PCT")
_READY: Final = frozenset({"READY", "SIM PIN2", "SIM PUK2"})
"""PIN 2 is for fixed dialling and charges, not for messages."""


class NotAModem(Exception):
    """Nothing on this line answers AT."""


class SimLocked(Exception):
    """The SIM wants what this program must not or can't give; `event` names what is wrong."""

    def __init__(self, event: str, text: str) -> None:
        super().__init__(text)
        self.event = event


class PinMemory(Protocol):
    """What outlives this process: a PIN that was tried and not found right."""

    async def tried(self, digest: str | None) -> None:
        """Remember it; None: forget it, for the SIM took it."""


@dataclass
class Modem:
    """What is known of a modem and its SIM."""

    manufacturer: str = ""
    model: str = ""
    revision: str = ""
    imei: str = ""
    imsi: str = ""
    acknowledges: bool = False
    """+CSMS 1: what it hands over directly has to be acknowledged with +CNMA (27.005 3.4.4)."""
    storage: str = ""
    """Where new messages are kept and read: "SM", "ME" or "MT"; empty: not known."""
    full: at.Storage | None = None
    storages: list[str] = field(default_factory=list)
    """All that can be read."""
    reporting: list[str] = field(default_factory=list)
    """Settings for +CNMI, best first."""


class Pin:
    """The configured PIN, which is tried only while it is not known to be wrong.

    A SIM blocks itself after three wrong ones.  A PIN is remembered in the database before it is
    tried and forgotten when it was right; so one that was refused, or of which nobody knows, is
    never tried again, by any process, until the configuration names another.
    """

    def __init__(
        self, name: str, value: str | None, tried_before: str | None, memory: PinMemory
    ) -> None:
        self.value = value
        self._memory = memory
        self._digest = (
            "" if value is None else hashlib.sha256(f"{name} {value}".encode()).hexdigest()
        )
        self.spent = value is not None and tried_before == self._digest

    async def spend(self) -> None:
        """It is about to be tried.  Raises what the database raises: then it is not tried."""
        await self._memory.tried(self._digest)
        self.spent = True

    async def was_right(self) -> None:
        """The SIM took it: after a restart of the modem it may be given again."""
        self.spent = False
        await self._memory.tried(None)


async def start(link: ModemLink, settings: ModemSettings, pin: Pin) -> Modem:
    """Bring a modem from whatever state it is in to where messages can be sent and received.

    Raises NotAModem, ModemLost, SimLocked.
    """
    await _wake(link)
    modem = Modem()
    await _identify(link, modem)
    await _unlock(link, pin)
    await _need(link, "AT+CMGF=0")  # PDU mode: everything below depends on it
    modem.imsi = _first(await link.command("AT+CIMI"))
    modem.acknowledges = (await link.command("AT+CSMS=1")).ok
    for wish in ('AT+CSCS="GSM"', "AT+CREG=1", "AT+CEREG=1"):
        await link.command(wish)
    if settings.smsc is not None:
        kind = 145 if settings.smsc.startswith("+") else 129
        await _need(link, f'AT+CSCA="{settings.smsc}",{kind}')
    await _choose_storage(link, modem)
    offered = await link.command("AT+CNMI=?")
    # Without +CNMA a report that comes directly is gone when it can't be kept: stored is better.
    modem.reporting = at.reporting_choices(offered.lines, stored_reports=not modem.acknowledges)
    await set_reporting(link, modem)
    link.settled = True
    return modem


async def _wake(link: ModemLink) -> None:
    """Until it answers and says nothing else."""
    # It may be in the middle of a PDU that a process before this one began.
    link.abandon()
    await link.quiet(_QUIET_S, _QUIET_MAX_S)
    for number in range(_PROBES):
        # The second one is for a modem that was told to be silent, or to answer with numbers.
        if await link.probe("ATE0Q0V1" if number % 2 else "AT", _PROBE_S):
            break
    else:
        raise NotAModem("no answer to AT")
    await link.quiet(_QUIET_S, _QUIET_MAX_S)  # answers to probes before that one
    await link.command("ATE0")
    link.echoes = False
    for setting in ("ATV1", "AT+CMEE=1"):
        await link.command(setting)
    link.always_echoes = link.echoes
    radio = await link.command("AT+CFUN?")
    if at.named(radio.lines, "+CFUN") in (["0"], ["4"]):
        await link.command("AT+CFUN=1", _RADIO_S)


async def _identify(link: ModemLink, modem: Modem) -> None:
    modem.manufacturer = _first(await link.command("AT+CGMI"))
    modem.model = _first(await link.command("AT+CGMM"))
    modem.revision = _first(await link.command("AT+CGMR"))
    modem.imei = _first(await link.command("AT+CGSN"))


def _first(reply: Reply) -> str:
    """The value of an answer that may or may not repeat the command's name; "" for none."""
    if reply.ok:
        for line in reply.lines:
            # A Huawei says things with "^" at any time; an echo may be late.
            if not line.startswith(("^", "AT")):
                text = line.partition(":")[2] if line.startswith("+") else line
                return text.strip(' "')[:64]
    return ""


async def _need(link: ModemLink, text: str) -> Reply:
    """A setting that nothing works without; a SIM that has just been unlocked takes its time."""
    for _ in range(_SIM_TRIES):
        reply = await link.command(text)
        if reply.ok:
            return reply
        await _pause(link)
    raise ModemLost(f"{text.partition('=')[0]} is refused: {reply.result.text}")


async def _pause(link: ModemLink) -> None:
    await asyncio.wait((link.gone,), timeout=_SIM_PAUSE_S)


# ------------------------------------------------------------------------------------- PIN


async def _unlock(link: ModemLink, pin: Pin) -> None:
    state = await _sim_state(link)
    if state in _READY:
        return
    if state != "SIM PIN":
        raise SimLocked("modem_puk", f"the SIM wants {state}: it is unlocked by hand only")
    if pin.value is None:
        raise SimLocked("modem_pin_missing", "the SIM wants a PIN and none is configured")
    if pin.spent:
        raise SimLocked(
            "modem_pin_refused",
            "this PIN was tried before and is not tried again: correct `pin`, or unlock the SIM",
        )
    attempts = await _attempts(link)
    if attempts is not None and attempts < 2:
        raise SimLocked(
            "modem_pin_refused",
            f"the SIM allows {attempts} more attempts: the last one is left to a person",
        )
    await _try(pin.spend, "the database could not remember that a PIN is tried")
    reply = await link.command(f'AT+CPIN="{pin.value}"', _RADIO_S)
    if not reply.ok:
        raise SimLocked(
            "modem_pin_refused", f"the SIM refuses the PIN: {reply.result.text}: correct `pin`"
        )
    await _try(pin.was_right, "the database could not forget a PIN that was right")
    if await _sim_state(link) not in _READY:
        raise ModemLost("the SIM took the PIN and is not ready")


async def _try(step: Callable[[], Awaitable[None]], failed: str) -> None:
    try:
        await step()
    except Exception as error:
        raise ModemLost(f"{failed}: {error}") from error


async def _sim_state(link: ModemLink) -> str:
    """<code> of +CPIN? (27.007 section 8.3); a SIM that is busy is waited for."""
    for _ in range(_SIM_TRIES):
        reply = await link.command("AT+CPIN?")
        values = at.named(reply.lines, "+CPIN")
        if reply.ok and values:
            return values[0].upper()[:20]
        if reply.result.kind == "cme" and reply.result.code == 10:
            raise SimLocked("modem_no_sim", "there is no SIM in it")
        if reply.result.kind == "cme" and reply.result.code in (11, 12):
            return "SIM PIN" if reply.result.code == 11 else "SIM PUK"
        if reply.result.kind == "" and not reply.ok:
            # A modem without this command has no PIN, else it could not be used by anybody.
            return "READY"
        await _pause(link)
    raise ModemLost("the SIM does not become ready")


async def _attempts(link: ModemLink) -> int | None:
    """How often the PIN may still be tried, where the modem can say it."""
    for command in _ATTEMPTS:
        reply = await link.command(command)
        if reply.ok and (left := at.pin_attempts(reply.lines)) is not None:
            return left
    return None


# --------------------------------------------------------------------------------- storages


async def _choose_storage(link: ModemLink, modem: Modem) -> None:
    """Where messages are kept: rather in the modem, which has more room than the SIM.

    MT, both together, is the last choice: a message has another number there than in its own
    storage, so that one and the same would look like two.
    """
    offered = at.storages_offered((await link.command("AT+CPMS=?")).lines)
    if not offered:
        return
    modem.storages = [name for name in offered[0] if name in ("SM", "ME", "SR")]
    last = offered[-1]
    fallback = ""
    for name in ("ME", "SM", "MT"):
        if name not in offered[0] or name not in last:
            continue
        # MT can be read, but is often nothing to write to or to receive in.
        middle = name if len(offered) < 2 or name in offered[1] else offered[1][0]
        full = await select_storage(link, modem, name, middle)
        if full is None:
            continue
        fallback = fallback or name
        if full.used < full.total:
            return
    if fallback:
        await select_storage(link, modem, fallback)


async def select_storage(
    link: ModemLink, modem: Modem, name: str, middle: str | None = None
) -> at.Storage | None:
    """Read from, write to and receive in this storage; None when the modem does not want to."""
    for use in (f'"{name}","{middle or name}","{name}"', f'"{name}","{middle or name}"'):
        reply = await link.command(f"AT+CPMS={use}")
        if reply.ok:
            modem.storage = name
            modem.full = at.storage_of(reply.lines, 2) or at.storage_of(reply.lines, 0)
            return modem.full or at.Storage(0, 1)
    return None


async def read_storage(link: ModemLink, name: str) -> bool:
    """Read from and delete in this storage, without changing where new messages are kept."""
    return (await link.command(f'AT+CPMS="{name}"')).ok


async def set_reporting(link: ModemLink, modem: Modem) -> bool:
    """Ask to be told of new messages and reports; False when the modem takes none of the ways."""
    for setting in modem.reporting:
        if (await link.command(f"AT+CNMI={setting}")).ok:
            return True
    return False
