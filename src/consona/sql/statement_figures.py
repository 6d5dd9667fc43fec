"""How often each statement ran, and how long it took: by its text without values, for a bounded number of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consona.sql.dialect import Dialect
from consona.sql.placeholders import Statement, tokens
from consona.telemetry.observer import Operation, Series

__all__ = ["StatementFigures", "StatementStats", "normalised"]

MAX_STATEMENTS: Final = 500
MAX_CHARS: Final = 280
OTHERS: Final = "(others)"


@dataclass(frozen=True, slots=True)
class StatementStats:
    """What one statement did since the database was made. Times in seconds."""

    text: str
    """Without values: each is a `?`."""
    calls: int
    failed: int
    rows: int
    """Rows that it gave or changed, altogether."""
    total: float
    """Seconds of all calls together."""
    mean: float
    p50: float
    p95: float
    p99: float


class StatementSeries(Series):
    """The figures of one statement."""

    __slots__ = ("rows",)

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name, target)
        self.rows = 0

    def count(self, op: Operation, duration: int, bucket: int) -> None:
        super().count(op, duration, bucket)
        if op.attributes is not None:
            self.rows += op.attributes.get("rows", 0)

    def statement_stats(self) -> StatementStats:
        stats = self.stats()
        return StatementStats(
            self.target,
            stats.total,
            stats.failed,
            self.rows,
            self.histogram.sum_ns / 1e9,
            stats.mean,
            stats.p50,
            stats.p95,
            stats.p99,
        )


class StatementFigures:
    """Those of one database. Beyond 500 different ones, further statements are counted together."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._series: dict[str, StatementSeries] = {}

    def of(self, statement: Statement) -> StatementSeries:
        """The figures of a statement; of statements that differ in their values only, the same."""
        text = normalised(statement.source, self._dialect)
        series = self._series.get(text)
        if series is None:
            if len(self._series) >= MAX_STATEMENTS:
                text = OTHERS
            verb = statement.verb if text is not OTHERS else ""
            series = self._series.setdefault(text, StatementSeries(verb, text))
        return series

    def each(self) -> Iterable[StatementSeries]:
        return list(self._series.values())

    def top(self, limit: int) -> list[StatementStats]:
        """Those that took the most time altogether."""
        ran = [series for series in self._series.values() if series.histogram.total]
        ran.sort(key=lambda series: -series.histogram.sum_ns)
        return [series.statement_stats() for series in ran[:limit]]


def normalised(sql: str, dialect: Dialect) -> str:
    r"""A statement without its values, comments and needless space, and with one `?` for a list of them.

    Example:
        >>> from consona.sql.dialect import SQLITE
        >>> normalised("SELECT *  FROM users -- all\nWHERE age > 28 AND name IN ('Ada', 'Bo') OR id = :id", SQLITE)
        'SELECT * FROM users WHERE age > ? AND name IN (?) OR id = ?'
    """
    words: list[str] = []
    for kind, _, text in tokens(sql, dialect):
        if kind in {"space", "comment"}:
            words.append(" ")
        elif kind in {"text", "escaped", "number", "mark", "named"}:
            words.append("?")
        else:
            words.append(text)
    text = " ".join("".join(words).split()).rstrip("; ")
    text = re.sub(r"\?(?:\s*,\s*\?)+", "?", text)
    text = re.sub(r"\(\?\)(?:\s*,\s*\(\?\))+", "(?)", text)
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
