"""The database: embedded or not, away or there, migrated once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from proxy.config import DatabaseSettings
from proxy.store import embedded, migrations
from proxy.store.database import UNREACHABLE, Database, DatabaseUnreachable
from proxy.store.embedded import EmbeddedPostgres, EmbeddedPostgresError

if TYPE_CHECKING:
    from tests.conftest import Cluster

Eventually = Callable[..., Awaitable[None]]

# A process that uses the server of the directory it is given until its stdin ends.
USER = """
import asyncio, sys
from pathlib import Path
from proxy.config import LoggingSettings
from proxy.store.embedded import EmbeddedPostgres
from proxy.telemetry.logs import setup_logging
setup_logging(LoggingSettings())
server = EmbeddedPostgres(Path(sys.argv[1]))
print(asyncio.run(server.start()), flush=True)
sys.stdin.read()
asyncio.run(server.stop())
"""


@pytest_asyncio.fixture
async def data_dir(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A data directory of its own; no server may be left in it."""
    path = tmp_path_factory.mktemp("d", numbered=True)
    yield path
    left = servers(path)
    for process in left:
        process.kill()
    assert not left


def servers(data_dir: Path) -> list[psutil.Process]:
    """The postmasters that run in it, found without asking the code under test."""
    cluster = str(data_dir / "postgres")
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres" and cluster in (process.info["cmdline"] or ())
    ]


