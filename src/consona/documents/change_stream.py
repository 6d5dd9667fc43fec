"""Watching what changes: `async for change in products.watch(): ...`.

Each change is a document as MongoDB's change streams give it. Its `_id` is the resume token: kept, and given as
`resume_after=`, it lets a watch go on exactly where another stopped, also in another process or after a restart.

Source: https://www.mongodb.com/docs/manual/reference/change-events/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from consona.documents.engine import Event
from consona.documents.errors import ChangesLost, OperatorError
from consona.documents.values import MISSING, Document, identical

if TYPE_CHECKING:  # databases make streams, so the import can only go one way
    from consona.documents.database import DocumentDatabase

__all__ = ["ChangeStream", "change_document"]

FullDocument = Literal["default", "updateLookup", "whenAvailable", "required"]
_FULL = ("default", "updateLookup", "whenAvailable", "required")


class ChangeStream:
    """Made by `collection.watch()` and `database.watch()`. Iterate over it; leave it with `break` or `close()`.

    Awaiting it gives itself once it has begun: what changes from then on is told.
    """

    def __init__(
        self,
        database: DocumentDatabase,
        collection: str | None,
        *,
        after: Any = None,
        full_document: FullDocument = "default",
        before: bool = False,
        keep: Callable[[Document], bool] | None = None,
    ) -> None:
        if full_document not in _FULL:
            raise OperatorError(f"full_document is one of {', '.join(_FULL)}, not {full_document!r}.")
        self._database = database
        self._collection = collection
        self._after = _token(after)
        self._whole = full_document != "default"
        self._before = before
        self._keep = keep
        self._events: AsyncIterator[list[Event]] | None = None
        self._waiting: Iterator[Event] = iter(())
        self._closed = False

    @property
    def resume_token(self) -> Document | None:
        """Where to go on after the last change that was given; None before the first."""
        return None if self._after is None else {"_data": self._after}

    @property
    def alive(self) -> bool:
        """Whether it goes on."""
        return not self._closed

    async def next(self) -> Document:
        """The next change; waits for it."""
        return await anext(self)

    async def try_next(self) -> Document | None:
        """The next change that is known already, or None."""
        await self._begin()
        return self._next_known()

    async def close(self) -> None:
        """Watch no further."""
        self._closed = True
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]  # engines write it as a generator

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        await self._begin()
        while True:
            change = self._next_known()
            if change is not None:
                return change
            assert self._events is not None
            try:
                batch = await anext(self._events)
            except StopAsyncIteration:
                self._closed = True
                raise
            with self._database.observer.operation("watch", self._collection or "") as op:
                op.set(changes=len(batch))
            self._waiting = iter(batch)

    async def _begin(self) -> None:
        if self._closed:
            raise StopAsyncIteration
        if self._events is None:
            self._events = aiter(self._database._engine().watch(self._collection, after=self._after))
            self._waiting = iter(await anext(self._events))

    def _next_known(self) -> Document | None:
        for event in self._waiting:
            self._after = event.token
            change = change_document(self._database.name, event, whole=self._whole, before=self._before)
            if self._keep is None or self._keep(change):
                return change
        return None


def _token(after: Any) -> str | None:
    if after is None:
        return None
    token = after.get("_data") if isinstance(after, Mapping) else None
    if not isinstance(token, str):
        raise ChangesLost("A resume token is the `_id` of a change.", hint="Keep stream.resume_token.")
    return token


def change_document(database: str, event: Event, *, whole: bool, before: bool) -> Document:
    """A change as MongoDB tells it."""
    change: Document = {
        "_id": {"_data": event.token},
        "operationType": event.kind,
        "wallTime": datetime.fromtimestamp(int(event.at * 1000) / 1000, UTC),
        "ns": {"db": database, "coll": event.collection},
    }
    if event.kind == "rename":
        change["to"] = {"db": database, "coll": event.key}
    elif event.kind != "drop":
        change["documentKey"] = {"_id": event.key}
    if event.kind in {"insert", "replace"} or (event.kind == "update" and whole):
        change["fullDocument"] = event.after
    if event.kind == "update":
        change["updateDescription"] = _description(event.before or {}, event.after or {})
    if before and event.before is not None:
        change["fullDocumentBeforeChange"] = event.before
    return change


def _description(before: Document, after: Document) -> Document:
    updated: Document = {}
    removed: list[str] = []
    _compare(before, after, "", updated, removed)
    return {"updatedFields": updated, "removedFields": removed, "truncatedArrays": []}


def _compare(before: Document, after: Document, path: str, updated: Document, removed: list[str]) -> None:
    for name, value in after.items():
        old = before.get(name, MISSING)
        if identical(old, value):
            continue
        if type(old) is dict and type(value) is dict:
            _compare(old, value, f"{path}{name}.", updated, removed)
        else:
            updated[path + name] = value
    removed.extend(path + name for name in before if name not in after)
