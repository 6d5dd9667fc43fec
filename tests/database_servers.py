"""PostgreSQL and MariaDB for tests: the one on loopback, or one of the test's own that may be stopped and killed.

async with PostgreSQLServer() as server:          # a folder and a port of its own
    ... server.url ...
    await server.stop(); await server.start()     # the same data, the same port
    server.kill()                                 # like a power cut of its processes
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import pytest

import servers

__all__ = [
    "MariaDBServer",
    "PostgreSQLServer",
    "RedisServer",
    "empty_redis",
    "free_port",
    "listens",
    "mysql",
    "mysql_there",
    "postgresql",
    "postgresql_there",
    "quiet_postgresql",
    "redis",
    "redis_there",
]

START_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _user(*names: str) -> str | None:
    """The account that runs a server which refuses to run as root; None where we are not root."""
    if os.name == "nt" or os.getuid() != 0:
        return None
    import pwd

    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


class DatabaseServer:
    """A server process with a data folder and a port of its own."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="consona-server-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.user: str | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.begin)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.end)

    def begin(self) -> None:
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        self._make()
        self._start()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        """End it, without waiting for its clients."""
        await asyncio.to_thread(self._stop)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [str(part) for part in command], user=self.user, cwd=self.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{command[0]}: {done.stdout.decode()}{done.stderr.decode()}"

    def _start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self._command()],
                user=self.user,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(int(START_S / 0.05)):
            if self._answers():
                return
            assert self.process.poll() is None, f"{self.name} did not start: {self.log()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        raise AssertionError(f"{self.name} did not answer within {START_S:g} s: {self.log()}")

    def _stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(self.stop_signal)
        self.process.wait(START_S)

    def kill(self) -> None:
        """End all its processes at once, as a crash of the machine would."""
        assert self.process is not None
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, check=False)
        self.process.kill()
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.process.wait(START_S)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def _make(self) -> None: ...

    def _command(self) -> list[str | Path]: ...

    def _answers(self) -> bool: ...


class PostgreSQLServer(DatabaseServer):
    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": open sessions are ended

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.options = options
        self.user = _user("postgres")
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @staticmethod
    def programs() -> Path | None:
        """The folder of its programs: the newest version that is installed."""
        found = shutil.which("initdb")
        if found:
            return Path(found).resolve().parent
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        return folders[-1] if folders else None

    def _make(self) -> None:
        programs = self.programs()
        assert programs is not None
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
        self._run(programs / "initdb", *options, "--no-sync", "-D", self.folder / "data")

    def _command(self) -> list[str | Path]:
        programs = self.programs()
        assert programs is not None
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [programs / "postgres", "-D", self.folder / "data", *settings, *self.options]

    def _answers(self) -> bool:
        programs = self.programs()
        assert programs is not None
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False).returncode == 0


class MariaDBServer(DatabaseServer):
    name = "MariaDB"

    def __init__(self) -> None:
        super().__init__()
        self.user = _user("mysql")
        self.url = f"mysql://root@127.0.0.1:{self.port}/test"

    @staticmethod
    def program() -> str | None:
        folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/libexec"])
        return shutil.which("mariadbd", path=folders)

    def _make(self) -> None:
        program = shutil.which("mariadb-install-db")
        assert program is not None
        options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-name-resolve"]
        self._run(program, *options, f"--datadir={self.folder / 'data'}")

    def _command(self) -> list[str | Path]:
        program = self.program()
        assert program is not None
        return [
            program,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
        ]

    def _answers(self) -> bool:
        return listens(self.port)


class RedisServer(DatabaseServer):
    """Keeps an append-only file in its folder, and syncs each write."""

    name = "Redis"

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__()
        self.durable = durable
        self.url = f"redis://127.0.0.1:{self.port}/0"

    @staticmethod
    def program() -> str | None:
        return shutil.which("redis-server")

    def _command(self) -> list[str | Path]:
        program = self.program()
        assert program is not None
        kept = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        places = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder]
        return [program, *places, "--save", "", *kept]

    def _answers(self) -> bool:
        return listens(self.port)


def redis() -> str | None:
    """The address of a Redis of this process alone; None where none can be started."""
    return redis_there() and _own(RedisServer)


def redis_there() -> str | None:
    """Whether `redis` will start one."""
    return RedisServer.program()


@contextlib.contextmanager
def empty_redis() -> Iterator[str]:
    """The address of that Redis; everything in it is removed in the end."""
    url = servers.need("Redis")
    yield url
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(100) == b"+OK\r\n"


_started: dict[type[DatabaseServer], DatabaseServer] = {}


POSTGRESQL_HERE = "postgresql://postgres@127.0.0.1:5432/postgres"


def postgresql() -> str | None:
    """The address of a PostgreSQL whose superuser we are; None where there is none and none can be started.

    `CONSONA_POSTGRESQL` names it; else the one on loopback, where it lets us in; else one that is started now.
    """
    return postgresql_there() and (_running(POSTGRESQL_HERE, "CONSONA_POSTGRESQL") or _own(PostgreSQLServer))


