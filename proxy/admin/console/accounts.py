"""All accounts, and a new one."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit.money import micro_from_text
from proxy.store import accounts, console, nodes


async def index(visit: Visit) -> Response:
    """A page of them, by name."""
    search, after = visit.param("q"), visit.param("after")
    return visit.page(
        "accounts.html",
        live="accounts_live.html",
        page=await console.accounts(visit.conn, search, after),
        binds=await binds(visit),
        search=search,
        after=after,
    )


async def binds(visit: Visit) -> Counter[str]:
    """How many sessions each account has, on all proxies."""
    return Counter(
        session["account"]
        for status in await nodes.statuses(visit.conn)
        for session in status.status.get("sessions", ())
    )


async def new(visit: Visit) -> Response:
    """The form."""
    return _form(visit)


def _form(visit: Visit, problem: str = "") -> Response:
    return visit.page(
        "account_new.html", status=400 if problem else 200, problem=problem, form=visit.form
    )


async def create(visit: Visit) -> Response:
    """Make it, with a login and its first credits."""
    name, password = visit.value("name"), visit.form.get("password", "")
    try:
        credit_micro = micro_from_text(visit.value("credits") or "0")
    except ValueError as error:
        return _form(visit, f"Credits: {error}")
    if credit_micro < 0:
        return _form(visit, "Credits: an account begins with 0 or more")
    if not password:
        return _form(visit, "The client needs a password to bind with")
    outcome = await accounts.create(
        visit.conn,
        name,
        password=password,
        system_id=visit.value("system_id") or None,
        credit_micro=credit_micro,
        by=visit.who.name,
        mint=visit.console.context.mint,
    )
    if not isinstance(outcome, accounts.Created):
        return _form(visit, sentence(outcome.reason))
    return visit.go(f"/accounts/{quote(name, safe='')}", f"Account {name} is there.")
