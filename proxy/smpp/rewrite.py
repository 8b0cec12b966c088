"""The few octets that the proxy changes (promise 5).

Message ids, TLVs for SMPP 3.3, and whether a receipt is asked for, for accounts that are charged
on delivery.
"""

from __future__ import annotations

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import CANCEL, DATA, QUERY, REPLACE, SUBMIT, Layout, find_tlv_if_whole
from proxy.smpp.receipt import rewrite_receipt_id
from proxy.smpp.tlv import TlvError, find_tlv, replace_tlv

_SHORT_MESSAGE_MAX = 254
_LAYOUT_OF_OPERATION = {smpp.QUERY_SM: QUERY, smpp.CANCEL_SM: CANCEL, smpp.REPLACE_SM: REPLACE}


def receipt_for_client(command_id: int, body: bytes, message_id: int) -> bytes:
    """A receipt's body with our message id in its text and in receipted_message_id."""
    our_id = b"%d" % message_id
    at, sm_length = text_position(command_id, body)
    text = body[at : at + sm_length]
    head, tlvs = body[:at], body[at + sm_length :]
    if sm_length:
        text = rewrite_receipt_id(text, our_id)[:_SHORT_MESSAGE_MAX]
        head = head[:-1] + bytes((len(text),))
    try:
        tlvs = replace_tlv(tlvs, smpp.TAG_RECEIPTED_MESSAGE_ID, our_id + b"\0")
        payload = None if sm_length else find_tlv(tlvs, smpp.TAG_MESSAGE_PAYLOAD)
        if payload is not None:
            tlvs = replace_tlv(tlvs, smpp.TAG_MESSAGE_PAYLOAD, rewrite_receipt_id(payload, our_id))
    except TlvError:
        pass  # kept as the carrier sent it; the text carries the id
    return head + text + tlvs


def text_position(command_id: int, body: bytes) -> tuple[int, int]:
    """Where short_message begins and how long it is; for data_sm the end of the mandatory part.

    Raises PduError.
    """
    if command_id == smpp.DATA_SM:
        _, at = DATA.split(body)
        return at, 0
    values, at = SUBMIT.split(body)
    return at, min(values[-1][0], len(body) - at)


def without_tlvs(body: bytes) -> bytes:
    """A deliver_sm for an SMPP 3.3 client, which knows no optional parameters.

    A text in message_payload moves to short_message as far as it fits.  Raises PduError.
    """
    at, sm_length = text_position(smpp.DELIVER_SM, body)
    if not sm_length:
        payload = find_tlv_if_whole(body[at:], smpp.TAG_MESSAGE_PAYLOAD)
        if payload:
            text = payload[:_SHORT_MESSAGE_MAX]
            return body[: at - 1] + bytes((len(text),)) + text
    return body[: at + sm_length]


def with_receipt_asked(command_id: int, body: bytes) -> bytes:
    """The body of a submit_sm or data_sm that asks for a receipt of every final state.

    Raises PduError.
    """
    layout = DATA if command_id == smpp.DATA_SM else SUBMIT
    values, _ = layout.split(body)
    at = _field_position(layout, values, "registered_delivery")
    asked = body[at] & ~smpp.REGISTERED_RECEIPT_MASK | 1
    return body[:at] + bytes((asked,)) + body[at + 1 :]


def _field_position(layout: Layout, values: tuple[bytes, ...], name: str) -> int:
    """Where a mandatory parameter begins; C-octet strings are followed by their NUL."""
    number = layout.index[name]
    return sum(len(values[i]) + (1 if layout.fields[i].octets else 0) for i in range(number))


def operation_message_id(command_id: int, body: bytes) -> str:
    """The message_id a query_sm, cancel_sm or replace_sm is about.  Raises PduError."""
    layout = _LAYOUT_OF_OPERATION[command_id]
    values, _ = layout.split(body)
    return values[layout.index["message_id"]].decode("latin-1")


def with_message_id(command_id: int, body: bytes, message_id: str) -> bytes:
    """The body of an operation with another message_id.  Raises PduError."""
    layout: Layout = _LAYOUT_OF_OPERATION[command_id]
    values, _ = layout.split(body)
    start = _field_position(layout, values, "message_id")
    end = start + len(values[layout.index["message_id"]])
    return body[:start] + message_id.encode("latin-1") + body[end:]
