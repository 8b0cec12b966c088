"""Plans: credits that accounts get each day, week or month."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from proxy.admin.api.access import Here, Route, need, no_account
from proxy.admin.api.problems import Problem
from proxy.admin.api.shapes import (
    NAME_PATTERN,
    AccountName,
    Amount,
    Credits,
    Id,
    Model,
    Name,
    credits_text,
)
from proxy.credit.money import micro_from_text
from proxy.store import history, plans
from proxy.store.outcomes import NotFound, Refused

router = APIRouter(route_class=Route, tags=["Plans"])

PlanName = Annotated[str, Path(pattern=NAME_PATTERN, description="The plan's name")]
Every = Literal["day", "week", "month"]


class Plan(BaseModel):
    """A plan."""

    name: Name
    credits: Credits = Field(description="That it grants each period")
    every: Every
    roll_over: bool = Field(description="What is left stays when the period ends")
    created_at: datetime


class PlanWithAccounts(Plan):
    """A plan, and who has it."""

    accounts: list[str]


class Plans(BaseModel):
    """All plans."""

    items: list[PlanWithAccounts]


class AccountPlans(BaseModel):
    """The plans of an account."""

    items: list[Plan]


class NewPlan(Model):
    """A plan that is to be."""

    name: Name
    credits: Amount = Field(examples=["1000"])
    every: Every
    roll_over: bool = False


class PlanGranted(BaseModel):
    """The credits of a period."""

    id: Id = Field(description="Of the row in the credit log")
    credits: Credits
    period: str = Field(examples=["2026-11"])
    expires_at: datetime | None
    balance: Credits = Field(description="Afterwards")


class PlanAssigned(BaseModel):
    """An account that has a plan."""

    account: Name
    plan: Name
    granted: PlanGranted | None = Field(description="Null: this period's were granted before")


@router.get("/plans", summary="List plans", openapi_extra=need("read"))
async def list_plans(call: Here) -> Plans:
    """By name, with the accounts that have them."""
    async with call.database() as conn:
        return Plans(items=[PlanWithAccounts(**row) for row in await plans.list_plans(conn)])


@router.post("/plans", status_code=201, summary="Create a plan", openapi_extra=need("admin"))
async def create_plan(call: Here, new: NewPlan) -> PlanWithAccounts:
    """409: the name is taken."""
    async with call.database() as conn:
        outcome = await plans.create_plan(
            conn, new.name, micro_from_text(new.credits), new.every, new.roll_over, call.by
        )
        if not isinstance(outcome, plans.Done):
            raise Problem(409, outcome.reason)
        found = [row for row in await plans.list_plans(conn) if row["id"] == outcome.plan_id]
    return PlanWithAccounts(**found[0])


@router.delete(
    "/plans/{plan}", status_code=204, summary="Remove a plan", openapi_extra=need("admin")
)
async def remove_plan(call: Here, plan: PlanName) -> Response:
    """409: an account has it."""
    async with call.database() as conn:
        outcome = await plans.remove_plan(conn, plan, call.by)
    if not isinstance(outcome, plans.Done):
        raise _problem(outcome)
    return Response(status_code=204)


@router.get(
    "/accounts/{name}/plans",
    summary="The plans of an account",
    openapi_extra=need("read", own=True),
)
async def plans_of_account(call: Here, name: AccountName) -> AccountPlans:
    """Those that have not ended."""
    async with call.database() as conn:
        rows = await plans.list_plans(conn)
        if not await history.account_exists(conn, call.account(name)):
            raise no_account(name)
    return AccountPlans(items=[Plan(**row) for row in rows if name in row["accounts"]])


@router.put("/accounts/{name}/plans/{plan}", summary="Assign a plan", openapi_extra=need("admin"))
async def assign_plan(call: Here, name: AccountName, plan: PlanName) -> PlanAssigned:
    """The current period's credits are granted at once.  409: the account has the plan."""
    async with call.database() as conn:
        outcome = await plans.assign(
            conn, plan, name, by=call.by, mint=call.context.mint, now=datetime.now(UTC)
        )
    if not isinstance(outcome, plans.Assigned):
        raise _problem(outcome)
    granted = outcome.granted
    return PlanAssigned(
        account=name,
        plan=plan,
        granted=None
        if granted is None
        else PlanGranted(
            id=str(granted.ledger_id),
            credits=credits_text(granted.amount_micro),
            period=granted.period,
            expires_at=granted.expires_at,
            balance=credits_text(granted.balance_micro),
        ),
    )


@router.delete(
    "/accounts/{name}/plans/{plan}",
    status_code=204,
    summary="End a plan of an account",
    openapi_extra=need("admin"),
)
async def end_plan(call: Here, name: AccountName, plan: PlanName) -> Response:
    """What was granted stays until it expires.  409: the account does not have the plan."""
    async with call.database() as conn:
        outcome = await plans.end(conn, plan, name, call.by, datetime.now(UTC))
    if not isinstance(outcome, plans.Done):
        raise _problem(outcome)
    return Response(status_code=204)


def _problem(refused: Refused) -> Problem:
    return Problem(404 if isinstance(refused, NotFound) else 409, refused.reason)
