"""What the network brings: stored and indicated, or handed over, as AT+CNMI says.

3GPP TS 27.005 sections 3.4.1 (AT+CNMI) and 3.4.4 (AT+CNMA).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from proxy.gsm.tpdu import TpduError, decode_deliver, kind_of, with_smsc
from proxy.simulator import modem_text
from proxy.simulator.modem_at import ANNOUNCED_MAX, AtError
from proxy.simulator.modem_network import KEPT_MAX, Network
from proxy.simulator.modem_state import Device
from proxy.simulator.modem_storage import REC_UNREAD, Storage, Stored

NO_ACK_EXPECTED: Final = 340


class Inbox:
    """Between the network and the storages."""

    def __init__(self, device: Device, network: Network) -> None:
        self._device = device
        self._network = network
        network.on_waiting = self.take
        self._unacknowledged: bytes | None = None
        """Handed over directly, and wants AT+CNMA before the next one comes."""
        self._ack_wait = object()
        self._buffered: deque[str] = deque(maxlen=ANNOUNCED_MAX)
        """Unsolicited lines while <mode> is 0."""
        self._unrouted: deque[bytes] = deque(maxlen=KEPT_MAX)
        """Reports that came while <ds> was 0.

        27.005 lets a modem lose them. Kept until it is set, so that what a test sees does not
        depend on whether the report or the program was quicker.
        """

    def power_up(self) -> None:
        """What was not acknowledged the network brings again."""
        self._buffered.clear()
        if self._unacknowledged is not None:
            self._network.waiting.appendleft(self._unacknowledged)
            self._unacknowledged = None

    def take(self) -> None:
        """Take what the network has for us, as long as there is room for it."""
        waiting = self._network.waiting
        while waiting and self._unacknowledged is None and self._device.registered:
            if not self._handle(waiting[0]):
                return
            waiting.popleft()

    def routing_changed(self, clear: bool) -> None:
        """AT+CNMI was set: what was buffered is told now, or forgotten (<bfr>)."""
        if self._device.settings.cnmi[0]:
            buffered, self._buffered = list(self._buffered), deque(maxlen=ANNOUNCED_MAX)
            for line in [] if clear else buffered:
                self._device.announce(line)
        if self._device.settings.cnmi[3]:
            self._network.waiting.extendleft(reversed(self._unrouted))
            self._unrouted.clear()
        self.take()

    def acknowledge(self, *, taken: bool) -> None:
        """AT+CNMA. Raises AtError: nothing waits for it."""
        if self._unacknowledged is None:
            raise AtError("CMS", NO_ACK_EXPECTED)
        tpdu, self._unacknowledged = self._unacknowledged, None
        if not taken:
            self._device.later(self._device.options.redeliver_s, lambda: self._network.bring(tpdu))
        self.take()

    def _handle(self, tpdu: bytes) -> bool:
        """Store it or hand it over; False: it can't be taken now."""
        settings = self._device.settings
        is_report = bool(tpdu) and kind_of(tpdu) == "status_report"
        _, mt, _, ds, _ = settings.cnmi
        if is_report and ds == 0:
            self._unrouted.append(tpdu)
            return True
        if is_report and ds == 1:
            self._hand_over("+CDS", tpdu)
            return True
        if not is_report and (mt == 2 or (mt == 3 and _message_class(tpdu) == 3)):
            self._hand_over("+CMT", tpdu)
            return True
        storage = self._storage(is_report)
        if storage.full:
            return False
        index = storage.put(Stored(REC_UNREAD, self._with_smsc(tpdu)))
        if is_report or mt:
            self._announce(f'{"+CDSI" if is_report else "+CMTI"}: "{storage.name}",{index}')
        return True

    def _storage(self, is_report: bool) -> Storage:
        name = self._device.settings.memories[2]
        if is_report and self._device.options.report_storage == "SR":
            name = "SR"
        return self._device.storages[name]

    def _with_smsc(self, tpdu: bytes) -> bytes:
        """As it came through the network, whatever AT+CSCA was set to."""
        return with_smsc(tpdu, self._device.options.smsc)

    def _hand_over(self, name: str, tpdu: bytes) -> None:
        octets = self._with_smsc(tpdu)
        if self._device.settings.cmgf:
            self._announce(modem_text.handed_over(name, octets, self._device.settings.cscs))
        else:
            alpha = "" if name == "+CDS" else ","
            self._announce(f"{name}: {alpha}{len(tpdu)}\r\n{octets.hex().upper()}")
        if self._device.settings.csms:
            self._unacknowledged = tpdu
            self._ack_wait = waited_for = object()

            def give_up() -> None:
                if self._unacknowledged is not None and self._ack_wait is waited_for:
                    self._not_acknowledged()

            self._device.later(self._device.options.ack_timeout_s, give_up)

    def _not_acknowledged(self) -> None:
        """Nobody is there who keeps what we hand over: stop doing that (27.005 section 3.4.1)."""
        mode, _, bm, _, bfr = self._device.settings.cnmi
        self._device.settings.cnmi = (mode, 0, bm, 0, bfr)
        self.acknowledge(taken=False)

    def _announce(self, line: str) -> None:
        if self._device.settings.cnmi[0]:
            self._device.announce(line)
        else:
            self._buffered.append(line)


def _message_class(tpdu: bytes) -> int | None:
    """The message class that its TP-DCS tells (23.038 section 4); None: none."""
    try:
        dcs = decode_deliver(tpdu).data_coding
    except TpduError:
        return None
    if dcs & 0xF0 == 0xF0 or dcs & 0x90 == 0x10:
        return dcs & 3
    return None
