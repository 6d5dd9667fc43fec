"""Rows of a REST API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from consona.errors import ConfigurationError, PipelineError
from consona.part import Part
from consona.pipelines.batch import Position, Row
from consona.pipelines.source import Extracted, Room, batched
from consona.pipelines.state import pack_value, unpack_value
from consona.rest.client.api_client import APIClient

__all__ = ["APISource"]


class APISource:
    """The items of a list that an API gives in pages.

    The client brings its authentication, limits, retries and cache.

    Args:
        api: The client, or the address of the API.
        path: The list: `/orders`. With `parent=`, it has the fields of a row of the parent in braces:
            `/orders/{id}/lines`.
        style: How pages are found: `LinkPages()` (the default), `CursorPages`, `PageNumbers`, `OffsetPages`.
        params: Parameters of each call.
        cursor: A field that only grows; the greatest value seen is sent with the next run as `since`.
        since: The parameter that takes it: `updated_since`. Items that come again all the same (most APIs mean
            "from then on") are recognised by `key`.
        key: The field that tells items apart; an item that comes twice (pages shift while they are read) counts once.
        parent: A list whose every item has a list of its own, nested under it. Fields of the parent's item that
            `path` names are added to each row as `parent_<name>`.

    Example:
        >>> APISource("https://api.example.com", "/orders", cursor="updated_at", since="updated_since").incremental
        True
    """

    resumable = False  # pages cannot be found again in the middle

    def __init__(
        self,
        api: APIClient | str,
        path: str,
        *,
        style: Any = None,
        params: Mapping[str, Any] | None = None,
        cursor: str = "",
        since: str = "",
        key: str = "",
        parent: APISource | None = None,
        name: str = "",
    ) -> None:
        if bool(cursor) != bool(since):
            raise ConfigurationError("APISource: cursor= and since= go together.")
        if parent is not None and cursor:
            raise ConfigurationError("APISource: a nested list has no cursor of its own; give the parent one.")
        self.api = APIClient(api) if isinstance(api, str) else api
        self._path = path
        self._style = style
        self._params = dict(params or {})
        self._cursor = cursor
        self._since = since
        self._key = key
        self._parent = parent
        self.name = name or path
        self.incremental: bool = bool(cursor) or (parent is not None and parent.incremental)

    @property
    def parts(self) -> Sequence[Part]:
        return (self.api, *(self._parent.parts if self._parent is not None else ()))

    async def batches(self, position: Position, *, room: Room) -> AsyncGenerator[Extracted]:
        if self._parent is not None:
            async for extracted in self._nested(self._parent, position, room):
                yield extracted
            return
        last = unpack_value(position["cursor"]) if position else None
        seen = set(position["seen"]) if position and self._key else set()
        greatest, with_greatest = last, list(seen)
        params = self._params | ({self._since: last} if last is not None else {})
        given: set[Any] = set()
        async for items in batched(self.api.pages(self._path, style=self._style, params=params), room):
            rows = [row for row in items if self._is_new(row, last, seen, given)]
            for row in rows if self._cursor else ():
                value = row.get(self._cursor)
                if value is not None and (greatest is None or value > greatest):
                    greatest, with_greatest = value, []
                if value == greatest and self._key:
                    with_greatest.append(row.get(self._key))
            yield Extracted(rows, None if greatest is None else {"cursor": pack_value(greatest), "seen": with_greatest})

    def _is_new(self, row: Row, last: Any, seen: set[Any], given: set[Any]) -> bool:
        if not self._key:
            return True
        key = row.get(self._key)
        if key in given or (key in seen and last is not None and row.get(self._cursor) == last):
            return False
        given.add(key)
        return True

    async def _nested(self, parent: APISource, position: Position, room: Room) -> AsyncGenerator[Extracted]:
        async for extracted in parent.batches(position, room=room):
            rows: list[Row] = []
            for one in extracted.rows:
                path = self._path_of(one)
                named = {f"parent_{name}": value for name, value in one.items() if f"{{{name}}}" in self._path}
                async for item in self.api.pages(path, style=self._style, params=self._params):
                    rows.append({**item, **named})
                    if len(rows) >= room.rows:
                        yield Extracted(rows, None)
                        rows = []
            yield Extracted(rows, extracted.position)

    def _path_of(self, parent: Row) -> str:
        """The path of the list under one item; what it has in it leads nowhere else."""
        try:
            return self._path.format_map({name: quote(str(value), safe="") for name, value in parent.items()})
        except KeyError as error:
            raise PipelineError(
                f"The path {self._path} names the field {error.args[0]!r}, and an item of {self.name} has none.",
                hint=f"Its fields: {', '.join(parent)}.",
            ) from error
