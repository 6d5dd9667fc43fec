"""What can be wrong with migrations: a file, the history, or a statement while it ran.

MigrationError
├── MigrationFileError       a file cannot be read as a migration; nothing was run
├── MigrationConflict        files and history do not fit: edited, missing, out of order, half done
├── MigrationLocked          somebody else migrated the same database for too long
└── MigrationFailed          a statement or a Python step failed; says which, and what stayed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from consona.errors import MigrationError

__all__ = ["MigrationConflict", "MigrationFailed", "MigrationFileError", "MigrationLocked"]


class MigrationFileError(MigrationError):
    """A file in the folder cannot be read as a migration. Nothing was run."""

    code = "migration.file"


class MigrationConflict(MigrationError):
    """The files and the database's history do not fit together. Nothing was run."""

    code = "migration.conflict"
    status = 409


class MigrationLocked(MigrationError):
    """Somebody else migrated the same database for too long. Nothing was run."""

    code = "migration.locked"
    status = 503
    retryable = True
    hint = "Wait until the other one is done, or give more time: `wait=`."


class MigrationFailed(MigrationError):
    """A step of a migration failed. The message says which, and whether something of it stayed."""

    code = "migration.failed"


def wrong_file(file: Path, problem: str, *, line: int = 0, hint: str = "") -> MigrationFileError:
    """The error of a file: `migrations/0001_x.sql, line 3: …`."""
    where = f"{file}, line {line}" if line else str(file)
    context: dict[str, Any] = {"file": str(file)} | ({"line": line} if line else {})
    return MigrationFileError(f"{where}: {problem}", hint=hint, **context)
