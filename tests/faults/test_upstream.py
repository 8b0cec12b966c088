"""The carrier drops its link, stays silent, answers late, twice, or nonsense."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs
from support.books import Traffic, open_books
from support.esme import UNBIND, pdu
from support.faults import carrier, client_of, proxy_on
from support.waiting import eventually

from proxy import app
from proxy.config import InDoubtSettings
from proxy.links import connection as link_connection
from proxy.links import smsc_upstream
from proxy.simulator.smsc import SimulatedSmsc
from proxy.store import sweeps
from proxy.telemetry import metrics

SUBMIT_SM_RESP, GENERIC_NACK = 0x80000004, 0x80000000
IN_DOUBT = 0xFF
SILENT: dict[str, Any] = {"response_timeout_s": 0.05}


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "_TICK_S", 0.02)


def gauge(metric: Any) -> float:
    """The value of a gauge or counter without labels."""
    return float(metric._value.get())


async def answer(
    smsc: SimulatedSmsc, number: int, body: bytes = b"late\0", status: int = 0
) -> None:
    """Answer the carrier's n-th submit, whether or not that is expected."""
    await smsc.send_pdu(pdu(SUBMIT_SM_RESP, smsc.submits[number].sequence_number, body, status))


async def round_trip(smsc: SimulatedSmsc) -> None:
    """Returns when the proxy has handled everything that the carrier has sent."""
    before = smsc.pdus["enquire_link_resp"]
    await smsc.send_pdu(pdu(0x15, 0x7777))
    await smsc.wait_for(lambda s: s.pdus["enquire_link_resp"] > before)


async def test_a_dropped_link_leaves_what_it_had_in_doubt(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        smsc.hold = True
        traffic = Traffic(esme)
        traffic.send(5)
        await smsc.wait_for(lambda s: len(s.submits) == 5)
        smsc.drop_connections()
        await traffic.wait()
        assert traffic.statuses() == [IN_DOUBT] * 5
        assert set((await books.states()).values()) == {"in_doubt"}
        assert (await books.balance(), await books.held()) == (95, 5)
        await proxy.sweep.once()
        assert gauge(metrics.IN_DOUBT_MESSAGES) == 5
        assert gauge(metrics.IN_DOUBT_CREDITS) == 5
        smsc._held.clear()
        smsc.hold = False
        await eventually(lambda: proxy.readiness()["upstream"])
        traffic.send(1)
        await traffic.wait()
        assert traffic.statuses() == [IN_DOUBT] * 5 + [0]
        await books.assert_books_balance()


async def test_a_link_that_was_closed_takes_nothing_more(database_url: str) -> None:
    """The carrier answers and unbinds in one segment: what waits was never written to it."""
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc, upstream={"window": 1}) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        smsc.hold = True
        traffic = Traffic(esme)
        traffic.send(5)
        await smsc.wait_for(lambda s: len(s.submits) == 1)
        await eventually(lambda: proxy.ways.upstreams[1].backlog == 4)
        await smsc.pause_listening()
        await smsc.send_pdu(
            pdu(SUBMIT_SM_RESP, smsc.submits[0].sequence_number, b"1\0") + pdu(UNBIND, 99)
        )
        await traffic.wait()
        assert traffic.statuses() == [0] + [0x08] * 4
        assert await books.balance() == 999
        assert sorted((await books.states()).values()) == ["charged"] + ["released"] * 4
        await books.assert_books_balance()


