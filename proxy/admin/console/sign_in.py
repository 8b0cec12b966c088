"""In and out, and the first operator."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from proxy.admin.console.render import sentence
from proxy.admin.console.visit import SESSION_COOKIE, Visit
from proxy.store import operators, web_sessions
from proxy.store.outcomes import Refused

WRONG: Final = "The name or the password is wrong."
TOO_OFTEN: Final = "Too many attempts. Try again in a quarter of an hour."
BUSY: Final = "Too many people are signing in at this moment. Try again."
WAITING_MAX: Final = 20

_waiting = 0


async def show(visit: Visit) -> Response:
    """The page to sign in on."""
    if visit.operator is not None:
        return visit.go(_inside(visit.param("next")))
    return await _page(visit, visit.param("next"))


async def _page(visit: Visit, wanted: str, status: int = 200, problem: str = "") -> Response:
    pool = visit.console.context.pool()
    anybody = await pool.fetchval("SELECT EXISTS (SELECT FROM operator)")
    return _with_token(
        visit,
        "sign_in.html",
        status,
        problem=problem,
        wanted=wanted,
        anybody=anybody,
        name=visit.value("name"),
    )


def _with_token(visit: Visit, template: str, status: int, **values: Any) -> Response:
    """A page with a form, for a browser that may hold no token yet."""
    fresh = SESSION_COOKIE not in visit.request.cookies
    if fresh:
        visit.token = web_sessions.new_token()
    answer = visit.page(template, status=status, **values)
    if fresh:
        visit.keep_token(answer, visit.token)
    return answer


async def sign_in(visit: Visit) -> Response:
    """Check name and password.  Holds no connection while it does."""
    global _waiting  # noqa: PLW0603 - of this process, whose cores they wait for
    name, wanted = visit.value("name"), visit.value("next")
    if _waiting >= WAITING_MAX:
        return await _page(visit, wanted, 503, BUSY)
    pool = visit.console.context.pool()
    async with pool.acquire() as conn:
        allowed = await web_sessions.may_try(conn, name, visit.address, visit.now)
    if not allowed:
        answer = await _page(visit, wanted, 429, TOO_OFTEN)
        answer.headers["retry-after"] = str(int(web_sessions.ATTEMPTS_WITHIN.total_seconds()))
        return answer
    _waiting += 1
    try:
        operator = await operators.verify(pool, name, visit.form.get("password", ""))
    finally:
        _waiting -= 1
    if operator is None:
        visit.console.context.record_event(
            "sign_in_failed", "Sign-in to the console failed", severity="warning"
        )
        return await _page(visit, wanted, 403, WRONG)
    async with pool.acquire() as conn:
        await web_sessions.succeeded(conn, name, visit.address)
        await web_sessions.end(conn, visit.token)  # a new id: nobody planted this one
        token = await web_sessions.start(conn, operator, visit.now)
    answer = visit.go(_inside(wanted))
    visit.keep_token(answer, token)
    return answer


def _inside(wanted: str) -> str:
    """Where to go then: a path of the console, and nothing else."""
    if not wanted.startswith("/") or wanted[1:2] in {"/", "\\"} or not wanted.isprintable():
        return "/"
    return wanted


async def sign_out(visit: Visit) -> Response:
    """End the session."""
    await web_sessions.end(visit.conn, visit.token)
    answer = visit.go("/sign-in", "You are signed out.")
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return answer


async def show_setup(visit: Visit) -> Response:
    """The page that the set-up link leads to."""
    token = visit.param("token")
    good = await operators.setup_link_is_good(visit.conn, token, visit.now)
    return _setup_page(visit, token, good=good, status=200 if good else 404)


def _setup_page(visit: Visit, link: str, *, good: bool, status: int, problem: str = "") -> Response:
    values = {"link": link, "good": good, "problem": problem, "name": visit.value("name")}
    return _with_token(visit, "setup.html", status, **values)


async def set_up(visit: Visit) -> Response:
    """Make the first operator and sign in as that."""
    link, password = visit.value("token"), visit.form.get("password", "")
    if not await operators.setup_link_is_good(visit.conn, link, visit.now):
        return _setup_page(visit, link, good=False, status=404)
    if password != visit.form.get("again"):
        return _setup_page(visit, link, good=True, status=400, problem="The passwords differ.")
    outcome = await operators.use_setup_link(
        visit.conn, link, visit.value("name"), password, visit.now
    )
    if isinstance(outcome, Refused):
        return _setup_page(visit, link, good=True, status=400, problem=sentence(outcome.reason))
    token = await web_sessions.start(visit.conn, outcome.operator, visit.now)
    answer = visit.go("/", f"Welcome, {outcome.operator.name}. You may do everything here.")
    visit.keep_token(answer, token)
    return answer
