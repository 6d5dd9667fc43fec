"""What is to be run, and what stands in the way: the files of the folder held against the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from consona.sql.migrations.errors import MigrationConflict
from consona.sql.migrations.folder import Migration
from consona.sql.migrations.history import Row
from consona.sql.migrations.script import Script, SQLStatement

__all__ = ["MigrationStatus", "Plan", "Problem"]

Kind = Literal["half done", "edited", "missing", "out of order"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the files and the history do not fit."""

    kind: Kind
    version: int
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """How one migration stands on a database."""

    version: int
    name: str
    """With its number: `0001_create_users`."""
    state: Literal["done", "pending", "half done", "edited", "missing", "out of order"]
    ran_at: str = ""
    seconds: float = 0.0
    ran_by: str = ""


class Plan:
    """The files and the history of one database at one moment.

    Args:
        migrations: Those of the folder, in order.
        rows: The history.
        schema_now: The fingerprint of the schema, where a migration is half done.
    """

    def __init__(self, migrations: Sequence[Migration], rows: Mapping[int, Row], schema_now: str = "") -> None:
        self.migrations = {migration.version: migration for migration in migrations}
        self.rows = rows
        self.done = sorted(version for version, row in rows.items() if row.state == "done")
        self.pending = [migration for migration in migrations if migration.version not in rows]
        self.half_done = next((row for row in rows.values() if row.state != "done"), None)
        self._schema_now = schema_now

    @property
    def last(self) -> int:
        """The highest version that is done; 0 where none is."""
        return self.done[-1] if self.done else 0

    def label(self, version: int) -> str:
        """How a migration is called, also where its file is gone."""
        migration = self.migrations.get(version)
        return migration.label if migration else f"{version}_{self.rows[version].name}"

    def problems(self) -> list[Problem]:
        """All that does not fit, the gravest first."""
        found = [self._stopped(self.half_done)] if self.half_done else []
        found += [self._missing(version) for version in self.done if version not in self.migrations]
        found += [self._edited(version) for version in self.done if self._is_edited(version)]
        return found + [self._late(migration) for migration in self.pending if migration.version < self.last]

    def require(self, *ignored: Kind) -> None:
        """Refuse to go on while something does not fit.

        Raises:
            MigrationConflict: It names everything; nothing was run.
        """
        problems = [problem for problem in self.problems() if problem.kind not in ignored]
        if problems:
            raise MigrationConflict(
                "\n".join(problem.message for problem in problems),
                hint=problems[0].hint,
                migrations=[self.label(problem.version) for problem in problems],
                problems=[problem.kind for problem in problems],
            )

    def status(self) -> list[MigrationStatus]:
        """Every migration that has a file or a row, in order."""
        states = {problem.version: problem.kind for problem in reversed(self.problems())}
        return [
            MigrationStatus(
                version,
                self.label(version),
                states.get(version, "done" if version in self.rows else "pending"),
                **({"ran_at": row.ran_at, "seconds": row.seconds, "ran_by": row.ran_by} if row else {}),  # type: ignore[arg-type]
            )
            for version in sorted(self.migrations.keys() | self.rows.keys())
            for row in (self.rows.get(version),)
        ]

    def go_on_at(self, row: Row) -> int:
        """The statement at which a half-done migration goes on, counted from 1."""
        return row.done + (2 if self._happened(row) == "has happened" else 1)

    def _stopped_at(self, row: Row) -> SQLStatement | None:
        """The statement at which it stopped, where there is one in the file."""
        migration = self.migrations.get(row.version)
        step = None if migration is None else migration.up if row.direction == "up" else migration.down
        if isinstance(step, Script) and row.done < len(step.statements):
            return step.statements[row.done]
        return None

    def _is_edited(self, version: int) -> bool:
        migration = self.migrations.get(version)
        return migration is not None and migration.checksum != self.rows[version].checksum

    def _happened(self, row: Row) -> str:
        """What is known of the statement at which it stopped."""
        if row.state == "failed":
            return "failed"
        statement = self._stopped_at(row)
        if statement is not None and statement.keeps_transactions:
            return "did not happen"  # else it would have happened together with the note that it did
        if not row.schema_before:
            return "may have happened"
        return "did not happen" if row.schema_before == self._schema_now else "has happened"

    def _stopped(self, row: Row) -> Problem:
        label, number = self.label(row.version), row.done + 1
        statement = self._stopped_at(row)
        where = f" (line {statement.line}: {statement.summary})" if statement is not None else ""
        stayed = (
            "nothing before it" if number == 1 else "statement 1" if number == 2 else f"statements 1 to {number - 1}"
        )
        message = (
            f"{label}: `{row.direction}` stopped at statement {number} of {row.statements}{where}, which"
            f" {self._happened(row)}; {stayed} stayed."
        )
        go_on = self.go_on_at(row)
        hint = f"Look at the database, then go on: consona migrate up --continue-at {go_on}."
        if number > 1:
            hint += " If you undo by hand what stayed, begin again: --continue-at 1."
        return Problem("half done", row.version, message, hint)

    def _missing(self, version: int) -> Problem:
        return Problem(
            "missing",
            version,
            f"{self.label(version)} ran on this database, and its file is not in the folder.",
            "Bring the file back. If the program is an older release than the database, use the newer one.",
        )

    def _edited(self, version: int) -> Problem:
        return Problem(
            "edited",
            version,
            f"{self.label(version)} was edited after it ran ({self.rows[version].ran_at}).",
            "Put the file back as it was, and change the schema with a new migration. If the edit changes nothing,"
            f" take the files as they are now: consona migrate baseline {version}.",
        )

    def _late(self, migration: Migration) -> Problem:
        return Problem(
            "out of order",
            migration.version,
            f"{migration.label} did not run, and the later {self.label(self.last)} did.",
            "Give it a number above the last one, or let it run late: consona migrate up --out-of-order.",
        )
