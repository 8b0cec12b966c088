"""From a client's submit_sm, data_sm or submit_multi to the SMS-SUBMITs that a modem sends.

How many there are is what `proxy/smpp/segments.py` counted, and so what was charged, or the
message is refused: more than was charged is never sent.

data_coding (SMPP 3.4 section 5.2.19) becomes the alphabet that is sent:

- 0: septets, one an octet; what is no septet becomes a question mark.
- 1 (IA5): septets.  Read as ISO 8859-1, of which it is a part, because many clients mean that.
  Characters that GSM 7-bit does not have take the whole text to UCS-2 where that needs no more
  short messages than were charged, else they become question marks.
- 3 (ISO 8859-1): septets when GSM 7-bit has all characters, else UCS-2.
- 5, 6, 7, 10, 13, 14: UCS-2, or 8-bit when the text can't be read.
- 8: UCS-2; other values below 16: 8-bit.
- From 16 on it is a data coding scheme and stays what it is.

replace_if_present_flag is not carried over: protocol_id 0x41 would have the phone overwrite a
message that was already delivered, and the parts of a long message each other, while the flag is
about one that still waits in the SMSC.  Who wants that says so with protocol_id.  A modem can't
carry source address, service_type and priority_flag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from proxy.gsm.address import (
    NPI_ISDN,
    NPI_UNKNOWN,
    SEMI_OCTETS_MAX,
    TON_ALPHANUMERIC,
    TON_INTERNATIONAL,
    Number,
)
from proxy.gsm.alphabet import Alphabet, alphabet_of, encode_gsm, septets_in
from proxy.gsm.errors import TpduError
from proxy.gsm.tpdu import Submit
from proxy.gsm.user_data import OCTETS_MAX, SEPTETS_MAX, fits, header_elements, header_octets
from proxy.smpp import vocabulary as smpp
from proxy.smpp.multi import multi_destinations
from proxy.smpp.pdu import DATA, MULTI_TAIL, SUBMIT, Content, Layout, PduError, content_at
from proxy.smpp.udh import Concatenation, concatenation

PARTS_MAX: Final = 255

_DCS_GSM7: Final = 0x00
_DCS_OCTETS: Final = 0x04
_DCS_UCS2: Final = 0x08
_ESM_REPLY_PATH: Final = 0x80
_TON_MAX: Final = 6

_CODEC_OF: Final = {  # the same as in smpp/segments.py
    0x05: "iso2022_jp",
    0x06: "iso8859_5",
    0x07: "iso8859_8",
    0x0A: "iso2022_jp",
    0x0D: "iso2022_jp_1",
    0x0E: "euc_kr",
}

# Plans that SMPP and GSM number alike (SMPP 3.4 section 5.2.6, 3GPP TS 23.040 section 9.1.2.5).
_NPI_OF_BOTH: Final = frozenset({1, 3, 4, 8, 9, 10})
_NUMBER: Final = re.compile(rf"[0-9*#abc]{{1,{SEMI_OCTETS_MAX}}}")

_CONCATENATION_OCTETS: Final = 6
"""Of the header that joins our parts: its length, and an element with an 8-bit reference."""
_PART_SEPTETS: Final = SEPTETS_MAX - 7
_PART_OCTETS: Final = OCTETS_MAX - _CONCATENATION_OCTETS
_ESC: Final = b"\x1b"


class _Request(NamedTuple):
    """What the TPDUs need of a message, and where it goes."""

    destination: Number
    esm_class: int
    protocol_id: int
    registered_delivery: int
    data_coding: int
    content: Content


class _Cut(NamedTuple):
    """What differs from TPDU to TPDU, and what does not."""

    dcs: int
    udhi: bool
    user_data: list[bytes]


class _Coded(NamedTuple):
    """A text in an alphabet that TPDUs have."""

    dcs: int
    text: bytes


def submits_of(
    command_id: int,
    body: bytes,
    destination: Number | int = 0,
    *,
    new_reference: Callable[[], int],
    validity_s: int | None = None,
) -> list[Submit]:
    """The SMS-SUBMITs of a submit_sm, data_sm or submit_multi to one destination, in order.

    Args:
        command_id: whose body it is.
        body: as the client sent it, or as the upstream's address rules changed it.
        destination: of a submit_multi which one, from 0; or a number in place of the body's.
        new_reference: called once for a message that has to be split; its low octet is used.
        validity_s: what is left of the validity period, in seconds; the body's is not read.

    Raises:
        PduError: it can't be sent so (ESME_RINVDSTADR, ESME_RINVMSGLEN), or is malformed.
        IndexError: a submit_multi without that destination.
    """
    request = _read(command_id, body, destination)
    cut = _cut(request, new_reference)
    return [
        Submit(
            reference=0,
            destination=request.destination,
            protocol_id=request.protocol_id,
            data_coding=cut.dcs,
            validity_s=validity_s,
            report=bool(request.registered_delivery & smpp.REGISTERED_RECEIPT_MASK),
            udhi=cut.udhi,
            reply_path=bool(request.esm_class & _ESM_REPLY_PATH),
            reject_duplicates=False,
            user_data=octets,
        )
        for octets in cut.user_data
    ]


def short_messages(command_id: int, body: bytes) -> int:
    """How many SMS-SUBMITs a message is for each destination.  Raises PduError."""
    return len(_cut(_read(command_id, body, 0), int).user_data)


def number_of(ton: int, npi: int, digits: str) -> Number:
    """A destination as a TPDU has it, from an SMPP address.

    A leading "+" makes it international.  A plan that is unknown, or that GSM does not have, is
    the telephone numbers': what phones send, and what networks want to see.  Raises PduError.
    """
    if digits.startswith("+"):
        ton, digits = (TON_INTERNATIONAL if ton != TON_ALPHANUMERIC else ton), digits[1:]
    digits = digits.lower()
    if ton > _TON_MAX or ton == TON_ALPHANUMERIC or _NUMBER.fullmatch(digits) is None:
        raise PduError(smpp.ESME_RINVDSTADR, "destination_addr")
    return Number(ton, npi if npi in _NPI_OF_BOTH and npi != NPI_UNKNOWN else NPI_ISDN, digits)


def _read(command_id: int, body: bytes, destination: Number | int) -> _Request:
    layout: Layout
    if command_id == smpp.SUBMIT_MULTI:
        addresses, start = multi_destinations(body)
        ton, npi, addr = addresses[destination if isinstance(destination, int) else 0]
        layout = MULTI_TAIL
        values, length = layout.split(body[start:])
        at = start + length
    else:
        layout = DATA if command_id == smpp.DATA_SM else SUBMIT
        values, at = layout.split(body)
        ton, npi, addr = values[4][0], values[5][0], values[6]
    if isinstance(destination, Number):
        number = number_of(*destination)
    else:
        number = number_of(ton, npi, addr.decode("latin-1"))

    def octet(name: str) -> int:
        """0 for a field that the command does not have: a data_sm's protocol_id, sm_length."""
        return values[layout.index[name]][0] if name in layout.index else 0

    return _Request(
        number,
        octet("esm_class"),
        octet("protocol_id"),
        octet("registered_delivery"),
        octet("data_coding"),
        content_at(body, at, octet("sm_length")),
    )


