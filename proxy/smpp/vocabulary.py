"""The numbers and names of SMPP 3.4 (issue 1.2), as plain ints for the hot path.

The names come from aiosmpplib; a command or status that it does not list (vendor statuses,
SMPP 5.0) keeps its number and is carried all the same.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from aiosmpplib.state import SmppCommand, SmppCommandStatus

# Command ids, SMPP 3.4 section 5.1.2.1.
RESP: Final = 0x80000000
GENERIC_NACK: Final = 0x80000000
BIND_RECEIVER: Final = 0x01
BIND_TRANSMITTER: Final = 0x02
QUERY_SM: Final = 0x03
SUBMIT_SM: Final = 0x04
DELIVER_SM: Final = 0x05
UNBIND: Final = 0x06
REPLACE_SM: Final = 0x07
CANCEL_SM: Final = 0x08
BIND_TRANSCEIVER: Final = 0x09
OUTBIND: Final = 0x0B
ENQUIRE_LINK: Final = 0x15
SUBMIT_MULTI: Final = 0x21
ALERT_NOTIFICATION: Final = 0x102
DATA_SM: Final = 0x103

SUBMIT_SM_RESP: Final = SUBMIT_SM | RESP
DELIVER_SM_RESP: Final = DELIVER_SM | RESP
DATA_SM_RESP: Final = DATA_SM | RESP
SUBMIT_MULTI_RESP: Final = SUBMIT_MULTI | RESP
ENQUIRE_LINK_RESP: Final = ENQUIRE_LINK | RESP
UNBIND_RESP: Final = UNBIND | RESP

BINDS: Final = frozenset({BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER})

# Command statuses, SMPP 3.4 section 5.1.3.
ESME_ROK: Final = 0x00
ESME_RINVMSGLEN: Final = 0x01
ESME_RINVCMDLEN: Final = 0x02
ESME_RINVCMDID: Final = 0x03
ESME_RINVBNDSTS: Final = 0x04
ESME_RALYBND: Final = 0x05
ESME_RSYSERR: Final = 0x08
ESME_RINVSRCADR: Final = 0x0A
ESME_RINVDSTADR: Final = 0x0B
ESME_RINVMSGID: Final = 0x0C
ESME_RBINDFAIL: Final = 0x0D
ESME_RINVPASWD: Final = 0x0E
ESME_RINVSYSID: Final = 0x0F
ESME_RCANCELFAIL: Final = 0x11
ESME_RREPLACEFAIL: Final = 0x13
ESME_RMSGQFUL: Final = 0x14
ESME_RINVSERTYP: Final = 0x15
ESME_RINVNUMDESTS: Final = 0x33
ESME_RINVDLNAME: Final = 0x34
ESME_RINVDESTFLAG: Final = 0x40
ESME_RSUBMITFAIL: Final = 0x45
ESME_RINVSYSTYP: Final = 0x53
ESME_RTHROTTLED: Final = 0x58
ESME_RINVSCHED: Final = 0x61
ESME_RINVEXPIRY: Final = 0x62
ESME_RX_T_APPN: Final = 0x64
ESME_RX_P_APPN: Final = 0x65
ESME_RX_R_APPN: Final = 0x66
ESME_RQUERYFAIL: Final = 0x67
ESME_RINVOPTPARSTREAM: Final = 0xC0
ESME_RINVPARLEN: Final = 0xC2
ESME_RUNKNOWNERR: Final = 0xFF

# Optional parameter tags, SMPP 3.4 section 5.3.2.
TAG_RECEIPTED_MESSAGE_ID: Final = 0x001E
TAG_SC_INTERFACE_VERSION: Final = 0x0210
TAG_SAR_MSG_REF_NUM: Final = 0x020C
TAG_SAR_TOTAL_SEGMENTS: Final = 0x020E
TAG_SAR_SEGMENT_SEQNUM: Final = 0x020F
TAG_NETWORK_ERROR_CODE: Final = 0x0423
TAG_MESSAGE_PAYLOAD: Final = 0x0424
TAG_MESSAGE_STATE: Final = 0x0427

# esm_class, SMPP 3.4 section 5.2.12.
ESM_UDHI: Final = 0x40
REGISTERED_RECEIPT_MASK: Final = 0x03
"""Of registered_delivery (section 5.2.17): 0 no receipt, 1 always, 2 for a failure only."""
ESM_TYPE_MASK: Final = 0x3C
ESM_RECEIPT: Final = 0x04
ESM_INTERMEDIATE_RECEIPT: Final = 0x20

INTERFACE_VERSION: Final = 0x34
HEADER_OCTETS: Final = 16
SEQUENCE_MAX: Final = 0x7FFFFFFF


class MessageState(IntEnum):
    """Message states, SMPP 3.4 section 5.2.28."""

    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIVERABLE = 5
    ACCEPTED = 6
    UNKNOWN = 7
    REJECTED = 8


# The words of a receipt's "stat:" field, SMPP 3.4 appendix B.
STATE_OF_STAT: Final = {
    "ENROUTE": MessageState.ENROUTE,
    "DELIVRD": MessageState.DELIVERED,
    "EXPIRED": MessageState.EXPIRED,
    "DELETED": MessageState.DELETED,
    "UNDELIV": MessageState.UNDELIVERABLE,
    "ACCEPTD": MessageState.ACCEPTED,
    "UNKNOWN": MessageState.UNKNOWN,
    "REJECTD": MessageState.REJECTED,
}
STAT_OF_STATE: Final = {state: stat for stat, state in STATE_OF_STAT.items()}
FINAL_STATES: Final = frozenset(STATE_OF_STAT.values()) - {
    MessageState.ENROUTE,
    MessageState.ACCEPTED,
}

_COMMAND_NAMES: Final[dict[int, str]] = {int(c): c.name.lower() for c in SmppCommand}
_COMMAND_NAMES.update({OUTBIND: "outbind", ALERT_NOTIFICATION: "alert_notification"})
for _id, _name in (
    (DATA_SM, "data_sm"),
    (SUBMIT_MULTI, "submit_multi"),
    (QUERY_SM, "query_sm"),
    (CANCEL_SM, "cancel_sm"),
    (REPLACE_SM, "replace_sm"),
):
    _COMMAND_NAMES.update({_id: _name, _id | RESP: f"{_name}_resp"})
_STATUS_NAMES: Final[dict[int, str]] = {int(s): s.name for s in SmppCommandStatus}


def command_name(command_id: int) -> str:
    """The specification's name of a command, or "unknown" (bounded, so a metric label)."""
    return _COMMAND_NAMES.get(command_id, "unknown")


def status_name(status: int) -> str:
    """The specification's name of a command_status, or its number as 0x%08X."""
    return _STATUS_NAMES.get(status) or f"0x{status:08X}"
