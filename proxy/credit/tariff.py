"""What a message costs: prices by destination prefix and service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

SERVICE_SMS: Final = "sms"
SERVICE_BINARY: Final = "binary"
_FROM_CONTENT: Final = frozenset((SERVICE_SMS, SERVICE_BINARY))
_CACHE_MAX: Final = 50_000


class Price(NamedTuple):
    """One row of a tariff."""

    id: int
    prefix: str
    """Of the destination address, without "+"; empty: every destination."""
    service: str
    """"sms", "binary" or a service_type in small letters; empty: every service."""
    price_micro: int | None
    """Micro-credits a segment; None: not sold here."""
    valid_from_s: float | None = None
    """Seconds since the Unix epoch; None: always was."""
    valid_to_s: float | None = None
    """The first moment when it is not valid any more; None: for ever."""

    def is_valid(self, now_s: float) -> bool:
        """Whether it counts at that moment."""
        return (self.valid_from_s is None or self.valid_from_s <= now_s) and (
            self.valid_to_s is None or now_s < self.valid_to_s
        )


class PriceTable:
    """The prices of a tariff that are valid together: immutable."""

    def __init__(self, prices: Iterable[Price], until_s: float) -> None:
        self.until_s = until_s
        """When another price begins or ends."""
        every: dict[str, Price] = {}
        special: dict[str, dict[str, Price]] = {}
        # Of two with the same prefix and service the one that began later counts.
        for price in sorted(prices, key=_began_s):
            rows = special.setdefault(price.service, {}) if price.service else every
            rows[price.prefix] = price
        self._every = _Prefixes(every, {})
        self._by_service = {name: _Prefixes(rows, every) for name, rows in special.items()}

    def find(self, destination_addr: str, service: str) -> Price | None:
        """The price of the longest prefix that matches; None: there is none."""
        return self._by_service.get(service, self._every).find(destination_addr)

    def knows(self, service: str) -> bool:
        """Whether a service has prices of its own."""
        return service in self._by_service


def _began_s(price: Price) -> float:
    return float("-inf") if price.valid_from_s is None else price.valid_from_s


class _Prefixes:
    """Prices by prefix; of two with the same prefix the service's own comes before the others'."""

    def __init__(self, own: dict[str, Price], others: dict[str, Price]) -> None:
        self._own = own
        self._others = others
        self._lengths = sorted({len(prefix) for rows in (own, others) for prefix in rows})[::-1]
        self._longest = max(self._lengths, default=0)
        self._known: dict[str, Price | None] = {}

    def find(self, address: str) -> Price | None:
        if address[:1] == "+":
            address = address[1:]
        # No prefix sees more of the address than this, so one answer serves all that begin so.
        start = address[: self._longest]
        try:
            return self._known[start]
        except KeyError:
            pass
        found = None
        # A carrier may read "(447…" as 447…: what is not plain has no price, not the default's.
        plain = start.isascii() and start.isalnum()
        for length in self._lengths if plain or not start else ():
            prefix = start[:length]
            found = self._own.get(prefix) or self._others.get(prefix)
            if found is not None:
                break
        if len(self._known) >= _CACHE_MAX:  # destinations are the clients' choice
            self._known.clear()
        self._known[start] = found
        return found


class Tariff:
    """All rows of a tariff, with what is valid at a moment compiled when it is asked for."""

    def __init__(self, tariff_id: int, name: str, version: int, prices: Iterable[Price]) -> None:
        self.id = tariff_id
        self.name = name
        self.version = version
        self.prices = tuple(prices)
        self._table = PriceTable((), float("-inf"))
        self._since_s = float("inf")

    def at(self, now_s: float) -> PriceTable:
        """The prices valid at a moment, in seconds since the Unix epoch.

        Cheap as long as no price begins or ends between one call and the next.
        """
        if not self._since_s <= now_s < self._table.until_s:
            since_s, until_s = float("-inf"), float("inf")
            for price in self.prices:
                for bound_s in (price.valid_from_s, price.valid_to_s):
                    if bound_s is None:
                        continue
                    if bound_s <= now_s:
                        since_s = max(since_s, bound_s)
                    else:
                        until_s = min(until_s, bound_s)
            self._since_s = since_s
            self._table = PriceTable([p for p in self.prices if p.is_valid(now_s)], until_s)
        return self._table


def service_of(table: PriceTable, service_type: str, binary: bool) -> str:
    """The service that a message is priced as.

    Its service_type (SMPP 3.4 section 5.2.11) where the tariff has prices for that, else "binary"
    for 8-bit data and "sms" for the rest.  These two are read from the message itself: a client
    that could name them would choose its price.
    """
    name = service_type.lower()
    if name and name not in _FROM_CONTENT and table.knows(name):
        return name
    return SERVICE_BINARY if binary else SERVICE_SMS
