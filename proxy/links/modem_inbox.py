"""What a modem receives: messages from phones and status reports, until the database has them.

Nothing is deleted from the modem, or acknowledged to the network, before it is kept; a message of
several parts not before all of it is.  What can't be kept now is found again by the next look at
the storage.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from proxy.gsm import at
from proxy.gsm.inbound import Reassembly, deliver_sm_of
from proxy.gsm.tpdu import Deliver as DeliverTpdu
from proxy.gsm.tpdu import TpduError, decode_deliver, decode_status_report, kind_of, split_smsc
from proxy.links.modem_handover import End, Handover
from proxy.links.modem_link import ModemLink
from proxy.links.modem_reports import Reports
from proxy.links.modem_start import Modem, read_storage, set_reporting

log = structlog.get_logger()

LOOK_EVERY_S: Final = 300.0
AGAIN_S: Final = 10.0
_LIST_S: Final = 180.0
"""A full storage of 255 messages at 9600 baud takes half of it."""
_TODO_MAX: Final = 1_000
_NEARLY_FULL: Final = 0.8
_UNSENT: Final = 2
_STORAGE: Final = re.compile("[A-Z]{2}")
_HELD_MAX: Final = 5_000


class _Slot(NamedTuple):
    """A message in a storage.  With its octets: another one may come to the same place."""

    storage: str
    number: int
    pdu: str


@dataclass(frozen=True, slots=True)
class _Read:
    """A message was stored here."""

    storage: str
    number: int


@dataclass(frozen=True, slots=True)
class _Direct:
    """A TPDU that came without being stored."""

    code: str
    pdu: str


@dataclass(frozen=True, slots=True)
class _Delete:
    """It is kept, or refused for good."""

    slot: _Slot


@dataclass(frozen=True, slots=True)
class _Acknowledge:
    """What came directly is kept."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A whole message; its keys are slots, or the PDUs of parts that came directly."""

    deliver: DeliverTpdu
    keys: list[object]
    acknowledge: bool = False
    """The network waits to hear that it is kept."""

    @property
    def slots(self) -> list[_Slot]:
        """Where it is stored."""
        return [key for key in self.keys if isinstance(key, _Slot)]

    @property
    def only_here(self) -> bool:
        """A part of it is in no storage."""
        return len(self.slots) < len(self.keys)


_Todo = _Read | _Direct | _Delete | _Acknowledge | _Message


