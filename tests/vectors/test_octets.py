"""Promise 5: what the proxy does not need to change arrives octet for octet, and priced right.

Upwards the body of every kind of message, downwards those of messages and of receipts (in which
nothing but the ids may change).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from support.esme import (
    CANCEL_SM,
    DATA_SM,
    DELIVER_SM,
    QUERY_SM,
    REPLACE_SM,
    RESP,
    SUBMIT_MULTI,
    SUBMIT_SM,
    Esme,
    bind_body,
    message_id,
    pdu,
    submit_body,
)
from support.running import Running, running_proxy
from support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_OCTET = bytes(range(256))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(postgres: Any) -> AsyncIterator[Running]:
    """One proxy for all vectors; account "inbox" gets every message that arrives."""
    async with postgres.fresh() as url, running_proxy(url, credits=100_000) as one:
        await one.add_account("inbox", inbound="*")
        await eventually(lambda: one.proxy.deliver.inbound.find("1") is not None)
        yield one


def tlv(tag: int, value: bytes) -> bytes:
    return tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def payload(text: bytes) -> bytes:
    return tlv(0x0424, text)


def full_submit(
    *, service_type: bytes = b"", protocol_id: int = 0, priority: int = 0, schedule: bytes = b"",
    validity: bytes = b"", registered: int = 0, replace: int = 0, default_message: int = 0,
    text: bytes = b"hi",
) -> bytes:  # fmt: skip
    """A submit_sm with the fields that submit_body() leaves at 0."""
    return (
        service_type + b"\0" + b"\1\1" + b"12345\0" + b"\1\1" + b"447700900123\0"
        + bytes((0, protocol_id, priority)) + schedule + b"\0" + validity + b"\0"
        + bytes((registered, replace, 0, default_message, len(text))) + text
    )  # fmt: skip


def data_body(tlvs: bytes, *, esm_class: int = 0, data_coding: int = 0) -> bytes:
    return (
        b"CMT\0" + b"\5\0" + b"A longer sender than submit_sm allows\0" + b"\1\1" + b"4477\0"
        + bytes((esm_class, 0, data_coding)) + tlvs
    )  # fmt: skip


def multi_body(addresses: list[bytes], text: bytes, tlvs: bytes = b"") -> bytes:
    destinations = b"".join(b"\1\1\1" + address + b"\0" for address in addresses)
    return (
        b"\0\1\1" + b"12345\0" + bytes((len(addresses),)) + destinations
        + b"\0\0\0" + b"\0\0" + b"\0\0\4\0" + bytes((len(text),)) + text + tlvs
    )  # fmt: skip


PORT_ADDRESSING = b"\x06\x05\x04\x0b\x84\x23\xf0"
PART_8_BIT = b"\x05\x00\x03\xcc\x02\x01"
PART_16_BIT = b"\x06\x08\x04\x12\x34\x02\x01"
SAR = tlv(0x020C, b"\x12\x34") + tlv(0x020E, b"\2") + tlv(0x020F, b"\1")

# Name → the body of a submit_sm, and how many segments (credits) it costs.
SUBMITS: dict[str, tuple[bytes, int]] = {
    "binary 2": (submit_body(EVERY_OCTET[:140], data_coding=2), 1),
    "binary 2, one too many": (submit_body(EVERY_OCTET[:141], data_coding=2), 2),
    "binary 4": (submit_body(EVERY_OCTET[116:], data_coding=4), 1),
    "binary 4, all of it": (submit_body(EVERY_OCTET[:254], data_coding=4), 2),
    "0xF1 (class 1, GSM)": (submit_body(b"x" * 160, data_coding=0xF1), 1),
    "0xF1, one too many": (submit_body(b"x" * 161, data_coding=0xF1), 2),
    "0xF5 (class 1, 8-bit)": (submit_body(b"\xff" * 141, data_coding=0xF5), 2),
    "0x10 (class 0, GSM)": (submit_body(b"\x00\x1b\x65" * 50, data_coding=0x10), 1),
    "0x18 (class 0, UCS-2)": (submit_body(b"\x04\x1f" * 71, data_coding=0x18), 2),
    "UCS-2": (submit_body("Привет, мир".encode("utf-16-be"), data_coding=8), 1),
    "UCS-2 of 71": (submit_body(b"\x04\x1f" * 71, data_coding=8), 2),
    "Latin-1 text": (submit_body("Grüße".encode("latin-1"), data_coding=3), 1),
    "GSM with NULs (commercial at)": (submit_body(b"a\0b\0\0"), 1),
    "escapes": (submit_body(b"\x1b\x65" * 81), 2),
    "data_coding 0xFF": (submit_body(b"\0\xff", data_coding=0xFF), 1),
    "port addressing": (
        submit_body(PORT_ADDRESSING + EVERY_OCTET[:133], data_coding=4, esm_class=0x40), 1,
    ),
    "concatenation, 8 bits": (submit_body(PART_8_BIT + b"x" * 153, esm_class=0x40), 1),
    "concatenation, 16 bits": (submit_body(PART_16_BIT + b"x" * 152, esm_class=0x43), 1),
    "concatenation, UCS-2": (
        submit_body(PART_8_BIT + b"\x04\x1f" * 67, esm_class=0x40, data_coding=8), 1,
    ),
    "a UDH that is none": (submit_body(b"\xff\0\1", esm_class=0x40), 1),
    "vendor TLVs": (
        submit_body(tlvs=tlv(0x1400, b"") + tlv(0x1401, EVERY_OCTET) + tlv(0x2150, b"\0\0")), 1,
    ),
    "the same TLV three times": (submit_body(tlvs=tlv(0x1403, b"1\0") * 3), 1),
    "the least and the greatest tag": (submit_body(tlvs=tlv(0, b"a") + tlv(0xFFFF, b"b")), 1),
    "payload of 60,000, GSM": (submit_body(b"", tlvs=payload(b"x" * 60_000)), 393),
    "payload of 60,000, binary": (
        submit_body(b"", data_coding=4, tlvs=tlv(0x1401, b"v") + payload(b"\0\xff" * 30_000)), 448,
    ),
    "payload of 60,000, UCS-2": (
        submit_body(b"", data_coding=8, tlvs=payload(b"\x04\x1f" * 30_000)), 448,
    ),
    "payload of 65,535": (submit_body(b"", tlvs=payload(b"x" * 65_535)), 429),
    "payload of 160": (submit_body(b"", tlvs=payload(b"x" * 160)), 1),
    "an empty payload": (submit_body(b"", tlvs=payload(b"")), 1),
    "Latin-1 addresses": (
        submit_body(
            source="Zürich Ä".encode("latin-1"), destination=b"\xe9\xff\x80\x01",
            tons=b"\5\0\5\0",
        ), 1,
    ),
    "alphanumeric sender": (submit_body(source=b"Pizza 24/7", tons=b"\5\0\1\1"), 1),
    "the longest addresses": (submit_body(source=b"9" * 20, destination=b"4" * 20), 1),
    "no sender": (submit_body(source=b"", tons=b"\0\0\1\1"), 1),
    "a plus before the number": (submit_body(destination=b"+447700900123"), 1),
    "empty text": (submit_body(b""), 1),
    "unlisted TON and NPI": (submit_body(tons=b"\x77\xfe\xfe\x77"), 1),
    "sar": (submit_body(b"x" * 153, tlvs=SAR), 1),
    "sar, binary": (submit_body(EVERY_OCTET[:134], data_coding=4, tlvs=SAR), 1),
    "sar, longer than a part": (submit_body(EVERY_OCTET[:200], data_coding=4, tlvs=SAR), 2),
    "UDH, longer than a part": (
        submit_body(b"", data_coding=4, esm_class=0x40, tlvs=payload(PART_8_BIT + b"x" * 1340)),
        10,
    ),
    "short_message and payload": (submit_body(b"hi", tlvs=payload(b"x" * 1000)), 7),
    "schedule and validity": (
        full_submit(schedule=b"991231235959948+", validity=b"000007000000000R"), 1,
    ),
    "other texts for times": (full_submit(schedule=b"tomorrow", validity=b"\xff" * 16), 1),
    "registered_delivery 0x11": (full_submit(registered=0x11), 1),
    "registered_delivery 0xFF": (full_submit(registered=0xFF), 1),
    "every other field": (
        full_submit(
            service_type=b"U\xfcSD?", protocol_id=0x7F, priority=255, replace=1,
            default_message=255,
        ), 1,
    ),
    "text of 254": (submit_body(b"x" * 254), 2),
}  # fmt: skip

OTHERS: dict[str, tuple[int, bytes, int]] = {
    "data_sm with a payload": (DATA_SM, data_body(payload(EVERY_OCTET * 2), data_coding=4), 4),
    "data_sm, nothing in it": (DATA_SM, data_body(b""), 1),
    "data_sm, UDH": (
        DATA_SM,
        data_body(payload(PART_8_BIT + b"x" * 134), esm_class=0x40, data_coding=4), 1,
    ),
    "data_sm, vendor TLVs around": (
        DATA_SM, data_body(tlv(0x2150, b"\0") + payload(b"x" * 161) + tlv(0x1400, b"\xff")), 2,
    ),
    "submit_multi": (
        SUBMIT_MULTI,
        multi_body([b"447700900123", b"33\xe9", b"1"], EVERY_OCTET[:141], tlv(0x1400, b"\0")), 6,
    ),
    "submit_multi to one": (SUBMIT_MULTI, multi_body([b"447700900123"], b"\0"), 1),
    "submit_multi to 254": (
        SUBMIT_MULTI, multi_body([b"4477009%05d" % n for n in range(254)], b"hi"), 254,
    ),
    "submit_multi, payload": (
        SUBMIT_MULTI, multi_body([b"441", b"442"], b"", payload(b"\0" * 1000)), 16,
    ),
}  # fmt: skip
UPWARDS = {name: (SUBMIT_SM, *one) for name, one in SUBMITS.items()} | OTHERS


@pytest.mark.parametrize(("command_id", "body", "segments"), UPWARDS.values(), ids=UPWARDS)
async def test_upwards_octet_for_octet(
    run: Running, command_id: int, body: bytes, segments: int
) -> None:
    async with run.esme() as esme:
        await esme.bind()
        before = await run.balance()
        response = await esme.request(command_id, body)
        assert (response.command_id, response.status) == (command_id | RESP, 0)
        arrived = run.smsc.submits[-1]
        assert (arrived.command_id, arrived.body) == (command_id, body)
        row = (await run.fetch("SELECT * FROM v_message WHERE id = $1", message_id(response)))[0]
        assert (row["segments"], row["price"], row["state"]) == (segments, segments, "charged")
        assert before - await run.balance() == segments


async def test_upwards_whatever_the_fields_hold_in_the_order_they_came(run: Running) -> None:
    luck = random.Random(3)

    def any_octets(most: int) -> bytes:
        return bytes(luck.randint(1, 255) for _ in range(luck.randint(0, most)))

    def any_body() -> bytes:
        text = luck.randbytes(luck.randint(0, 254))
        tlvs = b"".join(
            tlv(luck.choice((0x1400, 0x2150, 0x0005, luck.randint(0x0430, 0xFFFF))), any_octets(40))
            for _ in range(luck.randint(0, 4))
        )
        return (
            any_octets(5) + b"\0" + luck.randbytes(2) + any_octets(20) + b"\0" + luck.randbytes(2)
            + b"4" + any_octets(19) + b"\0" + luck.randbytes(3) + any_octets(16) + b"\0"
            + any_octets(16) + b"\0" + bytes((0,)) + luck.randbytes(3) + bytes((len(text),))
            + text + tlvs
        )  # fmt: skip

    bodies = [any_body() for _ in range(200)]
    async with run.esme() as esme:
        await esme.bind()
        before = len(run.smsc.submits)
        esme.write(b"".join(pdu(SUBMIT_SM, n, body) for n, body in enumerate(bodies, start=100)))
        for n in range(100, 300):
            assert (await esme.response(n)).status == 0
    assert [one.body for one in list(run.smsc.submits)[before:]] == bodies


OPERATIONS: dict[int, Callable[[bytes], bytes]] = {
    QUERY_SM: lambda of: of + b"\0" + b"\x77\xfe" + b"Z\xfcrich\0",
    CANCEL_SM: lambda of: b"\xff?\0" + of + b"\0" + b"\5\0" + b"12345\0" + b"\x77\1" + b"4477\0",
    REPLACE_SM: lambda of: (
        of + b"\0\1\1" + b"12345\0" + b"tomorrow\0" + b"\0" + b"\x11\xff\4new\xff"
    ),
}


@pytest.mark.parametrize("command_id", OPERATIONS)
async def test_an_operation_changes_in_its_message_id_only(
    run: Running, command_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived: list[tuple[int, bytes]] = []
    handle = run.smsc.request

    def request(link: Any, command: int, sequence_number: int, body: bytes) -> bool:
        arrived.append((command, body))
        return handle(link, command, sequence_number, body)

    monkeypatch.setattr(run.smsc, "request", request)
    body = OPERATIONS[command_id]
    async with run.esme() as esme:
        await esme.bind()
        ours = b"%d" % message_id(await esme.submit())
        theirs = run.smsc.submits[-1].smsc_message_id.encode()
        assert ours != theirs
        response = await esme.request(command_id, body(ours))
        assert (response.command_id, response.status) == (command_id | RESP, 0)
        if command_id == QUERY_SM:
            assert response.body.startswith(ours + b"\0")
    assert arrived[-1] == (command_id, body(theirs))


async def test_what_stands_behind_the_id_of_a_response_stays(run: Running) -> None:
    async with run.esme() as esme:
        await esme.bind()
        run.smsc.options.silence_rate = 1.0
        try:
            count = len(run.smsc.submits)
            ours = esme.send(SUBMIT_SM, submit_body())
            await eventually(lambda: len(run.smsc.submits) > count)
        finally:
            run.smsc.options.silence_rate = 0.0
        theirs = run.smsc.submits[-1].sequence_number
        behind = tlv(0x1400, b"\0\xff") + tlv(0x001D, b"ok\0")
        await run.smsc.send_pdu(pdu(SUBMIT_SM | RESP, theirs, b"their-id\0" + behind))
        response = await esme.response(ours)
        assert (response.status, response.body) == (0, b"%d\0" % message_id(response) + behind)
        row = (await run.fetch("SELECT * FROM v_message WHERE id = $1", message_id(response)))[0]
        assert row["smsc_message_id"] == "their-id"


# ------------------------------------------------------------------------------- downwards


def deliver_body(
    text: bytes, *, esm_class: int = 0, data_coding: int = 0, tlvs: bytes = b"",
    source: bytes = b"4411111", destination: bytes = b"447711", tons: bytes = b"\1\1\1\1",
) -> bytes:  # fmt: skip
    return submit_body(
        text, source=source, destination=destination, esm_class=esm_class,
        data_coding=data_coding, tlvs=tlvs, tons=tons,
    )  # fmt: skip


DOWNWARDS: dict[str, tuple[int, bytes]] = {
    "text": (DELIVER_SM, deliver_body(b"hello")),
    "binary": (DELIVER_SM, deliver_body(EVERY_OCTET[:140], data_coding=4)),
    "all of 254 octets": (DELIVER_SM, deliver_body(EVERY_OCTET[2:], data_coding=2)),
    "0xF1": (DELIVER_SM, deliver_body(b"\0@\0", data_coding=0xF1)),
    "UDH": (DELIVER_SM, deliver_body(PART_16_BIT + EVERY_OCTET[:100], esm_class=0x40)),
    "reply path": (DELIVER_SM, deliver_body(b"x", esm_class=0x80)),
    "unknown TLVs": (
        DELIVER_SM, deliver_body(b"x", tlvs=tlv(0x1400, b"") + tlv(0x2150, EVERY_OCTET) * 2),
    ),
    "payload of 60,000": (
        DELIVER_SM, deliver_body(b"", data_coding=4, tlvs=payload(EVERY_OCTET * 234)),
    ),
    "Latin-1 addresses": (
        DELIVER_SM, deliver_body(b"x", source=b"Z\xfcrich", destination=b"\xe9\xff"),
    ),
    "unlisted TON and NPI": (DELIVER_SM, deliver_body(b"x", tons=b"\x77\xfe\xfe\x77")),
    "empty": (DELIVER_SM, deliver_body(b"")),
    "data_sm": (DATA_SM, data_body(payload(EVERY_OCTET) + tlv(0x1400, b"\0"), data_coding=4)),
    "a text that looks like a receipt": (DELIVER_SM, deliver_body(b"id:1 stat:DELIVRD")),
    "a receipt's type without an id": (DELIVER_SM, deliver_body(b"hm", esm_class=4)),
}  # fmt: skip


class Sequence:
    """Numbers for requests of the carrier that it does not know of itself."""

    last = 0x100000

    @classmethod
    def next(cls) -> int:
        cls.last += 1
        return cls.last


async def deliver(run: Running, esme: Esme, command_id: int, body: bytes) -> tuple[int, bytes]:
    """What arrives at the client when the carrier sends this."""
    before = len(esme.deliveries)
    await run.smsc.send_pdu(pdu(command_id, Sequence.next(), body))
    await esme.wait(lambda: len(esme.deliveries) > before)
    assert len(esme.deliveries) == before + 1
    return esme.deliveries[-1].command_id, esme.deliveries[-1].body


@pytest.mark.parametrize(("command_id", "body"), DOWNWARDS.values(), ids=DOWNWARDS)
async def test_downwards_octet_for_octet(run: Running, command_id: int, body: bytes) -> None:
    async with run.esme() as esme:
        await esme.bind("inbox", "inbox")
        assert await deliver(run, esme, command_id, body) == (command_id, body)


# Name → the [[upstream]] keys, the carrier's options, and how its receipts write the id that its
# response wrote as given.
FORMATS: dict[str, tuple[dict[str, str], dict[str, Any], Callable[[str], str]]] = {
    "as is": ({}, {}, str),
    "as is, with letters": ({}, {"response_ids": "hex", "receipt_ids": "hex"}, str),
    "hex in responses": (
        {"response_ids": "hex", "receipt_ids": "decimal"}, {"response_ids": "hex"},
        lambda theirs: str(int(theirs, 16)),
    ),
    "decimal in responses": (
        {"response_ids": "decimal", "receipt_ids": "hex"}, {"receipt_ids": "hex"},
        lambda theirs: f"{int(theirs):x}",
    ),
    "zeros in receipts": (
        {"response_ids": "decimal", "receipt_ids": "decimal"}, {},
        lambda theirs: theirs.zfill(30),
    ),
    "zeros in responses": (
        {"response_ids": "decimal", "receipt_ids": "decimal"}, {"id_width": 20},
        lambda theirs: theirs.lstrip("0"),
    ),
    "zeros and hex": (
        {"response_ids": "hex", "receipt_ids": "decimal"}, {"response_ids": "hex", "id_width": 30},
        lambda theirs: str(int(theirs, 16)).zfill(25),
    ),
    "letters of both cases": (
        {"response_ids": "hex", "receipt_ids": "hex"}, {"response_ids": "hex"}, str.lower,
    ),
}  # fmt: skip


def receipts_of(message: str) -> list[tuple[int, bytes]]:
    """One receipt in the shapes that carriers give it."""
    i = message.encode()
    dates = b"submit date:2601010000 done date:2601010001"
    text = b"id:" + i + b" sub:001 dlvrd:001 " + dates + b" stat:DELIVRD err:000 text:caf\xe9 id:1"
    odd = b"\xff STAT:DELIVRD;ID : " + i + b",err:\0\xff"
    vendor = tlv(0x1400, b"\0") + tlv(0x2150, EVERY_OCTET)
    tag = tlv(0x001E, i + b"\0")
    state = tlv(0x0427, b"\2") + tlv(0x0423, b"\3\0\0")
    return [
        (DELIVER_SM, deliver_body(text, esm_class=4)),
        (DELIVER_SM, deliver_body(text, esm_class=4, tlvs=tag + state)),
        (DELIVER_SM, deliver_body(odd, esm_class=0x20, data_coding=3, tlvs=vendor)),
        (DELIVER_SM, deliver_body(b"\0\xffdone", esm_class=4, tlvs=vendor + tag + state + vendor)),
        (DELIVER_SM, deliver_body(b"", esm_class=0, tlvs=tag)),
        (
            DELIVER_SM,
            deliver_body(b"", esm_class=4, tlvs=vendor + payload(text + b"." * 300) + tag),
        ),
        (DATA_SM, data_body(state + tag + payload(odd) + vendor, esm_class=4)),
    ]


@pytest.mark.parametrize(("settings", "options", "as_in_receipt"), FORMATS.values(), ids=FORMATS)
async def test_receipts_change_in_their_ids_only(
    postgres: Any,
    settings: dict[str, str],
    options: dict[str, Any],
    as_in_receipt: Callable[[str], str],
) -> None:
    async with postgres.fresh() as url, running_proxy(url, upstream=settings) as run:
        for name, value in options.items():
            setattr(run.smsc.options, name, value)
        async with run.esme() as esme:
            await esme.bind()
            ours = str(message_id(await esme.submit()))
            theirs = as_in_receipt(run.smsc.submits[-1].smsc_message_id)
            for sent, expected in zip(receipts_of(theirs), receipts_of(ours), strict=True):
                assert await deliver(run, esme, *sent) == expected
            row = (await run.fetch("SELECT * FROM v_message WHERE id = $1", int(ours)))[0]
            assert row["receipt_state"] == "DELIVRD"
        await run.assert_books_balance()


async def test_the_carriers_own_receipts_come_back_with_our_id(postgres: Any) -> None:
    settings = {"response_ids": "hex", "receipt_ids": "decimal"}
    async with postgres.fresh() as url, running_proxy(url, upstream=settings) as run:
        run.smsc.options.response_ids = "hex"
        async with run.esme() as esme:
            await esme.bind()
            ours = {
                message_id(await esme.submit(destination=b"4477%d" % n, registered_delivery=1)): n
                for n in range(5)
            }
            await esme.wait(lambda: len(esme.deliveries) == 5)
            for delivery in esme.deliveries:
                (which,) = (n for n in range(5) if b"4477%d\0" % n in delivery.body)
                (our_id,) = (i for i, n in ours.items() if n == which)
                assert b"id:%d sub:001 " % our_id in delivery.body
                assert tlv(0x001E, b"%d\0" % our_id) in delivery.body


# --------------------------------------------------------------------------- other versions


@pytest.mark.parametrize("version", [0x00, 0x32, 0x33])
async def test_a_client_of_3_3_gets_no_optional_parameters(run: Running, version: int) -> None:
    async with run.esme() as esme:
        response = await esme.bind("inbox", "inbox", version=version)
        assert (response.status, response.body) == (0, b"smpp-proxy\0")
        with_tlvs = deliver_body(EVERY_OCTET[:99], data_coding=4, tlvs=tlv(0x1400, b"x"))
        without = deliver_body(EVERY_OCTET[:99], data_coding=4)
        assert await deliver(run, esme, DELIVER_SM, with_tlvs) == (DELIVER_SM, without)
        in_payload = deliver_body(b"", tlvs=tlv(0x1400, b"x") + payload(b"\0" * 300))
        assert await deliver(run, esme, DELIVER_SM, in_payload) == (
            DELIVER_SM, deliver_body(b"\0" * 254),
        )  # fmt: skip


async def test_a_client_of_3_3_gets_receipts_with_our_id_and_without_tlvs(run: Running) -> None:
    async with run.esme() as esme:
        await esme.bind(version=0x33)
        ours = message_id(await esme.submit(registered_delivery=1))
        await esme.wait(lambda: len(esme.deliveries) == 1)
        body = esme.deliveries[0].body
        text = body[body.index(b"id:") :]
        assert text.startswith(b"id:%d sub:001 " % ours)
        assert text.endswith(b"text:hello")
        assert body[body.index(b"id:") - 1] == len(text)


@pytest.mark.parametrize("version", [0x34, 0x50, 0xFF])
async def test_a_newer_client_is_told_what_we_speak_and_gets_tlvs(
    run: Running, version: int
) -> None:
    async with run.esme() as esme:
        response = await esme.bind("inbox", "inbox", version=version)
        assert (response.status, response.body) == (0, b"smpp-proxy\0" + tlv(0x0210, b"\x34"))
        body = deliver_body(b"x", tlvs=tlv(0x1400, b"x"))
        assert await deliver(run, esme, DELIVER_SM, body) == (DELIVER_SM, body)


async def test_a_client_of_3_3_submits_as_any_other(run: Running) -> None:
    async with run.esme() as esme:
        esme.write(pdu(0x02, 1, bind_body("demo", "demo", version=0x33)))
        assert (await esme.response(1)).status == 0
        body = submit_body(EVERY_OCTET[:100], data_coding=4)
        assert (await esme.request(SUBMIT_SM, body)).status == 0
        assert run.smsc.submits[-1].body == body


async def test_the_books_balance_after_all_of_it(run: Running) -> None:
    await run.assert_books_balance()
