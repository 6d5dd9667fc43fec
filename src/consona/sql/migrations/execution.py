"""Running one migration: all of it in a transaction, or, where that cannot be, noting each statement.

MariaDB and MySQL commit at each statement that changes the schema, so there, and after
`-- no transaction`, the history says before each statement what is done and how the schema looks. Whoever
comes next, after an error or a killed process, knows from it which statement was the last to happen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from consona.errors import CommitUnknown, ConsonaError, QueryError
from consona.sql.dialect import MYSQL, SQLITE
from consona.sql.engine import Begin, Session
from consona.sql.locks import who
from consona.sql.migrations.errors import MigrationFailed
from consona.sql.migrations.folder import Migration
from consona.sql.migrations.history import History, Row, utc_now
from consona.sql.migrations.plan import Plan
from consona.sql.migrations.python_step import PythonStep
from consona.sql.migrations.schema import fingerprint
from consona.sql.migrations.schema_text import ask, raw
from consona.sql.migrations.script import Direction, Script, SQLStatement
from consona.sql.transaction import Transaction

if TYPE_CHECKING:  # the database runs migrations, so the import can only go one way
    from consona.sql.database import SQLDatabase

__all__ = ["Execution"]

LIMIT_S: Final = 24 * 3600.0
"""How long a migration's transaction may be open, where an engine wants a limit."""


