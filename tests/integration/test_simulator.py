"""The simulated carrier, driven by smpplib (aiosmpplib: test_simulator_client.py)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import smpplib.client
import smpplib.exceptions

from proxy.simulator import smsc_octets
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.smpp import vocabulary as smpp


@pytest.fixture
async def smsc() -> AsyncIterator[SimulatedSmsc]:
    carrier = SimulatedSmsc(SmscOptions(receipt_delay_s=0.0))
    await carrier.start()
    yield carrier
    await carrier.stop()


class Esme:
    """A blocking smpplib client, each of whose calls runs in a thread."""

    def __init__(self, port: int) -> None:
        self.lib = smpplib.client.Client(
            "127.0.0.1", port, timeout=10, allow_unknown_opt_params=True
        )

    async def call(self, name: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self.lib, name), **arguments)

    async def submit(self, destination: str = "38591", text: bytes = b"hi", **fields: Any) -> Any:
        """Send a submit_sm and read the next PDU."""
        await self.call(
            "send_message",
            source_addr="SHOP",
            destination_addr=destination,
            short_message=text,
            **fields,
        )
        return await self.call("read_pdu")

    async def receive(self) -> Any:
        """Read a deliver_sm and acknowledge it."""
        got: list[Any] = []
        self.lib.set_message_received_handler(lambda pdu: got.append(pdu))  # noqa: PLW0108 - pdu=…
        await self.call("read_once")
        return got[0]

    async def ask(self, command_id: int, body: bytes, sequence: int = 77) -> tuple[int, int, bytes]:
        """Send a PDU that smpplib cannot; the answer's command_id, status and body."""
        return await self.ask_raw(smsc_octets.build(command_id, 0, sequence, body))

    async def ask_raw(self, pdu: bytes) -> tuple[int, int, bytes]:
        await asyncio.to_thread(self.lib._socket.sendall, pdu)
        head = await asyncio.to_thread(self.lib._recv_exact, 16)
        length, command_id, status, _sequence = struct.unpack(">IIII", head)
        return command_id, status, await asyncio.to_thread(self.lib._recv_exact, length - 16)


@asynccontextmanager
async def bound(smsc: SimulatedSmsc, how: str = "transceiver", **bind: Any) -> AsyncIterator[Esme]:
    esme = Esme(smsc.port)
    try:
        await esme.call("connect")
        await esme.call(f"bind_{how}", system_id="shop", password="secret", **bind)
        yield esme
    finally:
        await esme.call("disconnect")


def submit_multi(*destinations: str) -> bytes:
    listed = b"".join(b"\x01\x01\x01" + d.encode() + b"\0" for d in destinations)
    head = b"\0\x05\0SHOP\0" + bytes((len(destinations),)) + listed
    return head + b"\0\0\0" + b"\0\0" + b"\x01\0\0\0" + b"\x02hi"


# Binding.


@pytest.mark.parametrize("how", ["receiver", "transmitter", "transceiver"])
async def test_binds_and_unbinds(smsc: SimulatedSmsc, how: str) -> None:
    async with bound(smsc, how) as esme:
        assert smsc.bound == [("shop", how)]
        assert (await esme.call("unbind")).command == "unbind_resp"
        await smsc.wait_for(lambda s: not s.bound)
    assert smsc.pdus == {f"bind_{how}": 1, "unbind": 1}


async def test_refuses_a_wrong_password_and_a_second_bind(smsc: SimulatedSmsc) -> None:
    smsc.options.password = "right"
    with pytest.raises(smpplib.exceptions.PDUError) as refused:
        async with bound(smsc):
            pass
    assert refused.value.args[1] == smpp.ESME_RINVPASWD
    smsc.options.password = "secret"
    async with bound(smsc) as esme:
        answer = await esme.ask(smpp.BIND_TRANSMITTER, b"shop\0secret\0\0\x34\0\0\0")
        assert answer == (smpp.BIND_TRANSMITTER | smpp.RESP, smpp.ESME_RALYBND, b"")


async def test_a_receiver_may_not_submit(smsc: SimulatedSmsc) -> None:
    async with bound(smsc, "receiver") as esme:
        answer = await esme.ask(smpp.SUBMIT_MULTI, submit_multi("38591"))
        assert answer == (smpp.SUBMIT_MULTI_RESP, smpp.ESME_RINVBNDSTS, b"")
    assert not smsc.submits


# Submitting.


