"""The commands of a modem that are not about messages: V.250, 3GPP TS 27.007, and vendors' own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from proxy.simulator import modem_text
from proxy.simulator.modem_at import AtError, Command, Reply
from proxy.simulator.modem_state import NO_NETWORK, NOT_ALLOWED, READY, SIM_PIN, Device, Settings

Handler = Callable[[Command], Reply]

_IGNORED = {"B", "C", "F", "H", "L", "M", "N", "P", "T", "W", "X"}
_IGNORED |= {"&B", "&C", "&D", "&G", "&J", "&K", "&M", "&P", "&Q", "&R", "&S", "&W", "&X", "&Y"}
"""Settings of calls and of the line, which change nothing here."""

_HARMLESS = {"+IPR", "+ICF", "+IFC", "+CLIP", "+CRC", "+CR", "+COLP", "+CGEREP", "+CTZU", "+CTZR"}
"""The same, of extended syntax: taken, and answered with OK."""

_REFUSED_USSD = 4
"""+CUSD: "operation not supported" (27.007 section 7.15)."""


class GeneralCommands:
    """Identity, SIM, registration, the line's settings."""

    def __init__(self, device: Device, restart: Callable[[], None]) -> None:
        self._device = device
        self._restart = restart
        identity = {
            ("+CGMI", "+GMI"): lambda: device.options.manufacturer,
            ("+CGMM", "+GMM"): lambda: device.options.model,
            ("+CGMR", "+GMR"): lambda: device.options.revision,
            ("+CGSN", "+GSN"): lambda: device.options.imei,
        }
        self.handlers: dict[str, Handler] = {
            "E": self._echo,
            "Q": self._quiet,
            "V": self._verbose,
            "Z": self._defaults,
            "&F": self._defaults,
            "I": self._identify,
            "D": lambda _command: self._no_carrier(),
            "A": lambda _command: self._no_carrier(),
            "+GCAP": lambda _command: ["+GCAP: +CGSM"],
            "+CMEE": self._cmee,
            "+CIMI": self._imsi,
            "+CCID": self._iccid,
            "^ICCID": self._iccid,
            "+CPIN": self._pin,
            "^CPIN": self._pin_huawei,
            "+CPINR": self._pin_attempts,
            "+SPIC": self._pin_attempts_simcom,
            "+CPINC": self._pin_attempts_wavecom,
            "+CLCK": self._lock,
            "+CPWD": self._new_pin,
            "+CREG": self._registration,
            "+CGREG": self._registration,
            "+CEREG": self._registration,
            "+COPS": self._operator,
            "+CSQ": self._signal,
            "+CFUN": self._functions,
            "+CSCS": self._charset,
            "+CNUM": self._own_number,
            "+CUSD": self._ussd,
            "+CGATT": lambda command: (
                [f"+CGATT: {int(device.registered)}"] if command.form == "read" else []
            ),
            "+CBC": lambda command: _read_only(command, "+CBC: 0,100", "+CBC: (0,1),(0-100)"),
            "+CPAS": lambda command: _read_only(command, "+CPAS: 0", "+CPAS: (0-5)"),
            "+CCLK": self._clock,
            "+WS46": lambda command: ["+WS46: 12"] if command.form == "read" else [],
        }
        for names, value in identity.items():
            for name in names:
                self.handlers[name] = self._constant(value)
        for name in _IGNORED | _HARMLESS:
            self.handlers[name] = lambda _command: []

    def _constant(self, value: Callable[[], str]) -> Handler:
        return lambda command: [] if command.form == "test" else [value()]

    # The line.

    def _echo(self, command: Command) -> Reply:
        self._device.settings.echo = _flag(command)
        return []

    def _quiet(self, command: Command) -> Reply:
        self._device.settings.quiet = _flag(command)
        return []

    def _verbose(self, command: Command) -> Reply:
        self._device.settings.verbose = _flag(command)
        return []

    def _defaults(self, command: Command) -> Reply:
        """Set back what commands set; the SIM stays unlocked."""
        del command
        self._device.settings = Settings(echo=self._device.options.echo)
        return []

    def _cmee(self, command: Command) -> Reply:
        if command.form == "test":
            return ["+CMEE: (0-2)"]
        if command.form == "read":
            return [f"+CMEE: {self._device.settings.cmee}"]
        self._device.settings.cmee = command.number(0, 0, 2, 0)
        return []

    def _no_carrier(self) -> Reply:
        raise AtError("CME", NOT_ALLOWED)  # it makes no calls

    # Who it is.

    def _identify(self, command: Command) -> Reply:
        options = self._device.options
        if command.text not in ("", "0"):
            return [options.model]
        return [
            f"Manufacturer: {options.manufacturer}",
            f"Model: {options.model}",
            f"Revision: {options.revision}",
            f"IMEI: {options.imei}",
        ]

    def _imsi(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        self._device.sim.require("CME")
        return [self._device.options.imsi]

    def _iccid(self, command: Command) -> Reply:
        return [] if command.form == "test" else [f"{command.name}: {self._device.options.iccid}"]

    def _own_number(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        self._device.sim.require("CME")
        number = self._device.options.number
        charset = self._device.settings.cscs
        toda = modem_text.type_of_address(modem_text.parse_number(number))
        return [f'+CNUM: "",{modem_text.quoted(number, charset)},{toda}'] if number else []

    # The SIM.

    def _pin(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        sim = self._device.sim
        if command.form == "read":
            return [f"{command.name}: {sim.state}"]
        if command.form != "set":
            raise AtError
        before = self._device.registration
        sim.enter(command.value(0), command.value(1))
        self._device.later(0, lambda: self._device.announce_registration(before))
        self._device.later(0, self._device.usable)
        return []

    def _pin_huawei(self, command: Command) -> Reply:
        """^CPIN: code, attempts of what it wants, then of PUK, PIN, PUK2 and PIN2."""
        if command.form != "read":
            return self._pin(command)
        sim = self._device.sim
        left = {READY: "", SIM_PIN: sim.pin_attempts}.get(sim.state, sim.puk_attempts)
        return [f"^CPIN: {sim.state},{left},{sim.puk_attempts},{sim.pin_attempts},10,3"]

    def _pin_attempts(self, command: Command) -> Reply:
        """27.007 section 8.65."""
        if command.form in ("test", "read"):
            return []
        sim = self._device.sim
        attempts = {"SIM PIN": sim.pin_attempts, "SIM PUK": sim.puk_attempts}
        wanted = command.value(0) if command.form == "set" else ""
        return [f"+CPINR: {code},{left}" for code, left in attempts.items() if wanted in ("", code)]

    def _pin_attempts_simcom(self, command: Command) -> Reply:
        sim = self._device.sim
        return _read_only(command, f"+SPIC: {sim.pin_attempts},{sim.puk_attempts},3,10", "")

    def _pin_attempts_wavecom(self, command: Command) -> Reply:
        sim = self._device.sim
        return _read_only(command, f"+CPINC: {sim.pin_attempts},3,{sim.puk_attempts},10", "")

    def _lock(self, command: Command) -> Reply:
        """AT+CLCK: whether the SIM asks for its PIN at power-up (27.007 section 7.4)."""
        if command.form == "test":
            return ['+CLCK: ("SC")']
        if command.form != "set" or command.value(0) != "SC":
            raise AtError("CME", 4)
        sim = self._device.sim
        mode = command.number(1, 0, 2)
        if mode == 2:
            return [f"+CLCK: {int(sim.pin_wanted)}"]
        sim.require("CME")
        sim.verify(command.value(2))
        sim.pin_wanted = bool(mode)
        sim.unlock()
        return []

    def _new_pin(self, command: Command) -> Reply:
        if command.form == "test":
            return ['+CPWD: ("SC",8)']
        old, new = command.value(1), command.value(2)
        if command.value(0) != "SC" or not (new.isascii() and new.isdigit() and 4 <= len(new) <= 8):
            raise AtError("CME", 50)
        self._device.sim.require("CME")
        self._device.sim.verify(old)
        self._device.sim.pin = new
        return []

    # The network.

    def _registration(self, command: Command) -> Reply:
        creg = self._device.settings.creg
        if command.form == "test":
            return [f"{command.name}: (0-2)"]
        if command.form == "read":
            return [self._device.registration_line(command.name, creg[command.name], read=True)]
        creg[command.name] = command.number(0, 0, 2, 0)
        return []

    def _operator(self, command: Command) -> Reply:
        device = self._device
        name = modem_text.quoted(device.options.operator, device.settings.cscs)
        if command.form == "test":
            return [f'+COPS: (2,{name},"Sim","23415",0),,(0-4),(0-2)']
        if command.form == "read":
            if not device.registered:
                return ["+COPS: 0"]
            texts = (name, '"Sim"', '"23415"')
            form = device.settings.cops_format
            return [f"+COPS: 0,{form},{texts[form]}"]
        device.sim.require("CME")
        mode = command.number(0, 0, 4, 0)
        device.settings.cops_format = command.number(1, 0, 2, device.settings.cops_format)
        if mode != 3 and not device.covered:
            raise AtError("CME", NO_NETWORK)
        return []

    def _signal(self, command: Command) -> Reply:
        device = self._device
        value = device.signal if device.cfun == 1 and device.covered else 99
        return _read_only(command, f"+CSQ: {value},99", "+CSQ: (0-31,99),(0-7,99)")

    def _functions(self, command: Command) -> Reply:
        device = self._device
        if command.form == "test":
            return ["+CFUN: (0,1,4),(0,1)"]
        if command.form == "read":
            return [f"+CFUN: {device.cfun}"]
        before = device.registration
        level = command.number(0, 0, 4, 1)
        if level not in (0, 1, 4):
            raise AtError("CME", 50)
        if command.number(1, 0, 1, 0):
            device.later(0, self._restart)
            return []
        device.cfun = level
        device.later(0, lambda: device.announce_registration(before))
        device.later(0, device.usable)
        return []

    def _ussd(self, command: Command) -> Reply:
        """27.007 section 7.15: OK at once, the network's answer when it comes."""
        device = self._device
        if command.form == "test":
            return ["+CUSD: (0-2)"]
        if command.form == "read":
            return ["+CUSD: 1"]
        if command.number(0, 0, 2, 0) == 2 or not command.value(1):
            return []
        device.sim.require("CME")
        if not device.registered:
            raise AtError("CME", NO_NETWORK)
        settings, charset = device.settings, device.settings.cscs
        try:
            code = modem_text.from_charset(command.value(1), charset)
        except ValueError:
            raise AtError("CME", 50) from None

        def answer() -> None:
            text = device.options.ussd.get(code)
            if device.settings is not settings:  # it was reset, which ends the session
                return
            if text is None:
                device.announce(f"+CUSD: {_REFUSED_USSD}")
            else:
                device.announce(f"+CUSD: 0,{modem_text.quoted(text, charset)},15")

        device.later(device.options.ussd_delay_s, answer)
        return []

    # The rest.

    def _charset(self, command: Command) -> Reply:
        settings = self._device.settings
        if command.form == "test":
            return ["+CSCS: ({})".format(",".join(f'"{name}"' for name in modem_text.CHARSETS))]
        if command.form == "read":
            return [f'+CSCS: "{settings.cscs}"']
        name = command.value(0).upper()
        if name not in modem_text.CHARSETS:
            raise AtError("CME", 50)
        settings.cscs = name
        return []

    def _clock(self, command: Command) -> Reply:
        if command.form != "read":
            return []
        return [f'+CCLK: "{datetime.now(UTC):%y/%m/%d,%H:%M:%S}+00"']


def _flag(command: Command) -> bool:
    if command.form == "read" or command.text.strip("0") not in ("", "1"):
        raise AtError
    return command.text.strip("0") == "1"


def _read_only(command: Command, answer: str, test: str) -> Reply:
    if command.form == "set":
        raise AtError("CME", 50)
    if command.form == "test":
        return [test] if test else []
    return [answer]
