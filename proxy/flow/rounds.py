"""One round of a job that runs beside the way of messages, and that nothing may end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from proxy.store.database import UNREACHABLE

T = TypeVar("T")

log = structlog.get_logger()


async def attempt(once: Callable[[], Awaitable[T]], *, waits: str, failed: str) -> T | None:
    """Do it once.  What goes wrong is logged, as one of these events, and tried the next time.

    `waits`: the database is away.  `failed`: anything else.  Returns None then.
    """
    try:
        return await once()
    except UNREACHABLE as error:
        log.warning(waits, reason=str(error) or repr(error))
    except Exception:
        log.exception(failed)
    return None
