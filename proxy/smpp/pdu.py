"""PDU bodies as layouts (data), read into views that keep the octets.

A layout is a list of mandatory fields in the order of the specification.  It is compiled once
into a regular expression, so that the whole mandatory part is checked and split by one call; only
when that fails is the body walked field by field, to say which field is wrong.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.smpp import vocabulary as smpp
from proxy.smpp.segments import count_segments
from proxy.smpp.tlv import TlvError, find_tlv, iter_tlvs
from proxy.smpp.udh import Concatenation, concatenation, without_header


class PduError(Exception):
    """A body that can't be parsed: the peer's fault, answered with `status`."""

    def __init__(self, status: int, field: str) -> None:
        super().__init__(f"{field} is malformed")
        self.status = status
        self.field = field


class Field(NamedTuple):
    """A mandatory parameter: a C-octet string of at most `octets` with its NUL, or one octet."""

    name: str
    octets: int = 0
    """0: a one-octet integer."""
    status: int = smpp.ESME_RINVCMDLEN
    """What the sender is told when this field is malformed."""


class Layout:
    """The mandatory parameters of one command."""

    __slots__ = ("_match", "fields", "index")

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self.index = {field.name: number for number, field in enumerate(fields)}
        pattern = b"".join(
            rb"([^\0]{0,%d})\0" % (field.octets - 1) if field.octets else rb"(.)"
            for field in fields
        )
        self._match = re.compile(pattern, re.DOTALL).match

    def split(self, body: bytes) -> tuple[tuple[bytes, ...], int]:
        """The values of all fields, without their NULs, and where the rest begins.

        Raises PduError that names the first malformed field.
        """
        match = self._match(body)
        if match is None:
            raise self._error(body)
        return match.groups(), match.end()

    def _error(self, body: bytes) -> PduError:
        at = 0
        for field in self.fields:
            if field.octets:
                end = body.find(b"\0", at, at + field.octets)
                if end < 0:
                    cut_short = len(body) - at < field.octets
                    return PduError(smpp.ESME_RINVCMDLEN if cut_short else field.status, field.name)
                at = end + 1
            else:
                at += 1
                if at > len(body):
                    return PduError(smpp.ESME_RINVCMDLEN, field.name)
        raise AssertionError("a layout and its regular expression disagree")


def _address(name: str, octets: int, status: int) -> tuple[Field, Field, Field]:
    return Field(f"{name}_ton"), Field(f"{name}_npi"), Field(name, octets, status)


_SERVICE_TYPE: Final = Field("service_type", 6, smpp.ESME_RINVSERTYP)
_SOURCE: Final = _address("source_addr", 21, smpp.ESME_RINVSRCADR)
_DESTINATION: Final = _address("destination_addr", 21, smpp.ESME_RINVDSTADR)
_MESSAGE_ID: Final = Field("message_id", 65, smpp.ESME_RINVMSGID)
_AFTER_ADDRESSES: Final = (
    Field("esm_class"),
    Field("protocol_id"),
    Field("priority_flag"),
    Field("schedule_delivery_time", 17, smpp.ESME_RINVSCHED),
    Field("validity_period", 17, smpp.ESME_RINVEXPIRY),
    Field("registered_delivery"),
    Field("replace_if_present_flag"),
    Field("data_coding"),
    Field("sm_default_msg_id"),
    Field("sm_length"),
)

BIND: Final = Layout(  # section 4.1.1
    Field("system_id", 16, smpp.ESME_RINVSYSID),
    # The specification says 9; many carriers and clients use longer ones.
    Field("password", 65, smpp.ESME_RINVPASWD),
    Field("system_type", 13, smpp.ESME_RINVSYSTYP),
    Field("interface_version"),
    Field("addr_ton"),
    Field("addr_npi"),
    Field("address_range", 41),
)
SUBMIT: Final = Layout(_SERVICE_TYPE, *_SOURCE, *_DESTINATION, *_AFTER_ADDRESSES)  # 4.4.1, 4.6.1
DATA: Final = Layout(  # section 4.7.1
    _SERVICE_TYPE,
    *_address("source_addr", 65, smpp.ESME_RINVSRCADR),
    *_address("destination_addr", 65, smpp.ESME_RINVDSTADR),
    Field("esm_class"),
    Field("registered_delivery"),
    Field("data_coding"),
)
MULTI_HEAD: Final = Layout(_SERVICE_TYPE, *_SOURCE, Field("number_of_dests"))  # section 4.5.1
MULTI_ADDRESS: Final = Layout(*_DESTINATION)
MULTI_TAIL: Final = Layout(*_AFTER_ADDRESSES)
QUERY: Final = Layout(_MESSAGE_ID, *_SOURCE)  # section 4.8.1
CANCEL: Final = Layout(_SERVICE_TYPE, _MESSAGE_ID, *_SOURCE, *_DESTINATION)  # section 4.9.1
REPLACE: Final = Layout(  # section 4.10.1
    _MESSAGE_ID,
    *_SOURCE,
    Field("schedule_delivery_time", 17, smpp.ESME_RINVSCHED),
    Field("validity_period", 17, smpp.ESME_RINVEXPIRY),
    Field("registered_delivery"),
    Field("sm_default_msg_id"),
    Field("sm_length"),
)
ALERT: Final = Layout(  # section 4.12.1
    *_address("source_addr", 65, smpp.ESME_RINVSRCADR),
    *_address("esme_addr", 65, smpp.ESME_RINVDSTADR),
)


class Submission(NamedTuple):
    """What the proxy reads of a message: the rest stays octets."""

    source_addr: str
    destination_addr: str
    """submit_multi: all destinations, joined by commas."""
    esm_class: int
    data_coding: int
    registered_delivery: int
    segments: int
    """Per destination."""
    destinations: int
    service_type: bytes
    part: Concatenation | None
    """Which part of which longer message this is, as its UDH or its sar_* parameters say."""


class Content(NamedTuple):
    """The user data of a message, for counting its segments."""

    texts: tuple[bytes, ...]
    """short_message and every message_payload; only one of them should hold anything."""
    sar: Concatenation | None = None
    """From the sar_* parameters (sections 5.3.2.22 to 24), when all three are there."""


_SAR_TAGS: Final = (
    smpp.TAG_SAR_MSG_REF_NUM,
    smpp.TAG_SAR_TOTAL_SEGMENTS,
    smpp.TAG_SAR_SEGMENT_SEQNUM,
)


def content_at(body: bytes, at: int, sm_length: int) -> Content:
    """Reads short_message (0 octets for data_sm) and the optional parameters behind it.

    Raises PduError for a short_message that is cut off and for a broken parameter stream.
    """
    tlvs_at = at + sm_length
    if tlvs_at > len(body):
        raise PduError(smpp.ESME_RINVMSGLEN, "short_message")
    texts = [body[at:tlvs_at]]
    sar: dict[int, int] = {}
    if tlvs_at < len(body):
        try:
            for tag, start, end in iter_tlvs(body, tlvs_at):
                if tag == smpp.TAG_MESSAGE_PAYLOAD:
                    texts.append(body[start:end])
                elif tag in _SAR_TAGS:
                    sar[tag] = int.from_bytes(body[start:end])
        except TlvError:
            raise PduError(smpp.ESME_RINVOPTPARSTREAM, "optional parameters") from None
    return Content(tuple(texts), _sar(sar) if len(sar) == len(_SAR_TAGS) else None)


def _sar(values: dict[int, int]) -> Concatenation | None:
    """None when the values can't be: more than 255 parts, or a part beyond the last."""
    reference, total, part = (values[tag] for tag in _SAR_TAGS)
    if reference <= 0xFFFF and 1 <= part <= total <= 0xFF:
        return Concatenation(reference, total, part)
    return None


