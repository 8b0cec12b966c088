"""A carrier's upstream on a simulated carrier, with lists in place of the flow behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from support.esme import pdu, submit_body
from support.waiting import eventually

from proxy.config import AddressSettings, HealthSettings, SmppUpstreamSettings
from proxy.flow.message import Message, Operation
from proxy.links import connection as link_connection
from proxy.links import smsc_upstream
from proxy.links.smsc_upstream import SmscUpstream
from proxy.routing.health import State
from proxy.simulator.smsc import SimulatedSmsc, SmscOptions
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import leading_c_octets, refused_destinations
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks

NUMBER = b"447700900123"


@pytest.fixture(autouse=True)
def _quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_connection, "_TICK_S", 0.02)
    monkeypatch.setattr(smsc_upstream, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(smsc_upstream, "_UNBIND_S", 0.5)


class Flow:
    """What an upstream tells: settle, failover, deliver and forward in one."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, int, bytes]] = []
        self.late: list[tuple[Any, int, bytes]] = []
        self.silent: list[Any] = []
        self.too_late: list[Any] = []
        self.elsewhere: list[Any] = []
        self.arrivals: list[tuple[int, bytes]] = []
        self.all_asked: list[bool] = []
        self.alerts: list[bytes] = []
        self.events: list[str] = []
        self.rooms = 0
        self.rates: list[float | None] = []
        """At each batch of answers."""

    def answered(self, upstream: SmscUpstream, answers: Any, late: bool = False) -> None:
        self.rates.append(upstream._standing.pace.rate_per_s)
        (self.late if late else self.answers).extend(answers)

    def doubtful(self, upstream: SmscUpstream, messages: list[Any], reason: str) -> None:
        self.silent += messages

    def not_sent_in_time(self, messages: list[Any], reason: str) -> None:
        self.too_late += messages

    def send(self, messages: list[Any]) -> None:
        self.elsewhere += messages

    def received(
        self,
        link: Any,
        upstream_id: int,
        ids: str,
        arrivals: list[Any],
        *,
        all_asked: bool,
        own_sender: bool,
    ) -> None:
        self.all_asked.append(all_asked)
        for command_id, sequence_number, body in arrivals:
            self.arrivals.append((command_id, body))
            link.respond(command_id | smpp.RESP, 0, sequence_number, b"\0")

    def alerted(self, body: bytes) -> None:
        self.alerts.append(body)

    def event(self, kind: str, text: str, **_: Any) -> None:
        self.events.append(kind)

    def room(self) -> None:
        self.rooms += 1

    @property
    def statuses(self) -> list[int]:
        return [status for _, status, _ in self.answers]


@asynccontextmanager
async def upstream_on(
    smsc: SimulatedSmsc, flow: Flow, *, binds: int = 1, **values: Any
) -> AsyncIterator[SmscUpstream]:
    tasks = Tasks()
    await smsc.start()
    settings = SmppUpstreamSettings(
        **{
            "name": "carrier", "host": "127.0.0.1", "port": smsc.port, "binds": binds,
            "system_id": "proxy", "password": SecretStr("proxy"),
            "reconnect_min_s": 0.05, "reconnect_max_s": 0.2, **values,
        }
    )  # fmt: skip
    it: Any = flow
    upstream = SmscUpstream(settings, 7, it, it, it, tasks, flow.event)
    upstream.forward = it
    upstream.on_room = flow.room
    upstream.start()
    try:
        await eventually(lambda: len(upstream._senders) == binds)
        yield upstream
    finally:
        smsc.release_held()
        await upstream.stop(0.2)
        await tasks.cancel()
        await smsc.stop()


def messages(
    number: int, body: bytes | None = None, command_id: int = smpp.SUBMIT_SM
) -> list[Message]:
    """Charged messages, with what an upstream looks at."""
    made = []
    for _ in range(number):
        message = Message.__new__(Message)
        message.command_id, message.waits_until = command_id, 0.0
        message.body = submit_body(destination=NUMBER) if body is None else body
        made.append(message)
    return made


