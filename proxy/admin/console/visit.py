"""One request to the console: who asks, what the form says, and how to answer."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from proxy.admin.console.render import Renderer
from proxy.admin.context import Context
from proxy.store.operators import Operator, Scope

SESSION_COOKIE: Final = "smpp_proxy_session"
NOTICE_COOKIE: Final = "smpp_proxy_notice"
NOTICE_SECONDS: Final = 60
LIVE_HEADER: Final = "x-live"
"""Sent by the script that refreshes a part of a page."""
FORM_OCTETS_MAX: Final = 64 * 1024
UPLOAD_OCTETS_MAX: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class Console:
    """What all requests share."""

    context: Context
    renderer: Renderer
    clock: Callable[[], datetime]
    queue_summary: tuple[float, list[dict[str, Any]]] | None = None
    """What waits, by route, and until when (the monotonic clock) that is believed."""


class Form(dict[str, str]):
    """The fields of a form; one that was not sent is empty."""

    def __missing__(self, key: str) -> str:
        return ""


@dataclass(slots=True)
class Visit:
    """One request.  `conn` is a connection of the pool for as long as the page is made."""

    console: Console
    request: Request
    token: str
    """What the browser holds: of a session, or a random one before signing in."""
    operator: Operator | None = None
    conn: Any = None
    form: Form = field(default_factory=Form)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self.console.clock()

    @property
    def who(self) -> Operator:
        """Whoever is signed in; only on pages that need that."""
        assert self.operator is not None
        return self.operator

    @property
    def live(self) -> bool:
        """Whether only the part of the page that changes is wanted."""
        return LIVE_HEADER in self.request.headers

    @property
    def csrf(self) -> str:
        """What every form of this visitor carries; nobody can say it who hasn't the cookie."""
        return hmac.digest(self.token.encode("utf-8", "replace"), b"csrf", "sha256").hex()

    @property
    def address(self) -> str:
        """Where the request comes from."""
        client = self.request.client
        if _trusts_forwarded(self.console.context):
            # The last one is what the proxy in front of us saw; the rest anybody can invent.
            told = self.request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            if told:
                return told
        return client.host if client else ""

    @property
    def https(self) -> bool:
        """Whether the browser came over https."""
        if _trusts_forwarded(self.console.context):
            told = self.request.headers.get("x-forwarded-proto", "")
            if told:
                return told.rpartition(",")[2].strip() == "https"
        return self.request.url.scheme == "https"

    def param(self, name: str, default: str = "") -> str:
        """A parameter of the query, trimmed."""
        return self.request.query_params.get(name, default).replace("\0", "").strip()

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name]).replace("\0", "")

    def value(self, name: str) -> str:
        """A field of the form, trimmed; empty when it is not there."""
        return self.form.get(name, "").strip()

    # --------------------------------------------------------------------------- answers

    def page(
        self, template: str, *, status: int = 200, live: str | None = None, **values: Any
    ) -> Response:
        """A page, or of it only `live` when the script asks for that."""
        name = live if live is not None and self.live else template
        notice = unquote(self.request.cookies.get(NOTICE_COOKIE, ""))
        html = self.console.renderer.render(name, visit=self, notice=notice, **values)
        answer = HTMLResponse(html, status)
        if notice and not self.live:
            answer.delete_cookie(NOTICE_COOKIE, httponly=True, samesite="strict")
        return answer

    def go(self, path: str, notice: str = "") -> Response:
        """Off to another page, which then shows the notice."""
        answer = RedirectResponse(path, 303)
        if notice:
            answer.set_cookie(
                NOTICE_COOKIE,
                quote(notice[:500], safe=""),
                max_age=NOTICE_SECONDS,
                httponly=True,
                samesite="strict",
                secure=self.https,
            )
        return answer

    def keep_token(self, answer: Response, token: str) -> None:
        """Let the browser hold a token; it goes when the browser is closed, or with the session."""
        answer.set_cookie(
            SESSION_COOKIE, token, httponly=True, samesite="strict", secure=self.https, path="/"
        )

    def not_found(self, what: str) -> NoReturn:
        """There is no such thing."""
        raise HTTPException(404, what)

    # ----------------------------------------------------------------------------- forms

    async def read_form(self, octets_max: int) -> None:
        """The fields and files of the form, or an error when it is too large."""
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > octets_max:
                raise HTTPException(413, "That is more than this form takes.")

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        async with Request(self.request.scope, replay).form(
            max_files=1, max_fields=200, max_part_size=octets_max
        ) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    self.files[name] = await value.read()
                else:
                    # PostgreSQL has no NUL in its texts.
                    self.form[name] = value.replace("\0", "")

    def check_origin(self) -> None:
        """The form must be one of our own pages', of this visitor."""
        # A browser that says "same-origin" knows better than we do behind a proxy.
        if self.request.headers.get("sec-fetch-site") != "same-origin":
            origin = self.request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != self.request.headers.get("host"):
                raise HTTPException(403, "This form came from another site.")
        sent = self.form.get("csrf", "").encode("utf-8", "replace")
        # Without a cookie anybody can tell what the token would be.
        if not self.token or not hmac.compare_digest(sent, self.csrf.encode()):
            raise HTTPException(
                403, "This form is not of your present session. Go back, reload, try again."
            )


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """A row of the table of pages: who may see it (None: everybody), and who makes it."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    octets_max: int = FORM_OCTETS_MAX


def _trusts_forwarded(context: Context) -> bool:
    return context.settings.http.trust_forwarded
