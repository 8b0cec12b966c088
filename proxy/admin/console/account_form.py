"""The settings of an account as a form, made from the list of what `account set` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.credit.account_keys import KEYS, OTHER_KEYS

_GROUPS: Final = {
    "Price and charging": (
        "tariff",
        "charge_on",
        "delivery_release",
        "delivery_max_age_s",
        "delivery_overdue",
        "retry_safe_s",
        "all_parts",
    ),
    "Limits": (
        "credit_limit",
        "daily_cap",
        "monthly_cap",
        "daily_messages",
        "rate",
        "max_binds",
        "valid_until",
        "timezone",
    ),
    "Addresses": ("allowed_senders", "allowed_prefixes", "inbound"),
    "When credits run low": ("low_balance", "insufficient_status"),
}
_REST: Final = "More"
_NOT_HERE: Final = frozenset({"password", "system_id"})
"""Logins have a form of their own."""

_LABELS: Final = {
    "tariff": "Tariff",
    "charge_on": "Charged on",
    "delivery_release": "Given back on",
    "delivery_max_age_s": "Wait for receipts (s)",
    "delivery_overdue": "No receipt in time",
    "retry_safe_s": "Retry-safe for (s)",
    "all_parts": "All parts or none",
    "credit_limit": "Credit limit",
    "daily_cap": "Credits a day",
    "monthly_cap": "Credits a month",
    "daily_messages": "Messages a day",
    "rate": "Messages a second",
    "max_binds": "Binds at once",
    "valid_until": "Valid until",
    "timezone": "Time zone",
    "allowed_senders": "Senders",
    "allowed_prefixes": "Destinations",
    "inbound": "Inbound addresses",
    "low_balance": "Warn at",
    "insufficient_status": "Refusal status",
}
_OPTIONS: Final = {
    "charge_on": {"submit": "submit", "accept": "acceptance", "delivery": "delivery"},
    "delivery_overdue": {"charge": "charge", "release": "release"},
    "all_parts": {"no": "no", "yes": "yes"},
}
_PLACEHOLDERS: Final = {
    "daily_cap": "none",
    "monthly_cap": "none",
    "daily_messages": "none",
    "rate": "none",
    "valid_until": "none",
    "allowed_senders": "any",
    "allowed_prefixes": "any",
    "inbound": "none",
    "low_balance": "none",
    "insufficient_status": "default",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One setting."""

    key: str
    label: str
    help: str
    value: str
    placeholder: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that belong together."""

    title: str
    fields: list[Field]


def groups(now: Mapping[str, str], typed: Mapping[str, str], tariffs: Sequence[str]) -> list[Group]:
    """The form; `typed` is what somebody entered already.  A key that is new here comes last."""
    known = [key for keys in _GROUPS.values() for key in keys]
    rest = tuple(key for key in now if key not in known and key not in _NOT_HERE)
    options = {**_OPTIONS, "tariff": {name: name for name in tariffs}}
    made = []
    for title, keys in {**_GROUPS, _REST: rest}.items():
        fields = [
            Field(
                key,
                _LABELS.get(key, key),
                _help(key),
                typed.get(key, now[key]),
                _PLACEHOLDERS.get(key, ""),
                options.get(key, {}),
            )
            for key in keys
            if key in now
        ]
        if fields:
            made.append(Group(title, fields))
    return made


def _help(key: str) -> str:
    text = KEYS[key].help if key in KEYS else OTHER_KEYS.get(key, "")
    text = text.replace("with charge_on=delivery", "charged on delivery")
    return text[:1].upper() + text[1:]


def changed(now: Mapping[str, str], typed: Mapping[str, str]) -> dict[str, str]:
    """The settings that were given another value."""
    return {
        key: typed[key].strip()
        for key in now
        if key in typed and key not in _NOT_HERE and typed[key].strip() != now[key]
    }
