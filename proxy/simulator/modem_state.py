"""What a simulated modem is told to be, and what it remembers."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from proxy.gsm.tpdu import Submit
from proxy.simulator.modem_at import AtError, Format
from proxy.simulator.modem_storage import Storage

SIM_PIN, SIM_PUK, READY = "SIM PIN", "SIM PUK", "READY"
"""What AT+CPIN? tells (27.007 section 8.3)."""

NOT_ALLOWED: Final = 3
PIN_REQUIRED: Final = 11
PUK_REQUIRED: Final = 12
WRONG_PASSWORD: Final = 16
NO_NETWORK: Final = 30
"""Codes of +CME ERROR (27.007 section 9.2.1)."""


@dataclass(slots=True)
class ModemOptions:
    """How the modem behaves; may be changed while it runs. Times are in seconds."""

    pin: str | None = None
    """What the SIM wants before anything else works; None: nothing. Read at the beginning only."""
    puk: str = "12345678"
    pin_attempts: int = 3
    puk_attempts: int = 10
    smsc: str = "+447785016005"
    """The service centre that the SIM names (AT+CSCA)."""
    number: str = "+447700900001"
    """The SIM's own (AT+CNUM)."""
    send_delay_s: float = 0.0
    """From the end of a TPDU to its "+CMGS"."""
    report_delay_s: float = 0.2
    """From then to the status report, if one is asked for."""
    report_status: int | None = 0
    """TP-Status of those (23.040 section 9.2.3.15); None: the network sends none."""
    ussd: dict[str, str] = field(default_factory=lambda: {"*100#": "Balance: 12.34 GBP"})
    """What the network answers to which code; other codes are refused."""
    ussd_delay_s: float = 0.05
    imsi: str = "234150999999999"
    imei: str = "490154203237518"
    iccid: str = "8944110064000000017"
    manufacturer: str = "smpp-proxy"
    model: str = "Simulated modem"
    revision: str = "1.0"
    operator: str = "Simulated network"
    echo: bool = True
    """After a reset."""
    storage_slots: int = 20
    """Of each memory."""
    report_storage: Literal["received", "SR"] = "received"
    """Where +CNMI=,,,2 keeps reports: with received messages, or in a memory of their own."""
    cnmi: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3), (0, 1, 2, 3), (0, 2), (0, 1, 2), (0, 1))
    """The values of each parameter of AT+CNMI that it knows."""
    phase_2_plus: bool = True
    """It knows AT+CSMS=1, with which what is handed over directly wants AT+CNMA."""
    ack_timeout_s: float = 15.0
    """How long it waits for AT+CNMA before it stops handing over directly (27.005 3.4.4)."""
    redeliver_s: float = 1.0
    """When the network tries again what the modem has refused."""
    boot_s: float = 0.05
    """How long a reset takes."""
    banner: str = "RDY"
    """What it says after a reset; empty: nothing."""
    failing: dict[str, tuple[Literal["", "CME", "CMS"], int]] = field(default_factory=dict)
    """Commands that fail, in every form: the kind of error, "" for a plain ERROR, and its code."""
    seed: int = 0
    """Of its garbage."""


@dataclass(frozen=True, slots=True)
class SentMessage:
    """An SMS-SUBMIT that the network has taken."""

    tpdu: bytes
    """The octets that came, without the SC address; TP-MR is what the client wrote."""
    submit: Submit
    """The same, decoded."""
    mr: int
    """The TP-Message-Reference that the modem gave it: "+CMGS: mr", and the report's."""
    at: float
    """Unix time."""
    smsc: str
    """The service centre that it was for."""


@dataclass
class Settings(Format):
    """What AT commands set, and a reset (or ATZ, AT&F) sets back."""

    cmgf: int = 0
    csms: int = 0
    cscs: str = "IRA"
    cmms: int = 0
    csdh: int = 0
    cnmi: tuple[int, ...] = (0, 0, 0, 0, 0)
    memories: list[str] = field(default_factory=lambda: ["SM", "SM", "SM"])
    """For reading, for writing, for what is received (AT+CPMS)."""
    creg: dict[str, int] = field(default_factory=lambda: {"+CREG": 0, "+CGREG": 0, "+CEREG": 0})
    cops_format: int = 0
    csmp: tuple[int, int, int, int] = (17, 167, 0, 0)
    """First octet, validity, protocol_id, data_coding of what text mode sends."""


