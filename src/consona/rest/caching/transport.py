"""A cache between a client and its transport, after RFC 9111.

    async with APIClient("https://api.example.com", cache=HTTPCache("sqlite:///http-cache.db")) as api: ...

`rules.py` says what may be kept and given out, `cache_store.py` keeps it; this file does it: it answers
from the store, asks the origin whether a kept answer still holds, lets one request stand for many that are
the same, and asks in the background where the origin allows that (`stale-while-revalidate`).

The cache never makes a request fail: a store that does not work is a store that holds nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextvars import Context
from dataclasses import replace
from typing import Final

from consona.errors import ConsonaError
from consona.rest.caching import rules
from consona.rest.caching.answers import CacheAnswer, KeptOnTheWay, Source
from consona.rest.caching.entry import Kept
from consona.rest.caching.fields import Directives, all_values, format_date, parse_directives, value
from consona.rest.caching.requests import (
    as_text,
    authorised,
    conditional,
    joined,
    origin,
    part_of,
    partition,
    passes_by,
    selective,
)
from consona.rest.caching.rules import Head, Use
from consona.rest.caching.store import HTTPCache
from consona.rest.transport import Answer, Request, Transport

__all__ = ["CacheAnswer", "CachingTransport", "HTTPCache"]

WHOLE_BYTES: Final = 256 * 1024
"""An answer up to this long is read and kept before it is given out, so that others who wait can have it."""
NOT_SHARED: Final = 1000
"""Of so many URLs it is remembered that their answers are not for others, so nobody waits for them."""


class CachingTransport:
    """A transport that answers from a cache where it may, and else asks the one that it wraps.

    Args:
        inner: The transport to the origin.
        cache: Where answers are kept; several transports may share one.
        credentials: Further names of headers that say who is asking. `Authorization`, `Cookie` and whatever
            `telemetry.redaction` holds for a secret are known. A private cache keeps the answers of each set of
            credentials apart.
        stop_timeout: Seconds that `close` waits for requests in the background.

    Source: RFC 9111, RFC 5861.
    """

    def __init__(
        self, inner: Transport, cache: HTTPCache, *, credentials: Iterable[str] = (), stop_timeout: float = 5.0
    ) -> None:
        self.inner = inner
        self.cache = cache
        self.credentials = {name.lower() for name in credentials}
        self.stop_timeout = stop_timeout
        self._flights: dict[str, _Flight] = {}
        self._not_shared: OrderedDict[str, None] = OrderedDict()
        self._background: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        await self.inner.open()
        try:
            await self.cache.open()
        except BaseException:
            await self.inner.close()
            raise

    async def close(self) -> None:
        tasks = list(self._background.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.stop_timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        try:
            await self.inner.close()
        finally:
            await self.cache.close()

    async def settled(self) -> None:
        """Wait until nothing is asked in the background any more."""
        while self._background:
            await asyncio.wait(list(self._background.values()))

    async def send(self, request: Request) -> Answer:
        if request.method in {"GET", "HEAD"} and not request.body:
            directives = parse_directives(all_values(request.headers, "cache-control"))
            if not passes_by(request, directives):
                return await self._read(request, directives)
        return await self._pass(request)

    async def kept(self, request: Request, *, instead_of_error: bool = False) -> CacheAnswer | None:
        """What may be given out for the request without asking anybody; None where there is nothing.

        `instead_of_error`: the origin cannot be asked, so what may stand in for an error is allowed too.
        """
        directives = parse_directives(all_values(request.headers, "cache-control"))
        if request.method not in {"GET", "HEAD"} or passes_by(request, directives):
            return None
        key = self._key(request)
        kept = await self.cache.find(key, request.headers)
        if instead_of_error:
            return await self._instead_of_error(request, directives, key, kept)
        return await self._from_store(request, directives, key, kept)

    # Reading: from the store, from somebody else's request, or from the origin.

    async def _read(self, request: Request, directives: Directives) -> Answer:
        cache = self.cache
        key = self._key(request)
        plain = request.method == "GET" and "no-cache" not in directives and not selective(request)
        while True:
            kept = await cache.find(key, request.headers)
            answer = await self._from_store(request, directives, key, kept)
            if answer is not None:
                return answer
            if "only-if-cached" in directives:
                cache.counts.misses += 1
                return CacheAnswer(504, [("Content-Length", "0")], b"", cache="")
            flight = self._flights.get(key)
            if not plain or flight is None or key in self._not_shared:
                break
            cache.counts.waited += 1
            flight.waiting += 1
            try:
                await asyncio.wait({flight.landed})
            finally:
                flight.waiting -= 1
            if not flight.landed.cancelled() and not flight.landed.result():
                break
        if not plain or key in self._flights:
            return await self._fetch(request, directives, key, kept, None)
        flight = self._flights[key] = _Flight()
        try:
            return await self._fetch(request, directives, key, kept, flight)
        except asyncio.CancelledError:
            flight.landed.cancel()  # the next in line takes it up
            raise
        finally:
            del self._flights[key]
            if not flight.landed.done():
                flight.landed.set_result(False)

    async def _from_store(
        self, request: Request, directives: Directives, key: str, kept: Kept | None
    ) -> CacheAnswer | None:
        if kept is None:
            return None
        cache = self.cache
        use = cache.rules.use(kept.head, directives, cache.clock())
        if use is Use.REVALIDATE:
            return None
        stale = cache.rules.is_stale(kept.head, cache.clock())
        answer = await self._given_out(request, key, kept, "stale" if stale else "hit")
        if answer is not None and use is Use.WHILE_REVALIDATING:
            self._revalidate_later(request, key, kept)
        return answer

    async def _given_out(
        self, request: Request, key: str, kept: Kept, source: Source, news: Sequence[tuple[bytes, bytes]] = ()
    ) -> CacheAnswer | None:
        """The kept answer as an answer to this request; None where its body is not to be had, or not so."""
        cache = self.cache
        now = cache.clock()
        headers = [pair for pair in kept.headers if pair[0].lower() != "age"]
        headers.append(("Age", str(int(cache.rules.age(kept.head, now)))))
        if value(headers, "date") is None:
            headers.append(("Date", format_date(kept.response_time)))
        status, body = kept.status, b""
        if conditional(request) and rules.not_modified(request.headers, kept.head):
            status = 304
            headers = [pair for pair in headers if pair[0].lower() not in {"content-length", "content-type"}]
        elif request.method == "GET":
            found = await cache.body(key, kept)
            if found is None:
                return None
            body = found
            wanted = value(request.headers, "range")
            if wanted is not None and status == 200:
                status, headers, body = part_of(wanted, headers, body)
        cache.count(source, len(body))
        return CacheAnswer(status, headers, body, cache=source, http_version=kept.http_version, news=news)

    # The origin.

    async def _fetch(
        self, request: Request, directives: Directives, key: str, kept: Kept | None, flight: _Flight | None
    ) -> Answer:
        """Ask the origin: whether the kept answer still holds, where there is one; else for a new one."""
        cache = self.cache
        conditions = rules.validators(kept.headers) if kept is not None and not conditional(request) else []
        sent = replace(request, headers=[*request.headers, *conditions]) if conditions else request
        asked = cache.clock()
        began = cache.era
        try:
            answer = await self.inner.send(sent)
        except ConsonaError:
            instead = await self._instead_of_error(request, directives, key, kept)
            if instead is None:
                raise
            return instead
        try:
            if kept is not None:
                if answer.status in rules.ERROR_STATUS:
                    instead = await self._instead_of_error(request, directives, key, kept)
                    if instead is not None:
                        await answer.close()
                        return instead
                done = await self._compared(request, key, kept, answer, asked, own=bool(conditions))
                if done is not None:
                    return done
                if conditions and answer.status == 304:
                    # It confirms an answer that is not ours: ask anew, without conditions (RFC 9111, 4.3.4).
                    await answer.close()
                    await cache.drop(key, kept)
                    return await self._fetch(request, directives, key, None, flight)
            cache.counts.misses += 1
            return await self._taken(request, key, kept, answer, asked, began, flight)
        except BaseException:
            await answer.close()
            raise

    async def _compared(
        self, request: Request, key: str, kept: Kept, answer: Answer, asked: float, *, own: bool
    ) -> Answer | None:
        """Bring the kept answer up to date by one without a body; what to give out then, if that is settled."""
        cache = self.cache
        headers = as_text(answer.headers)
        if answer.status == 304 and rules.confirms(headers, kept.headers, asked_for_it=own):
            fresh = await cache.freshen(key, kept, headers, asked)
            if not own:  # the conditions were the caller's, so the 304 is theirs too
                cache.counts.misses += 1
                return answer
            given = await self._given_out(request, key, fresh, "revalidated", answer.headers)
            if given is not None:
                await answer.close()
            return given
        if request.method == "HEAD" and answer.status == 200:
            if rules.head_confirms(headers, kept.headers):
                await cache.freshen(key, kept, headers, asked)
            else:
                await cache.drop(key, kept)
        return None

    async def _instead_of_error(
        self, request: Request, directives: Directives, key: str, kept: Kept | None
    ) -> CacheAnswer | None:
        cache = self.cache
        if kept is None or not cache.rules.may_use_on_error(kept.head, directives, cache.clock()):
            return None
        return await self._given_out(request, key, kept, "stale")

    async def _taken(
        self,
        request: Request,
        key: str,
        kept: Kept | None,
        answer: Answer,
        asked: float,
        began: int,
        flight: _Flight | None,
    ) -> Answer:
        """Keep the answer, if it may be kept, on its way to the caller."""
        cache = self.cache
        headers = as_text(answer.headers)
        head = Head(answer.status, headers, asked, cache.clock())
        if not cache.rules.may_store(
            request.method, request.url, request.headers, head, authorised=authorised(request, self.credentials)
        ):
            if flight is not None:
                self._remember_not_shared(key)
            whole = request.method == "GET" and answer.status not in {206, 304} and answer.status < 500
            if kept is not None and whole and not conditional(request):
                await cache.drop(key, kept)  # what the origin says now is not what we hold
            return answer
        self._not_shared.pop(key, None)
        keeping = KeptOnTheWay(answer, cache, key, request, head, began)
        length = value(headers, "content-length")
        small = length is not None and length.isdecimal() and int(length) <= WHOLE_BYTES
        if small or (flight is not None and flight.waiting and length is None):
            await keeping.read_ahead(WHOLE_BYTES)
        if flight is not None:
            flight.landed.set_result(keeping.kept)
        return keeping

    # What does not read: it passes, and may make kept answers wrong.

    async def _pass(self, request: Request) -> Answer:
        cache = self.cache
        asked = cache.clock()
        answer = await self.inner.send(request)
        if request.method in rules.SAFE:
            return answer
        try:
            if 200 <= answer.status < 400:
                await self._invalidate(request, answer)
            if request.method == "POST":
                key = self._key(request)
                return await self._posted(request, key, answer, asked)
        except BaseException:
            await answer.close()
            raise
        return answer

    async def _invalidate(self, request: Request, answer: Answer) -> None:
        """Forget what the request may have changed (RFC 9111, section 4.4)."""
        headers = as_text(answer.headers)
        touched = {request.url}
        for name in ("location", "content-location"):
            target = value(headers, name)
            if target is not None:
                target = joined(request.url, target)
                if origin(target) == origin(request.url):
                    touched.add(target)
        for url in touched:
            await self.cache.forget(url)

    async def _posted(self, request: Request, key: str, answer: Answer, asked: float) -> Answer:
        headers = [
            (name, joined(request.url, text) if name.lower() == "content-location" else text)
            for name, text in as_text(answer.headers)
        ]
        cache = self.cache
        head = Head(answer.status, headers, asked, cache.clock())
        if not cache.rules.may_store(
            "POST", request.url, request.headers, head, authorised=authorised(request, self.credentials)
        ):
            return answer
        head = replace(head, headers=as_text(answer.headers))
        return KeptOnTheWay(answer, cache, key, request, head, cache.era)

    # In the background.

    def _revalidate_later(self, request: Request, key: str, kept: Kept) -> None:
        if key in self._background:
            return
        # A context of its own: the deadline of the one who asked is not that of who asks in the background.
        task = asyncio.get_running_loop().create_task(self._revalidate(request, key, kept), context=Context())
        self._background[key] = task
        task.add_done_callback(lambda _: self._background.pop(key, None))

    async def _revalidate(self, request: Request, key: str, kept: Kept) -> None:
        self.cache.counts.background += 1
        answer = None
        try:
            answer = await self._fetch(request, {}, key, kept, None)
            while await answer.chunk():
                pass
        except Exception:  # noqa: BLE001 nobody waits for it: the kept answer stands until it is over
            self.cache.counts.background_failed += 1
        finally:
            if answer is not None:
                await answer.close()

    def _key(self, request: Request) -> str:
        who = "" if self.cache.rules.shared else partition(request, self.credentials)
        return self.cache.key(request.url, who)

    def _remember_not_shared(self, key: str) -> None:
        self._not_shared[key] = None
        self._not_shared.move_to_end(key)
        if len(self._not_shared) > NOT_SHARED:
            self._not_shared.popitem(last=False)


class _Flight:
    """A request under way that others with the same one wait for."""

    __slots__ = ("landed", "waiting")

    def __init__(self) -> None:
        self.landed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether its answer lies in the store now."""
        self.waiting = 0
