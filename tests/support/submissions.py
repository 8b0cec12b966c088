"""Bodies of submit_sm, data_sm and submit_multi, as a client would write them."""

from __future__ import annotations

from proxy.smpp import vocabulary as smpp
from proxy.smpp.tlv import pack_tlv


def body_of(
    command_id: int = smpp.SUBMIT_SM,
    text: bytes = b"",
    *,
    payload: bytes | None = None,
    data_coding: int = 0,
    esm_class: int = 0,
    protocol_id: int = 0,
    registered_delivery: int = 0,
    replace_if_present_flag: int = 0,
    destinations: tuple[tuple[int, int, bytes], ...] = ((1, 1, b"447700900123"),),
    sar: tuple[int, int, int] | None = None,
) -> bytes:
    """`sar`: reference, total and number of a part; a data_sm has no short_message."""
    source = b"\0" + b"\1\1447700900999\0"
    if command_id == smpp.SUBMIT_MULTI:
        to = bytes((len(destinations),)) + b"".join(b"\1" + _address(d) for d in destinations)
    else:
        to = _address(destinations[0])
    if command_id == smpp.DATA_SM:
        payload = text if payload is None else payload
        rest = bytes((esm_class, registered_delivery, data_coding))
    else:
        rest = (
            bytes((esm_class, protocol_id, 0))
            + b"\0\0"
            + bytes((registered_delivery, replace_if_present_flag, data_coding, 0, len(text)))
            + text
        )
    tlvs = b"" if payload is None else pack_tlv(smpp.TAG_MESSAGE_PAYLOAD, payload)
    if sar is not None:
        tlvs += pack_tlv(smpp.TAG_SAR_MSG_REF_NUM, sar[0].to_bytes(2))
        tlvs += pack_tlv(smpp.TAG_SAR_TOTAL_SEGMENTS, bytes((sar[1],)))
        tlvs += pack_tlv(smpp.TAG_SAR_SEGMENT_SEQNUM, bytes((sar[2],)))
    return source + to + rest + tlvs


def _address(address: tuple[int, int, bytes]) -> bytes:
    ton, npi, digits = address
    return bytes((ton, npi)) + digits + b"\0"
