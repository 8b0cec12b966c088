"""Optional parameters (TLVs), SMPP 3.4 sections 3.2.4 and 5.3.

Two octets of tag, two of length, then the value; a stream of them ends a PDU. Everything here
works on the octets and keeps them: an unknown tag is carried like any other, and nothing is
copied but what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

_HEADER: Final = Struct("!HH")
VALUE_OCTETS_MAX: Final = 0xFFFF


class TlvError(ValueError):
    """The octets are not a stream of TLVs, or the value does not fit in one."""


def iter_tlvs(octets: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Each TLV from `start` to the end, in order, as (tag, value_start, value_end).

    Lazy: TLVs in front of a truncated one are yielded before the error.

    Raises:
        TlvError: a tag, length or value reaches beyond the last octet.
    """
    end = len(octets)
    while start < end:
        value_start = start + 4
        if value_start > end:
            raise TlvError(f"{end - start} octets at {start} are too few for a tag and a length")
        tag, length = _HEADER.unpack_from(octets, start)
        start = value_start + length
        if start > end:
            raise TlvError(
                f"TLV 0x{tag:04X} is {length} octets long, but {end - value_start} follow"
            )
        yield tag, value_start, start


def find_tlv(octets: bytes, tag: int, start: int = 0) -> bytes | None:
    """The value of the first TLV with this tag, or None.

    Raises:
        TlvError: the stream is truncated, and the tag did not occur before that.
    """
    for found, value_start, value_end in iter_tlvs(octets, start):
        if found == tag:
            return octets[value_start:value_end]
    return None


def pack_tlv(tag: int, value: bytes) -> bytes:
    """One TLV as octets.

    Raises:
        TlvError: the tag is not a 16-bit number, or the value has more than 65,535 octets.
    """
    if not 0 <= tag <= 0xFFFF:
        raise TlvError(f"{tag} is not a tag")
    if len(value) > VALUE_OCTETS_MAX:
        raise TlvError(f"a TLV cannot hold {len(value)} octets")
    return _HEADER.pack(tag, len(value)) + value


def replace_tlv(octets: bytes, tag: int, value: bytes, start: int = 0) -> bytes:
    """All octets, with this value in every TLV of this tag from `start` on.

    Everything else (what lies before `start`, other TLVs, their order) stays octet for octet;
    without such a TLV the octets come back as they are.

    Raises:
        TlvError: the stream is truncated, or the value has more than 65,535 octets.
    """
    kept: list[bytes] = []
    copied = 0
    for found, value_start, value_end in iter_tlvs(octets, start):
        if found == tag:
            kept += octets[copied : value_start - 4], pack_tlv(tag, value)
            copied = value_end
    kept.append(octets[copied:])
    return b"".join(kept)
