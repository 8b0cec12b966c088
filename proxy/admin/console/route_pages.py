"""The routes, and which way a message would take."""

from __future__ import annotations

from datetime import datetime

from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit.times import check_year, utc_time
from proxy.flow import route_test
from proxy.store.outcomes import Refused
from proxy.store.sql import Row, clean

_ASKED = ("account", "to", "from", "data_coding", "at")


async def index(visit: Visit) -> Response:
    """The table, and the answer to the form when it was sent."""
    asked = {key: visit.param(key) for key in _ASKED}
    problem, found = "", None
    if any(asked.values()):
        try:
            found = await _explain(visit, asked)
        except ValueError as error:
            problem = str(error)
    return visit.page(
        "routes.html",
        status=400 if problem else 200,
        routes=route_test.routes(visit.console.context.settings),
        asked=asked,
        problem=problem,
        found=found,
    )


async def _explain(visit: Visit, asked: dict[str, str]) -> Row:
    """Raises ValueError, with a sentence for people, for what can't be tried."""
    for key, what in (("to", "To"), ("from", "From")):
        if len(asked[key].encode("utf-8", "replace")) > route_test.ADDRESS_MAX or "," in asked[key]:
            raise ValueError(f"{what}: one address of at most {route_test.ADDRESS_MAX} octets.")
    if not asked["account"] or not asked["to"]:
        raise ValueError("Whose message, and to whom?")
    row = await route_test.explain(
        visit.conn,
        visit.console.context.settings,
        clean(asked["account"], 64),
        clean(asked["to"], route_test.ADDRESS_MAX),
        clean(asked["from"], route_test.ADDRESS_MAX),
        _data_coding(asked["data_coding"]),
        None if not asked["at"] else _moment(asked["at"]).timestamp(),
    )
    if isinstance(row, Refused):
        raise ValueError(sentence(row.reason))
    return row


def _data_coding(text: str) -> int:
    try:
        number = int(text or "0", 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 255:
        raise ValueError("data_coding: a number from 0 to 255, such as 8 or 0x08.")
    return number


def _moment(text: str) -> datetime:
    try:
        when = utc_time(text)
        check_year(when)
    except (ValueError, OverflowError):
        raise ValueError("A time is written like 2026-01-31T12:00.") from None
    return when
