"""The network that a simulated modem is in: it takes messages, reports on them, brings others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from proxy.gsm.tpdu import (
    Deliver,
    StatusReport,
    Submit,
    TpduError,
    decode_submit,
    encode_deliver,
    encode_status_report,
    split_smsc,
)
from proxy.simulator.modem_at import AtError
from proxy.simulator.modem_state import Device, SentMessage

KEPT_MAX: Final = 100_000
"""Messages remembered, and waiting for the modem; the oldest are forgotten."""

INVALID_PDU: Final = 304
NO_NETWORK: Final = 331
"""Codes of +CMS ERROR (27.005 section 3.2.5)."""


class Network:
    """One service centre and one cell."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.sent: list[SentMessage] = []
        self.refuse_with: Callable[[Submit], int | None] | None = None
        """Says with which +CMS ERROR a message is refused; None: it is taken."""
        self.waiting: deque[bytes] = deque(maxlen=KEPT_MAX)
        """TPDUs for the modem that it could not take yet."""
        self.on_waiting: Callable[[], None] = lambda: None
        """Called when there is one more."""
        self.on_sent: Callable[[SentMessage], None] = lambda _message: None
        """Called when it has taken a message."""
        self._references = 0

    def take(self, octets: bytes) -> SentMessage:
        """Take an SMS-SUBMIT, with the SC address before it; its report follows in due time.

        Raises AtError: it is none, the modem is not registered, or `refuse_with` says so.
        """
        try:
            smsc, tpdu = split_smsc(octets)
            submit = decode_submit(tpdu)
        except TpduError:
            raise AtError("CMS", INVALID_PDU) from None
        if not self._device.registered:
            raise AtError("CMS", NO_NETWORK)
        refusal = self.refuse_with(submit) if self.refuse_with is not None else None
        if refusal is not None:
            raise AtError("CMS", refusal)
        plus = "+" if smsc is not None and smsc.ton == 1 else ""
        centre = f"{plus}{smsc.digits}" if smsc is not None else self._device.sim.sca
        message = SentMessage(tpdu, submit, self._references, time.time(), centre)
        self._references = (self._references + 1) % 256
        if len(self.sent) >= KEPT_MAX:
            del self.sent[0]
        self.sent.append(message)
        self.on_sent(message)
        options = self._device.options
        if submit.report and options.report_status is not None:
            self._device.later(options.report_delay_s, partial(self.report, message))
        return message

    def report(self, message: SentMessage, status: int | None = None) -> None:
        """Send a status report on a message; None: the status that the options say."""
        configured = self._device.options.report_status
        if status is None:
            status = 0 if configured is None else configured
        self.bring(
            encode_status_report(
                StatusReport(
                    reference=message.mr,
                    recipient=message.submit.destination,
                    sent_at_s=message.at,
                    discharged_at_s=time.time(),
                    status=status,
                )
            )
        )

    def deliver(self, deliver: Deliver) -> None:
        """Send a message to the modem. Raises TpduError when it can't be one."""
        self.bring(encode_deliver(deliver))

    def bring(self, tpdu: bytes) -> None:
        """Send a TPDU, whatever it is, as soon as the modem can take it."""
        self.waiting.append(tpdu)
        self.on_waiting()
