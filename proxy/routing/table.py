"""Which upstreams a message may take: longest matching prefix of its destination."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

U = TypeVar("U")


class RouteTable(Generic[U]):
    """Immutable.  Without any route every message may go to every upstream, in order."""

    def __init__(self, routes: Iterable[tuple[str, Sequence[U]]], everything: Sequence[U]) -> None:
        self._by_prefix = {prefix: tuple(upstreams) for prefix, upstreams in routes}
        self._default: tuple[U, ...] = (
            self._by_prefix.get("", ()) if self._by_prefix else tuple(everything)
        )
        # Only lengths that occur are tried, the longest first.
        self._lengths = sorted({len(p) for p in self._by_prefix if p}, reverse=True)

    def find(self, destination_addr: str) -> tuple[U, ...]:
        """The upstreams to try, in order; empty when there is no route.

        Of several destinations joined by commas (submit_multi travels as one PDU), the first
        one decides, and each of them needs a route.
        """
        if not self._lengths:
            return self._default
        first, *others = destination_addr.split(",")
        if others and not all(self._find_one(other) for other in others):
            return ()
        return self._find_one(first)

    def _find_one(self, address: str) -> tuple[U, ...]:
        digits = address.removeprefix("+")
        for length in self._lengths:
            found = self._by_prefix.get(digits[:length])
            if found is not None and len(digits) >= length:
                return found
        return self._default
