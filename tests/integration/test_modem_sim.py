"""The SIM of a modem: its PIN, its limits, its balance; and several SIMs in a pool."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from support.modem_flow import Rig, Usage, message, rig
from support.waiting import eventually

from proxy.config import PoolSettings
from proxy.links import modem_pool
from proxy.links.modem_pool import ModemPool
from proxy.links.modem_upstream import ModemUpstream
from proxy.simulator.modem import ModemOptions, SimulatedModem
from proxy.simulator.modem_at import AtError
from proxy.smpp import vocabulary as smpp
from proxy.smpp.udh import Concatenation
from proxy.store.sim_usage import SimUsage


def tries(modem: SimulatedModem) -> int:
    return sum(c.name == "+CPIN" and c.form == "set" for c in modem.commands)


def looks(modem: SimulatedModem) -> int:
    return sum(c.name == "+CPIN" and c.form == "read" for c in modem.commands)


async def locked(r: Rig, upstream: ModemUpstream) -> None:
    """It has looked at the SIM several times, and stays locked."""
    await eventually(lambda: upstream.state == "pin" and bool(upstream._connector.locked))
    before = looks(r.modem)
    await eventually(lambda: looks(r.modem) >= before + 2)
    assert not upstream.bound


# ------------------------------------------------------------------------------------- PIN


async def test_the_right_pin_is_given_and_again_after_a_reset() -> None:
    async with rig(ModemOptions(pin="1234")) as r:
        upstream = await r.started(pin="1234")
        assert tries(r.modem) == 1
        assert r.usage.pin is None
        r.modem.reset()
        await eventually(lambda: not upstream.bound)
        await eventually(lambda: upstream.bound)
        assert tries(r.modem) == 2
        assert r.modem.sim.pin_attempts == 3


async def test_a_wrong_pin_is_tried_once_and_never_again() -> None:
    usage = Usage()
    async with rig(ModemOptions(pin="1234"), usage) as r:
        upstream = r.upstream(pin="9999")
        upstream.start()
        await locked(r, upstream)
        assert (tries(r.modem), r.modem.sim.pin_attempts) == (1, 2)
        assert r.flow.kinds().count("modem_pin_refused") == 1
        await upstream.stop(0)
        # Not by the next process either; another PIN is another matter.
        again = r.upstream(pin="9999")
        again.start()
        await locked(r, again)
        assert tries(r.modem) == 1
        await again.stop(0)
        await r.started(pin="1234")
        assert r.modem.sim.pin_attempts == 3


async def test_the_last_attempt_is_left_to_a_person() -> None:
    async with rig(ModemOptions(pin="1234")) as r:
        r.modem.sim.pin_attempts = 1
        upstream = r.upstream(pin="1234")
        upstream.start()
        await locked(r, upstream)
        assert tries(r.modem) == 0
        assert "last one is left" in str(upstream.status()["why"])
        # Somebody enters it by hand: all is well.
        r.modem.sim.enter("1234", "")
        await eventually(lambda: upstream.bound)


async def test_a_modem_that_cannot_say_how_many_attempts_are_left() -> None:
    async with rig(ModemOptions(pin="1234")) as r:

        def unknown(_command: Any) -> Any:
            raise AtError("CME", 100)

        for name in ("^CPIN", "+CPINR", "+SPIC", "+CPINC"):
            r.modem._general.handlers[name] = unknown
        upstream = r.upstream(pin="9999")
        upstream.start()
        await locked(r, upstream)
        assert (tries(r.modem), r.modem.sim.pin_attempts) == (1, 2)


async def test_no_pin_is_tried_that_could_not_be_remembered() -> None:
    usage = Usage()
    async with rig(ModemOptions(pin="1234"), usage) as r:
        upstream = r.upstream(pin="1234")
        upstream.start()
        usage.fails = False
        with patch.object(usage, "pin_tried", side_effect=ConnectionError("no database")):
            await eventually(lambda: any("remember" in text for _, text in r.flow.events))
            assert tries(r.modem) == 0
        await eventually(lambda: upstream.bound)


@pytest.mark.parametrize("attempts", [3, 0])
async def test_without_a_pin_or_with_a_puk_it_waits(attempts: int) -> None:
    async with rig(ModemOptions(pin="1234")) as r:
        r.modem.sim.pin_attempts = attempts
        upstream = r.upstream(pin=None if attempts else "1234")
        upstream.start()
        await locked(r, upstream)
        assert tries(r.modem) == 0
        assert ("modem_pin_missing" if attempts else "modem_puk") in r.flow.kinds()


# ---------------------------------------------------------------------------------- limits


async def test_a_sim_at_its_limit_is_not_bound() -> None:
    async with rig() as r:
        upstream = await r.started(per_hour=3)
        payload = b"\x04\x24\x01\x90" + b"x" * 400  # three parts
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        upstream.send([message(b"", tlvs=payload)])
        await eventually(lambda: r.flow.statuses == [0, smpp.ESME_RMSGQFUL])
        upstream.send([message(), message(), message()])
        await eventually(lambda: not upstream.bound)
        assert upstream.state == "limit"
        # What is left of the backlog goes elsewhere.
        await eventually(lambda: len(r.flow.forwarded) == 1)
        assert len(r.modem.sent) == 3
        assert upstream.status()["used"] == {"hour": 3, "day": 3, "month": 3}
        await eventually(lambda: sum(r.usage.hours.values()) == 3)
        now_s = time.time()
        with patch.object(upstream._limits, "left", lambda _now: 5):  # another hour
            await eventually(lambda: upstream.bound)
        assert upstream._limits.again_at_s(now_s) > now_s


async def test_what_could_never_go_is_refused_for_good() -> None:
    async with rig() as r:
        upstream = await r.started(per_day=2)
        upstream.send([message(b"", tlvs=b"\x04\x24\x01\x90" + b"x" * 400)])
        await eventually(lambda: r.flow.statuses == [smpp.ESME_RSUBMITFAIL])
        assert not r.modem.sent


async def test_usage_is_remembered_and_what_could_not_be_saved_is_saved_later() -> None:
    usage = Usage()
    usage.hours = {int(time.time()) // 3600 * 3600: 4}
    async with rig(usage=usage) as r:
        upstream = await r.started(per_hour=10)
        assert upstream._limits.left(time.time()) == 6
        usage.fails = True
        upstream.send([message()])
        await eventually(lambda: r.flow.statuses == [0])
        await eventually(lambda: usage.failures >= 2)
        assert sum(usage.hours.values()) == 4
        usage.fails = False
        await eventually(lambda: sum(usage.hours.values()) == 5)


async def test_the_database_counts_by_hour(database: Any) -> None:
    upstream_id = await database.pool.fetchval(
        "INSERT INTO upstream (name) VALUES ('modem') RETURNING id"
    )
    usage = SimUsage(lambda: database.pool)
    hour = int(datetime(2026, 3, 1, 5, tzinfo=UTC).timestamp())
    await usage.add(upstream_id, {hour: 3, hour + 3600: 1})
    await usage.add(upstream_id, {hour: 2})
    await usage.set_balance(upstream_id, "12\0 EUR" + "x" * 600)
    await usage.pin_tried(upstream_id, "ab" * 32)
    record = await usage.load(upstream_id, hour)
    assert record.short_messages == {hour: 5, hour + 3600: 1}
    assert record.balance_text is not None
    assert record.balance_text.startswith("12 EURx")
    assert abs((record.balance_at_s or 0) - time.time()) < 60
    assert record.pin_tried == "ab" * 32
    assert (await usage.load(upstream_id, hour + 1)).short_messages == {hour + 3600: 1}
    await usage.pin_tried(upstream_id, None)
    assert (await usage.load(upstream_id, hour)).pin_tried is None
    assert (await usage.load(upstream_id + 1, hour)).balance_text is None


async def test_the_balance_is_asked_for() -> None:
    async with rig() as r:
        upstream = await r.started(balance_ussd="*100#")
        await eventually(lambda: r.usage.balance == "Balance: 12.34 GBP")
        status = upstream.status()
        assert status["balance"] == "Balance: 12.34 GBP"
        assert (status["imsi"], status["operator"]) == ("23415…99", "Simulated network")
        assert status["signal_dbm"] == -73
        await eventually(lambda: upstream.status()["stored"] == "0/20")


# ------------------------------------------------------------------------------------ pool


class Pool:
    """Two modems that are not there: what a pool looks at, and what it gives them."""

    def __init__(self) -> None:
        self.modems = [
            SimpleNamespace(
                name=name, bound=True, healthy=True, allowance=None, waiting=0, room=10, spare=2,
                backlog=0, open_requests=0, on_room=None, pool=None, got=[],
            )
            for name in ("a", "b")
        ]  # fmt: skip
        for modem in self.modems:
            modem.send = modem.got.extend
        members: Any = [Hashable(modem) for modem in self.modems]
        self.pool = ModemPool(PoolSettings(name="pool", modems=["a", "b"]), 9, members)
        self.forwarded: list[Any] = []
        self.modems[0].hand_on = self.forwarded.extend

    @property
    def got(self) -> tuple[list[Any], list[Any]]:
        return self.modems[0].got, self.modems[1].got


class Hashable:
    """Passes everything on; a SimpleNamespace has no hash."""

    def __init__(self, inner: Any) -> None:
        self.__dict__["inner"] = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["inner"], name, value)


async def test_a_pool_takes_turns_and_prefers_who_has_less_to_do() -> None:
    p = Pool()
    p.pool.send([message() for _ in range(4)])
    assert [len(got) for got in p.got] == [2, 2]
    p.modems[0].waiting = 3
    p.pool.send([message(), message()])
    assert [len(got) for got in p.got] == [2, 4]
    assert (p.pool.room, p.pool.spare, p.pool.bound) == (20, 4, True)


async def test_a_pool_skips_who_is_out() -> None:
    p = Pool()
    p.modems[1].bound = False
    p.pool.send([message(), message()])
    assert [len(got) for got in p.got] == [2, 0]
    assert p.pool.room == 10
    p.modems[0].healthy = False
    p.modems[1].bound = True
    p.pool.send([message()])
    assert [len(got) for got in p.got] == [2, 1]
    p.modems[0].bound = p.modems[1].bound = False
    assert not p.pool.bound
    p.pool.send([message()])
    assert len(p.forwarded) == 1


async def test_the_parts_of_a_message_take_one_modem() -> None:
    p = Pool()

    def part(number: int, reference: int) -> Any:
        made = message()
        made.part = Concatenation(reference, 3, number)
        return made

    p.pool.send([part(1, 7), part(1, 8), part(2, 7), part(2, 8), part(3, 7)])
    assert [len(got) for got in p.got] == [3, 2]
    p.modems[0].bound = False
    p.pool.send([part(3, 7)])  # it may come back, and nobody else can finish it
    assert [len(got) for got in p.got] == [4, 2]
    with patch.object(modem_pool, "_PINNED_S", 0.0):
        p.modems[1].bound, p.modems[0].bound = False, True
        p.pool.send([part(4, 9), part(4, 9)])
        p.modems[1].bound, p.modems[0].bound = True, False
        p.pool.send([part(4, 9)])  # its time was over
    assert [len(got) for got in p.got] == [6, 3]
    with patch.object(modem_pool, "_PINNED_MAX", 3):
        for reference in range(20, 40):
            p.pool.send([part(1, reference)])
    assert len(p.pool._pinned) <= 3


async def test_a_paused_pool_takes_nothing_and_room_is_told_by_each() -> None:
    p = Pool()
    p.pool.paused = True
    assert (p.pool.bound, p.pool.healthy, p.pool.spare) == (False, False, 0)
    told: list[int] = []
    p.pool.on_room = lambda: told.append(1)
    p.modems[1].on_room()
    assert told == [1]
    assert p.pool.status()["state"] == "paused"


async def test_two_real_modems_share_the_work() -> None:
    async with rig(ModemOptions(send_delay_s=0.02)) as r:
        other = SimulatedModem(ModemOptions(send_delay_s=0.02))
        await other.start()
        try:
            members = [await r.started(name="a"), await r.started(name="b", device=other.path)]
            pool = ModemPool(PoolSettings(name="pool", modems=["a", "b"]), 9, members)
            pool.send([message(b"%d" % i) for i in range(6)])
            await eventually(lambda: r.flow.statuses == [0] * 6)
            assert [len(r.modem.sent), len(other.sent)] == [3, 3]
            await other.unplug()
            await eventually(lambda: not members[1].bound)
            pool.send([message(), message()])
            await eventually(lambda: len(r.modem.sent) == 5)
        finally:
            await other.stop()