def postgresql_there() -> str | None:
    """Whether `postgresql` will find one; starts nothing."""
    return _running(POSTGRESQL_HERE, "CONSONA_POSTGRESQL") or _text(PostgreSQLServer.programs())


@functools.cache
def postgresql_database() -> str:
    """The address of a database that this process alone uses; it goes when the process ends."""
    server = servers.need("PostgreSQL")
    name = f"consona_test_{secrets.token_hex(6)}"
    in_a_thread(_ask_postgresql(server, f"CREATE DATABASE {name}"))
    atexit.register(lambda: asyncio.run(_ask_postgresql(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
    return urlsplit(server)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def empty_postgresql() -> Iterator[str]:
    """The address of that database; what was made in it is removed in the end."""
    url = postgresql_database()
    yield url
    in_a_thread(_clear_postgresql(url))


@functools.cache
def _quiet_server() -> str:
    """A server of this process alone, which also cleans nothing up by itself."""
    servers.need("PostgreSQL")
    if PostgreSQLServer.programs() is None:
        (pytest.fail if servers.in_ci() else pytest.skip)("PostgreSQL's own programs are needed, to start a server.")
    server = PostgreSQLServer("-c", "autovacuum=off")
    atexit.register(server.end)
    server.begin()
    return server.url


@contextlib.contextmanager
def quiet_postgresql() -> Iterator[str]:
    """The address of a database on a server where nobody else writes; what was made in it is removed in the end.

    For what shows itself only when all older transactions have ended.
    """
    url = _quiet_server()
    yield url
    in_a_thread(_clear_postgresql(url))


async def _clear_postgresql(url: str) -> None:
    """Ended first, since what a test left running may hold a lock on what is to go."""
    end_others = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    connection = await asyncpg.connect(url)
    while await connection.fetchval(end_others):
        await asyncio.sleep(0.005)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()


async def _ask_postgresql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


def in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run it on an event loop of its own: fixtures are called inside of one or not."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


MYSQL_HERE = "mysql://root@127.0.0.1:3306/test"


def mysql() -> str | None:
    """The address of a MariaDB or MySQL whose root we are; as `postgresql`, with `CONSONA_MYSQL`."""
    return mysql_there() and (_running(MYSQL_HERE, "CONSONA_MYSQL") or _own(MariaDBServer))


def mysql_there() -> str | None:
    """Whether `mysql` will find one; starts nothing."""
    return _running(MYSQL_HERE, "CONSONA_MYSQL") or MariaDBServer.program()


@functools.cache
def mysql_database() -> str:
    """The address of a database that this process alone uses; it goes when the process ends."""
    server = servers.need("MariaDB")
    name = f"consona_test_{secrets.token_hex(6)}"
    in_a_thread(_ask_mysql(server, f"CREATE DATABASE {name}"))
    atexit.register(lambda: asyncio.run(_ask_mysql(server, f"DROP DATABASE IF EXISTS {name}")))
    return urlsplit(server)._replace(path=f"/{name}").geturl()


@contextlib.contextmanager
def empty_mysql() -> Iterator[str]:
    """The address of that database; what was made in it is removed in the end."""
    url = mysql_database()
    yield url
    in_a_thread(_clear_mysql(url))


async def _clear_mysql(url: str) -> None:
    """Ended first, since what a test left running may hold a lock on what is to go."""
    name = urlsplit(url).path[1:]
    sessions = "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
    while others := await _ask_mysql(url, sessions):
        for (number,) in others:
            with contextlib.suppress(asyncmy.errors.Error):
                await _ask_mysql(url, f"KILL {number}")
        await asyncio.sleep(0.005)
    await _ask_mysql(url, f"DROP DATABASE {name}", f"CREATE DATABASE {name}")


def run_mysql(url: str, *statements: str) -> None:
    """Run statements on a MariaDB or MySQL."""
    in_a_thread(_run_mysql(url, *statements))


async def _run_mysql(url: str, *statements: str) -> None:
    await _ask_mysql(url, *statements)


async def _ask_mysql(url: str, *statements: str) -> tuple[tuple[Any, ...], ...]:
    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=parts.username,
        password=parts.password or "",
        database=parts.path[1:],
        autocommit=True,
    )
    cursor = connection.cursor()
    for statement in statements:
        await cursor.execute(statement)
    rows = await cursor.fetchall()
    await connection.ensure_closed()
    return tuple(rows)


def _running(here: str, variable: str) -> str | None:
    return os.environ.get(variable) or (here if _lets_us_in(here) else None)


def _text(found: object) -> str | None:
    return None if found is None else str(found)


def _own(kind: type[DatabaseServer]) -> str:
    if kind not in _started:
        server = kind()
        atexit.register(server.end)
        server.begin()
        _started[kind] = server
    return _started[kind].url


@functools.cache
def _lets_us_in(url: str) -> bool:
    async def connect() -> None:
        if url.startswith("mysql:"):
            await _ask_mysql(url, "SELECT 1")
        else:
            await (await asyncpg.connect(url, timeout=5)).close()

    try:
        in_a_thread(connect())
    except Exception:
        return False
    return True
