"""Asking a collection: `find` and its kin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from consona.documents.aggregating import PipelineRequest, write_result
from consona.documents.collation import parse_collation
from consona.documents.cursor import Asked, CommandCursor, Cursor, Request
from consona.documents.engine import CollectionFacts, Plan, Query, Source, SupportsExplain
from consona.documents.filters import parse_filter
from consona.documents.indexes import Index
from consona.documents.paths import reader, split
from consona.documents.pipeline.stages import MAX_HELD
from consona.documents.sorting import parse_sort
from consona.documents.typed import reader_into
from consona.documents.values import MISSING, Document, order
from consona.errors import ConfigurationError
from consona.storage.transaction import SharedTransaction

if TYPE_CHECKING:  # databases make collections, so the import can only go one way
    from consona.documents.database import DocumentDatabase

__all__ = ["Reading"]

T = TypeVar("T")
Raw = Mapping[str, Any]
Tx = SharedTransaction | None


class Reading:
    """The reading half of a collection."""

    database: DocumentDatabase
    name: str

    def find(
        self,
        filter: Raw | None = None,  # noqa: A002  PyMongo's name
        projection: Any = None,
        skip: int = 0,
        limit: int = 0,
        sort: Any = None,
        *,
        collation: Any = None,
        hint: str | None = None,
        into: Any = None,
        with_version: bool = False,
        tx: Tx = None,
    ) -> Cursor[Any]:
        """The documents that the filter lets pass, as a cursor: `await cursor.to_list()`, or `async for`.

        Args:
            filter: None and `{}` let all pass.
            projection: Fields to give or to leave out.
            skip: How many to leave out at the beginning.
            limit: How many to give at most; 0 for all.
            sort: `"price"`, or `[("price", 1), ("name", -1)]`.
            collation: How texts are compared, for example `{"locale": "en", "strength": 2}`.
            hint: The name of the index to use.
            into: A type that the documents are made into.
            with_version: Give each document its version, as `_version`, for `if_match`.
            tx: Read in this open transaction.
        """
        request = Request(filter=filter, projection=projection, versions=with_version)
        cursor: Cursor[Any] = Cursor(self, request, make=reader_into(into), tx=tx)
        cursor.skip(skip).limit(limit).hint(hint)
        if sort is not None:
            cursor.sort(sort)
        return cursor if collation is None else cursor.collation(collation)

    async def find_one(
        self,
        filter: Any = None,  # noqa: A002  PyMongo's name
        projection: Any = None,
        *,
        sort: Any = None,
        skip: int = 0,
        collation: Any = None,
        hint: str | None = None,
        into: Any = None,
        with_version: bool = False,
        tx: Tx = None,
    ) -> Any:
        """The first document that passes, or None. A filter that is no document is the `_id`. See `find`."""
        if filter is not None and not isinstance(filter, Mapping):
            filter = {"_id": {"$eq": filter}}  # noqa: A001
        request = Request(
            filter=filter,
            projection=projection,
            sort=parse_sort(sort),
            skip=skip,
            limit=1,
            hint=hint,
            collation=parse_collation(collation),
            versions=with_version,
        )
        with self.database.observer.operation("find_one", self.name) as op:
            found = await self._collect(request.query(at_once=True), tx)
            op.set(found=bool(found))
            return reader_into(into)(found[0]) if found else None

    async def count_documents(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        *,
        skip: int = 0,
        limit: int = 0,
        collation: Any = None,
        hint: str | None = None,
        tx: Tx = None,
    ) -> int:
        """How many documents pass."""
        with self.database.observer.operation("count_documents", self.name):
            query = Query(
                filter=parse_filter(filter, parse_collation(collation)),
                skip=skip,
                limit=limit or None,
                hint=hint,
                count=True,
                at_once=True,
            )
            [answer] = await self._collect(query, tx)
            return int(answer["n"])

    async def estimated_document_count(self) -> int:
        """How many documents there are, from what the engine knows without looking at them."""
        with self.database.observer.operation("estimated_document_count", self.name):
            facts = await self._facts()
            return facts.documents if facts is not None else 0

    async def distinct(
        self,
        key: str,
        filter: Raw | None = None,  # noqa: A002  PyMongo's name
        *,
        collation: Any = None,
        tx: Tx = None,
    ) -> list[Any]:
        """The different values at a path, each once; of arrays, their elements."""
        compare = parse_collation(collation)
        read = reader(split(key, "distinct"), expand=False)
        make = order if compare is None else compare.order

        def finish(documents: Iterator[Document], _: Source) -> Iterator[Document]:
            seen: dict[Any, Any] = {}
            for document in documents:
                for value in read(document):
                    for item in value if type(value) is list else (value,):
                        if item is not MISSING:
                            seen.setdefault(make(item), item)
            yield {"values": list(seen.values())}

        with self.database.observer.operation("distinct", self.name) as op:
            query = Query(filter=parse_filter(filter, compare), finish=finish, at_once=True)
            [answer] = await self._collect(query, tx)
            op.set(values=len(answer["values"]))
            return list(answer["values"])

    def aggregate(
        self,
        pipeline: Sequence[Raw],
        *,
        collation: Any = None,
        hint: str | None = None,
        let: Raw | None = None,
        max_bytes: int = MAX_HELD,
        into: Any = None,
        tx: Tx = None,
    ) -> CommandCursor[Any]:
        """What a pipeline of stages makes of the documents, as a cursor.

        What it begins with (`$match`, `$sort`, `$skip`, `$limit`) uses indexes.

        Args:
            pipeline: Stages, for example `[{"$match": {…}}, {"$group": {…}}]`.
            collation: How texts are compared, in filters, sorts and expressions.
            hint: The name of the index to use.
            let: Variables of the expressions: `let={"limit": 5}` is `$$limit`.
            max_bytes: What one stage may hold in memory, about (`$group`, `$sort`, `$facet`, …).
            into: A type that the documents are made into.
            tx: Read (and write) in this open transaction.

        Raises:
            OperatorError: (when it is read) A stage or an operator does not exist, does not fit the documents, or
                would hold more than `max_bytes`.

        Example:
            >>> async def main():
            ...     async with DocumentDatabase("memory://sales") as shop:
            ...         await shop["sales"].insert_many([{"tea": "mint", "n": 2}, {"tea": "mint", "n": 3}])
            ...         cursor = await shop["sales"].aggregate([{"$group": {"_id": "$tea", "n": {"$sum": "$n"}}}])
            ...         return await cursor.to_list()
            >>> from consona import DocumentDatabase
            >>> import asyncio; asyncio.run(main())
            [{'_id': 'mint', 'n': 5}]
        """
        if max_bytes < 1:
            raise ConfigurationError("max_bytes is a number of bytes, at least 1.")
        request = PipelineRequest(
            pipeline=pipeline, collation=parse_collation(collation), let=let, hint=hint, max_bytes=max_bytes
        )
        return CommandCursor(self, request, make=reader_into(into), tx=tx)

    # What the methods above stand on.

    async def _read_all(self, request: Asked, make: Callable[[Document], T], tx: Tx) -> list[T]:
        with self.database.observer.operation(request.verb, self.name) as op:
            if isinstance(request, PipelineRequest) and request.writes:
                op.set(written=await write_result(self, request, tx))
                return []
            found = await self._collect(request.query(at_once=True), tx)
            op.set(documents=len(found))
            return [make(document) for document in found]

    async def _batches(self, request: Asked, tx: Tx) -> AsyncIterator[list[Document]]:
        if request.writes:
            await self._read_all(request, reader_into(None), tx)
            return
        batches = aiter(self.database._engine().read(self.name, request.query(at_once=False), tx=tx))
        try:
            while True:
                with self.database.observer.operation(request.verb, self.name) as op:
                    batch = await anext(batches, None)
                    op.set(documents=len(batch or ()))
                if batch is None:
                    return
                yield batch
        finally:
            await batches.aclose()  # type: ignore[attr-defined]  # engines write it as a generator

    async def _collect(self, query: Query, tx: Tx) -> list[Document]:
        found: list[Document] = []
        async for batch in self.database._engine().read(self.name, query, tx=tx):
            found = batch if not found else found + batch
        return found

    async def _explain(self, request: Asked) -> Plan:
        engine = self.database._engine()
        if not isinstance(engine, SupportsExplain):
            raise ConfigurationError(f"The engine of {self.database.name} does not explain.")
        with self.database.observer.operation("explain", self.name):
            return await engine.explain(self.name, request.query(at_once=True))

    async def _facts(self, tx: Tx = None) -> CollectionFacts | None:
        facts = await self.database._engine().describe(self.name, tx=tx)
        return facts[0] if facts else None

    async def _indexes(self, tx: Tx) -> Sequence[Index]:
        facts = await self._facts(tx)
        return () if facts is None else facts.indexes
