"""How a client leaves."""

from __future__ import annotations

from support.esme import SUBMIT_SM, UNBIND, pdu, submit_body
from support.running import running_proxy


async def test_an_unbind_behind_a_submit_waits_for_its_answer(database_url: str) -> None:
    async with running_proxy(database_url) as run, run.esme() as esme:
        await esme.bind()
        submit, unbind = esme.next_sequence(), esme.next_sequence()
        esme.write(pdu(SUBMIT_SM, submit, submit_body()) + pdu(UNBIND, unbind))
        await esme.wait(lambda: esme.closed)
        assert [(r.sequence_number, r.status) for r in esme.received] == [(submit, 0), (unbind, 0)]


async def test_a_client_that_leaves_without_a_word_is_charged_for_what_went_out(
    database_url: str,
) -> None:
    async with running_proxy(database_url) as run:
        run.smsc.hold = True
        async with run.esme() as esme:
            await esme.bind()
            esme.send(SUBMIT_SM, submit_body())
            await run.smsc.wait_for(lambda smsc: len(smsc.submits) == 1)
        run.smsc.release_held()
        await run.proxy.settle.passed()
        async with run.esme() as esme:
            await esme.bind()
            await esme.submit()
        assert await run.balance() == 98
        await run.assert_books_balance()
