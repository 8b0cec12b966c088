"""The commands of a modem about messages (3GPP TS 27.005), in PDU mode and in text mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from proxy.gsm.tpdu import Number, TpduError, decode_submit, split_smsc
from proxy.simulator import modem_text
from proxy.simulator.modem_at import AtError, Command, Later, Prompt, Reply
from proxy.simulator.modem_inbox import Inbox
from proxy.simulator.modem_network import INVALID_PDU, Network
from proxy.simulator.modem_state import Device
from proxy.simulator.modem_storage import (
    ALL,
    REC_READ,
    REC_UNREAD,
    STATUS_TEXTS,
    STO_SENT,
    STO_UNSENT,
    Storage,
    Stored,
)

TPDU_OCTETS_MAX: Final = 176
"""What AT+CMGS takes as a length: TPDUs have up to 164 octets, modems allow a little more."""
NOT_SUPPORTED: Final = 303
INVALID_TEXT: Final = 305

_READABLE: Final = ("SM", "ME", "SR")
_WRITABLE: Final = ("SM", "ME")


class Faults(Protocol):
    """What may go wrong in the middle of sending."""

    def at(self, where: str) -> None:
        """Called with "prompt", "pdu" and "sent"; may reset or hang the modem."""


class MessageCommands:
    """Sending, storing, reading, and how new ones are told of."""

    def __init__(self, device: Device, network: Network, inbox: Inbox, faults: Faults) -> None:
        self._device = device
        self._network = network
        self._inbox = inbox
        self._faults = faults
        self.handlers: dict[str, Callable[[Command], Reply]] = {
            "+CMGF": self._format,
            "+CSMS": self._service,
            "+CSCA": self._service_centre,
            "+CPMS": self._memories,
            "+CNMI": self._indications,
            "+CSMP": self._text_parameters,
            "+CSDH": self._show_headers,
            "+CMMS": self._more,
            "+CMGS": self._send,
            "+CMGW": self._write,
            "+CMSS": self._send_stored,
            "+CMGR": self._read,
            "+CMGL": self._list,
            "+CMGD": self._delete,
            "+CNMA": self._acknowledge,
        }

    def run(self, command: Command) -> Reply:
        """Run one of `handlers`. Raises AtError; 311 or 316 as long as the SIM is locked."""
        if command.form != "test" and command.name not in ("+CMGF", "+CMMS", "+CSDH"):
            self._device.sim.require("CMS")
        return self.handlers[command.name](command)

    # Settings.

    def _format(self, command: Command) -> Reply:
        if command.form == "test":
            return ["+CMGF: (0,1)"]
        if command.form == "read":
            return [f"+CMGF: {self._device.settings.cmgf}"]
        self._device.settings.cmgf = command.number(0, 0, 1, 0)
        return []

    def _show_headers(self, command: Command) -> Reply:
        if command.form == "test":
            return ["+CSDH: (0,1)"]
        if command.form == "read":
            return [f"+CSDH: {self._device.settings.csdh}"]
        self._device.settings.csdh = command.number(0, 0, 1, 0)
        return []

    def _more(self, command: Command) -> Reply:
        if command.form == "test":
            return ["+CMMS: (0-2)"]
        if command.form == "read":
            return [f"+CMMS: {self._device.settings.cmms}"]
        self._device.settings.cmms = command.number(0, 0, 2, 0)
        return []

    def _service(self, command: Command) -> Reply:
        services = (0, 1) if self._device.options.phase_2_plus else (0,)
        if command.form == "test":
            return [f"+CSMS: ({','.join(map(str, services))})"]
        if command.form == "read":
            return [f"+CSMS: {self._device.settings.csms},1,1,1"]
        service = command.number(0, 0, 255)
        if service not in services:
            raise AtError("CMS", NOT_SUPPORTED)
        self._device.settings.csms = service
        return ["+CSMS: 1,1,1"]

    def _service_centre(self, command: Command) -> Reply:
        sim, charset = self._device.sim, self._device.settings.cscs
        if command.form == "test":
            return []
        if command.form == "read":
            toda = modem_text.type_of_address(modem_text.parse_number(sim.sca))
            return [f"+CSCA: {modem_text.quoted(sim.sca, charset)},{toda}"]
        number = self._number(command)
        if not number.digits.isdigit() or len(number.digits) > 20:
            raise AtError("CMS", INVALID_TEXT)
        sim.sca = modem_text.number_text(number)
        return []

    def _memories(self, command: Command) -> Reply:
        settings, storages = self._device.settings, self._device.storages
        if command.form == "test":
            lists = (_READABLE, _WRITABLE, _WRITABLE)
            shown = ("({})".format(",".join(f'"{name}"' for name in names)) for names in lists)
            return [f"+CPMS: {','.join(shown)}"]
        if command.form == "read":
            shown = (f'"{name}",{storages[name].usage}' for name in settings.memories)
            return [f"+CPMS: {','.join(shown)}"]
        memories = [
            command.value(index, default).upper() for index, default in enumerate(settings.memories)
        ]
        if memories[0] not in _READABLE or any(name not in _WRITABLE for name in memories[1:]):
            raise AtError("CMS", 302)  # "operation not allowed"
        settings.memories = memories
        self._device.later(0, self._inbox.take)
        return [f"+CPMS: {','.join(storages[name].usage for name in memories)}"]

    def _indications(self, command: Command) -> Reply:
        settings, known = self._device.settings, self._device.options.cnmi
        if command.form == "test":
            shown = ("({})".format(",".join(map(str, values))) for values in known)
            return [f"+CNMI: {','.join(shown)}"]
        if command.form == "read":
            return [f"+CNMI: {','.join(map(str, settings.cnmi))}"]
        try:
            wanted = tuple(
                command.number(index, 0, 9, default) for index, default in enumerate(settings.cnmi)
            )
        except AtError:
            raise AtError("CMS", NOT_SUPPORTED) from None
        if any(value not in values for value, values in zip(wanted, known, strict=True)):
            raise AtError("CMS", NOT_SUPPORTED)
        settings.cnmi = wanted
        self._device.later(0, partial(self._inbox.routing_changed, clear=bool(wanted[4])))
        return []

    def _text_parameters(self, command: Command) -> Reply:
        settings = self._device.settings
        if command.form == "test":
            return []
        if command.form == "read":
            return [f"+CSMP: {','.join(map(str, settings.csmp))}"]
        first, validity, protocol_id, dcs = (
            command.number(index, 0, 255, default) for index, default in enumerate(settings.csmp)
        )
        settings.csmp = (first, validity, protocol_id, dcs)
        return []

    # Sending.

    def _number(self, command: Command) -> Number:
        """The number and its type that a command begins with. Raises AtError."""
        try:
            text = modem_text.from_charset(command.value(0), self._device.settings.cscs)
            return modem_text.parse_number(text, command.value(1))
        except ValueError:
            raise AtError("CMS", INVALID_TEXT) from None

    def _send(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        prompt = self._prompt(command, self._send_octets)
        self._faults.at("prompt")
        return prompt

    def _prompt(self, command: Command, done: Callable[[bytes], Reply]) -> Prompt:
        """The prompt that AT+CMGS and AT+CMGW give; `done` gets the SC address and the TPDU."""
        if command.form != "set":
            raise AtError("CMS", INVALID_TEXT)
        settings = self._device.settings
        if not settings.cmgf:
            try:
                length = command.number(0, 1, TPDU_OCTETS_MAX)
            except AtError:
                raise AtError("CMS", INVALID_PDU) from None
            return Prompt(lambda data: done(_octets(data, length)))
        number = self._number(command)
        csmp, charset = settings.csmp, settings.cscs
        return Prompt(
            lambda data: done(modem_text.submit_of(data, number, csmp, charset)), text=True
        )

    def _send_octets(self, octets: bytes) -> Reply:
        self._faults.at("pdu")
        delay_s = self._device.options.send_delay_s
        take = partial(self._take, "+CMGS", octets)
        return Later(delay_s, take) if delay_s > 0 else take()

    def _take(self, name: str, octets: bytes) -> Reply:
        message = self._network.take(octets)
        self._faults.at("sent")
        return [f"{name}: {message.mr}"]

    def _send_stored(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        stored = self._writing.get(_index(command))

        def send() -> Reply:
            reply = self._take("+CMSS", stored.octets)
            stored.status = STO_SENT
            return reply

        self._faults.at("pdu")
        delay_s = self._device.options.send_delay_s
        return Later(delay_s, send) if delay_s > 0 else send()

    # Storages.

    @property
    def _reading(self) -> Storage:
        return self._device.storages[self._device.settings.memories[0]]

    @property
    def _writing(self) -> Storage:
        return self._device.storages[self._device.settings.memories[1]]

    def _write(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        status = STO_UNSENT
        if self._device.settings.cmgf:
            named = command.value(2, STATUS_TEXTS[STO_UNSENT]).upper()
            status = STATUS_TEXTS.index(named) if named in STATUS_TEXTS[:ALL] else -1
        elif command.value(1):
            status = command.number(1, 0, 3)
        if status < 0:
            raise AtError("CMS", INVALID_TEXT)

        def store(octets: bytes) -> Reply:
            return [f"+CMGW: {self._writing.put(Stored(status, octets))}"]

        return self._prompt(command, store)

    def _read(self, command: Command) -> Reply:
        if command.form == "test":
            return []
        stored = self._reading.get(_index(command))
        line = f"+CMGR: {self._shown(stored)}"
        if stored.status == REC_UNREAD:
            stored.status = REC_READ
        return [line]

    def _list(self, command: Command) -> Reply:
        in_text = bool(self._device.settings.cmgf)
        if command.form == "test":
            shown = ",".join(f'"{text}"' for text in STATUS_TEXTS) if in_text else "0-4"
            return [f"+CMGL: ({shown})"]
        status = REC_UNREAD
        if in_text:
            named = command.value(0, STATUS_TEXTS[REC_UNREAD]).upper()
            if named not in STATUS_TEXTS:
                raise AtError("CMS", INVALID_TEXT)
            status = STATUS_TEXTS.index(named)
        elif command.form == "set":
            status = command.number(0, 0, ALL)
        lines = []
        for index, stored in self._reading.listed(status):
            lines.append(f"+CMGL: {index},{self._shown(stored)}")
            if stored.status == REC_UNREAD:
                stored.status = REC_READ
        return ["\r\n".join(lines)] if lines else []

    def _shown(self, stored: Stored) -> str:
        if self._device.settings.cmgf:
            head, text = modem_text.stored(stored, self._device.settings.cscs)
            return f"{head}\r\n{text}"
        return f"{stored.status},,{stored.tpdu_octets}\r\n{stored.octets.hex().upper()}"

    def _delete(self, command: Command) -> Reply:
        storage = self._reading
        if command.form == "test":
            return [f"+CMGD: ({','.join(map(str, sorted(storage.messages)))}),(0-4)"]
        flag = command.number(1, 0, 4, 0)
        storage.delete(command.number(0, 0, 65_535, None if flag == 0 else 0), flag)
        self._device.later(0, self._inbox.take)
        return []

    def _acknowledge(self, command: Command) -> Reply:
        if command.form == "test":
            return ["+CNMA: (0-2)"]
        taken = command.number(0, 0, 2, 0) != 2
        if command.value(1) and not self._device.settings.cmgf:
            # RP-ACK or RP-ERROR with a TPDU of its own, which this network does not look at.
            return Prompt(lambda _data: self._acknowledged(taken))
        return self._acknowledged(taken)

    def _acknowledged(self, taken: bool) -> Reply:
        self._inbox.acknowledge(taken=taken)
        return []


def _index(command: Command) -> int:
    try:
        return command.number(0, 0, 65_535)
    except AtError:
        raise AtError("CMS", 321) from None


def _octets(data: bytes, length: int) -> bytes:
    """The octets of hex that was typed, of which the TPDU has `length`. Raises AtError."""
    try:
        octets = bytes.fromhex(data.decode("ascii"))
        _, tpdu = split_smsc(octets)
        decode_submit(tpdu)
    except (ValueError, TpduError):
        raise AtError("CMS", INVALID_PDU) from None
    if len(tpdu) != length:
        raise AtError("CMS", INVALID_PDU)
    return octets
