"""The dashboard: an ASGI application that shows what the processes of a system reported to `ops.db`.

    uvicorn --factory consona.ops.dashboard:create        # CONSONA_OPS=sqlite:///ops.db names the file
    Dashboard("sqlite:///ops.db")                         # the application, to serve or to mount

`/ops` is the overview, `/ops/parts/{service}/{part}` one part, `/ops/traces/{id}` one trace, and
`/ops/stream` what a page in a browser follows. All of it only reads, and answers this machine alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

import msgspec

from consona.address import Address
from consona.errors import ConfigurationError, ConsonaError, NotStarted
from consona.ops import queries, words
from consona.ops.guarded import HEADERS, LOOPBACK, refusal
from consona.ops.pages import OUTCOMES, STATIC, Filter, Pages, PartPage
from consona.ops.records import SLOW, STATEMENTS
from consona.ops.store import OpsStore
from consona.ops.views import Overview, minute_start, operations, overview, statements, steps
from consona.part import Part

__all__ = ["Dashboard", "create"]

log = logging.getLogger("consona.ops")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_STREAMS: Final = 32
STREAM_S: Final = 60.0
"""A stream ends after so long, and the browser begins the next: a server that drains need not wait longer."""
MAX_QUERY: Final = 2000


def create(url: str | None = None) -> Dashboard:
    """The dashboard of the system whose `ops.db` is at `url`, or at what the environment's `CONSONA_OPS` says.

    Raises:
        ConfigurationError: Neither says where it is.
    """
    url = url or os.environ.get("CONSONA_OPS")
    if not url:
        raise ConfigurationError(
            "The dashboard does not know which system to show.",
            hint="Set CONSONA_OPS to the address that the services report to, for example sqlite:///ops.db.",
        )
    return Dashboard(url)


class Dashboard(Part):
    """Shows a system in a browser; an ASGI 3 application.

    Args:
        url: The address of the system's `ops.db`, as its processes have it.
        hosts: The names under which it answers (without port); others are refused, see `ops/guarded.py`.
        remote: Answer other machines too. It has no accounts yet, so put something before it that has.
        interval: Seconds between two live updates.

    Example:
        >>> Dashboard("sqlite:///ops.db").started
        False
    """

    kind = "ops.dashboard"

    def __init__(
        self,
        url: str | Address,
        *,
        hosts: Collection[str] = LOOPBACK,
        remote: bool = False,
        interval: float = 2.0,
        name: str = "dashboard",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name)
        self.address = Address.parse(url)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._remote = remote
        self._interval = interval
        self._clock = clock
        self._pages = Pages()
        self._store: OpsStore | None = None
        self._streams = 0
        self._stopping = asyncio.Event()

    async def _open(self) -> None:
        self._stopping = asyncio.Event()
        self._store = await OpsStore.open(self.address, clock=self._clock)

    async def _close(self) -> None:
        self._stopping.set()
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def begin_drain(self) -> None:
        """End the streams of live updates, so that nobody waits for them; pages are still served."""
        self._stopping.set()

    # ASGI.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            raise RuntimeError(f"The dashboard does not speak {scope['type']}.")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        started = False
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                    started = True
                except ConsonaError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if started:
                    await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        root = quote(scope.get("root_path", "").rstrip("/"))
        why = refusal(scope, hosts=self._hosts, remote=self._remote)
        if why:
            await _answer(send, 403, why.encode(), "text/plain; charset=utf-8")
            return
        if scope["method"] not in {"GET", "HEAD"}:
            text = b"The dashboard only shows: GET and HEAD."
            await _answer(send, 405, text, "text/plain; charset=utf-8", ((b"allow", b"GET, HEAD"),))
            return
        segments = _segments(scope, root)
        if segments[:2] == ["ops", "static"] and len(segments) == 3 and segments[2] in STATIC:
            await self._static(scope, send, segments[2])
        elif segments == ["ops", "stream"]:
            await self._stream(scope, receive, send, root)
        elif segments in ([], [""]):
            await _answer(send, 307, b"", "text/plain", ((b"location", f"{root}/ops".encode()),))
        else:
            await self._page(scope, send, root, segments)

    async def _static(self, scope: Scope, send: Send, name: str) -> None:
        static = STATIC[name]
        tag = f'"{static.tag}"'.encode()
        headers = ((b"etag", tag), (b"cache-control", b"public, max-age=3600"))
        if any(field == b"if-none-match" and tag in value for field, value in scope["headers"]):
            await _answer(send, 304, b"", static.type, headers)
        else:
            await _answer(send, 200, static.body, static.type, headers)

    # Pages.

    async def _page(self, scope: Scope, send: Send, root: str, segments: list[str]) -> None:
        pattern = "/".join(segments[:2])
        with self.observer.operation(
            "show", pattern if pattern in {"ops", "ops/parts", "ops/traces"} else "(other)"
        ) as op:
            try:
                status, html = await self._html(root, segments, _query(scope))
            except NotStarted:
                raise
            except ConsonaError as error:  # the file is locked, damaged, gone: the page says so
                log.warning("the dashboard cannot read %s: %s", self.address, error)
                op.fail(error.code)
                status, html = 503, self._pages.message(root, "The observations cannot be read now", str(error))
            op.set(status=status)
        await _answer(send, status, html.encode(), "text/html; charset=utf-8", ((b"cache-control", b"no-store"),))

    async def _html(self, root: str, segments: list[str], query: dict[str, str]) -> tuple[int, str]:
        match segments:
            case ["ops"] | ["ops", ""]:
                wanted = _filter(query)
                return 200, self._pages.overview(root, *await self._read_overview(wanted), wanted)
            case ["ops", "parts", service, name]:
                found = await self._read_part(service, name, query.get("kind", ""))
                if found is not None:
                    return 200, self._pages.part(root, found)
                text = f"No process of {service} has reported a part named {name} in the last hour."
                return 404, self._pages.message(root, "No such part", text)
            case ["ops", "traces", trace_id]:
                spans = await self._opened().read(lambda connection: queries.trace(connection, trace_id))
                if spans:
                    return 200, self._pages.trace(root, trace_id, spans, self._clock())
                text = "Nothing of this trace is kept: the number is wrong, it was not sampled, or it is too old."
                return 404, self._pages.message(root, "No such trace", text)
            case _:
                return 404, self._pages.message(root, "No such page", "The dashboard has no page at this address.")

    async def _read_overview(self, wanted: Filter) -> tuple[Overview, list[Any], list[Any]]:
        now = self._clock()
        service, name = _unkeyed(wanted.part)

        def read(connection: Any) -> tuple[Overview, list[Any], list[Any]]:
            shown = _read_system(connection, now)
            kinds = {part.kind for part in shown.entrance}
            kind = "rest.server" if kinds == {"rest.server"} else None
            traffic = queries.points(connection, since=shown.window.since(now), kind=kind)
            last = queries.entries(connection, service=service, part=name, outcome=wanted.outcome)
            return shown, steps(traffic, until=now, window=shown.window), last

        return await self._opened().read(read)

    async def _read_part(self, service: str, name: str, kind: str) -> PartPage | None:
        now = self._clock()

        def read(connection: Any) -> PartPage | None:
            shown = _read_system(connection, now)
            part = shown.part(service, name, kind)
            if part is None:
                return None
            mine = {p.record.id for s in shown.services if s.name == service for p in s.processes}
            points = queries.points(connection, since=shown.window.since(now), part=name, kind=part.kind)
            series = queries.series(connection, part=name, kind=part.kind)
            finer = queries.series(connection, part=name, kind=part.kind + STATEMENTS)
            return PartPage(
                shown,
                part,
                steps([p for p in points if p.process in mine], until=now, window=shown.window),
                operations(series, mine),
                queries.entries(connection, service=service, part=name, kind=part.kind),
                statements(finer, mine),
                queries.entries(connection, service=service, part=name, kind=part.kind + SLOW, limit=20),
            )

        return await self._opened().read(read)

    def _opened(self) -> OpsStore:
        self._require_started()
        assert self._store is not None
        return self._store

    # Live updates.

    async def _stream(self, scope: Scope, receive: Receive, send: Send, root: str) -> None:
        if self._streams >= MAX_STREAMS:
            text = f"{MAX_STREAMS} pages follow the dashboard already; this one stays static."
            await _answer(send, 503, text.encode(), "text/plain; charset=utf-8", ((b"retry-after", b"30"),))
            return
        self._streams += 1
        gone = asyncio.create_task(_disconnected(receive), name="dashboard: has the page gone")
        try:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *HEADERS]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._follow(send, root, _query(scope), gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams -= 1
            gone.cancel()

    async def _follow(self, send: Send, root: str, query: dict[str, str], gone: asyncio.Task[None]) -> None:
        before: dict[str, str] = {}
        stopping = asyncio.create_task(self._stopping.wait(), name="dashboard: is it stopping")
        end = asyncio.get_running_loop().time() + STREAM_S
        try:
            while not gone.done() and not stopping.done() and asyncio.get_running_loop().time() < end:
                regions = await self._fresh_regions(root, query)
                changed = {name: html for name, html in regions.items() if before.get(name) != html}
                before = regions or before
                await send({"type": "http.response.body", "body": self._event(changed), "more_body": True})
                await asyncio.wait({gone, stopping}, timeout=self._interval, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _fresh_regions(self, root: str, query: dict[str, str]) -> dict[str, str]:
        service, name = _unkeyed(query.get("page", ""))
        try:
            if name:
                found = await self._read_part(service, name, query.get("kind", ""))
                return self._pages.part_regions(root, found) if found is not None else {}
            wanted = _filter(query)
            return self._pages.overview_regions(root, *await self._read_overview(wanted), wanted)
        except ConsonaError as error:
            log.warning("the dashboard cannot read %s: %s", self.address, error)
            return {}  # the page keeps what it has; the next update tries again

    def _event(self, regions: dict[str, str]) -> bytes:
        if not regions:
            return b": nothing new\n\n"
        now = self._clock()
        data = {"time": words.clock_time(now), "datetime": words.iso_time(now), "regions": regions}
        return b"retry: 1000\nevent: update\ndata: " + msgspec.json.encode(data) + b"\n\n"


def _read_system(connection: Any, now: float) -> Overview:
    return overview(
        queries.processes(connection),
        queries.parts(connection),
        queries.points(connection, since=minute_start(now)),
        now=now,
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, body: bytes, kind: str, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _segments(scope: Scope, root: str) -> list[str]:
    """The parts of the path below the mount point, decoded one by one: names may hold a slash."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return [unquote(segment) for segment in path.removeprefix("/").split("/")]


def _query(scope: Scope) -> dict[str, str]:
    text = scope.get("query_string", b"")[:MAX_QUERY].decode("latin-1")
    return {name: values[-1] for name, values in parse_qs(text, max_num_fields=20).items()}


def _filter(query: dict[str, str]) -> Filter:
    outcome = query.get("outcome", "")
    part = query.get("part", "")
    return Filter(part if "/" in part else "", outcome if outcome in OUTCOMES else "")


def _unkeyed(key: str) -> tuple[str, str]:
    service, _, name = key.partition("/")
    return unquote(service), unquote(name)
