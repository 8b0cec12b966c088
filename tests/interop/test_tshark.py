"""What a client sends to a modem route, as Wireshark's dissector of GSM short messages reads it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.submissions import body_of

from proxy.gsm.submit import submits_of
from proxy.gsm.tpdu import encode_submit
from proxy.smpp import vocabulary as smpp

DLT_USER0 = 147
TSHARK = shutil.which("tshark")
FIELDS = (
    "gsm_sms.tp-mti", "gsm_sms.tp-da", "gsm_sms.tp-dcs", "gsm_sms.tp-srr", "gsm_sms.tp-udhi",
    "gsm_sms.sms_text", "gsm_sms.udh.mm.msg_id", "gsm_sms.udh.mm.msg_parts",
    "gsm_sms.udh.mm.msg_part", "gsm_sms.dcs.message_class", "gsm_sms.vp.validity_period",
    "gsm_sms.destination_port", "gsm_sms.dis_field_addr.num_type", "_ws.malformed",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _tshark() -> None:
    if TSHARK is None:
        if os.environ.get("CI"):
            pytest.fail("tshark is not installed")
        pytest.skip("tshark is not installed")


def dissected(tpdus: list[bytes], directory: Path) -> list[dict[str, list[str]]]:
    """The fields of each TPDU on its way to the service centre.

    It goes into an RP-DATA (3GPP TS 24.011 section 7.3.1.2), which says that it goes upwards.
    """
    packets = [b"\x00\x01\x00\x07\x91" + bytes(6) + bytes((len(t),)) + t for t in tpdus]
    capture = directory / "submits.pcap"
    capture.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, DLT_USER0)
        + b"".join(struct.pack("<IIII", 0, 0, len(p), len(p)) + p for p in packets)
    )
    assert TSHARK is not None
    dissectors = f'uat:user_dlts:"User 0 (DLT={DLT_USER0})","gsm_a_rp","0","","0",""'
    fields = [argument for name in FIELDS for argument in ("-e", name)]
    options = ["-o", dissectors, "-o", "gsm_sms.reassemble:FALSE", "-T", "json", *fields]
    printed = subprocess.run(
        [TSHARK, "-n", "-r", capture, *options], check=True, capture_output=True, timeout=60
    )
    return [packet["_source"]["layers"] for packet in json.loads(printed.stdout)]


LONG = "Žluťoučký kůň 😀 " * 12
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "GSM 7-bit": ({"text": b"hello \0 \x1be", "data_coding": 0}, "hello @ €"),
    "escapes": ({"text": b"[~]{|}\\^", "data_coding": 1}, "[~]{|}\\^"),
    "Latin-1": ({"text": "Ärger Øl".encode("latin-1"), "data_coding": 3}, "Ärger Øl"),
    "Latin-1 as UCS-2": ({"text": "ça va".encode("latin-1"), "data_coding": 3}, "ça va"),
    "Cyrillic": ({"text": "Привет".encode("iso8859_5"), "data_coding": 6}, "Привет"),
    "flash": ({"text": b"flash", "data_coding": 0x10}, "flash"),
    "flash, the other group": ({"text": b"flash", "data_coding": 0xF0}, "flash"),
    "voice mail": ({"text": b"1 message", "data_coding": 0xC8}, "1 message"),
    "voice mail, UCS-2": ({"text": "1 й".encode("utf-16-be"), "data_coding": 0xE8}, "1 й"),
    "long GSM": ({"payload": b"abcdefghij" * 40, "data_coding": 0}, "abcdefghij" * 40),
    "long UCS-2": ({"payload": LONG.encode("utf-16-be"), "data_coding": 8}, LONG),
    "a client's part": (
        {"text": b"\x05\0\3\x42\2\1" + b"a" * 153, "data_coding": 0, "esm_class": 0x40},
        "a" * 153,
    ),
    "a client's part, 16 bit": (
        {"text": b"\x06\x08\4\x12\x34\2\2" + b"\x1be" * 70, "data_coding": 0, "esm_class": 0x40},
        "€" * 70,
    ),
    "sar": ({"text": b"part", "sar": (0x1234, 3, 2)}, "part"),
}  # fmt: skip


def test_texts_and_headers_are_read_as_they_were_meant(tmp_path: Path) -> None:
    tpdus: list[bytes] = []
    owners: list[str] = []
    for name, (asked, _) in CASES.items():
        values = dict(asked)
        body = body_of(smpp.SUBMIT_SM, values.pop("text", b""), registered_delivery=1, **values)
        found = submits_of(smpp.SUBMIT_SM, body, new_reference=lambda: 77, validity_s=4 * 86400)
        tpdus += map(encode_submit, found)
        owners += [name] * len(found)
    layers = dissected(tpdus, tmp_path)
    texts: dict[str, str] = dict.fromkeys(CASES, "")
    for name, layer in zip(owners, layers, strict=True):
        assert "_ws.malformed" not in layer, name
        assert layer["gsm_sms.tp-mti"] == ["1"]
        assert layer["gsm_sms.tp-da"] == ["447700900123"]
        assert layer["gsm_sms.dis_field_addr.num_type"] == ["1"]
        assert layer["gsm_sms.vp.validity_period"] == ["170"]
        assert layer["gsm_sms.tp-srr"] in (["1"], ["True"])
        texts[name] += "".join(layer["gsm_sms.sms_text"])
    assert texts == {name: shown for name, (_, shown) in CASES.items()}
    parts = [
        tuple(layer[f"gsm_sms.udh.mm.msg_{part}"][0] for part in ("id", "parts", "part"))
        for layer in layers
        if "gsm_sms.udh.mm.msg_id" in layer
    ]
    assert [(int(i, 0), int(of), int(n)) for i, of, n in parts] == [
        (77, 3, 1), (77, 3, 2), (77, 3, 3),
        *((77, 4, n) for n in range(1, 5)),
        (0x42, 2, 1), (0x1234, 2, 2), (0x34, 3, 2),
    ]  # fmt: skip
    by_name = dict(zip(owners, layers, strict=True))
    for name in ("flash", "flash, the other group"):
        assert int(by_name[name]["gsm_sms.dcs.message_class"][0], 0) == 0


def test_binary_to_a_port(tmp_path: Path) -> None:
    header = bytes.fromhex("0605043E803E81")
    body = body_of(text=header + bytes(range(133)), data_coding=0xF5, esm_class=0x40)
    (submit,) = submits_of(smpp.SUBMIT_SM, body, new_reference=int)
    (layer,) = dissected([encode_submit(submit)], tmp_path)
    assert "_ws.malformed" not in layer
    assert int(layer["gsm_sms.tp-dcs"][0], 0) == 0xF5
    assert int(layer["gsm_sms.destination_port"][0], 0) == 16000