@pytest.mark.parametrize(
    ("response_ids", "receipt_ids", "width"),
    [("decimal", "decimal", 0), ("hex", "decimal", 20), ("decimal", "hex", 0)],
)
async def test_a_receipt_follows_with_the_id_in_its_own_form(
    smsc: SimulatedSmsc, response_ids: Any, receipt_ids: Any, width: int
) -> None:
    smsc.options.response_ids, smsc.options.receipt_ids = response_ids, receipt_ids
    smsc.options.id_width = width
    async with bound(smsc) as esme:
        response = await esme.submit(registered_delivery=1)
        receipt = await esme.receive()
    number = int(response.message_id, 16 if response_ids == "hex" else 10)
    expected = f"{number:0{width}{'X' if receipt_ids == 'hex' else 'd'}}"
    assert response.status == 0
    assert receipt.esm_class == smpp.ESM_RECEIPT
    assert receipt.short_message.startswith(f"id:{expected} sub:001 dlvrd:001 ".encode())
    assert b" stat:DELIVRD err:000 text:hi" in receipt.short_message
    assert receipt.receipted_message_id.rstrip(b"\0") == expected.encode()
    assert receipt.message_state == smpp.MessageState.DELIVERED
    assert (receipt.source_addr, receipt.destination_addr) == (b"38591", b"SHOP")
    submit = smsc.submits[0]
    assert submit.smsc_message_id == response.message_id.decode()
    assert (submit.source_addr, submit.destination_addrs) == ("SHOP", ["38591"])
    assert (submit.short_message, submit.status, submit.system_id) == (b"hi", 0, "shop")


