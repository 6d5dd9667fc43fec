"""What a statement reads and writes, found by parsing it; or why that cannot be known.

Done once for each statement, in a thread: loading the parser takes a while, and parsing milliseconds.
"""

from __future__ import annotations

import logging
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.scope import traverse_scope

from consona.errors import ValidationError
from consona.sql.cache.deterministic import unknown_word
from consona.sql.cache.facts import Facts
from consona.sql.dialect import MYSQL, Dialect
from consona.sql.placeholders import Token, tokens

__all__ = ["analyse"]

DIALECTS: Final = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what it parses as a plain command


def analyse(sql: str, dialect: Dialect) -> Facts:
    """Parse a statement.

    Example:
        >>> from consona.sql.dialect import SQLITE
        >>> sorted(analyse("SELECT * FROM users JOIN orders USING (id)", SQLITE).reads)
        ['orders', 'users']
        >>> analyse("SELECT random()", SQLITE).reason
        'it calls random, whose answer may change'
    """
    try:
        pieces = list(tokens(sql, dialect))
        parsed = sqlglot.parse_one("".join(_parsable(pieces)), dialect=DIALECTS[dialect.name])
    except (SqlglotError, ValidationError, RecursionError, ValueError, TypeError, AttributeError) as error:
        return Facts(writes=None, reason=f"it cannot be parsed ({type(error).__name__})")
    unknown = unknown_word(pieces)
    writes = _writes(parsed, unknown, dialect)
    if not isinstance(parsed, exp.Query):
        return Facts(writes=writes, reason=f"it is no SELECT ({parsed.key})")
    if writes is None or writes:
        return Facts(writes=writes, reason="it writes" if not unknown else _calls(unknown))
    if parsed.find(exp.Lock):
        return Facts(writes=writes, reason="it locks rows")
    if parsed.find(exp.Parameter, exp.SessionParameter):
        return Facts(writes=writes, reason="it reads a variable of the session")
    if unknown:
        return Facts(writes=writes, reason=_calls(unknown))
    return Facts(reads=_reads(parsed, dialect), writes=writes)


def _calls(word: str) -> str:
    return f"it calls {word}, whose answer may change"


def _parsable(pieces: list[Token]) -> list[str]:
    """The statement with placeholders that the parser takes on every engine."""
    texts = ["NULL" if kind in {"mark", "named"} else text.replace("??", "?") for kind, _, text in pieces]
    first = next((number for number, piece in enumerate(pieces) if piece.kind == "word"), 0)
    if texts and texts[first].upper() == "REPLACE":
        texts[first] = "INSERT"  # which is what the parser knows, and changes the same table
    return texts


def _writes(parsed: exp.Expr, unknown: str, dialect: Dialect) -> frozenset[str] | None:
    changing = list(parsed.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable))
    if not changing and isinstance(parsed, exp.Query):
        if parsed.find(exp.Into):
            return None
        return frozenset() if not unknown or unknown.startswith("'") else None  # a function may write
    if isinstance(parsed, exp.Insert | exp.Update | exp.Delete | exp.Merge | exp.TruncateTable | exp.Query):
        tables: set[str] = set()
        for node in changing:
            targets = node.expressions if isinstance(node, exp.TruncateTable) else [node.this]
            found = [target.find(exp.Table) if target is not None else None for target in targets]
            if unknown or None in found:
                return None
            tables.update(_name(table, dialect) for table in found if table is not None)
            if dialect is MYSQL and isinstance(node, exp.Delete | exp.Update):  # which changes several tables at once
                tables.update(_name(table, dialect) for table in node.find_all(exp.Table))
        return frozenset(tables)
    return None  # CREATE, ALTER, CALL, …: may change anything


def _reads(parsed: exp.Query, dialect: Dialect) -> frozenset[str]:
    tables: set[str] = set()
    seen: set[int] = set()
    names: set[str] = set()
    for scope in traverse_scope(parsed):
        names.update(scope.cte_sources)
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                seen.add(id(source))
                if not isinstance(source.this, exp.Func):
                    tables.add(_name(source, dialect))
    for table in parsed.find_all(exp.Table):  # what no scope claimed: better one too many
        if id(table) not in seen and not isinstance(table.this, exp.Func) and table.name not in names:
            tables.add(_name(table, dialect))
    return frozenset(tables)


def _name(table: exp.Table, dialect: Dialect) -> str:
    """In small letters where the engine takes unquoted names so. To MariaDB and MySQL, `Pets` is not `pets`."""
    parts = [part for part in (table.args.get("catalog"), table.args.get("db"), table.this) if part is not None]
    exact = dialect is MYSQL
    return ".".join(part.name if exact or part.args.get("quoted") else part.name.lower() for part in parts)
