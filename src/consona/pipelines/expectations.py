"""What is expected of a run as a whole: how many rows, how few without a value, how fresh, none twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from consona.errors import ConfigurationError
from consona.pipelines.batch import Batch
from consona.pipelines.steps_over_all import Dedupe

__all__ = ["Expect"]


class Expect:
    """A step that changes nothing and counts; `problems()` says in the end what does not hold.

    Args:
        rows: At least, and at most, how many rows; None for no bound.
        nulls: Field -> the greatest share of rows without a value in it, from 0 to 1.
        unique: Fields whose values together come once.
        fresh: Field -> how many seconds old its newest time may be.
        otherwise: `fail` the run, or `warn`.
        clock: The time now.
    """

    whole = True

    def __init__(
        self,
        *,
        rows: tuple[int | None, int | None] | None = None,
        nulls: Mapping[str, float] | None = None,
        unique: Sequence[str] = (),
        fresh: Mapping[str, float] | None = None,
        otherwise: Literal["fail", "warn"] = "fail",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if otherwise not in {"fail", "warn"}:
            raise ConfigurationError(f"expect(otherwise={otherwise!r}): known are fail and warn.")
        self.otherwise = otherwise
        self._rows = rows or (None, None)
        self._nulls = dict(nulls or {})
        self._fresh = dict(fresh or {})
        self._clock = clock
        self._dedupe = Dedupe(unique) if unique else None
        self._unique = tuple(unique)
        self._forget()

    def _forget(self) -> None:
        self._count = self._twice = 0
        self._missing = dict.fromkeys(self._nulls, 0)
        self._newest: dict[str, datetime] = {}

    def running(self) -> Any:
        self._forget()
        return (self._dedupe or Dedupe()).running()

    def run(self, batch: Batch) -> None:
        rows = batch.rows
        self._count += len(rows)
        value: Callable[[Any, str], Any] = dict.get if rows and isinstance(rows[0], dict) else _attribute
        for name in self._nulls:
            self._missing[name] += sum(value(row, name) is None for row in rows)
        for name in self._fresh:
            times = [_time(found) for row in rows if (found := value(row, name)) is not None]
            if times:
                self._newest[name] = max([*times, self._newest.get(name, times[0])])
        if self._dedupe is not None:
            keys = [{name: value(row, name) for name in self._unique} for row in rows]
            seen = Batch(keys, keys, 1, None, list(range(1, len(keys) + 1)), len(keys))
            self._dedupe.run(seen)
            self._twice += len(keys) - len(seen.rows)

    def problems(self) -> list[str]:
        """What does not hold, in words without values."""
        found = []
        least, most = self._rows
        if least is not None and self._count < least:
            found.append(f"{self._count} rows came, and at least {least} were expected")
        if most is not None and self._count > most:
            found.append(f"{self._count} rows came, and at most {most} were expected")
        for name, share in self._nulls.items():
            missing = self._missing[name] / self._count if self._count else 0.0
            if missing > share:
                found.append(f"{missing:.1%} of the rows have no {name!r}, and at most {share:.1%} were expected")
        if self._twice:
            found.append(f"{self._twice} rows have the same {', '.join(map(repr, self._unique))} as another")
        for name, seconds in self._fresh.items():
            newest = self._newest.get(name)
            if newest is None:
                found.append(f"no row has a time in {name!r}")
            elif (age := (self._clock() - newest).total_seconds()) > seconds:
                found.append(f"the newest {name!r} is {age:.0f} seconds old, and at most {seconds:g} were expected")
        return found


def _attribute(row: Any, name: str) -> Any:
    return getattr(row, name, None)


def _time(value: Any) -> datetime:
    made = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(made, datetime):
        made = datetime(made.year, made.month, made.day, tzinfo=UTC)
    return made if made.tzinfo is not None else made.replace(tzinfo=UTC)
