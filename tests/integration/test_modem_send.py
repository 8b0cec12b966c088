"""Messages through a modem: parts, refusals, reports, what is in doubt, rate and order."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from support.modem_flow import message, rig
from support.waiting import eventually

from proxy.flow.message import Operation
from proxy.gsm.tpdu import Submit
from proxy.links import modem_work
from proxy.simulator.modem import ModemOptions
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import read_delivery, refused_destinations
from proxy.smpp.receipt import parse_receipt
from proxy.smpp.udh import concatenation
from proxy.smpp.vocabulary import MessageState


def receipt(body: bytes) -> Any:
    """What a deliver_sm of ours says."""
    delivery = read_delivery(smpp.DELIVER_SM, body)
    assert delivery.message_type == smpp.ESM_RECEIPT
    found = parse_receipt(delivery.text, delivery.tlvs)
    assert found is not None
    return found, delivery


def multi_body(*destinations: bytes, text: bytes = b"hello") -> bytes:
    to = b"".join(b"\1\1\1" + destination + b"\0" for destination in destinations)
    return (
        b"\0\1\x0112345\0" + bytes((len(destinations),)) + to + b"\0\0\0\0\0\1\0\0\0"
        + bytes((len(text),)) + text
    )  # fmt: skip


async def test_a_message_is_sent_and_its_report_becomes_a_receipt() -> None:
    async with rig() as r:
        upstream = await r.started()
        upstream.send([message(b"hello", registered_delivery=1)])
        await eventually(lambda: bool(r.flow.arrivals))
        (sent,) = r.modem.sent
        assert sent.submit.user_data == b"hello"
        assert sent.submit.report
        assert r.flow.statuses == [0]
        assert r.flow.ids == [f"{sent.mr}-447700900123"]
        found, delivery = receipt(r.flow.arrivals[0])
        assert found.smsc_message_id == upstream.response_key(r.flow.ids[0])
        assert found.state == MessageState.DELIVERED
        assert (delivery.source_addr, delivery.destination_addr) == ("447700900123", "12345")
        assert len(r.flow.arrivals) == 1


async def test_without_a_wish_for_it_there_is_no_report() -> None:
    async with rig() as r:
        upstream = await r.started()
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        assert not r.modem.sent[0].submit.report


async def test_a_long_message_has_its_parts_in_order_and_one_receipt() -> None:
    async with rig() as r:
        upstream = await r.started()
        upstream.send([long_message(400)])
        await eventually(lambda: bool(r.flow.arrivals))
        parts = [concatenation(sent.submit.user_data) for sent in r.modem.sent]
        assert [(p.total, p.part) for p in parts if p] == [(3, 1), (3, 2), (3, 3)]
        assert len({p.reference for p in parts if p}) == 1
        assert r.flow.ids == [f"{r.modem.sent[-1].mr}-447700900123"]
        found, _ = receipt(r.flow.arrivals[0])
        assert found.state == MessageState.DELIVERED
        await eventually(lambda: not r.modem._inbox._unacknowledged)
        assert len(r.flow.arrivals) == 1


def long_message(octets: int, **fields: Any) -> Any:
    text = bytes(97 + i % 26 for i in range(octets))
    payload = b"\x04\x24" + len(text).to_bytes(2) + text
    return message(b"", tlvs=payload, **{"registered_delivery": 1, **fields})


async def test_one_part_that_failed_fails_the_message() -> None:
    async with rig(ModemOptions(report_status=None)) as r:
        upstream = await r.started()
        upstream.send([long_message(400)])
        await eventually(lambda: r.flow.statuses == [0])
        r.modem.report(r.modem.sent[0], 0)
        r.modem.report(r.modem.sent[1], 0x46)
        r.modem.report(r.modem.sent[2], 0)
        await eventually(lambda: not r.modem.network.waiting and bool(r.flow.arrivals))
        found, _ = receipt(r.flow.arrivals[0])
        assert (found.state, found.error) == (MessageState.EXPIRED, "070")
        assert len(r.flow.arrivals) == 1


async def test_a_report_of_an_unknown_message_is_handed_on_as_it_is() -> None:
    async with rig(ModemOptions(report_status=None)) as r:
        upstream = await r.started()
        upstream.send([message(registered_delivery=1)])
        await eventually(lambda: r.flow.statuses == [0])
        upstream._worker._reports._waiting.clear()  # as after a restart
        r.modem.report(r.modem.sent[0], 0)
        await eventually(lambda: bool(r.flow.arrivals))
        found, delivery = receipt(r.flow.arrivals[0])
        assert found.smsc_message_id == upstream.response_key(r.flow.ids[0])
        assert delivery.source_addr == "447700900123"


@pytest.mark.parametrize(
    ("code", "status"),
    [(1, smpp.ESME_RINVDSTADR), (10, smpp.ESME_RSUBMITFAIL), (42, smpp.ESME_RTHROTTLED)],
)
async def test_a_refusal_is_an_answer(code: int, status: int) -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.refuse_with = lambda _submit: code
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [status])
        assert not r.flow.doubts
        r.modem.refuse_with = None
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [status, 0])


async def test_a_service_centre_that_did_not_answer_leaves_a_doubt() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.refuse_with = lambda _submit: 332
        upstream.send([message()])
        await eventually(lambda: len(r.flow.doubts) == 1)
        assert not r.flow.answers


async def test_a_later_part_is_tried_again_and_the_first_never() -> None:
    async with rig() as r:
        upstream = await r.started()
        seen: list[int] = []

        def refuse(submit: Submit) -> int | None:
            part = concatenation(submit.user_data)
            assert part is not None
            seen.append(part.part)
            return 42 if seen.count(2) < 3 and part.part == 2 else None

        r.modem.refuse_with = refuse
        upstream.send([long_message(400)])
        await eventually(lambda: r.flow.statuses == [0])
        assert seen == [1, 2, 2, 2, 3]


async def test_a_message_that_stays_half_sent_is_refused_for_good() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.refuse_with = lambda s: 42 if s.user_data[5] == 2 else None
        upstream.send([long_message(400)])
        await eventually(lambda: r.flow.statuses == [smpp.ESME_RSUBMITFAIL])
        assert upstream.rule(smpp.ESME_RSUBMITFAIL) == "pass"
        assert len(r.modem.sent) == 1


async def test_parts_that_take_too_long_are_refused_and_nothing_is_sent_again() -> None:
    async with rig(ModemOptions(send_delay_s=0.1)) as r:
        upstream = await r.started()
        with patch.object(modem_work, "JOB_S", 0.15):
            upstream.send([long_message(1500), message()])
            await eventually(lambda: r.flow.statuses == [smpp.ESME_RSUBMITFAIL, 0])
        assert 2 <= len(r.modem.sent) < 5
        assert modem_work.answer_within_s(upstream.settings) > 900


async def test_a_submit_multi_goes_to_each_and_names_who_was_refused() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.modem.refuse_with = lambda s: 1 if s.destination.digits == "4420" else None
        body = multi_body(b"4410", b"4420", b"abc!", b"4430")
        upstream.send([message(command_id=smpp.SUBMIT_MULTI, body=body)])
        await eventually(lambda: len(r.flow.answers) == 1)
        _, status, response, _ = r.flow.answers[0]
        assert status == 0
        assert refused_destinations(response) == ["4420", "abc!"]
        assert [s.submit.destination.digits for s in r.modem.sent] == ["4410", "4430"]
        await eventually(lambda: len(r.flow.arrivals) == 2)
        found = [receipt(body) for body in r.flow.arrivals]
        assert {d.source_addr for _, d in found} == {"4410", "4430"}
        assert len({f.smsc_message_id for f, _ in found}) == 1


async def test_what_a_modem_cannot_send_is_refused_at_once() -> None:
    async with rig() as r:
        upstream = await r.started()
        upstream.send([message(destination=b"nobody"), message()])
        await eventually(lambda: r.flow.statuses == [smpp.ESME_RINVDSTADR, 0])


async def test_messages_keep_their_order_and_address_rules_apply() -> None:
    async with rig() as r:
        upstream = await r.started(address={"strip_prefix": "44", "add_prefix": "0"})
        upstream.send([message(b"%d" % i) for i in range(5)])
        await eventually(lambda: len(r.flow.answers) == 5)
        assert [s.submit.user_data for s in r.modem.sent] == [b"%d" % i for i in range(5)]
        assert {s.submit.destination.digits for s in r.modem.sent} == {"07700900123"}
        assert r.flow.ids[0].endswith("-07700900123")
        assert upstream.response_key(r.flow.ids[0]) == f"{r.modem.sent[0].mr}-0900123"


async def test_the_validity_period_goes_with_it() -> None:
    async with rig() as r:
        upstream = await r.started()
        head, _, _ = message().body.partition(bytes(9) + b"\x05hello")
        body = head + bytes(4) + b"000000010000000R\0" + bytes(4) + b"\x05hello"
        upstream.send([message(body=body)])
        await eventually(lambda: bool(r.flow.answers))
        assert r.flow.statuses == [0]
        assert r.modem.sent[0].submit.validity_s == 3600


async def test_a_schedule_is_nothing_that_a_modem_keeps() -> None:
    async with rig() as r:
        upstream = await r.started()
        head, _, _ = message().body.partition(bytes(9) + b"\x05hello")
        body = head + bytes(3) + b"000000010000000R\0\0" + bytes(4) + b"\x05hello"
        upstream.send([message(body=body)])
        await eventually(lambda: r.flow.statuses == [smpp.ESME_RINVSCHED])
        assert not r.modem.sent


async def test_the_rate_is_that_of_parts() -> None:
    async with rig() as r:
        upstream = await r.started(rate=20.0)
        began = asyncio.get_running_loop().time()
        upstream.send([long_message(400), message()])
        await eventually(lambda: r.flow.statuses == [0, 0])
        assert asyncio.get_running_loop().time() - began >= 3 / 20


async def test_room_and_spare_are_small_and_told() -> None:
    async with rig(ModemOptions(send_delay_s=0.05)) as r:
        upstream = await r.started(backlog_max=5)
        assert (upstream.room, upstream.spare, upstream.healthy) == (5, 2, True)
        before = r.rooms
        upstream.send([message() for _ in range(3)])
        assert (upstream.room, upstream.spare) == (2, 0)
        await eventually(lambda: len(r.flow.answers) == 3)
        assert upstream.spare == 2
        assert r.rooms > before
        assert not upstream.operate(Operation(smpp.QUERY_SM, b"", lambda *_: None))


async def test_who_waits_too_long_is_not_sent() -> None:
    async with rig(ModemOptions(send_delay_s=0.5)) as r:
        upstream = await r.started(answer_timeout_s=0.7)
        first, second = message(b"1"), message(b"2")
        second.waits_until = asyncio.get_running_loop().time() + 0.05
        upstream.send([first, second])
        await eventually(lambda: r.flow.timed_out == [second])
        await eventually(lambda: r.flow.statuses == [0])
        assert len(r.modem.sent) == 1


async def test_a_stop_leaves_nothing_unsaid() -> None:
    async with rig(ModemOptions(send_delay_s=0.5)) as r:
        upstream = await r.started(answer_timeout_s=5)
        first, second = message(b"1"), message(b"2")
        upstream.send([first, second])
        await eventually(lambda: any(c.name == "+CMGS" for c in r.modem.commands))
        await eventually(
            lambda: upstream._worker.job is not None and upstream._worker.job.in_flight
        )
        await upstream.stop(0.05)
        assert [m for m, _ in r.flow.doubts] == [first]
        assert r.flow.forwarded == [second]
        assert not upstream.bound


async def test_a_stop_with_patience_sends_what_waits() -> None:
    async with rig() as r:
        upstream = await r.started()
        upstream.send([message(), message()])
        await upstream.stop(5)
        assert r.flow.statuses == [0, 0]
        assert sum(r.usage.hours.values()) == 2
