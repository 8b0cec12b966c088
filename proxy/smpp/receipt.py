"""Delivery receipts, SMPP 3.4 appendix B and section 5.3.2.12 (receipted_message_id).

A receipt is a deliver_sm whose text is, by custom rather than by rule, "id:… sub:… dlvrd:…
submit date:… done date:… stat:… err:… Text:…". Carriers vary the order, the case, the spaces and
the separators, leave fields out, or say it in TLVs; reading takes whatever can be understood.
Nothing here raises because of what a carrier sent.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final, Literal, NamedTuple, TypeAlias

from proxy.smpp.tlv import TlvError, iter_tlvs
from proxy.smpp.vocabulary import (
    STATE_OF_STAT,
    TAG_MESSAGE_STATE,
    TAG_NETWORK_ERROR_CODE,
    TAG_RECEIPTED_MESSAGE_ID,
    MessageState,
)

IdFormat: TypeAlias = Literal["as_is", "hex", "decimal"]
"""How a carrier writes its message ids; it may be another in responses than in receipts."""

_NAME: Final = rb"(?:id|sub|dlvrd|submit date|done date|stat|err|text)\s*:"


def _field(name: bytes) -> re.Pattern[bytes]:
    """Finds a field of a receipt's text; group 1 is its value, which is not empty.

    A field without a value does not take the next field's name for one. The possessive
    quantifier keeps the search linear in whatever a carrier sends.
    """
    return re.compile(rb"\b" + name + rb"\s*+:\s*+(?!" + _NAME + rb")([^\s,;\0]+)", re.IGNORECASE)


_ID: Final = _field(b"id")
_STAT: Final = _field(b"stat")
_ERR: Final = _field(b"err")

# Five letters tell the states apart in all spellings seen: DELIVRD and DELIVERED, UNDELIV and
# UNDELIVERABLE, ACCEPTD and ACCEPTED, REJECTD and REJECTED.
_STAT_LETTERS: Final = 5
_STATE_OF_LETTERS: Final = {
    stat[:_STAT_LETTERS].encode(): state for stat, state in STATE_OF_STAT.items()
}
_STATE_OF_NUMBER: Final = {int(state): state for state in MessageState}

# int() also takes signs, blanks, underscores, "0x" and the digits of other scripts, and str() and
# int() refuse thousands of digits; a message_id has at most 64 octets (section 5.2.23).
_NUMBER: Final = {
    "hex": (re.compile("[0-9A-Fa-f]{1,64}"), 16),
    "decimal": (re.compile("[0-9]{1,64}"), 10),
}


class Receipt(NamedTuple):
    """What a delivery receipt says."""

    smsc_message_id: str
    """The carrier's message id as it wrote it (ISO 8859-1), never empty, without NULs."""
    state: MessageState | None
    """None: the receipt names no state, or none that SMPP 3.4 knows."""
    error: str
    """The err: field as it is, else the network error code in decimal, else empty."""


def parse_receipt(text: bytes, tlvs: bytes) -> Receipt | None:
    """What a receipt says, or None if it does not say which message it is about. Never raises.

    Args:
        text: short_message, or message_payload where that is used.
        tlvs: the optional parameters; of a truncated stream the TLVs in front count.
    """
    params: dict[int, bytes] = {}
    with contextlib.suppress(TlvError):
        for tag, start, end in iter_tlvs(tlvs):
            params.setdefault(tag, tlvs[start:end])
    smsc_message_id = params.get(TAG_RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0] or _value(
        _ID, text
    )
    if not smsc_message_id:
        return None
    # A number that is no state (or SMPP 5.0's) leaves the word to say it.
    state = _STATE_OF_NUMBER.get(int.from_bytes(params.get(TAG_MESSAGE_STATE, b"")))
    if state is None:
        state = _STATE_OF_LETTERS.get(_value(_STAT, text)[:_STAT_LETTERS].upper())
    error = _value(_ERR, text).decode("latin-1")
    if not error:
        # Section 5.3.2.31: an octet with the kind of network, then two with the code.
        network_error = params.get(TAG_NETWORK_ERROR_CODE, b"")
        error = f"{int.from_bytes(network_error[1:]):03d}" if len(network_error) == 3 else ""
    return Receipt(smsc_message_id.decode("latin-1"), state, error)


def _value(field: re.Pattern[bytes], text: bytes) -> bytes:
    """The value of a field's first occurrence that has one, or nothing."""
    match = field.search(text)
    return match[1] if match else b""


def rewrite_receipt_id(text: bytes, new_id: bytes) -> bytes:
    """The text with this id after its first "id:"; all other octets, or all without one, stay."""
    match = _ID.search(text)
    if match is None:
        return text
    return text[: match.start(1)] + new_id + text[match.end(1) :]


def receipt_key(smsc_message_id: str, id_format: IdFormat) -> str:
    """The form of a message id under which a response's and its receipts' ids meet.

    Many carriers answer a submit_sm with a hexadecimal id and write a decimal one, or leading
    zeros, in its receipts. "hex" and "decimal" give the number in decimal without leading zeros;
    "as_is", and an id that is not such a number or has more than 64 digits, the id unchanged.
    """
    if id_format == "as_is":
        return smsc_message_id
    digits, base = _NUMBER[id_format]
    if digits.fullmatch(smsc_message_id) is None:
        return smsc_message_id
    return str(int(smsc_message_id, base))
