from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gsm.inbound import deliver_sm_of, smpp_data_coding
from proxy.gsm.tpdu import Deliver, Number, TpduError, decode_deliver
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import SUBMIT, find_tlv_if_whole, read_delivery
from proxy.smpp.udh import without_header

DELIVER = Deliver(
    Number(1, 1, "447700900123"), 0, 0, 1.0, False, False, False, False, b"hello \0\x1be"
)


def fields(body: bytes) -> dict[str, bytes]:
    values, at = SUBMIT.split(body)
    named = {field.name: value for field, value in zip(SUBMIT.fields, values, strict=True)}
    return named | {"text": body[at : at + values[-1][0]], "tlvs": body[at + values[-1][0] :]}


def test_every_field_of_a_plain_message() -> None:
    found = fields(deliver_sm_of(DELIVER, "+447700900999"))
    assert found == {
        "service_type": b"",
        "source_addr_ton": b"\1",
        "source_addr_npi": b"\1",
        "source_addr": b"447700900123",
        "destination_addr_ton": b"\1",
        "destination_addr_npi": b"\1",
        "destination_addr": b"447700900999",
        "esm_class": b"\0",
        "protocol_id": b"\0",
        "priority_flag": b"\0",
        "schedule_delivery_time": b"",
        "validity_period": b"",
        "registered_delivery": b"\0",
        "replace_if_present_flag": b"\0",
        "data_coding": b"\0",
        "sm_default_msg_id": b"\0",
        "sm_length": b"\x09",
        "text": b"hello \0\x1be",
        "tlvs": b"",
    }


def test_header_reply_path_and_protocol() -> None:
    user_data = b"\x06\x05\x04\x0b\x84\x23\xf0data"
    deliver = DELIVER._replace(
        udhi=True, reply_path=True, protocol_id=0x41, data_coding=0xF5, user_data=user_data
    )
    found = fields(deliver_sm_of(deliver, ""))
    assert found["esm_class"] == bytes((smpp.ESM_UDHI | 0x80,))
    assert found["protocol_id"] == b"\x41"
    assert found["data_coding"] == b"\xf5"
    assert found["text"] == user_data
    assert without_header(found["text"]) == b"data"


def test_a_long_text_goes_into_message_payload() -> None:
    whole = DELIVER._replace(user_data=b"a" * 39015)
    body = deliver_sm_of(whole, "1")
    assert fields(body)["text"] == b""
    assert find_tlv_if_whole(fields(body)["tlvs"], smpp.TAG_MESSAGE_PAYLOAD) == b"a" * 39015
    assert read_delivery(smpp.DELIVER_SM, body).text == b"a" * 39015


@pytest.mark.parametrize(
    ("source", "address"),
    [
        (Number(5, 0, "Café Øl"), (b"\5", b"\0", "Café Øl".encode("latin-1"))),
        (Number(5, 0, "ΔΣ€"), (b"\5", b"\0", b"???")),
        (Number(0, 1, "125"), (b"\0", b"\1", b"125")),
        (Number(7, 15, "#12*"), (b"\7", b"\x0f", b"#12*")),
        (Number(1, 1, "1" * 30), (b"\1", b"\1", b"1" * 20)),
    ],
)
def test_senders(source: Number, address: tuple[bytes, bytes, bytes]) -> None:
    found = fields(deliver_sm_of(DELIVER._replace(source=source), "1"))
    named = ("source_addr_ton", "source_addr_npi", "source_addr")
    assert tuple(found[name] for name in named) == address


@pytest.mark.parametrize(
    ("number", "address"),
    [
        ("+44", (b"\1", b"\1", b"44")),
        ("44", (b"\0", b"\1", b"44")),
        ("", (b"\0", b"\0", b"")),
        ("modem-1", (b"\5", b"\0", b"modem-1")),
        ("+" + "1" * 40, (b"\1", b"\1", b"1" * 20)),
    ],
)
def test_destinations(number: str, address: tuple[bytes, bytes, bytes]) -> None:
    found = fields(deliver_sm_of(DELIVER, number))
    named = ("destination_addr_ton", "destination_addr_npi", "destination_addr")
    assert tuple(found[name] for name in named) == address


@pytest.mark.parametrize(
    ("dcs", "data_coding"),
    [
        (0x00, 0x00), (0x01, 0x00), (0x04, 0x04), (0x08, 0x08), (0x0C, 0x00),
        (0x10, 0xF0), (0x11, 0xF1), (0x16, 0xF6), (0x18, 0x08), (0x1B, 0x08),
        (0x20, 0x20), (0x44, 0x04), (0x48, 0x08), (0x52, 0xF2), (0x80, 0x00), (0xBF, 0x00),
        (0xC8, 0xC8), (0xD1, 0xD1), (0xE8, 0xE8), (0xF0, 0xF0), (0xF6, 0xF6), (0xFF, 0xFF),
    ],
)  # fmt: skip
def test_data_codings(dcs: int, data_coding: int) -> None:
    assert smpp_data_coding(dcs) == data_coding


@given(st.binary(max_size=180), st.text(max_size=30))
def test_whatever_can_be_decoded_becomes_a_deliver_sm(octets: bytes, number: str) -> None:
    try:
        deliver = decode_deliver(octets)
    except TpduError:
        return
    found = read_delivery(smpp.DELIVER_SM, deliver_sm_of(deliver, number))
    assert found.text == deliver.user_data
    assert found.message_type == 0
