"""Accounts: who may send, and who pays."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import ROOT, Call, Here, Route, need, no_account
from proxy.admin.api.account_change import AccountChange
from proxy.admin.api.paging import CursorText, Limit, Page, page, read_cursor
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import AccountName, Amount, Credits, Model, Name
from proxy.credit.account_keys import changes_from_text
from proxy.credit.money import micro_from_text
from proxy.store import account_values, accounts, pages
from proxy.store.accounts import SYSTEM_ID_OCTETS, Changed, Created
from proxy.store.outcomes import NotFound

router = APIRouter(route_class=Route, tags=["Accounts"])

SystemId = Annotated[
    str,
    Field(
        pattern=r"^[!-~]+$",
        min_length=1,
        max_length=SYSTEM_ID_OCTETS,
        description="What a client binds as",
        examples=["demo"],
    ),
]
Password = Annotated[
    str,
    Field(
        pattern=r"^[ -~]+$",
        min_length=1,
        max_length=64,
        description="SMPP 3.4 clients take at most 8 octets",
        examples=["s3cret"],
    ),
]


class Account(BaseModel):
    """An account, its credits, and its rules."""

    name: Name
    enabled: bool
    balance: Credits
    held: Credits = Field(description="Taken for messages that have no outcome yet")
    granted: Credits = Field(description="Of the balance: what expires one day")
    next_expiry_at: datetime | None = Field(description="When some of that expires")
    used_today: Credits
    used_this_month: Credits
    credit_limit: Credits = Field(description="How far the balance may go below zero")
    tariff: Name
    charge_on: str = Field(description="submit, accept or delivery", examples=["accept"])
    delivery_release: list[str] = Field(
        description="Charged on delivery: the states that give the credit back",
        examples=[["EXPIRED", "UNDELIV"]],
    )
    delivery_max_age_s: int
    delivery_overdue: str = Field(
        description="What becomes of a message whose receipt does not come: charge or release",
        examples=["charge"],
    )
    daily_cap: Credits | None = Field(description="What may be spent in a day")
    monthly_cap: Credits | None
    daily_messages: int | None = Field(description="How many messages a day")
    rate: float | None = Field(description="Messages a second")
    allowed_senders: list[str] | None = Field(description="Addresses, or prefixes that end in *")
    allowed_prefixes: list[str] | None = Field(description="Of destinations")
    valid_until: datetime | None
    low_balance: list[str] = Field(
        description="When to warn: credits, or hours to empty", examples=[["100", "24h"]]
    )
    insufficient_status: int | None = Field(
        description="The command_status when the credits are used up; null: the configured one"
    )
    retry_safe_s: int
    all_parts: bool
    timezone: str = Field(examples=["Europe/Paris"])
    max_binds: int
    system_ids: list[str]
    inbound: list[str] = Field(description="Addresses whose incoming messages it gets")
    created_at: datetime


class NewAccount(Model):
    """An account with one login."""

    name: Name
    password: Password
    system_id: SystemId | None = Field(default=None, description="Else like the account")
    credits: Amount | None = Field(default=None, description="To begin with", examples=["100"])


@router.get(
    "/accounts",
    summary="List accounts",
    response_model=Page[Account],
    openapi_extra=need("read", own=True),
)
async def list_accounts(
    call: Here, request: Request, response: Response, limit: Limit = 100, cursor: CursorText = None
) -> Any:
    """In order of their creation.  The token of an account sees its own account."""
    (after,) = read_cursor(cursor, "accounts", [int]) or (0,)
    async with call.database() as conn:
        rows = await pages.accounts(conn, after=after, name=call.token.account, limit=limit + 1)
    return page(request, response, rows, limit, "accounts", lambda row: [row["id"]])


@router.get("/accounts/{name}", summary="Show an account", openapi_extra=need("read", own=True))
async def show_account(call: Here, name: AccountName) -> Account:
    """With its balance of this moment."""
    async with call.database() as conn:
        return await find_account(conn, call.account(name))


@router.post("/accounts", status_code=201, summary="Create an account", openapi_extra=need("admin"))
async def create_account(call: Here, new: NewAccount, response: Response) -> Account:
    """With one login, and perhaps its first credits.  409: the name or the system_id is taken."""
    async with call.database() as conn:
        outcome = await accounts.create(
            conn,
            new.name,
            password=new.password,
            system_id=new.system_id,
            credit_micro=micro_from_text(new.credits or "0"),
            by=call.by,
            mint=call.context.mint,
        )
        if not isinstance(outcome, Created):
            raise Problem(409, outcome.reason)
        response.headers["Location"] = f"{ROOT}/accounts/{new.name}"
        return await find_account(conn, new.name)


@router.patch("/accounts/{name}", summary="Change an account", openapi_extra=need("admin"))
async def change_account(call: Here, name: AccountName, changes: AccountChange) -> Account:
    """Takes effect at once, on every proxy, for clients that are bound as well.

    409: the values do not fit what there is, such as a credit limit below the debt.
    """
    try:
        wanted = changes_from_text(changes.texts())
    except ValueError as error:
        raise Problem(422, str(error)) from None
    async with call.database() as conn:
        outcome = await account_values.set_values(conn, name, wanted, by=call.by)
        if isinstance(outcome, NotFound):
            raise no_account(name)
        if not isinstance(outcome, Changed):
            raise Problem(409, outcome.reason)
        return await find_account(conn, name)


@router.post("/accounts/{name}/enable", summary="Enable an account", openapi_extra=need("admin"))
async def enable(call: Here, name: AccountName) -> Account:
    """It may send again."""
    return await _set_enabled(call, name, True)


@router.post("/accounts/{name}/disable", summary="Disable an account", openapi_extra=need("admin"))
async def disable(call: Here, name: AccountName) -> Account:
    """Its sessions end at once, on every proxy; its credits stay."""
    return await _set_enabled(call, name, False)


async def find_account(conn: Any, name: str) -> Account:
    """The account; raises a Problem (404) when there is none of that name."""
    rows = await pages.accounts(conn, name=name, limit=1)
    if not rows:
        raise no_account(name)
    return Account.model_validate(rows[0])


async def _set_enabled(call: Call, name: str, enabled: bool) -> Account:
    async with call.database() as conn:
        outcome = await accounts.set_enabled(conn, name, enabled, by=call.by)
        if isinstance(outcome, NotFound):
            raise no_account(name)
        return await find_account(conn, name)
