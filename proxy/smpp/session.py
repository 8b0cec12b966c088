"""Who may send what, when: SMPP 3.4 table 2-1, as one table.

The rules, first in words.  A session opens without rights; the ESME binds it as transmitter,
receiver or transceiver; either side unbinds it.  A transmitter carries messages towards the SMSC
and the operations on them, a receiver the other way, a transceiver both.  enquire_link and
generic_nack are always allowed (also before the bind, which some clients do while they wait), and
so are the responses to what the other side may ask.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from proxy.smpp import vocabulary as smpp


class SessionState(IntEnum):
    """Section 2.2, seen from either side."""

    OPEN = 0
    BOUND_TX = 1
    BOUND_RX = 2
    BOUND_TRX = 3
    CLOSED = 4


STATE_OF_BIND: Final = {
    smpp.BIND_TRANSMITTER: SessionState.BOUND_TX,
    smpp.BIND_RECEIVER: SessionState.BOUND_RX,
    smpp.BIND_TRANSCEIVER: SessionState.BOUND_TRX,
}
BIND_TYPE: Final = {
    SessionState.BOUND_TX: "transmitter",
    SessionState.BOUND_RX: "receiver",
    SessionState.BOUND_TRX: "transceiver",
}

_ALWAYS: Final = frozenset({smpp.ENQUIRE_LINK, smpp.ENQUIRE_LINK_RESP, smpp.GENERIC_NACK})
_BOUND: Final = _ALWAYS | {smpp.UNBIND, smpp.UNBIND_RESP}
_TO_SMSC: Final = frozenset(
    {
        smpp.SUBMIT_SM,
        smpp.SUBMIT_MULTI,
        smpp.DATA_SM,
        smpp.QUERY_SM,
        smpp.CANCEL_SM,
        smpp.REPLACE_SM,
    }
)
_TO_ESME: Final = frozenset({smpp.DELIVER_SM, smpp.DATA_SM})


def _responses(commands: frozenset[int]) -> frozenset[int]:
    return frozenset(command | smpp.RESP for command in commands)


ESME_MAY_SEND: Final = {
    SessionState.OPEN: _ALWAYS | smpp.BINDS,
    SessionState.BOUND_TX: _BOUND | _TO_SMSC,
    SessionState.BOUND_RX: _BOUND | _responses(_TO_ESME),
    SessionState.BOUND_TRX: _BOUND | _TO_SMSC | _responses(_TO_ESME),
    SessionState.CLOSED: frozenset[int](),
}
SMSC_MAY_SEND: Final = {
    SessionState.OPEN: _ALWAYS | _responses(smpp.BINDS) | {smpp.OUTBIND},
    SessionState.BOUND_TX: _BOUND | _responses(_TO_SMSC),
    SessionState.BOUND_RX: _BOUND | _TO_ESME | {smpp.ALERT_NOTIFICATION},
    SessionState.BOUND_TRX: _BOUND | _TO_ESME | _responses(_TO_SMSC) | {smpp.ALERT_NOTIFICATION},
    SessionState.CLOSED: frozenset[int](),
}

_REQUESTS: Final = _BOUND | _TO_SMSC | _TO_ESME | smpp.BINDS
"""The requests that have a response of their own."""


def refusal(command_id: int, state: SessionState) -> tuple[int, int] | None:
    """How to answer a command that the table forbids: (command_id, status) of the response.

    None: say nothing, because it is a response (answering one invites a loop) or has no response
    (outbind, alert_notification).
    """
    if command_id & smpp.RESP or command_id in (smpp.OUTBIND, smpp.ALERT_NOTIFICATION):
        return None
    if command_id in smpp.BINDS and state != SessionState.OPEN:
        return command_id | smpp.RESP, smpp.ESME_RALYBND
    if command_id in _REQUESTS:
        return command_id | smpp.RESP, smpp.ESME_RINVBNDSTS
    return smpp.GENERIC_NACK, smpp.ESME_RINVCMDID
