"""The values that requests and answers are made of."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from proxy.credit.money import micro_from_text, text_from_micro
from proxy.credit.times import check_year

NAME_PATTERN: Final = r"^[A-Za-z0-9_.@-]{1,64}$"
CREDITS_PATTERN: Final = r"^-?[0-9]{1,13}(\.[0-9]{1,6})?$"
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
"""No control characters: PostgreSQL takes no NUL, and terminals obey some others."""

_CLOCK = "[0-9]{2}:[0-9]{2}"
DAY_PATTERN: Final = (
    rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(T{_CLOCK}(:[0-9]{{2}})?(Z|[+-]{_CLOCK}))?$"
)
"""A day, or an exact time with its zone."""

_ISO_8601: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", re.ASCII)


class Model(BaseModel):
    """What is sent to us: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


def _decimal_text(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal | int) else value


def _readable(text: str) -> str:
    micro_from_text(text)
    return text


def _with_zone(value: Any) -> Any:
    """Only ISO 8601 with a zone: pydantic would take numbers and bare times as well."""
    if isinstance(value, str) and _ISO_8601.match(value):
        return value
    raise ValueError("a time with its zone, such as 2026-01-31T12:00:00Z, please")


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time with its zone, such as 2026-01-31T12:00:00Z, please")
    check_year(moment)
    return moment.astimezone(UTC)


Credits = Annotated[
    str,
    BeforeValidator(_decimal_text),
    Field(pattern=CREDITS_PATTERN, description="An exact decimal, as a string", examples=["12.5"]),
]
"""In an answer."""

Amount = Annotated[
    str,
    AfterValidator(_readable),
    Field(
        pattern=CREDITS_PATTERN,
        description="Credits: an exact decimal with up to six places, as a string",
        examples=["12.5"],
    ),
]
"""In a request; read it with micro_from_text."""

Id = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
    Field(
        pattern=r"^[0-9]{1,19}$", description="64 bits, as a string", examples=["28410233257984"]
    ),
]
Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["demo"])]
Text = Annotated[str, Field(pattern=TEXT_PATTERN, max_length=500)]
Time = Annotated[
    datetime,
    BeforeValidator(_with_zone, json_schema_input_type=datetime),
    AfterValidator(_utc),
    Field(examples=["2026-01-31T12:00:00Z"]),
]
"""In a request."""


AccountName = Annotated[str, Path(pattern=NAME_PATTERN, description="The account's name")]
AccountFilter = Annotated[
    str | None, Query(pattern=NAME_PATTERN, description="Only of this account")
]
Since = Annotated[Time | None, Query(description="Only from then on")]
Until = Annotated[Time | None, Query(description="Only before then")]


def credits_text(micro: int) -> str:
    """Micro-credits as Credits."""
    return text_from_micro(micro)
