"""Files to read and to write, here or, by `fsspec`, anywhere; compressed by their names."""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import importlib
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

from consona.errors import ConfigurationError, MissingExtra, NotFound, PipelineError

__all__ = ["FORMATS", "Limited", "fingerprint", "format_of", "matching", "opened"]

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")


def format_of(path: str, given: str = "") -> str:
    """What a file's name says that it is.

    Raises:
        ConfigurationError: It says nothing that is known.
    """
    name = path.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    found = given or FORMATS.get(os.path.splitext(name)[1], "")  # noqa: PTH122  it may be a URL
    if found not in FORMATS.values():
        raise ConfigurationError(
            f"Nothing says what kind of file {path!r} is.",
            hint=f"Give format=, one of {', '.join(sorted(set(FORMATS.values())))}.",
        )
    return found


def matching(path: str) -> list[str]:
    """The files that a path or a pattern (`orders-*.csv`, `data/**/*.parquet`) means, in order.

    Raises:
        NotFound: There is none.
    """
    if "://" in path:
        system, inner = _remote(path)
        scheme = path.partition("://")[0]
        found = [f"{scheme}://{each}" for each in system.glob(inner)] if glob.has_magic(inner) else [path]
    elif glob.has_magic(path):
        found = [each for each in glob.glob(path, recursive=True) if os.path.isfile(each)]  # noqa: PTH113, PTH207
    else:
        found = [path] if Path(path).exists() else []
    if not found:
        raise NotFound(f"There is no file {path!r}.", hint="A path is taken from where the program was started.")
    return sorted(found)


def fingerprint(path: str) -> list[Any]:
    """What changes when the file does: its size and time, or what a remote system says instead."""
    if "://" in path:
        system, inner = _remote(path)
        facts = system.info(inner)
        mark = facts.get("ETag") or facts.get("etag") or facts.get("mtime") or facts.get("LastModified") or ""
        return [facts.get("size", 0), str(mark)]
    facts = os.stat(path)  # noqa: PTH116  nothing but the facts
    return [facts.st_size, facts.st_mtime_ns]


@contextlib.contextmanager
def opened(path: str, *, max_bytes: int) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed; more than `max_bytes` of them are an error."""
    with contextlib.ExitStack() as stack:
        if "://" in path:
            system, inner = _remote(path)
            raw: IO[bytes] = stack.enter_context(system.open(inner, "rb"))
        else:
            raw = stack.enter_context(Path(path).open("rb"))
        name = path.lower()
        if name.endswith(".gz"):
            raw = cast("IO[bytes]", stack.enter_context(gzip.open(raw, "rb")))
        elif name.endswith(".bz2"):
            raw = stack.enter_context(bz2.open(raw, "rb"))
        elif name.endswith(".xz"):
            raw = stack.enter_context(lzma.open(raw, "rb"))
        elif name.endswith(".zst"):
            raw = stack.enter_context(_zstd(raw))
        yield cast("IO[bytes]", Limited(raw, max_bytes, path)) if name.endswith(_COMPRESSED) else raw


class Limited:
    """A file that gives at most so many bytes: what a small compressed file unpacks to has no bound by itself."""

    def __init__(self, file: IO[bytes], limit: int, path: str) -> None:
        self._file = file
        self._left = limit
        self._path = path
        self._limit = limit
        self.closed = False

    def _count(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise PipelineError(
                f"{self._path} unpacks to more than {self._limit} bytes.",
                hint="If that is meant, raise max_bytes=.",
            )
        return data

    def read(self, size: int = -1) -> bytes:
        return self._count(self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1))

    read1 = read

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, size: int = -1) -> bytes:
        return self._count(self._file.readline(size))

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True


def _zstd(raw: IO[bytes]) -> Any:
    try:
        module = importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        try:
            module = importlib.import_module("backports.zstd")
        except ModuleNotFoundError as error:
            raise MissingExtra("Files in zstd need a package.", hint="Run: pip install 'consona[zstd]'") from error
    return module.open(raw, "rb")


def _remote(path: str) -> tuple[Any, str]:
    try:
        fsspec = importlib.import_module("fsspec")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"The file {path.partition('://')[0]}://… needs fsspec.", hint="Run: pip install 'consona[files]'"
        ) from error
    system, inner = fsspec.core.url_to_fs(path)
    return system, inner
