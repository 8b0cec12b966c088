"""Group commit: one connection, one batch at a time, one round trip a batch.

A batch is whatever was added while the one before it was being committed: a single item when
nothing else is going on, hundreds under load.  No timer holds a lone item back.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

import asyncpg
import structlog

from proxy.store.database import UNREACHABLE
from proxy.telemetry import metrics

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger()

# Errors that one item of a batch can cause: the others deserve another try without it.
_ITEM_ERRORS = (asyncpg.DataError, asyncpg.exceptions.IntegrityConstraintViolationError, ValueError)
_RECONNECT_MIN_S = 0.1
_RECONNECT_MAX_S = 5.0


class Lane(Generic[T, R]):
    """Commits items in the order in which they were added.

    `execute` runs one statement for a batch; `committed` gets the batch and its result.  When the
    database can't be reached, a lane with `retry` keeps everything and repeats it once it is back
    (its statement must be repeatable); a lane without gives everything to `failed` at once, and
    `up` is False until there is a connection again.
    """

    def __init__(
        self,
        name: str,
        *,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        execute: Callable[[Any, list[T]], Awaitable[R]],
        committed: Callable[[list[T], R], None],
        failed: Callable[[list[T]], None],
        retry: bool,
        batch_max: int = 1000,
    ) -> None:
        self.name = name
        self.up = False
        self._connect = connect
        self._execute = execute
        self._committed = committed
        self._failed = failed
        self._retry = retry
        self._batch_max = batch_max
        self._pending: deque[T] = deque()
        self._in_flight: list[T] = []
        """What is being committed and has no end yet, in order."""
        self._wait_s = _RECONNECT_MIN_S
        self._worked = False
        self._added = 0
        self._ended = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._sizes = metrics.COMMIT_MESSAGES.labels(name)
        self._seconds = metrics.COMMIT_SECONDS.labels(name)
        self._failures = metrics.COMMIT_FAILURES.labels(name)

    @property
    def depth(self) -> int:
        """Items that are waiting or being committed."""
        return len(self._pending) + len(self._in_flight)

    def add(self, items: list[T]) -> None:
        """Queue items; they are committed with whatever else is waiting."""
        if items:
            self._pending.extend(items)
            self._added += len(items)
            self._wake.set()

    async def passed(self) -> None:
        """Returns when everything that was added before this call is committed or has failed."""
        if self._ended < self._added:
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((self._added, future))
            await future

    def _end(self, number: int) -> None:
        self._ended += number
        while self._waiters and self._waiters[0][0] <= self._ended:
            future = self._waiters.popleft()[1]
            if not future.done():
                future.set_result(None)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                connection = await self._connect()
            except (*UNREACHABLE, asyncpg.PostgresError) as error:
                log.warning("lane_waits", lane=self.name, reason=str(error) or repr(error))
                self._give_up_pending()
                await self._pause()
                continue
            self._worked = False
            connection.add_termination_listener(lambda _: self._wake.set())
            self.up = True
            try:
                await self._work(connection)
            except UNREACHABLE as error:
                self._failures.inc()
                log.warning("lane_lost", lane=self.name, reason=str(error) or repr(error))
            finally:
                self.up = False
                connection.terminate()
                self._give_up_pending()
            if not self._worked:  # it connects, and then refuses: a full disk, say
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        self._wait_s = min(self._wait_s * 2, _RECONNECT_MAX_S)

    def _give_up_pending(self) -> None:
        """After a failure: put everything back (retry) or hand everything to `failed`."""
        if self._retry:
            self._pending.extendleft(reversed(self._in_flight))
            self._in_flight = []
            return
        lost = self._in_flight + list(self._pending)
        self._in_flight = []
        self._pending.clear()
        if lost:
            self._failed(lost)
            self._end(len(lost))

    async def _work(self, connection: asyncpg.Connection) -> None:
        pending = self._pending
        while True:
            if not pending:
                self._wake.clear()
                await self._wake.wait()
            if connection.is_closed():
                raise ConnectionError("the database closed the connection")
            batch_size = min(len(pending), self._batch_max)
            self._in_flight = [pending.popleft() for _ in range(batch_size)]
            if batch_size:
                await self._commit(connection, self._in_flight)

    async def _commit(self, connection: asyncpg.Connection, batch: list[T]) -> None:
        """One batch; when one of its items is at fault, halves find which."""
        started = monotonic()
        try:
            result = await self._execute(connection, batch)
        except _ITEM_ERRORS as error:
            await self._commit_halves(connection, batch, error)
            return
        except UNREACHABLE:
            raise
        except asyncpg.PostgresError as error:
            # Not an item's fault and not known as temporary either: as if the database were away.
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            log.exception("batch_failed", lane=self.name)
            await self._commit_halves(connection, batch, error)
            return
        self._worked = True
        self._wait_s = _RECONNECT_MIN_S
        self._sizes.observe(len(batch))
        self._seconds.observe(monotonic() - started)
        self._tell(len(batch), partial(self._committed, batch, result))

    async def _commit_halves(
        self, connection: asyncpg.Connection, batch: list[T], error: Exception
    ) -> None:
        self._failures.inc()
        if len(batch) == 1:
            log.error("item_refused_by_database", lane=self.name, reason=str(error))
            self._tell(1, partial(self._failed, batch))
            return
        middle = len(batch) // 2
        await self._commit(connection, batch[:middle])
        await self._commit(connection, batch[middle:])

    def _tell(self, number: int, callback: Callable[[], None]) -> None:
        """The oldest items in flight have their end, which must not come twice."""
        self._in_flight = self._in_flight[number:]
        try:
            callback()
        except Exception:
            # The others' traffic goes on; what this left undone the sweep finds.
            log.exception("lane_callback_failed", lane=self.name)
        self._end(number)
