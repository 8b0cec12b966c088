"""Step 2: read the few fields that are needed, count segments, find the price and the way.

Everything that is refused here costs nothing: no database call was made for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.config import StatusSettings
from proxy.credit.tariff import price_micro
from proxy.flow.charge import Charge
from proxy.flow.message import EsmeSession, Message, Upstream
from proxy.routing.table import RouteTable
from proxy.smpp import vocabulary as smpp
from proxy.smpp.pdu import READERS, PduError
from proxy.telemetry import metrics

Request = tuple[int, int, bytes]
"""command_id, sequence_number, body."""


class Submit:
    """Turns the requests of one read into messages for the charge."""

    def __init__(
        self,
        charge: Charge,
        routes: RouteTable[Upstream],
        status: StatusSettings,
        *,
        queue_max: int,
        record_event: Callable[..., None],
    ) -> None:
        self._charge = charge
        self._routes = routes
        self._status = status
        self._queue_max = queue_max
        self._record_event = record_event
        self.draining = False

    def received(self, session: EsmeSession, requests: list[Request], window_max: int) -> None:
        """Charge what can be charged, answer the rest at once."""
        whole_batch = self._whole_batch_refusal()
        if whole_batch is not None:
            self._refuse(session, requests, *whole_batch)
            return
        messages: list[Message] = []
        refused: dict[str, list[Request]] = {}
        room = window_max - session.open_requests
        left: dict[Upstream, int] = {}
        for request in requests:
            command_id, sequence_number, body = request
            if len(messages) >= room:
                refused.setdefault("throttled", []).append(request)
                continue
            try:
                (
                    source,
                    destination,
                    esm_class,
                    data_coding,
                    registered_delivery,
                    segments,
                    destinations,
                ) = READERS[command_id](body)
            except PduError as error:
                self._malformed(session, request, error)
                continue
            upstreams = self._routes.find(destination)
            if not upstreams:
                refused.setdefault("no_route", []).append(request)
                continue
            reason = self._no_way(upstreams, left)
            if reason is not None:
                refused.setdefault(reason, []).append(request)
                continue
            messages.append(
                Message(
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
                    price_micro(segments * destinations),
                    upstreams,
                )
            )
        for reason, these in refused.items():
            self._refuse(session, these, reason, getattr(self._status, reason))
        session.open_requests += len(messages)
        self._charge.add(messages)

    def _whole_batch_refusal(self) -> tuple[str, int] | None:
        if self.draining:
            return "draining", self._status.no_upstream
        if not self._charge.up:
            return "ledger_unreachable", self._status.ledger_unreachable
        if self._charge.depth >= self._queue_max:
            return "queue_full", self._status.queue_full
        return None

    def _no_way(self, upstreams: tuple[Upstream, ...], left: dict[Upstream, int]) -> str | None:
        """Why none of the upstreams can take one more message, before any debit."""
        any_bound = False
        for upstream in upstreams:
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

    def _refuse(
        self, session: EsmeSession, requests: list[Request], reason: str, status: int
    ) -> None:
        for command_id, sequence_number, _ in requests:
            session.respond(command_id | smpp.RESP, status, sequence_number, b"")
        metrics.REFUSALS.labels(reason).inc(len(requests))
        text, severity = _EVENTS[reason]
        event: dict[str, Any] = {"severity": severity, "account_id": session.account.id}
        self._record_event("message_refused", text, count=len(requests), **event)


_EVENTS = {
    "draining": ("Could not send message. The proxy is shutting down", "info"),
    "ledger_unreachable": ("Could not send message. The ledger is unreachable", "error"),
    "queue_full": ("Could not send message. The queue is full", "warning"),
    "throttled": ("Could not send message. The session's window is exceeded", "warning"),
    "no_route": ("Could not send message. No route for the destination", "warning"),
    "no_upstream": ("Could not send message. No upstream is bound", "error"),
}