class Inbox:
    """Of one modem; lives longer than its links, so that nothing is handed on twice."""

    def __init__(
        self,
        handover: Handover,
        reports: Reports,
        own_number: str,
        inward: Callable[[bytes], bytes],
        account_id: Callable[[], Awaitable[int | None]],
    ) -> None:
        """`inward`: a body with the numbers as clients write them.

        `account_id`: whose messages these are, None: the inbound table says; may raise.
        """
        self._handover = handover
        self._reports = reports
        self._own_number = own_number
        self._inward = inward
        self._account_id = account_id
        self._reassembly = Reassembly()
        self._todo: deque[_Todo] = deque()
        self._wake = asyncio.Event()
        self._look_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._held: dict[tuple[str, int], _Slot] = {}
        """In the reassembly, or with the flow, or of no use: not to be read again."""
        self._junk: set[_Slot] = set()
        self._gone: dict[tuple[str, int], _Slot] = {}
        """Not needed any more, and not deleted yet."""
        self._imsi: str | None = None
        self._reading = ""
        self.storage: at.Storage | None = None
        """How full the storage is that new messages come to."""

    # ------------------------------------------------------------------------- hearing

    def heard(self, code: str, line: str, pdu: str | None) -> None:
        """An unsolicited code of the modem: +CMTI, +CDSI, +CMT or +CDS."""
        if code in ("+CMT", "+CDS"):
            if pdu is not None:
                self._add(_Direct(code, pdu.upper()))
            return
        values = at.values_of(line)
        number = at.number_of(values[1]) if len(values) > 1 else None
        if number is None or not _STORAGE.fullmatch(values[0]):
            self.look_again(0.0)
        else:
            self._add(_Read(values[0], number))

    def _add(self, todo: _Todo) -> None:
        if len(self._todo) < _TODO_MAX:
            self._todo.append(todo)
        elif isinstance(todo, _Direct | _Message):
            log.error("modem_message_dropped", reason="too many at once, and it is not stored")
        else:
            self.look_again(0.0)  # what is stored is found by looking
        self._wake.set()

    def look_again(self, in_s: float) -> None:
        """Look through the storage so soon, unless that is due earlier."""
        self._look_at = min(self._look_at, self._loop.time() + in_s)
        self._wake.set()

    # ------------------------------------------------------------------------- working

    async def run(self, link: ModemLink, modem: Modem) -> None:
        """As long as the link lives.  Raises ModemLost."""
        if modem.imsi != self._imsi:  # another SIM, other messages
            self._imsi = modem.imsi
            self._reassembly.forget()
            self._held.clear()
            self._junk.clear()
            self._gone.clear()
        # What the last link told: its answers would go to nobody, its slots are listed now.
        self._todo = deque(todo for todo in self._todo if isinstance(todo, _Direct | _Message))
        self._reading = modem.storage
        self._look_at = 0.0
        while True:
            self._wake.clear()
            if self._loop.time() >= self._look_at:
                self._look_at = self._loop.time() + LOOK_EVERY_S
                await self._look(link, modem)
            while self._todo:
                await self._do(link, modem, self._todo.popleft())
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._look_at - self._loop.time())):
                    await self._wake.wait()

    async def _do(self, link: ModemLink, modem: Modem, todo: _Todo) -> None:
        if isinstance(todo, _Read):
            if len(self._held) > _HELD_MAX:  # a look forgets those that are not there
                self.look_again(AGAIN_S)
            elif await self._use(link, todo.storage):
                reply = await link.command(f"AT+CMGR={todo.number}")
                pdu = at.stored_pdu(reply.lines)
                if reply.ok and pdu is not None:
                    await self._stored(_Slot(todo.storage, todo.number, pdu))
        elif isinstance(todo, _Direct):
            try:
                await self._directly(todo)
            except Exception:
                log.exception("modem_message_failed")
                self._add(_Acknowledge())
        elif isinstance(todo, _Delete):
            await self._delete(link, todo.slot)
        elif isinstance(todo, _Message):
            await self._message(todo)
        elif modem.acknowledges and not (await link.command("AT+CNMA")).ok:
            # Too late: the modem has stopped to hand over directly (27.005 section 3.4.1).
            await set_reporting(link, modem)

    async def _use(self, link: ModemLink, storage: str) -> bool:
        if self._reading != storage:
            self._reading = ""
            if not await read_storage(link, storage):
                return False
            self._reading = storage
        return True

    # ----------------------------------------------------------------------- the storage

    async def _look(self, link: ModemLink, modem: Modem) -> None:
        """Read all that is stored; make room where nearly nothing is left."""
        await set_reporting(link, modem)
        storages = [modem.storage] if modem.storage == "MT" else modem.storages
        for storage in storages or [modem.storage]:
            full = await self._how_full(link, storage)
            if storage == modem.storage:
                self.storage = full
            if full is not None and full.used == 0:
                continue
            reply = await link.command("AT+CMGL=4", _LIST_S)
            listed = at.listed(reply.lines)
            for one in listed:
                if one.status < _UNSENT:
                    await self._stored(_Slot(storage, one.slot, one.pdu))
            self._forget_others(storage, {one.slot for one in listed})
            if full is not None and full.used >= _NEARLY_FULL * full.total:
                own = [_Slot(storage, one.slot, one.pdu) for one in listed if one.status >= _UNSENT]
                for slot in [*own, *(s for s in self._junk if s.storage == storage)]:
                    log.warning("modem_storage_cleaned", storage=storage, slot=slot.number)
                    await self._delete(link, slot)
        due = self._reassembly.due(self._loop.time())
        full = self.storage
        if not due and full is not None and 0 < full.used == full.total <= len(self._reassembly):
            # Parts alone fill it: those that are missing can't come.
            log.warning("modem_storage_cleaned", storage=modem.storage, reason="full of parts")
            due = self._reassembly.oldest()
        for deliver, keys in due:
            await self._message(_Message(deliver, keys))

    def _forget_others(self, storage: str, slots: set[int]) -> None:
        """No modem has so many messages: one that seems to does not fill our memory."""
        if len(self._held) > _HELD_MAX:
            gone = [p for p in self._held if p[0] != storage or p[1] not in slots]
            for place in gone:
                self._junk.discard(self._held.pop(place))
                self._gone.pop(place, None)

    async def _how_full(self, link: ModemLink, storage: str) -> at.Storage | None:
        if not storage:
            return None
        reply = await link.command(f'AT+CPMS="{storage}"')
        self._reading = storage if reply.ok else ""
        return at.storage_of(reply.lines, 0) if reply.ok else at.Storage(0, 0)

    async def _stored(self, slot: _Slot) -> None:
        try:
            await self._read(slot)
        except Exception:  # one message must not keep the modem from working for ever
            log.exception("modem_message_failed", slot=slot.number)
            self._held[slot.storage, slot.number] = slot
            self._junk.add(slot)

    async def _read(self, slot: _Slot) -> None:
        place = slot.storage, slot.number
        if self._gone.get(place) == slot:
            self._add(_Delete(slot))  # the first attempt failed
            return
        if self._held.get(place) == slot:
            return
        self._held[place] = slot
        self._gone.pop(place, None)
        try:
            octets = split_smsc(bytes.fromhex(slot.pdu))[1]
            kind = kind_of(octets)
            if kind == "deliver":
                found = self._reassembly.add(decode_deliver(octets), slot, self._loop.time())
            elif kind == "status_report":
                report = decode_status_report(octets)
            else:
                raise TpduError("a report of a submission is not to be stored")
        except TpduError as error:
            log.warning("modem_message_unreadable", slot=slot.number, reason=str(error))
            self._junk.add(slot)  # stays, for a person to look at, as long as there is room
            return
        if kind == "deliver":
            for whole, keys in found:
                await self._message(_Message(whole, keys))
            return
        body = self._reports.reported(report, time.time())
        if body is None:
            self._finish([slot])
        else:
            self._handover.give(body, lambda end: self._ended(end, [slot]))

    async def _message(self, message: _Message) -> None:
        try:
            account_id = await self._account_id()
        except Exception as error:  # whatever a database may say: there is a next time
            log.warning("modem_message_waits", reason=str(error) or repr(error))
            self._message_ended("later", message)
            return
        self._handover.give(
            self._inward(deliver_sm_of(message.deliver, self._own_number)),
            lambda end: self._message_ended(end, message),
            account_id,
        )

    def _message_ended(self, end: End, message: _Message) -> None:
        if end == "later" and message.only_here:
            self._handover.again(AGAIN_S, lambda: self._add(message))
            return
        if message.acknowledge and end != "later":
            self._add(_Acknowledge())
        self._ended(end, message.slots)

    def _ended(self, end: End, slots: list[_Slot]) -> None:
        if end == "later":
            for slot in slots:
                self._held.pop((slot.storage, slot.number), None)
            self.look_again(AGAIN_S)
        elif end == "refused":
            # No account takes it: it stays on the SIM as long as there is room, and is offered
            # again at the next start, when there may be one.
            self._junk.update(slots)
        else:
            self._finish(slots)

    def _finish(self, slots: list[_Slot]) -> None:
        for slot in slots:
            self._gone[slot.storage, slot.number] = slot
            self._add(_Delete(slot))

    async def _delete(self, link: ModemLink, slot: _Slot) -> None:
        place = slot.storage, slot.number
        if self._held.get(place, slot) != slot:
            return  # somebody else deleted it, and another message has its place
        if await self._use(link, slot.storage):
            reply = await link.command(f"AT+CMGD={slot.number}")
            if reply.ok:
                self._held.pop(place, None)
                self._gone.pop(place, None)
                self._junk.discard(slot)

    # ------------------------------------------------------------------ what came directly

    async def _directly(self, direct: _Direct) -> None:
        try:
            octets = split_smsc(bytes.fromhex(direct.pdu))[1]
            if direct.code == "+CMT":
                found = self._reassembly.add(decode_deliver(octets), direct.pdu, self._loop.time())
            else:
                report = decode_status_report(octets)
        except TpduError as error:
            log.warning("modem_message_unreadable", reason=str(error))
            self._add(_Acknowledge())  # it would come again and again
            return
        if direct.code == "+CMT":
            if not any(direct.pdu in keys for _, keys in found):
                self._add(_Acknowledge())  # the network does not wait for the other parts
            for whole, keys in found:
                await self._message(_Message(whole, keys, acknowledge=direct.pdu in keys))
            return
        body = self._reports.reported(report, time.time())
        if body is None:
            self._add(_Acknowledge())
        else:
            self._report(body)

    def _report(self, body: bytes) -> None:
        def ended(end: End) -> None:
            if end == "later":
                self._handover.again(AGAIN_S, lambda: self._report(body))
            else:
                self._add(_Acknowledge())

        self._handover.give(body, ended)

    def receipt(self, body: bytes) -> None:
        """A receipt that was due before its message was answered."""

        def ended(end: End) -> None:
            if end == "later":
                self._handover.again(AGAIN_S, lambda: self.receipt(body))

        self._handover.give(body, ended)