def kill_server(data_dir: Path) -> None:
    """kill -9 of the postmaster and its children; they are dead when this returns."""
    (postmaster,) = servers(data_dir)
    processes = [postmaster, *postmaster.children()]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def mode_of(path: Path) -> int | None:
    """The permission bits; None when there is nothing."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None


async def start_user(data_dir: Path) -> tuple[asyncio.subprocess.Process, str]:
    """Another process that uses the server, and the DSN it got."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", USER, str(data_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    # Nothing else on stdout: commands print JSON there.
    assert line.startswith("postgresql://"), line
    return process, line.strip()


async def end_user(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    await process.communicate(b"")  # ends its stdin
    assert process.returncode == 0


async def ask(dsn: str, query: str = "SELECT 1") -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


# ------------------------------------------------------------------------- embedded


async def test_start_and_stop(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = EmbeddedPostgres(data_dir)
    dsn = await server.start()
    for name, value in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
        ("listen_addresses", ""),
        ("shared_buffers", "256MB"),
    ]:
        assert await ask(dsn, f"SELECT current_setting('{name}')") == value, name
    assert mode_of(data_dir / "postgres") == 0o700
    for name in ("", "postgres.lock", "postgres.users", "postgres"):
        assert not (mode_of(data_dir / name) or 0) & stat.S_IWOTH, name
    assert len(servers(data_dir)) == 1
    await server.stop()
    assert not servers(data_dir)
    assert "postgresql://" not in capfd.readouterr().out


async def test_the_data_is_there_again(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    dsn = await server.start()
    await ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    await server.stop()
    conf = data_dir / "postgres" / "postgresql.conf"
    conf.write_text(conf.read_text() + "work_mem = '5MB'\n")
    written = conf.stat().st_mtime_ns
    dsn = await server.start()
    assert await ask(dsn, "SELECT n FROM kept") == 7
    assert await ask(dsn, "SELECT current_setting('work_mem')") == "5MB"
    assert conf.stat().st_mtime_ns == written
    await server.stop()


def test_settings_are_renewed_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "postgresql.conf"
    conf.write_text("port = 1\n")
    embedded._write_settings(conf)
    conf.write_text(conf.read_text() + "mine = 1\n")
    monkeypatch.setattr(embedded, "SETTINGS", "newer = 1\n")
    embedded._write_settings(conf)
    assert conf.read_text() == (
        f"port = 1\n{embedded.BLOCK_BEGIN}\nnewer = 1\n{embedded.BLOCK_END}\nmine = 1\n"
    )


async def test_the_last_user_stops_it(data_dir: Path) -> None:
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    dsn, same = await asyncio.gather(first.start(), second.start())  # at once
    assert dsn == same
    process, same = await start_user(data_dir)
    assert dsn == same
    await first.stop()
    assert await ask(dsn) == 1
    await end_user(process)
    assert await ask(dsn) == 1
    await second.stop()
    assert not servers(data_dir)


async def test_processes_that_start_at_once(data_dir: Path) -> None:
    users = await asyncio.gather(*(start_user(data_dir) for _ in range(4)))
    assert len({dsn for _, dsn in users}) == 1
    assert len(servers(data_dir)) == 1
    await asyncio.gather(*(end_user(process) for process, _ in users))
    assert not servers(data_dir)


async def test_a_killed_user_leaves_nothing_for_long(data_dir: Path) -> None:
    process, dsn = await start_user(data_dir)
    process.kill()
    await process.wait()
    assert await ask(dsn) == 1  # this is what it left
    server = EmbeddedPostgres(data_dir)
    assert await server.start() == dsn
    await server.stop()
    assert not servers(data_dir)


async def test_crash_recovery(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    dsn = await server.start()
    await ask(dsn, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    kill_server(data_dir)
    # The pid file and the socket are still there, but nobody is behind them.
    dsn = await server.start()
    assert await ask(dsn, "SELECT count(*) FROM kept") == 1000
    await server.stop()


async def test_a_server_that_is_still_stopping_is_waited_for(
    data_dir: Path, eventually: Eventually
) -> None:
    server = EmbeddedPostgres(data_dir)
    dsn = await server.start()
    # A smart shutdown goes on for as long as somebody is connected.
    connection = await asyncpg.connect(dsn)
    (postmaster,) = servers(data_dir)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    postmaster.send_signal(signal.SIGTERM)
    await eventually(lambda: "stopping" in pid_file.read_text())
    starting = asyncio.create_task(server.start())
    await eventually(lambda: "already exists" in start_log(data_dir))
    assert not starting.done()
    await connection.close()
    assert await ask(await starting) == 1
    await server.stop()


def start_log(data_dir: Path) -> str:
    try:
        return (data_dir / "postgres" / "start.log").read_text()
    except FileNotFoundError:
        return ""


async def test_a_cancelled_start_leaves_nothing(data_dir: Path, eventually: Eventually) -> None:
    server = EmbeddedPostgres(data_dir)
    starting = asyncio.create_task(server.start())
    await eventually((data_dir / "postgres.users").exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not servers(data_dir)
    assert await ask(await server.start()) == 1
    await server.stop()


async def test_a_long_path_gets_a_private_socket_directory(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir / "a b" / ("x" * 90))
    dsn = await server.start()
    assert await ask(dsn) == 1
    directory = Path(str(await ask(dsn, "SHOW unix_socket_directories")).strip('"'))
    assert mode_of(directory) == 0o700
    await server.stop()
    assert mode_of(directory) is None


async def test_a_server_that_cannot_start_says_why_at_once(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.start()
    await server.stop()
    conf = data_dir / "postgres" / "postgresql.conf"
    conf.write_text(conf.read_text() + "nonsense = 1\n")
    with pytest.raises(EmbeddedPostgresError, match=r'unrecognized.* "nonsense"'):
        await server.start()
    await server.stop()


async def test_half_an_initdb_is_not_taken_for_a_cluster(data_dir: Path) -> None:
    left = data_dir / "postgres.new-killed"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(data_dir)
    assert await ask(await server.start()) == 1
    assert not left.exists()
    await server.stop()


async def test_a_dead_embedded_server_is_started_again(data_dir: Path) -> None:
    database = Database(DatabaseSettings(data_dir=data_dir))
    await database.open(wait=True)
    kill_server(data_dir)
    with pytest.raises(UNREACHABLE):
        await database.pool.fetchval("SELECT 1")
    connection = await database.connect()
    assert await connection.fetchval("SELECT 1") == 1
    assert await database.pool.fetchval("SELECT 1") == 1
    await connection.close()
    await database.close()
    with pytest.raises(DatabaseUnreachable):  # and stays stopped
        await database.connect()


# ------------------------------------------------------------------------- reachable


async def test_settings_of_a_connection(database: Database) -> None:
    connection = await database.connect()
    for name, value in [
        ("application_name", "smpp-proxy-test"),
        ("statement_timeout", "15s"),
        ("lock_timeout", "5s"),
        ("synchronous_commit", "on"),
        ("jit", "off"),
    ]:
        assert await connection.fetchval("SELECT current_setting($1)", name) == value
        assert await database.pool.fetchval("SELECT current_setting($1)", name) == value
    await connection.close()


async def test_a_fresh_database_is_migrated(database: Database) -> None:
    async with database.pool.acquire() as connection:
        assert await migrations.pending(connection) == []
        assert await connection.fetchval("SELECT count(*) FROM v_account") == 0


async def test_unreachable_without_waiting() -> None:
    url = "postgresql://user:pass-word@127.0.0.1:1/db"
    database = Database(DatabaseSettings(url=url, connect_timeout_s=0.3))
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:1: .*refused") as caught:
        await database.open(wait=False)
    assert "pass-word" not in str(caught.value)
    await database.close()


async def test_what_waiting_does_not_mend_is_said_at_once(postgres: Cluster) -> None:
    database = Database(DatabaseSettings(url=postgres.url("absent"), connect_timeout_s=60))
    with pytest.raises(DatabaseUnreachable, match='"absent" does not exist'):
        await asyncio.wait_for(database.open(wait=False), 5)
    garbled = Database(DatabaseSettings(url="postgresql://u@host:port/db", connect_timeout_s=60))
    with pytest.raises(DatabaseUnreachable):
        await asyncio.wait_for(garbled.open(wait=True), 5)


@asynccontextmanager
async def forward(postgres: Cluster, port: int = 0) -> AsyncIterator[int]:
    """PostgreSQL on a TCP port of 127.0.0.1."""
    path = (await ask(postgres.dsn, "SHOW unix_socket_directories")).strip('"')  # type: ignore[attr-defined]

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(f"{path}/.s.PGSQL.5432")
        tasks.append(asyncio.create_task(pump(reader, there[1])))
        tasks.append(asyncio.create_task(pump(there[0], writer)))

    tasks: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_waits_until_the_server_comes(postgres: Cluster, eventually: Eventually) -> None:
    port = free_port()
    url = f"postgresql://postgres:pass-word@127.0.0.1:{port}/postgres"
    database = Database(DatabaseSettings(url=url))
    with capture_logs() as lines:
        opening = asyncio.create_task(database.open(wait=True))
        await eventually(lambda: len(lines) >= 2)
        async with forward(postgres, port):
            await asyncio.wait_for(opening, 10)
            assert await database.pool.fetchval("SELECT 1") == 1
            await database.close()
    for line in lines:
        assert line["event"] == "database_unreachable"
        assert line["host"] == f"127.0.0.1:{port}"
        assert "refused" in line["reason"]
        assert 0 < line["retry_in_s"] <= 10
    assert "pass-word" not in str(lines)


async def test_a_closed_connection_is_unreachable_and_the_pool_recovers(
    database: Database, postgres: Cluster, eventually: Eventually
) -> None:
    connection = await database.connect()
    async with postgres.admin() as admin:
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'smpp-proxy-test'"
        )
    for _ in range(2):  # the first notices, the second knows
        with pytest.raises(UNREACHABLE):
            await connection.fetchval("SELECT 1")

    async def answers() -> bool:
        try:
            return bool(await database.pool.fetchval("SELECT true"))
        except UNREACHABLE:
            return False

    await eventually(answers)


async def test_a_read_only_database_is_unreachable(database_url: str, postgres: Cluster) -> None:
    async with postgres.admin() as admin:
        name = urlsplit(database_url).path[1:]
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = Database(DatabaseSettings(url=database_url, connect_timeout_s=0.3))
    with pytest.raises(DatabaseUnreachable):
        await database.open(wait=False)


async def test_of_several_hosts_the_one_that_answers(postgres: Cluster) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, says nothing
    async with forward(postgres) as port:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{port}"
        url = f"postgresql://postgres:pass-word@{hosts}/postgres"
        database = Database(DatabaseSettings(url=url, connect_timeout_s=0.5))
        await database.open(wait=False)
        assert await database.pool.fetchval("SELECT 1") == 1
        assert database.place == hosts
        # The good one is tried first from now on.
        connection = await asyncio.wait_for(database.connect(), 0.4)
        await connection.close()
        await database.close()
    silent.close()


# ------------------------------------------------------------------------ migrations


@pytest_asyncio.fixture
async def empty(postgres: Cluster) -> AsyncIterator[str]:
    """The DSN of an empty database."""
    async with postgres.fresh("template1") as url:
        yield url


async def test_migrate_twice(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    names = [migration.name for migration in migrations.migrations()]
    assert names[0] == "0001_ledger"
    assert await migrations.pending(connection) == names
    assert await migrations.migrate(connection) == names
    assert await migrations.pending(connection) == []
    assert await migrations.migrate(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM migration") == len(names)
    await connection.close()


async def test_migrate_at_once(empty: str) -> None:
    connections = [await asyncpg.connect(empty) for _ in range(4)]
    applied = await asyncio.gather(*(migrations.migrate(one) for one in connections))
    assert sorted(applied)[:3] == [[], [], []]
    assert sorted(applied)[3] == [migration.name for migration in migrations.migrations()]
    for one in connections:
        await one.close()


async def test_a_changed_migration_is_refused(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("UPDATE migration SET checksum = 'x' WHERE version = 1")
        for function in (migrations.migrate, migrations.pending):
            with pytest.raises(migrations.MigrationError, match="0001_ledger was changed"):
                await function(connection)


async def test_a_newer_database_is_refused(database: Database) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute("INSERT INTO migration VALUES (9999, '9999_later', 'x')")
        with pytest.raises(migrations.MigrationError, match=r"9999_later.*newer version"):
            await migrations.migrate(connection)


async def test_a_migration_that_fails_leaves_nothing(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = migrations.Migration(1, "0001_good", "CREATE TABLE good ()")
    bad = migrations.Migration(2, "0002_bad", "CREATE TABLE bad (x nonsense)")
    monkeypatch.setattr(migrations, "migrations", lambda: (good, bad))
    connection = await asyncpg.connect(empty)
    with pytest.raises(migrations.MigrationError, match=r'0002_bad: type "nonsense"'):
        await migrations.migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('good')") is None
    assert await migrations.pending(connection) == ["0001_good", "0002_bad"]
    await connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is given another user")
async def test_as_root_the_server_runs_as_another_user(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.start()
    (postmaster,) = servers(data_dir)
    assert postmaster.uids().real != 0
    assert postmaster.gids().real != 0
    await server.stop()
