"""Answers of several documents: `find` and `aggregate`.

    async for product in products.find({"price": {"$lt": 100}}).sort("price").limit(10): ...
    cheap = await products.find({"price": {"$lt": 100}}).to_list()

Nothing is read before the first document is asked for. One that is read to its end, or is left, is over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from consona.documents.collation import Collation, parse_collation
from consona.documents.engine import Plan, Query
from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter
from consona.documents.projection import Projection, parse_projection
from consona.documents.sorting import Sort, parse_sort
from consona.documents.values import Document
from consona.storage.transaction import SharedTransaction

if TYPE_CHECKING:  # readings make cursors, so the import can only go one way
    from consona.documents.reading import Reading

__all__ = ["Asked", "CommandCursor", "Cursor", "Request"]

T = TypeVar("T")


class Asked(Protocol):
    """What a cursor was asked for, as it was given."""

    verb: ClassVar[str]
    """What the operation is called."""

    @property
    def writes(self) -> bool:
        """Whether the answer is written somewhere, and not given."""

    def query(self, *, at_once: bool) -> Query:
        """The same, understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What `find` was asked for, as it was given."""

    verb: ClassVar = "find"
    writes: ClassVar = False

    filter: Any = None
    projection: Any = None
    sort: Sort = field(default_factory=Sort)
    skip: int = 0
    limit: int = 0
    """0: all."""
    hint: str | None = None
    collation: Collation | None = None
    versions: bool = False

    def query(self, *, at_once: bool) -> Query:
        """The same, understood."""
        query = parse_filter(self.filter, self.collation)
        projection = parse_projection(self.projection, self.collation)
        return Query(
            filter=query,
            sort=replace(self.sort, collation=self.collation),
            skip=self.skip,
            limit=self.limit or None,
            hint=self.hint,
            versions=self.versions,
            finish=None if projection is None else _projecting(projection, query, versions=self.versions),
            at_once=at_once,
        )


def _projecting(projection: Projection, query: Any, *, versions: bool) -> Any:
    def finish(documents: Any, _: Any) -> Any:
        for document in documents:
            projected = projection.apply(document, query)
            yield {**projected, "_version": document["_version"]} if versions else projected

    return finish


class CommandCursor(Generic[T]):
    """The documents that a pipeline gives, in order.

    Awaiting it gives itself, as PyMongo's `await aggregate(…)` does; what ends in `$out` or `$merge` happens then.
    """

    def __init__(
        self, collection: Reading, request: Asked, *, make: Callable[[Document], T], tx: SharedTransaction | None
    ) -> None:
        self._collection = collection
        self._request: Any = request
        self._make = make
        self._tx = tx
        self._batches: AsyncIterator[list[Document]] | None = None
        self._batch: list[Document] = []
        self._at = 0
        self._over = False

    def batch_size(self, _: int) -> Self:
        """Accepted for PyMongo's sake; batches have the size that the engine reads best."""
        return self

    @property
    def alive(self) -> bool:
        """Whether there may be more."""
        return not self._over

    async def to_list(self, length: int | None = None) -> list[T]:
        """The documents that are left, or the next `length` of them."""
        if length is None and self._batches is None and not self._over:
            self._over = True
            return await self._collection._read_all(self._request, self._make, self._tx)
        found: list[T] = []
        while length is None or len(found) < length:
            try:
                found.append(await anext(self))
            except StopAsyncIteration:
                break
        return found

    async def explain(self) -> Plan:
        """Answer the query, and tell how: by which index or by a scan, and over how many documents."""
        return await self._collection._explain(self._request)

    async def next(self) -> T:
        """The next document.

        Raises:
            StopAsyncIteration: There is none.
        """
        return await anext(self)

    def clone(self) -> Self:
        """The same query, from the beginning."""
        return type(self)(self._collection, self._request, make=self._make, tx=self._tx)

    def rewind(self) -> Self:
        """Begin again."""
        self._batches, self._batch, self._at, self._over = None, [], 0, False
        return self

    async def close(self) -> None:
        """Read no further."""
        self._over = True
        batches, self._batches = self._batches, None
        if batches is not None and hasattr(batches, "aclose"):
            await batches.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._itself().__await__()

    async def _itself(self) -> Self:
        if self._request.writes and not self._over:
            await self.to_list()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while self._at >= len(self._batch):
            if self._over:
                raise StopAsyncIteration
            if self._batches is None:
                self._batches = self._collection._batches(self._request, self._tx)
            try:
                self._batch, self._at = await anext(self._batches), 0
            except BaseException:
                self._over, self._batch, self._at = True, [], 0
                raise
        document = self._batch[self._at]
        self._at += 1
        return self._make(document)


class Cursor(CommandCursor[T]):
    """The documents that `find` finds, in order. How it looks for them can be said until the first one is read."""

    def sort(self, key_or_list: Any, direction: int | None = None) -> Self:
        """Order by a field, or by several: `sort("price", -1)`, `sort([("price", 1), ("name", 1)])`."""
        return self._with(sort=parse_sort(key_or_list, direction))

    def skip(self, skip: int) -> Self:
        """Leave out the first ones."""
        return self._with(skip=_count("skip", skip))

    def limit(self, limit: int) -> Self:
        """Give so many at most; 0 gives all."""
        return self._with(limit=_count("limit", limit))

    def hint(self, index: str | None) -> Self:
        """Use the index of this name (`$natural`: none)."""
        return self._with(hint=index)

    def collation(self, collation: Any) -> Self:
        """Compare texts by this collation: `{"locale": "en", "strength": 2}`."""
        return self._with(collation=parse_collation(collation))

    def _with(self, **changes: Any) -> Self:
        if self._batches is not None or self._over:
            raise OperatorError("The cursor is being read, so it cannot be changed any more.", hint="clone() it.")
        self._request = replace(self._request, **changes)
        return self


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise OperatorError(f"{name} takes a whole number from 0, not {value!r}.")
    return value
