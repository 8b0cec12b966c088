"""Tariffs: lists of prices, whole or not at all; and what a message would cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.problems import Problem, ValueProblem
from proxy.admin.api.shapes import (
    NAME_PATTERN,
    AccountName,
    Amount,
    Credits,
    Model,
    Name,
    credits_text,
)
from proxy.credit import tariff_csv
from proxy.credit.price_rows import PriceRow
from proxy.credit.tariff_csv import TariffCsvError, price_text
from proxy.store import pricing, tariffs
from proxy.store.outcomes import Refused

router = APIRouter(route_class=Route, tags=["Tariffs"])

CSV: Final = "text/csv"
SHOWN_MAX: Final = 1000
"""How many of each kind of difference are listed; the counts count all."""

TariffName = Annotated[str, Path(pattern=NAME_PATTERN, description="The tariff's name")]
_SERVICE: Final = r"^[A-Za-z0-9_-]{1,16}$"


class TariffPrice(BaseModel):
    """A price."""

    prefix: str = Field(description="Of destinations; empty: all of them", examples=["44"])
    service: str = Field(
        description="sms, binary or a service_type; empty: all of them", examples=["sms"]
    )
    price: Credits | None = Field(description="Of a segment; null: not sold", examples=["0.05"])
    valid_from: datetime | None
    valid_to: datetime | None = Field(description="The first moment when it is not valid")


class NewPrice(Model):
    """A price that is to be."""

    prefix: str = Field(pattern=r"^\+?[0-9A-Za-z]{1,20}$|^$", examples=["44"])
    service: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,16}$", examples=["sms"])
    price: Amount | None = Field(description="Of a segment; null: not sold", examples=["0.05"])
    valid_from: datetime | None = None
    valid_to: datetime | None = None


class NewPrices(Model):
    """All prices of a tariff."""

    prices: list[NewPrice] = Field(min_length=1, max_length=200_000)


class Tariff(BaseModel):
    """A tariff without its prices."""

    name: Name
    prices: int
    accounts: int = Field(description="That pay by it")
    upstreams: list[str] = Field(description="Whose costs it is")
    version: int = Field(description="Counts its changes")
    created_at: datetime
    changed_at: datetime


class Tariffs(BaseModel):
    """All tariffs."""

    items: list[Tariff]


class TariffPrices(BaseModel):
    """A tariff with its prices."""

    name: Name
    prices: list[TariffPrice]


class PriceChange(BaseModel):
    """A price that is another now."""

    old: TariffPrice
    new: TariffPrice


class TariffImported(BaseModel):
    """What an import changed; after a dry run: would change."""

    name: Name
    created: bool = Field(description="It is a new tariff")
    dry_run: bool
    added_count: int
    changed_count: int
    ended_count: int
    unchanged_count: int
    added: list[TariffPrice] = Field(description=f"The first {SHOWN_MAX} of them")
    changed: list[PriceChange] = Field(description=f"The first {SHOWN_MAX} of them")
    ended: list[TariffPrice] = Field(description=f"The first {SHOWN_MAX} of them")


class TariffRemoved(BaseModel):
    """A tariff that is gone, or has no prices any more."""

    name: Name
    prices: int
    kept: bool = Field(description="It stays, empty, because messages name its prices")


class UpstreamCost(BaseModel):
    """What an upstream would take."""

    upstream: str
    tariff: Name
    cost: Credits | None
    margin: Credits | None


class PriceExplanation(BaseModel):
    """How the price of a message comes about."""

    account: Name
    tariff: Name
    destination: str
    service: str
    segments: int
    prefix: str | None = Field(description="The longest that matches; null: none does")
    price: Credits | None = Field(description="Of a segment")
    total: Credits | None = Field(description="Of all segments; null: it would be refused")
    refusal: Literal["no_price", "not_sold"] | None
    costs: list[UpstreamCost] | None = Field(description="Null for the token of an account")


@router.get("/tariffs", summary="List tariffs", openapi_extra=need("read"))
async def list_tariffs(call: Here) -> Tariffs:
    """By name."""
    async with call.database() as conn:
        return Tariffs(items=[Tariff(**row) for row in await tariffs.list_tariffs(conn)])


@router.get(
    "/tariffs/{name}",
    summary="Export a tariff",
    response_model=TariffPrices,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
    openapi_extra=need("read"),
)
async def export_tariff(
    call: Here,
    name: TariffName,
    request: Request,
    wanted: Annotated[
        Literal["json", "csv"] | None,
        Query(alias="format", description="Else what the Accept header asks for, or JSON"),
    ] = None,
) -> Any:
    """All prices, as JSON or CSV; PUT takes them back as they are."""
    async with call.database() as conn:
        rows = await tariffs.export_prices(conn, name)
    if isinstance(rows, Refused):
        raise Problem(404, rows.reason)
    if wanted == "csv" or (wanted is None and CSV in request.headers.get("accept", "")):
        text = await asyncio.to_thread(tariff_csv.write, rows)
        return Response(
            text,
            media_type=CSV,
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )
    return await asyncio.to_thread(lambda: TariffPrices(name=name, prices=_shown(rows, len(rows))))


@router.put(
    "/tariffs/{name}",
    summary="Import a tariff",
    openapi_extra={
        **need("admin"),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/NewPrices"}},
                CSV: {
                    "schema": {"type": "string"},
                    "example": "prefix,service,price\n44,sms,0.05\n,,not sold\n",
                },
            },
        },
    },
)
async def import_tariff(
    call: Here,
    name: TariffName,
    request: Request,
    dry_run: Annotated[bool, Query(description="Only say what would change")] = False,
) -> TariffImported:
    """These become all prices of the tariff; a new name makes a new tariff.

    As JSON or as CSV (Content-Type: text/csv) with the columns prefix, service, price ("not sold"
    or an amount), valid_from and valid_to.  All of it or nothing; every proxy has it within a
    second.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in {CSV, "application/json"}:
        raise Problem(415, f"The body is either application/json or {CSV}.")
    body = await request.body()
    rows = await asyncio.to_thread(_rows, body, media == CSV)
    async with call.database() as conn:
        outcome = await tariffs.import_prices(conn, name, rows, by=call.by, dry_run=dry_run)
    if isinstance(outcome, Refused):
        raise Problem(409, outcome.reason)
    found = outcome.differences
    return TariffImported(
        name=name,
        created=outcome.created,
        dry_run=outcome.dry_run,
        added_count=len(found.added),
        changed_count=len(found.changed),
        ended_count=len(found.ended),
        unchanged_count=found.unchanged,
        added=_shown(found.added),
        changed=[
            PriceChange(old=_price(change.old), new=_price(change.new))
            for change in found.changed[:SHOWN_MAX]
        ],
        ended=_shown(found.ended),
    )