class Sim:
    """The card: its PIN, and how many attempts are left."""

    def __init__(self, options: ModemOptions) -> None:
        self._puk = options.puk
        self.pin = options.pin or "0000"
        self.pin_wanted = options.pin is not None
        self.pin_attempts = options.pin_attempts
        self.puk_attempts = options.puk_attempts
        self._pin_attempts_max = options.pin_attempts
        self._unlocked = False
        self.sca = options.smsc

    def power_up(self) -> None:
        """It wants its PIN again, if it wants one."""
        self._unlocked = False

    def unlock(self) -> None:
        """It has seen its PIN."""
        self._unlocked = True

    @property
    def state(self) -> str:
        """What AT+CPIN? tells."""
        if self.pin_attempts <= 0:
            return SIM_PUK
        return READY if self._unlocked or not self.pin_wanted else SIM_PIN

    def require(self, kind: Literal["CME", "CMS"]) -> None:
        """Raise AtError as long as it wants a PIN or a PUK."""
        if self.state == SIM_PIN:
            raise AtError(kind, PIN_REQUIRED if kind == "CME" else 311)
        if self.state == SIM_PUK:
            raise AtError(kind, PUK_REQUIRED if kind == "CME" else 316)

    def enter(self, secret: str, new_pin: str) -> None:
        """AT+CPIN=: a PIN, or the PUK and a new PIN. Raises AtError when it is refused."""
        state = self.state
        if state == READY:
            raise AtError("CME", NOT_ALLOWED)
        if state == SIM_PIN:
            self.verify(secret)
            self._unlocked = True
            return
        if self.puk_attempts <= 0:
            raise AtError("CME", 13)  # "SIM failure": the card is blocked for ever
        if not _same(secret, self._puk) or not (new_pin.isdigit() and 4 <= len(new_pin) <= 8):
            self.puk_attempts -= 1
            raise AtError("CME", WRONG_PASSWORD)
        self.pin, self.pin_attempts, self._unlocked = new_pin, self._pin_attempts_max, True

    def verify(self, pin: str) -> None:
        """Compare a PIN, and count a wrong one. Raises AtError."""
        if self.pin_attempts <= 0:
            raise AtError("CME", PUK_REQUIRED)
        if _same(pin, self.pin):
            self.pin_attempts = self._pin_attempts_max
            return
        self.pin_attempts -= 1
        raise AtError("CME", WRONG_PASSWORD if self.pin_attempts else PUK_REQUIRED)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


class Device:
    """The state that the groups of commands share."""

    def __init__(
        self,
        options: ModemOptions,
        *,
        announce: Callable[[str], None],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.options = options
        self.announce = announce
        """Writes an unsolicited line."""
        self.later = later
        """Does something after a delay in seconds."""
        self.usable: Callable[[], None] = lambda: None
        """Called when something may have made it able to receive messages."""
        self.settings = Settings(echo=options.echo)
        self.sim = Sim(options)
        self.storages = {name: Storage(name, options.storage_slots) for name in ("SM", "ME", "SR")}
        self.signal = 20
        """AT+CSQ's first value: 0 to 31, in steps of 2 dB from -113 dBm; 99: not known."""
        self.covered = True
        """There is a network to register with."""
        self.awake = False
        """It is plugged in, has booted, and does not hang."""
        self.cfun = 1
        """1: everything; 0: nothing; 4: no radio (27.007 section 8.2)."""

    @property
    def registered(self) -> bool:
        """It can send and receive messages."""
        return self.awake and self.registration == 1

    @property
    def registration(self) -> int:
        """<stat> of AT+CREG: 0 not registered, 1 at home, 2 searching (27.007 section 7.2)."""
        if self.cfun != 1 or self.sim.state != READY:
            return 0
        return 1 if self.covered else 2

    def announce_registration(self, before: int) -> None:
        """Tell of a change, if AT+CREG and its like have asked for that."""
        if self.registration != before:
            for name, wanted in self.settings.creg.items():
                if wanted:
                    self.announce(self.registration_line(name, wanted))

    def registration_line(self, name: str, detail: int, *, read: bool = False) -> str:
        """A line of AT+CREG: unsolicited without <n>, as an answer with it."""
        mode = f"{detail}," if read else ""
        cell = ',"1A2B","0003C4D5"' if detail == 2 and self.registered else ""
        return f"{name}: {mode}{self.registration}{cell}"

    def power_up(self) -> None:
        """All that a reset sets back."""
        self.settings = Settings(echo=self.options.echo)
        self.sim.power_up()
        self.cfun = 1
