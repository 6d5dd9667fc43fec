"""Rows into the kinds of files. Each writer makes the bytes of whole files, on a thread."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from consona.errors import MissingExtra, PipelineError

__all__ = ["WRITERS", "Writer", "plain_rows"]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula. Source: OWASP, "CSV Injection"."""


class Writer(Protocol):
    """Of one open file."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def close(self) -> None:
        """Write what belongs to the end. The file itself stays open."""


def plain_rows(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Structs and dataclasses as dicts, values as they are."""
    if not rows or isinstance(rows[0], dict):
        return list(rows)
    return msgspec.to_builtins(rows, builtin_types=(datetime, date, Decimal, bytes))  # type: ignore[no-any-return]


class _CSV:
    def __init__(self, file: BinaryIO, *, escape_formulas: bool) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._columns: list[str] | None = None
        self._cell: Callable[[Any], Any] = _escaped if escape_formulas else _cell

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._columns is None and rows:
            self._columns = list(dict.fromkeys(name for row in rows for name in row))
            self._writer.writerow([self._cell(name) for name in self._columns])
        for row in rows:
            columns = self._columns or []
            if not row.keys() <= set(columns):
                more = sorted(set(row) - set(columns))
                raise PipelineError(
                    f"A row has the field {more[0]!r}, and the CSV file has no such column: its first rows had none.",
                    hint="Validate the rows, or select() their fields, so that all have the same.",
                )
            self._writer.writerow([self._cell(row.get(name)) for name in columns])

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return value.isoformat() if isinstance(value, date) else value


def _escaped(value: Any) -> Any:
    cell = _cell(value)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


class _JSONL:
    def __init__(self, file: BinaryIO, *, escape_formulas: bool) -> None:  # noqa: ARG002  only of spreadsheets
        self._file = file
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(self._encoder.encode_lines(rows))

    def close(self) -> None:
        """A line has its end already."""


class _Parquet:
    def __init__(self, file: BinaryIO, *, escape_formulas: bool) -> None:  # noqa: ARG002
        try:
            self._arrow = importlib.import_module("pyarrow")
            self._parquet = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise MissingExtra("Parquet files need pyarrow.", hint="Run: pip install 'consona[arrow]'") from error
        self._file = file
        self._writer: Any = None

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            table = self._arrow.Table.from_pylist(list(rows), schema=self._writer.schema if self._writer else None)
        except (self._arrow.ArrowException, TypeError, ValueError) as error:
            raise PipelineError(
                "The values of a field are of several types, which a Parquet column cannot hold.",
                hint="Validate or cast the rows first.",
            ) from error
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Excel:
    def __init__(self, file: BinaryIO, *, escape_formulas: bool) -> None:
        try:
            openpyxl = importlib.import_module("openpyxl")
        except ModuleNotFoundError as error:
            raise MissingExtra("Excel files need openpyxl.", hint="Run: pip install 'consona[excel]'") from error
        self._file = file
        self._book = openpyxl.Workbook(write_only=True)
        self._sheet = self._book.create_sheet("rows")
        self._columns: list[str] = []
        self._cell: Callable[[Any], Any] = _escaped if escape_formulas else _cell

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not self._columns and rows:
            self._columns = list(dict.fromkeys(name for row in rows for name in row))
            self._sheet.append([self._cell(name) for name in self._columns])
        for row in rows:
            self._sheet.append([self._cell(row.get(name)) for name in self._columns])

    def close(self) -> None:
        self._book.save(self._file)


class _JSON:
    """One list, written row by row."""

    def __init__(self, file: BinaryIO, *, escape_formulas: bool) -> None:  # noqa: ARG002
        self._file = file
        self._first = True

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._file.write(b"[\n" if self._first else b",\n")
            self._file.write(msgspec.json.encode(row, enc_hook=str))
            self._first = False

    def close(self) -> None:
        self._file.write(b"[]\n" if self._first else b"\n]\n")


WRITERS: Final[dict[str, Callable[..., Writer]]] = {
    "csv": _CSV,
    "jsonl": _JSONL,
    "json": _JSON,
    "parquet": _Parquet,
    "xlsx": _Excel,
}
