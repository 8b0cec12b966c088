"""Credits: in and out, and where they went."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field, model_validator

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.hide import Hide
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import (
    AccountName,
    Amount,
    Credits,
    Id,
    Model,
    Name,
    Since,
    Text,
    Time,
    Until,
    credits_text,
)
from proxy.credit.money import micro_from_text
from proxy.store import credit, grants, history, pages
from proxy.store.outcomes import Refused

router = APIRouter(route_class=Route, tags=["Credits"])

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]([ -~]*[!-~])?$",
        min_length=1,
        max_length=credit.KEY_MAX,
        description="The same key adds the same amount only once; so a request that was not "
        "answered can be repeated. Keys are kept for ever, for each account.",
        examples=["invoice-2026-0042"],
    ),
]


class CreditChange(Model):
    """What is added, or removed."""

    amount: Amount = Field(description="Credits to add; negative: to remove", examples=["50"])
    expires_at: Time | None = Field(
        default=None, description="When what is left of what is added expires"
    )
    note: Text | None = Field(
        default=None, description="For the credit log", examples=["Invoice 42"]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        micro = micro_from_text(self.amount)
        if micro == 0:
            raise ValueError("the amount is zero")
        if micro < 0 and self.expires_at is not None:
            raise ValueError("only credits that are added can expire")
        return self


class CreditChanged(BaseModel):
    """What has become of it."""

    id: Id = Field(description="Of the row in the credit log")
    account: Name
    change: Credits = Field(description="0: it was made before")
    balance: Credits = Field(description="Of this moment", examples=["150"])


class Grant(BaseModel):
    """Credits that expire."""

    id: Id = Field(description="Of the row in the credit log")
    granted_at: datetime
    by: str | None
    note: str | None
    amount: Credits
    left: Credits = Field(description="Of the amount")
    expires_at: datetime


class Grants(BaseModel):
    """All of which something is left."""

    items: list[Grant]


class CreditRow(BaseModel):
    """A line of the credit log."""

    id: Id
    at: datetime
    by: str | None = Field(description="Who did it", examples=["anna"])
    operation: str = Field(
        description="add, use, refund, expire, grant or adjust", examples=["add"]
    )
    change: Credits
    balance: Credits = Field(description="Afterwards")
    message_id: Id | None = Field(description="Of the message it was for")
    note: str | None


@router.post(
    "/accounts/{name}/credit",
    status_code=201,
    summary="Add or remove credits",
    openapi_extra=need("credit"),
    responses={200: {"model": CreditChanged, "description": "It was done before, by this key."}},
)
async def change_credit(
    call: Here, name: AccountName, change: CreditChange, response: Response, key: Key = None
) -> CreditChanged:
    """Takes effect at once, on every proxy.

    409: more than there is can't be removed; or the key was used before, with another amount.
    """
    amount_micro = micro_from_text(change.amount)
    async with call.database() as conn:
        if not await history.account_exists(conn, name):
            raise no_account(name)
        outcome = await credit.add_credit(
            conn,
            name,
            amount_micro,
            note=change.note,
            by=call.by,
            key=key,
            mint=call.context.mint,
            expires_at=change.expires_at,
        )
    if isinstance(outcome, Refused):
        raise Problem(409, outcome.reason)
    added = isinstance(outcome, credit.Added)
    response.status_code = 201 if added else 200
    return CreditChanged(
        id=str(outcome.ledger_id),
        account=name,
        change=credits_text(amount_micro if added else 0),
        balance=credits_text(outcome.balance_micro),
    )


@router.get(
    "/accounts/{name}/credit",
    summary="The credit log",
    response_model=Page[CreditRow],
    openapi_extra=need("read", own=True),
)
async def credit_log(
    call: Here,
    name: AccountName,
    request: Request,
    response: Response,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: CursorText = None,
) -> Any:
    """Every change of an account's credits, newest first."""
    (before,) = read_cursor(cursor, "credit", [int]) or (None,)
    async with call.database() as conn:
        rows = await pages.credit_log(
            conn, call.account(name), since=since, until=until, before=before, limit=limit + 1
        )
        if not rows and not await history.account_exists(conn, name):
            raise no_account(name)
        hide = await Hide.for_call(call, conn)
    for row in rows:
        row["note"] = hide.text(row["note"])
    return page(request, response, rows, limit, "credit", lambda row: [row["id"]])


@router.get(
    "/accounts/{name}/grants", summary="Credits that expire", openapi_extra=need("read", own=True)
)
async def list_grants(call: Here, name: AccountName) -> Grants:
    """What is left of each grant; what expires first is spent first."""
    async with call.database() as conn:
        rows = await grants.grants_of(conn, call.account(name))
        if not rows and not await history.account_exists(conn, name):
            raise no_account(name)
    return Grants(items=[Grant(**row) for row in rows])
