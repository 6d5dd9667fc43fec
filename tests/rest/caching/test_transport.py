"""What the cache promises beyond the public cases: for a client, for its users, and when things break."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import apsw
import pytest

from consona.errors import APIError, CircuitOpen, ConfigurationError, ConnectError
from consona.resilience import Breaker, Policy
from consona.rest.caching.transport import CachingTransport, HTTPCache
from consona.rest.client.aiohttp_transport import AiohttpTransport
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import APIKey, Bearer
from consona.rest.transport import Request
from http_origin import Asked, Origin, Said

MINUTE = [("Cache-Control", "max-age=60")]


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def url(request, tmp_path):
    return "memory://cache-tests" if request.param == "memory" else f"sqlite:///{tmp_path}/cache.db"


@asynccontextmanager
async def caching(cache: HTTPCache, **options):
    transport = CachingTransport(AiohttpTransport(), cache, **options)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def read(transport, url: str, method: str = "GET", **headers: str):
    answer = await transport.send(Request(method, url, [(k.replace("_", "-"), v) for k, v in headers.items()]))
    body = b""
    while piece := await answer.chunk():
        body += piece
    await answer.close()
    return answer, body


def numbered(headers=MINUTE, **more):
    """An origin whose bodies count its answers."""
    count = 0

    def answer(asked: Asked) -> Said:
        nonlocal count
        count += 1
        return Said(200, list(headers), f"answer {count}".encode(), **more)

    return answer


# For the client.


async def test_a_client_is_told_what_came_from_the_cache(url, clock):
    async with Origin(numbered()) as origin, APIClient(origin.url, cache=HTTPCache(url, clock=clock)) as api:
        first, second = await api.get("/a"), await api.get("/a")
        assert (first.from_cache, first.cache, first.attempts) == (False, "", 1)
        assert (second.from_cache, second.cache, second.attempts) == (True, "hit", 0)
        assert second.text == first.text == "answer 1"
        assert api.history[-1].attributes["cache"] == "hit"
        counts = api.stats.detail["cache"]
        assert (counts["hits"], counts["misses"], counts["stored"], counts["bytes_served"]) == (1, 1, 1, 8)
        assert counts["entries"] == 1
        assert counts["bytes"] > 8


async def test_a_long_body_comes_back_whole(url):
    body = os.urandom(2_500_000)
    async with Origin(lambda _: Said(200, MINUTE, body)) as origin, caching(HTTPCache(url)) as transport:
        await read(transport, origin.url)
        answer, again = await read(transport, origin.url)
        assert answer.from_cache
        assert again == body


async def test_a_streamed_answer_is_kept_when_it_was_read_to_its_end(url):
    async def pieces():
        for number in range(3):
            yield b"%d" % number

    said = lambda _: Said(200, MINUTE, pieces=pieces())
    async with Origin(said) as origin, APIClient(origin.url, cache=HTTPCache(url)) as api:
        async with api.stream("GET", "/left"):
            pass
        assert not (await api.get("/left")).from_cache
        async with api.stream("GET", "/read") as answer:
            assert [piece async for piece in answer.chunks()]
        again = await api.get("/read")
        assert (again.from_cache, again.text) == (True, "012")


async def test_half_a_body_is_not_kept(url):
    async with (
        Origin(lambda _: Said(200, MINUTE, b"x" * 100, cut=True)) as origin,
        caching(HTTPCache(url)) as transport,
    ):
        for _ in range(2):
            with pytest.raises(Exception, match="ended"):
                await read(transport, origin.url)
        assert len(origin.asked) == 2
        assert transport.cache.counts.stored == 0


async def test_old_cookies_of_a_kept_answer_are_not_taken_again(clock):
    sessions = iter(["one", "two"])

    def answer(asked: Asked) -> Said:
        if asked.target == "/login":
            return Said(200, [("Set-Cookie", f"sid={next(sessions)}")])
        return Said(200, [*MINUTE, ("Set-Cookie", "seen=1; Max-Age=5")], b"page")

    async with Origin(answer) as origin, APIClient(origin.url, cache=HTTPCache("memory://cookies", clock=clock)) as api:
        await api.get("/page")
        api.cookies.clear()
        assert (await api.get("/page")).from_cache
        assert len(api.cookies) == 0


async def test_what_is_kept_is_there_while_the_circuit_is_open(clock):
    failing = False

    def answer(asked: Asked) -> Said:
        return Said(503) if failing else Said(200, [("Cache-Control", "max-age=60, stale-if-error=600")], b"kept")

    policy = Policy(breaker=Breaker(failure_rate=0.1, min_calls=2, open_for=60))
    cache = HTTPCache("memory://circuit", clock=clock)
    async with Origin(answer) as origin, APIClient(origin.url, policy=policy, cache=cache) as api:
        await api.get("/a")
        failing = True
        with pytest.raises(APIError):
            await api.get("/b")
        with pytest.raises(CircuitOpen):
            await api.get("/b")
        assert (await api.get("/a")).cache == "hit"
        clock.now += 100
        assert (await api.get("/a")).cache == "stale"


# For its users: nobody gets what is another's.


@pytest.mark.parametrize("auth", [Bearer, lambda token: APIKey(token, header="X-Shop")])
async def test_answers_are_kept_apart_by_credentials(url, auth):
    def answer(asked: Asked) -> Said:
        who = asked.header("Authorization") or asked.header("X-Shop")
        return Said(200, MINUTE, f"for {who}".encode())

    cache = HTTPCache(url)
    async with (
        Origin(answer) as origin,
        APIClient(origin.url, auth=auth("ada"), cache=cache) as ada,
        APIClient(origin.url, auth=auth("bob"), cache=cache) as bob,
        APIClient(origin.url, cache=cache) as nobody,
    ):
        assert "ada" in (await ada.get("/me")).text
        assert "bob" in (await bob.get("/me")).text
        assert "None" in (await nobody.get("/me")).text
        again = await ada.get("/me")
        assert again.from_cache
        assert "ada" in again.text


async def test_a_token_given_by_a_function_keeps_them_apart_too():
    token = "ada"
    answer = lambda asked: Said(200, MINUTE, asked.header("Authorization").encode())
    async with Origin(answer) as origin, APIClient(origin.url, auth=Bearer(lambda: token), cache="memory://f") as api:
        assert (await api.get("/me")).text == "Bearer ada"
        token = "bob"
        assert (await api.get("/me")).text == "Bearer bob"


async def test_a_shared_cache_does_not_keep_what_a_key_opened():
    async with Origin(numbered()) as origin, caching(HTTPCache("memory://keys", shared=True)) as transport:
        await read(transport, origin.url, X_API_Key="secret")
        answer, _ = await read(transport, origin.url)
        assert not getattr(answer, "from_cache", False)


async def test_keys_tell_neither_url_nor_credentials(tmp_path):
    path = tmp_path / "cache.db"
    async with (
        Origin(lambda _: Said(200, MINUTE, b"x")) as origin,
        caching(HTTPCache(f"sqlite:///{path}")) as transport,
    ):
        await read(transport, f"{origin.url}/reset?token=hush-hush", Authorization="Bearer top-secret")
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"hush-hush" not in content
    assert b"top-secret" not in content
    assert b"max-age=60" in content


# Ranges.


async def test_a_range_beyond_the_kept_body_is_refused_as_the_origin_would():
    async with (
        Origin(lambda _: Said(200, MINUTE, b"0123456789")) as origin,
        caching(HTTPCache("memory://r")) as transport,
    ):
        await read(transport, origin.url)
        answer, body = await read(transport, origin.url, Range="bytes=10-")
        assert (answer.status, body) == (416, b"")
        assert (b"Content-Range", b"bytes */10") in answer.headers
        answer, body = await read(transport, origin.url, Range="bytes=8-99")
        assert (answer.status, body) == (206, b"89")


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "bytes=5-2", "lines=1-2", "bytes=-"])
async def test_a_range_that_is_not_one_is_for_the_origin(wanted):
    async with (
        Origin(lambda _: Said(200, MINUTE, b"0123456789")) as origin,
        caching(HTTPCache("memory://r")) as transport,
    ):
        await read(transport, origin.url)
        await read(transport, origin.url, Range=wanted)
        assert origin.asked[-1].header("Range") == wanted
        assert (await read(transport, origin.url))[0].cache == "hit"


# Several that share a store.


async def test_what_one_forgets_is_gone_for_all(url):
    async with (
        Origin(numbered()) as origin,
        caching(HTTPCache(url)) as one,
        caching(HTTPCache(url)) as other,
    ):
        await read(one, origin.url)
        assert (await read(other, origin.url))[0].cache == "hit"
        await read(one, origin.url, method="DELETE")
        assert (await read(other, origin.url))[1] == b"answer 3"


async def test_what_others_write_counts_against_the_bound(url):
    async with Origin(lambda _: Said(200, MINUTE, b"x" * 5_000)) as origin:
        caches = [HTTPCache(url, max_bytes=100_000) for _ in range(2)]
        async with caching(caches[0]) as one, caching(caches[1]) as other:
            for number in range(40):
                await read(one if number % 2 else other, f"{origin.url}/{number}")
            held = [item async for item in caches[0].store.scan()]
            # Each may pass the bound by an eighth, and by the entry that it is writing.
            assert sum(len(item.value) for item in held) <= 100_000 + 2 * (100_000 // 8 + 6_000)


# Many at once.


async def test_one_request_stands_for_many(url):
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        started.set()
        await go_on.wait()
        return Said(200, MINUTE, b"shared")

    async with Origin(answer) as origin, caching(HTTPCache(url)) as transport:
        calls = [asyncio.create_task(read(transport, origin.url)) for _ in range(20)]
        await asyncio.wait_for(started.wait(), 5)
        while transport.cache.counts.waited < 19:
            await asyncio.sleep(0)
        go_on.set()
        assert {body for _, body in await asyncio.gather(*calls)} == {b"shared"}
        assert len(origin.asked) == 1


async def test_nobody_waits_for_an_answer_that_is_not_shared():
    seen = 0
    all_there = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        nonlocal seen
        seen += 1
        if seen == 1:
            return Said(200, [("Cache-Control", "no-store")], b"mine")
        if seen == 6:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 5)  # only if the five come at once
        return Said(200, [("Cache-Control", "no-store")], b"mine")

    async with Origin(answer) as origin, caching(HTTPCache("memory://mine")) as transport:
        await read(transport, origin.url)
        await asyncio.gather(*(read(transport, origin.url) for _ in range(5)))
        assert len(origin.asked) == 6


async def test_when_the_one_who_asks_is_cancelled_the_next_in_line_asks(url):
    started = asyncio.Queue()
    go_on = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        started.put_nowait(None)
        await go_on.wait()
        return Said(200, MINUTE, b"shared")

    async with Origin(answer) as origin, caching(HTTPCache(url)) as transport:
        leader = asyncio.create_task(read(transport, origin.url))
        await asyncio.wait_for(started.get(), 5)
        waiting = [asyncio.create_task(read(transport, origin.url)) for _ in range(3)]
        while transport.cache.counts.waited < 3:
            await asyncio.sleep(0)
        leader.cancel()
        await asyncio.wait_for(started.get(), 5)
        go_on.set()
        assert {body for _, body in await asyncio.gather(*waiting)} == {b"shared"}
        assert len(origin.asked) == 2


async def test_an_answer_asked_for_before_a_change_is_not_kept_after_it():
    reading = asyncio.Event()
    go_on = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        if asked.method == "POST":
            return Said(204)
        if len(origin.asked) == 1:
            reading.set()
            await go_on.wait()
            return Said(200, MINUTE, b"before")
        return Said(200, MINUTE, b"after")

    async with Origin(answer) as origin, caching(HTTPCache("memory://race")) as transport:
        early = asyncio.create_task(read(transport, origin.url))
        await asyncio.wait_for(reading.wait(), 5)
        await read(transport, origin.url, method="POST")
        go_on.set()
        await early
        assert (await read(transport, origin.url))[1] == b"after"


# In the background.


async def test_a_background_request_brings_the_new_answer(url, clock):
    origin_of = numbered([("Cache-Control", "max-age=1, stale-while-revalidate=60")])
    async with Origin(origin_of) as origin, caching(HTTPCache(url, clock=clock)) as transport:
        await read(transport, origin.url)
        clock.now += 5
        answers = [await read(transport, origin.url)]
        await transport.settled()
        answers.append(await read(transport, origin.url))
        assert [(answer.cache, body) for answer, body in answers] == [("stale", b"answer 1"), ("hit", b"answer 2")]


async def test_closing_ends_a_background_request_that_takes_too_long(clock):
    asked_again = asyncio.Event()

    async def answer(asked: Asked) -> Said:
        if len(origin.asked) > 1:
            asked_again.set()
            await asyncio.Event().wait()
        return Said(200, [("Cache-Control", "max-age=1, stale-while-revalidate=60")], b"x")

    async with Origin(answer) as origin:
        async with caching(HTTPCache("memory://slow", clock=clock), stop_timeout=0.01) as transport:
            await read(transport, origin.url)
            clock.now += 5
            await read(transport, origin.url)
            await asyncio.wait_for(asked_again.wait(), 5)
        assert not transport._background


async def test_a_background_request_that_fails_is_counted(clock):
    said = lambda _: Said(200, [("Cache-Control", "max-age=1, stale-while-revalidate=60")], b"x")
    async with Origin(said) as origin, caching(HTTPCache("memory://fails", clock=clock)) as transport:
        await read(transport, origin.url)
        clock.now += 5
        origin.answer = lambda _: Said(hang_up=True)
        assert (await read(transport, origin.url))[0].cache == "stale"
        await transport.settled()
        assert transport.cache.counts.background_failed == 1


# The bound.


async def test_the_bound_holds_and_the_least_used_go_first(url):
    body = b"x" * 20_000
    cache = HTTPCache(url, max_bytes=100_000)
    async with Origin(lambda _: Said(200, MINUTE, body)) as origin, caching(cache) as transport:
        for number in range(4):
            await read(transport, f"{origin.url}/{number}")
        await read(transport, f"{origin.url}/0")  # used again, so younger than 1
        for number in range(4, 6):
            await read(transport, f"{origin.url}/{number}")
        assert cache.detail()["bytes"] <= 100_000
        assert cache.counts.evicted >= 2
        assert (await read(transport, f"{origin.url}/0"))[0].__class__.__name__ == "CacheAnswer"
        assert not getattr((await read(transport, f"{origin.url}/1"))[0], "from_cache", False)
        held = [item async for item in cache.store.scan()]
        assert sum(len(item.value) for item in held) <= 100_000


async def test_a_body_that_is_too_long_is_not_kept(url):
    cache = HTTPCache(url, max_bytes=100_000, max_entry_bytes=10)
    async with Origin(lambda _: Said(200, MINUTE, b"x" * 11)) as origin, caching(cache) as transport:
        await read(transport, origin.url)
        await read(transport, origin.url)
        assert len(origin.asked) == 2


async def test_what_a_file_holds_counts_after_a_restart(tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"
    async with Origin(lambda _: Said(200, MINUTE, b"x" * 5_000)) as origin:
        async with caching(HTTPCache(url)) as transport:
            for number in range(5):
                await read(transport, f"{origin.url}/{number}")
        cache = HTTPCache(url, max_bytes=20_000)
        async with caching(cache) as transport:
            assert cache.detail()["entries"] == 3  # with their headers, three have room
            await read(transport, f"{origin.url}/new")
            assert cache.detail()["bytes"] <= 20_000
            assert (await read(transport, f"{origin.url}/new"))[0].from_cache


# When the store breaks.


async def test_a_damaged_record_is_a_miss(tmp_path):
    path = tmp_path / "cache.db"
    url = f"sqlite:///{path}"
    async with Origin(numbered()) as origin:
        async with caching(HTTPCache(url)) as transport:
            await read(transport, origin.url)
        with apsw.Connection(str(path)) as db:
            db.execute("UPDATE consona_store SET value = x'0193ff' WHERE value IS NOT NULL")
        db.close()
        async with caching(HTTPCache(url)) as transport:
            assert (await read(transport, origin.url))[1] == b"answer 2"
            assert transport.cache.counts.corrupt == 1
            assert (await read(transport, origin.url))[0].from_cache


@pytest.mark.parametrize("length", [100, 100_000])
async def test_a_damaged_body_is_a_miss(tmp_path, length):
    path = tmp_path / "cache.db"
    url = f"sqlite:///{path}"
    body = b"a" * length
    async with Origin(lambda _: Said(200, [*MINUTE, ("ETag", '"1"')], body)) as origin:
        async with caching(HTTPCache(url)) as transport:
            await read(transport, origin.url)
        with apsw.Connection(str(path)) as db:
            for key, value in db.execute("SELECT key, value FROM consona_store WHERE value IS NOT NULL").fetchall():
                db.execute("UPDATE consona_store SET value = ? WHERE key = ?", (value.replace(b"aaaa", b"aaba"), key))
        db.close()
        async with caching(HTTPCache(url)) as transport:
            answer, found = await read(transport, origin.url)
            assert not getattr(answer, "from_cache", False)
            assert found == body
            assert transport.cache.counts.corrupt == 1


async def test_a_record_of_another_version_is_a_miss(tmp_path):
    path = tmp_path / "cache.db"
    async with Origin(numbered()) as origin:
        async with caching(HTTPCache(f"sqlite:///{path}")) as transport:
            await read(transport, origin.url)
        with apsw.Connection(str(path)) as db:
            [(value,)] = db.execute("SELECT value FROM consona_store WHERE value IS NOT NULL").fetchall()
            db.execute("UPDATE consona_store SET value = ? WHERE value IS NOT NULL", (b"\x02" + value[1:],))
        db.close()
        async with caching(HTTPCache(f"sqlite:///{path}")) as transport:
            assert (await read(transport, origin.url))[1] == b"answer 2"


async def test_a_store_that_fails_fails_no_request(tmp_path, clock):
    path = tmp_path / "cache.db"
    cache = HTTPCache(f"sqlite:///{path}?busy=0.05", clock=clock)
    async with Origin(numbered()) as origin, caching(cache) as transport:
        holder = apsw.Connection(str(path))
        holder.execute("BEGIN IMMEDIATE")
        assert (await read(transport, origin.url))[1] == b"answer 1"
        assert cache.counts.store_failures == 1
        assert (await read(transport, origin.url))[1] == b"answer 2"  # it is left alone, and not waited for
        assert cache.counts.store_failures == 1
        holder.execute("ROLLBACK")
        holder.close()
        clock.now += 10
        await read(transport, origin.url)
        assert (await read(transport, origin.url))[0].from_cache


async def test_a_file_that_is_no_database_fails_no_request(tmp_path):
    path = tmp_path / "cache.db"
    path.write_bytes(b"this is no database at all" * 1000)
    cache = HTTPCache(f"sqlite:///{path}")
    async with Origin(numbered()) as origin, caching(cache) as transport:
        assert (await read(transport, origin.url))[1] == b"answer 1"
        assert cache.counts.store_failures >= 1


async def test_what_could_not_be_forgotten_is_not_given_out(tmp_path, clock):
    path = tmp_path / "cache.db"
    cache = HTTPCache(f"sqlite:///{path}?busy=0.05", clock=clock)
    async with Origin(numbered()) as origin, caching(cache) as transport:
        await read(transport, origin.url)
        holder = apsw.Connection(str(path))
        holder.execute("BEGIN IMMEDIATE")
        await read(transport, origin.url, method="DELETE")
        holder.execute("ROLLBACK")
        holder.close()
        clock.now += 10
        assert (await read(transport, origin.url))[1] == b"answer 3"


async def test_an_address_that_is_none_is_told_at_once():
    with pytest.raises(ConfigurationError, match="nothing://"):
        HTTPCache("nothing://here")
    with pytest.raises(ConfigurationError, match="max_bytes"):
        HTTPCache(max_bytes=0)


async def test_an_error_goes_through_where_nothing_may_stand_in(clock):
    async with Origin(numbered()) as origin, caching(HTTPCache("memory://error", clock=clock)) as transport:
        await read(transport, origin.url)
        url = origin.url
    async with caching(HTTPCache("memory://error", clock=clock)) as transport:
        with pytest.raises(ConnectError):
            await read(transport, url)
