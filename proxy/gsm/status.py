"""What status reports and error codes of the GSM world mean in SMPP's.

A command_status that stands for a passing trouble (ESME_RSYSERR, ESME_RMSGQFUL, ESME_RTHROTTLED)
is tried again by the per-status rules, every other ends the message.  A code nobody knows is
passing: 3GPP TS 24.011 section 8.2.5.4 asks to take it for cause 41, and tries are limited.
"""

from __future__ import annotations

from typing import Final

from proxy.smpp import vocabulary as smpp
from proxy.smpp.vocabulary import MessageState

_STATE_OF_STATUS: Final = {  # 3GPP TS 23.040 section 9.2.3.15
    0x00: MessageState.DELIVERED,  # received by the SME
    0x01: MessageState.DELIVERED,  # forwarded, the service centre can't confirm more
    0x02: MessageState.DELETED,  # replaced by a newer one in the service centre
    0x46: MessageState.EXPIRED,  # validity period over
    0x47: MessageState.DELETED,  # by the sender
    0x48: MessageState.DELETED,  # by the service centre
    0x49: MessageState.UNKNOWN,  # does not exist (any more)
}
_STATUS_TEXTS: Final = {
    0x00: "received by the phone",
    0x01: "forwarded to the phone, which can't confirm it",
    0x02: "replaced by the service centre",
    0x20: "congestion, still trying",
    0x21: "phone busy, still trying",
    0x22: "no response from the phone, still trying",
    0x23: "service rejected, still trying",
    0x24: "quality of service not available, still trying",
    0x25: "error in the phone, still trying",
    0x40: "remote procedure error",
    0x41: "incompatible destination",
    0x42: "connection rejected by the phone",
    0x43: "not obtainable",
    0x44: "quality of service not available",
    0x45: "no interworking available",
    0x46: "validity period expired",
    0x47: "deleted by its sender",
    0x48: "deleted by the service centre",
    0x49: "does not exist",
    0x60: "congestion",
    0x61: "phone busy",
    0x62: "no response from the phone",
    0x63: "service rejected",
    0x64: "quality of service not available",
    0x65: "error in the phone",
}

_PASSING: Final = smpp.ESME_RSYSERR
_FINAL: Final = smpp.ESME_RSUBMITFAIL
_FULL: Final = smpp.ESME_RMSGQFUL
_BUSY: Final = smpp.ESME_RTHROTTLED
_NO_SUCH: Final = smpp.ESME_RINVDSTADR

_FCS_FIRST: Final = 128
_ME_FIRST: Final = 256
_STATUS_OF_CMS: Final = {
    # 24.011 annex E-2: causes of the network (RP-Cause).
    1: _NO_SUCH,  # unassigned number
    8: _FINAL,  # operator determined barring
    10: _FINAL,  # call barred
    21: _FINAL,  # short message transfer rejected
    22: _FULL,  # congestion, memory capacity exceeded
    28: _FINAL,  # unidentified subscriber
    29: _FINAL,  # facility rejected
    30: _FINAL,  # unknown subscriber
    42: _BUSY,  # congestion
    47: _BUSY,  # resources unavailable
    50: _FINAL,  # requested facility not subscribed
    69: _FINAL,  # requested facility not implemented
    95: _FINAL,  # semantically incorrect message
    96: _FINAL,  # invalid mandatory information
    97: _FINAL,  # message type non-existent or not implemented
    98: _PASSING,  # message not compatible with the protocol's state
    99: _FINAL,  # information element non-existent
    111: _FINAL,  # protocol error
    127: _FINAL,  # interworking
    # 23.040 section 9.2.3.22: causes of the service centre (TP-FCS). Others of its range are final.
    192: _BUSY,  # SC busy
    194: _PASSING,  # SC system failure
    195: _NO_SUCH,  # invalid SME address
    208: _FULL,  # SIM storage full
    210: _PASSING,  # error in the MS
    211: _FULL,  # memory capacity exceeded
    212: _PASSING,  # SIM application toolkit busy
    # 27.005 section 3.2.5: causes of the modem. Its PIN, SIM, memory, network: passing.
    302: _FINAL,  # operation not allowed
    303: _FINAL,  # operation not supported
    304: _FINAL,  # invalid PDU mode parameter
    305: _FINAL,  # invalid text mode parameter
    322: _FULL,  # memory full
}

DOUBTFUL_CMS_ERRORS: Final = frozenset({332})
"""+CMS ERROR codes that don't say that a message was not sent.

332, network timeout: the service centre did not acknowledge it in time, and may have taken it."""

_STATUS_OF_CME: Final = {  # 27.007 section 9.2; what is not here: SIM, PIN, memory, network
    3: _FINAL,  # operation not allowed
    4: _FINAL,  # operation not supported
    20: _FULL,  # memory full
    24: _FINAL,  # text string too long
    25: _FINAL,  # invalid characters in text string
    26: _NO_SUCH,  # dial string too long
    27: _NO_SUCH,  # invalid characters in dial string
    50: _FINAL,  # incorrect parameters
}


def state_of_report(status: int) -> MessageState | None:
    """The message state that a TP-Status says (0 to 255); None: the service centre still tries.

    3GPP TS 23.040 section 9.2.3.15.  Values that it reserves mean "service rejected", as it says,
    so that a message does not wait for ever for a report that was its last; those it leaves to
    the service centre mean what their group says.
    """
    state = _STATE_OF_STATUS.get(status)
    if state is not None:
        return state
    if 0x10 <= status <= 0x1F:  # the service centre's own, of a completed transaction
        return MessageState.DELIVERED
    if 0x20 <= status <= 0x25 or 0x30 <= status <= 0x3F:
        return None
    return MessageState.UNDELIVERABLE


def error_text(status: int) -> str:
    """A TP-Status as a receipt's "err:" has it: three digits, "000" for a delivered message."""
    return f"{status:03d}"


def explanation(status: int) -> str:
    """What a TP-Status says, in words: for events and operators."""
    return _STATUS_TEXTS.get(status, "not specified")


def status_of_cms_error(code: int | None) -> int:
    """The command_status for a "+CMS ERROR: code"; None: an ERROR without one.

    127 and below: 3GPP TS 24.011 annex E; up to 255: 23.040 section 9.2.3.22; from 300 on: 27.005
    section 3.2.5, where 500 is "unknown" and 512 and up are the manufacturer's.
    """
    if code is None:
        return _PASSING
    default = _FINAL if _FCS_FIRST <= code < _ME_FIRST else _PASSING
    return _STATUS_OF_CMS.get(code, default)


def status_of_cme_error(code: int | None) -> int:
    """The command_status for a "+CME ERROR: code" (27.007 section 9.2); None: an ERROR."""
    return _PASSING if code is None else _STATUS_OF_CME.get(code, _PASSING)
