"""Which route a message takes: the first, in the order of the file, whose conditions it meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from proxy.config.routes import Mode, Policy, RouteSettings, names_of
from proxy.routing.hours import Clock, Hours
from proxy.routing.policy import ways_of

U = TypeVar("U")


class Conditions:
    """What a message has to be for a route to take it; what is left out does not matter.

    Addresses are compared without a leading "+".
    """

    __slots__ = ("_senders", "accounts", "data_codings", "hours", "more", "prefixes", "senders")

    prefixes: tuple[str, ...]
    """Of the destination address; () when any will do."""
    accounts: tuple[str, ...]
    senders: tuple[str, ...]
    """Addresses, or prefixes when they end in "*"."""
    more: bool
    """There are some besides prefixes and accounts, which the table has an index of."""

    def __init__(
        self,
        prefixes: Iterable[str] = ("",),
        accounts: Iterable[str] = (),
        senders: Iterable[str] = (),
        data_codings: Iterable[int] = (),
        hours: Hours | None = None,
    ) -> None:
        self.prefixes = tuple(prefixes)
        if "" in self.prefixes:
            self.prefixes = ()
        self.accounts = tuple(accounts)
        self.senders = tuple(senders)
        plain = [sender.removeprefix("+") for sender in self.senders]
        self._senders = (
            frozenset(sender for sender in plain if not sender.endswith("*")),
            tuple(sender[:-1] for sender in plain if sender.endswith("*")),
        )
        self.data_codings = frozenset(data_codings)
        self.hours = hours
        self.more = bool(self.senders or self.data_codings or hours is not None)

    @property
    def none(self) -> bool:
        """Every message meets them."""
        return not (self.prefixes or self.accounts or self.more)

    def met_otherwise(self, source_addr: str, data_coding: int, now_s: float) -> bool:
        """Whether those are met that are not about the account and the destination."""
        if self.data_codings and data_coding not in self.data_codings:
            return False
        if self.senders and not self._sender_met(source_addr):
            return False
        return self.hours is None or self.hours.hold(now_s)

    def _sender_met(self, source_addr: str) -> bool:
        address = source_addr.removeprefix("+")
        exact, begins = self._senders
        return address in exact or address.startswith(begins)

    def failure(
        self, account: str, source_addr: str, destination_addr: str, data_coding: int, now_s: float
    ) -> str | None:
        """The first that one message to one destination does not meet, in words; None: all met."""
        if self.prefixes and not destination_addr.removeprefix("+").startswith(self.prefixes):
            return f'"{destination_addr}" does not begin with {_any_of(self.prefixes)}'
        if self.accounts and account not in self.accounts:
            return f'account "{account}" is not {_any_of(self.accounts)}'
        if self.senders and not self._sender_met(source_addr):
            return f'sender "{source_addr}" is not {_any_of(self.senders)}'
        if self.data_codings and data_coding not in self.data_codings:
            return f"data_coding {data_coding} is not {_any_of(sorted(self.data_codings))}"
        if self.hours is not None and not self.hours.hold(now_s):
            return f"it is not within {self.hours}"
        return None

    def __str__(self) -> str:
        parts = [
            _any_of(values, name)
            for name, values in (
                ("destination", [f"{prefix}*" for prefix in self.prefixes]),
                ("account", self.accounts),
                ("sender", self.senders),
                ("data_coding", sorted(self.data_codings)),
            )
            if values
        ]
        if self.hours is not None:
            parts.append(str(self.hours))
        return ", ".join(parts) or "every message"


_LISTED_MAX = 5


def _any_of(values: Sequence[object], name: str = "") -> str:
    """The values as people list them, not more than a few."""
    texts = [str(value) for value in values[:_LISTED_MAX]]
    if len(values) > _LISTED_MAX:
        texts.append(f"{len(values) - _LISTED_MAX} others")
    *others, last = texts
    return (f"{name} " if name else "") + " or ".join(filter(None, (", ".join(others), last)))


class Route(Generic[U]):
    """Upstreams, the order in which messages try them, and which messages those are."""

    __slots__ = (
        "conditions",
        "mode",
        "name",
        "policy",
        "queue_when_down",
        "upstreams",
        "ways",
        "weights",
    )

    mode: Mode
    """Whether the client waits for the upstream's answer, or the queue takes the message."""
    queue_when_down: bool
    """Of a direct route: the queue takes its messages while none of its upstreams is bound."""
    ways: Callable[[Callable[[U], int | None]], tuple[U, ...]]
    """ways(cost_micro): the upstreams in the order in which the next message should try them.

    `cost_micro` tells what one takes for this message, None when that is not known; only
    "least_cost" asks.  With "weighted" and "round_robin" each call is one message's turn.
    """

    def __init__(
        self,
        name: str,
        upstreams: Iterable[U],
        *,
        policy: Policy = "failover",
        weights: Sequence[int] | None = None,
        mode: Mode = "direct",
        queue_when_down: bool = False,
        conditions: Conditions | None = None,
    ) -> None:
        self.name = name
        self.upstreams: tuple[U, ...] = tuple(upstreams)
        self.policy = policy
        self.weights = None if weights is None else tuple(weights)
        self.mode = mode
        self.queue_when_down = queue_when_down
        self.conditions = conditions or Conditions()
        self.ways = ways_of(policy, self.upstreams, weights)

    def __repr__(self) -> str:
        return f"Route({self.name!r})"


