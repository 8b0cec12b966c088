"""Step 2: read the few fields that are needed, count segments, find the price and the way.

Everything that is refused here costs nothing: no database call was made for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.credit.tariff import Price, PriceTable, service_of
from proxy.flow.balance import Balance
from proxy.flow.charge import Charge
from proxy.flow.message import Account, EsmeSession, Message, Upstream
from proxy.flow.queue import Queue
from proxy.flow.refusals import Refuser, Request
from proxy.flow.retry import Retry
from proxy.routing.table import RouteTable
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS, PduError
from proxy.smpp.rewrite import with_receipt_asked
from proxy.smpp.segments import BINARY
from proxy.telemetry import metrics


class Submit:
    """Turns the requests of one read into messages for the charge."""

    def __init__(
        self,
        charge: Charge,
        routes: RouteTable[Upstream],
        queue: Queue,
        refuser: Refuser,
        retry: Retry,
        balance: Balance,
        *,
        queue_max: int,
        record_event: Callable[..., None],
    ) -> None:
        self._charge = charge
        self.routes = routes
        """Another table may take its place at any time."""
        self._queue = queue
        self._refuser = refuser
        self._retry = retry
        self._balance = balance
        self._queue_max = queue_max
        self._record_event = record_event
        self.draining = False

    def received(self, session: EsmeSession, requests: list[Request], window_max: int) -> None:
        """Charge what can be charged, answer the rest at once."""
        whole_batch = self._whole_batch_refusal()
        if whole_batch is not None:
            self._refuser.answer(session, requests, whole_batch)
            return
        messages: list[Message] = []
        refused: dict[str, list[Request]] = {}
        room = window_max - session.open_requests
        left: dict[Upstream, int] = {}
        account, now_s = session.account, time.time()
        table = account.tariff.at(now_s)
        for request in requests:
            if len(messages) >= room:
                refused.setdefault("throttled", []).append(request)
                continue
            try:
                message = self._read(session, request, table)
            except PduError as error:
                self._malformed(session, request, error)
                continue
            if message.destination_addr == self._balance.address:
                if self._balance.may_ask(account):
                    room -= 1
                    self._balance.asked(message)
                else:
                    refused.setdefault("over_rate", []).append(request)
                continue
            try:
                reason = self._refusal(account, message, now_s) or self._way(message, left, now_s)
            except PduError as error:
                self._malformed(session, request, error)
                continue
            if reason is not None:
                refused.setdefault(reason, []).append(request)
                continue
            messages.append(message)
        messages = self._within_rate(account, messages, refused)
        for reason, these in refused.items():
            self._refuser.answer(session, these, reason)
        if account.rules.retry_safe_s:
            self._retry.mark(messages)
        session.open_requests += len(messages)
        self._charge.add(messages)

    def _whole_batch_refusal(self) -> str | None:
        if self.draining:
            return "draining"
        if not self._charge.up:
            return "ledger_unreachable"
        if self._charge.depth >= self._queue_max:
            return "queue_full"
        return None

    def _read(self, session: EsmeSession, request: Request, table: PriceTable) -> Message:
        """The message with its price, 0 when there is none.  Raises PduError."""
        command_id, sequence_number, body = request
        (
            source,
            destination,
            esm_class,
            data_coding,
            registered_delivery,
            segments,
            destinations,
            service_type,
            part,
        ) = READERS[command_id](body)
        service = service_of(table, service_type.decode("latin-1"), data_coding in BINARY)
        price: Price | None
        if command_id == smpp.SUBMIT_MULTI:
            price, prices_micro = _prices(table, destination.split(","), service, segments)
            price_micro = sum(prices_micro)
        else:
            price = table.find(destination, service)
            price_micro = (price.price_micro or 0) * segments if price else 0
        message = Message(
            session,
            command_id,
            sequence_number,
            body,
            source,
            destination,
            esm_class,
            data_coding,
            registered_delivery,
            segments * destinations,
            destinations,
            part,
            service,
            price.id if price else 0,
            price_micro,
        )
        if command_id == smpp.SUBMIT_MULTI:
            # Its receipts come one for each destination: it is charged when it is accepted.
            message.prices_micro = prices_micro
        elif message.charge_on == "delivery":
            message.asked = registered_delivery & smpp.REGISTERED_RECEIPT_MASK
            message.body = with_receipt_asked(command_id, body)
        return message

    def _refusal(self, account: Account, message: Message, now_s: float) -> str | None:
        """Why the account may not send this, as far as that is known without a query."""
        rules = account.rules
        if rules.limits:
            reason = rules.refusal(message.source_addr, message.all_destinations, now_s)
            if reason is not None:
                return reason
        if not message.price_micro:
            return "not_sold" if message.price_id else "no_price"
        if (
            account.dry_micro is not None
            and message.price_micro > account.dry_micro
            # A retry costs nothing, and the parts of a message are refused together.
            and not rules.retry_safe_s
            and (message.part is None or not rules.all_parts)
        ):
            metrics.CREDITS_REFUSED.inc(message.price_micro / 1e6)
            return "insufficient_credits"
        return None

    def _way(self, message: Message, left: dict[Upstream, int], now_s: float) -> str | None:
        """Find the message's route; the reason when it can't be taken now, before any debit.

        Raises PduError when it is for the queue and its times are malformed.
        """
        route = self.routes.find(
            message.account.name,
            message.source_addr,
            message.destination_addr,
            message.data_coding,
            now_s,
        )
        if route is None:
            return "no_route"
        message.route = route
        message.upstreams = route.ways(lambda upstream: upstream.cost_micro(message))
        if self._queue.takes(route):
            if self._queue.full:
                return "queue_full"
            message.queue = self._queue.place(message, now_s)
            return None
        message.arrived_at = time.monotonic()
        any_bound = False
        for upstream in message.upstreams:
            if upstream.bound:
                any_bound = True
                # Asked once a batch, and counted down; what is being charged comes before us.
                room = left.get(upstream)
                if room is None:
                    room = upstream.room - self._charge.depth
                if room > 0:
                    left[upstream] = room - 1
                    return None
        return "queue_full" if any_bound else "no_upstream"

    def _within_rate(
        self, account: Account, messages: list[Message], refused: dict[str, list[Request]]
    ) -> list[Message]:
        """What the account's rate lets through; the database counts over all proxies."""
        if account.throttle is None:
            return messages
        left = available = account.throttle.available(time.monotonic())
        allowed = 0
        for message in messages:
            if left <= 0:
                break
            left -= message.destinations
            allowed += 1
        # A message of many destinations may take more: the database keeps account of that.
        account.throttle.take(available - max(left, 0))
        if allowed < len(messages):
            refused.setdefault("over_rate", []).extend(
                (message.command_id, message.sequence_number, message.body)
                for message in messages[allowed:]
            )
        return messages[:allowed]

    def _malformed(self, session: EsmeSession, request: Request, error: PduError) -> None:
        command_id, sequence_number, _ = request
        metrics.REFUSALS.labels("malformed").inc()
        self._record_event(
            "malformed_pdu",
            f"Message refused: {error}",
            severity="warning",
            account_id=session.account.id,
        )
        session.respond(command_id | smpp.RESP, error.status, sequence_number, b"")


def _prices(
    table: PriceTable, destinations: list[str], service: str, segments: int
) -> tuple[Price | None, tuple[int, ...]]:
    """The prices to several destinations, and the row of the first.

    When one of them has no price or is not sold, that one's row and no prices.
    """
    rows = [table.find(destination, service) for destination in destinations]
    for row in rows:
        if row is None or row.price_micro is None:
            return row, ()
    prices_micro = tuple((row.price_micro or 0) * segments for row in rows if row)
    return rows[0], prices_micro
