"""Pages: a list ends with an opaque cursor that the next page begins behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from proxy.admin import cursors
from proxy.admin.api.problems import Problem

LIMIT_MAX: Final = 1000
_CURSOR_MAX: Final = 2000

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


def read_cursor(text: str | None, kind: str, types: Sequence[type]) -> tuple[Any, ...] | None:
    """The key in a cursor; None when there is no cursor.  Raises a Problem for a wrong one."""
    if text is None:
        return None
    try:
        return cursors.read_cursor(text, kind, types)
    except ValueError:
        raise Problem(422, "This is not a cursor of this list.") from None


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
        following = cursors.write_cursor(kind, key(items[-1]))
        url = request.url.include_query_params(cursor=following)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return {"items": items, "next": following}
