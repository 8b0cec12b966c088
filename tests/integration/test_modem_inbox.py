"""What a modem receives goes to the right account, and stays in the modem until it is kept."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import patch

import pytest
from support.modem_flow import Rig, message, rig
from support.waiting import eventually

from proxy.gsm.tpdu import Deliver, Number, encode_deliver, with_smsc
from proxy.links import modem_inbox
from proxy.simulator.modem import ModemOptions
from proxy.simulator.modem_at import AtError
from proxy.simulator.modem_storage import Stored
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import read_delivery


def deliver(text: bytes = b"hi", **fields: Any) -> Deliver:
    values: dict[str, Any] = {
        "source": Number(1, 1, "447700900999"), "protocol_id": 0, "data_coding": 0,
        "sent_at_s": time.time() // 1, "udhi": False, "more_to_send": False,
        "report_wanted": False, "reply_path": False, "user_data": text,
    }  # fmt: skip
    return Deliver(**{**values, **fields})


def part(number: int, total: int, text: bytes) -> Deliver:
    return deliver(b"\5\0\3\x17" + bytes((total, number)) + text, udhi=True)


def stored(r: Rig) -> int:
    return sum(len(storage.messages) for storage in r.modem.storages.values())


def deletes(r: Rig) -> int:
    return sum(command.name == "+CMGD" for command in r.modem.commands)


async def test_a_message_is_kept_and_then_deleted() -> None:
    async with rig() as r:
        await r.started(account="acme")
        r.flow.keep = False
        r.modem.receive(deliver())
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert stored(r) == 1
        read = read_delivery(smpp.DELIVER_SM, r.flow.arrivals[0])
        assert (read.source_addr, read.destination_addr) == ("447700900999", "447700900001")
        assert read.text == b"hi"
        assert r.flow.accounts == [42]
        assert deletes(r) == 0
        r.flow.keep_now()
        await eventually(lambda: stored(r) == 0)


async def test_without_an_account_the_number_decides() -> None:
    async with rig() as r:
        await r.started()
        r.modem.receive(deliver())
        await eventually(lambda: r.flow.accounts == [None])


async def test_what_nobody_takes_stays_and_is_deleted_when_there_is_no_room() -> None:
    async with rig(ModemOptions(storage_slots=5)) as r:
        r.flow.status = smpp.ESME_RX_P_APPN
        upstream = await r.started()
        for number in range(3):
            r.modem.receive(deliver(b"%d" % number))
        await eventually(lambda: len(r.flow.arrivals) == 3)
        upstream._inbox.look_again(0)
        await eventually(lambda: upstream._inbox._look_at > asyncio.get_running_loop().time())
        assert (stored(r), len(r.flow.arrivals), deletes(r)) == (3, 3, 0)
        r.modem.receive(deliver(b"3"))
        await eventually(lambda: len(r.flow.arrivals) == 4)
        upstream._inbox.look_again(0)
        await eventually(lambda: stored(r) == 0)
        assert len(r.flow.arrivals) == 4


async def test_what_cannot_be_kept_now_is_brought_again() -> None:
    with patch.object(modem_inbox, "AGAIN_S", 0.05):
        async with rig() as r:
            r.flow.status = smpp.ESME_RX_T_APPN
            await r.started()
            r.modem.receive(deliver())
            await eventually(lambda: len(r.flow.arrivals) >= 2)
            assert stored(r) == 1
            assert deletes(r) == 0
            r.flow.status = smpp.ESME_ROK
            await eventually(lambda: stored(r) == 0)


async def test_an_account_that_cannot_be_looked_up_is_waited_for() -> None:
    with patch.object(modem_inbox, "AGAIN_S", 0.05):
        async with rig() as r:
            broken = [True]

            async def account_id(_name: str) -> int | None:
                if broken[0]:
                    raise ConnectionError("no database")
                return 42

            setattr(r, "_account_id", account_id)  # noqa: B010
            await r.started(account="acme")
            r.modem.receive(deliver())
            await eventually(lambda: any(c.name == "+CMGR" for c in r.modem.commands))
            assert not r.flow.arrivals
            assert stored(r) == 1
            broken[0] = False
            await eventually(lambda: r.flow.accounts == [42] and stored(r) == 0)


async def test_parts_are_put_together_and_kept_together() -> None:
    async with rig() as r:
        await r.started(account="acme")
        r.flow.keep = False
        r.modem.receive(part(2, 2, b"world"))
        await eventually(lambda: any(c.name == "+CMGR" for c in r.modem.commands))
        r.modem.receive(part(1, 2, b"hello "))
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert read_delivery(smpp.DELIVER_SM, r.flow.arrivals[0]).text == b"hello world"
        assert (stored(r), deletes(r)) == (2, 0)
        r.flow.keep_now()
        await eventually(lambda: stored(r) == 0)


async def test_a_part_alone_stays_in_the_modem() -> None:
    async with rig() as r:
        upstream = await r.started(account="acme")
        r.modem.receive(part(1, 2, b"hello "))
        await eventually(lambda: any(c.name == "+CMGR" for c in r.modem.commands))
        looks = sum(c.name == "+CMGL" for c in r.modem.commands)
        upstream._inbox.look_again(0)
        await eventually(lambda: sum(c.name == "+CMGL" for c in r.modem.commands) > looks)
        await r.modem.unplug()
        await eventually(lambda: not upstream.bound)
        assert not r.flow.arrivals
        assert stored(r) == 1


async def test_what_was_stored_before_is_found_and_junk_only_goes_when_it_is_full() -> None:
    options = ModemOptions(storage_slots=5)
    async with rig(options) as r:
        store = r.modem.storages["SM"]
        good = with_smsc(encode_deliver(deliver(b"old")), "+447785016005")
        store.put(Stored(1, good))
        store.put(Stored(2, b"\0\1\0\x91\0\0\0"))  # not sent
        store.put(Stored(0, b"\0\xff"))  # nobody knows what
        upstream = await r.started(account="acme")
        await eventually(lambda: len(r.flow.arrivals) == 1 and len(store.messages) == 2)
        for _ in range(2):
            store.put(Stored(3, b"\0\1\0\x91\0\0\0"))
        upstream._inbox.look_again(0)
        await eventually(lambda: not store.messages)
        assert len(r.flow.arrivals) == 1


async def test_a_slot_that_got_another_message_is_not_emptied() -> None:
    async with rig() as r:
        upstream = await r.started(account="acme")
        r.flow.keep = False
        r.modem.receive(deliver(b"first"))
        await eventually(lambda: len(r.flow.waiting) == 1)
        # Somebody deletes it by hand, and another one comes to its place.
        (store,) = (s for s in r.modem.storages.values() if s.messages)
        store.messages.clear()
        r.modem.receive(deliver(b"second"))
        await eventually(lambda: len(r.flow.waiting) == 2)
        second = r.flow.waiting.pop()
        r.flow.keep_now()
        looks = sum(c.name == "+CMGL" for c in r.modem.commands)
        upstream._inbox.look_again(0)
        await eventually(lambda: sum(c.name == "+CMGL" for c in r.modem.commands) > looks)
        assert (stored(r), deletes(r)) == (1, 0)
        r.flow.waiting.append(second)
        r.flow.keep_now()
        await eventually(lambda: stored(r) == 0)
        assert len(r.flow.arrivals) == 2


async def test_a_delete_that_fails_brings_nothing_twice() -> None:
    async with rig() as r:
        upstream = await r.started(account="acme")
        refusals = [2]
        handler = r.modem._messages.handlers["+CMGD"]

        def refuse(command: Any) -> Any:
            if refusals[0]:
                refusals[0] -= 1
                raise AtError("CMS", 500)
            return handler(command)

        r.modem._messages.handlers["+CMGD"] = refuse
        r.modem.receive(deliver())
        await eventually(lambda: refusals[0] == 1)
        upstream._inbox.look_again(0)
        await eventually(lambda: refusals[0] == 0)
        upstream._inbox.look_again(0)
        await eventually(lambda: stored(r) == 0)
        assert len(r.flow.arrivals) == 1


async def test_reports_keep_coming_because_they_are_acknowledged() -> None:
    async with rig(ModemOptions(report_delay_s=0.01, ack_timeout_s=0.5)) as r:
        upstream = await r.started()
        upstream.send([message(registered_delivery=1) for _ in range(5)])
        await eventually(lambda: len(r.flow.arrivals) == 5)
        await eventually(lambda: sum(c.name == "+CNMA" for c in r.modem.commands) == 5)


async def test_a_report_is_acknowledged_when_it_is_kept() -> None:
    async with rig() as r:
        upstream = await r.started()
        r.flow.keep = False
        upstream.send([message(registered_delivery=1)])
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert not any(c.name == "+CNMA" for c in r.modem.commands)
        r.flow.keep_now()
        await eventually(lambda: any(c.name == "+CNMA" for c in r.modem.commands))


@pytest.mark.parametrize("where", ["received", "SR"])
async def test_reports_that_are_stored(where: Any) -> None:
    options = ModemOptions(report_delay_s=0.01, phase_2_plus=False, report_storage=where)
    async with rig(options) as r:
        upstream = await r.started()
        r.flow.keep = False
        upstream.send([message(registered_delivery=1)])
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert stored(r) == 1
        r.flow.keep_now()
        await eventually(lambda: stored(r) == 0)


async def test_messages_that_come_directly() -> None:
    cnmi = ((1, 2), (0, 2), (0,), (0, 1), (0,))
    async with rig(ModemOptions(cnmi=cnmi)) as r:
        await r.started(account="acme")
        r.flow.keep = False
        r.modem.receive(deliver())
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert not any(c.name == "+CNMA" for c in r.modem.commands)
        r.flow.keep_now()
        await eventually(lambda: any(c.name == "+CNMA" for c in r.modem.commands))
        r.modem.receive(part(1, 2, b"hello "))
        r.modem.receive(part(2, 2, b"world"))
        await eventually(lambda: len(r.flow.waiting) == 1)
        assert read_delivery(smpp.DELIVER_SM, r.flow.arrivals[-1]).text == b"hello world"


async def test_a_modem_that_stopped_handing_over_is_told_again() -> None:
    with patch.object(modem_inbox, "AGAIN_S", 0.05):
        async with rig(ModemOptions(report_delay_s=0.01, ack_timeout_s=0.05)) as r:
            upstream = await r.started()
            r.flow.keep = False
            upstream.send([message(registered_delivery=1)])
            await eventually(lambda: r.modem._device.settings.cnmi[3] == 0)
            r.flow.keep_now()
            await eventually(lambda: r.modem._device.settings.cnmi[3] == 1)
