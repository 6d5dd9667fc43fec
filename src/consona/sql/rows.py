"""Rows as the types that were asked for: dicts, Structs, dataclasses, tuples, single values.

What a row must look like is worked out once for each pair of type and columns. Rows are converted in
handfuls, and after each millisecond others may run, so that a long answer does not hold up the event loop; where
one does not fit, the error names every column of it that is wrong, with the types and never with the value.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import operator
import time
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, starmap
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.sql.dialect import Decoder, Dialect
from consona.sql.engine import ReadRows
from consona.validation import wrong_fields

__all__ = ["PIECE_S", "RowReader", "column_reader", "in_pieces", "row_reader"]

MAX_NAMED_ROWS: Final = 20
"""Problems of so many rows are named in one error."""

_READERS: dict[tuple[Any, tuple[str, ...], int], RowReader] = {}
MAX_READERS: Final = 1000
PIECE_S: Final = 0.001
HANDFUL: Final = 100
MIN_HANDFUL: Final = 20
"""Rows at a time; few where each takes long."""


class RowReader:
    """Turns rows with these columns into `into`.

    Args:
        into: None for dicts, or a type.
        columns: As the engine named them.
        dialect: Whose decoders are used.

    Raises:
        ValidationError: The columns cannot make such a row: missing, named twice, or too many for one value.
        ConfigurationError: Rows cannot be read into such a type.
    """

    def __init__(self, into: Any, columns: tuple[str, ...], dialect: Dialect) -> None:
        self.into = into
        self.columns = columns
        self._dialect = dialect
        self._decoders: list[tuple[int, Decoder]] = []
        self._checked: Any = None
        self._make: Callable[[Iterable[tuple[Any, ...]]], Iterable[Any]] = iter
        self._prepare()

    def __call__(self, rows: list[tuple[Any, ...]], first: int = 1) -> list[Any]:
        """The rows as `into`. `first` is the number of the first of them, for messages."""
        if rows and type(rows[0]) is not tuple:  # a driver's own kind of row
            rows = list(map(tuple, rows))
        raw: Sequence[tuple[Any, ...]] = self._decoded(rows) if self._decoders else rows
        if self._checked is not None:
            try:
                raw = msgspec.convert(raw, self._checked)
            except msgspec.ValidationError as error:
                raise self._mismatch(raw, first) from error
        try:
            return list(self._make(raw))
        except (ValueError, TypeError) as error:  # a type's own checks
            raise self._refused_by_type(raw, first, error) from error

    # What the type wants.

    def _prepare(self) -> None:
        into, columns = self.into, self.columns
        if into is None or into is dict:
            self._no_name_twice()
            self._make = self._dicts
        elif into is tuple:
            pass
        elif (fields := _fields(into)) is not None:
            self._prepare_fields(into, fields)
        elif get_origin(into) is dict:
            self._no_name_twice()
            kind = get_args(into)[1]
            self._declare([kind] * len(columns))
            self._make = self._dicts
        elif get_origin(into) is tuple:
            kinds = get_args(into)
            if len(kinds) == 2 and kinds[1] is Ellipsis:
                kinds = (kinds[0],) * len(columns)
            if len(kinds) != len(columns):
                raise _wrong(f"{_named(into)} takes {len(kinds)} columns; the rows have {len(columns)}", columns)
            self._declare(kinds)
        else:
            if len(columns) != 1:
                raise _wrong(f"{_named(into)} is one value; the rows have {len(columns)} columns", columns)
            self._declare([into])
            self._make = lambda rows: map(_FIRST, rows)

    def _prepare_fields(self, into: Any, fields: list[tuple[str, str, Any, bool]]) -> None:
        """`fields`: column, attribute, type, required."""
        self._no_name_twice()
        position = {column: number for number, column in enumerate(self.columns)}
        missing = [column for column, _, _, required in fields if required and column not in position]
        if missing:
            raise ValidationError(
                f"The rows do not fit {_named(into)}: {_listed(missing)} missing; the columns are"
                f" {_listed(self.columns)}.",
                fields=[FieldProblem(f"row.{column}", "is missing") for column in missing],
                hint="Select these columns, rename them with AS, or give the fields defaults.",
            )
        kinds: list[Any] = [Any] * len(self.columns)
        present = [(position[column], attribute, kind) for column, attribute, kind, _ in fields if column in position]
        for number, _, kind in present:
            kinds[number] = kind
        self._declare(kinds)
        numbers = [number for number, _, _ in present]
        attributes = [attribute for _, attribute, _ in present]
        self._make = _maker(into, numbers, attributes, len(self.columns), [attribute for _, attribute, _, _ in fields])

    def _declare(self, kinds: Sequence[Any]) -> None:
        for number, kind in enumerate(kinds):
            decoder = self._decoder(kind)
            if decoder is not None:
                self._decoders.append((number, decoder))
        try:
            self._checked = list[tuple[tuple(kinds)]]  # type: ignore[misc]  # made at run time
            msgspec.convert([], self._checked)
        except TypeError as error:
            raise ConfigurationError(
                f"Rows cannot be read into {_named(self.into)}: {error}.",
                hint="Use a Struct, a dataclass, a TypedDict, a NamedTuple, tuple[…], dict, or the type of one value.",
            ) from error

    def _decoder(self, kind: Any) -> Decoder | None:
        decoders = self._dialect.decoders
        if not decoders:
            return None
        for member in _members(kind):
            found = decoders.get(member) if isinstance(member, type) else None
            if found is not None:
                return found
            if _is_json(member):
                return decoders.get("json")
        return None

    def _no_name_twice(self) -> None:
        twice = [column for column, count in Counter(self.columns).items() if count > 1]
        if twice:
            raise ValidationError(
                f"The rows have more than one column named {_listed(twice)}, so one would hide the other.",
                fields=[FieldProblem(f"row.{column}", "is there twice") for column in twice],
                hint="Rename one with AS, or read into=tuple.",
            )

    # The rows.

    def _decoded(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        if not rows:
            return rows
        columns = list(zip(*rows, strict=True))
        for number, decoder in self._decoders:
            try:
                columns[number] = tuple(None if value is None else decoder(value) for value in columns[number])
            except (ValueError, TypeError) as error:
                raise self._undecodable(columns[number], number, decoder) from error
        return list(zip(*columns, strict=True))

    def _dicts(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
        columns = self.columns
        return (dict(zip(columns, row, strict=True)) for row in rows)

    # What is wrong with them.

    def _mismatch(self, rows: Sequence[tuple[Any, ...]], first: int) -> ValidationError:
        kinds = get_args(get_args(self._checked)[0])
        problems: list[FieldProblem] = []
        wrong_rows = 0
        for number, row in enumerate(rows, first):
            found = [
                problem
                for column, value, kind in zip(self.columns, row, kinds, strict=True)
                for problem in wrong_fields(value, kind, f"row[{number}].{column}")
            ]
            wrong_rows += bool(found)
            if wrong_rows <= MAX_NAMED_ROWS:
                problems += found
        return self._unfit(problems, wrong_rows)

    def _undecodable(self, values: Sequence[Any], number: int, decoder: Decoder) -> ValidationError:
        problems = []
        for row, value in enumerate(values, 1):
            try:
                _ = value if value is None else decoder(value)
            except (ValueError, TypeError):
                message = f"holds {type(value).__name__} that cannot be read as what was asked for"
                problems.append(FieldProblem(f"row[{row}].{self.columns[number]}", message))
        return self._unfit(problems[:MAX_NAMED_ROWS], len(problems))

    def _refused_by_type(self, rows: Sequence[tuple[Any, ...]], first: int, error: Exception) -> ValidationError:
        problems = []
        for number, row in enumerate(rows, first):
            try:
                list(self._make([row]))
            except (ValueError, TypeError):
                problems.append(FieldProblem(f"row[{number}]", f"{_named(self.into)} refused it"))
        if not problems:
            raise error
        return self._unfit(problems[:MAX_NAMED_ROWS], len(problems))

    def _unfit(self, problems: Sequence[FieldProblem], wrong_rows: int) -> ValidationError:
        shown = "; ".join(f"{problem.path}: {problem.message}" for problem in problems[:5])
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        return ValidationError(
            f"{wrong_rows} row(s) do not fit {_named(self.into)}: {shown}{more}.",
            fields=problems,
            hint="Change the type's fields, or what the statement selects.",
        )


def row_reader(into: Any, columns: tuple[str, ...], dialect: Dialect) -> RowReader:
    """The reader for this type and these columns; made once."""
    key = (into, columns, id(dialect))
    try:
        reader = _READERS.get(key)
    except TypeError:  # a type that cannot be a key, such as Annotated with a list
        return RowReader(into, columns, dialect)
    if reader is None:
        reader = RowReader(into, columns, dialect)
        if len(_READERS) >= MAX_READERS:
            _READERS.clear()
        _READERS[key] = reader
    return reader


def column_reader(into: Any, columns: tuple[str, ...], dialect: Dialect) -> ReadRows:
    """The reader for the first column alone; `Any` takes it as it is stored."""
    if not columns:
        return _nothing
    if into is Any:
        return _first_of_each
    # A Struct or dict is one value here, stored as JSON, not a row of fields.
    reader = row_reader(tuple[into], columns[:1], dialect)
    alone = len(columns) == 1

    def read(rows: list[tuple[Any, ...]], first: int = 1) -> list[Any]:
        return [row[0] for row in reader(rows if alone else [row[:1] for row in rows], first)]

    return read


def _nothing(rows: list[tuple[Any, ...]], first: int = 1) -> list[Any]:  # noqa: ARG001  as the others
    return []


def _first_of_each(rows: list[tuple[Any, ...]], first: int = 1) -> list[Any]:  # noqa: ARG001  as the others
    return [row[0] for row in rows]


async def in_pieces(
    reader: ReadRows,
    rows: Iterable[Any],
    *,
    first: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Any]:
    """Read all rows, letting others run after each millisecond.

    In handfuls: what is made on the way to a row is gone before the next ones are read, so that it stays in the
    processor's cache, and the garbage collector is not called for it over and over.

    Args:
        reader: Makes of some rows what was asked for; or checks them.
        rows: All of them. What gives them one by one is asked in pieces too.
        first: The number of the first, for messages.
        clock: Seconds.
    """
    read: list[Any] = []
    size, each = HANDFUL, iter(rows)
    others_ran = began = clock()
    while handful := list(islice(each, size)):
        read += reader(handful, first + len(read))
        now = clock()
        size = max(MIN_HANDFUL, min(HANDFUL, int(size * PIECE_S / max(now - began, 1e-6))))
        if now - others_ran >= PIECE_S:
            await asyncio.sleep(0)
            now = others_ran = clock()
        began = now
    return read


_FIRST: Final = operator.itemgetter(0)
_SCALARS: Final = (str, bytes, int, float, bool, type(None))


def _maker(
    into: Any, numbers: list[int], attributes: list[str], width: int, declared: list[str]
) -> Callable[[Iterable[tuple[Any, ...]]], Iterable[Any]]:
    """How a row becomes an `into`: by position where columns and fields are in the same order, else by name."""
    if not typing.is_typeddict(into) and not _has_keyword_only(into) and attributes == declared[: len(attributes)]:
        if numbers == list(range(width)):
            return lambda rows: starmap(into, rows)
        if len(numbers) > 1:
            pick = operator.itemgetter(*numbers)
            return lambda rows: starmap(into, map(pick, rows))
    pairs = list(zip(attributes, numbers, strict=True))
    return lambda rows: (into(**{attribute: row[number] for attribute, number in pairs}) for row in rows)


def _has_keyword_only(into: Any) -> bool:
    parameters = inspect.signature(get_origin(into) or into).parameters.values()
    return any(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)


def _fields(into: Any) -> list[tuple[str, str, Any, bool]] | None:
    """(column, attribute, type, required) of each field of a declared row; None where it is none."""
    kind = get_origin(into) or into
    if not isinstance(kind, type):
        return None
    if issubclass(kind, msgspec.Struct):
        return [(field.encode_name, field.name, field.type, field.required) for field in msgspec.structs.fields(into)]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        nothing = dataclasses.MISSING
        return [
            (field.name, field.name, hints[field.name], field.default is nothing and field.default_factory is nothing)
            for field in dataclasses.fields(kind)
            if field.init
        ]
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        optional = {name for name, hint in hints.items() if get_origin(hint) is typing.NotRequired}
        required = (
            set(hints) - optional
            if kind.__dict__["__total__"]
            else {name for name, hint in hints.items() if get_origin(hint) is typing.Required}
        )
        return [(name, name, _unmarked(hint), name in required) for name, hint in hints.items()]
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind, include_extras=True)
        defaults: dict[str, Any] = getattr(kind, "_field_defaults", {})
        return [(name, name, hints.get(name, Any), name not in defaults) for name in kind._fields]
    return None


def _unmarked(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in {typing.Required, typing.NotRequired} else hint


def _members(kind: Any) -> Iterator[Any]:
    """The types that a declared one may be, without None."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _members(get_args(kind)[0])
    elif origin in {Union, types.UnionType}:
        for member in get_args(kind):
            if member is not type(None):
                yield from _members(member)
    else:
        yield kind


def _is_json(kind: Any) -> bool:
    """Whether a value of this type is stored as JSON: objects and lists."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type):
        return False
    if issubclass(origin, dict | list | tuple | set | frozenset | msgspec.Struct):
        return True
    return dataclasses.is_dataclass(origin) or typing.is_typeddict(origin)


def _wrong(problem: str, columns: Sequence[str]) -> ValidationError:
    return ValidationError(
        f"{problem} ({_listed(columns)}).",
        fields=[FieldProblem("row", problem)],
        hint="Select as many columns as the type takes, or read into a Struct or dict.",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _named(into: Any) -> str:
    return into.__name__ if isinstance(into, type) and not get_args(into) else str(into)
