"""MariaDB and MySQL: the database is asked each time, since it tells of nothing by itself.

Triggers count the changes of each watched table (see `mysql_watching.py`). The sum of these counts, whether the
table is empty, and a digest of its schema are one question. Where the answer to it is the same before and after,
nothing was committed in between, by whomever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consona.errors import StatementError
from consona.sql.cache.mysql_watching import ABOUT, DIGEST, DIGESTED, ISOLATION, TRIGGERS, asked, find, token_of
from consona.sql.engine import Session

__all__ = ["MySQLFreshness"]


REFUSED_S: Final = 1.0
"""So long it is not asked again why a table's answers cannot be kept."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What is known of one table."""

    digest: str
    """Of its schema, before it was judged."""
    reason: str = ""
    """Why answers from it cannot be kept."""
    token: str = ""
    """Its changes are counted under this."""
    judged_at: float = 0.0


class MySQLFreshness:
    """For one engine.

    Args:
        engine: Is asked.
        clock: Seconds; never goes back.
    """

    promise = "never stale: the database is asked each time, with cache=Strict(...)"
    strict_only = True
    wants_writes = False

    def __init__(self, engine: Session, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._tables: dict[str, _Table] = {}

    async def examine(self, tables: frozenset[str], *, strict: bool) -> str:  # noqa: ARG002  it is always
        for name in sorted(tables):
            table = self._tables.get(name)
            if table is None or (table.reason and self._clock() - table.judged_at > REFUSED_S):
                table = self._tables[name] = await self._judged(name)
            if table.reason:
                return table.reason
        return ""

    def stamp(self, tables: frozenset[str]) -> Hashable | None:  # noqa: ARG002  only asking tells
        return None

    async def asked(self, tables: frozenset[str]) -> Hashable | None:
        """The state of the tables; None where one of them is not as it was judged, so that it is judged again."""
        names = sorted(tables)
        known = [self._tables[name] for name in names if name in self._tables]
        if len(known) < len(names):
            return None
        if not names:
            return ()
        values = [table.token for table in known] + [name for name in names for _ in range(DIGESTED)]
        try:
            [(counted, *each)] = (await find(self._engine, asked(names), *values)).rows
        except StatementError:  # one is gone
            counted, each = None, []
        if each[::2] != [table.digest for table in known]:
            for name in names:
                self._tables.pop(name, None)
            return None
        return (counted, *each)

    def wrote(self, tables: frozenset[str] | None, began: float, *, settled: bool, whole: bool) -> None:  # noqa: ARG002
        """Of changes the database tells; only what may have been watched since is noted."""
        self._tables.clear()

    async def close(self) -> None:
        self._tables.clear()

    async def _judged(self, name: str) -> _Table:
        if "." in name:
            return _Table("", f"{name} is in another database", judged_at=self._clock())
        [(digest,)] = (await find(self._engine, f"SELECT {DIGEST}", *[name] * DIGESTED)).rows
        about = (await find(self._engine, ABOUT, name)).rows
        token = token_of((await find(self._engine, TRIGGERS, name)).rows)
        isolation = (await find(self._engine, ISOLATION)).rows
        reason = _reason(name, about, token, isolation)
        return _Table(digest, reason, token or "", self._clock())


def _reason(name: str, about: Sequence[Sequence[Any]], token: str | None, isolation: Sequence[Sequence[Any]]) -> str:
    """Why answers from a table cannot be kept; nothing where they can."""
    if not about:
        return f"there is no table {name}"
    [(kind, engine, options, keys)] = about
    if kind == "VIEW":
        return f"{name} is a view"
    if kind != "BASE TABLE" or "partitioned" in str(options).lower():
        return f"{name} is partitioned, or of a kind of its own ({kind.lower()})"
    if str(engine).lower() != "innodb":
        return f"{name} is kept by {engine}, which has no transactions"
    if keys:
        return (
            f"{name} has a key that lets other tables change it (ON DELETE CASCADE or the like), which fires no trigger"
        )
    if token is None:
        return f"{name} is not watched: await db.watch_tables({name!r})"
    if any(str(value).upper().startswith("READ-UNCOMMITTED") for _, value in isolation):
        return "the server shows what is not committed (READ UNCOMMITTED)"
    return ""
