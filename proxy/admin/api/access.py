"""Who calls, and whether the caller may: tokens, scopes, and accounts that see only themselves."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from proxy.admin.api.problems import Problem, database_away
from proxy.admin.context import Context
from proxy.admin.limits import BodyTooLarge, Failures
from proxy.store.database import UNREACHABLE
from proxy.store.tokens import Token, find_token, hash_token

log = structlog.get_logger(__name__)

ROOT: Final = "/api/v1"

SCOPE: Final = "x-scope"
"""In the OpenAPI document: the scope an operation needs."""

OWN: Final = "x-account-token"
"""In the OpenAPI document: whether the token of an account may call it, for its own account."""

CONNECTIONS_MAX: Final = 4
"""Of the pool's: the proxy's own work must not wait for callers."""

WAIT_MAX_S: Final = 10.0
_BURST: Final = 10
_EVERY_S: Final = 6.0
_KNOWN_MAX: Final = 1_000
_BEARER: Final = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)
_REALM: Final = 'Bearer realm="smpp-proxy"'


def need(scope: str, *, own: bool = False) -> dict[str, Any]:
    """For a route's openapi_extra: the scope it needs, and whether account tokens may call it."""
    return {SCOPE: scope, OWN: own}


class Doorkeeper:
    """Knows who has failed lately, and how many callers use the database now."""

    def __init__(self, context: Context, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._clock_s = clock_s
        self._failures = Failures(_BURST, _EVERY_S)
        self._gate = asyncio.Semaphore(CONNECTIONS_MAX)
        # Who had a good token is not kept out by a neighbour who guesses.
        self._known: OrderedDict[bytes, None] = OrderedDict()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection; raises one of UNREACHABLE when none is free in time."""
        async with asyncio.timeout(WAIT_MAX_S):
            await self._gate.acquire()
        try:
            async with self._context.pool().acquire(timeout=WAIT_MAX_S) as connection:
                yield connection
        finally:
            self._gate.release()

    async def who(self, request: Request) -> Token:
        """The token of a request; raises a Problem when there is none, or no good one."""
        given = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if given is None:
            raise Problem(
                401, "This needs a token: Authorization: Bearer …", {"WWW-Authenticate": _REALM}
            )
        address = request.client.host if request.client else ""
        known = hash_token(given[1])
        wait_s = self._failures.wait_s(address, self._clock_s())
        if wait_s > 0 and known not in self._known:
            raise Problem(
                429,
                "Too many tokens from this address were wrong.",
                {"Retry-After": str(int(wait_s) + 1)},
            )
        async with self.database() as conn:
            token = await find_token(conn, given[1])
        if token is None:
            self._known.pop(known, None)
            self._failures.failed(address, self._clock_s())
            raise Problem(
                401,
                "This token is unknown, expired or revoked.",
                {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
            )
        self._known[known] = None
        self._known.move_to_end(known)
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return token


@dataclass(frozen=True, slots=True)
class Call:
    """One request of somebody who may make it."""

    context: Context
    door: Doorkeeper
    token: Token

    @property
    def by(self) -> str:
        """Who does it, for the log."""
        return f"token {self.token.name}"

    @property
    def of_account(self) -> bool:
        """Whether the caller is a customer, who must not see whom we buy from."""
        return self.token.account is not None

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Any]:
        """A connection to work with."""
        async with self.door.database() as connection:
            yield connection

    def account(self, name: str) -> str:
        """The name, when the caller may see that account; otherwise there is no such."""
        if self.token.account not in {None, name}:
            raise no_account(name)
        return name

    def account_filter(self, name: str | None) -> str | None:
        """What a list is to be filtered by: the caller's account where it has one."""
        return self.token.account if name is None else self.account(name)


def no_account(name: str) -> Problem:
    """The same for an account that does not exist and for one that the caller may not see."""
    return Problem(404, f"there is no account {name!r}")


def _call(request: Request) -> Call:
    call: Call = request.state.call
    return call


Here = Annotated[Call, Depends(_call)]
"""The call that a route answers."""


class Route(APIRoute):
    """Lets in who may, before anything of the request is read; nothing else can be left to it.

    A route without need(…) can't be made.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the door."""
        handler = super().get_route_handler()
        extra = self.openapi_extra or {}
        scope, own = extra[SCOPE], extra[OWN]

        async def behind_the_door(request: Request) -> Response:
            door: Doorkeeper = request.app.state.door
            try:
                token = await door.who(request)
                _check(token, scope, own)
                request.state.call = Call(request.app.state.context, door, token)
                return await handler(request)
            except (HTTPException, RequestValidationError) as error:
                # A body that was too long while it was read is wrapped by the framework.
                if isinstance(error.__cause__, BodyTooLarge):
                    raise too_large(error.__cause__.limit) from None
                raise
            except BodyTooLarge as error:
                raise too_large(error.limit) from None
            except UNREACHABLE as error:
                log.warning("api_database_unreachable", reason=str(error) or repr(error))
                raise database_away() from None
            except Exception:
                log.exception("api_failed", method=request.method, path=self.path)
                raise Problem(
                    500, "Something went wrong; the log of the proxy says what."
                ) from None

        return behind_the_door


def too_large(limit: int) -> Problem:
    """A body with more octets than that."""
    return Problem(413, f"A body may have {limit} octets here.")


def _check(token: Token, scope: str, own: bool) -> None:
    if not token.allows(scope):
        raise Problem(
            403,
            f"This needs a token with the scope {scope}; this one has {token.scope}.",
            {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
        )
    if token.account is not None and not own:
        raise Problem(
            403,
            f"This needs a token with the scope {scope} for all accounts; this one sees the "
            f"account {token.account} only.",
            {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
        )