async def test_ids_increase(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        ids = [int((await esme.submit()).message_id) for _ in range(3)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(("asked", "fails", "comes"), [(1, 1, True), (2, 1, True), (2, 0, False)])
async def test_receipts_on_failure(
    smsc: SimulatedSmsc, asked: int, fails: int, comes: bool
) -> None:
    smsc.options.fail_rate = fails
    async with bound(smsc) as esme:
        await esme.submit(registered_delivery=asked)
        # What comes next is the receipt, or the answer to this.
        await esme.call("send_message", source_addr="A", destination_addr="1", short_message=b"2")
        following = await esme.call("read_pdu")
    assert following.command == ("deliver_sm" if comes else "submit_sm_resp")
    if comes:
        assert b"stat:UNDELIV err:001" in following.short_message


async def test_refuses_on_request_and_by_destination(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        assert (await esme.submit("99912")).status == smpp.ESME_RINVDSTADR
        smsc.options.refuse_rate = 1.0
        assert (await esme.submit()).status == smpp.ESME_RTHROTTLED
        smsc.options.refuse_status = smpp.ESME_RSUBMITFAIL
        assert (await esme.submit()).status == smpp.ESME_RSUBMITFAIL
        smsc.options.refuse_rate = 0.0
        assert (await esme.submit()).status == smpp.ESME_ROK
    assert [s.status for s in smsc.submits] == [0x0B, 0x58, 0x45, 0]


async def test_silence_answers_nothing_but_the_link_lives(smsc: SimulatedSmsc) -> None:
    smsc.options.silence_rate = 1.0
    async with bound(smsc) as esme:
        await esme.call("send_message", source_addr="A", destination_addr="1", short_message=b"x")
        command_id, _, _ = await esme.ask(smpp.ENQUIRE_LINK, b"")
        assert command_id == smpp.ENQUIRE_LINK_RESP
    assert [s.status for s in smsc.submits] == [None]


async def test_held_answers_come_in_order_when_released(smsc: SimulatedSmsc) -> None:
    smsc.hold = True
    async with bound(smsc) as esme:
        for text in (b"one", b"two"):
            await esme.call(
                "send_message", source_addr="A", destination_addr="1", short_message=text
            )
        await smsc.wait_for(lambda s: len(s.submits) == 2)
        command_id, _, _ = await esme.ask(smpp.ENQUIRE_LINK, b"")
        assert command_id == smpp.ENQUIRE_LINK_RESP
        assert smsc.release_held() == 2
        answers = [await esme.call("read_pdu") for _ in range(2)]
    expected = [s.smsc_message_id for s in smsc.submits]
    assert [a.message_id.decode() for a in answers] == expected


async def test_data_sm_carries_its_text_in_a_tlv(smsc: SimulatedSmsc) -> None:
    body = b"\0\x05\0SHOP\0\x01\x0138591\0\0\0\0" + smsc_octets.tlv(0x0424, b"a" * 300)
    async with bound(smsc) as esme:
        command_id, status, answer = await esme.ask(smpp.DATA_SM, body)
    assert (command_id, status) == (smpp.DATA_SM_RESP, 0)
    assert answer.rstrip(b"\0").decode() == smsc.submits[0].smsc_message_id
    assert smsc.submits[0].short_message == b"a" * 300


async def test_submit_multi_names_the_destinations_it_refused(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        _, status, answer = await esme.ask(
            smpp.SUBMIT_MULTI, submit_multi("38591", "99901", "38592", "99902")
        )
        receipts = [await esme.receive() for _ in range(2)]
    message_id, _, rest = answer.partition(b"\0")
    assert (status, message_id.decode()) == (0, smsc.submits[0].smsc_message_id)
    assert rest == b"\x02" + b"".join(
        b"\x01\x01" + d + b"\0" + bytes((0, 0, 0, 0x0B)) for d in (b"99901", b"99902")
    )
    assert [r.source_addr for r in receipts] == [b"38591", b"38592"]
    assert smsc.submits[0].destination_addrs == ["38591", "99901", "38592", "99902"]


# Asking about messages.


def cancel(message_id: bytes) -> bytes:
    return b"\0" + message_id + b"\0" + b"\x05\0SHOP\0" + b"\x01\x0138591\0"


def replace(message_id: bytes) -> bytes:
    return message_id + b"\0\x05\0SHOP\0" + b"\0\0" + b"\x01\0" + b"\x03new"


async def test_query_cancel_and_replace(smsc: SimulatedSmsc) -> None:
    smsc.options.receipt_delay_s = 3600.0
    async with bound(smsc) as esme:
        on_its_way = (await esme.submit()).message_id
        await esme.call("query_message", message_id=on_its_way.decode(), source_addr="SHOP")
        state = await esme.call("read_pdu")
        assert (state.message_id, state.final_date) == (on_its_way, b"")
        assert state.message_state == smpp.MessageState.ENROUTE
        assert (await esme.ask(smpp.REPLACE_SM, replace(on_its_way)))[1] == 0
        assert (await esme.ask(smpp.CANCEL_SM, cancel(on_its_way)))[1] == 0
        await esme.call("query_message", message_id=on_its_way.decode(), source_addr="SHOP")
        assert (await esme.call("read_pdu")).message_state == smpp.MessageState.DELETED

        smsc.options.receipt_delay_s = 0.0
        delivered = (await esme.submit()).message_id
        await esme.call("query_message", message_id=delivered.decode(), source_addr="SHOP")
        state = await esme.call("read_pdu")
        assert (state.message_state, state.error_code) == (smpp.MessageState.DELIVERED, 0)
        assert len(state.final_date) == 16


async def test_operations_on_an_unknown_id(smsc: SimulatedSmsc) -> None:
    query = b"none\0\x05\0SHOP\0"
    async with bound(smsc) as esme:
        assert (await esme.ask(smpp.QUERY_SM, query))[1] == smpp.ESME_RQUERYFAIL
        assert (await esme.ask(smpp.CANCEL_SM, cancel(b"none")))[1] == smpp.ESME_RCANCELFAIL
        assert (await esme.ask(smpp.REPLACE_SM, replace(b"none")))[1] == smpp.ESME_RREPLACEFAIL


# Bad input.


async def test_an_unknown_command_is_nacked(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        assert await esme.ask(0x0112, b"") == (smpp.GENERIC_NACK, smpp.ESME_RINVCMDID, b"")
        assert (await esme.submit()).status == 0


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">IIII", 15, smpp.SUBMIT_SM, 0, 9),
        struct.pack(">IIII", 0x7FFFFFFF, smpp.SUBMIT_SM, 0, 9),
        smsc_octets.build(smpp.SUBMIT_SM, 0, 9, b"\0\x05\0no end"),
        smsc_octets.build(smpp.SUBMIT_SM, 0, 9, submit_multi("1")[:-1]),
    ],
)
async def test_a_wrong_length_is_nacked_and_closes(smsc: SimulatedSmsc, pdu: bytes) -> None:
    async with bound(smsc) as esme:
        assert await esme.ask_raw(pdu) == (smpp.GENERIC_NACK, smpp.ESME_RINVCMDLEN, b"")
        await smsc.wait_for(lambda s: not s.bound)
        with pytest.raises(smpplib.exceptions.ConnectionError):
            await esme.call("read_pdu")


# Links, and what the carrier sends of its own accord.


async def test_dropped_links_may_come_back_unless_listening_is_paused(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        smsc.drop_connections()
        with pytest.raises((smpplib.exceptions.ConnectionError, OSError)):
            await esme.call("read_pdu")
    async with bound(smsc):
        assert smsc.bound == [("shop", "transceiver")]
    await smsc.pause_listening()
    with pytest.raises(smpplib.exceptions.ConnectionError):
        async with bound(smsc):
            pass
    await smsc.resume_listening()
    async with bound(smsc):
        assert smsc.bound


async def test_stop_is_idempotent_and_start_takes_the_same_port(smsc: SimulatedSmsc) -> None:
    port = smsc.port
    async with bound(smsc) as esme:
        await smsc.stop()
        await smsc.stop()
        with pytest.raises(smpplib.exceptions.ConnectionError):
            await esme.call("read_pdu")
    await smsc.start()
    assert smsc.port == port
    async with bound(smsc):
        assert smsc.bound


async def test_mo_waits_for_a_link_and_returns_the_answer(smsc: SimulatedSmsc) -> None:
    vendor = smsc_octets.tlv(0x1400, b"v")
    sending = asyncio.create_task(
        smsc.send_mo("38591", "1234", "š".encode("utf-16-be"), data_coding=8, tlvs=vendor)
    )
    async with bound(smsc) as esme:
        message = await esme.receive()
    assert (message.source_addr, message.destination_addr) == (b"38591", b"1234")
    assert (message.short_message, message.data_coding) == ("š".encode("utf-16-be"), 8)
    assert await sending == 0


async def test_mo_goes_to_the_system_id_asked_for(smsc: SimulatedSmsc) -> None:
    async with bound(smsc):
        with pytest.raises(TimeoutError):
            await smsc.send_mo("1", "2", b"x", system_id="other", timeout_s=0.05)
    with pytest.raises(ValueError, match="254"):
        await smsc.send_mo("1", "2", b"x" * 255)


async def test_an_arbitrary_receipt_and_raw_octets(smsc: SimulatedSmsc) -> None:
    with pytest.raises(ConnectionError):
        await smsc.send_pdu(b"x")
    async with bound(smsc) as esme:
        sending = asyncio.create_task(
            smsc.send_receipt("no such", "EXPIRED", source="38591", destination="SHOP")
        )
        receipt = await esme.receive()
        assert receipt.short_message.startswith(b"id:no such sub:001 dlvrd:000 ")
        assert receipt.message_state == smpp.MessageState.EXPIRED
        assert await sending == 0
        await smsc.send_pdu(smsc_octets.build(smpp.ENQUIRE_LINK, 0, 5))
        assert (await esme.call("read_pdu")).command == "enquire_link"


async def test_a_receipt_refused_for_now_comes_again(smsc: SimulatedSmsc) -> None:
    async with bound(smsc) as esme:
        await esme.submit(registered_delivery=1)
        first = await esme.call("read_pdu")
        nack = smsc_octets.build(smpp.DELIVER_SM_RESP, smpp.ESME_RMSGQFUL, first.sequence, b"\0")
        await asyncio.to_thread(esme.lib._socket.sendall, nack)
        second = await esme.receive()
        assert second.short_message == first.short_message
        await smsc.wait_for(lambda s: s.pdus["deliver_sm_resp"] == 2)


async def test_receipts_are_kept_and_sent_again_on_another_link(smsc: SimulatedSmsc) -> None:
    count = 14
    async with bound(smsc, "transmitter") as sender:
        for _ in range(count):
            await sender.submit(registered_delivery=1)
        async with bound(smsc) as first:
            # At most ten wait for an answer: what comes after them is the answer to this.
            got = [await first.call("read_pdu") for _ in range(10)]
            assert (await first.ask(smpp.ENQUIRE_LINK, b""))[0] == smpp.ENQUIRE_LINK_RESP
        async with bound(smsc, "receiver") as second:
            again = [await second.receive() for _ in range(count)]
    texts = [pdu.short_message for pdu in again]
    assert texts[:10] == [pdu.short_message for pdu in got]
    assert len(set(texts)) == count


async def test_wait_for_times_out_and_passes_errors_on(smsc: SimulatedSmsc) -> None:
    with pytest.raises(TimeoutError):
        await smsc.wait_for(lambda s: bool(s.submits), timeout_s=0.01)

    def broken(s: SimulatedSmsc) -> bool:
        return bool(s.pdus) and s.submits[5].status == 0

    waiting = asyncio.create_task(smsc.wait_for(broken))
    async with bound(smsc):
        with pytest.raises(IndexError):
            await waiting
