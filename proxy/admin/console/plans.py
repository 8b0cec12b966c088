"""Plans: credits that come each day, week or month."""

from __future__ import annotations

from typing import Final, get_args

from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy.admin.console.account_pages import account_of, path_of
from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit.money import micro_from_text, text_from_micro
from proxy.credit.plans import Every
from proxy.store import console, grants, plans

PERIODS: Final[tuple[Every, ...]] = get_args(Every)


async def index(visit: Visit) -> Response:
    """All of them."""
    return await _page(visit)


async def _page(visit: Visit, problem: str = "") -> Response:
    return visit.page(
        "plans.html",
        status=400 if problem else 200,
        plans=await plans.list_plans(visit.conn),
        periods=PERIODS,
        problem=problem,
        form=visit.form,
    )


async def add(visit: Visit) -> Response:
    """One more, or one less."""
    name = visit.value("name")
    if visit.value("do") == "remove":
        removed = await plans.remove_plan(visit.conn, name, visit.who.name)
        if not isinstance(removed, plans.Done):
            return await _page(visit, sentence(removed.reason))
        return visit.go("/plans", f"Plan {name} is removed.")
    try:
        amount_micro = micro_from_text(visit.value("amount"))
    except ValueError as error:
        return await _page(visit, f"Credits: {error}")
    every = next((one for one in PERIODS if one == visit.value("every")), None)
    if every is None:
        raise HTTPException(400, f"A period is one of {', '.join(PERIODS)}.")
    outcome = await plans.create_plan(
        visit.conn, name, amount_micro, every, visit.value("roll_over") == "yes", visit.who.name
    )
    if not isinstance(outcome, plans.Done):
        return await _page(visit, sentence(outcome.reason))
    return visit.go("/plans", f"Plan {name} is there; assign it on an account's page.")


async def of_account(visit: Visit) -> Response:
    """Those of one account."""
    return await _account_page(visit)


async def _account_page(visit: Visit, problem: str = "") -> Response:
    account = await account_of(visit)
    rows = await console.plans_of_account(visit.conn, account["name"])
    has = {row["plan"] for row in rows if row["ended_at"] is None}
    every_plan = await plans.list_plans(visit.conn)
    return visit.page(
        "account_plans.html",
        status=400 if problem else 200,
        account=account,
        rows=rows,
        grants=await grants.grants_of(visit.conn, account["name"]),
        assignable=[plan for plan in every_plan if plan["name"] not in has],
        problem=problem,
    )


async def assign(visit: Visit) -> Response:
    """Give it a plan, and with it this period's credits."""
    name, plan = visit.part("name"), visit.value("plan")
    outcome = await plans.assign(
        visit.conn, plan, name, by=visit.who.name, mint=visit.console.context.mint, now=visit.now
    )
    if not isinstance(outcome, plans.Assigned):
        return await _account_page(visit, sentence(outcome.reason))
    done = f"{name} has the plan {plan}."
    if outcome.granted is not None:
        done += f" {text_from_micro(outcome.granted.amount_micro)} credits granted."
    return visit.go(path_of(name, "plans"), done)


async def end(visit: Visit) -> Response:
    """No more of it from the next period on."""
    name, plan = visit.part("name"), visit.value("plan")
    outcome = await plans.end(visit.conn, plan, name, visit.who.name, visit.now)
    if not isinstance(outcome, plans.Done):
        return await _account_page(visit, sentence(outcome.reason))
    return visit.go(path_of(name, "plans"), f"The plan {plan} has ended for {name}.")
