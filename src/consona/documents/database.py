"""A document database: MongoDB's operators and PyMongo's methods on SQLite, in memory, on PostgreSQL, on MongoDB.

    catalog = DocumentDatabase("sqlite:///catalog.db")
    async with catalog:
        products = catalog["products"]
        await products.insert_one({"name": "Tea", "price": 4.5, "tags": ["hot", "organic"]})
        cheap = await products.find({"price": {"$lt": 10}}).sort("price").to_list()

`engine.py` says what an engine must do; everything else is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

from consona.address import Address, adapter_for
from consona.documents.change_stream import ChangeStream, FullDocument
from consona.documents.collection import Collection
from consona.documents.engine import (
    CreateCollection,
    DocumentEngine,
    DropCollection,
    SupportsStats,
    SupportsTransactions,
)
from consona.documents.filters import parse_filter
from consona.errors import ConfigurationError, ConsonaError
from consona.part import Health, Part, Status
from consona.storage.transaction import SharedTransaction
from consona.telemetry.observer import Observer

__all__ = ["DocumentDatabase"]

MOST_NAME: Final = 120


class DocumentDatabase(Part):
    """The collections at an address.

    Args:
        target: The address (`sqlite:///catalog.db`, `sqlite://` or `memory://` for memory shared by the process), or
            an engine.
        name: What the dashboard, the logs and the errors call it; by default the database's name.

    Raises:
        AddressError: No engine has the address' scheme.
        MissingExtra: The engine's driver is not installed.

    Example:
        >>> async def main():
        ...     async with DocumentDatabase("memory://example") as catalog:
        ...         products = catalog["products"]
        ...         await products.insert_many([{"_id": 1, "price": 4}, {"_id": 2, "price": 12}])
        ...         return await products.find({"price": {"$lt": 10}}).to_list()
        >>> asyncio.run(main())
        [{'_id': 1, 'price': 4}]
    """

    kind: ClassVar[str] = "documents"

    def __init__(
        self, target: str | Address | DocumentEngine, *, name: str = "", observer: Observer | None = None
    ) -> None:
        self.address: Address | None = None
        """Where it is; None where an engine was given."""
        if isinstance(target, str | Address):
            self.address = address = Address.parse(target)
            target = adapter_for("documents", address)(address)
            name = name or _name_of(address)
        assert not isinstance(target, str | Address)
        super().__init__(name or "documents", observer=observer)
        self.engine: DocumentEngine = target

    async def _open(self) -> None:
        await self.engine.open()

    async def _close(self) -> None:
        await self.engine.close()

    async def check(self) -> Health:
        """Whether it can be asked now."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            await self.engine.describe("check")
        except ConsonaError as error:
            return Health(Status.DOWN, error.message)
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        return self.engine.stats() if self.started and isinstance(self.engine, SupportsStats) else {}

    @property
    def native(self) -> Any:
        """What is underneath: the storage engine of a SQLite file, the driver's client of a server."""
        return getattr(self._engine(), "native", None)

    def __getitem__(self, name: str) -> Collection:
        return self.collection(name)

    def collection(self, name: str, *, schema: Any = None) -> Collection:
        """A collection by its name. It need not exist: the first write makes it.

        Args:
            name: 1 to 120 letters, without `$` and NUL, and not beginning with `system.`.
            schema: A type that documents must fit before they are written by way of this object.

        Raises:
            ConfigurationError: The name is not allowed.
        """
        if not 0 < len(name) <= MOST_NAME or "$" in name or not name.isprintable():
            raise ConfigurationError(
                f"{name!r} is no name of a collection.", hint=f"Take 1 to {MOST_NAME} letters, without $."
            )
        if name.startswith("system."):
            raise ConfigurationError(f"{name!r} is no name of a collection: system. is kept for databases.")
        return Collection(self, name, schema=schema)

    async def list_collection_names(self, *, tx: SharedTransaction | None = None) -> list[str]:
        """The names of the collections, sorted."""
        with self.observer.operation("list_collection_names"):
            return [facts.name for facts in await self._engine().describe(tx=tx)]

    async def create_collection(
        self,
        name: str,
        *,
        validator: Mapping[str, Any] | None = None,
        schema: Any = None,
        tx: SharedTransaction | None = None,
    ) -> Collection:
        """Make a collection before its first document.

        Args:
            name: See `collection`.
            validator: A filter that every document must pass, whoever writes it: `{"$jsonSchema": {...}}`.
            schema: See `collection`.
            tx: Make it in this open transaction.

        Raises:
            Conflict: It exists.
        """
        collection = self.collection(name, schema=schema)
        with self.observer.operation("create_collection", name):
            if validator is not None:
                parse_filter(validator)
            rules = None if validator is None else dict(validator)
            await self._engine().alter(name, CreateCollection(rules), tx=tx)
        return collection

    async def drop_collection(self, name: str, *, tx: SharedTransaction | None = None) -> None:
        """Remove a collection with its documents, indexes and rules; nothing where it does not exist."""
        with self.observer.operation("drop_collection", self.collection(name).name):
            await self._engine().alter(name, DropCollection(), tx=tx)

    def watch(
        self,
        *,
        full_document: FullDocument = "default",
        full_document_before_change: bool = False,
        resume_after: Any = None,
    ) -> ChangeStream:
        """Every change of every collection from now on. See `Collection.watch`."""
        return ChangeStream(
            self, None, after=resume_after, full_document=full_document, before=full_document_before_change
        )

    @asynccontextmanager
    async def transaction(self, *, name: str = "", deadline: float | None = None) -> AsyncIterator[SharedTransaction]:
        """Several writes that happen together or not at all: pass what it gives as `tx=`.

        It spans all collections of the database, and what else is in the same SQLite file or PostgreSQL database:
        SQL, stores. Leaving the block commits; any error, and cancellation, rolls back. A transaction of a
        `SQLDatabase` at the same address can be passed as well.

        Args:
            name: What messages call it; by default the task's name.
            deadline: Seconds that it may be open.

        Raises:
            ConfigurationError: The engine has no transactions.

        Example:
            >>> async def main():
            ...     async with DocumentDatabase("sqlite://bank") as bank:
            ...         await bank["accounts"].insert_many([{"_id": "ada", "money": 5}, {"_id": "bob", "money": 0}])
            ...         async with bank.transaction() as tx:
            ...             await bank["accounts"].update_one({"_id": "ada"}, {"$inc": {"money": -5}}, tx=tx)
            ...             await bank["accounts"].update_one({"_id": "bob"}, {"$inc": {"money": 5}}, tx=tx)
            ...         return await bank["accounts"].find_one("bob")
            >>> asyncio.run(main())
            {'_id': 'bob', 'money': 5}
        """
        engine = self._engine()
        if not isinstance(engine, SupportsTransactions):
            raise ConfigurationError(
                f"{self.name} has no transactions.", hint="Use sqlite://, which is in memory too, or a database server."
            )
        task = asyncio.current_task()
        name = name or (task.get_name() if task is not None else "unnamed")
        with self.observer.operation("transaction"):
            async with engine.transaction(name=name, deadline_s=deadline) as tx:
                yield tx

    def _engine(self) -> DocumentEngine:
        self._require_started()
        return self.engine


def _name_of(address: Address) -> str:
    path = address.path.rpartition("/")[2]
    return path.rpartition(".")[0] or path or address.host or "memory"
