"""Sorting documents: `[("price", 1), ("name", -1)]`.

A missing field sorts as null. An array sorts by its smallest element upwards, by its greatest downwards; an empty one
before null. Documents that are equal stay in the order in which they came.

Source: https://www.mongodb.com/docs/manual/reference/method/cursor.sort/
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consona.documents.collation import Collation
from consona.documents.errors import OperatorError
from consona.documents.paths import reader, split
from consona.documents.values import MISSING, Document, order

__all__ = ["Sort", "parse_sort"]

MOST_FIELDS: Final = 32

Key = tuple[Any, ...]
_NULL: Final = order(None)
_EMPTY: Final = order(MISSING)


@dataclass(frozen=True, slots=True)
class Sort:
    """What to sort by: paths, each with 1 (upwards) or -1 (downwards). Without any, nothing is moved."""

    fields: tuple[tuple[str, int], ...] = ()
    collation: Collation | None = None

    def __bool__(self) -> bool:
        return bool(self.fields)

    def sorted(self, documents: Iterable[Document]) -> list[Document]:
        """The documents in order."""
        result = list(documents)
        for path, direction in reversed(self.fields):
            result.sort(key=sort_key(path, direction, self.collation), reverse=direction < 0)
        return result

    def first(self, documents: Iterable[Document], count: int) -> list[Document]:
        """The first `count` documents in order, without holding all of them."""
        if len(self.fields) != 1:
            keep: list[Document] = []
            for document in documents:  # now and then, what is beyond `count` is dropped
                keep.append(document)
                if len(keep) >= 2 * count + 1000:
                    keep = self.sorted(keep)[:count]
            return self.sorted(keep)[:count]
        [(path, direction)] = self.fields
        key = sort_key(path, direction, self.collation)
        if direction > 0:
            return heapq.nsmallest(count, documents, key=key)
        return heapq.nlargest(count, documents, key=key)


def parse_sort(raw: Any, direction: int | None = None, collation: Collation | None = None) -> Sort:
    """Understand a sort as PyMongo takes it.

    Args:
        raw: `"price"`, `[("price", 1), "name"]`, `{"price": -1}`, or None.
        direction: Where `raw` is one name: 1 (the default) or -1.
        collation: How texts are compared.

    Raises:
        OperatorError: A direction is neither 1 nor -1, or a path is none.
    """
    if raw is None:
        return Sort(collation=collation)
    if isinstance(raw, str):
        raw = [(raw, 1 if direction is None else direction)]
    if isinstance(raw, Mapping):
        raw = list(raw.items())
    if not isinstance(raw, Sequence):
        raise OperatorError(f"A sort is a list of fields, not a {type(raw).__name__}.", hint='[("price", 1)]')
    fields = tuple(_parse_field(item) for item in raw)
    if len(fields) > MOST_FIELDS:
        raise OperatorError(f"A sort has at most {MOST_FIELDS} fields; this one has {len(fields)}.")
    paths = [path for path, _ in fields]
    if len(set(paths)) != len(paths):
        raise OperatorError("A sort names the same field twice.")
    return Sort(fields, collation)


def _parse_field(item: Any) -> tuple[str, int]:
    path, direction = (item, 1) if isinstance(item, str) else item if len(item) == 2 else (None, None)
    if isinstance(direction, Mapping):
        raise OperatorError(
            "A sort by $meta is not made here.", hint="Use $addFields in an aggregation, then sort by it."
        )
    if not isinstance(path, str):
        raise OperatorError("A sort is a list of pairs of a field and 1 or -1.", hint='[("price", 1)]')
    if not isinstance(direction, int | float) or isinstance(direction, bool) or direction not in {1, -1}:
        raise OperatorError(f"The direction of a sort is 1 or -1, not {direction!r}.")
    split(path, "a sort")
    if path.startswith("$"):
        raise OperatorError(f"A sort names fields, not operators: {path!r}.")
    return path, int(direction)


def sort_key(path: str, direction: int, collation: Collation | None = None) -> Callable[[Document], Key]:
    """A function that gives the key of a document for one field."""
    make = order if collation is None else collation.order
    read = reader(split(path, "a sort"), expand=False)
    choose = min if direction > 0 else max

    def of_array(array: list[Any]) -> Key:
        return choose([make(item) for item in array]) if array else _EMPTY

    def key(document: Document) -> Key:
        values = read(document)
        if len(values) == 1:
            value = values[0]
            if type(value) is list:
                return of_array(value)
            return _NULL if value is MISSING else make(value)
        keys = [
            of_array(value) if type(value) is list else _NULL if value is MISSING else make(value) for value in values
        ]
        return choose(keys) if keys else _NULL

    return key
