"""Whether a database is what its migrations make: for a build server, before anything is deployed.

The migrations that ran are run again in an empty database beside it (for SQLite a temporary file), and
the two schemas are compared.
"""

from __future__ import annotations

import dataclasses
import secrets
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from consona.address import Address
from consona.errors import ConfigurationError, MigrationError, QueryError
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE
from consona.sql.engine import Session
from consona.sql.migrations.schema import Difference, differences, read_schema
from consona.sql.migrations.schema_text import Schema, ask, raw

if TYPE_CHECKING:  # the database and the runner check, so the import can only go one way
    from consona.sql.database import SQLDatabase
    from consona.sql.migrations.runner import Migrations

__all__ = ["Finding", "check"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not in order."""

    kind: str
    """`pending`, `edited`, `missing`, `out of order`, `half done`, `schema`, or `fails` (on an empty database)."""
    text: str
    hint: str = ""


async def check(migrations: Migrations) -> list[Finding]:
    """See `Migrations.check`."""
    db = migrations.db
    files = migrations._read()
    async with migrations._pinned() as session:
        plan = await migrations._plan(session, files)
        problems = plan.problems()
        findings = [Finding(problem.kind, problem.message, problem.hint) for problem in problems]
        late = {problem.version for problem in problems if problem.kind == "out of order"}
        findings += [
            Finding("pending", f"{migration.label} did not run yet.", "Run it: consona migrate up.")
            for migration in plan.pending
            if migration.version not in late
        ]
        if any(problem.kind in {"missing", "half done"} for problem in problems):
            return findings  # what the migrations make is not known
        ours = await read_schema(session, db.dialect)
        async with _scratch(db, session) as address:
            try:
                theirs = await _made(migrations, address, plan.done)
            except MigrationError as error:
                return [*findings, Finding("fails", f"On an empty database: {error.message}", error.hint)]
    return findings + [_finding(difference) for difference in differences(ours, theirs)]


async def _made(migrations: Migrations, address: Address, done: list[int]) -> Schema:
    """The schema that the migrations make in an empty database."""
    db = type(migrations.db)(address, name=f"{migrations.db.name} scratch")
    async with db:
        again = type(migrations)(db, migrations.folder)
        async with again._turn(dry_run=False) as session:
            chosen = [migration for migration in again._read() if migration.version in done]
            await again._run(session, chosen, "up", dry_run=False)
            return await read_schema(session, db.dialect)


def _finding(difference: Difference) -> Finding:
    return Finding(
        "schema", str(difference), "Change it back, or write a migration that changes it, and mark that: baseline."
    )


@asynccontextmanager
async def _scratch(db: SQLDatabase, session: Session) -> AsyncGenerator[Address]:
    """An empty database of the same kind, removed afterwards."""
    if db.dialect is SQLITE:
        with tempfile.TemporaryDirectory(prefix="consona-") as folder:
            yield Address(scheme="sqlite", path=str(Path(folder) / "scratch.db"))
        return
    if db.address is None:
        raise ConfigurationError(f"{db.name} has no address, so an empty database beside it cannot be opened.")
    name = f"consona_scratch_{secrets.token_hex(6)}"
    try:
        await session.execute(raw(await _creating(session, db, name), "CREATE"), ())
    except QueryError as error:
        raise ConfigurationError(
            f"An empty database to compare with could not be made: {error.message}",
            hint="Let the user create databases: ALTER ROLE name CREATEDB; (PostgreSQL), or GRANT (MariaDB).",
        ) from error
    try:
        yield dataclasses.replace(db.address, path=name)
    finally:
        force = " WITH (FORCE)" if db.dialect is POSTGRESQL else ""
        await session.execute(raw(f"DROP DATABASE {name}{force}", "DROP"), ())


async def _creating(session: Session, db: SQLDatabase, name: str) -> str:
    if db.dialect is POSTGRESQL:
        return f"CREATE DATABASE {name}"
    [[charset, collation]] = await ask(session, MYSQL, "SELECT @@character_set_database, @@collation_database")
    return f"CREATE DATABASE {name} CHARACTER SET {charset} COLLATE {collation}"  # tables take both from it
