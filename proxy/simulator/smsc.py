"""A simulated SMPP 3.4 carrier, for trying the proxy and for fault tests.

It takes binds and messages, sends receipts, and misbehaves on request: it refuses, stays silent,
holds its answers back, drops its links. `SimulatedSmsc.options` may be changed while it runs.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from proxy.simulator import smsc_octets as octets
from proxy.simulator.smsc_link import Delivery, Link
from proxy.simulator.smsc_mailbox import Mailbox
from proxy.simulator.smsc_messages import (
    KEPT_MAX,
    Message,
    Messages,
    SmscOptions,
    Submitted,
    is_refused,
    unsuccess,
)
from proxy.simulator.smsc_octets import Address
from proxy.smpp import vocabulary as smpp
from proxy.smpp.vocabulary import MessageState

__all__ = ["SimulatedSmsc", "SmscOptions", "Submitted", "run_smsc"]

_SUBMITS: Final = frozenset({smpp.SUBMIT_SM, smpp.SUBMIT_MULTI, smpp.DATA_SM})


class SimulatedSmsc:
    """The carrier. Public attributes may be read, and `options` and `hold` set, at any time."""

    def __init__(self, options: SmscOptions | None = None) -> None:
        self.options = options or SmscOptions()
        self.port = self.options.port
        self.submits: deque[Submitted] = deque(maxlen=KEPT_MAX)
        self.pdus: Counter[str] = Counter()
        """PDUs received, by the name of their command."""
        self.hold = False
        """While True no submit is answered; see release_held()."""
        self._held: list[Callable[[], None]] = []
        self._messages = Messages()
        self._random = random.Random(self.options.seed)  # noqa: S311 - luck, not secrets
        self._server: asyncio.Server | None = None
        self._stopped = True
        self._timers: set[asyncio.TimerHandle] = set()
        self._mailbox = Mailbox(self._later)
        self._links = self._mailbox.links
        self._watchers: list[tuple[Callable[[SimulatedSmsc], bool], asyncio.Future[None]]] = []

    # Running.

    async def start(self) -> None:
        """Listen; `port` then says where. Started again after a stop, it is the same port."""
        self._stopped = False
        await self.resume_listening()

    async def stop(self) -> None:
        """Stop listening, close every link and forget what is under way; again is harmless."""
        self._stopped = True
        server = self._server
        await self.pause_listening()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._held.clear()
        links = list(self._links)
        for link in links:
            link.abandon()
        for link in links:
            await link.closed
        self._mailbox.clear()
        if server is not None:
            await server.wait_closed()

    async def pause_listening(self) -> None:
        """Refuse new connections; those that exist stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # uvloop closes the socket in its next turn

    async def resume_listening(self) -> None:
        """Accept connections again, on the same port."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: Link(self), self.options.host, self.port
            )
            self.port = self._server.sockets[0].getsockname()[1]

    def drop_connections(self) -> None:
        """Abort every link, without unbind; listening goes on."""
        for link in list(self._links):
            link.close(abort=True)

    def release_held(self) -> int:
        """End the hold, answer every submit that was held, in order; returns how many."""
        self.hold = False
        held, self._held = self._held, []
        for answer in held:
            answer()
        return len(held)

    @property
    def bound(self) -> list[tuple[str, str]]:
        """Each bound link's system_id, and "receiver", "transmitter" or "transceiver"."""
        return [(link.system_id, link.bound_as) for link in self._links if link.bound_as]

    async def wait_for(
        self, predicate: Callable[[SimulatedSmsc], bool], timeout_s: float = 10.0
    ) -> None:
        """Wait until the predicate holds: it is tried at each PDU and each change of a link."""
        if predicate(self):
            return
        watcher = (predicate, asyncio.get_running_loop().create_future())
        self._watchers.append(watcher)
        try:
            async with asyncio.timeout(timeout_s):
                await watcher[1]
        finally:
            self._watchers.remove(watcher)

    # Sending of its own accord.

    async def send_mo(
        self,
        source: str,
        destination: str,
        text: bytes,
        *,
        esm_class: int = 0,
        data_coding: int = 0,
        tlvs: bytes = b"",
        system_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> int:
        """Send a deliver_sm and return the status it is answered with.

        It waits for a link of the system_id (None: of anyone) to be bound, and is sent again
        when that link ends first. TimeoutError when no answer comes.
        """
        body = octets.deliver_body(
            Address(1, 1, source),
            Address(1, 1, destination),
            text,
            esm_class=esm_class,
            data_coding=data_coding,
            tlvs=tlvs,
        )
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._mailbox.put(Delivery(system_id, body, answer))
        async with asyncio.timeout(timeout_s):
            return await answer

    async def send_receipt(
        self,
        smsc_message_id: str,
        stat: str = "DELIVRD",
        *,
        source: str = "",
        destination: str = "",
        err: str = "000",
        text: bytes = b"",
        with_tlvs: bool = True,
        esm_class: int = smpp.ESM_RECEIPT,
        system_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> int:
        """Send a receipt for any id, written as given, and return the status of its answer.

        `source` is the handset the message went to, `destination` who sent it. The text's dates
        are now. `stat` may be any word; one that appendix B lacks has the state UNKNOWN in the TLV.
        """
        now = datetime.now(UTC)
        state = smpp.STATE_OF_STAT.get(stat, MessageState.UNKNOWN)
        return await self.send_mo(
            source,
            destination,
            octets.receipt_text(smsc_message_id, stat, now, now, text=text, err=err),
            esm_class=esm_class,
            tlvs=octets.receipt_tlvs(smsc_message_id, state) if with_tlvs else b"",
            system_id=system_id,
            timeout_s=timeout_s,
        )

    async def send_pdu(self, pdu: bytes) -> None:
        """Send these octets, whatever they are, on the first bound link."""
        link = next((link for link in self._links if link.bound_as), None)
        if link is None:
            raise ConnectionError("no link is bound")
        link.send(pdu)

    # What links tell and ask (smsc_link.Carrier).

    @property
    def system_id(self) -> str:
        """The carrier's own system_id."""
        return self.options.system_id

    def bind_status(self, system_id: str, password: str) -> int:
        """Whether a bind may come in."""
        del system_id  # anyone may, with the password
        expected = self.options.password
        return smpp.ESME_RINVPASWD if expected and password != expected else smpp.ESME_ROK

    def link_opened(self, link: Link) -> None:
        """Keep a new link, unless it slipped in while the carrier stopped."""
        self._links.append(link)
        if self._stopped:
            link.close(abort=True)

    def link_bound(self, link: Link) -> None:
        """Send what waited for it."""
        self._mailbox.room_on(link)

    def link_closed(self, link: Link) -> None:
        """Forget a link; what it had not answered goes to another."""
        self._links.remove(link)
        self._mailbox.link_closed(link)
        self.pdu_handled()

    def pdu_received(self, command_id: int) -> None:
        """Count it."""
        self.pdus[smpp.command_name(command_id)] += 1

    def pdu_handled(self) -> None:
        """Wake whoever waited for what just happened."""
        for predicate, found in self._watchers:
            if not found.done():
                try:
                    if predicate(self):
                        found.set_result(None)
                except Exception as error:
                    found.set_exception(error)

    def delivered(self, link: Link, delivery: Delivery, status: int) -> None:
        """A deliver_sm was answered."""
        self._mailbox.answered(link, delivery, status)

    def request(self, link: Link, command_id: int, sequence_number: int, body: bytes) -> bool:
        """Take a message, or a question about one; False when the command is not known."""
        if command_id not in _SUBMITS and command_id not in Messages.OPERATIONS:
            return False
        if not link.transmits:
            response = command_id | smpp.RESP
            link.send(octets.build(response, smpp.ESME_RINVBNDSTS, sequence_number))
        elif command_id in _SUBMITS:
            self._take(link, command_id, sequence_number, body)
        else:
            status, answer = self._messages.operate(command_id, body)
            link.send(octets.build(command_id | smpp.RESP, status, sequence_number, answer))
        return True

    # Messages.

    def _take(self, link: Link, command_id: int, sequence: int, body: bytes) -> None:
        """Decide what becomes of a message, note it, and answer in due time."""
        submit = octets.read_submit(command_id, body)
        # All three are drawn for every submit, so that one rate does not change another's luck.
        luck = self._random.random
        silent = luck() < self.options.silence_rate
        refused = luck() < self.options.refuse_rate
        failed = luck() < self.options.fail_rate
        status = self._status(command_id, submit, refused=refused)
        message = None
        if not silent and status == smpp.ESME_ROK:
            message = self._messages.accept(self.options, link.system_id, submit, failed=failed)
        self.submits.append(
            Submitted(
                command_id=command_id,
                body=body,
                sequence_number=sequence,
                system_id=link.system_id,
                source_addr=submit.source.addr,
                destination_addrs=[address.addr for address in submit.destinations],
                smsc_message_id=message.response_id if message else "",
                status=None if silent else status,
                short_message=submit.text,
            )
        )
        if silent:
            return
        answer = partial(self._answer, link, command_id, status, sequence, message)
        if self.hold:
            self._held.append(answer)
        else:
            self._later(self.options.response_delay_s, answer)

    def _status(self, command_id: int, submit: octets.Submit, *, refused: bool) -> int:
        if not submit.destinations:
            return smpp.ESME_RINVNUMDESTS
        if command_id != smpp.SUBMIT_MULTI and is_refused(submit.destinations[0]):
            return smpp.ESME_RINVDSTADR
        return self.options.refuse_status if refused else smpp.ESME_ROK

    def _answer(
        self, link: Link, command_id: int, status: int, sequence: int, message: Message | None
    ) -> None:
        """Send the response. The receipt follows even when the link has ended meanwhile."""
        body = b""
        if message is not None:
            body = octets.c_octets(message.response_id)
            if command_id == smpp.SUBMIT_MULTI:
                body += unsuccess(message.submit)
            message.answered(self.options.receipt_delay_s)
        link.send(octets.build(command_id | smpp.RESP, status, sequence, body))
        if message is not None and self.options.receipts and message.receipt_asked:
            self._later(self.options.receipt_delay_s, partial(self._send_receipts, message))

    def _send_receipts(self, message: Message) -> None:
        for body in message.receipts():
            self._mailbox.put(Delivery(message.system_id, body))

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do it after a delay, at once when there is none; stop() forgets what is not done."""
        if delay_s <= 0:
            action()
            return

        def run() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)


async def run_smsc(
    options: SmscOptions, on_ready: Callable[[SimulatedSmsc], None] | None = None
) -> None:
    """Run a carrier until SIGINT or SIGTERM; `on_ready` is called once it accepts binds."""
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    smsc = SimulatedSmsc(options)
    await smsc.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop.set)
    try:
        if on_ready is not None:
            on_ready(smsc)
        await asked_to_stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await smsc.stop()