class Tried(NamedTuple, Generic[U]):
    """A route that was looked at for a message."""

    route: Route[U]
    matched: bool
    why: str
    """The conditions that are met, or the first that is not, in words."""


class _Beginnings(Generic[U]):
    """Routes by how an address has to begin."""

    __slots__ = ("_by_beginning", "_lengths")

    def __init__(self) -> None:
        self._by_beginning: dict[str, list[tuple[int, Route[U]]]] = {}
        self._lengths: list[int] = []

    def add(self, beginning: str, position: int, route: Route[U]) -> None:
        """Positions have to grow."""
        if len(beginning) not in self._lengths:
            self._lengths.append(len(beginning))
        self._by_beginning.setdefault(beginning, []).append((position, route))

    def candidates(self, address: str) -> Iterator[list[tuple[int, Route[U]]]]:
        """For each beginning that it has: the routes, in the order of the file."""
        for length in self._lengths:
            # A slice of a shorter address is the address: that is found by its own length.
            if length <= len(address):
                found = self._by_beginning.get(address[:length])
                if found is not None:
                    yield found


class _Index(Generic[U]):
    """The routes that may be for one account, or for any; each under one of its conditions.

    Tables are long because of prefixes, accounts or senders; the rest is checked one by one.
    """

    __slots__ = ("by_destination", "by_sender")

    def __init__(self) -> None:
        self.by_destination: _Beginnings[U] = _Beginnings()
        self.by_sender: _Beginnings[U] | None = None

    def add(self, position: int, route: Route[U]) -> None:
        """Positions have to grow."""
        conditions = route.conditions
        if conditions.senders and not conditions.prefixes:
            if self.by_sender is None:
                self.by_sender = _Beginnings()
            for sender in conditions.senders:
                beginning = sender.removeprefix("+").removesuffix("*")
                self.by_sender.add(beginning, position, route)
        else:
            for prefix in conditions.prefixes or ("",):
                self.by_destination.add(prefix, position, route)

    def candidates(
        self, source_addr: str, destination_addr: str
    ) -> Iterator[list[tuple[int, Route[U]]]]:
        """Lists of routes, each in the order of the file."""
        yield from self.by_destination.candidates(destination_addr.removeprefix("+"))
        if self.by_sender is not None:
            yield from self.by_sender.candidates(source_addr.removeprefix("+"))


