"""The event log: what happened, counted per account, kind, text and minute.

The hot path only adds to a dictionary; a task writes it to the database.  Texts are fixed
sentences ("Submit accepted"), so a flood of one event is one row with a large count.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import asyncpg
import structlog
from asyncpg import Connection

from proxy.store.sql import clean, load

KEYS_MAX: Final = 5_000
"""How many different events may wait for the database; more are only counted together."""

FLUSH_INTERVAL_S: Final = 1.0
CLOSE_TIMEOUT_S: Final = 5.0
TEXT_MAX: Final = 500
"""Characters of a text that are kept: kind and text have to fit an index row."""

KIND_MAX: Final = 64
KEPT_MINUTES: Final = 24 * 60
"""After a day without a database an event is given up: its partition may be gone."""

DROPPED_KIND: Final = "events_dropped"
DROPPED_TEXT: Final = "Events not written: too many different ones, or too old"

_LOG_LEVEL: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_log = structlog.get_logger(__name__)


class HasPool(Protocol):
    """What of a Database is used here: its pool of connections."""

    @property
    def pool(self) -> Any: ...


class Key(NamedTuple):
    """What makes two events the same row.  The minute counts from the Unix epoch."""

    minute: int
    account_id: int
    kind: str
    text: str


@dataclass(slots=True)
class Counted:
    """How often an event came; times in seconds since the Unix epoch."""

    severity: str
    message_id: int | None
    count: int
    first_s: float
    last_s: float

    def add(self, other: Counted) -> None:
        """Count a later occurrence, or several, of the same event."""
        self.count += other.count
        self.first_s = min(self.first_s, other.first_s)
        self.last_s = max(self.last_s, other.last_s)


Pending = dict[Key, Counted]


async def write_events(conn: Connection, pending: Pending) -> None:
    """Write events in one statement, adding to the counts that the database has already."""
    rows = sorted(pending.items())
    await conn.execute(
        load("write_events"),
        [_time(key.minute * 60) for key, _ in rows],
        [key.account_id for key, _ in rows],
        [key.kind for key, _ in rows],
        [key.text for key, _ in rows],
        [counted.severity for _, counted in rows],
        [counted.count for _, counted in rows],
        [_time(counted.first_s) for _, counted in rows],
        [_time(counted.last_s) for _, counted in rows],
        [counted.message_id for _, counted in rows],
    )


async def write_event(
    conn: Connection,
    kind: str,
    text: str,
    severity: str = "info",
    account_id: int = 0,
    *,
    message_id: int | None = None,
    count: int = 1,
) -> None:
    """Write one event at once, inside the caller's transaction if there is one."""
    now_s = time.time()
    key = Key(int(now_s // 60), account_id, clean(kind, KIND_MAX), clean(text, TEXT_MAX))
    await write_events(conn, {key: Counted(severity, message_id, count, now_s, now_s)})


class EventLog:
    """Collects events of one proxy and writes them to the database, at most once a second."""

    def __init__(
        self,
        database: HasPool,
        *,
        clock_s: Callable[[], float] = time.time,
        account_name: Callable[[int], str | None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock_s = clock_s
        self._account_name = account_name
        """For the log lines, of accounts that are bound here."""
        self._pending: Pending = {}
        self._dropped = 0
        self._failing = False
        self._logged: set[tuple[int, str, str]] = set()
        self._logged_minute = 0
        self._something = asyncio.Event()
        self._closing = asyncio.Event()
        self._flushing = asyncio.Lock()

    def record(
        self,
        kind: str,
        text: str,
        *,
        severity: str = "info",
        account_id: int = 0,
        message_id: int | None = None,
        count: int = 1,
    ) -> None:
        """Count an event: cheap, never blocks, never raises because of the database.

        Call it from the event loop's thread, once per batch.  `severity` is one of debug, info,
        warning, error; `account_id` 0 means that it is not about one account.
        """
        now_s = self._clock_s()
        minute = int(now_s // 60)
        key = Key(minute, account_id, kind, text)
        counted = self._pending.get(key)
        if counted is not None:
            counted.count += count
            counted.last_s = now_s
            return
        key = Key(minute, account_id, clean(kind, KIND_MAX), clean(text, TEXT_MAX))
        self._keep(key, Counted(severity, message_id, count, now_s, now_s))
        self._log_first(key, severity, message_id)

    def _keep(self, key: Key, counted: Counted) -> None:
        """Add to what is pending, or only to the count of what was dropped."""
        present = self._pending.get(key)
        if present is not None:
            present.add(counted)
        elif len(self._pending) < KEYS_MAX:
            self._pending[key] = counted
        else:
            self._dropped += counted.count
        self._something.set()

    def _log_first(self, key: Key, severity: str, message_id: int | None) -> None:
        """Log an event when it is its first in this minute (the rest is in the count)."""
        if key.minute != self._logged_minute:
            self._logged_minute = key.minute
            self._logged.clear()
        same = key[1:]
        if same in self._logged or len(self._logged) >= KEYS_MAX:
            return
        self._logged.add(same)
        facts: dict[str, object] = {"text": key.text}
        if key.account_id:
            facts["account"] = self._account_name(key.account_id) or key.account_id
        if message_id is not None:
            facts["message_id"] = message_id
        _log.log(_LOG_LEVEL.get(severity, 20), key.kind, **facts)

    async def run(self) -> None:
        """Write what is recorded, until close(): at once when idle, else once a second."""
        while not self._closing.is_set():
            await self._something.wait()
            await self._flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_INTERVAL_S)

    async def close(self) -> None:
        """Write what is left, trying for at most a few seconds, and let run() return."""
        self._closing.set()
        self._something.set()
        try:
            await asyncio.wait_for(self._flush(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            _log.warning("events_not_written", events=len(self._pending), reason="timed out")

    async def _flush(self) -> None:
        """Write everything pending in one statement; when that fails, keep it for later."""
        async with self._flushing:
            self._something.clear()
            writing = self._take()
            if not writing:
                return
            try:
                async with self._database.pool.acquire() as conn:
                    await self._write(conn, writing)
            except asyncio.CancelledError:
                self._put_back(writing)  # close() tries again
                raise
            except Exception as error:
                # Whatever it was: the event log must not end because of one bad minute.
                self._put_back(writing)
                if not self._failing:
                    _log.warning("events_not_written", events=len(writing), reason=str(error))
                self._failing = True
            else:
                self._failing = False

    @staticmethod
    async def _write(conn: Connection, writing: Pending) -> None:
        try:
            await write_events(conn, writing)
        except asyncpg.CheckViolationError:  # no partition yet for this day
            await conn.execute("SELECT ensure_partitions()")
            await write_events(conn, writing)

    def _take(self) -> Pending:
        """What is to be written now, without what is too old for the database to take."""
        now_s = self._clock_s()
        minute = int(now_s // 60)
        writing: Pending = {}
        for key, counted in self._pending.items():
            if key.minute < minute - KEPT_MINUTES:
                self._dropped += counted.count
            else:
                writing[key] = counted
        if self._dropped:
            key = Key(minute, 0, DROPPED_KIND, DROPPED_TEXT)
            dropped = Counted("warning", None, self._dropped, now_s, now_s)
            if key in writing:
                dropped.add(writing[key])
            writing[key] = dropped
            self._dropped = 0
        self._pending = {}
        return writing

    def _put_back(self, unwritten: Pending) -> None:
        """Make what could not be written pending again, older events first."""
        newer = self._pending
        self._pending = unwritten
        for key, counted in newer.items():
            self._keep(key, counted)
        self._something.set()


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