def carrier(**options: Any) -> SimulatedSmsc:
    return SimulatedSmsc(SmscOptions(**{"receipt_delay_s": 0.0, **options}))


# ------------------------------------------------------------------------------- addresses


async def test_addresses_are_this_carriers_on_the_way_and_the_clients_on_the_way_back() -> None:
    smsc, flow = carrier(), Flow()
    rules = AddressSettings(
        source_addr="SHOP", source_addr_ton=5, strip_prefix="+", add_prefix="00",
        registered_delivery=1,
    )  # fmt: skip
    async with upstream_on(smsc, flow, address=rules) as upstream:
        written = submit_body(b"\0\xff", destination=b"+4477", tons=b"\1\1\1\1", tlvs=b"\x14\0\0\0")
        upstream.send(messages(1, written))
        await eventually(lambda: len(flow.arrivals) == 1, what="the receipt we asked for")
        assert smsc.submits[0].body == submit_body(
            b"\0\xff", source=b"SHOP", destination=b"004477", tons=b"\5\1\1\1",
            tlvs=b"\x14\0\0\0", registered_delivery=1,
        )  # fmt: skip
        assert flow.answers[0][0].body is written, "another carrier has other rules"
        assert flow.arrivals[0][1].startswith(b"\0\1\1+4477\0")
        await smsc.send_mo("0033612", "12345", b"hello")
        assert flow.arrivals[1][1].startswith(b"\0\1\1+33612\0")
        await smsc.send_pdu(pdu(smpp.ALERT_NOTIFICATION, 5, b"\1\1" + b"003361\0\1\1" + b"12345\0"))
        await eventually(lambda: len(flow.alerts) == 1)
        assert flow.alerts[0].startswith(b"\1\1+3361\0")
        assert set(flow.all_asked) == {True}


async def test_without_rules_every_octet_stays() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow) as upstream:
        upstream.send(messages(3))
        await eventually(lambda: flow.statuses == [0, 0, 0])
        assert {one.body for one in smsc.submits} == {submit_body(destination=NUMBER)}


async def test_a_submit_multi_is_refused_by_the_clients_numbers() -> None:
    """What is given back is found by them, and the client reads them."""
    smsc, flow = carrier(), Flow()
    body = (
        b"\0\1\1" + b"12345\0\2" + b"\1\1\1" + b"+77001\0" + b"\1\1\1" + b"77002\0"
        + b"\0\0\0\0\0\0\0\0\0\1x"
    )  # fmt: skip
    async with upstream_on(
        smsc, flow, address=AddressSettings(strip_prefix="+", add_prefix="999")
    ) as upstream:
        upstream.send(messages(1, body, smpp.SUBMIT_MULTI))
        await eventually(lambda: len(flow.answers) == 1)
    assert smsc.submits[0].destination_addrs == ["99977001", "99977002"]
    response = flow.answers[0][2]
    assert leading_c_octets(response) == smsc.submits[0].smsc_message_id
    assert refused_destinations(response) == ["+77001", "77002"]


async def test_an_operation_names_its_message_as_the_carrier_knows_it() -> None:
    smsc, flow = carrier(), Flow()
    seen: list[bytes] = []
    async with upstream_on(
        smsc, flow, address=AddressSettings(source_addr="SHOP", strip_prefix="+")
    ) as upstream:
        operate = smsc._messages.operate

        def listening(command_id: int, body: bytes) -> tuple[int, bytes]:
            seen.append(body)
            return operate(command_id, body)

        smsc._messages.operate = listening  # type: ignore[method-assign]
        done: list[int | None] = []
        assert upstream.operate(
            Operation(
                smpp.CANCEL_SM, b"\0id\0\1\1" + b"12345\0\1\1+44\0", lambda s, _: done.append(s)
            )
        )
        await eventually(lambda: len(done) == 1)
    assert seen == [b"\0id\0\1\1SHOP\0\1\1" + b"44\0"]


