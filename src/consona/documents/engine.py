"""What a document engine must do. The fronts (`database.py`, `collection.py`, `cursor.py`) do everything else.

    DocumentEngine   open, close, read, write, alter, describe, watch

The front gives filters, updates and sorts that are understood, and documents that are checked. An engine keeps
documents, finds those that a filter lets pass, and changes them, each write all or nothing. Where it cannot ask its
storage, it asks `filter.matches`, `update.apply` and `sort.sorted`, which say what is right: `memory.py` does only
that, and is the reference. What an engine cannot do raises `OperatorError` with the operator's name, never a wrong
answer.

An engine takes an `Address` in its constructor, and opens nothing there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from consona.documents.filters import Filter
from consona.documents.indexes import Index
from consona.documents.pipeline_update import PipelineUpdate
from consona.documents.sorting import Sort
from consona.documents.updates import Replacement, Update
from consona.documents.values import Document
from consona.errors import ConsonaError
from consona.storage.transaction import SharedTransaction

__all__ = [
    "Alter",
    "Check",
    "CollectionFacts",
    "CreateCollection",
    "CreateIndex",
    "Delete",
    "DocumentEngine",
    "DropCollection",
    "DropIndex",
    "Event",
    "Finish",
    "Found",
    "Insert",
    "Modify",
    "Plan",
    "Query",
    "RenameCollection",
    "SetRules",
    "Source",
    "SupportsExplain",
    "SupportsStats",
    "SupportsTransactions",
    "Write",
    "Written",
]


class Found(NamedTuple):
    """A document as it is kept, with the number of its version, which differs after each change."""

    document: Document
    version: int


Source = Callable[[str, "Query"], Iterator[Document]]
"""Reads another collection at the same moment, for `$lookup` and `$unionWith`."""
Finish = Callable[[Iterator[Document], Source], Iterator[Document]]
"""What becomes of the documents that were found: a projection, the stages of a pipeline."""
Check = Callable[[Document], None]
"""Raises where a document breaks a rule of its collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which documents are read, in which order, and what becomes of them."""

    filter: Filter
    sort: Sort = field(default_factory=Sort)
    skip: int = 0
    limit: int | None = None
    hint: str | None = None
    """The name of the index to use; `$natural` for none. None: the engine chooses."""
    count: bool = False
    """Give one document, `{"n": how many there are}`, instead of the documents."""
    versions: bool = False
    """Give each document its version, as the field `_version`."""
    finish: Finish | None = None
    """Applied where the documents are read, on the engine's thread."""
    at_once: bool = False
    """Give everything in one batch, since the caller keeps all of it anyway."""
    joins: frozenset[str] = frozenset()
    """The other collections that `finish` reads."""
    heavy: bool = False
    """`finish` may take long: it is not to be done twice, nor on the event loop."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Keep a new document, which has an `_id`."""

    document: Document


