"""Carriers that are too slow, unwell, or want their addresses otherwise; with the whole proxy."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.books import Traffic, open_books
from support.esme import submit_body
from support.faults import carrier, client_of, settings_for
from support.running import upstream_settings
from support.waiting import eventually

from proxy.app import Proxy
from proxy.config import AddressSettings, RetrySettings
from proxy.links.smsc_upstream import SmscUpstream
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.smpp import vocabulary as smpp

QUICK = RetrySettings(delay_s=0.05, patience_s=20, tries_max=5)


@asynccontextmanager
async def proxy_before(
    database_url: str, *carriers: tuple[SimulatedSmsc, dict[str, Any]], **sections: Any
) -> AsyncIterator[tuple[Proxy, list[SmscUpstream]]]:
    """A proxy whose upstreams are not all alike, and these when they are bound."""
    upstreams = [
        upstream_settings(smsc, **{"name": f"carrier{number}", **values})
        for number, (smsc, values) in enumerate(carriers, 1)
    ]
    proxy = Proxy(settings_for(database_url, upstreams, retry=QUICK, **sections))
    try:
        await proxy.start()
        by_name = {upstream.name: upstream for upstream in proxy.ways.upstreams.values()}
        found = [by_name[one.name] for one in upstreams]
        await eventually(lambda: all(one.bound for one in found))
        yield proxy, [one for one in found if isinstance(one, SmscUpstream)]
    finally:
        await proxy.stop()


def accepted(*carriers: SimulatedSmsc) -> list[str]:
    """The destinations of what carriers took; fails when one was taken twice."""
    taken = Counter(
        submit.destination_addrs[0]
        for smsc in carriers
        for submit in smsc.submits
        if submit.status == smpp.ESME_ROK
    )
    assert [destination for destination, times in taken.items() if times > 1] == []
    return list(taken)


class ThrottlingCarrier(SimulatedSmsc):
    """Takes so many messages in a second, and tells who sends more."""

    def __init__(self, per_s: int) -> None:
        super().__init__(SmscOptions(receipt_delay_s=0.0))
        self.per_s = per_s
        self._times: deque[float] = deque()

    def _status(self, command_id: int, submit: Any, *, refused: bool) -> int:
        now = asyncio.get_running_loop().time()
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        if len(self._times) >= self.per_s:
            return smpp.ESME_RTHROTTLED
        self._times.append(now)
        return super()._status(command_id, submit, refused=refused)


async def test_a_carrier_that_throttles_gets_everything_a_little_later(database_url: str) -> None:
    smsc = ThrottlingCarrier(per_s=40)
    await smsc.start()
    try:
        async with (
            open_books(database_url) as books,
            proxy_before(database_url, (smsc, {})) as (proxy, (upstream,)),
            client_of(proxy) as esme,
        ):
            await books.add_account(credits=1000)
            await esme.bind()
            traffic = Traffic(esme)
            destinations = traffic.send(80)
            await traffic.wait(timeout_s=20)
            assert traffic.statuses() == [0] * 80
            assert upstream.status()["slowed"] is True
            assert upstream.status()["health"] == "healthy"
            assert sorted(accepted(smsc)) == sorted(destinations)
            assert len(smsc.submits) <= 80 + 60, "each of the 40 in the burst was tried about once"
            assert await books.balance() == 920
            await books.assert_books_balance()
    finally:
        await smsc.stop()


async def test_an_unwell_carrier_is_left_alone_and_let_back_in_gently(database_url: str) -> None:
    async with (
        open_books(database_url) as books,
        carrier(refuse_rate=1.0, refuse_status=smpp.ESME_RSYSERR) as first,
        carrier() as second,
        proxy_before(database_url, (first, {}), (second, {})) as (proxy, (ill, well)),
        client_of(proxy) as esme,
    ):
        await books.add_account(credits=1000)
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(12)
        await traffic.wait()
        assert traffic.statuses() == [0] * 12, "what the first refused the second took"
        assert not ill.healthy
        assert (ill.bound, well.healthy) == (True, True)
        asked = len(first.submits)
        traffic.send(20)
        await traffic.wait()
        assert len(first.submits) == asked
        assert len(accepted(second)) == 32
        first.options.refuse_rate = 0.0
        ill._standing.health._rests_until = 0.0  # its rest is over
        for _ in range(40):
            if ill.allowance is None:
                break
            traffic.send(8)
            await traffic.wait()
        assert ill.allowance is None
        traffic.send(10)
        await traffic.wait()
        assert len(accepted(first)) >= 127 + 10
        assert set(traffic.statuses()) == {0}
        assert len(accepted(first, second)) == len(traffic.sent)
        assert await books.balance() == 1000 - len(traffic.sent)
        await books.becomes(
            1, "SELECT sum(count)::int FROM v_event WHERE kind = 'upstream_resting'"
        )
        await books.becomes(1, "SELECT sum(count)::int FROM v_event WHERE kind = 'upstream_back'")
        await books.assert_books_balance()


async def test_a_lone_carrier_is_never_shut_off(database_url: str) -> None:
    async with (
        open_books(database_url) as books,
        carrier(refuse_rate=1.0, refuse_status=smpp.ESME_RSYSERR) as smsc,
        proxy_before(database_url, (smsc, {})) as (proxy, (upstream,)),
        client_of(proxy) as esme,
    ):
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(12)
        await traffic.wait()
        assert traffic.statuses() == [smpp.ESME_RSYSERR] * 12
        assert not upstream.healthy
        smsc.options.refuse_rate = 0.0
        traffic.send(12)
        await traffic.wait()
        assert traffic.statuses()[12:] == [0] * 12
        assert await books.balance() == 88
        await books.assert_books_balance()


async def test_a_message_that_moves_on_has_the_addresses_of_each_carrier(database_url: str) -> None:
    async with (
        open_books(database_url) as books,
        carrier(refuse_rate=1.0, refuse_status=smpp.ESME_RSYSERR) as first,
        carrier() as second,
        proxy_before(
            database_url,
            (first, {"address": AddressSettings(source_addr="ONE", add_prefix="00")}),
            (second, {"address": AddressSettings(strip_prefix="+", dest_addr_npi=9)}),
        ) as (proxy, _),
        client_of(proxy) as esme,
    ):
        await books.add_account(credits=100)
        await esme.bind()
        text, destination = b"\0\xff\x1b", b"+447700900123"
        sent = await esme.submit(text, destination=destination, registered_delivery=1)
        assert sent.status == 0
        assert first.submits[0].body == submit_body(
            b"\0\xff\x1b", source=b"ONE", destination=b"00447700900123", registered_delivery=1
        )
        assert second.submits[0].body == submit_body(
            b"\0\xff\x1b", destination=b"447700900123", registered_delivery=1, tons=b"\1\1\1\x09"
        )
        await esme.wait(lambda: len(esme.deliveries) == 1)
        assert b"\x09+447700900123\0" in esme.deliveries[0].body, (
            "the number as the client wrote it"
        )
        assert await books.balance() == 99
        await books.assert_books_balance()
