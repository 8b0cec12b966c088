"""A charge whose answer is lost: what stands in the queue by it is not sent behind a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.books import Traffic, open_books
from support.faults import carrier, client_of, proxy_on
from support.waiting import eventually

from proxy.config import QueueSettings, RouteSettings
from proxy.store import ledger

ROUTE = RouteSettings(name="q", upstreams=["carrier1"], mode="queued")
FAST = QueueSettings(retry_min_s=0.05, retry_max_s=0.2)
NUMBER = 20


@pytest.mark.parametrize("claimed_first", [False, True])
async def test_a_message_whose_client_was_refused_is_neither_sent_nor_charged(
    database_url: str, monkeypatch: pytest.MonkeyPatch, claimed_first: bool
) -> None:
    async with open_books(database_url) as books, carrier() as smsc:
        await books.add_account()
        async with (
            proxy_on(database_url, smsc, route=[ROUTE], queue=FAST) as proxy,
            client_of(proxy) as esme,
        ):
            real: Callable[..., Any] = ledger.charge

            async def loses_its_answer(*arguments: Any) -> Any:
                await real(*arguments)
                monkeypatch.setattr(ledger, "charge", real)
                if claimed_first:  # another proxy is quick
                    proxy.queue._waiting.add("q")
                    await proxy.queue.once()
                raise ConnectionError("the answer was lost")

            monkeypatch.setattr(ledger, "charge", loses_its_answer)
            await esme.bind()
            traffic = Traffic(esme)
            traffic.send(NUMBER)
            await traffic.wait()

            async def settled() -> bool:
                return set((await books.states()).values()) <= {"charged", "released"}

            await eventually(settled)
            answers = traffic.answers
            states = await books.states()
            sent = {submit.destination_addrs[0] for submit in smsc.submits}
            for destination, answer in answers.items():
                taken = destination in sent
                assert (answer.status == 0) == taken, "its client knows something else"
                assert (states.get(destination) == "charged") == taken
            assert len(sent) < len(states) or claimed_first
            assert await books.balance() == 1000 - len(sent)
            await books.assert_books_balance()
            assert proxy.settle.held_micro == 0
