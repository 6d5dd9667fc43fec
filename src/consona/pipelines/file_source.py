"""Rows of files: CSV, JSON, JSON Lines, Parquet, Excel; one file, or all that a pattern means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from consona.errors import PipelineError
from consona.part import Part
from consona.pipelines.batch import Position, Row
from consona.pipelines.file_formats import READERS, BadLine, Options
from consona.pipelines.files import fingerprint, format_of, matching, opened
from consona.pipelines.source import Extracted, Room

__all__ = ["FileSource"]

MAX_BYTES: Final = 16 << 30


class FileSource:
    """The rows of files, file by file in the order of their names.

    All values of CSV files are text, so validate them with `strict=False`, or `cast` them. Lines that are no rows
    (too many fields, another encoding, broken JSON) are rejected with their number.

    Args:
        path: A file, a pattern (`data/orders-*.csv.gz`), or an address of fsspec (`s3://…`; extra `files`).
            Compressed files (.gz, .bz2, .xz, .zst) are unpacked on the way.
        format: `csv`, `tsv`, `json`, `jsonl`, `parquet` or `xlsx`, where the name does not say it.
        incremental: Whether a run reads only files that no run has read; else each run reads all of them.
        encoding: Of CSV files: how letters are written.
        delimiter: Of CSV files: what stands between fields.
        empty: Of CSV files: what an empty field becomes.
        sheet: Of Excel files.
        json_path: Of JSON files: where the list of rows is, `data.items`.
        max_bytes: How much a compressed file may unpack to.

    Example:
        >>> FileSource("suppliers/*.csv").name
        'suppliers/*.csv'
    """

    resumable = True

    def __init__(
        self,
        path: str | Path,
        *,
        format: str = "",  # noqa: A002  what it is called everywhere
        incremental: bool = False,
        encoding: str = "utf-8-sig",
        delimiter: str = ",",
        empty: Any = None,
        sheet: str = "",
        json_path: str = "",
        max_bytes: int = MAX_BYTES,
        name: str = "",
    ) -> None:
        self._path = str(path)
        self._format = format
        self.incremental = incremental
        self._options = Options(
            encoding=encoding,
            delimiter=delimiter,
            empty=empty,
            sheet=sheet,
            path=tuple(filter(None, json_path.split("."))),
        )
        self._max_bytes = max_bytes
        self.name = name or self._path

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        done: dict[str, list[Any]] = dict(position["done"]) if position else {}
        inside: dict[str, Any] = position["inside"] if position else {}
        for path in await asyncio.to_thread(matching, self._path):
            mark = await asyncio.to_thread(fingerprint, path)
            if done.get(path) == mark and inside.get("path") != path:
                continue
            skip = 0
            if inside.get("path") == path:
                if inside["mark"] != mark:
                    raise PipelineError(
                        f"The file {path} was changed while a run was in the middle of it.",
                        hint="Put the old one back; or give the new one another name, and let this one be read to its end.",
                    )
                skip = inside["rows"]
            reading = self._read(path, skip)
            try:
                rows = skip
                while (found := await asyncio.to_thread(_take, reading, room.rows)) is not None:
                    taken, extracted = found
                    rows += taken
                    extracted.position = {"done": dict(done), "inside": {"path": path, "mark": mark, "rows": rows}}
                    yield extracted
            finally:
                await asyncio.to_thread(reading.close)
            done[path] = mark
            inside = {}
            yield Extracted([], {"done": dict(done), "inside": {}})

    def _read(self, path: str, skip: int) -> Any:
        kind = format_of(path, self._format)

        def read() -> Iterator[tuple[str, tuple[int, Row] | BadLine]]:
            with opened(path, max_bytes=self._max_bytes) as file:
                for found in islice(READERS[kind](file, self._options), skip, None):
                    number = found.number if isinstance(found, BadLine) else found[0]
                    yield f"{path}:{number}", found

        return read()


def _take(reading: Iterator[tuple[str, tuple[int, Row] | BadLine]], limit: int) -> tuple[int, Extracted] | None:
    rows: list[Row] = []
    places: list[str] = []
    bad: list[tuple[str, str, Any]] = []
    for place, found in islice(reading, limit):
        if isinstance(found, BadLine):
            bad.append((place, found.reason, found.text))
        else:
            rows.append(found[1])
            places.append(place)
    taken = len(rows) + len(bad)
    return (taken, Extracted(rows, None, places, bad)) if taken else None
