"""Changing what is in a collection: inserts, updates, replacements, deletions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from consona.documents.bulk import bulk_result
from consona.documents.engine import Found, Write, Written
from consona.documents.errors import BulkWriteError, OperatorError
from consona.documents.operations import Operation, deletion, insertion, modification
from consona.documents.projection import parse_projection
from consona.documents.results import (
    BulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)
from consona.documents.typed import reader_into
from consona.documents.values import Document
from consona.errors import ConsonaError
from consona.storage.transaction import SharedTransaction

if TYPE_CHECKING:  # databases make collections, so the import can only go one way
    from consona.documents.database import DocumentDatabase

__all__ = ["Changing"]

Raw = Mapping[str, Any]
Tx = SharedTransaction | None


class Changing:
    """The writing half of a collection."""

    database: DocumentDatabase
    name: str
    _check: Callable[[Document], None] | None

    async def insert_one(self, document: Any, *, tx: Tx = None) -> InsertOneResult:
        """Keep a document: a dict, a Struct or a dataclass. Without `_id` it is given an ObjectId (a dict keeps it).

        Raises:
            DuplicateKey: Another document has this `_id`, or this key in a unique index.
            DocumentRefused: It cannot be kept; the message says what of it.
        """
        with self.database.observer.operation("insert_one", self.name):
            write = insertion(document)
            await self._write_one(write, tx)
            return InsertOneResult(write.document["_id"])

    async def insert_many(self, documents: Iterable[Any], *, ordered: bool = True, tx: Tx = None) -> InsertManyResult:
        """Keep several documents, in one transaction of the engine.

        Args:
            documents: At least one.
            ordered: Whether the first that is refused ends it; those before it are kept.
            tx: Write in this open transaction.

        Raises:
            BulkWriteError: Some were refused; `details` says which. The others are kept.
        """
        with self.database.observer.operation("insert_many", self.name) as op:
            writes = [insertion(document) for document in documents]
            op.set(documents=len(writes))
            await self._write_many(writes, tx, ordered=ordered)
            return InsertManyResult([write.document["_id"] for write in writes])

    async def update_one(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        update: Any,
        upsert: bool = False,  # noqa: FBT001, FBT002  PyMongo's signature
        *,
        array_filters: Sequence[Raw] | None = None,
        collation: Any = None,
        hint: str | None = None,
        sort: Any = None,
        if_match: int | None = None,
        tx: Tx = None,
    ) -> UpdateResult:
        """Change the first document that passes.

        Args:
            filter: Which.
            update: Operators: `{"$set": {"price": 5}}`.
            upsert: Whether to insert a document where none passes.
            array_filters: What `$[name]` means in the update.
            collation: How texts are compared.
            hint: The name of the index to use.
            sort: Which is the first.
            if_match: Change it only if it still has this version (`find_one(…, with_version=True)`).
            tx: Write in this open transaction.

        Raises:
            OperatorError: The update does not fit the document.
            DuplicateKey: The change would give it a key that another document has in a unique index.
            DocumentChanged: It has another version than `if_match`.
        """
        with self.database.observer.operation("update_one", self.name) as op:
            write = modification(
                filter,
                update,
                upsert=upsert,
                array_filters=array_filters,
                collation=collation,
                hint=hint,
                sort=sort,
                if_match=if_match,
            )
            result = _update_result(await self._write_one(write, tx))
            op.set(matched=result.matched_count, modified=result.modified_count)
            return result

    async def update_many(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        update: Any,
        upsert: bool = False,  # noqa: FBT001, FBT002  PyMongo's signature
        *,
        array_filters: Sequence[Raw] | None = None,
        collation: Any = None,
        hint: str | None = None,
        tx: Tx = None,
    ) -> UpdateResult:
        """Change all documents that pass, all of them or none. See `update_one`."""
        with self.database.observer.operation("update_many", self.name) as op:
            write = modification(
                filter,
                update,
                many=True,
                upsert=upsert,
                array_filters=array_filters,
                collation=collation,
                hint=hint,
            )
            result = _update_result(await self._write_one(write, tx))
            op.set(matched=result.matched_count, modified=result.modified_count)
            return result

    async def replace_one(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        replacement: Any,
        upsert: bool = False,  # noqa: FBT001, FBT002  PyMongo's signature
        *,
        collation: Any = None,
        hint: str | None = None,
        sort: Any = None,
        if_match: int | None = None,
        tx: Tx = None,
    ) -> UpdateResult:
        """Put a whole document in the place of the first that passes; its `_id` stays. See `update_one`."""
        with self.database.observer.operation("replace_one", self.name):
            write = modification(
                filter,
                replacement,
                replace=True,
                upsert=upsert,
                collation=collation,
                hint=hint,
                sort=sort,
                if_match=if_match,
            )
            return _update_result(await self._write_one(write, tx))

    async def delete_one(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        *,
        collation: Any = None,
        hint: str | None = None,
        if_match: int | None = None,
        tx: Tx = None,
    ) -> DeleteResult:
        """Delete the first document that passes."""
        with self.database.observer.operation("delete_one", self.name) as op:
            write = deletion(filter, collation=collation, hint=hint, if_match=if_match)
            result = DeleteResult((await self._write_one(write, tx)).modified)
            op.set(deleted=result.deleted_count)
            return result

    async def delete_many(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        *,
        collation: Any = None,
        hint: str | None = None,
        tx: Tx = None,
    ) -> DeleteResult:
        """Delete all documents that pass; `{}` lets all pass."""
        with self.database.observer.operation("delete_many", self.name) as op:
            write = deletion(filter, many=True, collation=collation, hint=hint)
            result = DeleteResult((await self._write_one(write, tx)).modified)
            op.set(deleted=result.deleted_count)
            return result

    async def find_one_and_update(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        update: Any,
        projection: Any = None,
        sort: Any = None,
        *,
        upsert: bool = False,
        return_document: bool = False,
        array_filters: Sequence[Raw] | None = None,
        collation: Any = None,
        hint: str | None = None,
        if_match: int | None = None,
        with_version: bool = False,
        into: Any = None,
        tx: Tx = None,
    ) -> Any:
        """Change the first document that passes, and give it: as it was, or (`ReturnDocument.AFTER`) as it is now.

        None where none passes (or, with `upsert`, where none was there before). See `update_one`.
        """
        with self.database.observer.operation("find_one_and_update", self.name):
            write = modification(
                filter,
                update,
                upsert=upsert,
                array_filters=array_filters,
                collation=collation,
                hint=hint,
                sort=sort,
                if_match=if_match,
                give="after" if return_document else "before",
            )
            answer = await self._write_one(write, tx)
            return self._given(answer.given, write, projection, into, with_version=with_version)

    async def find_one_and_replace(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        replacement: Any,
        projection: Any = None,
        sort: Any = None,
        *,
        upsert: bool = False,
        return_document: bool = False,
        collation: Any = None,
        hint: str | None = None,
        if_match: int | None = None,
        with_version: bool = False,
        into: Any = None,
        tx: Tx = None,
    ) -> Any:
        """Replace the first document that passes, and give it, as it was or as it is now."""
        with self.database.observer.operation("find_one_and_replace", self.name):
            write = modification(
                filter,
                replacement,
                replace=True,
                upsert=upsert,
                collation=collation,
                hint=hint,
                sort=sort,
                if_match=if_match,
                give="after" if return_document else "before",
            )
            answer = await self._write_one(write, tx)
            return self._given(answer.given, write, projection, into, with_version=with_version)

    async def find_one_and_delete(
        self,
        filter: Raw,  # noqa: A002  PyMongo's name
        projection: Any = None,
        sort: Any = None,
        *,
        collation: Any = None,
        hint: str | None = None,
        if_match: int | None = None,
        into: Any = None,
        tx: Tx = None,
    ) -> Any:
        """Delete the first document that passes, and give it."""
        with self.database.observer.operation("find_one_and_delete", self.name):
            write = deletion(filter, collation=collation, hint=hint, sort=sort, if_match=if_match, give="before")
            answer = await self._write_one(write, tx)
            return self._given(answer.given, write, projection, into, with_version=False)

    async def bulk_write(
        self, requests: Sequence[Operation], *, ordered: bool = True, tx: Tx = None
    ) -> BulkWriteResult:
        """Do several writes: `[InsertOne({...}), UpdateMany({...}, {...}), DeleteOne({...})]`.

        Args:
            requests: At least one. Each is all or nothing.
            ordered: Whether the first that fails ends it.
            tx: Write in this open transaction.

        Raises:
            BulkWriteError: Some failed; `details` says which. The others happened.
        """
        with self.database.observer.operation("bulk_write", self.name) as op:
            writes = [request.write() for request in requests]
            op.set(writes=len(writes))
            return await self._write_many(writes, tx, ordered=ordered)

    # What the methods above stand on.

    async def _write_one(self, write: Write, tx: Tx) -> Written:
        [answer] = await self.database._engine().write(self.name, [write], ordered=True, check=self._check, tx=tx)
        if isinstance(answer, ConsonaError):
            raise answer
        return answer

    async def _write_many(self, writes: Sequence[Write], tx: Tx, *, ordered: bool) -> BulkWriteResult:
        if not writes:
            raise OperatorError("There is nothing to write.", hint="Give at least one document or operation.")
        engine = self.database._engine()
        answers = await engine.write(self.name, writes, ordered=ordered, check=self._check, tx=tx)
        result, details = bulk_result(writes, answers)
        if details["writeErrors"]:
            failed = details["writeErrors"]
            raise BulkWriteError(
                f"{len(failed)} of {len(writes)} writes to {self.name!r} failed; the first: {failed[0]['errmsg']}",
                details=details,
                failed=len(failed),
            ) from next(answer for answer in answers if isinstance(answer, ConsonaError))
        return result

    def _given(self, given: Found | None, write: Any, projection: Any, into: Any, *, with_version: bool) -> Any:
        if given is None:
            return None
        document = given.document
        chosen = parse_projection(projection)
        if chosen is not None:
            document = chosen.apply(document, write.filter)
        if with_version:
            document = {**document, "_version": given.version}
        return reader_into(into)(document)


def _update_result(answer: Written) -> UpdateResult:
    return UpdateResult(answer.matched, answer.modified, answer.upserted_id, answer.upserted)
