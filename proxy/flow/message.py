"""What travels through the flow: accounts, messages, and the links as the flow sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.credit.rules import Rules
from proxy.credit.tariff import Tariff
from proxy.routing.status_rules import Rule
from proxy.routing.table import Route
from proxy.routing.throttle import Throttle
from proxy.smpp import vocabulary as smpp
from proxy.smpp.udh import Concatenation
from proxy.store.queue import Place

FRESH = 1
"""In a retry_hash: this is no retry, though the client sent the same before."""


class Account:
    """An account that has sessions on this proxy: what the flow needs of it without a query.

    The balance is not here: it lives in the database only.
    """

    __slots__ = ("asked_at_s", "dry_micro", "id", "name", "rules", "sessions", "tariff", "throttle")

    asked_at_s: float
    """When it asked for its balance last, by the monotonic clock."""

    dry_micro: int | None
    """What it had left to spend when a message of it was refused for lack of credit.

    More than this need not be asked of the database until someone adds credit.  None: ask.
    """

    def __init__(self, account_id: int, name: str, rules: Rules, tariff: Tariff) -> None:
        self.id = account_id
        self.name = name
        self.rules = rules
        self.tariff = tariff
        self.throttle: Throttle | None = None
        self.dry_micro = None
        self.asked_at_s = float("-inf")
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
    def closing(self) -> bool:
        """The connection is gone, or goes: a response does not reach the client."""

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
        "arrived_at",
        "asked",
        "body",
        "charge_on",
        "command_id",
        "data_coding",
        "destination_addr",
        "destinations",
        "esm_class",
        "id",
        "login_id",
        "part",
        "price_id",
        "price_micro",
        "prices_micro",
        "queue",
        "registered_delivery",
        "retry_hash",
        "route",
        "segments",
        "sequence_number",
        "service",
        "session",
        "source_addr",
        "tried",
        "tries",
        "upstreams",
        "waits_until",
    )

    id: int
    """Minted when it is charged; what the client knows it by."""
    waits_until: float
    """When waiting for a window slot ends (the loop's clock); 0: it has not begun."""
    arrived_at: float
    """When its client began to wait (the loop's clock)."""
    route: Route[Upstream] | None
    """None: there is none for it."""
    upstreams: tuple[Upstream, ...]
    """Those that may take it, in the order in which they are tried."""
    tries: int
    """How often an upstream refused it for now."""
    tried: tuple[Upstream, ...]
    """The upstreams of those that refused it and are not asked again."""
    queue: Place | None
    """Its place in the durable queue; None: its client waits for the upstream's answer."""
    segments: int
    """Of all destinations together."""
    price_micro: int
    """Of all segments together."""
    prices_micro: tuple[int, ...]
    """Of a submit_multi: of all segments to each destination."""
    part: Concatenation | None
    """Which part of which longer message it is."""
    asked: int
    """The receipt decides about the charge: what the client asked for; -1: it does not."""
    retry_hash: int
    """What a retry of it would have as well, and FRESH; 0: its account does not want that."""

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
        part: Concatenation | None,
        service: str,
        price_id: int,
        price_micro: int,
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
        self.part = part
        self.service = service
        self.price_id = price_id
        self.price_micro = price_micro
        self.prices_micro = ()
        self.route = None
        self.upstreams = ()
        self.tries = 0
        self.tried = ()
        self.queue = None
        self.arrived_at = 0.0
        self.charge_on = self.account.rules.charge_on
        self.asked = -1
        self.retry_hash = 0
        self.waits_until = 0.0

    @property
    def all_destinations(self) -> tuple[str, ...]:
        """Each destination address; only a submit_multi has several."""
        if self.command_id == smpp.SUBMIT_MULTI:
            return tuple(self.destination_addr.split(","))
        return (self.destination_addr,)

    @property
    def part_key(self) -> str:
        """What all parts of one longer message have in common; empty: it is not a part."""
        if self.part is None:
            return ""
        reference, total, _ = self.part
        source = self.source_addr  # its length first: clients may put anything into an address
        return f"{reference}/{total} {len(source)} {source}>{self.destination_addr}"


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
    """A way out: a carrier with its links, a GSM modem, or a pool of them."""

    name: str
    id: int

    @property
    def pool(self) -> Upstream | None:
        """The pool that it is a part of: routes know that one."""

    def response_key(self, smsc_message_id: str) -> str | None:
        """The key that receipts are found by, where it differs from the response's id."""

    def cost_micro(self, message: Message) -> int | None:
        """What the carrier takes for a message; None: not known."""

    def rule(self, status: int) -> Rule:
        """What is done about a command_status other than ESME_ROK."""

    @property
    def bound(self) -> bool:
        """At least one link can take messages."""

    @property
    def healthy(self) -> bool:
        """Bound, and nothing speaks against it: it is preferred to one that is not."""

    @property
    def allowance(self) -> int | None:
        """How many more messages it should get while others are healthy; None: any number."""

    @property
    def room(self) -> int:
        """How many more messages it takes, waiting ones included."""

    @property
    def spare(self) -> int:
        """How many messages of the durable queue it would take now.

        What it can write at once, less a reserve for messages whose clients wait.
        """

    def send(self, messages: list[Message]) -> None:
        """Write them, in order, as window and rate allow; the rest waits in the backlog."""

    def operate(self, operation: Operation) -> bool:
        """Relay an operation; False when no link can take it now."""


class UpstreamLink(Protocol):
    """The connection a deliver_sm or data_sm came in on."""

    def respond(self, command_id: int, status: int, sequence_number: int, body: bytes) -> None:
        """Send a response; nothing happens when the connection is gone."""
