"""Rows into files, written beside and renamed, so that nobody ever reads half of one."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast
from urllib.parse import quote

import msgspec

from consona.errors import ConfigurationError
from consona.part import Part
from consona.pipelines.batch import Batch
from consona.pipelines.errors import PipelineBusy
from consona.pipelines.file_writers import WRITERS, Writer, plain_rows
from consona.pipelines.files import format_of
from consona.pipelines.state import State
from consona.storage.turn import try_lock

__all__ = ["FileTarget"]

_PART: Final = re.compile(r"\.?part-(.+)-(\d{8})\.\w+")


class FileTarget:
    """Rows into one file, or into a folder of files, each exactly once in effect.

    Args:
        path: The file; or, for `append` and `partition`, the folder. `.gz` behind the name compresses.
        mode: `replace`: the file has the rows of the last run, and those before it until that ends. `append`: each
            batch is a file of its own in the folder, `part-<pipeline>-00000001.jsonl`.
        format: `csv`, `json`, `jsonl`, `parquet` or `xlsx`; by default what the name says, in a folder `jsonl`.
        partition: A field whose values each have a folder: `day=2024-05-01/part-….jsonl` (`append` only).
        escape_formulas: Whether cells of CSV and Excel that a spreadsheet would run as a formula get a `'` in front.

    Example:
        >>> FileTarget("orders.jsonl").guarantee
        'exactly once'
    """

    guarantee = "exactly once"

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Literal["replace", "append"] = "replace",
        format: str = "",  # noqa: A002  what it is called everywhere
        partition: str = "",
        escape_formulas: bool = True,
    ) -> None:
        if mode not in {"replace", "append"}:
            raise ConfigurationError(f"FileTarget has no mode {mode!r}.", hint="Known: replace, append.")
        if partition and mode != "append":
            raise ConfigurationError("FileTarget(partition=…) goes with mode='append'.")
        self.path = Path(path)
        self.mode = mode
        self._partition = partition
        self._escape = escape_formulas
        self._format = format or "jsonl" if mode == "append" else format_of(str(path), format)
        if self._format not in WRITERS:
            raise ConfigurationError(
                f"Files of the kind {self._format} are not written.", hint=f"Known: {', '.join(WRITERS)}."
            )
        self.name = str(path)
        self._lock: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._writer: Writer | None = None
        self._stack = contextlib.ExitStack()
        self._packing = contextlib.ExitStack()
        self._pipeline = ""
        self._by_batch = True
        self._staged: list[Path] = []
        """Files that get their names at the end."""

    @property
    def parts(self) -> Sequence[Part]:
        return ()

    def commits_batches(self, *, resumable: bool) -> bool:
        return self.mode == "append" and resumable

    @property
    def _beside(self) -> Path:
        return self.path.with_name(f".{self.path.name}.consona")

    async def open(self, pipeline: str) -> State:
        return await asyncio.to_thread(self._open, pipeline)

    def _open(self, pipeline: str) -> State:
        (self.path if self.mode == "append" else self.path.parent).mkdir(parents=True, exist_ok=True)
        lock = self._beside.with_suffix(".lock").open("ab")
        try:
            try_lock(lock.fileno())
        except OSError as error:
            lock.close()
            raise PipelineBusy(
                f"The pipeline {pipeline!r} is running already: another process writes {self.path}."
            ) from error
        self._lock = lock
        self._pipeline = pipeline
        kept = self._kept().get(pipeline)
        state = State() if kept is None else State.decode(kept)
        state.generation += 1
        return state

    def _kept(self) -> dict[str, msgspec.Raw]:
        """The states of all pipelines that write here."""
        return (
            msgspec.json.decode(self._beside.read_bytes(), type=dict[str, msgspec.Raw]) if self._beside.exists() else {}
        )

    async def begin(self, state: State, *, by_batch: bool, declared: Any) -> None:  # noqa: ARG002
        await asyncio.to_thread(self._begin, state, by_batch)

    def _begin(self, state: State, by_batch: bool) -> None:  # noqa: FBT001
        if self.mode == "append":
            self._by_batch, self._staged = by_batch, []
            for path in [*self._parts_of(self.path)]:
                found = _PART.fullmatch(path.name)
                if found and found[1] == _name(self._pipeline) and int(found[2]) > state.batches:
                    path.unlink()  # what a run that was cut off wrote and did not commit
            return
        self._file = self._stack.enter_context(self._beside.with_suffix(".part").open("wb"))
        self._writer = self._new_writer(self._file, str(self.path))

    def _parts_of(self, folder: Path) -> Iterator[Path]:
        yield from folder.rglob("part-*")
        yield from folder.rglob(".part-*")

    async def write(self, batch: Batch, state: State) -> None:
        await asyncio.to_thread(self._write, plain_rows(batch.rows), state)

    def _write(self, rows: list[dict[str, Any]], state: State) -> None:
        if self.mode == "replace":
            cast("Writer", self._writer).write(rows)
            return
        groups: dict[Any, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row.get(self._partition) if self._partition else None, []).append(row)
        for value, some in groups.items():
            folder = self.path / f"{self._partition}={_name(value)}" if self._partition else self.path
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"part-{_name(self._pipeline)}-{state.batches:08d}.{self._format}"
            hidden = path.with_name(f".{path.name}")
            with hidden.open("wb") as file:
                writer = self._new_writer(file, path.name)
                writer.write(some)
                writer.close()
                file.flush()
                os.fsync(file.fileno())
            if self._by_batch:
                hidden.replace(path)
            else:
                self._staged.append(hidden)
        if self._by_batch:
            self._save(state)

    async def save(self, state: State) -> None:
        await asyncio.to_thread(self._save, state)

    async def finish(self, state: State) -> None:
        await asyncio.to_thread(self._finish, state)

    def _finish(self, state: State) -> None:
        if self.mode == "append":
            for hidden in self._staged:  # one that is cut off before the state is kept removes them again
                hidden.replace(hidden.with_name(hidden.name[1:]))
            self._save(state)
            return
        assert self._file is not None
        assert self._writer is not None
        self._writer.close()
        self._packing.close()  # what belongs to the end of a compressed file
        self._file.flush()
        os.fsync(self._file.fileno())
        self._stack.close()
        self._beside.with_suffix(".part").replace(self.path)
        self._save(state)

    async def close(self) -> None:
        self._packing.close()
        self._stack.close()
        self._beside.with_suffix(".part").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _save(self, state: State) -> None:
        hidden = self._beside.with_suffix(".new")
        with hidden.open("w", encoding="utf-8") as file:
            states = {**self._kept(), self._pipeline: msgspec.Raw(state.encode().encode())}
            file.write(msgspec.json.encode(states).decode())
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(self._beside)

    def _new_writer(self, file: BinaryIO, name: str) -> Writer:
        if name.endswith(".gz"):
            file = cast("BinaryIO", self._packing.enter_context(gzip.GzipFile(fileobj=file, mode="wb", mtime=0)))
        return WRITERS[self._format](file, escape_formulas=self._escape)


def _name(value: Any) -> str:
    """A value as the name of a folder."""
    return "__none__" if value is None else quote(str(value), safe=" ")[:200]
