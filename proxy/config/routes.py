"""[[route]]: which messages go to which upstreams.  The first route that takes a message has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field

from proxy.config.fields import ACCOUNT_PATTERN, Section, UpstreamName

Policy = Literal["failover", "weighted", "least_cost", "round_robin"]
Mode = Literal["direct", "queued"]

NAME_MAX: Final = 64
_HOURS: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
_SHOWN_MAX: Final = 3
"""How many values of a condition a name made from it shows."""


def minutes_of(hours: str) -> tuple[int, int]:
    """(begin, end) of "HH:MM-HH:MM" in minutes of the day, the end not included.

    An end before its begin is on the next day; "24:00" is the end of the day.  Raises
    ValueError, with a sentence for people, for anything else and when both are the same.
    """
    match = _HOURS.fullmatch(hours)
    numbers = [int(part) for part in match.groups()] if match else []
    if not numbers or numbers[2] * 60 + numbers[3] > 24 * 60:
        raise ValueError('should be "HH:MM-HH:MM", such as "08:00-18:00" or "22:00-06:00"')
    begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if begin % 1440 == end % 1440 and (begin, end) != (0, 1440):
        raise ValueError("begin and end should differ; left out means at any time")
    return begin, end


def _check_hours(hours: str) -> str:
    minutes_of(hours)
    return hours


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'"{name}" is not a time zone, such as "UTC" or "Europe/Berlin"') from None
    return name


def _check_name(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("should be printable, without a space at either end")
    return name


def _some(check: Callable[[Any], bool], what: str) -> BeforeValidator:
    """One value or a list of them, kept as a tuple; each has to pass the check."""

    def values(given: object) -> object:
        items = list(given) if isinstance(given, list | tuple) else [given]
        if not items:
            raise ValueError("should name at least one; left out means any")
        for i, item in enumerate(items):
            if not check(item):
                raise ValueError(f"{_quoted(item)} should be {what}")
            if item in items[:i]:
                raise ValueError(f"{_quoted(item)} is there already")
        return tuple(items)

    return BeforeValidator(values)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _matches(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _is_octet(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


Prefixes = Annotated[
    tuple[str, ...], _some(_matches("[0-9A-Za-z]{0,20}"), "at most 20 digits or letters, without +")
]
Accounts = Annotated[
    tuple[str, ...], _some(_matches(ACCOUNT_PATTERN.strip("^$")), "the name of an account")
]
Senders = Annotated[
    tuple[str, ...],
    _some(
        _matches(r"(?=.)[^*\x00-\x1f\x7f]{0,20}\*?"),
        "an address of at most 20 characters, or the beginning of one and *",
    ),
]
DataCodings = Annotated[tuple[int, ...], _some(_is_octet, "from 0 to 255")]


class RouteSettings(Section):
    """The upstreams of the messages that meet all conditions; the first such route has them.

    A condition with several values is met by each of them, one that is left out by everything.
    `prefix`, `account`, `sender` and `data_coding` may be written as one value; here they are
    tuples, empty (`prefix`: of "") when left out.
    """

    name: (
        Annotated[str, Field(min_length=1, max_length=NAME_MAX), AfterValidator(_check_name)] | None
    ) = None
    prefix: Prefixes = ("",)
    account: Accounts = ()
    sender: Senders = ()
    data_coding: DataCodings = ()
    hours: Annotated[str, AfterValidator(_check_hours)] | None = None
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"
    upstreams: Annotated[list[UpstreamName], Field(min_length=1)]
    policy: Policy = "failover"
    weights: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], Field(min_length=1)] | None = (
        None
    )
    mode: Mode | None = None
    when_down: Literal["refuse", "queue"] = "refuse"


def names_of(routes: Sequence[RouteSettings]) -> list[str]:
    """The name of each route: its own, or one made from its conditions, such as "44" or "any".

    What would be a name twice gets a number, counted in the order of the file.
    """
    taken = {route.name for route in routes if route.name is not None}
    times: dict[str, int] = {}
    names: list[str] = []
    for route in routes:
        if route.name is not None:
            names.append(route.name)
            continue
        plain = name = _plain_name(route)
        while name in taken:
            # From where it stopped the last time: thousands may have one plain name.
            times[plain] = number = times.get(plain, 1) + 1
            name = f"{plain} {number}"
        taken.add(name)
        names.append(name)
    return names


def _plain_name(route: RouteSettings) -> str:
    parts = [
        f"{key}={_short(values)}"
        for key, values in (
            ("account", route.account),
            ("sender", [sender.removeprefix("+") for sender in route.sender]),
            ("data_coding", [str(coding) for coding in route.data_coding]),
        )
        if values
    ]
    if route.hours is not None:
        parts.append(route.hours)
    if "" not in route.prefix:
        parts.append(_short(route.prefix))
    # Room for " " and a number, which tells two of one name apart.
    return " ".join(parts)[: NAME_MAX - 8].rstrip() or "any"


def _short(values: Sequence[str]) -> str:
    """The first values, and how many more there are."""
    more = len(values) - _SHOWN_MAX
    return ",".join(values[:_SHOWN_MAX]) + (f"+{more}" if more > 0 else "")


def shadowed(routes: Sequence[RouteSettings]) -> Iterator[tuple[int, int]]:
    """(i, j): route i is never reached, for the earlier route j takes all that it would.

    Found where one earlier route does it alone, not where several do it together.
    """
    # By a value of each of the three conditions that tables have many of; None: any.
    index: dict[tuple[str | None, str | None, str], list[int]] = {}
    for i, route in enumerate(routes):
        accounts: list[str | None] = [None, *route.account[:1]]
        senders: list[str | None] = [None, *(_coverers(_sender(route)) if route.sender else ())]
        prefixes = [route.prefix[0][:n] for n in range(len(route.prefix[0]) + 1)]
        # A route that takes everything takes the first of the values too.
        candidates = {j for key in product(accounts, senders, prefixes) for j in index.get(key, ())}
        by = min((j for j in candidates if _covers(routes[j], route)), default=None)
        if by is not None:
            yield i, by
            continue  # whatever it covers, the other covers too
        for key in product(route.account or (None,), _plain(route) or (None,), route.prefix):
            index.setdefault(key, []).append(i)


def _plain(route: RouteSettings) -> tuple[str, ...]:
    """Its senders, as they are compared: without "+"."""
    return tuple(sender.removeprefix("+") for sender in route.sender)


def _sender(route: RouteSettings) -> str:
    return _plain(route)[0]


def _coverers(sender: str) -> list[str]:
    """Every sender condition that takes all that this one takes."""
    text = sender.removesuffix("*")
    return [sender, *(text[:n] + "*" for n in range(len(text) + 1))]


def _covers(one: RouteSettings, other: RouteSettings) -> bool:
    """Whether `one` takes every message that `other` takes."""
    if one.account and not (other.account and set(other.account) <= set(one.account)):
        return False
    if one.data_coding and not (
        other.data_coding and set(other.data_coding) <= set(one.data_coding)
    ):
        return False
    if one.hours is not None and (
        other.hours is None
        or minutes_of(one.hours) != minutes_of(other.hours)
        or one.timezone != other.timezone
    ):
        return False
    if one.sender:
        senders = set(_plain(one))
        if not other.sender or any(senders.isdisjoint(_coverers(s)) for s in _plain(other)):
            return False
    begins = tuple(one.prefix)
    return all(prefix.startswith(begins) for prefix in other.prefix)
