"""Brings a database to this program's version: migrations/NNNN_name.sql, in order, once each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import asyncpg
import structlog

log = structlog.get_logger(__name__)

# Any number will do, as long as every proxy uses the same one.
ADVISORY_LOCK: Final = 0x534D5050_00000001
# Waiting for another proxy that migrates, and a migration over much data, may take long.
TIMEOUT_S: Final = 3600

_CREATE_TABLE: Final = """
CREATE TABLE migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class MigrationError(Exception):
    """The database cannot be brought to this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str  # without .sql
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations of this program, in order."""
    found = []
    for file in files("proxy.store").joinpath("migrations").iterdir():
        match = re.fullmatch(r"((\d{4})_\w+)\.sql", file.name)
        if match:
            found.append(Migration(int(match[2]), match[1], file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.version)
    versions = [migration.version for migration in found]
    if versions != list(range(1, len(found) + 1)):
        raise MigrationError(f"the migration files are not numbered 1, 2, 3 …: {versions}")
    return tuple(found)


async def pending(conn: asyncpg.Connection) -> list[str]:
    """The names of the migrations that `migrate` would apply."""
    return [migration.name for migration in await _pending(conn)]


async def migrate(conn: asyncpg.Connection) -> list[str]:
    """Applies what is missing, all or nothing, and returns the names of what it applied.

    Several proxies may do this at once: one works, the others wait and find nothing to do.
    """
    async with conn.transaction():
        # 0 switches them off, for this transaction.
        await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        await conn.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK, timeout=TIMEOUT_S)
        todo = await _pending(conn)
        if todo and await conn.fetchval("SELECT to_regclass('migration') IS NULL"):
            await conn.execute(_CREATE_TABLE)
        for migration in todo:
            try:
                await conn.execute(migration.sql, timeout=TIMEOUT_S)
            except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
                raise MigrationError(f"migration {migration.name}: {error}") from error
            await conn.execute(
                "INSERT INTO migration (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
    for migration in todo:
        log.info("migration_applied", name=migration.name)
    return [migration.name for migration in todo]


async def _pending(conn: asyncpg.Connection) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    if not await conn.fetchval("SELECT to_regclass('migration') IS NULL"):
        for row in await conn.fetch("SELECT version, name, checksum FROM migration ORDER BY 1"):
            migration = known.pop(row["version"], None)
            if migration is None:
                raise MigrationError(
                    f"the database has migration {row['name']}, which this program does not "
                    "know: it was made by a newer version; run that one"
                )
            if migration.checksum != row["checksum"]:
                raise MigrationError(
                    f"migration {migration.name} was changed after it was applied; "
                    "changes belong in a new migration"
                )
    return list(known.values())