def _part(content: Content, esm_class: int) -> Concatenation | None:
    """A message of one part is not a part of a longer one."""
    found = content.sar
    if esm_class & smpp.ESM_UDHI:
        found = next(filter(None, map(concatenation, content.texts)), found)
    return found if found is not None and found.total > 1 else None


def _segments(content: Content, esm_class: int, data_coding: int) -> int:
    """Segments per destination.

    A part of a longer message (it has a UDH, or sar_* parameters) fits in one short message, so
    counting its text gives one.  Whoever marks a long text as a part, or sends several texts in
    one PDU, pays for the longest.
    """
    header = esm_class & smpp.ESM_UDHI
    return max(
        count_segments(without_header(text) if header else text, data_coding)
        for text in content.texts
    )


def read_submit_sm(body: bytes) -> Submission:
    """Section 4.4.1.  Raises PduError."""
    v, at = SUBMIT.split(body)
    esm_class, data_coding, sm_length = v[7][0], v[14][0], v[16][0]
    plain = not data_coding and not esm_class & smpp.ESM_UDHI
    if plain and sm_length <= 160 and at + sm_length == len(body):
        segments, part = 1, None
    else:
        content = content_at(body, at, sm_length)
        segments = _segments(content, esm_class, data_coding)
        part = _part(content, esm_class)
    destination = v[6].decode("latin-1")
    if not destination:
        raise PduError(smpp.ESME_RINVDSTADR, "destination_addr")
    return Submission(
        v[3].decode("latin-1"),
        destination,
        esm_class,
        data_coding,
        v[12][0],
        segments,
        1,
        v[0],
        part,
    )