# ----------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("status", [smpp.ESME_RTHROTTLED, smpp.ESME_RMSGQFUL])
async def test_it_has_slowed_down_before_the_flow_hears_of_it(status: int) -> None:
    smsc, flow = carrier(refuse_rate=1.0, refuse_status=status), Flow()
    async with upstream_on(smsc, flow, name=f"slow{status}") as upstream:
        assert upstream.status()["rate"] is None
        upstream.send(messages(20))
        await eventually(lambda: flow.statuses == [status] * 20)
        assert flow.rates[-1] == 1.0
        assert upstream.status()["slowed"] is True
        assert upstream.status()["state"] == "up", "too fast is not unwell"
        assert upstream.rule(status) == "retry"
        assert metrics.UPSTREAM_THROTTLED.labels(f"slow{status}")._value.get() == 20
        smsc.options.refuse_rate = 0
        upstream.send(messages(1))
        assert upstream.backlog == 1, "it waits for the new rate"
        await eventually(lambda: flow.statuses == [*[status] * 20, 0])
        assert metrics.UPSTREAM_RATE.labels(f"slow{status}")._value.get() >= 1


async def test_the_full_queue_of_one_handset_slows_nobody_else() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow) as upstream:
        upstream.send(messages(50))
        await eventually(lambda: len(flow.answers) == 50)
        smsc.options.refuse_rate, smsc.options.refuse_status = 1.0, smpp.ESME_RMSGQFUL
        upstream.send(messages(1))
        await eventually(lambda: len(flow.answers) == 51)
        assert upstream.status()["slowed"] is False
        smsc.options.refuse_status = smpp.ESME_RTHROTTLED
        upstream.send(messages(1))
        await eventually(lambda: len(flow.answers) == 52)
        assert upstream.status()["slowed"] is False, "nor what may be about one destination"
        upstream.send(messages(20))
        await eventually(lambda: len(flow.answers) == 72)
        assert upstream.status()["slowed"] is True


async def test_what_waits_for_the_rate_makes_others_preferred() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, rate=2.0) as upstream:
        upstream.send(messages(4))  # one goes at once
        assert (upstream.healthy, upstream.backlog) == (True, 3)
        upstream.send(messages(1))
        assert upstream.bound
        assert (upstream.healthy, upstream.backlog) == (False, 4)
        await eventually(lambda: upstream.healthy)


async def test_the_rate_of_each_connection_and_of_all_hold_at_once() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, binds=2, bind_rate=100.0) as upstream:
        upstream.send(messages(40))
        assert [len(link.window.open) for link in upstream._senders] == [10, 10]
        await eventually(lambda: flow.statuses == [0] * 40)
    both_smsc, both = carrier(), Flow()
    async with upstream_on(both_smsc, both, binds=2, bind_rate=20.0, rate=30.0) as upstream:
        upstream.send(messages(8))
        assert upstream.open_requests == 3
        await eventually(lambda: both.statuses == [0] * 8)
    slow_smsc, slow = carrier(), Flow()
    async with upstream_on(slow_smsc, slow, binds=2, bind_rate=20.0, rate=1000.0) as upstream:
        upstream.send(messages(8))
        assert upstream.open_requests == 4
        await eventually(lambda: slow.statuses == [0] * 8)


@pytest.mark.parametrize("rates", [{"bind_rate": 50.0}, {"rate": 50.0}])
async def test_a_rate_that_lets_something_through_a_moment_later_forgets_nothing(
    rates: dict[str, Any],
) -> None:
    """Between two looks at the clock a token has come: what waits is not left without a timer."""
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, **rates) as upstream:
        (waiting,) = messages(1)
        waiting.waits_until = upstream._loop.time() + 30
        upstream._backlog.append(waiting)
        upstream._pump_when_the_rates_let()
        await eventually(lambda: flow.statuses == [0])
        upstream._pump_when_the_rates_let()
        assert upstream._pumping_later is None, "nothing waits, and nothing holds it back"


# ------------------------------------------------------------------------------------ room


