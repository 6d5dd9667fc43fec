"""The SQL engines that the contract tests run over: how to have an empty database, and how to declare the types.

An engine joins by one entry in `ENGINES`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import database_servers


@dataclass(frozen=True)
class Engine:
    """How the tests use an engine."""

    new: Callable[[Path], AbstractAsyncContextManager[str]]
    """Makes an empty database and gives its address; removes it in the end."""
    key: str = "INTEGER PRIMARY KEY"
    """The type of a key that the database generates."""
    types: dict[str, str] = field(default_factory=dict)
    """Which column type keeps `integer`, `text`, `float`, `decimal`, … unharmed."""
    isolates_readers: bool = True
    """Whether others can read while a transaction is open."""
    servers: bool = False
    """Whether it needs a server."""


@asynccontextmanager
async def sqlite_file(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite:///{folder / 'shop.db'}"


@asynccontextmanager
async def sqlite_memory(folder: Path) -> AsyncIterator[str]:
    yield f"sqlite://{folder.name}"


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_postgresql() as url:
        yield url


@asynccontextmanager
async def mysql(folder: Path) -> AsyncIterator[str]:
    with database_servers.empty_mysql() as url:
        yield url


SQLITE_TYPES = {
    "integer": "INTEGER",
    "text": "TEXT",
    "float": "REAL",
    "bool": "INTEGER",
    "bytes": "BLOB",
    "decimal": "TEXT",
    "datetime": "TEXT",
    "date": "TEXT",
    "time": "TEXT",
    "uuid": "TEXT",
    "json": "TEXT",
}

POSTGRESQL_TYPES = {
    "integer": "BIGINT",
    "text": "TEXT",
    "float": "DOUBLE PRECISION",
    "bool": "BOOLEAN",
    "bytes": "BYTEA",
    "decimal": "NUMERIC",
    "datetime": "TIMESTAMPTZ",
    "date": "DATE",
    "time": "TIME",
    "uuid": "UUID",
    "json": "JSONB",
}

MYSQL_TYPES = {
    "integer": "BIGINT",
    "text": "LONGTEXT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "bytes": "LONGBLOB",
    "decimal": "DECIMAL(65, 6)",
    "datetime": "DATETIME(6)",
    "date": "DATE",
    "time": "TIME(6)",
    "uuid": "CHAR(36)",
    "json": "JSON",
}

ENGINES = {
    "sqlite file": Engine(new=sqlite_file, types=SQLITE_TYPES),
    "sqlite memory": Engine(new=sqlite_memory, types=SQLITE_TYPES, isolates_readers=False),
    "postgresql": Engine(new=postgresql, key="SERIAL PRIMARY KEY", types=POSTGRESQL_TYPES, servers=True),
    "mariadb": Engine(new=mysql, key="INTEGER AUTO_INCREMENT PRIMARY KEY", types=MYSQL_TYPES, servers=True),
}

PARAMETERS = [
    pytest.param(engine, id=name, marks=[pytest.mark.servers] * engine.servers) for name, engine in ENGINES.items()
]