def read_data_sm(body: bytes) -> Submission:
    """Section 4.7.1.  Raises PduError."""
    v, at = DATA.split(body)
    esm_class, registered_delivery, data_coding = v[7][0], v[8][0], v[9][0]
    content = content_at(body, at, 0)
    destination = v[6].decode("latin-1")
    if not destination:
        raise PduError(smpp.ESME_RINVDSTADR, "destination_addr")
    return Submission(
        v[3].decode("latin-1"),
        destination,
        esm_class,
        data_coding,
        registered_delivery,
        _segments(content, esm_class, data_coding),
        1,
        v[0],
        _part(content, esm_class),
    )


def read_submit_multi(body: bytes) -> Submission:
    """Section 4.5.1.  Raises PduError, also for distribution lists: nobody can price them."""
    head, at = MULTI_HEAD.split(body)
    number_of_dests = head[4][0]
    if not 1 <= number_of_dests <= 254:
        raise PduError(smpp.ESME_RINVNUMDESTS, "number_of_dests")
    destinations: list[str] = []
    for _ in range(number_of_dests):
        flag = body[at : at + 1]
        if flag == b"\x02":
            raise PduError(smpp.ESME_RINVDLNAME, "dl_name")
        if flag != b"\x01":
            raise PduError(smpp.ESME_RINVDESTFLAG, "dest_flag")
        address, length = MULTI_ADDRESS.split(body[at + 1 : at + 24])
        if not address[2] or b"," in address[2]:  # commas separate them, from here on
            raise PduError(smpp.ESME_RINVDSTADR, "destination_addr")
        destinations.append(address[2].decode("latin-1"))
        at += 1 + length
    tail, length = MULTI_TAIL.split(body[at:])
    esm_class, data_coding = tail[0][0], tail[7][0]
    content = content_at(body, at + length, tail[9][0])
    return Submission(
        head[3].decode("latin-1"),
        ",".join(destinations),
        esm_class,
        data_coding,
        tail[5][0],
        _segments(content, esm_class, data_coding),
        number_of_dests,
        head[0],
        _part(content, esm_class),
    )


class Delivery(NamedTuple):
    """What the proxy reads of a deliver_sm, or of a data_sm from the SMSC."""

    source_addr: str
    destination_addr: str
    message_type: int
    """Of its esm_class (section 5.2.12)."""
    text: bytes
    """short_message, or message_payload when that is used."""
    tlvs: bytes


def read_delivery(command_id: int, body: bytes) -> Delivery:
    """Sections 4.6.1 and 4.7.1.  Raises PduError; a broken parameter stream is not looked into."""
    if command_id == smpp.DATA_SM:
        values, end = DATA.split(body)
        text = b""
    else:
        values, at = SUBMIT.split(body)
        end = at + values[16][0]
        if end > len(body):
            raise PduError(smpp.ESME_RINVMSGLEN, "short_message")
        text = body[at:end]
    tlvs = body[end:]
    if not text:
        text = find_tlv_if_whole(tlvs, smpp.TAG_MESSAGE_PAYLOAD) or b""
    message_type = values[7][0] & smpp.ESM_TYPE_MASK
    return Delivery(
        values[3].decode("latin-1"), values[6].decode("latin-1"), message_type, text, tlvs
    )


def find_tlv_if_whole(tlvs: bytes, tag: int) -> bytes | None:
    """A parameter's value; None also for a stream that is broken before it."""
    try:
        return find_tlv(tlvs, tag)
    except TlvError:
        return None


READERS: Final = {
    smpp.SUBMIT_SM: read_submit_sm,
    smpp.DATA_SM: read_data_sm,
    smpp.SUBMIT_MULTI: read_submit_multi,
}


def refused_destinations(body: bytes) -> list[str]:
    """The destinations that a submit_multi_resp lists as unsuccessful (section 4.5.2).

    One for each that it counts; empty for one that can't be read.
    """
    end = body.find(b"\0")
    number = body[end + 1] if 0 <= end < len(body) - 1 else 0
    addresses = [""] * number
    at = end + 2
    for i in range(number):
        try:
            values, length = MULTI_ADDRESS.split(body[at : at + 23])
        except PduError:
            break
        addresses[i] = values[2].decode("latin-1")
        at += length + 4  # its error_status_code
    return addresses


def leading_c_octets(body: bytes) -> str:
    """The C-octet string a body begins with: the message_id of most responses."""
    end = body.find(b"\0")
    return (body if end < 0 else body[:end])[:65].decode("latin-1")
