"""A collection of documents, with PyMongo's methods and results.

products = catalog["products"]
await products.insert_many([{"name": "Tea", "price": 4.5}, {"name": "Cup", "price": 12}])
cheap = await products.find({"price": {"$lt": 10}}).sort("price").to_list()
await products.update_one({"name": "Tea"}, {"$inc": {"price": 1}})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from consona.documents.change_stream import ChangeStream, FullDocument
from consona.documents.changing import Changing
from consona.documents.engine import CreateIndex, DropCollection, DropIndex, RenameCollection, SetRules
from consona.documents.errors import OperatorError
from consona.documents.filters import parse_filter
from consona.documents.indexes import ID_INDEX, Index, parse_index
from consona.documents.reading import Reading
from consona.documents.typed import schema_check
from consona.documents.values import Document
from consona.errors import Conflict
from consona.storage.transaction import SharedTransaction

if TYPE_CHECKING:  # databases make collections, so the import can only go one way
    from consona.documents.database import DocumentDatabase

__all__ = ["Collection"]

Raw = Mapping[str, Any]
Tx = SharedTransaction | None


class Collection(Reading, Changing):
    """Made by `database["name"]`. It need not exist: the first write makes it.

    All methods take `tx=`: the open transaction of the same database in which they happen. Filters, updates and
    projections are MongoDB's; what a user sends goes into `Literal(…)` where an operator could stand.

    Args:
        database: Whose it is.
        name: Its name.
        schema: A type (a Struct, a dataclass, a TypedDict) that documents must fit before this object writes them.
    """

    def __init__(self, database: DocumentDatabase, name: str, *, schema: Any = None) -> None:
        self.database = database
        self.name = name
        self.schema = schema
        self._check = None if schema is None else schema_check(schema)

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} of {self.database.name!r}>"

    # Watching.

    def watch(
        self,
        *,
        full_document: FullDocument = "default",
        full_document_before_change: bool = False,
        resume_after: Any = None,
    ) -> ChangeStream:
        """Every change from now on, whoever makes it, as `async for` gives it. See `ChangeStream`.

        Args:
            full_document: `default` tells of an update which fields changed; any other value adds the document as it
                was right after the update.
            full_document_before_change: Whether to add the document as it was before.
            resume_after: The `_id` of the change after which to go on.

        Raises:
            ChangesLost: (when it begins) What came after the token is not known any more.

        Example:
            >>> async def main():
            ...     async with DocumentDatabase("memory://watched") as catalog:
            ...         async with catalog["products"].watch() as stream:
            ...             await catalog["products"].insert_one({"_id": 1})
            ...             change = await stream.next()
            ...             return change["operationType"], change["fullDocument"]
            >>> from consona import DocumentDatabase
            >>> import asyncio; asyncio.run(main())
            ('insert', {'_id': 1})
        """
        return ChangeStream(
            self.database,
            self.name,
            after=resume_after,
            full_document=full_document,
            before=full_document_before_change,
        )

    # Indexes and rules.

    async def create_index(self, keys: Any, *, tx: Tx = None, **options: Any) -> str:
        """Make an index; nothing where the same one is there. Returns its name.

        Args:
            keys: `"price"`, or `[("price", 1), ("name", -1)]`.
            tx: Make it in this open transaction.
            options: `unique`, `sparse`, `partialFilterExpression`, `expireAfterSeconds`, `name`.

        Raises:
            DuplicateKey: It is unique, and two documents have the same key.
            Conflict: Another index has this name, or this one another name.
        """
        with self.database.observer.operation("create_index", self.name):
            index = parse_index(keys, options)
            known = await self._indexes(tx)
            for other in known:
                if other != index and (other.name == index.name or other.fields == index.fields):
                    raise Conflict(
                        f"{self.name!r} has the index {other.name!r} over {', '.join(path for path, _ in other.fields)}.",
                        hint="Drop it first, or give the new one another name and other fields.",
                    )
            if index not in known:
                await self.database._engine().alter(self.name, CreateIndex(index), tx=tx)
            return index.name

    async def drop_index(self, index_or_name: Any, *, tx: Tx = None) -> None:
        """Remove an index, named or described by its keys.

        Raises:
            OperatorError: There is no such index.
        """
        with self.database.observer.operation("drop_index", self.name):
            name = index_or_name if isinstance(index_or_name, str) else parse_index(index_or_name, {}).name
            known = {index.name for index in await self._indexes(tx)}
            if name not in known:
                raise OperatorError(f"{self.name!r} has no index {name!r}.", hint=f"It has {', '.join(sorted(known))}.")
            await self.database._engine().alter(self.name, DropIndex(name), tx=tx)

    async def drop_indexes(self, *, tx: Tx = None) -> None:
        """Remove all indexes, save that of `_id`."""
        with self.database.observer.operation("drop_indexes", self.name):
            await self.database._engine().alter(self.name, DropIndex(None), tx=tx)

    async def list_indexes(self, *, tx: Tx = None) -> list[Document]:
        """The indexes, as MongoDB describes them."""
        with self.database.observer.operation("list_indexes", self.name):
            identity = Index(name=ID_INDEX, fields=(("_id", 1),))
            return [index.document() for index in (identity, *await self._indexes(tx))]

    async def index_information(self, *, tx: Tx = None) -> dict[str, Document]:
        """The indexes by name, as PyMongo gives them."""
        return {
            index.pop("name"): {**index, "key": list(index["key"].items())} for index in await self.list_indexes(tx=tx)
        }

    async def options(self, *, tx: Tx = None) -> Document:
        """The rules of the collection: `{"validator": {...}}`, or nothing."""
        with self.database.observer.operation("options", self.name):
            facts = await self._facts(tx)
            return {} if facts is None or facts.rules is None else {"validator": facts.rules}

    async def set_validator(self, validator: Raw | None, *, tx: Tx = None) -> None:
        """Replace the rules that each document must pass from now on; None takes them away.

        Args:
            validator: A filter, for example `{"$jsonSchema": {...}}`. Whoever writes to the collection keeps to it.
            tx: Change it in this open transaction.
        """
        with self.database.observer.operation("set_validator", self.name):
            if validator is not None:
                parse_filter(validator)
            await self.database._engine().alter(
                self.name, SetRules(None if validator is None else dict(validator)), tx=tx
            )

    async def drop(self, *, tx: Tx = None) -> None:
        """Remove the collection with its documents, indexes and rules."""
        with self.database.observer.operation("drop", self.name):
            await self.database._engine().alter(self.name, DropCollection(), tx=tx)

    async def rename(self, new_name: str, *, drop_target: bool = False, tx: Tx = None) -> None:
        """Give the collection another name.

        Raises:
            NotFound: It does not exist.
            Conflict: There is a collection of the new name.
        """
        self.database.collection(new_name)
        with self.database.observer.operation("rename", self.name):
            await self.database._engine().alter(self.name, RenameCollection(new_name, replace=drop_target), tx=tx)
