"""Indexes: what they are over, and which keys a document has in them.

Source: https://www.mongodb.com/docs/manual/indexes/
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from consona.documents.errors import OperatorError
from consona.documents.filters import OF_DOCUMENTS, parse_filter
from consona.documents.paths import is_index, reader, split
from consona.documents.values import MISSING, Document, order

__all__ = ["ID_INDEX", "Index", "parse_index"]

ID_INDEX: Final = "_id_"
MOST_NAME: Final = 120
MOST_FIELDS: Final = 32
_OPTIONS: Final = frozenset({"unique", "sparse", "name", "expireAfterSeconds", "partialFilterExpression"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index over one or several fields.

    Attributes:
        name: As `drop_index` takes it.
        fields: Paths, each with 1, -1 or "text".
        unique: Whether no two documents may have the same key.
        sparse: Whether documents without any of the fields are left out.
        partial: A filter; other documents are left out.
        expire_after_s: A document is removed so many seconds after the date in the field.
    """

    name: str
    fields: tuple[tuple[str, int], ...]
    unique: bool = False
    sparse: bool = False
    partial: Mapping[str, Any] | None = None
    expire_after_s: float | None = None

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        return tuple(split(path, "an index") for path, _ in self.fields)

    def document(self) -> Document:
        """As MongoDB's `listIndexes` tells it."""
        options: Document = {"v": 2, "key": dict(self.fields), "name": self.name}
        if self.unique:
            options["unique"] = True
        if self.sparse:
            options["sparse"] = True
        if self.partial is not None:
            options["partialFilterExpression"] = dict(self.partial)
        if self.expire_after_s is not None:
            options["expireAfterSeconds"] = self.expire_after_s
        return options

    def covers(self, document: Document) -> bool:
        """Whether the document is in the index."""
        if self.partial is not None and not parse_filter(self.partial).matches(document):
            return False
        return not self.sparse or any(_present(document, path) for path in self.paths)

    def keys(self, document: Document) -> set[tuple[Any, ...]]:
        """The document's keys, as `values.order` makes them: several where a field is an array.

        Raises:
            OperatorError: Two of the fields are arrays.
        """
        columns = [_column(document, path) for path in self.paths]
        if sum(len(column) > 1 for column in columns) > 1:
            raise OperatorError(
                f"The index {self.name!r} is over two arrays of this document.",
                hint="An index can be over one array of a document only.",
            )
        return set(itertools.product(*columns))


def _present(document: Document, path: tuple[str, ...]) -> bool:
    return any(value is not MISSING for value in reader(path, expand=False)(document))


def _column(document: Document, path: tuple[str, ...]) -> list[Any]:
    """The different keys of one field; that of null where it is missing."""
    keys: dict[Any, None] = {}
    for value in reader(path, expand=False)(document):
        if type(value) is list:
            keys.update((order(item), None) for item in value) if value else keys.setdefault(order(MISSING))
        else:
            keys[order(None if value is MISSING else value)] = None
    return list(keys) or [order(None)]


def parse_index(keys: Any, options: Mapping[str, Any]) -> Index:
    """Understand `create_index` as PyMongo takes it.

    Args:
        keys: `"price"`, `[("price", 1), ("name", -1)]`, `{"price": -1}`.
        options: `unique`, `sparse`, `name`, `expireAfterSeconds`, `partialFilterExpression`.

    Raises:
        OperatorError: A kind of index or an option is not made here, or does not fit.
    """
    fields = _parse_keys(keys)
    for option in options:
        if option not in _OPTIONS:
            raise OperatorError(
                f"{option!r} is no option of an index here.", hint=f"There are {', '.join(sorted(_OPTIONS))}."
            )
    name = options.get("name") or "_".join(f"{path}_{kind}" for path, kind in fields)
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or "\0" in name or name == ID_INDEX:
        raise OperatorError(
            f"The name of an index is text of 1 to {MOST_NAME} letters, and not {ID_INDEX}.", hint="Give name=."
        )
    partial = options.get("partialFilterExpression")
    if partial is not None:
        _refuse_of_documents(partial)
        parse_filter(partial)
    expire = options.get("expireAfterSeconds")
    if expire is not None:
        if isinstance(expire, bool) or not isinstance(expire, int | float) or not 0 <= expire < 2**31:
            raise OperatorError("expireAfterSeconds is a number of seconds, at least 0.")
        if len(fields) != 1 or fields[0][0] == "_id":
            raise OperatorError("An index with expireAfterSeconds is over one field, and not over _id.")
    return Index(
        name=name,
        fields=fields,
        unique=bool(options.get("unique")),
        sparse=bool(options.get("sparse")),
        partial=partial,
        expire_after_s=None if expire is None else float(expire),
    )


def _refuse_of_documents(partial: Any) -> None:
    """Refuse what a partial index cannot keep to: what asks the clock or other fields."""
    if isinstance(partial, Mapping):
        for name, value in partial.items():
            if name in OF_DOCUMENTS:
                raise OperatorError(f"{name} cannot stand in a partialFilterExpression.", operator=name)
            _refuse_of_documents(value)
    elif isinstance(partial, list | tuple):
        for item in partial:
            _refuse_of_documents(item)


def _parse_keys(keys: Any) -> tuple[tuple[str, int], ...]:
    if isinstance(keys, str):
        keys = [(keys, 1)]
    elif isinstance(keys, Mapping):
        keys = list(keys.items())
    if not isinstance(keys, Sequence) or not keys:
        raise OperatorError("An index is over at least one field.", hint='create_index("price")')
    fields: list[tuple[str, int]] = []
    for item in keys:
        path, kind = (item, 1) if isinstance(item, str) else item
        if not isinstance(path, str):
            raise OperatorError(f"An index names fields by text, not by {path!r}.")
        parts = split(path, "an index")
        if any(part.startswith("$") for part in parts):
            raise OperatorError(
                f"{path!r} is no field that an index could be over.", hint="Wildcard indexes are not made."
            )
        if any(is_index(part) for part in parts):
            raise OperatorError(f"{path!r} names an element by its place; an index is over all elements of an array.")
        if not isinstance(kind, int | float) or isinstance(kind, bool) or kind not in {1, -1}:
            raise OperatorError(
                f"{kind!r} is no kind of index here: there are 1 and -1.",
                hint="Words within texts are found by $regex." if kind == "text" else "",
            )
        fields.append((path, int(kind)))
    if len(fields) > MOST_FIELDS or len({path for path, _ in fields}) != len(fields):
        raise OperatorError(f"An index is over at most {MOST_FIELDS} fields, each named once.")
    return tuple(fields)
