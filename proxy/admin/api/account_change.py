"""What PATCH can change of an account: the keys of `account set`, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from proxy.admin.api.shapes import DAY_PATTERN, Amount, Model, Name
from proxy.credit.account_keys import COUNT_MAX, PATTERNS_MAX, RATE_MAX, STATUS_MAX

Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
Pattern = Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z _.&-]{0,64}\*?$", max_length=65)]
Prefix = Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z]{1,20}\*?$")]
Patterns = Annotated[list[Pattern], Field(max_length=PATTERNS_MAX)]
Prefixes = Annotated[list[Prefix], Field(max_length=PATTERNS_MAX)]
Day = Annotated[
    str,
    Field(
        pattern=DAY_PATTERN,
        description="The last day, or an exact time with its zone",
        examples=["2026-12-31"],
    ),
]
Release = Literal["EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD"]


def _left_out() -> Any:
    """In the place of a default, which the document would show."""


class AccountChange(Model):
    """New values; what is left out stays as it is, and null takes a value away."""

    tariff: Name = Field(
        default_factory=_left_out, description="That prices its messages", examples=["gold"]
    )
    charge_on: Literal["submit", "accept", "delivery"] = Field(default_factory=_left_out)
    delivery_release: list[Release] = Field(
        default_factory=_left_out,
        description="Charged on delivery: the receipts that give the credit back",
    )
    delivery_max_age_s: int = Field(default_factory=_left_out, ge=1, le=365 * 86400)
    delivery_overdue: Literal["charge", "release"] = Field(default_factory=_left_out)
    credit_limit: Amount = Field(
        default_factory=_left_out,
        description="How far the balance may go below zero",
        examples=["100"],
    )
    daily_cap: Amount | None = Field(default_factory=_left_out)
    monthly_cap: Amount | None = Field(default_factory=_left_out)
    daily_messages: Count | None = Field(default_factory=_left_out)
    rate: Annotated[float, Field(ge=0.001, le=RATE_MAX)] | None = Field(
        default_factory=_left_out, description="Messages a second"
    )
    allowed_senders: Patterns | None = Field(
        default_factory=_left_out,
        description="Addresses, or prefixes that end in *; null or empty: any",
        examples=[["Shop", "4477*"]],
    )
    allowed_prefixes: Prefixes | None = Field(
        default_factory=_left_out,
        description="Of destinations; null or empty: any",
        examples=[["44", "33"]],
    )
    valid_until: Day | None = Field(default_factory=_left_out)
    low_balance: list[Annotated[str, Field(pattern=r"^[0-9.]{1,20}h?$")]] = Field(
        default_factory=_left_out,
        max_length=20,
        description="When to warn: credits left, or hours to empty",
        examples=[["100", "24h"]],
    )
    insufficient_status: Annotated[int, Field(ge=1, le=STATUS_MAX)] | None = Field(
        default_factory=_left_out, description="The command_status when the credits are used up"
    )
    retry_safe_s: int = Field(default_factory=_left_out, ge=0, le=86400)
    all_parts: bool = Field(default_factory=_left_out)
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] = Field(
        default_factory=_left_out, examples=["Europe/Paris"]
    )
    max_binds: int = Field(default_factory=_left_out, ge=0, le=COUNT_MAX)
    inbound: Patterns = Field(
        default_factory=_left_out,
        description="Addresses whose incoming messages it gets; they replace all",
    )

    def texts(self) -> dict[str, str]:
        """The values that were given, as `account set` takes them."""
        return {key: _text(getattr(self, key)) for key in self.model_fields_set}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(value)
    return str(value)
