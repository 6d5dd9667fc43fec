"""Collections in the process' memory, and what writes do to them, so that each can be undone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal

from consona.documents.document import checked_id
from consona.documents.engine import (
    Alter,
    Check,
    CreateCollection,
    CreateIndex,
    Delete,
    DropCollection,
    DropIndex,
    Event,
    Found,
    Insert,
    Modify,
    Query,
    RenameCollection,
    SetRules,
    Write,
    Written,
)
from consona.documents.errors import ChangesLost, DuplicateKey
from consona.documents.filters import Filter, wanted_id
from consona.documents.indexes import ID_INDEX, Index
from consona.documents.values import MISSING, Document, copied, order
from consona.documents.writing import changed_document, new_document, require_version
from consona.errors import Conflict, NotFound
from consona.storage.changes import Changes

__all__ = ["KEPT_EVENTS", "Kept", "Space", "Work"]

KEPT_EVENTS: Final = 10_000
"""How far a watch can go back."""


class Kept:
    """One collection."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[int, Found] = {}
        """By the order in which they were inserted."""
        self.ids: dict[Any, int] = {}
        self.indexes: dict[str, Index] = {}
        self.unique: dict[str, dict[Any, int]] = {}
        """Of each unique index: key -> whose it is."""
        self.rules: dict[str, Any] | None = None
        self.next_seq = 1

    def copy(self) -> Kept:
        """The same documents, as they are now. (A document that is kept never changes: it is replaced.)"""
        copy = Kept(self.name)
        copy.rows, copy.ids = dict(self.rows), dict(self.ids)
        return copy

    def find(self, query: Filter) -> Iterator[int]:
        """Where the documents are that pass."""
        wanted = wanted_id(query)
        if wanted is not MISSING:
            seq = self.ids.get(order(wanted))
            candidates = [] if seq is None else [seq]
        else:
            candidates = list(self.rows)
        for seq in candidates:
            if query.matches(self.rows[seq].document):
                yield seq

    def build(self, index: Index) -> None:
        keys: dict[Any, int] = {}
        for seq, row in self.rows.items():
            for key in index.keys(row.document) if index.covers(row.document) else ():
                if index.unique and keys.setdefault(key, seq) != seq:
                    raise _duplicate(self.name, index.name)
        self.indexes[index.name] = index
        if index.unique:
            self.unique[index.name] = keys


class Work:
    """One write: what it did so far, so that it can be undone."""

    def __init__(self, kept: Kept, check: Check | None, now: float) -> None:
        self.kept = kept
        self.check = check
        self.now = now
        self.events: list[Event] = []
        self._undo: list[Callable[[], object]] = []

    def do(self, write: Write) -> Written:
        if isinstance(write, Insert):
            if self.check is not None:
                self.check(write.document)
            self.insert(copied(write.document))
            return Written(modified=1)
        found = self._chosen(write)
        if isinstance(write, Delete):
            return self._delete(found, write)
        return self._modify(found, write)

    def undo(self) -> None:
        for step in reversed(self._undo):
            step()

    def _chosen(self, write: Modify | Delete) -> list[int]:
        rows = self.kept.rows
        found = self.kept.find(write.filter)
        if write.many:
            return list(found)
        if not write.sort:
            return [seq for seq, _ in zip(found, range(1), strict=False)]
        boxes = {id(rows[seq].document): seq for seq in found}
        first = write.sort.first((rows[seq].document for seq in boxes.values()), 1)
        return [boxes[id(document)] for document in first]

    def _delete(self, found: list[int], write: Delete) -> Written:
        given = None
        for seq in found:
            require_version(self.kept.rows[seq], write)
            given = self.kept.rows[seq]
            self.remove(seq)
        return Written(matched=len(found), modified=len(found), given=None if write.give == "none" else given)

    def _modify(self, found: list[int], write: Modify) -> Written:
        if not found and write.upsert:
            new = new_document(write, self.check)
            row = self.insert(new)
            given = row if write.give == "after" else None
            return Written(upserted=True, upserted_id=new["_id"], given=given)
        answer = Written(matched=len(found))
        for seq in found:
            before = self.kept.rows[seq]
            require_version(before, write)
            document = changed_document(before.document, write, self.check)
            if document is not None:
                self.replace(seq, document, "update" if write.change.updates else "replace")
                answer.modified += 1
            if write.give != "none":
                answer.given = before if write.give == "before" else self.kept.rows[seq]
        if answer.given is not None:
            answer.given = Found(copied(answer.given.document), answer.given.version)
        return answer

    # The steps that can be undone.

    def insert(self, document: Document) -> Found:
        kept = self.kept
        checked_id(document["_id"])
        key = order(document["_id"])
        if key in kept.ids:
            raise _duplicate(kept.name, ID_INDEX)
        seq = kept.next_seq
        kept.next_seq += 1
        self._index(seq, None, document)
        row = kept.rows[seq] = Found(document, int(self.now * 1e6))
        kept.ids[key] = seq
        self._undo.append(lambda: (kept.rows.pop(seq), kept.ids.pop(key)))
        self._tell("insert", document["_id"], None, document)
        return row

    def replace(self, seq: int, document: Document, kind: Literal["update", "replace"]) -> None:
        kept = self.kept
        before = kept.rows[seq]
        self._index(seq, before.document, document)
        kept.rows[seq] = Found(document, before.version + 1)
        self._undo.append(lambda: kept.rows.__setitem__(seq, before))
        self._tell(kind, document["_id"], before.document, document)

    def remove(self, seq: int) -> None:
        kept = self.kept
        before = kept.rows[seq]
        self._index(seq, before.document, None)
        del kept.rows[seq]
        key = order(before.document["_id"])
        del kept.ids[key]

        def undo() -> None:
            kept.rows[seq] = before
            kept.rows = dict(sorted(kept.rows.items()))
            kept.ids[key] = seq

        self._undo.append(undo)
        self._tell("delete", before.document["_id"], before.document, None)

    def _index(self, seq: int, before: Document | None, after: Document | None) -> None:
        """Replace the keys of a document in the unique indexes."""
        for index in self.kept.indexes.values():
            new = index.keys(after) if after is not None and index.covers(after) else set()
            if not index.unique:
                continue
            owners = self.kept.unique[index.name]
            old = index.keys(before) if before is not None and index.covers(before) else set()
            for key in new:
                if owners.get(key, seq) != seq:
                    raise _duplicate(self.kept.name, index.name)
            for key in old - new:
                del owners[key]
            owners.update(dict.fromkeys(new, seq))
            self._undo.append(partial(_restore, owners, seq, old, new))

    def _tell(
        self,
        kind: Literal["insert", "update", "replace", "delete"],
        key: Any,
        before: Document | None,
        after: Document | None,
    ) -> None:
        self.events.append(
            Event(token="", kind=kind, collection=self.kept.name, key=key, before=before, after=after, at=self.now)
        )


