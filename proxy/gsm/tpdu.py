"""The TPDUs between a mobile and its service centre, as octets (3GPP TS 23.040 section 9.2.2).

Decoding takes anything: it gives a value or raises TpduError.  What the specification says a
receiver has to tolerate (reserved bits, reserved alphabets, a time that is none, octets behind
the end) is tolerated; what is cut off is an error, for the serial line may have lost it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from proxy.gsm.address import (
    NPI_ISDN,
    TON_INTERNATIONAL,
    TON_UNKNOWN,
    Number,
    decode_number,
    decode_smsc,
    encode_number,
    encode_smsc,
)
from proxy.gsm.errors import TpduError
from proxy.gsm.times import (
    TIME_OCTETS,
    decode_enhanced_validity,
    decode_time,
    decode_validity,
    encode_time,
    encode_validity,
)
from proxy.gsm.user_data import decode_user_data, encode_user_data

__all__ = [
    "Deliver",
    "Number",
    "StatusReport",
    "Submit",
    "TpduError",
    "decode_deliver",
    "decode_status_report",
    "decode_submit",
    "encode_deliver",
    "encode_status_report",
    "encode_submit",
    "kind_of",
    "split_smsc",
    "with_smsc",
]

# The first octet (sections 9.2.3.1 to 9.2.3.7, 9.2.3.17, 9.2.3.23, 9.2.3.25).
_MTI_MASK: Final = 0x03
_DELIVER: Final = 0x00
_SUBMIT: Final = 0x01  # from the mobile; to it, SMS-SUBMIT-REPORT
_STATUS_REPORT: Final = 0x02
_RESERVED: Final = 0x03
_NO_MORE: Final = 0x04  # TP-More-Messages-to-Send: 0 says there are more
_REJECT_DUPLICATES: Final = 0x04
_VALIDITY_MASK: Final = 0x18
_VALIDITY_ENHANCED: Final = 0x08
_VALIDITY_RELATIVE: Final = 0x10
_VALIDITY_ABSOLUTE: Final = 0x18
_REPORT: Final = 0x20
_UDHI: Final = 0x40
_REPLY_PATH: Final = 0x80


class Submit(NamedTuple):
    """SMS-SUBMIT (section 9.2.2.2): a message on its way to the service centre."""

    reference: int
    """TP-MR; a modem puts its own in its place and tells it."""
    destination: Number
    protocol_id: int
    data_coding: int
    """TP-DCS (3GPP TS 23.038 section 4), not SMPP's data_coding."""
    validity_s: int | None
    """Seconds from its acceptance; None: the service centre decides, or `expires_at_s`."""
    report: bool
    """A status report is asked for."""
    udhi: bool
    """`user_data` begins with a user data header."""
    reply_path: bool
    reject_duplicates: bool
    user_data: bytes
    """Header and text as SMPP carries them: septets one an octet."""
    expires_at_s: float | None = None
    """Unix time of an absolute validity period."""


class Deliver(NamedTuple):
    """SMS-DELIVER (section 9.2.2.1): a message that comes from a phone."""

    source: Number
    protocol_id: int
    data_coding: int
    """TP-DCS (3GPP TS 23.038 section 4), not SMPP's data_coding."""
    sent_at_s: float | None
    """The service centre's time stamp as Unix time; None: it is no time."""
    udhi: bool
    more_to_send: bool
    report_wanted: bool
    reply_path: bool
    user_data: bytes
    """Header and text as SMPP carries them: septets one an octet."""


class StatusReport(NamedTuple):
    """SMS-STATUS-REPORT (section 9.2.2.3): what became of a message."""

    reference: int
    """TP-MR of the SMS-SUBMIT."""
    recipient: Number
    sent_at_s: float | None
    discharged_at_s: float | None
    """When it was delivered, or given up, or last tried."""
    status: int
    """TP-ST (section 9.2.3.15), see status.state_of_report."""


def kind_of(octets: bytes) -> Literal["deliver", "submit_report", "status_report"]:
    """Which TPDU came from the network (section 9.2.3.1; the reserved type is a deliver).

    Raises TpduError when there is none.
    """
    if not octets:
        raise TpduError("the TPDU is empty")
    kind = octets[0] & _MTI_MASK
    if kind == _SUBMIT:
        return "submit_report"
    return "status_report" if kind == _STATUS_REPORT else "deliver"


def encode_submit(submit: Submit) -> bytes:
    """Raises TpduError."""
    validity_format = 0
    validity = b""
    if submit.validity_s is not None:
        validity_format = _VALIDITY_RELATIVE
        validity = bytes((encode_validity(submit.validity_s),))
    elif submit.expires_at_s is not None:
        validity_format = _VALIDITY_ABSOLUTE
        validity = encode_time(submit.expires_at_s)
    first = (
        _SUBMIT
        | _REJECT_DUPLICATES * submit.reject_duplicates
        | validity_format
        | _REPORT * submit.report
        | _UDHI * submit.udhi
        | _REPLY_PATH * submit.reply_path
    )
    return (
        bytes((first, _octet(submit.reference)))
        + encode_number(submit.destination)
        + bytes((_octet(submit.protocol_id), _octet(submit.data_coding)))
        + validity
        + encode_user_data(submit.user_data, submit.data_coding, submit.udhi)
    )


