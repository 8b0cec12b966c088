"""What `account set` can change: the keys, what they mean, and how their values are read.

The command line, the API and the console offer this one list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

from proxy.credit.money import micro_from_text
from proxy.credit.plans import valid_timezone
from proxy.credit.rules import CHARGE_ON
from proxy.credit.thresholds import parse_thresholds
from proxy.credit.times import check_year, day_or_time

COUNT_MAX: Final = 2**31 - 1
STATUS_MAX: Final = 0xFFFF_FFFF
RATE_MAX: Final = 1_000_000
PATTERNS_MAX: Final = 1000
FINAL_STATES: Final = ("DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD")

_NOTHING: Final = frozenset({"", "none", "default", "off"})
_ADDRESS: Final = re.compile(r"\+?[!-~ ]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """New values for an account."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    """By the column of the table `account`; a None is stored as no value."""
    tariff: str | None = None
    """The name of its tariff; None: the same as before."""
    inbound: tuple[str, ...] | None = None
    """Address patterns that replace all the account has; None: the same as before."""
    password: str | None = None
    system_id: str | None = None
    """The login whose password is set; one that does not exist is added."""


class Key(NamedTuple):
    """One key of `account set`."""

    name: str
    help: str
    column: str
    read: Callable[[str], Any]
    """Raises ValueError with a sentence for people."""


def _whole(largest: int, smallest: int = 0) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text, 0)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not smallest <= number <= largest:
            raise ValueError(f"{text!r} is not between {smallest} and {largest}")
        return number

    return read


def _or_none(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Nothing, "none", "off" or "default" takes the value away."""
    return lambda text: None if text.lower() in _NOTHING else read(text)


def _credit_limit(text: str) -> int:
    micro = micro_from_text(text)
    if micro < 0:
        raise ValueError("it is how far the balance may go below zero: 0 or more")
    return micro


def _cap(text: str) -> int:
    micro = micro_from_text(text)
    if micro <= 0:
        raise ValueError(f"{text!r} is not above zero; none takes the cap away")
    return micro


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not 0.001 <= rate <= RATE_MAX:
        raise ValueError(f"{text!r} is not between 0.001 and {RATE_MAX} messages a second")
    return rate


