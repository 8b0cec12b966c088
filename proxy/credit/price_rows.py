"""The prices of a tariff as people write them, and what one list of them changes in another."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


class PriceRow(NamedTuple):
    """One price, as people write it."""

    prefix: str
    """Of the destination address, without "+"; empty: every destination."""
    service: str
    """"sms", "binary" or a service_type in small letters; empty: every service."""
    price_micro: int | None
    """Micro-credits a segment; None: not sold here."""
    valid_from: datetime | None = None
    """The first moment when it is valid, in UTC; None: always was."""
    valid_to: datetime | None = None
    """The first moment when it is not valid any more, in UTC; None: for ever."""


def order(row: PriceRow) -> tuple[str, str, datetime]:
    """How the prices of a tariff are sorted."""
    return row.prefix, row.service, row.valid_from or _BEGINNING


class Change(NamedTuple):
    """A price that is another from now on, or is valid at other times."""

    old: PriceRow
    new: PriceRow


class Differences(NamedTuple):
    """What makes one list of prices another."""

    added: list[PriceRow]
    changed: list[Change]
    ended: list[PriceRow]
    """Was there, and is not in the new list."""
    unchanged: int

    @property
    def any(self) -> bool:
        """Whether there is a difference at all."""
        return bool(self.added or self.changed or self.ended)


def differences(old: Iterable[PriceRow], new: Iterable[PriceRow]) -> Differences:
    """Compare two lists of prices, in which no row stands twice.

    Of the rows of one prefix and service that are not in both lists, those that begin at the
    same time are one changed price; then the rest, in the order in which they begin.
    """
    before, after = set(old), set(new)
    gone = _by_key(before - after)
    came = _by_key(after - before)
    added: list[PriceRow] = []
    changed: list[Change] = []
    ended: list[PriceRow] = []
    for key in sorted(gone.keys() | came.keys()):
        news: dict[datetime | None, list[PriceRow]] = {}
        for row in came.get(key, ()):
            news.setdefault(row.valid_from, []).append(row)
        rest: list[PriceRow] = []
        pairs: list[Change] = []
        for row in gone.get(key, ()):
            if same := news.get(row.valid_from):
                pairs.append(Change(row, same.pop(0)))
            else:
                rest.append(row)
        left = [row for same in news.values() for row in same]
        pairs += map(Change, rest, left)
        changed += pairs
        ended += rest[len(left) :]
        added += left[len(rest) :]
    return Differences(added, changed, ended, len(before & after))


def _by_key(rows: Iterable[PriceRow]) -> dict[tuple[str, str], list[PriceRow]]:
    found: dict[tuple[str, str], list[PriceRow]] = {}
    for row in sorted(rows, key=order):
        found.setdefault(row[:2], []).append(row)
    return found