class Execution:
    """Runs migrations on one session of a database."""

    def __init__(self, db: SQLDatabase, session: Session, history: History) -> None:
        self._db = db
        self._session = session
        self._history = history
        self._dialect = db.dialect
        self._began = 0.0

    async def run(self, migration: Migration, direction: Direction, *, start: int = 0) -> float:
        """Run it into a direction. Returns how many seconds it took.

        Args:
            migration: Which.
            direction: `up` or `down`.
            start: The number of the statement at which a half-done one goes on; 0 for one that did not begin.

        Raises:
            MigrationFailed: A statement failed; the message says which, and what of it stayed.
            CommitUnknown: The connection broke during the commit; look at the status.
        """
        self._began = time.perf_counter()
        step = migration.step(direction)
        row = self._row(migration, direction, step)
        if isinstance(step, Script):
            together = step.transaction and (not self._commits_by_itself(step)) and not start
            run = self._together(migration, step, row) if together else self._one_by_one(migration, step, row, start)
        elif step.transaction and self._dialect.name != MYSQL.name:
            run = self._python_together(migration, step, row)
        else:
            run = self._python_noted(migration, step, row, start)
        with self._db.observer.operation("MIGRATE", f"{migration.label} {direction}"):
            await run
        return time.perf_counter() - self._began

    def _row(self, migration: Migration, direction: Direction, step: Script | PythonStep) -> Row:
        count = len(step.statements) if isinstance(step, Script) else 1
        return Row(
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
            direction=direction,
            state="done",
            statements=count,
            done=count,
            schema_before="",
            ran_at=utc_now(),
            seconds=0.0,
            ran_by=who(),
        )

    def _commits_by_itself(self, script: Script) -> bool:
        """Whether some statement of it ends the engine's transaction."""
        return self._dialect.name == MYSQL.name and any(
            not statement.keeps_transactions for statement in script.statements
        )

    # In one transaction.

    async def _together(self, migration: Migration, script: Script, row: Row) -> None:
        async with self._foreign_keys(on=script.foreign_keys), self._transaction(migration) as (_, session):
            for number, statement in enumerate(script.statements, 1):
                try:
                    await session.execute(raw(statement.text), ())
                except QueryError as error:
                    raise _failed(migration, script, statement, number, error, "Nothing of it stayed.") from error
            if not script.foreign_keys:
                await self._check_foreign_keys(migration, session)
            await self._note(session, row)

    async def _python_together(self, migration: Migration, step: PythonStep, row: Row) -> None:
        function = step.load()
        async with self._transaction(migration) as (tx, session):
            try:
                await function(tx)
            except Exception as error:
                raise _raised(migration, step, error, "Nothing of it stayed.") from error
            await self._note(session, row)

    @asynccontextmanager
    async def _transaction(self, migration: Migration) -> AsyncGenerator[tuple[Transaction, Session]]:
        how = Begin(name=migration.label, where=migration.file.name, deadline_s=LIMIT_S)
        try:
            async with Transaction(self._db, how, None, session=self._session) as tx:
                yield tx, tx._opened()
        except CommitUnknown:
            raise
        except QueryError as error:
            raise MigrationFailed(
                f"{migration.label}: {error.message} Nothing of it stayed.", hint=error.hint, migration=migration.label
            ) from error

    async def _note(self, session: Session, row: Row) -> None:
        if row.direction == "up":
            await self._history.begin(session, dataclasses.replace(row, seconds=time.perf_counter() - self._began))
        else:
            await self._history.remove(session, row.version)

    @asynccontextmanager
    async def _foreign_keys(self, *, on: bool) -> AsyncGenerator[None]:
        """SQLite lets a table be replaced that others refer to only while it does not check them."""
        off = not on and self._dialect.name == SQLITE.name
        if off:
            await self._session.execute(raw("PRAGMA foreign_keys = OFF", "PRAGMA"), ())
        try:
            yield
        finally:
            if off:
                await self._session.execute(raw("PRAGMA foreign_keys = ON", "PRAGMA"), ())

    async def _check_foreign_keys(self, migration: Migration, session: Session) -> None:
        if self._dialect.name != SQLITE.name:
            return
        broken = await ask(session, self._dialect, 'SELECT DISTINCT "table", parent FROM pragma_foreign_key_check')
        if broken:
            pairs = ", ".join(f"{table} to {parent}" for table, parent in broken)
            raise MigrationFailed(
                f"{migration.label} leaves rows whose foreign keys match nothing: {pairs}. Nothing of it stayed.",
                hint="Move or remove those rows in the migration.",
                migration=migration.label,
            )

    # Statement by statement.

    async def _one_by_one(self, migration: Migration, script: Script, row: Row, start: int) -> None:
        first = start or 1
        await self._begin_noting(row, done=first - 1, known=bool(start))
        for number, statement in enumerate(script.statements, 1):
            if number < first:
                continue
            try:
                if statement.keeps_transactions:
                    await self._with_its_note(migration, statement, number)
                else:
                    before = await fingerprint(self._session, self._dialect)
                    await self._update(row, done=number - 1, schema_before=before)
                    await self._session.execute(raw(statement.text), ())
            except QueryError as error:
                with contextlib.suppress(ConsonaError):  # where the connection is lost, the row says "running"
                    await self._update(row, state="failed", done=number - 1)
                raise await self._stopped(migration, script, statement, number, error) from error
        await self._finish(row)

    async def _with_its_note(self, migration: Migration, statement: SQLStatement, number: int) -> None:
        """A statement that does not commit by itself happens together with the note that it did."""
        transaction = await self._session.begin(Begin(name=migration.label, where=migration.file.name))
        try:
            await transaction.execute(raw(statement.text), ())
            await self._history.update(transaction, migration.version, done=number, schema_before="")
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()

    async def _stopped(
        self, migration: Migration, script: Script, statement: SQLStatement, number: int, error: QueryError
    ) -> MigrationFailed:
        hint = ""
        with contextlib.suppress(ConsonaError):
            plan = Plan([migration], await self._history.rows(self._session))
            hint = next((problem.hint for problem in plan.problems() if problem.kind == "half done"), "")
        stayed = "Nothing of it stayed" if number == 1 else f"Statements 1 to {number - 1} stayed"
        return _failed(migration, script, statement, number, error, f"{stayed}, and the history says so.", hint=hint)

    async def _python_noted(self, migration: Migration, step: PythonStep, row: Row, start: int) -> None:
        """A Python step whose engine may commit within it, or that wants no transaction."""
        function = step.load()
        if start <= 1:
            before = await fingerprint(self._session, self._dialect)
            await self._begin_noting(row, done=0, known=bool(start), schema_before=before if step.transaction else "")
            try:
                if step.transaction:
                    async with self._transaction(migration) as (tx, _):
                        await function(tx)
                else:
                    await function(self._db)
            except BaseException as error:
                stayed = not step.transaction or before != await fingerprint(self._session, self._dialect)
                if not stayed:
                    await self._history.remove(self._session, row.version)
                elif isinstance(error, Exception):
                    await self._update(row, state="failed")
                if isinstance(error, MigrationFailed) or not isinstance(error, Exception):
                    raise
                words = "Part of it may have stayed." if stayed else "Nothing of it stayed."
                raise _raised(migration, step, error, words) from error
        await self._finish(row)

    async def _begin_noting(self, row: Row, *, done: int, known: bool, schema_before: str = "") -> None:
        changes: dict[str, Any] = {"state": "running", "direction": row.direction, "done": done}
        changes |= {"schema_before": schema_before, "statements": row.statements}
        if known or row.direction == "down":
            await self._update(row, **changes)
        else:
            await self._history.begin(self._session, dataclasses.replace(row, **changes))

    async def _finish(self, row: Row) -> None:
        if row.direction == "down":
            await self._history.remove(self._session, row.version)
        else:
            seconds = time.perf_counter() - self._began
            done = {"state": "done", "done": row.statements, "schema_before": "", "checksum": row.checksum}
            await self._update(row, **done, seconds=seconds)

    async def _update(self, row: Row, **columns: Any) -> None:
        await self._history.update(self._session, row.version, **columns)


def _failed(
    migration: Migration,
    script: Script,
    statement: SQLStatement,
    number: int,
    error: QueryError,
    stayed: str,
    *,
    hint: str = "",
) -> MigrationFailed:
    if "transaction" in error.message and script.transaction:
        hint = (
            hint or "If the statement cannot run in a transaction, write `-- no transaction` below the section's line."
        )
    return MigrationFailed(
        f"{migration.file}, line {statement.line}: statement {number} of {len(script.statements)}"
        f" ({statement.summary}) failed: {error.message} {stayed}",
        hint=hint or error.hint,
        migration=migration.label,
        statement=number,
        line=statement.line,
    )


def _raised(migration: Migration, step: PythonStep, error: Exception, stayed: str) -> MigrationFailed:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == step.file]
    where = f", line {lines[-1]}" if lines else ""
    # The words of a foreign error may hold values of rows; they stand in the cause.
    what = error.message if isinstance(error, ConsonaError) else f"{type(error).__name__}."
    hint = error.hint if isinstance(error, ConsonaError) else None
    return MigrationFailed(
        f"{migration.file}{where}: `{step.function}` failed: {what} {stayed}", hint=hint, migration=migration.label
    )
