"""Statements: what an account had, what came and went in a period, what it has then."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import DAY_PATTERN, AccountName, Credits, Name
from proxy.credit.cells import csv_cell
from proxy.credit.times import check_year, day_or_time
from proxy.store import statements

router = APIRouter(route_class=Route, tags=["Statements"])

By = Literal["day", "prefix", "sender", "state", "service"]
CSV: Final = "text/csv"
_OPERATOR_ONLY: Final = "; null for the token of an account"

Moment = Annotated[
    str | None,
    Query(
        pattern=DAY_PATTERN,
        examples=["2026-11-01"],
        description="A day in the account's time zone, or an exact time with its zone",
    ),
]


class OperationTotal(BaseModel):
    """The rows of one operation."""

    rows: int
    change: Credits


class Usage(BaseModel):
    """The messages of one group."""

    key: str | None = Field(description="The day, prefix, sender …", examples=["2026-11-22"])
    messages: int
    segments: int
    price: Credits
    released: Credits = Field(description="Of the price: what was given back until now")
    cost: Credits | None = Field(description="What upstreams took, where known" + _OPERATOR_ONLY)
    margin: Credits | None = Field(description="Price less cost" + _OPERATOR_ONLY)


class Statement(BaseModel):
    """Opening + the changes of all totals = closing."""

    account: Name
    timezone: str = Field(examples=["Europe/Paris"])
    start: datetime
    end: datetime = Field(description="The first moment that is not in it")
    opening: Credits
    totals: dict[str, OperationTotal] = Field(
        description="By operation: add, use, refund, expire, grant, adjust"
    )
    closing: Credits
    by: By | None
    usage: list[Usage] = Field(description="The messages of the period; empty without `by`")


@router.get(
    "/accounts/{name}/statement",
    summary="A statement",
    response_model=Statement,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
    openapi_extra=need("read", own=True),
)
async def statement(
    call: Here,
    name: AccountName,
    start: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    by: Annotated[By | None, Query(description="What usage is grouped by")] = None,
    wanted: Annotated[
        Literal["json", "csv"], Query(alias="format", description="csv: the usage as a table")
    ] = "json",
) -> Any:
    """From the first of the month until now, unless said; the last day counts to its end.

    The single changes of the period are in the credit log (`since`, `until`).
    """
    if wanted == "csv" and by is None:
        raise Problem(422, "The table of usage needs by=…")
    try:
        bounds = _moment(start), _moment(end)
    except ValueError as error:
        raise Problem(422, str(error)) from None
    async with call.database() as conn:
        try:
            found = await statements.statement(conn, call.account(name), *bounds, by=by)
        except ValueError as error:
            raise Problem(422, str(error)) from None
    if found is None:
        raise no_account(name)
    usage = [_usage(row, found.by, call.of_account) for row in found.usage]
    if wanted == "csv":
        return _csv(usage, f"{name}.csv")
    return Statement(
        account=name,
        timezone=found.period.timezone,
        start=found.period.start,
        end=found.period.end,
        opening=_text(found.opening),
        totals={
            operation: OperationTotal(rows=total.rows, change=_text(total.change))
            for operation, total in found.totals.items()
        },
        closing=_text(found.closing),
        by=found.by,
        usage=usage,
    )


def _usage(row: dict[str, Any], by: By | None, of_account: bool) -> Usage:
    values = {key: value for key, value in row.items() if key != by}
    if of_account:
        values |= {"cost": None, "margin": None}
    key = row[by or ""]
    return Usage(**values, key=None if key is None else str(key))


def _csv(usage: Sequence[Usage], file_name: str) -> Response:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Usage.model_fields)
    for group in usage:
        _, *figures = group.model_dump().values()
        # A sender is its client's choice.
        writer.writerow([csv_cell(group.key), *figures])
    return Response(
        text.getvalue(),
        media_type=CSV,
        headers={"Content-Disposition": f'attachment; filename="{file_name}"'},
    )


def _text(amount: Any) -> str:
    return format(amount, "f")


def _moment(text: str | None) -> date | datetime | None:
    """Raises ValueError, with a sentence for people."""
    if text is None:
        return None
    when = day_or_time(text)
    check_year(when)
    return when
