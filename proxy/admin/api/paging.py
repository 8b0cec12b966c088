"""Pages: a list ends with an opaque cursor that the next page begins behind."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from proxy.admin.api.problems import Problem

LIMIT_MAX: Final = 1000
_CURSOR_MAX: Final = 2000
_ID_MAX: Final = 2**63 - 1

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many at most")]
CursorText = Annotated[
    str | None,
    Query(
        alias="cursor",
        max_length=_CURSOR_MAX,
        description="`next` of the page before; leave the other parameters as they were",
    ),
]


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(
        description="The cursor of the next page; null: this is the last one. "
        "The Link header has its address (rel=next)."
    )


def write_cursor(kind: str, key: Sequence[Any]) -> str:
    """The key of a page's last row, as one opaque word."""
    values = [value.isoformat() if isinstance(value, datetime) else value for value in key]
    return base64.urlsafe_b64encode(json.dumps([kind, *values]).encode()).decode().rstrip("=")


def read_cursor(text: str | None, kind: str, types: Sequence[type]) -> tuple[Any, ...] | None:
    """The key in a cursor; None when there is no cursor.  Raises a Problem for a wrong one.

    Whatever somebody makes up, the values fit the database: ids, times with a zone, clean texts.
    """
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
        if not isinstance(found, list) or len(found) != len(types) + 1 or found[0] != kind:
            raise ValueError
        return tuple(_value(value, want) for value, want in zip(found[1:], types, strict=True))
    except (binascii.Error, ValueError, RecursionError):
        raise Problem(422, "This is not a cursor of this list.") from None


def _value(value: Any, want: type) -> Any:
    if want is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None and 2000 <= moment.year <= 2200:
            return moment
    elif want is int and type(value) is int and 0 <= value <= _ID_MAX:
        return value
    elif want is str and isinstance(value, str):
        value.encode()  # a lone surrogate raises a ValueError
        if "\0" not in value:
            return value
    raise ValueError


def page(
    request: Request,
    response: Response,
    rows: Sequence[Any],
    limit: int,
    kind: str,
    key: Callable[[Any], Sequence[Any]],
) -> dict[str, Any]:
    """A page of the first `limit` of the rows; one row more says that there is a next page."""
    items, following = list(rows[:limit]), None
    if len(rows) > limit:
        following = write_cursor(kind, key(items[-1]))
        url = request.url.include_query_params(cursor=following)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return {"items": items, "next": following}
