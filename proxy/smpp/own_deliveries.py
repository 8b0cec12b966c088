"""deliver_sm bodies that no SMSC sent: receipts and messages of the proxy's own.

SMPP 3.4 section 4.6.1; the text of a receipt as in appendix B.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import Address, multi_destinations
from proxy.smpp.pdu import DATA, MULTI_HEAD, MULTI_TAIL, SUBMIT, find_tlv_if_whole
from proxy.smpp.tlv import pack_tlv
from proxy.smpp.udh import without_header
from proxy.smpp.vocabulary import STAT_OF_STATE, MessageState

__all__ = ["Address", "message_body", "receipt_body", "receipt_of"]

_ADDR_OCTETS_MAX: Final = 20
_SHORT_MESSAGE_MAX: Final = 254
_ID_OCTETS_MAX: Final = 64
_ERROR_OCTETS_MAX: Final = 32
_SUB_MAX: Final = 999
_TEXT_OCTETS: Final = 20

# One octet a character, most of them the same in each: GSM 7-bit, IA5, ISO 8859-1, and GSM 7-bit
# with a message class (3GPP TS 23.038 section 4).
_TEXT_CODINGS: Final = frozenset({0x00, 0x01, 0x03, *range(0x10, 0x14), *range(0xF0, 0xF4)})
# For bytes.translate: a NUL or a line's end in a receipt is its end for many who read it.
_READABLE: Final = bytes(octet if 0x20 <= octet < 0x7F else ord("?") for octet in range(256))


def message_body(
    source: Address,
    destination: Address,
    *,
    esm_class: int = 0,
    protocol_id: int = 0,
    data_coding: int = 0,
    text: bytes,
) -> bytes:
    """A mobile-originated message, or one from the proxy itself.

    A text of more than 254 octets goes into message_payload.  Addresses are cut to the 20 octets
    that a deliver_sm has for them, and at a NUL.

    Raises:
        TlvError: the text has more than 65,535 octets.
        ValueError: a TON, NPI, esm_class, protocol_id or data_coding is not one octet.
    """
    tlvs = b""
    if len(text) > _SHORT_MESSAGE_MAX:
        text, tlvs = b"", pack_tlv(smpp.TAG_MESSAGE_PAYLOAD, text)
    return b"".join(
        (
            b"\0",  # service_type
            _octets(source),
            _octets(destination),
            bytes((esm_class, protocol_id, 0)),  # priority_flag
            b"\0\0",  # schedule_delivery_time, validity_period
            bytes((0, 0, data_coding, 0, len(text))),
            text,
            tlvs,
        )
    )


def _octets(address: Address) -> bytes:
    addr = address.addr.partition(b"\0")[0][:_ADDR_OCTETS_MAX]
    return b"%c%c%b\0" % (address.ton, address.npi, addr)


def receipt_body(
    source: Address,
    destination: Address,
    message_id: str,
    state: MessageState,
    *,
    error: str = "000",
    submitted_at_s: float,
    done_at_s: float,
    sub: int = 1,
    text: bytes = b"",
) -> bytes:
    """A delivery receipt: its text, receipted_message_id and message_state say the same.

    There is no network_error_code: its first octet says which kind of network reports the error
    (section 5.3.2.31), and here the proxy does.

    Args:
        source: where the message went to; a receipt comes from there.
        destination: where the message came from.
        message_id: as the client knows it; its first 64 octets count.
        state: not only final ones.
        error: for "err:"; three digits, because some clients read a number there.
        submitted_at_s: Unix seconds; written in UTC, to the minute.
        done_at_s: when it came to this state.
        sub: how many short messages it is about.
        text: its beginning, for "text:"; the first 20 octets count, control characters and those
            of other alphabets are written as "?".

    Raises ValueError for a TON or NPI that is not one octet; that or OverflowError for a time that
    no calendar has.
    """
    smsc_message_id = message_id.encode("latin-1", "replace")[:_ID_OCTETS_MAX]
    sub = min(sub, _SUB_MAX)
    delivered = sub if state == MessageState.DELIVERED else 0
    written = b"id:%b sub:%03d dlvrd:%03d submit date:%b done date:%b stat:%b err:%b text:%b" % (
        smsc_message_id,
        sub,
        delivered,
        _minute(submitted_at_s),
        _minute(done_at_s),
        STAT_OF_STATE[state].encode(),
        error.encode("latin-1", "replace")[:_ERROR_OCTETS_MAX],
        text[:_TEXT_OCTETS].translate(_READABLE),
    )
    body = message_body(source, destination, esm_class=smpp.ESM_RECEIPT, text=written)
    return b"".join(
        (
            body,
            pack_tlv(smpp.TAG_RECEIPTED_MESSAGE_ID, smsc_message_id + b"\0"),
            pack_tlv(smpp.TAG_MESSAGE_STATE, bytes((state,))),
        )
    )


def _minute(at_s: float) -> bytes:
    return f"{datetime.fromtimestamp(at_s, UTC):%y%m%d%H%M}".encode()


def receipt_of(
    command_id: int,
    body: bytes,
    message_id: int,
    state: MessageState,
    *,
    error: str = "000",
    submitted_at_s: float,
    done_at_s: float,
    destination: int = 0,
) -> bytes:
    """The receipt for a submit_sm, submit_multi or data_sm, from the message's own body.

    `destination` says which of a submit_multi's (from 0).  "text:" is the beginning of the text
    where that is one octet a character, without a user data header, else empty.

    Raises PduError for a body that can't be read, IndexError for a destination that it lacks.
    """
    if command_id == smpp.SUBMIT_MULTI:
        values, _ = MULTI_HEAD.split(body)
        destinations, at = multi_destinations(body)
        to = destinations[destination]
        tail, length = MULTI_TAIL.split(body[at:])
        at += length
        esm_class, data_coding, sm_length = tail[0][0], tail[7][0], tail[9][0]
    else:
        layout = DATA if command_id == smpp.DATA_SM else SUBMIT
        values, at = layout.split(body)
        to = Address(values[4][0], values[5][0], values[6])
        esm_class, data_coding = values[7][0], values[layout.index["data_coding"]][0]
        sm_length = 0 if command_id == smpp.DATA_SM else values[-1][0]
    text = b""
    if data_coding in _TEXT_CODINGS:
        text = body[at : at + sm_length]
        text = text or find_tlv_if_whole(body[at:], smpp.TAG_MESSAGE_PAYLOAD) or b""
        if esm_class & smpp.ESM_UDHI:
            text = without_header(text)
    return receipt_body(
        to,
        Address(values[1][0], values[2][0], values[3]),
        str(message_id),
        state,
        error=error,
        submitted_at_s=submitted_at_s,
        done_at_s=done_at_s,
        text=text,
    )
