"""A modem upstream between the simulated modem and a flow that only takes notes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from support.esme import submit_body
from support.waiting import eventually

from proxy.config import ModemSettings
from proxy.flow.message import Message
from proxy.links import modem_connect, modem_send, modem_start, modem_upstream, modem_watch
from proxy.links.modem_upstream import ModemUpstream
from proxy.simulator.modem import ModemOptions, SimulatedModem
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS
from proxy.store.sim_usage import SimRecord
from proxy.telemetry.tasks import Tasks

_numbers = count(1)


class Flow:
    """Settle, failover, deliver and forward in one, as lists."""

    def __init__(self) -> None:
        self.answers: list[tuple[Message, int, bytes, bool]] = []
        self.doubts: list[tuple[Message, str]] = []
        self.timed_out: list[Message] = []
        self.unsent: list[Message] = []
        self.forwarded: list[Message] = []
        self.arrivals: list[bytes] = []
        self.accounts: list[int | None] = []
        self.events: list[tuple[str, str]] = []
        self.keep = True
        """Whether deliveries are acknowledged at once; else they wait in `waiting`."""
        self.waiting: list[tuple[Any, int]] = []
        self.status = smpp.ESME_ROK

    def answered(self, upstream: Any, answers: list[Any], late: bool = False) -> None:
        self.answers += [(*answer, late) for answer in answers]

    def doubtful(self, upstream: Any, messages: list[Message], reason: str) -> None:
        self.doubts += [(message, reason) for message in messages]

    def not_sent_in_time(self, messages: list[Message], reason: str) -> None:
        self.timed_out += messages

    def not_sent(self, messages: list[Message], reason: str) -> None:
        self.unsent += messages

    def send(self, messages: list[Message]) -> None:
        self.forwarded += messages

    def received(
        self, link: Any, upstream_id: int, receipt_ids: str, arrivals: list[Any],
        *, account_id: int | None = None, all_asked: bool = False, own_sender: bool = False,
    ) -> None:  # fmt: skip
        for command_id, number, body in arrivals:
            assert command_id == smpp.DELIVER_SM
            self.arrivals.append(body)
            self.accounts.append(account_id)
            if self.keep:
                link.respond(smpp.DELIVER_SM_RESP, self.status, number, b"\0")
            else:
                self.waiting.append((link, number))

    def keep_now(self, status: int = smpp.ESME_ROK) -> None:
        waiting, self.waiting = self.waiting, []
        for link, number in waiting:
            link.respond(smpp.DELIVER_SM_RESP, status, number, b"\0")

    def record(self, kind: str, text: str, **_: Any) -> None:
        self.events.append((kind, text))

    @property
    def statuses(self) -> list[int]:
        return [status for _, status, _, _ in self.answers]

    @property
    def ids(self) -> list[str]:
        return [body.partition(b"\0")[0].decode() for _, _, body, _ in self.answers]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class Usage:
    """SimUsage without a database."""

    def __init__(self) -> None:
        self.hours: dict[int, int] = {}
        self.balance: str | None = None
        self.pin: str | None = None
        self.pins: list[str | None] = []
        self.fails = False
        self.failures = 0

    def _check(self) -> None:
        if self.fails:
            self.failures += 1
            raise ConnectionError("no database")

    async def load(self, upstream_id: int, since_s: int) -> SimRecord:
        self._check()
        return SimRecord(dict(self.hours), self.balance, None, self.pin)

    async def add(self, upstream_id: int, short_messages: dict[int, int]) -> None:
        self._check()
        for hour, number in short_messages.items():
            self.hours[hour] = self.hours.get(hour, 0) + number

    async def set_balance(self, upstream_id: int, text: str) -> None:
        self.balance = text

    async def pin_tried(self, upstream_id: int, digest: str | None) -> None:
        self._check()
        self.pins.append(digest)
        self.pin = digest


def message(
    text: bytes = b"hello", *, command_id: int = smpp.SUBMIT_SM, body: bytes = b"", **fields: Any
) -> Message:
    """A charged message as forward gives it to an upstream."""
    body = body or submit_body(text, **fields)
    read = READERS[command_id](body)
    account = SimpleNamespace(
        id=1, name="acme", rules=SimpleNamespace(charge_on="accept"), sessions=set()
    )
    session: Any = SimpleNamespace(account=account, login_id=1, open_requests=0)
    made = Message(
        session, command_id, next(_numbers), body, read.source_addr, read.destination_addr,
        read.esm_class, read.data_coding, read.registered_delivery,
        read.segments * read.destinations, read.destinations, read.part, "", 1, 1_000_000,
    )  # fmt: skip
    made.id = next(_numbers)
    made.waits_until = float("inf")
    return made


@contextmanager
def quick() -> Iterator[None]:
    """The pauses of the client, made short."""
    with (
        patch.object(modem_start, "_PROBE_S", 0.15),
        patch.object(modem_start, "_QUIET_S", 0.02),
        patch.object(modem_start, "_SIM_PAUSE_S", 0.05),
        patch.object(modem_start, "_PROBES", 6),
        patch.object(modem_start, "_RADIO_S", 0.5),
        patch.object(modem_connect, "LOCKED_LOOK_S", 0.2),
        patch.object(modem_watch, "SEARCH_S", 0.05),
        patch.object(modem_upstream, "LOOK_EVERY_S", 0.02),
        patch.object(modem_upstream, "SAVE_EVERY_S", 0.1),
        patch.object(modem_send, "PAUSES_S", [0.02, 0.02]),
    ):
        yield


class Rig:
    """A modem, its upstream, and the flow behind it."""

    def __init__(self, modem: SimulatedModem, usage: Usage | None = None) -> None:
        self.modem = modem
        self.flow = Flow()
        self.usage = usage or Usage()
        self.tasks = Tasks()
        self.upstreams: list[ModemUpstream] = []
        self.rooms = 0

    def upstream(self, **values: Any) -> ModemUpstream:
        settings = ModemSettings(**{
            "name": "modem", "device": self.modem.path, "number": "+447700900001",
            "answer_timeout_s": 0.6, "command_timeout_s": 0.4,
            "reconnect_min_s": 0.02, "reconnect_max_s": 0.05, **values,
        })  # fmt: skip
        flow: Any = self.flow
        usage: Any = self.usage
        made = ModemUpstream(
            settings, len(self.upstreams) + 7, flow, flow, flow, self.tasks, flow.record, usage,
            self._account_id,
        )  # fmt: skip
        made.forward = flow
        made.on_room = self._room
        self.upstreams.append(made)
        return made

    def _room(self) -> None:
        self.rooms += 1

    async def _account_id(self, name: str) -> int | None:
        return {"acme": 42}.get(name)

    async def started(self, **values: Any) -> ModemUpstream:
        upstream = self.upstream(**values)
        upstream.start()
        await eventually(lambda: upstream.bound, what="the modem did not become bound")
        return upstream


@asynccontextmanager
async def rig(
    options: ModemOptions | None = None, usage: Usage | None = None, **start: Any
) -> AsyncIterator[Rig]:
    """Everything, with short pauses; all of it is stopped at the end."""
    modem = SimulatedModem(options or ModemOptions(report_delay_s=0.01))
    with quick():
        await modem.start(**start)
        made = Rig(modem, usage)
        try:
            yield made
        finally:
            await asyncio.gather(*(upstream.stop(0) for upstream in made.upstreams))
            await made.tasks.cancel()
            await modem.stop()
