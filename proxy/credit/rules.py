"""The rules of an account that are checked before any database call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

ChargeOn = Literal["submit", "accept", "delivery"]
"""When the credit is taken for good: always, when the carrier accepts, when it is delivered.

It is debited before anything is sent in all three; they differ in what gives it back.
"""

CHARGE_ON: Final = ("submit", "accept", "delivery")


class Patterns:
    """Addresses, or prefixes when they end in "*"; a leading "+" makes no difference."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, patterns: Iterable[str]) -> None:
        stripped = [pattern.removeprefix("+") for pattern in patterns]
        self._exact = frozenset(p for p in stripped if not p.endswith("*"))
        self._prefixes = tuple(p[:-1] for p in stripped if p.endswith("*"))

    def match(self, address: str) -> bool:
        """Whether one of them is this address or begins it."""
        address = address.removeprefix("+")
        return address in self._exact or address.startswith(self._prefixes)


@dataclass(frozen=True, slots=True)
class Rules:
    """What `account set` says of an account, as far as the way of a message needs it."""

    tariff_id: int
    max_binds: int
    insufficient_status: int | None = None
    charge_on: ChargeOn = "accept"
    rate: float | None = None
    """Messages a second."""
    allowed_senders: Patterns | None = None
    allowed_prefixes: Patterns | None = None
    valid_until_s: float | None = None
    """Seconds since the Unix epoch."""
    retry_safe_s: int = 0
    all_parts: bool = False
    limits: bool = field(init=False)
    """Whether `refusal` has anything to check."""

    def __post_init__(self) -> None:
        checked = (self.valid_until_s, self.allowed_senders, self.allowed_prefixes)
        # Once, and not for every message.
        object.__setattr__(self, "limits", any(rule is not None for rule in checked))

    def refusal(self, source_addr: str, destinations: Iterable[str], now_s: float) -> str | None:
        """Why a message may not be sent: the name of the refusal, or None."""
        if self.valid_until_s is not None and now_s >= self.valid_until_s:
            return "account_expired"
        if self.allowed_senders is not None and not self.allowed_senders.match(source_addr):
            return "source_not_allowed"
        allowed = self.allowed_prefixes
        if allowed is not None and not all(map(allowed.match, destinations)):
            return "destination_not_allowed"
        return None
