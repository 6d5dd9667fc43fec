"""Rows held against a declared type, or a JSON Schema: those that fit go on as that type, the others are rejected."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from consona.errors import ConfigurationError, MissingExtra
from consona.pipelines.batch import Batch
from consona.validation import wrong_fields

__all__ = ["Validate"]

_MAX_NAMED: Final = 8
"""Problems of one row that its reason names."""


class Validate:
    """A step that checks rows.

    Args:
        declared: A Struct, a dataclass, a TypedDict, or a JSON Schema (a dict).
        strict: Whether text must not stand for a number: rows of a CSV file are all text, so they need False.

    Raises:
        ConfigurationError: Rows cannot be of that type.
    """

    def __init__(self, declared: Any, *, strict: bool = True) -> None:
        self.declared = declared
        self._strict = strict
        self._schema: Callable[[Any], list[tuple[str, str]]] | None = None
        if isinstance(declared, Mapping):
            self._schema = _by_schema(declared)
            return
        try:
            self._many = list[declared]
            msgspec.convert([], self._many)
        except TypeError as error:
            raise ConfigurationError(f"Rows cannot be checked against {declared!r}: {error}.") from error

    def run(self, batch: Batch) -> None:
        if self._schema is not None:
            self._run_schema(batch, self._schema)
            return
        try:
            batch.rows = msgspec.convert(batch.rows, self._many, strict=self._strict)
        except (msgspec.ValidationError, ValueError):
            self._one_by_one(batch)

    def _one_by_one(self, batch: Batch) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            try:
                rows.append(msgspec.convert(row, self.declared, strict=self._strict))
                numbers.append(number)
            except (msgspec.ValidationError, ValueError):
                problems = list(wrong_fields(row, self.declared, "row", strict=self._strict))
                named = [(str(each.path).removeprefix("row.").removeprefix("row"), each.message) for each in problems]
                self._reject(batch, number, named)
        batch.rows, batch.numbers = rows, numbers

    def _run_schema(self, batch: Batch, check: Callable[[Any], list[tuple[str, str]]]) -> None:
        rows, numbers = [], []
        for row, number in zip(batch.rows, batch.numbers, strict=True):
            problems = check(row)
            if problems:
                self._reject(batch, number, problems)
            else:
                rows.append(row)
                numbers.append(number)
        batch.rows, batch.numbers = rows, numbers

    def _reject(self, batch: Batch, number: int, problems: list[tuple[str, str]]) -> None:
        told = "; ".join(f"{name or 'the row'!r} {message}" for name, message in problems[:_MAX_NAMED])
        more = len(problems) - _MAX_NAMED
        fields = [name for name, _ in problems if name]
        batch.reject(number, "validate", told + (f"; and {more} more" if more > 0 else ""), *fields)


def _by_schema(schema: Mapping[str, Any]) -> Callable[[Any], list[tuple[str, str]]]:
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Checking rows against a JSON Schema needs jsonschema.", hint="Run: pip install 'consona[schema]'"
        ) from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"This is no JSON Schema: {error.message}.") from error
    validator = kind(schema)

    def check(row: Any) -> list[tuple[str, str]]:
        # Its messages have the values in them; the rule's name has none.
        return [
            (".".join(map(str, error.absolute_path)), f"breaks the rule {error.validator!r}")
            for error in validator.iter_errors(row)
        ]

    return check