def _cut(request: _Request, new_reference: Callable[[], int]) -> _Cut:
    """The user data of each TPDU: header and text."""
    # Of several texts (a short_message beside a message_payload) the first that holds anything.
    whole = next(filter(None, request.content.texts), b"")
    header = b""
    if request.esm_class & smpp.ESM_UDHI:
        try:
            end = header_octets(whole, udhi=True)
        except TpduError:
            raise _too_long() from None
        header, whole = whole[:end], whole[end:]
    sar = _sar(request)
    if sar is not None:
        header = _with_concatenation(header, sar)
    coded = _coded(whole, request.data_coding)
    if header:
        for one in coded:
            if fits(len(header), len(one.text), alphabet_of(one.dcs)):
                return _Cut(one.dcs, True, [header + one.text])
        raise _too_long()
    best, parts = min(((one, _parts(one)) for one in coded), key=lambda found: len(found[1]))
    if len(parts) == 1:
        return _Cut(best.dcs, False, parts)
    if len(parts) > PARTS_MAX:
        raise _too_long()
    reference = new_reference() & 0xFF
    user_data = [
        _with_concatenation(b"", Concatenation(reference, len(parts), number)) + part
        for number, part in enumerate(parts, 1)
    ]
    return _Cut(best.dcs, True, user_data)