async def test_spare_leaves_a_quarter_of_the_windows_to_those_who_wait() -> None:
    smsc, flow = carrier(), Flow()
    smsc.hold = True
    async with upstream_on(smsc, flow, binds=2, window=8) as upstream:
        assert upstream.spare == 12
        upstream.send(messages(10))
        assert upstream.spare == 2
        upstream.send(messages(4))
        assert upstream.spare == 0
        upstream.send(messages(5))
        assert (upstream.backlog, upstream.spare) == (3, 0)
        before = flow.rooms
        smsc.release_held()
        await eventually(lambda: upstream.spare == 12)
        assert flow.rooms > before
        upstream.paused = True
        assert (upstream.spare, upstream.bound, upstream.healthy) == (0, False, False)
        assert upstream.status()["state"] == "paused"


async def test_a_small_window_is_not_reserved_away() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, window=1) as upstream:
        assert upstream.spare == 1


async def test_who_was_told_that_the_rate_leaves_nothing_is_told_when_it_does() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, rate=20.0) as upstream:
        assert upstream.spare == 2
        upstream.send(messages(2))
        await eventually(lambda: len(flow.answers) == 2)
        told: list[int] = []
        upstream.on_room = lambda: told.append(upstream.spare)
        assert upstream.spare == 0
        await eventually(lambda: any(told), what="nothing is sent or answered meanwhile")


async def test_room_is_told_of_when_a_link_comes_and_when_nothing_waits_here_any_more() -> None:
    smsc, flow = carrier(), Flow()
    smsc.hold = True
    async with upstream_on(smsc, flow, window=1) as upstream:
        assert flow.rooms == 1, "the link came"
        upstream.send(messages(3))
        for answered in (1, 2, 3):
            await smsc.wait_for(lambda s: len(s._held) == 1)
            smsc._held.pop()()
            await eventually(lambda n=answered: len(flow.answers) == n)  # type: ignore[misc]
            assert flow.rooms == (1 if answered == 1 else answered)
        assert upstream.spare == 1


# ---------------------------------------------------------------------------------- health


def rest_is_over(upstream: SmscUpstream) -> None:
    upstream._standing.health._rests_until = 0.0


async def test_a_failing_carrier_rests_and_is_let_back_in() -> None:
    smsc, flow = carrier(refuse_rate=1.0, refuse_status=smpp.ESME_RSYSERR), Flow()
    async with upstream_on(smsc, flow, name="ill") as upstream:
        assert (upstream.healthy, upstream.allowance) == (True, None)
        await eventually(lambda: metrics.UPSTREAM_HEALTHY.labels("ill")._value.get() == 1)
        upstream.send(messages(10))
        await eventually(lambda: len(flow.answers) == 10)
        assert upstream.bound, "a lone carrier is never shut off"
        assert (upstream.healthy, upstream.allowance, upstream.spare) == (False, 0, 1)
        assert "upstream_resting" in flow.events
        status = upstream.status()
        assert (status["state"], status["health"]) == ("resting", "resting")
        assert status["why"] == "10 of 10 answers were failures"
        await eventually(lambda: metrics.UPSTREAM_HEALTHY.labels("ill")._value.get() == 0)
        smsc.options.refuse_rate = 0
        smsc.hold = True
        rest_is_over(upstream)
        assert (upstream.healthy, upstream.allowance, upstream.spare) == (True, 1, 1)
        upstream.send(messages(1))
        assert (upstream.healthy, upstream.allowance, upstream.spare) == (False, 0, 0)
        await smsc.wait_for(lambda s: len(s.submits) == 11)
        smsc.release_held()
        await eventually(lambda: upstream.allowance == 2)
        answered = 11
        while (allowed := upstream.allowance) is not None:
            upstream.send(messages(allowed))
            answered += allowed
            await eventually(lambda n=answered: len(flow.answers) == n)  # type: ignore[misc]
        assert answered == 10 + 127
        assert upstream.healthy
        assert flow.events.count("upstream_back") == 1
        assert upstream.status()["state"] == "up"


