"""Shared fixtures: one PostgreSQL for the whole run, and a fresh database for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from support import waiting

from proxy.config import DatabaseSettings
from proxy.store.database import Database
from proxy.store.embedded import EmbeddedPostgres
from proxy.store.migrations import migrate

TEMPLATE = "smpp_proxy_template"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A test that runs a command in this process sets the level for all that come after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Awaitable[None]]:
    """`await eventually(check)` returns as soon as `check` is true, or fails after 10 s."""
    return waiting.eventually


@dataclass
class Cluster:
    """The server of this test run."""

    dsn: str  # of the database "postgres"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, name: str) -> str:
        """The DSN of another database of the server."""
        return self.dsn.replace("@/postgres?", f"@/{name}?")

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database "postgres"."""
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def fresh(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """The DSN of a new database, which is dropped afterwards."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        async with self.admin() as admin:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                yield self.url(name)
            finally:
                await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def make_template(self) -> None:
        """A migrated database to copy: much quicker than migrating each time."""
        async with self.admin() as admin:
            # Dropping a database is a checkpoint.  No test cuts the power, and what a test kills
            # leaves its writes to the kernel.
            await admin.execute("ALTER SYSTEM SET fsync = off")
            await admin.execute("SELECT pg_reload_conf()")
            await admin.execute(f"CREATE DATABASE {TEMPLATE}")
        connection = await asyncpg.connect(self.url(TEMPLATE))
        try:
            await migrate(connection)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One embedded PostgreSQL for the whole run, with the template database."""
    # Not pytest's tmp_path: that is too long for a unix socket.
    data_dir = Path(tempfile.mkdtemp(prefix="smpp-t-"))
    server = EmbeddedPostgres(data_dir)
    try:
        cluster = Cluster(asyncio.run(server.start()))
        asyncio.run(cluster.make_template())
        yield cluster
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(data_dir)


@pytest_asyncio.fixture
async def database_url(postgres: Cluster) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database."""
    async with postgres.fresh() as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database, opened."""
    opened = Database(DatabaseSettings(url=database_url), application_name="smpp-proxy-test")
    await opened.open(wait=False)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def conn(database: Database) -> AsyncIterator[Any]:
    """A connection of its pool."""
    async with database.pool.acquire() as connection:
        yield connection
