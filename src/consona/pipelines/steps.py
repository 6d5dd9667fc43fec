"""What happens to rows between the source and the target: one class for each kind of step.

A step takes a batch and changes its `rows` and `numbers`; rows that it cannot work on it rejects, with the field
and the rule. It first works on the batch as a whole, and row by row only where that failed.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from consona.errors import ConfigurationError, MissingExtra
from consona.pipelines.batch import Batch, Row
from consona.pipelines.expressions import Expression, cast_value

__all__ = ["Cast", "Explode", "Filter", "Mask", "Rename", "Rules", "Select", "Step", "WholeBatch"]

Rule = Callable[[Any], Any] | Expression
STAGE = "transform"


class Step(Protocol):
    """One change to the rows of a batch."""

    def run(self, batch: Batch) -> None:
        """Change `batch.rows`, and `batch.numbers` with them. It is called on a thread, one batch at a time."""


def _told(error: Exception) -> str:
    """Why a rule failed, without the value: only our own rules say what is known to hold none."""
    if isinstance(error, KeyError):
        return "is missing"
    if isinstance(error, ZeroDivisionError):
        return "divides by zero"
    return f"{type(error).__name__}"


class Rules:
    """Fields that are computed, each from the row as it came in.

    Args:
        rules: Name of the field -> a function of its value (left out where the row has no such field), an
            `Expression` over the row, or a plain value.
        keep: Whether the fields without a rule stay.
    """

    def __init__(self, rules: Mapping[str, Any], *, keep: bool = True) -> None:
        self.rules = dict(rules)
        self.keep = keep
        for name, rule in self.rules.items():
            if inspect.iscoroutinefunction(rule):
                raise ConfigurationError(
                    f"The rule for {name!r} is an async function.", hint="Use .map(function, concurrency=…) for calls."
                )

    def run(self, batch: Batch) -> None:
        try:
            batch.rows = [self._row(row) for row in batch.rows]
        except Exception:  # noqa: BLE001  it is found again below, row by row
            self._one_by_one(batch)

    def _row(self, row: Row) -> Row:
        made = dict(row) if self.keep else {}
        for name, rule in self.rules.items():
            if isinstance(rule, Expression):
                made[name] = rule._compute(row)
            elif callable(rule):
                if name in row:
                    made[name] = rule(row[name])
            else:
                made[name] = rule
        return made

    def _one_by_one(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            try:
                rows.append(self._row(row))
                numbers.append(number)
            except Exception as error:  # noqa: BLE001  rules are of users
                name, why = self._blame(row, error)
                batch.reject(number, STAGE, f"the rule for {name!r} failed: {why}", name)
        batch.rows, batch.numbers = rows, numbers

    def _blame(self, row: Row, error: Exception) -> tuple[str, str]:
        for name, rule in self.rules.items():
            try:
                if isinstance(rule, Expression):
                    rule._compute(row)
                elif callable(rule) and name in row:
                    rule(row[name])
            except Exception as found:  # noqa: BLE001
                if isinstance(found, KeyError) and isinstance(rule, Expression):
                    return name, f"the row has no field {found.args[0]!r}"
                return name, _told(found)
        return "", _told(error)


class Filter:
    """Only rows for which the condition holds go on; the others are counted."""

    def __init__(self, condition: Callable[[Row], Any] | Expression) -> None:
        self._holds = condition._compute if isinstance(condition, Expression) else condition

    def run(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            try:
                held = self._holds(row)
            except Exception as error:  # noqa: BLE001  conditions are of users
                batch.reject(number, STAGE, f"the condition failed: {_told(error)}")
                continue
            if held:
                rows.append(row)
                numbers.append(number)
        batch.rows, batch.numbers = rows, numbers


class Rename:
    """Fields under other names; what is missing is left out.

    Raises:
        ConfigurationError: Two fields would get the same name.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        if len(set(names.values())) != len(names):
            raise ConfigurationError("rename() gives two fields the same name.")
        self._names = dict(names)

    def run(self, batch: Batch) -> None:
        names = self._names
        taken = set(names.values()) - set(names)
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            clash = taken.intersection(row)
            if clash:
                name = min(clash)
                batch.reject(number, STAGE, f"has a field {name!r} already, which another one would be called", name)
                continue
            rows.append({names.get(name, name): value for name, value in row.items()})
            numbers.append(number)
        batch.rows, batch.numbers = rows, numbers


class Select:
    """Only these fields, or all but these."""

    def __init__(self, names: Sequence[str], *, without: bool = False) -> None:
        self._names = frozenset(names)
        self._without = without

    def run(self, batch: Batch) -> None:
        names = self._names
        if self._without:
            batch.rows = [{name: value for name, value in row.items() if name not in names} for row in batch.rows]
        else:
            batch.rows = [{name: value for name, value in row.items() if name in names} for row in batch.rows]