def _restore(owners: dict[Any, int], seq: int, old: set[Any], new: set[Any]) -> None:
    for key in new - old:
        del owners[key]
    owners.update(dict.fromkeys(old, seq))


def _duplicate(collection: str, index: str) -> DuplicateKey:
    return DuplicateKey(
        f"Another document of {collection!r} has this key in the unique index {index!r}.",
        collection=collection,
        index=index,
    )


class Space:
    """What is kept at one address."""

    def __init__(self) -> None:
        self.users = 0
        self.lock = threading.RLock()
        self.collections: dict[str, Kept] = {}
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.last_event = 0
        self.changes = Changes(lambda: self.last_event, shared=False)

    def read(self, collection: str, query: Query) -> Iterator[Document]:
        kept = self.collections.get(collection)
        documents: Iterator[Document] = iter(())
        if kept is not None:
            rows = kept.rows
            documents = (_versioned(rows[seq], query) for seq in kept.find(query.filter))
        end = None if query.limit is None else query.skip + query.limit
        if query.sort and not query.count:
            documents = iter(query.sort.sorted(documents) if end is None else query.sort.first(documents, end))
        documents = (document for at, document in zip(_numbers(end), documents, strict=False) if at >= query.skip)
        if query.count:
            documents = iter([{"n": sum(1 for _ in documents)}])
        return documents if query.finish is None else query.finish(documents, self.read)

    def moment(self, names: set[str]) -> Space:
        """These collections as they are now, to be read while others write."""
        space = Space()
        space.collections = {name: kept.copy() for name, kept in self.collections.items() if name in names}
        return space

    def tell(self, events: list[Event]) -> None:
        for event in events:
            self.last_event += 1
            self.events.append(
                Event(
                    token=str(self.last_event),
                    kind=event.kind,
                    collection=event.collection,
                    key=event.key,
                    before=event.before,
                    after=event.after,
                    at=event.at,
                )
            )

    def place_of(self, token: str) -> int:
        if not token.isdigit() or not self.last_event - len(self.events) <= int(token) <= self.last_event:
            raise ChangesLost("The changes after this token are not known here.")
        return int(token)

    def alter(self, name: str, change: Alter, now: float) -> None:
        kept = self.collections.get(name)
        if isinstance(change, CreateCollection):
            if kept is not None:
                raise Conflict(f"There is a collection {name!r} already.")
            self.collections[name] = Kept(name)
            self.collections[name].rules = change.rules
        elif isinstance(change, DropCollection):
            if self.collections.pop(name, None) is not None:
                self.tell([Event(token="", kind="drop", collection=name, at=now)])
        elif isinstance(change, SetRules):
            self.collections.setdefault(name, Kept(name)).rules = change.rules
        elif isinstance(change, RenameCollection):
            self._rename(name, change, now)
        elif isinstance(change, CreateIndex):
            self.collections.setdefault(name, Kept(name)).build(change.index)
        elif kept is not None:
            self._drop_index(kept, change)

    def _rename(self, name: str, change: RenameCollection, now: float) -> None:
        if change.to in self.collections and not change.replace:
            raise Conflict(f"There is a collection {change.to!r} already.")
        kept = self.collections.pop(name, None)
        if kept is None:
            raise NotFound(f"There is no collection {name!r}.")
        kept.name = change.to
        self.collections[change.to] = kept
        self.tell([Event(token="", kind="rename", collection=name, key=change.to, at=now)])

    def _drop_index(self, kept: Kept, change: DropIndex) -> None:
        for name in list(kept.indexes) if change.name is None else [change.name]:
            kept.indexes.pop(name, None)
            kept.unique.pop(name, None)


def _versioned(row: Found, query: Query) -> Document:
    return {**row.document, "_version": row.version} if query.versions else row.document


def _numbers(end: int | None) -> Iterator[int]:
    """0, 1, 2, … up to the end; ends before it would take one document too many."""
    number = 0
    while end is None or number < end:
        yield number
        number += 1
