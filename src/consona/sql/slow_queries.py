"""Statements that took too long: kept, logged with the plan that the database has for them, shown on the dashboard.

The plan is asked for afterwards, one at a time, with the values of the slow call, which are forgotten then.
Values are taken out of what is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from consona.errors import ConsonaError
from consona.sql.engine import SQLEngine, SupportsExplain
from consona.sql.placeholders import Statement
from consona.sql.values import checked
from consona.telemetry.observer import Entry, Observer, Operation

__all__ = ["Call", "SlowQueries", "SlowQuery", "plan_without_values"]

log = logging.getLogger("consona.sql")

PLAN_TIMEOUT_S: Final = 5.0
PLAN_EVERY_S: Final = 60.0
"""The plan of one statement is asked for so often at most."""
EXPLAINED: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "VALUES"})
MAX_KEPT: Final = 50
MAX_PLAN_LINES: Final = 30


class Call(NamedTuple):
    """A statement and the values that it was called with."""

    statement: Statement
    values: Sequence[Any] | None
    """None: of many rows; then no plan is asked for."""


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """One call that took longer than the database's `slow`."""

    at: float
    """When it ended, in seconds since the epoch."""
    statement: str
    """Without values."""
    seconds: float
    outcome: str
    """`ok`, `failed` or `cancelled`."""
    rows: int
    plan: str
    """How the database goes about it, without values; empty where it could not be asked."""


class SlowQueries:
    """Those of one database.

    Args:
        observer: Whose operations are looked at.
        engine: Who is asked for the plan.
        clock: Seconds; never goes back.
    """

    def __init__(self, observer: Observer, engine: SQLEngine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: deque[SlowQuery] = deque(maxlen=MAX_KEPT)
        self._observer = observer
        self._engine = engine
        self._clock = clock
        self._plans: dict[str, tuple[float, str]] = {}
        self._task: asyncio.Task[None] | None = None
        observer.on_slow = self.note

    def last(self) -> list[SlowQuery]:
        """The last ones, oldest first; each with the plan that its statement has."""
        found = [replace(slow, plan=slow.plan or self._plans.get(slow.statement, (0.0, ""))[1]) for slow in self._kept]
        return sorted(found, key=lambda slow: slow.at)

    def note(self, op: Operation, duration: int) -> None:
        """Called when an operation took too long."""
        call = op.subject
        if op.finer is None or not isinstance(call, Call):
            return
        rows = (op.attributes or {}).get("rows", 0)
        trace_id = f"{op.span.trace_id:032x}" if op.span.sampled else ""
        seen = (self._observer.wall(), op.finer.target, duration / 1e9, op.outcome, rows)
        at, plan = self._plans.get(op.finer.target, (-PLAN_EVERY_S, ""))
        if self._clock() - at < PLAN_EVERY_S or not self._may_explain(call):
            self._keep(SlowQuery(*seen, plan), call.statement, trace_id)
        else:
            self._plans[op.finer.target] = (self._clock(), "")
            work = self._explain(seen, call, trace_id)
            self._task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _may_explain(self, call: Call) -> bool:
        if call.values is None or (self._task is not None and not self._task.done()):
            return False
        return call.statement.verb in EXPLAINED and isinstance(self._engine, SupportsExplain)

    async def _explain(self, seen: tuple[float, str, float, str, int], call: Call, trace_id: str) -> None:
        plan = ""
        try:
            assert isinstance(self._engine, SupportsExplain)
            async with asyncio.timeout(PLAN_TIMEOUT_S):
                values = checked(call.statement.values(call.values or ()))
                plan = plan_without_values(await self._engine.explain(call.statement, values, analyze=False))
            if len(self._plans) > 1000:
                self._plans.clear()
            self._plans[seen[1]] = (self._clock(), plan)
        except (ConsonaError, TimeoutError):
            log.debug("%s: the plan of a slow query could not be asked for.", self._observer.name, exc_info=True)
        finally:
            self._keep(SlowQuery(*seen, plan), call.statement, trace_id)

    def _keep(self, slow: SlowQuery, statement: Statement, trace_id: str) -> None:
        self._kept.append(slow)
        attributes = {"rows": slow.rows, "plan": slow.plan.splitlines()}
        self._observer.remarks.append(
            Entry(slow.at, statement.verb, slow.statement, slow.seconds, slow.outcome, "", attributes, trace_id)
        )
        log.warning(
            "%s: slow query, %.3f s, %d row(s), %s: %s%s",
            self._observer.name,
            slow.seconds,
            slow.rows,
            slow.outcome,
            slow.statement,
            f"\nplan:\n{slow.plan}" if slow.plan else "",
        )


def plan_without_values(plan: str) -> str:
    r"""A plan in which the values of conditions are `?`.

    Example:
        >>> print(plan_without_values("Seq Scan on users  (cost=0.00..9.00 rows=3)\n  Filter: (name = 'Ada'::text)"))
        Seq Scan on users  (cost=0.00..9.00 rows=3)
          Filter: (name = ?::text)
    """
    lines = plan.splitlines()
    shown = [_line_without_values(line) for line in lines[:MAX_PLAN_LINES]]
    return "\n".join(shown + ([f"… {len(lines) - MAX_PLAN_LINES} more lines"] if len(lines) > MAX_PLAN_LINES else []))


def _line_without_values(line: str) -> str:
    line = re.sub(r"[eE]?'(?:[^']|'')*'", "?", line)
    head, colon, condition = line.partition(": ")
    if not colon or "cost=" in line:
        return line
    return f"{head}: " + re.sub(r"(?<![\w$\"])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w\"])", "?", condition)
