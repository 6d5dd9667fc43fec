"""What a database looks like, as plain data: to compare two of them, and to see whether one changed.

A schema is a mapping from each object (`table users`, `index users_name`) to its details (`column age`:
`integer not null`). Consona's own tables are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from consona.sql.dialect import Dialect
from consona.sql.engine import Session
from consona.sql.migrations import schema_mysql, schema_postgresql, schema_sqlite
from consona.sql.migrations.schema_text import Schema

__all__ = ["Difference", "differences", "fingerprint", "read_schema"]

_READERS: Final = {
    "sqlite": schema_sqlite.read,
    "postgresql": schema_postgresql.read,
    "mysql": schema_mysql.read,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a database is not what its migrations make."""

    place: str
    """`table users`, or a part of it: `table users, column age`."""
    database: str
    """How it is there; empty where it is not."""
    migrations: str
    """How the migrations make it; empty where they do not."""

    def __str__(self) -> str:
        if not self.database:
            return f"{self.place}: missing in the database; the migrations make it ({self.migrations})."
        if not self.migrations:
            return f"{self.place}: in the database ({self.database}), and no migration makes it."
        return f"{self.place}: {self.database} in the database, {self.migrations} by the migrations."


async def read_schema(session: Session, dialect: Dialect) -> Schema:
    """What is in the database that the session is connected to."""
    schema = await _READERS[dialect.name](session)
    return {place: schema[place] for place in sorted(schema)}


async def fingerprint(session: Session, dialect: Dialect) -> str:
    """64 hexadecimal digits that are others as soon as the schema is another."""
    return hashlib.sha256(msgspec.json.encode(await read_schema(session, dialect), order="sorted")).hexdigest()


def differences(database: Schema, migrations: Schema) -> list[Difference]:
    """In what the two differ; nothing where they are alike.

    Example:
        >>> [found] = differences({"table users": {"column age": "text"}}, {"table users": {"column age": "integer"}})
        >>> str(found)
        'table users, column age: text in the database, integer by the migrations.'
    """
    found: list[Difference] = []
    for place in sorted(database.keys() | migrations.keys()):
        ours, theirs = database.get(place), migrations.get(place)
        if ours is None or theirs is None:
            found.append(Difference(place, _summary(ours), _summary(theirs)))
        else:
            found += _detail_differences(place, ours, theirs)
    return found


def _detail_differences(place: str, ours: dict[str, str], theirs: dict[str, str]) -> Iterator[Difference]:
    differing = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    if len(differing) > 1 and "definition" in differing:
        differing.remove("definition")  # the whole text, which says again what the details said
    for key in differing:
        yield Difference(f"{place}, {key}", ours.get(key, ""), theirs.get(key, ""))


def _summary(details: dict[str, str] | None) -> str:
    if details is None:
        return ""
    columns = [key.removeprefix("column ") for key in details if key.startswith("column ")]
    if columns:
        return f"with {', '.join(columns)}"
    return details.get("definition") or ", ".join(f"{key} {value}" for key, value in details.items()) or "empty"