class Cast:
    """Fields as other types, by the rules of `cast_value`; None and empty text become None."""

    def __init__(self, kinds: Mapping[str, type]) -> None:
        self._kinds = dict(kinds)

    def run(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            made = dict(row)
            wrong: dict[str, str] = {}
            for name, kind in self._kinds.items():
                value = made.get(name)
                if value is None:
                    continue
                if value == "" and kind is not str:
                    made[name] = None
                    continue
                try:
                    made[name] = cast_value(value, kind)
                except (ValueError, TypeError, ArithmeticError):
                    wrong[name] = f"is no {kind.__name__}"
            if wrong:
                reason = "; ".join(f"{name!r} {problem}" for name, problem in wrong.items())
                batch.reject(number, STAGE, reason, *wrong)
                continue
            rows.append(made)
            numbers.append(number)
        batch.rows, batch.numbers = rows, numbers


class Explode:
    """A row for each element of a list in a field; a row with an empty list, or None, gives none.

    An element that is a mapping becomes fields `<prefix><name>`; another one the field itself.
    """

    def __init__(self, name: str, *, prefix: str, position: str = "") -> None:
        self._name = name
        self._prefix = prefix
        self._position = position

    def run(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            elements = row.get(self._name)
            if elements is None:
                continue
            if not isinstance(elements, list | tuple):
                batch.reject(number, STAGE, f"{self._name!r} is no list", self._name)
                continue
            rest = {name: value for name, value in row.items() if name != self._name}
            for place, element in enumerate(elements, 1):
                made = dict(rest)
                if isinstance(element, Mapping):
                    made.update({f"{self._prefix}{name}": value for name, value in element.items()})
                else:
                    made[self._name] = element
                if self._position:
                    made[self._position] = place
                rows.append(made)
                numbers.append(number)
        batch.rows, batch.numbers = rows, numbers


class Mask:
    """Personal fields made unreadable.

    `hash`: the same value gives the same 32 digits, by HMAC-SHA-256 with `key`, so that rows can still be joined;
    `redact`: `***`; `last4`: all but the last four characters as `*`.

    Source: NIST SP 800-188 (de-identification); RFC 2104 (HMAC).
    """

    def __init__(self, names: Sequence[str], *, how: str, key: bytes) -> None:
        if how not in {"hash", "redact", "last4"}:
            raise ConfigurationError(f"mask(how={how!r}): known are hash, redact and last4.")
        if how == "hash" and len(key) < 16:
            raise ConfigurationError(
                "mask(how='hash') needs key=, a secret of 16 bytes or more.",
                hint="Without a secret, whoever knows the possible values finds out which one it was.",
            )
        self._names = tuple(names)
        self._how = how
        self._key = key

    def run(self, batch: Batch) -> None:
        batch.rows = [self._row(row) for row in batch.rows]

    def _row(self, row: Row) -> Row:
        made = dict(row)
        for name in self._names:
            value = made.get(name)
            if value is not None:
                made[name] = self._value(str(value))
        return made

    def _value(self, text: str) -> str:
        if self._how == "hash":
            return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]
        return "***" if self._how == "redact" else "*" * max(0, len(text) - 4) + text[-4:]


class WholeBatch:
    """What a function makes of all rows of a batch at once: rows, a Polars frame, or an Arrow table.

    Args:
        function: Takes and gives a list of rows (`kind="rows"`), a `polars.DataFrame`, or a `pyarrow.Table`. Where
            it gives as many rows as it got, they are in the same order; where it leaves out or adds some, a row that
            a later step refuses is told as the function gave it. Where it fails, the run ends.
        kind: `rows`, `polars` or `arrow`.
    """

    def __init__(self, function: Callable[[Any], Any], *, kind: str = "rows") -> None:
        if kind not in {"rows", "polars", "arrow"}:
            raise ConfigurationError(f"batch(kind={kind!r}): known are rows, polars and arrow.")
        self._function = function
        self._convert = _CONVERT[kind]

    def run(self, batch: Batch) -> None:
        made = self._convert(self._function, batch.rows)
        if len(made) == len(batch.rows):
            batch.rows = made
        else:
            batch.replace(made)


def _on_rows(function: Callable[[Any], Any], rows: list[Row]) -> list[Row]:
    return list(function(rows))


def _on_arrow(function: Callable[[Any], Any], rows: list[Row]) -> list[Row]:
    pa = _extra("pyarrow", "arrow")
    made: list[Row] = function(pa.Table.from_pylist(rows)).to_pylist()
    return made


def _on_polars(function: Callable[[Any], Any], rows: list[Row]) -> list[Row]:
    pl = _extra("polars", "polars")
    made: list[Row] = function(pl.DataFrame(rows, infer_schema_length=None)).to_dicts()
    return made


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"Batches of that kind need {module}.", hint=f"Run: pip install 'consona[{extra}]'"
        ) from error


_CONVERT = {"rows": _on_rows, "arrow": _on_arrow, "polars": _on_polars}

AsyncRule = Callable[[Row], Awaitable[Row]]
