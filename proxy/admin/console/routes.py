"""All pages of the console in one table, and what holds for every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.admin.console import (
    account_pages,
    accounts,
    events,
    home,
    messages,
    plans,
    queue,
    route_pages,
    sign_in,
    tariffs,
    upstreams,
    users,
)
from proxy.admin.console.render import Renderer, media_type
from proxy.admin.console.visit import (
    LIVE_HEADER,
    SESSION_COOKIE,
    UPLOAD_OCTETS_MAX,
    Console,
    Page,
    Visit,
)
from proxy.admin.context import Context
from proxy.store import web_sessions
from proxy.store.database import UNREACHABLE

log = structlog.get_logger(__name__)

CONNECTIONS_MAX: Final = 4
"""Of the pool, at a time: binds need some as well."""

PAGES: Final = (
    Page("GET", "/sign-in", sign_in.show, None),
    Page("POST", "/sign-in", sign_in.sign_in, None),
    Page("GET", "/setup", sign_in.show_setup, None),
    Page("POST", "/setup", sign_in.set_up, None),
    Page("POST", "/sign-out", sign_in.sign_out, "read"),
    Page("GET", "/", home.show, "read"),
    Page("GET", "/accounts", accounts.index, "read"),
    Page("GET", "/accounts/new", accounts.new, "admin"),
    Page("POST", "/accounts/new", accounts.create, "admin"),
    Page("GET", "/accounts/{name}", account_pages.credit_log, "read"),
    Page("POST", "/accounts/{name}/credit", account_pages.add_credit, "credit"),
    Page("GET", "/accounts/{name}/messages", messages.of_account, "read"),
    Page("GET", "/accounts/{name}/settings", account_pages.settings, "read"),
    Page("POST", "/accounts/{name}/settings", account_pages.save_settings, "admin"),
    Page("POST", "/accounts/{name}/logins", account_pages.set_login, "admin"),
    Page("POST", "/accounts/{name}/enabled", account_pages.set_enabled, "admin"),
    Page("GET", "/accounts/{name}/plans", plans.of_account, "read"),
    Page("POST", "/accounts/{name}/plans", plans.assign, "admin"),
    Page("POST", "/accounts/{name}/plans/end", plans.end, "admin"),
    Page("GET", "/accounts/{name}/sessions", account_pages.sessions, "read"),
    Page("POST", "/accounts/{name}/sessions/end", account_pages.end_session, "admin"),
    Page("GET", "/messages", messages.index, "read"),
    Page("GET", "/messages/{id}", messages.one, "read"),
    Page("GET", "/queue", queue.index, "read"),
    Page("POST", "/queue", queue.change, "admin"),
    Page("GET", "/events", events.index, "read"),
    Page("GET", "/routes", route_pages.index, "read"),
    Page("GET", "/upstreams", upstreams.index, "read"),
    Page("POST", "/upstreams/{name}", upstreams.change, "admin"),
    Page("GET", "/tariffs", tariffs.index, "read"),
    Page("GET", "/tariffs/import", tariffs.new, "admin"),
    Page("POST", "/tariffs/import", tariffs.import_, "admin", UPLOAD_OCTETS_MAX),
    Page("GET", "/tariffs/{name}", tariffs.one, "read"),
    Page("GET", "/tariffs/{name}/export.csv", tariffs.export, "read"),
    Page("GET", "/plans", plans.index, "read"),
    Page("POST", "/plans", plans.add, "admin"),
    Page("GET", "/users", users.index, "admin"),
    Page("POST", "/users", users.add, "admin"),
    Page("GET", "/users/{name}", users.one, "admin"),
    Page("POST", "/users/{name}", users.change, "admin"),
    Page("POST", "/tokens", users.create_token, "admin"),
    Page("POST", "/tokens/revoke", users.revoke_token, "admin"),
    Page("GET", "/me", users.me, "read"),
    Page("POST", "/me", users.set_own_password, "read"),
)

_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not "no-referrer": with that a browser says no Origin either.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def add_console(
    app: FastAPI, context: Context, *, clock: Callable[[], datetime] = _utc_now
) -> None:
    """Put the console at "/" of an application, behind everything that is there already."""
    console = Console(context, Renderer(), clock)
    connections = asyncio.Semaphore(CONNECTIONS_MAX)
    routes = [
        Route(page.path, partial(_answer, console, connections, page), methods=[page.method])
        for page in PAGES
    ]
    routes.append(Route("/static/{name}", partial(_static, console)))
    errors: dict[Any, Any] = dict.fromkeys(UNREACHABLE, partial(_database_away, console))
    errors[HTTPException] = partial(_refused, console)
    errors[Exception] = partial(_failed, console)
    app.mount("/", _SecurityHeaders(Starlette(routes=routes, exception_handlers=errors)))


async def _answer(
    console: Console, connections: asyncio.Semaphore, page: Page, request: Request
) -> Response:
    """Find out who asks, refuse what they may not, and make the page."""
    token = request.cookies.get(SESSION_COOKIE, "")
    visit = Visit(console, request, token)
    pool = console.context.pool()
    if token and (page.scope is not None or request.method == "GET"):
        async with connections, pool.acquire() as conn:
            visit.operator = await web_sessions.find(conn, token, visit.now, use=not visit.live)
    if page.scope is not None:
        if visit.operator is None:
            return _sign_in_first(request)
        if not visit.operator.may(page.scope):
            raise HTTPException(
                403, f"This needs the scope {page.scope}; yours is {visit.operator.scope}."
            )
    if page.method == "POST":
        await visit.read_form(page.octets_max)
        visit.check_origin()
    if page.handler is sign_in.sign_in:  # may wait long, and takes connections as it needs them
        return await page.handler(visit)
    async with connections, pool.acquire() as conn:
        visit.conn = conn
        return await page.handler(visit)


def _sign_in_first(request: Request) -> Response:
    if LIVE_HEADER in request.headers:
        return PlainTextResponse("signed out", 401)
    if request.method != "GET":
        return RedirectResponse("/sign-in", 303)
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(
        "/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted, safe='')}", 303
    )


async def _static(console: Console, request: Request) -> Response:
    name = request.path_params["name"]
    content = console.renderer.static.get(name)
    if content is None:
        raise HTTPException(404)
    known = "v" in request.query_params
    return Response(
        content,
        media_type=media_type(name),
        headers={"cache-control": "max-age=31536000, immutable" if known else "no-cache"},
    )


# ------------------------------------------------------------------------------- errors


_TITLES: Final = {
    400: "That could not be read",
    403: "You may not do this",
    404: "There is no such page",
    405: "That can't be done here",
    413: "Too large",
    500: "Something went wrong here",
    503: "The database is away",
}


def _error_page(console: Console, request: Request, status: int, text: str) -> Response:
    if request.url.path.startswith("/api/"):
        body = {"type": "about:blank", "status": status, "title": _TITLES.get(status, "Error")}
        return JSONResponse(body, status, media_type="application/problem+json")
    if LIVE_HEADER in request.headers:
        return PlainTextResponse(text, status)
    title = _TITLES.get(status, "Error")
    html = console.renderer.render("error.html", title=title, text=text, status=status)
    return HTMLResponse(html, status)


async def _refused(console: Console, request: Request, error: HTTPException) -> Response:
    known = error.detail and error.status_code in _TITLES and error.detail not in _PHRASES
    text = error.detail if known else _EXPLAIN.get(error.status_code, "")
    return _error_page(console, request, error.status_code, text)


_PHRASES: Final = {"Not Found", "Forbidden", "Method Not Allowed", "Bad Request"}
_EXPLAIN: Final = {404: "The address may have a slip in it, or the thing is gone."}


async def _database_away(console: Console, request: Request, error: Exception) -> Response:
    log.warning("console_without_database", reason=str(error) or repr(error))
    text = "Pages come back by themselves when it does. Messages wait or are refused meanwhile."
    return _error_page(console, request, 503, text)


async def _failed(console: Console, request: Request, error: Exception) -> Response:
    log.error("console_failed", path=request.url.path, error=repr(error))
    return _error_page(console, request, 500, "It is written in the proxy's log.")


class _SecurityHeaders:
    """Adds headers to every answer, unless it has them already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.encode() not in there
                    ),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)