def decode_submit(octets: bytes) -> Submit:
    """Raises TpduError.  An absolute validity period is in `expires_at_s`."""
    first = _first_octet(octets, _SUBMIT)
    destination, at = decode_number(octets, 2)
    validity_s: int | None = None
    expires_at_s: float | None = None
    validity_format = first & _VALIDITY_MASK
    size = 0
    if validity_format:
        size = 1 if validity_format == _VALIDITY_RELATIVE else TIME_OCTETS
    fixed = _take(octets, at, 2 + size)
    validity = fixed[2:]
    if validity_format == _VALIDITY_RELATIVE:
        validity_s = decode_validity(validity[0])
    elif validity_format == _VALIDITY_ENHANCED:
        validity_s = decode_enhanced_validity(validity)
    elif validity_format:
        expires_at_s = decode_time(validity)
    udhi = bool(first & _UDHI)
    return Submit(
        reference=octets[1],
        destination=destination,
        protocol_id=fixed[0],
        data_coding=fixed[1],
        validity_s=validity_s,
        report=bool(first & _REPORT),
        udhi=udhi,
        reply_path=bool(first & _REPLY_PATH),
        reject_duplicates=bool(first & _REJECT_DUPLICATES),
        user_data=decode_user_data(octets[at + len(fixed) :], fixed[1], udhi),
        expires_at_s=expires_at_s,
    )


def encode_deliver(deliver: Deliver) -> bytes:
    """Raises TpduError."""
    first = (
        _DELIVER
        | _NO_MORE * (not deliver.more_to_send)
        | _REPORT * deliver.report_wanted
        | _UDHI * deliver.udhi
        | _REPLY_PATH * deliver.reply_path
    )
    return (
        bytes((first,))
        + encode_number(deliver.source)
        + bytes((_octet(deliver.protocol_id), _octet(deliver.data_coding)))
        + encode_time(deliver.sent_at_s)
        + encode_user_data(deliver.user_data, deliver.data_coding, deliver.udhi)
    )


def decode_deliver(octets: bytes) -> Deliver:
    """Raises TpduError."""
    first = _first_octet(octets, _DELIVER, _RESERVED)
    source, at = decode_number(octets, 1)
    fixed = _take(octets, at, 2 + TIME_OCTETS)
    udhi = bool(first & _UDHI)
    return Deliver(
        source=source,
        protocol_id=fixed[0],
        data_coding=fixed[1],
        sent_at_s=decode_time(fixed[2:]),
        udhi=udhi,
        more_to_send=not first & _NO_MORE,
        report_wanted=bool(first & _REPORT),
        reply_path=bool(first & _REPLY_PATH),
        user_data=decode_user_data(octets[at + len(fixed) :], fixed[1], udhi),
    )


def encode_status_report(report: StatusReport) -> bytes:
    """Of an SMS-SUBMIT, without optional parameters.  Raises TpduError."""
    return (
        bytes((_STATUS_REPORT | _NO_MORE, _octet(report.reference)))
        + encode_number(report.recipient)
        + encode_time(report.sent_at_s)
        + encode_time(report.discharged_at_s)
        + bytes((_octet(report.status),))
    )


def decode_status_report(octets: bytes) -> StatusReport:
    """Raises TpduError.  Optional parameters behind the status are not looked at."""
    _first_octet(octets, _STATUS_REPORT)
    recipient, at = decode_number(octets, 2)
    fixed = _take(octets, at, 2 * TIME_OCTETS + 1)
    return StatusReport(
        reference=octets[1],
        recipient=recipient,
        sent_at_s=decode_time(fixed[:TIME_OCTETS]),
        discharged_at_s=decode_time(fixed[TIME_OCTETS:-1]),
        status=fixed[-1],
    )


def split_smsc(octets: bytes) -> tuple[Number | None, bytes]:
    """The service centre's address and the TPDU behind it, as a modem prints them.

    3GPP TS 27.005 section 3.1, <pdu>.  Raises TpduError.
    """
    smsc, at = decode_smsc(octets)
    return smsc, octets[at:]


def with_smsc(tpdu: bytes, smsc: str | None) -> bytes:
    """A TPDU as a modem takes it; None, or an empty address: the modem's own service centre.

    AT+CMGS counts the TPDU only, without these octets in front.  Raises TpduError for an address
    that is no number; one that begins with "+" is international.
    """
    if not smsc:
        return b"\0" + tpdu
    ton = TON_INTERNATIONAL if smsc.startswith("+") else TON_UNKNOWN
    digits = smsc.removeprefix("+")
    if not digits:
        raise TpduError("the service centre's address has no digits")
    return encode_smsc(Number(ton, NPI_ISDN, digits)) + tpdu


def _first_octet(octets: bytes, *kinds: int) -> int:
    if not octets:
        raise TpduError("the TPDU is empty")
    if octets[0] & _MTI_MASK not in kinds:
        raise TpduError(f"0x{octets[0]:02X} begins another kind of TPDU")
    return octets[0]


def _take(octets: bytes, at: int, size: int) -> bytes:
    taken = octets[at : at + size]
    if len(taken) < size:
        raise TpduError("the TPDU is cut off")
    return taken


def _octet(value: int) -> int:
    if not 0 <= value <= 0xFF:
        raise TpduError(f"{value} does not fit in an octet")
    return value
