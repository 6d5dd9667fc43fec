"""Migrations of one database: what is done, what is pending, up, down, and to a version.

    migrations = Migrations(db, "migrations/")
    await migrations.up()
    for migration in await migrations.status():
        print(migration.name, migration.state)

Many processes may ask for the same at once: one of them runs, the others wait for it and then find
nothing left to do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consona.errors import ConfigurationError
from consona.sql.dialect import MYSQL, POSTGRESQL
from consona.sql.engine import Session, SupportsPinning
from consona.sql.locks import FileLock, Lock, MemoryLock, MySQLLock, PostgreSQLLock, held, who
from consona.sql.migrations.check import Finding, check
from consona.sql.migrations.errors import MigrationConflict, MigrationFailed, MigrationFileError, MigrationLocked
from consona.sql.migrations.execution import Execution
from consona.sql.migrations.folder import Migration, read_folder
from consona.sql.migrations.history import History, Row, utc_now
from consona.sql.migrations.plan import MigrationStatus, Plan
from consona.sql.migrations.schema import fingerprint
from consona.sql.migrations.script import Direction, Script

if TYPE_CHECKING:  # the database runs migrations, so the import can only go one way
    from consona.sql.database import SQLDatabase

__all__ = ["MigrationRun", "Migrations"]


@dataclass(frozen=True, slots=True)
class MigrationRun:
    """One migration that ran, or that would run."""

    version: int
    name: str
    """With its number: `0001_create_users`."""
    direction: Direction
    statements: tuple[str, ...]
    """Its SQL; of a Python step a line that names its function."""
    seconds: float = 0.0


class Migrations:
    """The migrations of a folder on a database that is started.

    Args:
        db: The database.
        folder: Where the files are.
        wait: Seconds to wait while somebody else migrates the same database.

    Example:
        >>> import asyncio, tempfile
        >>> from consona import SQLDatabase
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "0001_create_users.sql").write_text("CREATE TABLE users (name TEXT);")
        >>> async def main():
        ...     async with SQLDatabase("sqlite://migrated") as db:
        ...         return [run.name for run in await Migrations(db, folder).up()]
        >>> asyncio.run(main())
        ['0001_create_users']
    """

    def __init__(self, db: SQLDatabase, folder: Path | str, *, wait: float = 300.0) -> None:
        if not wait >= 0:
            raise ConfigurationError(f"Migrations(wait={wait}): seconds, 0 or more.")
        self.db = db
        self.folder = Path(folder)
        self.wait = wait
        self._history = History(db.dialect)

    async def status(self) -> list[MigrationStatus]:
        """How each migration stands, in order. Changes nothing."""
        migrations = self._read()
        async with self._pinned() as session:
            return (await self._plan(session, migrations)).status()

    async def up(
        self,
        *,
        to: int | None = None,
        out_of_order: bool = False,
        continue_at: int | None = None,
        dry_run: bool = False,
    ) -> list[MigrationRun]:
        """Run what is pending, in order.

        Args:
            to: The last version to run; None for all.
            out_of_order: Also run those whose number is below the last one that ran.
            continue_at: Where one is half done: the number of its statement at which to go on, counted from 1.
                One above its last says that all of it is done.
            dry_run: Run nothing; only tell what would run.

        Returns:
            What ran. Nothing where the database is up to date.

        Raises:
            MigrationFileError: A file cannot be understood; nothing was run.
            MigrationConflict: Files and history do not fit; nothing was run.
            MigrationFailed: One failed; those before it stay, and are in the history.
            MigrationLocked: Somebody else was at it for too long.
        """
        migrations = self._read()
        if to is not None:
            self._require_known(migrations, to)
        async with self._turn(dry_run=dry_run) as session:
            plan = await self._plan(session, migrations)
            ran: list[MigrationRun] = []
            if continue_at is not None:
                ran.append(await self._go_on(session, plan, continue_at, dry_run=dry_run))
                plan = await self._plan(session, migrations) if not dry_run else plan
            ignored = (["half done"] if dry_run and continue_at else []) + (["out of order"] if out_of_order else [])
            plan.require(*ignored)  # type: ignore[arg-type]
            chosen = [migration for migration in plan.pending if to is None or migration.version <= to]
            return ran + await self._run(session, chosen, "up", dry_run=dry_run)

    async def down(self, *, steps: int = 1, dry_run: bool = False) -> list[MigrationRun]:
        """Undo the last migrations, the newest first. Edited files are no hindrance, so an edit can be tried again.

        Raises:
            MigrationFileError: One of them has no `down`; nothing was run.
            MigrationConflict: A file is missing, or a migration is half done.
        """
        migrations = self._read()
        async with self._turn(dry_run=dry_run) as session:
            plan = await self._plan(session, migrations)
            return await self._undo(session, plan, plan.done[::-1][:steps], dry_run=dry_run)

    async def to(self, version: int, *, dry_run: bool = False) -> list[MigrationRun]:
        """Bring the database to a version, up or down; 0 undoes everything."""
        migrations = self._read()
        self._require_known(migrations, version)
        async with self._turn(dry_run=dry_run) as session:
            plan = await self._plan(session, migrations)
            if later := [done for done in plan.done if done > version]:
                return await self._undo(session, plan, later[::-1], dry_run=dry_run)
            plan.require()
            chosen = [migration for migration in plan.pending if migration.version <= version]
            return await self._run(session, chosen, "up", dry_run=dry_run)

    async def baseline(self, version: int, *, dry_run: bool = False) -> list[MigrationStatus]:
        """Say that everything up to a version is done already, as the files are now. Runs none of them.

        For a database that was there before its migrations, and after an edit that changes nothing.

        Returns:
            What is now marked as done that was not, or whose file had been edited.
        """
        migrations = self._read()
        self._require_known(migrations, version)
        async with self._turn(dry_run=dry_run) as session:
            plan = await self._plan(session, migrations)
            plan.require("edited", "out of order", "missing")
            changed: list[MigrationStatus] = []
            for migration in migrations:
                row = plan.rows.get(migration.version)
                if migration.version > version or (row is not None and row.checksum == migration.checksum):
                    continue
                changed.append(MigrationStatus(migration.version, migration.label, "done"))
                if dry_run:
                    continue
                if row is None:
                    await self._history.begin(session, _marked(migration))
                else:
                    await self._history.update(session, migration.version, checksum=migration.checksum)
            return changed

    async def check(self) -> list[Finding]:
        """What is not in order: pending, edited, missing, half done, or a schema that the migrations do not make.

        The migrations that ran are run again in an empty database (of SQLite a temporary file, elsewhere one that
        is made on the same server and removed), and the schemas are compared. The database itself is not changed.

        Returns:
            Nothing where all is in order.

        Raises:
            ConfigurationError: The user may not create a database on the server.
        """
        return await check(self)

    # How.

    def _read(self) -> list[Migration]:
        return read_folder(self.folder, self.db.dialect)

    def _require_known(self, migrations: Sequence[Migration], version: int) -> None:
        if version and version not in {migration.version for migration in migrations}:
            known = ", ".join(str(migration.version) for migration in migrations[-5:]) or "none"
            raise MigrationFileError(
                f"There is no migration {version} in {self.folder}.", hint=f"The last ones are: {known}."
            )

    @asynccontextmanager
    async def _pinned(self) -> AsyncGenerator[Session]:
        engine = self.db._engine()
        if not isinstance(engine, SupportsPinning):
            raise ConfigurationError(f"{self.db.name} cannot run migrations: its engine cannot pin a connection.")
        async with engine.pinned() as session:
            yield session

    @asynccontextmanager
    async def _turn(self, *, dry_run: bool) -> AsyncGenerator[Session]:
        """A session that is the only one to migrate; for a dry run any."""
        self.db._session(writes=True)  # refuses a call beside this task's own transaction
        async with self._pinned() as session:
            if dry_run:
                yield session
                return
            async with held(self._lock(session), wait_s=self.wait, refused=self._refused):
                await self._history.prepare(session)
                try:
                    yield session
                finally:
                    self.db._anything_ran()

    def _lock(self, session: Session) -> Lock:
        if self.db.dialect is POSTGRESQL:
            return PostgreSQLLock(session, "migrations")
        if self.db.dialect is MYSQL:
            return MySQLLock(session, "migrations")
        engine = self.db.native
        path: str = engine._connector.path
        return FileLock(f"{path}-migrating") if path else MemoryLock(engine.name)

    def _refused(self, holder: str) -> MigrationLocked:
        return MigrationLocked(
            f"{self.db.name} is being migrated by {holder or 'somebody else'}, for more than {self.wait:g} s.",
            database=self.db.name,
            holder=holder,
        )

    async def _plan(self, session: Session, migrations: Sequence[Migration]) -> Plan:
        rows = await self._history.rows(session)
        half_done = any(row.state == "running" for row in rows.values())
        return Plan(migrations, rows, await fingerprint(session, self.db.dialect) if half_done else "")

    async def _run(
        self, session: Session, chosen: Sequence[Migration], direction: Direction, *, dry_run: bool
    ) -> list[MigrationRun]:
        planned = [_described(migration, direction) for migration in chosen]  # so that a missing `down` is found first
        if dry_run:
            return planned
        execution = Execution(self.db, session, self._history)
        ran: list[MigrationRun] = []
        for migration, run in zip(chosen, planned, strict=True):
            try:
                seconds = await execution.run(migration, direction)
            except MigrationFailed as error:
                error.context["ran"] = [earlier.name for earlier in ran]
                raise
            ran.append(MigrationRun(run.version, run.name, direction, run.statements, seconds))
        return ran

    async def _undo(
        self, session: Session, plan: Plan, versions: Sequence[int], *, dry_run: bool
    ) -> list[MigrationRun]:
        plan.require("edited", "out of order", *(["missing"] if not set(versions) - plan.migrations.keys() else []))  # type: ignore[arg-type]
        return await self._run(session, [plan.migrations[version] for version in versions], "down", dry_run=dry_run)

    async def _go_on(self, session: Session, plan: Plan, number: int, *, dry_run: bool) -> MigrationRun:
        row = plan.half_done
        if row is None:
            raise MigrationConflict("No migration is half done.", hint="Leave out --continue-at.")
        if row.version not in plan.migrations:
            plan.require()
        migration = plan.migrations[row.version]
        run = _described(migration, row.direction)
        if not 1 <= number <= len(run.statements) + 1:
            raise MigrationConflict(
                f"{migration.label} has {len(run.statements)} statement(s); it cannot go on at {number}.",
                hint=f"Give a number from 1 to {len(run.statements) + 1}, which says that all is done.",
            )
        seconds = 0.0
        if not dry_run:
            seconds = await Execution(self.db, session, self._history).run(migration, row.direction, start=number)
        return MigrationRun(run.version, run.name, row.direction, run.statements[number - 1 :], seconds)


def _described(migration: Migration, direction: Direction) -> MigrationRun:
    step = migration.step(direction)
    if isinstance(step, Script):
        statements = tuple(statement.text for statement in step.statements)
    else:
        statements = (f"-- Python: {step.function}() in {step.file.name}",)
    return MigrationRun(migration.version, migration.label, direction, statements)


def _marked(migration: Migration) -> Row:
    count = len(_described(migration, "up").statements)
    return Row(
        version=migration.version,
        name=migration.name,
        checksum=migration.checksum,
        direction="up",
        state="done",
        statements=count,
        done=count,
        schema_before="",
        ran_at=utc_now(),
        seconds=0.0,
        ran_by=f"baseline by {who()}"[:200],
    )
