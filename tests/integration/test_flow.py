"""The main job, end to end, on real PostgreSQL and real sockets."""

from __future__ import annotations

from support.esme import BIND_RX, BIND_TX, CANCEL_SM, QUERY_SM, REPLACE_SM, SUBMIT_MULTI, message_id
from support.running import running_proxy
from support.waiting import eventually


async def test_a_message_is_charged_forwarded_and_answered(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        assert (await esme.bind()).status == 0
        response = await esme.submit(b"hello", registered_delivery=1)
        assert response.status == 0
        our_id = message_id(response)
        assert await run.balance() == 99
        assert await run.state(our_id) == "charged"
        await esme.wait(lambda: len(esme.deliveries) == 1)
        receipt = esme.deliveries[0].body
        assert b"id:%d " % our_id in receipt
        assert b"stat:DELIVRD" in receipt
        assert b"\x00\x1e" + (len(str(our_id)) + 1).to_bytes(2, "big") + b"%d\0" % our_id in receipt
        await run.assert_books_balance()


async def test_an_empty_account_is_refused_and_served_again_after_a_top_up(
    database_url: str,
) -> None:
    async with running_proxy(database_url, credits=2) as run, run.esme() as esme:
        await esme.bind()
        statuses = [(await esme.submit()).status for _ in range(3)]
        assert statuses == [0, 0, 0x45]
        assert len(run.smsc.submits) == 2
        await run.add_credit("demo", 1)
        assert (await esme.submit()).status == 0
        assert (await esme.submit()).status == 0x45

        async def told() -> bool:
            rows = await run.fetch(
                "SELECT count FROM v_event"
                " WHERE text = 'Could not send message. Insufficient credits'"
            )
            return sum(r["count"] for r in rows) == 2

        await eventually(told)
        await run.assert_books_balance()


async def test_a_message_that_does_not_fit_does_not_block_a_smaller_one(database_url: str) -> None:
    async with running_proxy(database_url, credits=2) as run, run.esme() as esme:
        await esme.bind()
        long_one = esme.next_sequence()
        short_one = esme.next_sequence()
        from support.esme import SUBMIT_SM, pdu, submit_body

        payload = b"\x04\x24\x01\x90" + b"x" * 400  # three segments
        esme.write(
            pdu(SUBMIT_SM, long_one, submit_body(b"", tlvs=payload))
            + pdu(SUBMIT_SM, short_one, submit_body(b"hi"))
        )
        assert (await esme.response(long_one)).status == 0x45
        assert (await esme.response(short_one)).status == 0
        assert await run.balance() == 1


async def test_a_refusal_of_the_carrier_is_passed_on_and_the_credit_released(
    database_url: str,
) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        run.smsc.options.refuse_rate = 1.0
        run.smsc.options.refuse_status = 0x66
        assert (await esme.submit()).status == 0x66
        assert await run.balance() == 100
        log = await run.fetch("SELECT operation, change, note FROM v_credit_log ORDER BY id")
        assert [r["operation"] for r in log] == ["add", "use", "refund"]
        assert "ESME_RX_R_APPN" in log[-1]["note"]
        await run.assert_books_balance()


async def test_each_refused_destination_of_a_submit_multi_is_released(database_url: str) -> None:
    def destination(address: bytes) -> bytes:
        return b"\x01\x01\x01" + address + b"\0"

    body = (
        b"\0\1\1"
        + b"123\0"
        + b"\x03"
        + destination(b"447000000001")
        + destination(b"99900000")
        + destination(b"447000000002")
        + b"\0\0\0\0\0\0\0\0\0\x05hello"
    )
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        response = await esme.request(SUBMIT_MULTI, body)
        assert response.status == 0
        our_id = message_id(response)
        unsuccessful = response.body.split(b"\0", 1)[1]
        assert unsuccessful == b"\x01\x01\x0199900000\0\0\0\0\x0b"
        assert await run.balance() == 98
        assert run.smsc.submits[-1].body == body
        row = (await run.fetch("SELECT * FROM v_message WHERE id = $1", our_id))[0]
        assert (row["state"], row["price"], row["released"]) == ("charged", 3, 1)
        await run.assert_books_balance()


async def test_a_receipt_waits_for_the_next_bind_in_order(database_url: str) -> None:
    async with running_proxy(database_url) as run:
        async with run.esme() as sender:
            await sender.bind(command_id=BIND_TX)
            ids = [message_id(await sender.submit(registered_delivery=1)) for _ in range(5)]

            async def all_wait() -> bool:
                return await run.fetchval("SELECT count(*) FROM delivery") == 5

            await eventually(all_wait)
        async with run.esme() as receiver:
            await receiver.bind(command_id=BIND_RX)
            await receiver.wait(lambda: len(receiver.deliveries) == 5)
            for our_id, delivery in zip(ids, receiver.deliveries, strict=True):
                assert b"id:%d " % our_id in delivery.body

            async def all_ended() -> bool:
                return await run.fetchval("SELECT count(*) FROM delivered") == 5

            await eventually(all_ended)
        row = (await run.fetch("SELECT * FROM v_message ORDER BY id LIMIT 1"))[0]
        assert row["receipt_state"] == "DELIVRD"
        assert row["receipt_delivered_at"] is not None


async def test_a_temporary_refusal_of_a_receipt_is_tried_again(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        esme.deliver_status = 0x14
        await esme.submit(registered_delivery=1)
        await esme.wait(lambda: len(esme.deliveries) >= 2)
        esme.deliver_status = 0

        async def ended() -> bool:
            return await run.fetchval("SELECT count(*) FROM delivered") == 1

        await eventually(ended)


async def test_an_mo_message_finds_its_account(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await run.add_account("shop", inbound="4477*")
        await eventually(lambda: run.proxy.deliver.inbound.find("447711") is not None)
        await esme.bind("shop", "shop")
        text = bytes(range(256))[:100]
        assert await run.smsc.send_mo("4411111", "447711", text, data_coding=4) == 0
        await esme.wait(lambda: len(esme.deliveries) == 1)
        assert text in esme.deliveries[0].body
        assert await run.smsc.send_mo("4411111", "999", b"x") == 0x65


async def test_operations_find_only_the_owners_message(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as owner, run.esme() as other:
        await run.add_account("other")
        await owner.bind()
        await other.bind("other", "other")
        our_id = b"%d" % message_id(await owner.submit())
        query = our_id + b"\0\1\1" + b"12345\0"
        response = await owner.request(QUERY_SM, query)
        assert response.status == 0
        assert response.body.startswith(our_id + b"\0")
        assert (await other.request(QUERY_SM, query)).status == 0x0C
        cancel = b"\0" + our_id + b"\0\1\1" + b"12345\0" + b"\1\1" + b"447700900123\0"
        assert (await other.request(CANCEL_SM, cancel)).status == 0x0C
        assert (await owner.request(CANCEL_SM, cancel)).status == 0
        assert run.smsc.pdus["cancel_sm"] == 1


async def test_a_replacement_may_not_be_longer_than_what_was_paid(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        our_id = b"%d" % message_id(await esme.submit())
        head = our_id + b"\0\1\1" + b"12345\0" + b"\0\0\0\0"
        payload = b"\x04\x24\x13\x88" + b"x" * 5000
        assert (await esme.request(REPLACE_SM, head + b"\x05howdy")).status == 0
        assert (await esme.request(REPLACE_SM, head + b"\0" + payload)).status == 0x13
        assert (await esme.request(REPLACE_SM, head + b"\xc8" + b"x" * 200)).status == 0x13
        assert run.smsc.pdus["replace_sm"] == 1


async def test_without_a_bound_upstream_nothing_is_debited(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        await run.smsc.pause_listening()
        run.smsc.drop_connections()
        await eventually(lambda: not run.proxy.readiness()["upstream"])
        assert (await esme.submit()).status == 0x08
        assert await run.fetchval("SELECT count(*) FROM message") == 0
        await run.smsc.resume_listening()
        await eventually(lambda: run.proxy.readiness()["upstream"])
        assert (await esme.submit()).status == 0