class RouteTable(Generic[U]):
    """Immutable, but for whose turn it is in its routes.  Without a route nothing has one."""

    def __init__(self, routes: Sequence[Route[U]]) -> None:
        self.routes: tuple[Route[U], ...] = tuple(routes)
        self.by_name: dict[str, Route[U]] = {route.name: route for route in self.routes}
        self._takes_all = next((r for r in self.routes[:1] if r.conditions.none), None)
        self._any_account: _Index[U] = _Index()
        self._by_account: dict[str, _Index[U]] = {}
        for position, route in enumerate(self.routes):
            indexes = [
                self._by_account.setdefault(account, _Index())
                for account in route.conditions.accounts
            ]
            for index in indexes or [self._any_account]:
                index.add(position, route)

    def find(
        self, account: str, source_addr: str, destination_addr: str, data_coding: int, now_s: float
    ) -> Route[U] | None:
        """The first route that takes the message; None when there is none.

        Of several destinations joined by commas (submit_multi travels as one PDU), the first
        one decides, and each of them needs a route.  `now_s` is Unix time.
        """
        if self._takes_all is not None:
            return self._takes_all
        if "," not in destination_addr:
            return self._find_one(account, source_addr, destination_addr, data_coding, now_s)
        first, *others = destination_addr.split(",")
        route = self._find_one(account, source_addr, first, data_coding, now_s)
        if route is not None:
            for other in others:
                if self._find_one(account, source_addr, other, data_coding, now_s) is None:
                    return None
        return route

    def _find_one(
        self, account: str, source_addr: str, destination_addr: str, data_coding: int, now_s: float
    ) -> Route[U] | None:
        best: Route[U] | None = None
        best_position = len(self.routes)
        own = self._by_account.get(account)
        for index in (self._any_account,) if own is None else (own, self._any_account):
            for candidates in index.candidates(source_addr, destination_addr):
                for position, route in candidates:
                    if position >= best_position:
                        break
                    conditions = route.conditions
                    if not conditions.more or conditions.met_otherwise(
                        source_addr, data_coding, now_s
                    ):
                        best, best_position = route, position
                        break
        return best

    def explain(
        self, account: str, source_addr: str, destination_addr: str, data_coding: int, now_s: float
    ) -> list[Tried[U]]:
        """Every route up to and including the one that `find` returns, and why (not)."""
        first, *others = destination_addr.split(",")
        tried: list[Tried[U]] = []
        for route in self.routes:
            why = route.conditions.failure(account, source_addr, first, data_coding, now_s)
            if why is None:
                why = str(route.conditions)
                for other in others:
                    if self.find(account, source_addr, other, data_coding, now_s) is None:
                        why = f'"{other}", another of the destinations, has no route'
                        return [*tried, Tried(route, False, why)]
                return [*tried, Tried(route, True, why)]
            tried.append(Tried(route, False, why))
        return tried


def build_routes(
    routes: Sequence[RouteSettings], upstreams: Mapping[str, U], is_modem: Callable[[str], bool]
) -> RouteTable[U]:
    """The table of a configuration.

    `is_modem` tells by name whether an upstream is a modem or a pool: a route with one of
    them is queued unless it says otherwise.  Raises KeyError for an unknown upstream.
    """
    clocks: dict[str, Clock] = {}
    built = []
    for settings, name in zip(routes, names_of(routes), strict=True):
        hours = None
        if settings.hours is not None:
            clock = clocks.setdefault(settings.timezone, Clock(settings.timezone))
            hours = Hours(settings.hours, clock)
        queued = settings.mode is None and any(map(is_modem, settings.upstreams))
        built.append(
            Route(
                name,
                [upstreams[one] for one in settings.upstreams],
                policy=settings.policy,
                weights=settings.weights,
                mode=settings.mode or ("queued" if queued else "direct"),
                queue_when_down=settings.when_down == "queue",
                conditions=Conditions(
                    settings.prefix, settings.account, settings.sender, settings.data_coding, hours
                ),
            )
        )
    return RouteTable(built)
