"""What travels through the flow: accounts, messages, and the links as the flow sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Account:
    """An account that has sessions on this proxy: what the flow needs of it without a query.

    The balance is not here: it lives in the database only.
    """

    __slots__ = ("id", "insufficient_status", "max_binds", "name", "sessions")

    def __init__(self, account_id: int, name: str) -> None:
        self.id = account_id
        self.name = name
        self.max_binds = 0
        self.insufficient_status: int | None = None
        self.sessions: set[EsmeSession] = set()


class EsmeSession(Protocol):
    """A customer's bound connection."""

    account: Account
    login_id: int
    system_id: str
    open_requests: int

    takes_tlvs: bool
    """SMPP 3.4 or newer: optional parameters may be sent (section 3.2.4 of 3.4)."""

    @property
    def can_receive(self) -> bool:
        """Bound as receiver or transceiver, and not closing."""

    @property
    def deliver_room(self) -> int:
        """How many more deliveries its window takes now."""

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """Send a response; nothing happens when the connection is gone."""

    def deliver(self, command_id: int, body: bytes, done: Callable[[int | None], None]) -> None:
        """Send a request; `done` gets the response's status, None for silence or a lost link."""

    def notify(self, body: bytes) -> None:
        """Send an alert_notification, which has no response."""

    def unbind(self, reason: str) -> None:
        """Ask the client to leave, then close."""


class Message:
    """One submit_sm, data_sm or submit_multi between its arrival and its answer."""

    __slots__ = (
        "account",
        "body",
        "command_id",
        "data_coding",
        "destination_addr",
        "destinations",
        "esm_class",
        "id",
        "login_id",
        "price_micro",
        "registered_delivery",
        "segments",
        "sequence_number",
        "session",
        "source_addr",
        "upstreams",
        "waits_until",
    )

    id: int
    """Minted when it is charged; what the client knows it by."""
    waits_until: float
    """When waiting for a window slot ends (the loop's clock); 0: it has not begun."""

    def __init__(
        self,
        session: EsmeSession,
        command_id: int,
        sequence_number: int,
        body: bytes,
        source_addr: str,
        destination_addr: str,
        esm_class: int,
        data_coding: int,
        registered_delivery: int,
        segments: int,
        destinations: int,
        price_micro: int,
        upstreams: tuple[Upstream, ...],
    ) -> None:
        self.session = session
        self.account = session.account
        self.login_id = session.login_id
        self.command_id = command_id
        self.sequence_number = sequence_number
        self.body = body
        self.source_addr = source_addr
        self.destination_addr = destination_addr
        self.esm_class = esm_class
        self.data_coding = data_coding
        self.registered_delivery = registered_delivery
        self.segments = segments
        self.destinations = destinations
        self.price_micro = price_micro
        self.upstreams = upstreams
        self.waits_until = 0.0


class Operation:
    """A query_sm, cancel_sm or replace_sm on its way: relayed, answered, never charged."""

    __slots__ = ("body", "command_id", "done")

    def __init__(
        self, command_id: int, body: bytes, done: Callable[[int | None, bytes], None]
    ) -> None:
        self.command_id = command_id
        self.body = body
        self.done = done


class Upstream(Protocol):
    """A way out: a carrier with its links (later: a modem)."""

    name: str
    id: int

    def response_key(self, smsc_message_id: str) -> str | None:
        """The key that receipts are found by, where it differs from the response's id."""

    @property
    def bound(self) -> bool:
        """At least one link can take messages."""

    @property
    def room(self) -> int:
        """How many more messages it takes, waiting ones included."""

    def send(self, messages: list[Message]) -> None:
        """Write them, in order, as window and rate allow; the rest waits in the backlog."""

    def operate(self, operation: Operation) -> bool:
        """Relay an operation; False when no link can take it now."""


class UpstreamLink(Protocol):
    """The connection a deliver_sm or data_sm came in on."""

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """Send a response; nothing happens when the connection is gone."""
