"""Rows out of the kinds of files: each reader gives (row, where it stands), or what is wrong with a line.

They run on a thread, and hold a few rows at a time, save for JSON (one value: all of it) and Excel (openpyxl's rows).
"""

from __future__ import annotations

import csv
import importlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Final

import msgspec

from consona.errors import ConfigurationError, MissingExtra, PipelineError

__all__ = ["READERS", "BadLine", "Options"]

MAX_FIELD: Final = 16 << 20
"""Characters of a field of a CSV file."""
MAX_LINE: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How files are read."""

    encoding: str = "utf-8-sig"
    """Of CSV. The mark that some programs put first (BOM) is left out."""
    delimiter: str = ","
    empty: Any = None
    """What an empty field of a CSV file becomes."""
    sheet: str = ""
    """Of Excel; by default the first."""
    path: tuple[str, ...] = ()
    """Of JSON: the names that lead to the list of rows."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is no row: why, and its text."""

    number: int
    reason: str
    text: Any


Read = Iterator[tuple[int, dict[str, Any]] | BadLine]
"""Each row with the number of its line (of Parquet: of the row)."""


def _csv(file: IO[bytes], options: Options) -> Read:
    text = io.TextIOWrapper(file, encoding=options.encoding, errors="surrogateescape", newline="")
    before = csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(text, delimiter=options.delimiter, strict=False)
    header: list[str] | None = None
    try:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadLine(line, f"cannot be read: {error}", "")
                continue
            if not cells:
                continue
            if header is None:
                header = _header(cells)
            elif (problem := _problem(cells, header, options.encoding)) is not None:
                yield BadLine(
                    line,
                    problem,
                    [cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for cell in cells],
                )
            else:
                yield (
                    line,
                    {name: cell if cell != "" else options.empty for name, cell in zip(header, cells, strict=True)},
                )
    finally:
        csv.field_size_limit(before)
        text.detach()


def _header(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not all(names):
        what = f"more than one column {twice[0]!r}" if twice else "a column without a name"
        raise PipelineError(f"The first line has {what}.", hint="Give each column a name of its own.")
    return names


def _problem(cells: list[str], header: list[str], encoding: str) -> str | None:
    if len(cells) != len(header):
        return f"has {len(cells)} fields, and the first line has {len(header)}"
    if any("\udc80" <= letter <= "\udcff" for cell in cells if not cell.isascii() for letter in cell):
        return f"is not in {encoding.removesuffix('-sig')}"
    return None


def _tsv(file: IO[bytes], options: Options) -> Read:
    return _csv(file, replace(options, delimiter="\t"))


def _jsonl(file: IO[bytes], options: Options) -> Read:  # noqa: ARG001  each reader has the same shape
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise PipelineError(f"Line {number} is longer than {MAX_LINE} bytes.")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield BadLine(number, "is no JSON", line[:1000].decode("utf-8", "replace").rstrip())
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield BadLine(number, "is no object", row)


def _json(file: IO[bytes], options: Options) -> Read:
    try:
        found = msgspec.json.decode(file.read().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PipelineError(f"The file is no JSON: {error}.") from error
    for name in options.path:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list):
        where = ".".join(options.path) or "the file"
        raise PipelineError(f"{where} is no list of rows.", hint='Name the list: path="data.items".')
    for number, row in enumerate(found, 1):
        yield (number, row) if isinstance(row, dict) else BadLine(number, "is no object", row)


def _parquet(file: IO[bytes], options: Options) -> Read:  # noqa: ARG001
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise MissingExtra("Parquet files need pyarrow.", hint="Run: pip install 'consona[arrow]'") from error
    number = 0
    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(batch_size=5000):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _xlsx(file: IO[bytes], options: Options) -> Read:
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ModuleNotFoundError as error:
        raise MissingExtra("Excel files need openpyxl.", hint="Run: pip install 'consona[excel]'") from error
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        if options.sheet and options.sheet not in book.sheetnames:
            raise ConfigurationError(
                f"There is no sheet {options.sheet!r}.", hint=f"There are: {', '.join(book.sheetnames)}."
            )
        sheet = book[options.sheet] if options.sheet else book.worksheets[0]
        header: list[str] | None = None
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            if all(cell is None for cell in cells):
                continue
            if header is None:
                header = _header([str(cell) if cell is not None else "" for cell in cells])
            else:
                yield number, dict(zip(header, cells, strict=False))
    finally:
        book.close()


READERS: Final = {"csv": _csv, "tsv": _tsv, "jsonl": _jsonl, "json": _json, "parquet": _parquet, "xlsx": _xlsx}