def _list(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _senders(text: str) -> list[str]:
    patterns = _list(text)
    if not patterns:
        raise ValueError(f"{text!r} is no address; none allows any")
    for pattern in patterns:
        if not _ADDRESS.fullmatch(pattern) or "*" in pattern[:-1]:
            raise ValueError(f"{pattern!r} is neither an address nor a prefix that ends in *")
    if len(patterns) > PATTERNS_MAX:
        raise ValueError(f"at most {PATTERNS_MAX} are possible")
    return patterns


def _prefixes(text: str) -> list[str]:
    """Digits are enough, "44" is "44*"."""
    prefixes = [part.removesuffix("*").removeprefix("+") for part in _list(text)]
    if not prefixes:
        raise ValueError(f"{text!r} is no prefix; none allows any")
    for prefix in prefixes:
        if not re.fullmatch(r"[0-9A-Za-z]{1,20}", prefix, re.ASCII):
            raise ValueError(f"{prefix!r} is not a prefix of digits or letters")
    if len(prefixes) > PATTERNS_MAX:
        raise ValueError(f"at most {PATTERNS_MAX} are possible")
    return [f"{prefix}*" for prefix in prefixes]


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return read


def _states(text: str) -> list[str]:
    states = [state.upper() for state in _list(text)]
    for state in states:
        if state not in FINAL_STATES or state == "DELIVRD":
            raise ValueError(f"{state!r} is none of {', '.join(FINAL_STATES[1:])}")
    return states


def _yes(text: str) -> bool:
    if text.lower() in {"yes", "on", "true", "1"}:
        return True
    if text.lower() in {"no", "off", "false", "0"}:
        return False
    raise ValueError(f"{text!r} is neither yes nor no")


def _until(text: str) -> date | datetime:
    """A date, or an ISO 8601 time (UTC unless it says)."""
    when = day_or_time(text)
    check_year(when)
    if isinstance(when, datetime) and when.tzinfo is None:
        return when.replace(tzinfo=UTC)
    return when


def _timezone(text: str) -> str:
    if not valid_timezone(text):
        raise ValueError(f"{text!r} is not a time zone such as Europe/London")
    return text


KEYS: Final = {
    key.name: key
    for key in (
        Key(
            "credit_limit",
            "how far the balance may go below zero",
            "credit_limit_micro",
            _credit_limit,
        ),
        Key("daily_cap", "credits a day at most, or none", "daily_cap_micro", _or_none(_cap)),
        Key(
            "monthly_cap",
            "credits a calendar month at most, or none",
            "monthly_cap_micro",
            _or_none(_cap),
        ),
        Key(
            "daily_messages",
            "messages a day at most, or none",
            "daily_messages",
            _or_none(_whole(COUNT_MAX, 1)),
        ),
        Key("rate", "messages a second at most, or none", "rate", _or_none(_rate)),
        Key(
            "allowed_senders",
            "source addresses, or prefixes that end in *, with commas; or none for any",
            "allowed_senders",
            _or_none(_senders),
        ),
        Key(
            "allowed_prefixes",
            "of destination addresses, with commas; or none for any",
            "allowed_prefixes",
            _or_none(_prefixes),
        ),
        Key(
            "valid_until",
            "the last day (or an exact time) on which it may send, or none",
            "valid_until",
            _or_none(_until),
        ),
        Key(
            "low_balance",
            "when to warn: credits left, or hours to empty such as 24h, with commas; or none",
            "low_balance",
            lambda text: (
                []
                if text.lower() in _NOTHING
                else [threshold.text for threshold in parse_thresholds(text)]
            ),
        ),
        Key(
            "insufficient_status",
            "the command_status when the credits are used up, or default",
            "insufficient_status",
            _or_none(_whole(STATUS_MAX, 1)),
        ),
        Key(
            "charge_on",
            "submit (whatever the carrier says), accept, or delivery",
            "charge_on",
            _choice(*CHARGE_ON),
        ),
        Key(
            "delivery_release",
            "with charge_on=delivery: the receipts that give the credit back",
            "delivery_release",
            _states,
        ),
        Key(
            "delivery_max_age_s",
            "with charge_on=delivery: how long to wait for the receipt",
            "delivery_max_age_s",
            _whole(365 * 86400, 1),
        ),
        Key(
            "delivery_overdue",
            "with charge_on=delivery: charge or release when no receipt came in time",
            "delivery_overdue",
            _choice("charge", "release"),
        ),
        Key(
            "retry_safe_s",
            "for how long a submit that is repeated without an answer is charged once; 0 is off",
            "retry_safe_s",
            _whole(86400),
        ),
        Key("all_parts", "yes: all parts of a long message or none", "all_parts", _yes),
        Key("timezone", "of its days and months, such as Europe/London", "timezone", _timezone),
        Key("max_binds", "how many binds it may have at once", "max_binds", _whole(COUNT_MAX)),
    )
}
"""The keys that are columns of the account."""

OTHER_KEYS: Final = {
    "tariff": "the name of the tariff that prices its messages",
    "inbound": "comma-separated addresses, or prefixes that end in *, whose mobile-originated"
    " messages the account gets",
    "password": "what its client binds with",
    "system_id": "with password: sets that login's password, and adds the login when it is new",
}
"""The other keys, with what they mean."""


def changes_from_text(values: Mapping[str, str]) -> AccountChanges:
    """Read values such as {"max_binds": "4", "inbound": "4477*,447700900123"}.

    Raises ValueError, with a sentence for people, for an unknown key or an unreadable value.
    """
    columns: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, raw in values.items():
        text = raw.strip()
        key = KEYS.get(name)
        if key is not None:
            try:
                columns[key.column] = key.read(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        elif name == "inbound":
            other[name] = tuple(_list(text))
        elif name in OTHER_KEYS:
            if not raw:
                raise ValueError(f"{name} is empty")
            other[name] = raw
        else:
            known = ", ".join([*KEYS, *OTHER_KEYS])
            raise ValueError(f"unknown key {name!r}; these can be set: {known}")
    return AccountChanges(columns, **other)
