"""Operators and API tokens; and one's own password."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import Visit
from proxy.credit.plans import expiry_of
from proxy.credit.times import day_or_time
from proxy.store import operators, tokens, web_sessions
from proxy.store.operators import SCOPES, Scope
from proxy.store.outcomes import Refused

NO_DATE: Final = "A date is written like 2026-01-31."


async def index(visit: Visit) -> Response:
    """All of them."""
    return await _page(visit)


async def _page(
    visit: Visit, *, problem: str = "", token_problem: str = "", **values: Any
) -> Response:
    return visit.page(
        "users.html",
        status=400 if problem or token_problem else 200,
        operators=await operators.all_operators(visit.conn),
        tokens=await tokens.list_tokens(visit.conn),
        scopes=SCOPES,
        problem=problem,
        token_problem=token_problem,
        form=visit.form,
        **{"new_token": None, "new_token_name": "", **values},
    )


def _scope(visit: Visit) -> Scope:
    for scope in SCOPES:
        if scope == visit.value("scope"):
            return scope
    raise HTTPException(400, f"A scope is one of {', '.join(SCOPES)}.")


async def add(visit: Visit) -> Response:
    """Another operator."""
    name = visit.value("name")
    outcome = await operators.add(
        visit.conn, name, visit.form.get("password", ""), _scope(visit), by=visit.who.name
    )
    if isinstance(outcome, Refused):
        return await _page(visit, problem=sentence(outcome.reason))
    return visit.go("/users", f"{name} can sign in now.")


async def one(visit: Visit) -> Response:
    """One operator, to change."""
    return await _one(visit)


async def _one(visit: Visit, problem: str = "") -> Response:
    name = visit.part("name")
    operator = await operators.find(visit.conn, name)
    if operator is None:
        visit.not_found(f"There is no operator {name}.")
    return visit.page(
        "user.html", status=400 if problem else 200, user=operator, scopes=SCOPES, problem=problem
    )


async def change(visit: Visit) -> Response:
    """Another scope or password, in or out."""
    name, what, by = visit.part("name"), visit.value("do"), visit.who.name
    if what == "scope":
        outcome = await operators.set_scope(visit.conn, name, _scope(visit), by=by)
        done = f"{name} has the scope {visit.value('scope')}."
    elif what in {"enable", "disable"}:
        outcome = await operators.set_enabled(visit.conn, name, what == "enable", by=by)
        done = f"{name} is {what}d."
    elif what == "password":
        outcome = await operators.set_password(
            visit.conn, name, visit.form.get("password", ""), by=by
        )
        done = f"{name} has the new password; their sessions have ended."
    else:
        raise HTTPException(400, "Scope, enable, disable or password?")
    if isinstance(outcome, Refused):
        return await _one(visit, sentence(outcome.reason))
    if name == by and what == "password":
        return await _stay(visit, outcome.operator, f"/users/{quote(name, safe='')}", done)
    return visit.go(f"/users/{quote(name, safe='')}", done)


async def _stay(visit: Visit, operator: operators.Operator, path: str, done: str) -> Response:
    """All sessions ended with the password; this browser gets a new one."""
    token = await web_sessions.start(visit.conn, operator, visit.now)
    answer = visit.go(path, done)
    visit.keep_token(answer, token)
    return answer


# ------------------------------------------------------------------------------ oneself


async def me(visit: Visit) -> Response:
    """Whoever is signed in."""
    return visit.page("me.html", problem="")


async def set_own_password(visit: Visit) -> Response:
    """Another password, for who knows the present one."""
    who, password = visit.who, visit.form.get("password", "")
    problem = ""
    if not await web_sessions.may_try(visit.conn, who.name, visit.address, visit.now):
        problem = "Too many attempts. Try again in a quarter of an hour."
    elif await operators.verify(visit.conn, who.name, visit.form.get("present", "")) is None:
        problem = "The present password is another one."
    elif password != visit.form.get("again"):
        problem = "The new passwords differ."
    else:
        await web_sessions.succeeded(visit.conn, who.name, visit.address)
        outcome = await operators.set_password(visit.conn, who.name, password, by=who.name)
        if isinstance(outcome, operators.Done):
            done = "Your password is changed; your other sessions have ended."
            return await _stay(visit, outcome.operator, "/me", done)
        problem = sentence(outcome.reason)
    return visit.page("me.html", status=400, problem=problem)


# ------------------------------------------------------------------------------- tokens


async def create_token(visit: Visit) -> Response:
    """A token for a program; the page that answers is the only one that shows it."""
    expires_at, text = None, visit.value("expires")
    if text:
        try:
            expires_at = expiry_of(day_or_time(text), "UTC")
        except ValueError:
            return await _page(visit, token_problem=NO_DATE)
    outcome = await tokens.create_token(
        visit.conn,
        visit.value("name"),
        _scope(visit),
        account=visit.value("account") or None,
        expires_at=expires_at,
        by=visit.who.name,
        now=visit.now,
    )
    if not isinstance(outcome, tokens.TokenCreated):
        return await _page(visit, token_problem=sentence(outcome.reason))
    return await _page(visit, new_token=outcome.token, new_token_name=visit.value("name"))


async def revoke_token(visit: Visit) -> Response:
    """End a token at once."""
    name = visit.value("name")
    outcome = await tokens.revoke_token(visit.conn, name, by=visit.who.name)
    if not isinstance(outcome, tokens.TokenRevoked):
        return await _page(visit, token_problem=sentence(outcome.reason))
    return visit.go("/users", f"The token {name} is not valid any more.")
