"""Step 6: from the upstream back to the client.

A deliver_sm is kept in the database, then acknowledged upstream, then brought to a session of
its account; the client's answer ends it.  If no session is bound here it waits in the database.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from proxy.config import DeliverySettings
from proxy.flow.mailbox import Mailbox, Waiting
from proxy.flow.message import Account, UpstreamLink
from proxy.flow.release import Release
from proxy.routing.inbound import InboundTable
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import ALERT, PduError, find_tlv_if_whole, read_delivery
from proxy.smpp.receipt import IdFormat, parse_receipt, receipt_key
from proxy.store import deliveries
from proxy.store.database import UNREACHABLE
from proxy.store.deliveries import Ended, Incoming, Kept
from proxy.store.group_commit import Lane
from proxy.store.ids import IdMint
from proxy.telemetry import metrics
from proxy.telemetry.tasks import Tasks

log = structlog.get_logger()

# A receipt can overtake the response it belongs to, on another link or another proxy: its message
# is looked for again after these seconds.
_RETRY_AFTER_S = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
_KEEP_MAX = 20_000
_RECEIPT_TYPES = (smpp.ESM_RECEIPT, smpp.ESM_INTERMEDIATE_RECEIPT)

Arrival = tuple[int, int, bytes]
"""command_id, sequence_number, body."""


class Deliver:
    """Everything between the upstreams' deliveries and the accounts' sessions."""

    def __init__(
        self,
        pool: Callable[[], Any],
        connect: Callable[[], Awaitable[Any]],
        mint: IdMint,
        settings: DeliverySettings,
        record_event: Callable[..., None],
        tasks: Tasks,
        release: Release,
        *,
        answers_settled: Callable[[], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._mint = mint
        self._settings = settings
        self._record_event = record_event
        self._tasks = tasks
        self._release = release
        self._answers_settled = answers_settled
        self._looking = 0
        """Receipts whose message is not known yet."""
        self.inbound = InboundTable(())
        self.mailboxes: dict[int, Mailbox] = {}
        self._unsure: set[int] = set()
        """Accounts of which this node may have claimed more than it knows."""
        self.keep_lane: Lane[Incoming, dict[int, Kept]] = Lane(
            "keep",
            connect=connect,
            execute=self._keep,
            committed=self._kept,
            failed=self._not_kept,
            retry=True,
        )
        self.end_lane: Lane[Ended, None] = Lane(
            "end",
            connect=connect,
            execute=self._end,
            committed=self._end_committed,
            failed=lambda _batch: None,
            retry=True,
        )

    # ---------------------------------------------------------------- from the upstream

    def received(
        self,
        link: UpstreamLink,
        upstream_id: int,
        receipt_ids: IdFormat,
        arrivals: list[Arrival],
        *,
        account_id: int | None = None,
        all_asked: bool = False,
        own_sender: bool = False,
    ) -> None:
        """Keep receipts and MO messages; they are acknowledged when they are committed.

        `account_id`: whose MO messages these are, where the upstream knows.  `all_asked`: the
        upstream was asked for a receipt of every message, so clients get those they asked for.
        `own_sender`: it puts a sender of its own into messages, so receipts don't name theirs.
        """
        items = []
        full = self.keep_lane.depth + self._looking >= _KEEP_MAX
        for command_id, sequence_number, body in arrivals:
            if full:
                link.respond(command_id | smpp.RESP, smpp.ESME_RMSGQFUL, sequence_number, b"\0")
                continue
            item = Incoming(link, upstream_id, command_id, sequence_number, body, all_asked)
            item.own_sender = own_sender
            try:
                self._read(item, receipt_ids, account_id)
            except PduError as error:
                link.respond(command_id | smpp.RESP, error.status, sequence_number, b"\0")
                log.warning("malformed_delivery", field=error.field)
                continue
            if item.key is None and item.account_id is None:
                link.respond(command_id | smpp.RESP, smpp.ESME_RX_P_APPN, sequence_number, b"\0")
                self._record_event(
                    "inbound_refused",
                    "Inbound message refused: no account takes its address",
                    severity="warning",
                )
                continue
            items.append(item)
        self.keep_lane.add(items)

    def _read(self, item: Incoming, receipt_ids: IdFormat, account_id: int | None) -> None:
        """Finds out whether it is a receipt and of which message, else whose MO it is."""
        delivery = read_delivery(item.command_id, item.body)
        item.source_addr = delivery.source_addr
        item.destination_addr = delivery.destination_addr
        # Some carriers mark a receipt by its parameters only.
        if delivery.message_type in _RECEIPT_TYPES or (
            not delivery.message_type
            and find_tlv_if_whole(delivery.tlvs, smpp.TAG_RECEIPTED_MESSAGE_ID) is not None
        ):
            receipt = parse_receipt(delivery.text, delivery.tlvs)
            if receipt is not None:
                item.key = receipt_key(receipt.smsc_message_id, receipt_ids)
                item.message_state = receipt.state
                item.error = receipt.error[:32] or None
                return
        item.account_id = account_id or self.inbound.find(item.destination_addr)

    async def _keep(self, connection: Any, batch: list[Incoming]) -> dict[int, Kept]:
        # A receipt often follows its response at once: first the response's commit, so that the
        # receipt finds its message and keeps its place in the order.
        await self._answers_settled()
        here = [account_id for account_id, box in self.mailboxes.items() if box.takes_more]
        return await deliveries.keep(connection, self._mint, batch, here, time.time())

    def _kept(self, batch: list[Incoming], kept: dict[int, Kept]) -> None:
        touched: set[Mailbox] = set()
        missing: dict[int, list[Incoming]] = {}
        release_due: list[tuple[int, int]] = []
        for item in batch:
            row = kept.get(item.id)
            if row is None:
                missing.setdefault(item.attempts, []).append(item)
                continue
            if row.release_due and row.message_id is not None:
                release_due.append((row.account_id, row.message_id))
            item.link.respond(
                item.command_id | smpp.RESP, smpp.ESME_ROK, item.sequence_number, b"\0"
            )
            mailbox = self.mailboxes.get(row.account_id)
            if row.claimed:
                waiting = Waiting(item.id, item.command_id, item.body, row.message_id)
                if mailbox is None:  # its last session left while the row was committed
                    self.give_back(row.account_id, [waiting])
                    continue
                mailbox.put(waiting)
                touched.add(mailbox)
            elif mailbox is not None and not row.unasked:
                mailbox.more = True
                touched.add(mailbox)
        for mailbox in touched:
            mailbox.pump()
        self._release.add(release_due)
        for attempts, items in missing.items():
            self._look_again(attempts, items)

    def _look_again(self, attempts: int, items: list[Incoming]) -> None:
        if attempts < len(_RETRY_AFTER_S):
            for item in items:
                item.attempts += 1
            self._looking += len(items)
            loop = asyncio.get_running_loop()
            loop.call_later(_RETRY_AFTER_S[attempts], self._keep_again, items)
        else:
            self._tasks.spawn(self._unknown(items), "unknown receipts")

    def _keep_again(self, items: list[Incoming]) -> None:
        self._looking -= len(items)
        self.keep_lane.add(items)

    async def _unknown(self, items: list[Incoming]) -> None:
        """Receipts of no known message: perhaps of one in doubt, whose response was lost."""
        for item in items:
            try:
                found = await deliveries.resolve_doubt_by_receipt(self._pool(), item)
            except UNREACHABLE as error:
                log.warning("receipt_lookup_failed", reason=str(error) or repr(error))
                self._not_kept([item])  # the carrier brings it again
                continue
            if found is not None:
                self._record_event(
                    "doubt_resolved",
                    "Message in doubt charged: its receipt arrived",
                    account_id=found[0],
                    message_id=found[1],
                )
                self.keep_lane.add([item])
                continue
            item.link.respond(
                item.command_id | smpp.RESP, smpp.ESME_ROK, item.sequence_number, b"\0"
            )
            self._record_event(
                "receipt_unknown", "Receipt dropped: no message has its id", severity="warning"
            )

    def tell(self, link: UpstreamLink, account_id: int, body: bytes) -> None:
        """A deliver_sm of the proxy's own for an account; `link` hears when it is kept."""
        item = Incoming(link, 0, smpp.DELIVER_SM, 0, body)
        item.account_id = account_id
        self.keep_lane.add([item])

    def alerted(self, body: bytes) -> None:
        """An alert_notification: for whoever takes messages to its esme_addr, if bound here.

        It has no response and is about now, so it is not kept for later (section 4.12).
        """
        try:
            values, _ = ALERT.split(body)
        except PduError as error:
            log.warning("malformed_delivery", field=error.field)
            return
        account_id = self.inbound.find(values[5].decode("latin-1"))
        mailbox = self.mailboxes.get(account_id) if account_id is not None else None
        for session in mailbox.account.sessions if mailbox else ():
            if session.can_receive:
                session.notify(body)
                return

    def _not_kept(self, batch: list[Incoming]) -> None:
        for item in batch:
            item.link.respond(
                item.command_id | smpp.RESP, smpp.ESME_RX_T_APPN, item.sequence_number, b"\0"
            )

    # ------------------------------------------------------------------- to the client

    def receiver_bound(self, account: Account) -> None:
        """A session of the account can receive now: bring what waits."""
        mailbox = self.mailboxes.get(account.id)
        if mailbox is None:
            mailbox = self.mailboxes[account.id] = Mailbox(account, self._settings, self)
        mailbox.more = True
        mailbox.pump()

    def receiver_left(self, account: Account) -> None:
        """A session went away; without any other, what is waiting goes back to the database."""
        mailbox = self.mailboxes.get(account.id)
        if mailbox is not None and not any(s.can_receive for s in account.sessions):
            del self.mailboxes[account.id]
            self.give_back(account.id, mailbox.close())
            self._give_back_unknown(account.id)

    def waiting_in_database(self, account_id: int) -> None:
        """Something was queued for an account that may be bound here (a notification)."""
        mailbox = self.mailboxes.get(account_id)
        if mailbox is not None:
            mailbox.more = True
            mailbox.pump()

    def ended(self, account_id: int, item: Waiting, state: str, status: int) -> None:
        """The client answered (or the proxy gave up for now: 'later')."""
        kind = "mo" if item.message_id is None else "receipt"
        self.end_lane.add([(account_id, item.id, kind, state, status)])
        if state == "refused":
            self._record_event(
                "delivery_refused",
                f"Delivery refused by the client: {smpp.status_name(status)}",
                severity="warning",
                account_id=account_id,
            )

    def load(self, mailbox: Mailbox, limit: int) -> None:
        """Claim waiting rows for a mailbox that has room."""
        self._tasks.spawn(self._load(mailbox, limit), f"load deliveries of {mailbox.account.name}")

    async def _load(self, mailbox: Mailbox, limit: int) -> None:
        account_id = mailbox.account.id
        rows: list[Any] = []
        known: list[int] | None = None
        failed = True
        try:
            await self.end_lane.passed()  # what is done is not to be claimed again
            if account_id in self._unsure:
                known = mailbox.claimed
            rows = await deliveries.claim(self._pool(), account_id, self._mint.node, limit, known)
            failed = False
            self._unsure.discard(account_id)
        except Exception:
            self._unsure.add(account_id)
            log.warning("deliveries_not_loaded", account=mailbox.account.name, exc_info=True)
        items = [Waiting(r["id"], r["command_id"], r["body"], r["message_id"]) for r in rows]
        if self.mailboxes.get(account_id) is not mailbox:
            self.give_back(account_id, items)
            if account_id not in self.mailboxes:
                self._give_back_unknown(account_id)
            return
        mailbox.loaded(items, more=failed or len(rows) == limit, failed=failed)

    def give_back(self, account_id: int, items: list[Waiting]) -> None:
        """Rows that can't be handed out here go back to the database's queue."""
        self.end_lane.add([(account_id, item.id, "", "back", 0) for item in items])

    def _give_back_unknown(self, account_id: int) -> None:
        if account_id in self._unsure:
            self._unsure.discard(account_id)
            self.end_lane.add([(account_id, deliveries.ALL, "", "back", 0)])

    async def _end(self, connection: Any, batch: list[Ended]) -> None:
        s = self._settings
        await deliveries.end(connection, batch, self._mint.node, s.retry_min_s, s.retry_max_s)

    def _end_committed(self, batch: list[Ended], _: None) -> None:
        for (kind, state), count in Counter((e[2], e[3]) for e in batch).items():
            if state not in ("back", "later"):
                metrics.DELIVERIES.labels(kind, state).inc(count)
        for account_id in {e[0] for e in batch if e[3] == "back"}:
            self.waiting_in_database(account_id)