@pytest.mark.parametrize(
    ("status", "state", "balance"), [(0, "charged", 99), (0x58, "released", 100)]
)
async def test_a_late_answer_settles_a_doubt_once(
    database_url: str, status: int, state: str, balance: int
) -> None:
    async with (
        open_books(database_url) as books, carrier(silence_rate=1.0) as smsc,
        proxy_on(database_url, smsc, upstream=SILENT) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        destination = traffic.send(1)[0]
        await traffic.wait()
        assert traffic.statuses() == [IN_DOUBT]
        assert await books.states() == {destination: "in_doubt"}
        body = b"late\0" if status == 0 else b""
        await answer(smsc, 0, body, status)
        await books.becomes(state, "SELECT state FROM v_message")
        # Again, the other way round, as a nack, and to nothing that was ever asked.
        await answer(smsc, 0, b"", 0x58 if status == 0 else 0)
        await answer(smsc, 0, b"other\0")
        await smsc.send_pdu(pdu(GENERIC_NACK, smsc.submits[0].sequence_number, b"", 3))
        await smsc.send_pdu(pdu(SUBMIT_SM_RESP, 0x7000_0000, b"x\0") + pdu(GENERIC_NACK, 0, b"", 2))
        await round_trip(smsc)
        await proxy.settle.passed()
        assert await books.states() == {destination: state}
        assert await books.balance() == balance
        assert await books.held() == 0
        assert traffic.statuses() == [IN_DOUBT]  # and Traffic fails on a second answer
        assert esme.received[-1].command_id == SUBMIT_SM_RESP
        await books.assert_books_balance()


async def test_a_response_that_comes_twice_counts_once(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        smsc.hold = True
        traffic.send(3)
        await smsc.wait_for(lambda s: len(s.submits) == 3)
        one, two, three = (s.sequence_number for s in smsc.submits)
        await smsc.send_pdu(
            pdu(SUBMIT_SM_RESP, three, b"c\0") + pdu(SUBMIT_SM_RESP, one, b"a\0")
            + pdu(SUBMIT_SM_RESP, three, b"", 0x45) + pdu(SUBMIT_SM_RESP, one, b"z\0")
            + pdu(SUBMIT_SM_RESP, two, b"", 0x0B) + pdu(SUBMIT_SM_RESP, two, b"b\0")
        )  # fmt: skip
        await traffic.wait()
        await round_trip(smsc)
        assert traffic.statuses() == [0, 0x0B, 0]
        by_destination = await books.fetch(
            "SELECT smsc_message_id, state FROM v_message ORDER BY destination_addr"
        )
        assert [(r["smsc_message_id"], r["state"]) for r in by_destination] == [
            ("a", "charged"), (None, "released"), ("c", "charged"),
        ]  # fmt: skip
        assert await books.balance() == 98
        await books.assert_books_balance()


async def test_a_generic_nack_is_a_refusal(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier(silence_rate=1.0) as smsc,
        proxy_on(database_url, smsc) as proxy, client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(2)
        await smsc.wait_for(lambda s: len(s.submits) == 2)
        first, second = (s.sequence_number for s in smsc.submits)
        await smsc.send_pdu(pdu(GENERIC_NACK, first, b"", 3) + pdu(GENERIC_NACK, second, b"", 0))
        await traffic.wait()
        assert traffic.statuses()[0] == 3
        assert traffic.statuses()[1] != 0  # whatever its status: it is not a success
        assert set((await books.states()).values()) == {"released"}
        assert await books.balance() == 100
        await books.assert_books_balance()


async def test_an_upstream_that_refuses_binds_is_asked_less_and_less(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "READY_S", 0.01)
    quick = {"reconnect_min_s": 0.02, "reconnect_max_s": 0.2}
    with capture_logs() as logs:
        async with carrier() as smsc, open_books(database_url) as books:
            smsc.options.password = "another"
            async with proxy_on(database_url, smsc, upstream=quick) as proxy:
                await books.add_account()
                async with client_of(proxy) as esme:
                    await esme.bind()
                    assert (await esme.submit()).status == 0x08
                    await smsc.wait_for(lambda s: s.pdus["bind_transceiver"] >= 6)
                    smsc.options.password = ""
                    await eventually(lambda: proxy.readiness()["upstream"])
                    assert (await esme.submit()).status == 0
                assert await books.balance() == 999
    pauses = [e["retry_in_s"] for e in logs if e["event"] == "upstream_link_down"]
    assert len(pauses) >= 5
    assert pauses[0] <= 0.02
    assert pauses[4] >= 0.1


@pytest.mark.parametrize(
    ("policy", "state", "balance", "late_status"),
    [
        ("charge", "charged", 99, 0x45),
        ("release", "released", 100, 0),
        ("keep", "in_doubt", 99, None),
    ],
)
async def test_the_policy_ends_an_old_doubt_for_good(
    database_url: str, policy: Any, state: str, balance: int, late_status: int | None
) -> None:
    async with (
        open_books(database_url) as books, carrier(silence_rate=1.0) as smsc,
        proxy_on(
            database_url, smsc, upstream=SILENT,
            in_doubt=InDoubtSettings(policy=policy, after_s=0.05),
        ) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100)
        await esme.bind()
        assert (await esme.submit()).status == IN_DOUBT
        await books.becomes(
            True, "SELECT bool_and(now() - since > interval '0.06 s') FROM in_doubt"
        )
        await proxy.sweep.once()
        await proxy.sweep.once()
        assert await books.fetchval("SELECT state FROM v_message") == state
        assert await books.balance() == balance
        assert await books.held() == (1 if policy == "keep" else 0)
        if late_status is not None:  # too late: the books are closed
            await answer(smsc, 0, b"late\0" if late_status == 0 else b"", late_status)
            await round_trip(smsc)
            await proxy.settle.passed()
            assert await books.fetchval("SELECT state FROM v_message") == state
            assert await books.balance() == balance
        await books.assert_books_balance()


async def test_the_backlog_of_an_upstream_that_dies_goes_to_the_next(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier() as first, carrier() as second,
        proxy_on(database_url, first, second, upstream={"window": 1}) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account()
        await esme.bind()
        await eventually(lambda: bool(first.bound and second.bound))
        first.hold = True
        traffic = Traffic(esme)
        traffic.send(30)
        await first.wait_for(lambda s: len(s.submits) == 1)
        await eventually(lambda: proxy.ways.upstreams[1].backlog == 29)
        assert len(second.submits) == 0
        await first.pause_listening()
        first.drop_connections()
        await traffic.wait()
        assert traffic.statuses() == [IN_DOUBT] + [0] * 29
        assert [s.destination_addrs[0] for s in second.submits] == list(traffic.sent.values())[1:]
        assert await books.balance() == 970
        await books.assert_promises([first, second], traffic.answers)


async def test_traffic_survives_links_that_come_and_go(database_url: str) -> None:
    async with (
        open_books(database_url) as books, carrier(response_delay_s=0.002) as first,
        carrier(response_delay_s=0.002) as second,
        proxy_on(database_url, first, second, upstream={"window": 5, "binds": 2}) as proxy,
        client_of(proxy) as esme,
    ):  # fmt: skip
        await books.add_account(credits=100_000)
        await esme.bind()
        traffic = Traffic(esme)
        for turn in range(8):
            already = len(traffic.sent)
            traffic.send(100)
            smsc = (first, second)[turn % 2]
            await esme.wait(lambda a=already: traffic.answered > a + 20)  # type: ignore[misc]
            smsc.drop_connections()
            await traffic.wait()
            await eventually(lambda: proxy.readiness()["upstream"])
        states = await books.assert_promises([first, second], traffic.answers)
        assert set(traffic.statuses()) <= {0, IN_DOUBT, 0x08}
        wanted = {0: "charged", IN_DOUBT: "in_doubt", 0x08: "released"}
        for destination, one in traffic.answers.items():
            assert states.get(destination, "released") == wanted[one.status]
        charged_or_doubtful = sum(s != "released" for s in states.values())
        assert await books.balance() == 100_000 - charged_or_doubtful


async def test_a_message_that_the_policy_released_is_not_sent_after_all(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a window slot is given back before the sweep can take it for lost."""
    monkeypatch.setattr(sweeps, "_MARGIN_S", 0.2)
    monkeypatch.setattr(smsc_upstream, "_LOOK_EVERY_S", 0.02)
    async with (
        open_books(database_url) as books,
        carrier(silence_rate=1.0) as smsc,
        proxy_on(
            database_url,
            smsc,
            upstream={"window": 1, "response_timeout_s": 0.2},
            in_doubt=InDoubtSettings(policy="release", after_s=0.001),
        ) as proxy,
        client_of(proxy) as esme,
    ):
        await books.add_account(credits=100)
        await esme.bind()
        traffic = Traffic(esme)
        traffic.send(8)  # each would hold the slot for 0.2 s

        async def all_ended() -> bool:
            await proxy.sweep.once()
            states = await books.states()
            still_waiting = {d for d, state in states.items() if state == "released"}
            sent = {submit.destination_addrs[0] for submit in smsc.submits}
            by_policy = await books.fetch(
                "SELECT destination_addr FROM v_message WHERE reason = 'in doubt for too long'"
            )
            assert {row[0] for row in by_policy} <= sent, "released, and not sent yet"
            return len(still_waiting) == len(states) == 8

        await eventually(all_ended)
        await traffic.wait()
        assert traffic.statuses()[0] == IN_DOUBT
        assert traffic.statuses()[-1] == 0x14
        assert await books.balance() == 100
        await books.assert_books_balance()