async def test_refusals_of_messages_say_nothing_of_the_carrier() -> None:
    smsc, flow = carrier(refuse_rate=1.0, refuse_status=smpp.ESME_RINVDSTADR), Flow()
    async with upstream_on(smsc, flow) as upstream:
        for status in (smpp.ESME_RINVDSTADR, smpp.ESME_RTHROTTLED, 0x400):
            smsc.options.refuse_status = status
            before = len(flow.answers)
            upstream.send(messages(12 if status != smpp.ESME_RTHROTTLED else 5))
            await eventually(lambda n=before: len(flow.answers) > n)  # type: ignore[misc]
        assert upstream._standing.health.state is State.HEALTHY
        assert upstream._standing.health.error_rate(0) == 0


async def test_a_silent_carrier_rests_and_what_it_has_is_in_doubt() -> None:
    smsc, flow = carrier(silence_rate=1.0), Flow()
    async with upstream_on(smsc, flow, response_timeout_s=0.05) as upstream:
        sent = messages(10)
        upstream.send(sent)
        await eventually(lambda: flow.silent == sent)
        assert not upstream.healthy
        assert flow.events.count("upstream_resting") == 1
        assert (flow.answers, flow.elsewhere) == ([], [])


async def test_slow_answers_make_it_rest() -> None:
    smsc, flow = carrier(response_delay_s=0.03), Flow()
    async with upstream_on(smsc, flow, health=HealthSettings(response_s=0.02)) as upstream:
        upstream.send(messages(10))
        await eventually(lambda: not upstream.healthy)
        assert str(upstream.status()["why"]).startswith("answers take ")


async def test_links_that_break_together_break_once_and_our_leaving_is_no_loss() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, binds=4) as upstream:
        smsc.drop_connections()
        await eventually(lambda: flow.events.count("upstream_lost") == 4)
        assert len(upstream._standing.health._losses) == 1
        await eventually(lambda: len(upstream._senders) == 4)
        assert upstream.healthy
    assert flow.events.count("upstream_lost") == 4
    assert len(upstream._standing.health._losses) == 1


async def test_what_it_tells_of_itself_can_be_written_down() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, rate=50.0) as upstream:
        upstream.send(messages(1))
        await eventually(lambda: len(flow.answers) == 1)
        told = json.loads(json.dumps(upstream.status()))
        assert told.pop("response_s") >= 0
        assert told == {
            "name": "carrier", "kind": "smpp", "state": "up", "links": 1, "window_used": 0,
            "window_max": 100, "backlog": 0, "paused": False, "health": "healthy", "why": "",
            "error_rate": 0.0, "rate": 50.0, "slowed": False,
        }  # fmt: skip
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: upstream.status()["state"] == "down")
        assert not upstream.healthy


async def test_a_rule_of_the_operators_and_an_attribute_of_pools() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, on_status={"0x0B": "next"}) as upstream:
        assert upstream.rule(0x0B) == "next"
        assert upstream.rule(0x0A) == "pass"
        assert upstream.pool is None


async def test_a_late_answer_is_told_as_one_and_judged_by_nobody() -> None:
    smsc, flow = carrier(), Flow()
    smsc.hold = True
    async with upstream_on(smsc, flow, response_timeout_s=0.05) as upstream:
        upstream.send(messages(1))
        await eventually(lambda: len(flow.silent) == 1)
        smsc.release_held()
        await eventually(lambda: len(flow.late) == 1)
        assert flow.answers == []
        assert upstream._standing.health.error_rate(upstream._loop.time()) == 1


async def test_the_rate_of_a_connection_leaves_room_for_the_queue() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow, binds=2, window=100, bind_rate=10.0) as upstream:
        assert upstream.spare == 2


async def test_a_link_that_is_down_says_why() -> None:
    smsc, flow = carrier(), Flow()
    async with upstream_on(smsc, flow) as upstream:
        await smsc.pause_listening()
        smsc.drop_connections()
        await eventually(lambda: "Connect call failed" in str(upstream.status()["why"]))
        assert upstream.status()["state"] == "down"