def _sar(request: _Request) -> Concatenation | None:
    """What joins the parts, when the sar_* parameters say it and no header does.

    As in smpp/pdu.py: the header's word counts before theirs, and one part is no part.
    """
    sar = request.content.sar
    if sar is None or sar.total == 1:
        return None
    if request.esm_class & smpp.ESM_UDHI and any(map(concatenation, request.content.texts)):
        return None
    return sar


def _with_concatenation(header: bytes, part: Concatenation) -> bytes:
    """A header with this element at its end.

    The reference is cut to 8 bits, also a sar_msg_ref_num that has 16: with a longer one a part
    of 153 septets, as clients cut them, would not fit any more, and all parts must have the same.
    A header whose elements make no sense stays as it is: with one more they still would not.
    """
    if header and header_elements(header) is None:
        return header
    elements = header[1:] + bytes((0, 3, part.reference & 0xFF, part.total, part.part))
    if len(elements) >= OCTETS_MAX:
        raise _too_long()
    return bytes((len(elements),)) + elements


def _coded(text: bytes, data_coding: int) -> list[_Coded]:
    """The text in the alphabets that it may be sent in, the best first."""
    if data_coding >= 0x10:
        septets = alphabet_of(data_coding) is Alphabet.GSM7
        return [_Coded(data_coding, septets_in(text) if septets else text)]
    if data_coding == 0x00:
        return [_Coded(_DCS_GSM7, septets_in(text))]
    if data_coding == 0x08:
        return [_Coded(_DCS_UCS2, text)]
    if data_coding in {0x01, 0x03}:
        chars = text.decode("latin-1")
        exact = encode_gsm(chars)
        if exact is not None:
            return [_Coded(_DCS_GSM7, exact)]
        units = _Coded(_DCS_UCS2, chars.encode("utf-16-be"))
        if data_coding == 0x03:
            return [units]
        return [units, _Coded(_DCS_GSM7, encode_gsm(chars, replace=True) or b"")]
    codec = _CODEC_OF.get(data_coding)
    if codec is not None:
        try:
            return [_Coded(_DCS_UCS2, text.decode(codec).encode("utf-16-be"))]
        except UnicodeDecodeError:
            pass
    return [_Coded(_DCS_OCTETS, text)]


def _parts(coded: _Coded) -> list[bytes]:
    """A text in one piece, or cut as smpp/segments.py counts."""
    alphabet = alphabet_of(coded.dcs)
    text = coded.text
    if fits(0, len(text), alphabet):
        return [text]
    ends = list(_cuts(text, alphabet))
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _cuts(text: bytes, alphabet: Alphabet) -> Iterator[int]:
    """Where the parts of a long text end, but the last: never inside a character."""
    size = _PART_SEPTETS if alphabet is Alphabet.GSM7 else _PART_OCTETS
    end = size
    while end < len(text):
        part = text[end - size : end]
        if alphabet is Alphabet.GSM7:
            # Behind an odd run of escapes comes the second half of a character.
            end -= (size - len(part.rstrip(_ESC))) % 2
        elif alphabet is Alphabet.UCS2 and part[-2] & 0xFC == 0xD8 and text[end] & 0xFC == 0xDC:
            end -= 2  # between the halves of a surrogate pair
        yield end
        end += size


def _too_long() -> PduError:
    return PduError(smpp.ESME_RINVMSGLEN, "short_message")
