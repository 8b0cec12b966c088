"""Waiting for something to come true, without sleeping for a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic


async def eventually(
    check: Callable[[], bool | Awaitable[bool]], *, timeout_s: float = 10, what: str = ""
) -> None:
    """Returns as soon as `check` is true, and fails when it is not in time."""
    deadline = monotonic() + timeout_s
    while True:
        result = check()
        if result if isinstance(result, bool) else await result:
            return
        assert monotonic() < deadline, what or "it did not come true"
        await asyncio.sleep(0.005)
