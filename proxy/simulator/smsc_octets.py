"""PDUs for the simulated carrier: reading what an ESME sent, building what it gets.

This is on purpose not the proxy's own parsing code: a simulator that shared it would agree with
every mistake in it. Sections are those of SMPP 3.4, issue 1.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.smpp import vocabulary as smpp

HEADER: Final = struct.Struct(">IIII")
"""command_length, command_id, command_status, sequence_number (section 3.2)."""

PDU_OCTETS_MAX: Final = 128 * 1024
"""The longest PDU taken: a 64 KiB message_payload, 254 destinations, and room to spare."""

SME_ADDRESS: Final = 1
"""dest_flag of an address (section 5.2.25); 2 is the name of a distribution list."""

_ADDRESS_OCTETS_MAX: Final = 21
_DATA_SM_ADDRESS_OCTETS_MAX: Final = 65
_TIME_OCTETS_MAX: Final = 17
_MESSAGE_ID_OCTETS_MAX: Final = 65


class MalformedPduError(ValueError):
    """A field runs past the end of the PDU, or has no terminator where one must be."""


class FieldReader:
    """Takes the fields of a body in their order; raises MalformedPduError past its end."""

    __slots__ = ("at", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def octets(self, count: int) -> bytes:
        """An Octet String of `count` octets."""
        end = self.at + count
        if end > len(self.body):
            raise MalformedPduError(f"{count} octets at {self.at} of {len(self.body)}")
        taken = self.body[self.at : end]
        self.at = end
        return taken

    def integer(self) -> int:
        """A one-octet Integer."""
        return self.octets(1)[0]

    def c_string(self, octets_max: int) -> str:
        """A C-Octet String of at most `octets_max` octets, its NUL among them."""
        end = self.body.find(b"\0", self.at, self.at + octets_max)
        if end < 0:
            raise MalformedPduError(f"no NUL within {octets_max} octets at {self.at}")
        text = self.body[self.at : end].decode("latin-1")
        self.at = end + 1
        return text

    def tlvs(self) -> dict[int, bytes]:
        """Every optional parameter from here to the end, by tag (section 5.3)."""
        found: dict[int, bytes] = {}
        while self.at < len(self.body):
            tag, length = struct.unpack(">HH", self.octets(4))
            found[tag] = self.octets(length)
        return found


@dataclass(frozen=True, slots=True)
class Address:
    """A TON, an NPI and an address; or, with ton -1, the name of a distribution list."""

    ton: int
    npi: int
    addr: str

    def octets(self) -> bytes:
        """The three fields as they stand in a PDU."""
        return struct.pack("BB", self.ton, self.npi) + c_octets(self.addr)


@dataclass(frozen=True, slots=True)
class Submit:
    """What the carrier needs of a submit_sm, submit_multi or data_sm."""

    source: Address
    destinations: list[Address]
    registered_delivery: int
    text: bytes
    """short_message, or message_payload when that is where the message is; UDH included."""


def read_submit(command_id: int, body: bytes) -> Submit:
    """Read the body of a submit_sm (4.4.1), submit_multi (4.5.1) or data_sm (4.7.1)."""
    fields = FieldReader(body)
    fields.c_string(6)  # service_type
    if command_id == smpp.DATA_SM:
        source = _address(fields, _DATA_SM_ADDRESS_OCTETS_MAX)
        destination = _address(fields, _DATA_SM_ADDRESS_OCTETS_MAX)
        _esm_class, registered_delivery, _data_coding = fields.octets(3)
        payload = fields.tlvs().get(smpp.TAG_MESSAGE_PAYLOAD, b"")
        return Submit(source, [destination], registered_delivery, payload)
    source = _address(fields, _ADDRESS_OCTETS_MAX)
    if command_id == smpp.SUBMIT_MULTI:
        destinations = [_destination(fields) for _ in range(fields.integer())]
    else:
        destinations = [_address(fields, _ADDRESS_OCTETS_MAX)]
    fields.octets(3)  # esm_class, protocol_id, priority_flag
    fields.c_string(_TIME_OCTETS_MAX)  # schedule_delivery_time
    fields.c_string(_TIME_OCTETS_MAX)  # validity_period
    registered_delivery = fields.integer()
    fields.octets(3)  # replace_if_present_flag, data_coding, sm_default_msg_id
    short_message = fields.octets(fields.integer())
    text = short_message or fields.tlvs().get(smpp.TAG_MESSAGE_PAYLOAD, b"")
    if short_message:
        fields.tlvs()  # read, so that a broken one is found
    return Submit(source, destinations, registered_delivery, text)


def read_bind(body: bytes) -> tuple[str, str]:
    """The system_id and password of a bind request (section 4.1)."""
    fields = FieldReader(body)
    system_id, password = fields.c_string(16), fields.c_string(9)
    fields.c_string(13)  # system_type
    fields.octets(3)  # interface_version, addr_ton, addr_npi
    fields.c_string(41)  # address_range
    return system_id, password


def read_message_id(command_id: int, body: bytes) -> str:
    """The message_id of a query_sm (4.8.1), cancel_sm (4.9.1) or replace_sm (4.10.1)."""
    fields = FieldReader(body)
    if command_id == smpp.CANCEL_SM:
        fields.c_string(6)  # service_type
    return fields.c_string(_MESSAGE_ID_OCTETS_MAX)


def read_deliver(body: bytes) -> tuple[int, bytes, dict[int, bytes]]:
    """The esm_class, the text and the optional parameters of a deliver_sm (section 4.6.1)."""
    fields = FieldReader(body)
    fields.c_string(6)  # service_type
    _address(fields, _ADDRESS_OCTETS_MAX)
    _address(fields, _ADDRESS_OCTETS_MAX)
    esm_class = fields.octets(3)[0]  # then protocol_id, priority_flag
    fields.c_string(_TIME_OCTETS_MAX)
    fields.c_string(_TIME_OCTETS_MAX)
    fields.octets(4)  # registered_delivery, replace_if_present_flag, data_coding, default msg id
    text = fields.octets(fields.integer())
    tlvs = fields.tlvs()
    return esm_class, text or tlvs.get(smpp.TAG_MESSAGE_PAYLOAD, b""), tlvs


def _address(fields: FieldReader, octets_max: int) -> Address:
    return Address(fields.integer(), fields.integer(), fields.c_string(octets_max))


def _destination(fields: FieldReader) -> Address:
    """One entry of submit_multi's list (section 4.5.1.1)."""
    if fields.integer() == SME_ADDRESS:
        return _address(fields, _ADDRESS_OCTETS_MAX)
    return Address(-1, 0, fields.c_string(_ADDRESS_OCTETS_MAX))