Give = Literal["none", "before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Modify:
    """Change the documents that pass: the first one, or all (`many`)."""

    filter: Filter
    change: Update | PipelineUpdate | Replacement
    many: bool = False
    upsert: bool = False
    sort: Sort = field(default_factory=Sort)
    if_match: int | None = None
    """The version that the document must have; else `DocumentChanged`."""
    give: Give = "none"
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete the documents that pass: the first one, or all (`many`)."""

    filter: Filter
    many: bool = False
    sort: Sort = field(default_factory=Sort)
    if_match: int | None = None
    give: Give = "none"
    hint: str | None = None


Write = Insert | Modify | Delete


@dataclass(slots=True)
class Written:
    """What one write did."""

    matched: int = 0
    modified: int = 0
    """Also the number of those that were deleted or inserted."""
    upserted_id: Any = None
    upserted: bool = False
    given: Found | None = None
    """The document, where the write asked for it."""


@dataclass(frozen=True, slots=True)
class CreateCollection:
    """Make a collection, with rules that each of its documents must pass."""

    rules: dict[str, Any] | None = None
    """A filter as it was given, in plain types."""


@dataclass(frozen=True, slots=True)
class SetRules:
    """Replace the rules; None takes them away."""

    rules: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class RenameCollection:
    to: str
    replace: bool = False
    """Whether a collection of that name is dropped first."""


@dataclass(frozen=True, slots=True)
class DropCollection:
    pass


@dataclass(frozen=True, slots=True)
class CreateIndex:
    index: Index


@dataclass(frozen=True, slots=True)
class DropIndex:
    name: str | None
    """None: all but that of `_id`."""


Alter = CreateCollection | SetRules | RenameCollection | DropCollection | CreateIndex | DropIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionFacts:
    """What is known of a collection without reading its documents."""

    name: str
    documents: int
    """Exact, or the engine's estimate."""
    size_bytes: int | None = None
    indexes: tuple[Index, ...] = ()
    """Without that of `_id`."""
    rules: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change, as `watch` tells it."""

    token: str
    """Where to go on after it."""
    kind: Literal["insert", "update", "replace", "delete", "drop", "rename"]
    collection: str
    key: Any = None
    before: Document | None = None
    after: Document | None = None
    at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a query is answered."""

    stage: Literal["IDHACK", "IXSCAN", "COLLSCAN", "TEXT", "EOF"]
    index: str | None = None
    exact: bool = False
    """Whether the storage answers alone, and no document is looked at again."""
    sorted_by_index: bool = False
    estimated: int | None = None
    """How many documents the engine expected to look at."""
    examined: int | None = None
    """How many it did look at."""
    returned: int | None = None
    """How many passed."""
    detail: tuple[str, ...] = ()
    """The storage's own words."""


class DocumentEngine(Protocol):
    """Keeps the collections of one address. A collection that does not exist is empty, and is made by a write."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def read(
        self, collection: str, query: Query, *, tx: SharedTransaction | None = None
    ) -> AsyncIterator[list[Document]]:
        """The documents, in batches; all of them as they were at one moment. They are the caller's to change."""

    async def write(
        self,
        collection: str,
        writes: Sequence[Write],
        *,
        ordered: bool,
        atomic: bool = False,
        check: Check | None = None,
        tx: SharedTransaction | None = None,
    ) -> list[Written | ConsonaError]:
        """Do the writes in order, each all or nothing, together with no other writer's between them.

        Gives an answer or an error for each; where `ordered`, the list ends with the first error.

        Args:
            collection: Made where it does not exist.
            writes: At least one.
            ordered: Whether the first error ends it.
            atomic: Whether the first error undoes all of them, and is raised.
            check: Asked of each document before it is kept, beside the collection's own rules.
            tx: The open transaction that they belong to.
        """

    async def alter(self, collection: str, change: Alter, *, tx: SharedTransaction | None = None) -> None:
        """Change a collection itself, all or nothing."""

    async def describe(
        self, collection: str | None = None, *, tx: SharedTransaction | None = None
    ) -> list[CollectionFacts]:
        """The collections, by name; or the one of that name, if it exists."""

    def watch(self, collection: str | None, *, after: str | None) -> AsyncIterator[list[Event]]:
        """Every change from now on, or after a token, of one collection or all, whoever makes it, in order.

        The first batch may be empty: it says that the watch has begun.

        Raises:
            ChangesLost: What came after the token is no longer known.
        """


@runtime_checkable
class SupportsTransactions(Protocol):
    """Several writes can happen together: in transactions of the database underneath."""

    def transaction(self, *, name: str, deadline_s: float | None) -> AbstractAsyncContextManager[SharedTransaction]: ...


@runtime_checkable
class SupportsExplain(Protocol):
    """The engine says how it answers."""

    async def explain(self, collection: str, query: Query) -> Plan:
        """Answer the query, and tell how that was done."""


@runtime_checkable
class SupportsStats(Protocol):
    """The engine counts what it does."""

    def stats(self) -> dict[str, Any]: ...
