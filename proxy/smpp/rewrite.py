"""The few octets that the proxy changes (promise 5).

Message ids, TLVs for SMPP 3.3, whether a receipt is asked for, for accounts that are charged on
delivery, and of a message that waited in the queue what the waiting or a replace_sm changed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import (
    CANCEL,
    DATA,
    QUERY,
    REPLACE,
    SUBMIT,
    Layout,
    PduError,
    content_at,
    find_tlv_if_whole,
)
from proxy.smpp.receipt import rewrite_receipt_id
from proxy.smpp.times import QOS_MAX, TAG_QOS_TIME_TO_LIVE, is_relative, relative_time, time_fields
from proxy.smpp.tlv import TlvError, find_tlv, iter_tlvs, pack_tlv, replace_tlv

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


class Cancellation(NamedTuple):
    """What a cancel_sm is about (section 4.9.1)."""

    message_id: str
    """Empty: all messages between the two addresses, of that service_type."""
    service_type: str
    source_addr: str
    destination_addr: str


def cancel_addresses(body: bytes) -> Cancellation:
    """The fields of a cancel_sm that say which messages it means.  Raises PduError."""
    values, _ = CANCEL.split(body)
    names = ("message_id", "service_type", "source_addr", "destination_addr")
    return Cancellation(*(values[CANCEL.index[name]].decode("latin-1") for name in names))


def out_of_queue(command_id: int, body: bytes, left_s: float | None) -> bytes:
    """The body of a submit_sm, submit_multi or data_sm as it goes upstream after it waited.

    The schedule is fulfilled, so it is emptied.  A relative validity_period, or
    qos_time_to_live, counted from when the client sent it and becomes what is left of it,
    `left_s` seconds (None: it stays); an absolute one stays, and so does every other octet.

    Raises PduError.
    """
    if command_id == smpp.DATA_SM:
        if left_s is None:
            return body
        _, at = DATA.split(body)
        value = min(max(1, math.ceil(left_s)), QOS_MAX).to_bytes(4)
        try:
            return replace_tlv(body, TAG_QOS_TIME_TO_LIVE, value, at)
        except TlvError:
            raise PduError(smpp.ESME_RINVOPTPARSTREAM, "optional parameters") from None
    fields = time_fields(command_id, body)
    validity = fields.validity_period
    if left_s is not None and is_relative(validity):
        validity = relative_time(left_s)
    return b"%b\0%b\0%b" % (body[: fields.start], validity, body[fields.end :])


def replaced(command_id: int, body: bytes, operation_body: bytes) -> bytes:
    """The body of a submit_sm or submit_multi after a replace_sm (section 4.10).

    The new text stands in short_message, or in message_payload where the operation has it there,
    and the old one is gone from both.  registered_delivery and sm_default_msg_id are the
    operation's, and so are its two times where they are not empty.  Everything else stays, a
    user data header is part of the text.  How much longer it became is for the caller to see.

    Raises PduError: a malformed body, a text in both places, or (ESME_RREPLACEFAIL) a data_sm,
    which has no such fields.
    """
    if command_id == smpp.DATA_SM:
        raise PduError(smpp.ESME_RREPLACEFAIL, "message_id")
    old, new = time_fields(command_id, body), time_fields(smpp.REPLACE_SM, operation_body)
    registered_delivery, sm_default_msg_id, sm_length = operation_body[new.end : new.text_start]
    text, *payloads = content_at(operation_body, new.text_start, sm_length).texts
    payload = payloads[0] if payloads else None
    if len(payloads) > 1 or (text and payload):
        raise PduError(smpp.ESME_RREPLACEFAIL, "message_payload")
    old_length = body[old.text_start - 1]
    content_at(body, old.text_start, old_length)  # so that its parameters can be read
    return b"".join(
        (
            body[: old.start],
            new.schedule_delivery_time or old.schedule_delivery_time,
            b"\0",
            new.validity_period or old.validity_period,
            b"\0",
            bytes((registered_delivery,)),
            body[old.end + 1 : old.end + 3],  # replace_if_present_flag, data_coding
            bytes((sm_default_msg_id, sm_length)),
            text,
            _with_payload(body[old.text_start + old_length :], payload or None),
        )
    )


def _with_payload(tlvs: bytes, payload: bytes | None) -> bytes:
    """Optional parameters with this message_payload in the place of theirs, or at the end."""
    kept: list[bytes] = []
    new = b"" if payload is None else pack_tlv(smpp.TAG_MESSAGE_PAYLOAD, payload)
    for tag, start, end in iter_tlvs(tlvs):
        if tag == smpp.TAG_MESSAGE_PAYLOAD:
            kept.append(new)
            new = b""
        else:
            kept.append(tlvs[start - 4 : end])
    return b"".join((*kept, new))
