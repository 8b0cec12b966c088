"""Why a message is refused: one place for the status, the event and the metric of each reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from proxy.config import StatusSettings
from proxy.flow.message import Account, EsmeSession
from proxy.smpp import vocabulary as smpp
from proxy.telemetry import metrics


class Refusal(NamedTuple):
    """One reason."""

    text: str
    """Of the event, behind "Could not send message. "."""
    severity: str
    status: str
    """The key of `[status]` in the configuration."""
    kind: str = "message_refused"
    """Of the event."""


REFUSALS: Final = {
    "draining": Refusal("The proxy is shutting down", "info", "no_upstream"),
    "ledger_unreachable": Refusal("The ledger is unreachable", "error", "ledger_unreachable"),
    "queue_full": Refusal("The queue is full", "warning", "queue_full"),
    "throttled": Refusal("The session's window is exceeded", "warning", "throttled"),
    "no_route": Refusal("No route for the destination", "warning", "no_route"),
    "no_upstream": Refusal("No upstream is bound", "error", "no_upstream"),
}
REFUSALS.update(
    {
        name: Refusal(text, "warning", name, name)
        for name, text in {
            "insufficient_credits": "Insufficient credits",
            "account_disabled": "The account is disabled",
            "account_expired": "The account is no longer valid",
            "no_price": "No price for the destination",
            "not_sold": "The destination is not sold",
            "source_not_allowed": "The sender address is not allowed",
            "destination_not_allowed": "The destination is not allowed",
            "over_rate": "The account's rate is exceeded",
            "daily_cap": "The account's daily cap is reached",
            "monthly_cap": "The account's monthly cap is reached",
            "daily_messages": "The account's messages of the day are used up",
        }.items()
    }
)

Request = tuple[int, int, bytes]
"""command_id, sequence_number, body."""


class Refuser:
    """Answers what is refused, and says so to the operator."""

    def __init__(self, status: StatusSettings, record_event: Callable[..., None]) -> None:
        self._status = status
        self._record_event = record_event

    def status(self, reason: str, account: Account) -> int:
        """The command_status that the client gets."""
        own = account.rules.insufficient_status
        if reason == "insufficient_credits" and own is not None:
            return own
        status: int = getattr(self._status, REFUSALS[reason].status)
        return status

    def answer(self, session: EsmeSession, requests: Iterable[Request], reason: str) -> None:
        """Refuse requests of a session, without having charged them."""
        status = self.status(reason, session.account)
        count = 0
        for command_id, sequence_number, _ in requests:
            session.respond(command_id | smpp.RESP, status, sequence_number, b"")
            count += 1
        self.tell(reason, session.account, count)

    def tell(self, reason: str, account: Account, count: int) -> None:
        """Count refusals that have been answered, and write the event."""
        refusal = REFUSALS[reason]
        metrics.REFUSALS.labels(reason).inc(count)
        self._record_event(
            refusal.kind,
            f"Could not send message. {refusal.text}",
            severity=refusal.severity,
            account_id=account.id,
            count=count,
        )
