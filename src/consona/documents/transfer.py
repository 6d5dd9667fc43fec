"""Documents out of a collection into JSON Lines, and back in: what `consona documents` does.

A line is one document in MongoDB's extended JSON (`{"_id": {"$oid": "…"}, "at": {"$date": "2024-…"}}`), as `mongoexport`
writes and `mongoimport` reads it. A file that begins with `[` is read as one array of documents.

Source: https://github.com/mongodb/specifications/blob/master/source/extended-json.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, Final

from bson.errors import BSONError

from consona.documents.collection import Collection
from consona.documents.errors import BulkWriteError
from consona.documents.extended_json import dump_bytes, loads
from consona.documents.operations import InsertOne, ReplaceOne
from consona.errors import ValidationError

__all__ = ["Imported", "export_lines", "import_documents", "read_documents"]

BATCH: Final = 1000
MOST_LINE: Final = 64 * 1024 * 1024
"""Bytes of a line: a document has 16 MiB in BSON at most, and may be longer as JSON."""
MOST_TOLD: Final = 20
"""Failures that are told one by one; the others are counted."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    read: int = 0
    written: int = 0
    failed: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    """The first ones: the line (or the place in the array, from 1 on), and why."""

    def fail(self, number: int, why: str) -> None:
        self.failed += 1
        if len(self.failures) < MOST_TOLD:
            self.failures.append((number, why))


async def export_lines(collection: Collection, query: Mapping[str, Any] | None = None) -> AsyncIterator[bytes]:
    """The documents of a collection, all as they were at one moment, each as a line with its end."""
    async for document in collection.find(query):
        yield dump_bytes(document) + b"\n"


def read_documents(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Each document of a file with its number; where one cannot be read, the `ValidationError` in its place.

    Raises:
        ValidationError: The file is an array that cannot be read, or a line is longer than 64 MiB.
    """
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise ValidationError(f"Line {number} is longer than {MOST_LINE} bytes.")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # some editors begin a file so
        line = line.strip()
        if number == 1 and line.startswith(b"["):
            yield from _elements(line + file.read())
            return
        if line:
            yield number, _document(line)


def _elements(text: bytes) -> Iterator[tuple[int, Any]]:
    found = _document(text)
    if isinstance(found, ValidationError):
        raise found
    yield from enumerate(found, 1)


def _document(text: bytes) -> Any:
    try:
        return loads(text)
    except (ValueError, TypeError, KeyError, ArithmeticError, BSONError) as error:
        return ValidationError(f"It is no extended JSON: {error}.")


async def import_documents(
    collection: Collection,
    documents: Iterator[tuple[int, Any]],
    *,
    replace: bool = False,
    progress: Callable[[Imported], None] = lambda _: None,
) -> Imported:
    """Keep documents that `read_documents` gave. What is refused is told, and the rest goes on.

    Args:
        collection: Where they go.
        documents: Each with its number.
        replace: Whether a document takes the place of one with the same `_id`; else that is a failure.
        progress: Told after each batch what was done so far.
    """
    done = Imported()
    while batch := list(islice(documents, BATCH)):
        done.read += len(batch)
        writes: list[InsertOne | ReplaceOne] = []
        numbers: list[int] = []
        for number, document in batch:
            if isinstance(document, ValidationError):
                done.fail(number, document.message)
            elif not isinstance(document, Mapping):
                done.fail(number, "It is no document.")
            else:
                writes.append(_write(document, replace=replace))
                numbers.append(number)
        await _keep(collection, writes, numbers, done)
        progress(done)
    return done


def _write(document: Mapping[str, Any], *, replace: bool) -> InsertOne | ReplaceOne:
    if replace and "_id" in document:
        return ReplaceOne({"_id": {"$eq": document["_id"]}}, document, upsert=True)
    return InsertOne(document)


async def _keep(
    collection: Collection, writes: list[InsertOne | ReplaceOne], numbers: list[int], done: Imported
) -> None:
    """Write a batch; where one of its documents is refused before anything is written, each by itself."""
    if not writes:
        return
    try:
        await collection.bulk_write(writes, ordered=False)
        done.written += len(writes)
    except BulkWriteError as error:
        refused = error.details["writeErrors"]
        done.written += len(writes) - len(refused)
        for each in refused:
            done.fail(numbers[each["index"]], each["errmsg"])
    except ValidationError as error:
        if len(writes) == 1:
            done.fail(numbers[0], error.message)
            return
        for write, number in zip(writes, numbers, strict=True):
            await _keep(collection, [write], [number], done)
