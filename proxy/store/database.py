"""The connections to PostgreSQL: a small pool, dedicated connections, and waiting for it."""

from __future__ import annotations

import asyncio
import os
import random
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import structlog

from proxy.config import DatabaseSettings
from proxy.store.embedded import EmbeddedPostgres, EmbeddedPostgresError

log = structlog.get_logger(__name__)

POOL_MAX: Final = 12
LOCK_TIMEOUT_S: Final = 5.0
RETRY_MIN_S: Final = 0.2
RETRY_MAX_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0


class DatabaseUnreachable(Exception):
    """There is no database to work with; the text says where it was sought and why not."""


# "The database is away": nothing is wrong with what was asked, and it may work a moment
# later on a new connection.  Any of these in the middle of a commit leaves it unknown
# whether that was done.
UNREACHABLE: Final[tuple[type[BaseException], ...]] = (
    DatabaseUnreachable,
    OSError,  # refused, reset, no such socket, no such host, TLS
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # the connection or the pool is closed
    asyncpg.InternalClientError,  # none of several hosts accepts writes; a garbled answer
    asyncpg.OperatorInterventionError,  # shutdown, crash, start, recovery, statement_timeout
    asyncpg.InsufficientResourcesError,  # disk full, no memory, too many connections
    asyncpg.PostgresSystemError,  # an I/O error
    asyncpg.TransactionRollbackError,  # deadlock
    asyncpg.LockNotAvailableError,  # lock_timeout
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or a primary that became one
)

# Refused while connecting: waiting helps only if somebody puts it right meanwhile.
_REFUSED: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class Database:
    """One PostgreSQL, embedded or not; `open` it first and `close` it always."""

    def __init__(self, settings: DatabaseSettings, *, application_name: str = "smpp-proxy") -> None:
        self._settings = settings
        self._application_name = application_name
        self._embedded = EmbeddedPostgres(settings.data_directory) if settings.embedded else None
        self._dsn: str | None = None if settings.embedded else settings.url
        self._pool: asyncpg.Pool | None = None
        self._hosts = _hosts(settings.url)
        self._good_host = 0  # the one that took us last
        self._restarting = asyncio.Lock()

    @property
    def pool(self) -> asyncpg.Pool:
        """For everything that is not the hot path."""
        if self._pool is None:
            raise DatabaseUnreachable("the database is not open")
        return self._pool

    @property
    def dsn(self) -> str:
        """Where it is; may hold a password."""
        if self._dsn is None:
            raise DatabaseUnreachable("the embedded database is not started")
        return self._dsn

    @property
    def place(self) -> str:
        """Where it is, for people: hosts without user and password."""
        if self._embedded is not None:
            return f"embedded ({self._embedded.cluster})"
        return urlsplit(self.dsn).netloc.rpartition("@")[2] or "unix socket"

    async def open(self, *, wait: bool) -> None:
        """Starts the embedded server where that is configured, and opens the pool.

        `wait` tries for ever, with a log line each time; otherwise an unreachable database
        raises DatabaseUnreachable after connect_timeout_s, and one that refuses us at once.
        """
        if self._pool is not None:
            return
        give_up = None if wait else monotonic() + self._settings.connect_timeout_s
        pause_s = RETRY_MIN_S
        while True:
            try:
                if self._embedded is not None:
                    self._dsn = await self._embedded.start()
                self._pool = await self._make_pool()
                return
            except (*UNREACHABLE, *_REFUSED, EmbeddedPostgresError, ValueError) as error:
                reason = _reason(error)
                # A ValueError is about the URL, which will not change.
                hopeless = isinstance(error, ValueError) or (
                    not wait and isinstance(error, (*_REFUSED, EmbeddedPostgresError))
                )
                if hopeless or (give_up is not None and monotonic() + pause_s > give_up):
                    await self.close()
                    raise DatabaseUnreachable(f"database at {self.place}: {reason}") from error
            retry_in_s = round(pause_s * random.uniform(0.5, 1.0), 2)  # noqa: S311 - jitter
            if wait:
                log.warning(
                    "database_unreachable", host=self.place, reason=reason, retry_in_s=retry_in_s
                )
            await asyncio.sleep(retry_in_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    async def connect(self) -> asyncpg.Connection:
        """A dedicated connection, for example for LISTEN or a group commit; yours to close."""
        if self._pool is None:
            raise DatabaseUnreachable("the database is not open")
        try:
            return await self._connect()
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
            if self._embedded is None:
                raise
            # Our own server died, and nobody but its users will start it again.
            await self._restart(self._embedded)
        return await self._connect()

    async def close(self) -> None:
        """Closes the pool and leaves the embedded server."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
            except (*UNREACHABLE, asyncpg.PostgresError):
                pool.terminate()  # a connection that is still in use, or a server that is away
        if self._embedded is not None:
            async with self._restarting:
                await self._embedded.stop()

    async def _restart(self, embedded: EmbeddedPostgres) -> None:
        async with self._restarting:
            if self._pool is None:
                raise DatabaseUnreachable("the database was closed")
            try:
                self._dsn = await embedded.start()
            except EmbeddedPostgresError as error:
                raise DatabaseUnreachable(str(error)) from error

    async def _make_pool(self) -> asyncpg.Pool:
        # With a minimum the pool would connect by itself while the database is away, and log
        # a traceback each time.
        pool = asyncpg.create_pool(min_size=0, max_size=POOL_MAX, connect=self._connect_for_pool)
        await pool
        try:
            async with pool.acquire():
                return pool
        except BaseException:
            pool.terminate()
            raise

    async def _connect_for_pool(self, *_: object, **__: object) -> asyncpg.Connection:
        # The pool passes the default classes.  It is not there yet while `open` makes it.
        return await (self._connect() if self._pool is None else self.connect())

    async def _connect(self) -> asyncpg.Connection:
        """The first of the hosts that accepts writes, beginning with the last good one."""
        problem: BaseException | None = None
        for i in range(len(self._hosts)):
            index = (self._good_host + i) % len(self._hosts)
            try:
                connection = await self._connect_to(self._hosts[index])
            except UNREACHABLE as error:
                problem = problem or error
            else:
                self._good_host = index
                return connection
        assert problem is not None
        raise problem

    async def _connect_to(self, host: dict[str, Any]) -> asyncpg.Connection:
        statement_timeout_s = self._settings.statement_timeout_s
        return await asyncpg.connect(
            self.dsn,
            **host,
            timeout=self._settings.connect_timeout_s,
            # A little later than the server, which then gets to say why.
            command_timeout=statement_timeout_s + 2,
            target_session_attrs="read-write",
            server_settings={
                "application_name": self._application_name,
                "statement_timeout": str(round(statement_timeout_s * 1000)),
                "lock_timeout": str(round(LOCK_TIMEOUT_S * 1000)),
                "synchronous_commit": "on",
                "jit": "off",
            },
        )


def _hosts(url: str) -> list[dict[str, Any]]:
    """What to say to asyncpg beside the DSN, for each host of a URL that has several.

    asyncpg itself takes such a URL, but has one timeout for all of them: a first host that
    swallows packets would use it up.
    """
    parts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    if len(parts) < 2:
        return [{}]
    try:
        each = [urlsplit(f"//{part}") for part in parts]
        return [{"host": one.hostname, "port": one.port or 5432} for one in each]
    except ValueError:
        return [{}]  # asyncpg will say what is wrong with it


def _reason(error: BaseException) -> str:
    """One line; some errors of connecting have no text or several lines of it."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    text = " ".join(str(error).split())
    if isinstance(error, TimeoutError):
        return text or "no answer in time"
    return text or type(error).__name__
