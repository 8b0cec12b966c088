"""What a stranger may not do over HTTP: send bodies without end, guess without end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESSES_MAX: Final = 10_000
"""Of how many addresses the failures are remembered."""


class BodyTooLarge(Exception):
    """A body that goes on behind its limit; `limit` is in octets."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body has more than {limit} octets")
        self.limit = limit


class BodyLimit:
    """ASGI middleware: a request's body has at most `limit_of(scope)` octets.

    `refuse` makes the answer to a longer one.  What is announced to be too long is not read.
    """

    def __init__(
        self, app: ASGIApp, limit_of: Callable[[Scope], int], refuse: Callable[[int], ASGIApp]
    ) -> None:
        self._app = app
        self._limit_of = limit_of
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only requests have bodies."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            await self._refuse(limit)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, counted, send)


class Failures:
    """Counts failed attempts per address: `burst` at once, then one each `every_s`."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._paid_until: OrderedDict[str, float] = OrderedDict()
        """When all of an address's failures will be forgotten."""

    def wait_s(self, address: str, now_s: float) -> float:
        """How long an address has to wait for its next attempt; 0: it need not."""
        until = self._paid_until.get(address, now_s)
        return max(0.0, until - now_s - (self._burst - 1) * self._every_s)

    def failed(self, address: str, now_s: float) -> None:
        """An attempt from an address failed."""
        until = max(self._paid_until.pop(address, now_s), now_s)
        self._paid_until[address] = until + self._every_s
        if len(self._paid_until) > ADDRESSES_MAX:
            self._paid_until.popitem(last=False)