@router.delete("/tariffs/{name}", summary="Remove a tariff", openapi_extra=need("admin"))
async def remove_tariff(call: Here, name: TariffName) -> TariffRemoved:
    """409: an account or an upstream has it."""
    async with call.database() as conn:
        if isinstance(await tariffs.export_prices(conn, name), Refused):
            raise Problem(404, f"there is no tariff {name!r}")
        outcome = await tariffs.remove_tariff(conn, name, by=call.by)
    if isinstance(outcome, Refused):
        raise Problem(409, outcome.reason)
    kept = isinstance(outcome, tariffs.Emptied)
    return TariffRemoved(name=name, prices=outcome.prices, kept=kept)


@router.get(
    "/accounts/{name}/price", summary="Explain a price", openapi_extra=need("read", own=True)
)
async def explain_price(
    call: Here,
    name: AccountName,
    destination: Annotated[
        str, Query(pattern=r"^\+?[0-9A-Za-z]{1,64}$", examples=["447700900123"])
    ],
    segments: Annotated[int, Query(ge=1, le=255)] = 1,
    service: Annotated[
        str, Query(pattern=_SERVICE, description="sms, binary or a service_type")
    ] = "sms",
) -> PriceExplanation:
    """What a message would cost the account now, and why."""
    async with call.database() as conn:
        found = await pricing.explain_price(
            conn, call.account(name), destination, segments, service, time.time()
        )
    if isinstance(found, Refused):
        raise no_account(name)
    each = None if found.price is None else found.price.price_micro
    return PriceExplanation(
        account=name,
        tariff=found.tariff,
        destination=destination,
        service=found.service,
        segments=segments,
        prefix=None if found.price is None else found.price.prefix,
        price=_text(each),
        total=_text(found.total_micro),
        refusal=found.refusal,
        costs=None
        if call.of_account
        else [
            UpstreamCost(
                upstream=cost.upstream,
                tariff=cost.tariff,
                cost=_text(cost.cost_micro),
                margin=_text(cost.margin_micro),
            )
            for cost in found.costs
        ],
    )


def _text(micro: int | None) -> str | None:
    return None if micro is None else credits_text(micro)


def _price(row: PriceRow) -> TariffPrice:
    return TariffPrice(
        prefix=row.prefix,
        service=row.service,
        price=_text(row.price_micro),
        valid_from=row.valid_from,
        valid_to=row.valid_to,
    )


def _shown(rows: Iterable[PriceRow], count: int = SHOWN_MAX) -> list[TariffPrice]:
    return [_price(row) for row, _ in zip(rows, range(count), strict=False)]


def _rows(body: bytes, is_csv: bool) -> list[PriceRow]:
    """The prices in a body.  JSON goes by the rules of the file: overlaps, least price, times."""
    try:
        return tariff_csv.read(body if is_csv else _as_csv(body))
    except TariffCsvError as error:
        raise ValueProblem([("", text) for text in error.errors]) from None


def _as_csv(body: bytes) -> bytes:
    try:
        prices = NewPrices.model_validate_json(body).prices
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise ValueProblem(
            [("".join(f"/{part}" for part in one["loc"]), one["msg"]) for one in found[:20]]
        ) from None
    lines = [
        f"{price.prefix},{price.service},"
        f"{price_text(None) if price.price is None else price.price},"
        f"{_time(price.valid_from)},{_time(price.valid_to)}"
        for price in prices
    ]
    return "\n".join([",".join(tariff_csv.COLUMNS), *lines]).encode()


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()
