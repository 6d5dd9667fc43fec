"""How the engines write SQL: quotes, comments, placeholders; and how names are quoted safely.

A dialect is plain data. The front rewrites placeholders with it, reads rows with its `decoders`, and
quotes names; an adapter states which one is its.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Literal

import msgspec

from consona.errors import FieldProblem, ValidationError

__all__ = ["MYSQL", "POSTGRESQL", "SQLITE", "Dialect"]

Decoder = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialect:
    """One way of writing SQL.

    Example:
        >>> SQLITE.identifier('my "own" table'), MYSQL.identifier("shop", "orders")
        ('"my ""own"" table"', '`shop`.`orders`')
    """

    name: str
    """`sqlite`, `postgresql` or `mysql` (MariaDB too); what sqlglot calls it, save for `postgresql`."""
    placeholder: Literal["?", "$1"]
    """What the driver wants in the place of `?` and `:name`."""
    quote: str
    """Around names."""
    max_identifier: int
    """Longest name, in bytes of UTF-8. PostgreSQL would cut longer ones without a word."""
    ends_with_space: bool = True
    """Whether a name may end so."""
    backslash: bool = False
    """Whether a backslash escapes in ordinary strings."""
    nested_comments: bool = False
    dollar_quotes: bool = False
    """`$$ … $$`, and strings with escapes: `E'…'`."""
    json_operators: bool = False
    """Whether `?`, `?|` and `?&` are operators, so that `??` writes the first of them."""
    native_parameters: str = ""
    """Signs with which the engine itself marks parameters (`@name`), which are refused in favour of `:name`."""
    decoders: Mapping[Any, Decoder] = field(default_factory=dict)
    """Declared type (or the word `json`) -> what makes a value for it of what the driver gives, where that is
    another type. It is called with None never, and may leave alone what it does not know."""

    def identifier(self, *names: str) -> str:
        """Names of tables and columns, quoted, so that they can stand in SQL whatever they are.

        Args:
            names: One name, or those that a point joins: schema, table, column.

        Raises:
            ValidationError: A name is empty, too long, or has characters that no database takes in one.
        """
        if not names:
            raise _bad_name("expected at least one name")
        return ".".join(map(self._quoted, names))

    def _quoted(self, name: Any) -> str:
        if not isinstance(name, str):
            raise _bad_name(f"expected text, got {type(name).__name__}")
        if not name or "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise _bad_name("expected at least one character, no NUL and no halves of surrogate pairs")
        if not self.ends_with_space and name.endswith(" "):
            raise _bad_name("this database takes no name that ends with a space")
        if len(name.encode()) > self.max_identifier:
            raise _bad_name(f"expected at most {self.max_identifier} bytes of UTF-8, got {len(name.encode())}")
        return f"{self.quote}{name.replace(self.quote, self.quote * 2)}{self.quote}"


def _bad_name(problem: str) -> ValidationError:
    return ValidationError(f"This is no name in SQL: {problem}.", fields=[FieldProblem("name", problem)])


def _truth(value: Any) -> Any:
    return bool(value) if value in {0, 1} else value


def _in_utc(value: Any) -> Any:
    """SQLite's own times (CURRENT_TIMESTAMP) have no zone, and are in UTC."""
    has_zone = not isinstance(value, str) or value.endswith(("Z", "z")) or value[-6:-5] in {"+", "-"}
    return value if has_zone else f"{value}+00:00"


def _from_json(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value


def _from_utc(value: Any) -> Any:
    """MariaDB and MySQL keep no zone; ours are stored in UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _time_of_day(value: Any) -> Any:
    return (_MIDNIGHT + value).time() if isinstance(value, timedelta) and _ZERO <= value < _DAY else value


_MIDNIGHT: Final = datetime(2000, 1, 1)  # noqa: DTZ001  a time of day has no zone
_ZERO: Final = timedelta()
_DAY: Final = timedelta(days=1)

SQLITE: Final = Dialect(
    name="sqlite",
    placeholder="?",
    quote='"',
    max_identifier=1000,
    native_parameters="@$",
    decoders={bool: _truth, datetime: _in_utc, "json": _from_json},
)
POSTGRESQL: Final = Dialect(
    name="postgresql",
    placeholder="$1",
    quote='"',
    max_identifier=63,
    nested_comments=True,
    dollar_quotes=True,
    json_operators=True,
    native_parameters="$",
    decoders={"json": _from_json},
)
MYSQL: Final = Dialect(
    name="mysql",
    placeholder="?",
    quote="`",
    max_identifier=256,
    ends_with_space=False,
    backslash=True,
    decoders={bool: _truth, datetime: _from_utc, time: _time_of_day, "json": _from_json},
)