def c_octets(text: str) -> bytes:
    """A C-Octet String: the text and its NUL."""
    return text.encode("latin-1") + b"\0"


def tlv(tag: int, value: bytes) -> bytes:
    """An optional parameter."""
    return struct.pack(">HH", tag, len(value)) + value


def build(command_id: int, status: int, sequence_number: int, body: bytes = b"") -> bytes:
    """A whole PDU."""
    return HEADER.pack(HEADER.size + len(body), command_id, status, sequence_number) + body


def deliver_body(
    source: Address,
    destination: Address,
    text: bytes,
    *,
    esm_class: int = 0,
    data_coding: int = 0,
    tlvs: bytes = b"",
) -> bytes:
    """The body of a deliver_sm (section 4.6.1); ValueError when the text exceeds 254 octets."""
    if len(text) > 254:
        raise ValueError("a short_message has at most 254 octets; send a message_payload TLV")
    return b"".join(
        (
            b"\0",  # service_type
            source.octets(),
            destination.octets(),
            bytes((esm_class, 0, 0)),  # protocol_id, priority_flag
            b"\0\0",  # schedule_delivery_time, validity_period
            bytes((0, 0, data_coding, 0, len(text))),
            text,
            tlvs,
        )
    )


def receipt_text(
    message_id: str, stat: str, submitted: datetime, done: datetime, *, text: bytes, err: str
) -> bytes:
    """A receipt's short_message as appendix B has it; what is not printable ASCII becomes "."."""
    delivered = int(stat == "DELIVRD")
    shown = bytes(octet if 0x20 <= octet < 0x7F else 0x2E for octet in text[:20])
    head = (
        f"id:{message_id} sub:001 dlvrd:{delivered:03d} submit date:{submitted:%y%m%d%H%M}"
        f" done date:{done:%y%m%d%H%M} stat:{stat} err:{err} text:"
    )
    return head.encode("latin-1") + shown


def receipt_tlvs(message_id: str, state: int) -> bytes:
    """receipted_message_id (5.3.2.12) and message_state (5.3.2.35)."""
    return tlv(smpp.TAG_RECEIPTED_MESSAGE_ID, c_octets(message_id)) + tlv(
        smpp.TAG_MESSAGE_STATE, bytes((state,))
    )
