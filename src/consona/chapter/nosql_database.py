"""The chapter's document database, over `consona.documents.database`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from consona import blocking
from consona.chapter.narration import think
from consona.documents.collection import Collection
from consona.documents.database import DocumentDatabase
from consona.documents.document import checked_document
from consona.documents.filters import parse_filter
from consona.documents.sorting import parse_sort
from consona.errors import ConfigurationError, ConnectError, ValidationError
from consona.telemetry.observer import Entry, Stats

__all__ = ["NoSQLDatabase"]

_TYPES: Final = {"sqlite": "SQLite", "memory": "Memory", "mongodb": "MongoDB"}
_NAMES: Final = {
    "insert_one": "INSERT",
    "find": "FIND",
    "update_one": "UPDATE",
    "update_many": "UPDATE",
    "delete_one": "DELETE",
    "delete_many": "DELETE",
}
"""The real part's operations -> the chapter's."""
_COUNTS: Final = {
    "FIND": ("documents", "result_count"),
    "UPDATE": ("matched", "updated_count"),
    "DELETE": ("deleted", "deleted_count"),
}

Document = dict[str, Any]
Options = Mapping[str, Any] | None


class NoSQLDatabase:
    """A document database; each method waits until it is done.

    Args:
        connection_string: Its address: `sqlite:///products.db`, `sqlite://` or `memory://products` for memory.
        database_type: What it is, to be sure: `SQLite`, `Memory`.

    Raises:
        ConfigurationError: The address is of another type.
        AddressError: The address cannot be read, or no engine has its scheme.

    Attributes:
        database: The real part: `consona.DocumentDatabase`.

    Example:
        >>> db = NoSQLDatabase("memory://chapter-example")
        >>> db.connect()
        True
        >>> db.insert_document("teas", {"_id": "mint", "price": 4})
        {'inserted_id': 'mint', 'success': True}
        >>> db.update_document("teas", {"price": {"$lt": 5}}, {"price": 5})
        {'updated_count': 1, 'success': True}
        >>> [tea["price"] for tea in db.find_documents("teas")]
        [5]
        >>> db.close_connection()
    """

    def __init__(self, connection_string: str, database_type: str = "") -> None:
        self.connection_string = connection_string
        self.database = DocumentDatabase(connection_string)
        self.database_type = _TYPES[connection_string.partition(":")[0].lower()]
        if database_type and database_type.lower() != self.database_type.lower():
            raise ConfigurationError(
                f"The database_type is {database_type!r}, and the address is one of {self.database_type}.",
                hint=f"Known types: {', '.join(_TYPES.values())}.",
            )
        think("NoSQL Database for", self.database.name, self.database_type)

    def connect(self) -> bool:
        """Open it.

        Raises:
            NoSQLConnectionError: It cannot be reached.
        """
        if not self.database.started:
            blocking.enter(self.database)
        think("Connected to", self.database_type, "database")
        return True

    def get_collection(self, collection_name: str) -> dict[str, Any]:
        """A collection, made where it does not exist: its `name`, its `indexes` by name, its `document_count`."""
        collection = self._collection(collection_name)
        if collection_name not in blocking.run(self.database.list_collection_names()):
            blocking.run(self.database.create_collection(collection_name))
            think("Created collection:", collection_name)
        return {
            "name": collection_name,
            "indexes": _own(blocking.run(collection.index_information())),
            "document_count": blocking.run(collection.count_documents({})),
        }

    def insert_document(self, collection_name: str, document: Document, options: Options = None) -> dict[str, Any]:
        """Keep a document. It is given an `_id` where it has none, and `_created_at` and `_updated_at` (seconds).

        Raises:
            NoSQLOperationError: Another document has this `_id`, or this key of a unique index.
            ValidationError: It cannot be kept; the message says what of it.
            ConfigurationError: There is no such option.
        """
        _checked(options, ())
        now = time.time()
        document.setdefault("_id", f"doc_{uuid.uuid4().hex}")
        document["_created_at"] = document["_updated_at"] = now
        inserted = blocking.run(self._collection(collection_name).insert_one(document)).inserted_id
        think("Document inserted:", inserted)
        return {"inserted_id": inserted, "success": True}

    def find_documents(
        self, collection_name: str, query: Mapping[str, Any] | None = None, options: Options = None
    ) -> list[Document]:
        """The documents that pass.

        Args:
            collection_name: Where.
            query: Fields and what they must be, with any operator of filters; None and `{}` let all pass.
            options: `sort` (`{"field": "price", "order": "asc"}`, or `desc`), `skip`, `limit`, in this order.

        Raises:
            NoSQLOperationError: An operator does not exist, or is used wrongly.
            ConfigurationError: There is no such option.
        """
        given = _checked(options, ("limit", "skip", "sort"))
        cursor = self._collection(collection_name).find(
            query, skip=given.get("skip", 0), limit=given.get("limit", 0), sort=_sort(given.get("sort"))
        )
        found: list[Document] = blocking.run(cursor.to_list())
        think("Found", len(found), "documents")
        return found

    def update_document(
        self, collection_name: str, query: Mapping[str, Any], update_data: Mapping[str, Any], options: Options = None
    ) -> dict[str, Any]:
        """Set fields of all documents that pass, or of the first one (`{"update_one": True}`).

        Returns:
            `updated_count` and `success`.

        Raises:
            NoSQLOperationError: An operator does not exist, or the fields cannot be set.
            ConfigurationError: There is no such option.
        """
        given = _checked(options, ("update_one",))
        collection = self._collection(collection_name)
        change = {"$set": {**update_data, "_updated_at": time.time()}}
        update = collection.update_one if given.get("update_one", False) else collection.update_many
        count = blocking.run(update(query, change)).matched_count
        think("Updated", count, "documents")
        return {"updated_count": count, "success": True}

    def delete_documents(
        self, collection_name: str, query: Mapping[str, Any], options: Options = None
    ) -> dict[str, Any]:
        """Delete all documents that pass, or the first one (`{"delete_one": True}`).

        Returns:
            `deleted_count` and `success`.

        Raises:
            ValidationError: The query is empty.
            NoSQLOperationError: An operator does not exist.
            ConfigurationError: There is no such option.
        """
        given = _checked(options, ("delete_one",))
        if not query:
            raise ValidationError(
                "The query is empty, so every document would be deleted.",
                hint='To delete them all, say so: {"_id": {"$exists": True}}.',
            )
        collection = self._collection(collection_name)
        delete = collection.delete_one if given.get("delete_one", False) else collection.delete_many
        count = blocking.run(delete(query)).deleted_count
        think("Deleted", count, "documents")
        return {"deleted_count": count, "success": True}

    def matches_query(self, document: Mapping[str, Any], query: Mapping[str, Any] | None) -> bool:
        """Whether a document would be found.

        Raises:
            NoSQLOperationError: An operator does not exist.
        """
        return parse_filter(query).matches(checked_document(document))

    def get_collection_stats(self, collection_name: str) -> dict[str, Any]:
        """`name`, `document_count` and `total_documents` (the same number), and how many `indexes` there are."""
        collection = self._collection(collection_name)
        count = blocking.run(collection.count_documents({}))
        indexes = len(_own(blocking.run(collection.index_information())))
        return {"name": collection_name, "document_count": count, "total_documents": count, "indexes": indexes}

    def get_performance_metrics(self) -> dict[str, Any]:
        """Figures of inserts, finds, updates and deletes since it was made. Times in seconds."""
        found = [stats for label, stats in self.database.stats.operations.items() if label.split(" ")[0] in _NAMES]
        total = sum(stats.total for stats in found)
        return {
            "total_operations": total,
            "successful_operations": sum(stats.succeeded for stats in found),
            "failed_operations": sum(_failed(stats) for stats in found),
            "average_operation_time": sum(stats.mean * stats.total for stats in found) / total if total else 0.0,
        }

    def get_query_history(self) -> list[dict[str, Any]]:
        """The last hundred inserts, finds, updates and deletes, oldest first, without their values."""
        return [_entry(entry) for entry in self.database.history if entry.operation in _NAMES]

    def close_connection(self) -> None:
        """Close it. It can be connected again; what is in memory alone is gone."""
        blocking.run(self.database.stop())
        think("NoSQL database connection closed")

    def _collection(self, name: str) -> Collection:
        if not self.database.started:
            raise ConnectError("Not connected to database.", hint="Call connect() first.")
        return self.database[name]


def _checked(options: Options, known: tuple[str, ...]) -> Mapping[str, Any]:
    for name in options or {}:
        if name not in known:
            raise ConfigurationError(
                f"There is no option {name!r} here.",
                hint=f"There are {', '.join(known)}." if known else "Leave it out.",
            )
    return options or {}


def _sort(raw: Any) -> Any:
    if raw is None:
        return None
    orders = {"asc": 1, "desc": -1}
    if not isinstance(raw, Mapping) or not set(raw) <= {"field", "order"} or raw.get("order", "asc") not in orders:
        raise ConfigurationError(
            "The option sort takes a field, and an order.", hint='{"field": "price", "order": "asc"}'
        )
    fields = [(raw.get("field"), orders[raw.get("order", "asc")])]
    parse_sort(fields)
    return fields


def _own(indexes: Mapping[str, Any]) -> dict[str, Any]:
    """The indexes without that of `_id`, which every collection has."""
    return {name: index for name, index in indexes.items() if name != "_id_"}


def _failed(stats: Stats) -> int:
    return stats.failed + stats.cancelled


def _entry(entry: Entry) -> dict[str, Any]:
    name = _NAMES[entry.operation]
    told: dict[str, Any] = {
        "operation": name,
        "collection": entry.target,
        "execution_time": entry.duration,
        "timestamp": entry.at,
        "success": entry.success,
    }
    if not entry.success:
        return told | {"error": entry.error}
    if name in _COUNTS:
        attribute, key = _COUNTS[name]
        told[key] = entry.attributes.get(attribute, 0)
    return told
