"""A callback sees a body go up, or come down."""

from __future__ import annotations

import zlib

import pytest

import wire
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))


class Seen(list):
    def __call__(self, done, total):
        self.append((done, total))


async def test_an_upload_is_counted_as_it_goes():
    seen = Seen()
    async with wire.Wire(wire.answer(200, b"[1, 2, 3]")) as server, APIClient(server.url) as api:
        await api.post("/", content=b"x" * 150_000, progress=seen)
    assert seen == [(0, 150_000), (65536, 150_000), (131072, 150_000), (150_000, 150_000)]
    assert server.seen[0].headers["content-length"] == "150000"


async def test_a_total_that_nobody_knows_is_none():
    seen = Seen()

    async def pieces():
        yield b"ab"
        yield b"c"

    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.post("/", content=pieces, progress=seen)
        assert seen == [(0, None), (2, None), (3, None)]
        seen.clear()
        await api.post("/", content=pieces, headers={"Content-Length": "3"}, progress=seen)
    assert seen == [(0, 3), (2, 3), (3, 3)]
    assert server.seen[1].headers["content-length"] == "3"


async def test_an_answer_is_counted_as_it_comes_before_it_is_unpacked():
    seen = Seen()
    packed = zlib.compress(b"x" * 1_000_000)
    async with wire.Wire(wire.answer(200, packed, content_encoding="deflate")) as server, APIClient(server.url) as api:
        reply = await api.get("/", progress=seen)
    assert len(reply.content) == 1_000_000
    assert (seen[0], seen[-1]) == ((0, len(packed)), (len(packed), len(packed)))


async def test_a_stream_tells_of_its_answer_whatever_goes_up():
    seen = Seen()
    async with (
        wire.Wire(wire.answer(200, b"x" * 100_000)) as server,
        APIClient(server.url) as api,
        api.stream("POST", "/", json={"query": 1}, progress=seen) as answer,
    ):
        assert seen == [(0, 100_000)]
        assert sum([len(piece) async for piece in answer.chunks()]) == 100_000
    assert seen[-1] == (100_000, 100_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


async def test_a_try_that_is_repeated_counts_from_zero():
    seen = Seen()
    async with wire.Wire(wire.answer(503), wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        await api.put("/", content=b"abc", progress=seen)
    assert seen == [(0, 3), (3, 3), (0, 3), (3, 3)]


async def test_the_answer_of_a_redirect_or_an_error_is_not_counted():
    seen = Seen()
    moved = wire.answer(302, b"moved", location="/there")
    deeds = (moved, wire.answer(503, b"later"), wire.answer(200, b"here"))
    async with wire.Wire(*deeds) as server, APIClient(server.url, policy=EAGER) as api:
        await api.get("/", progress=seen)
    assert seen == [(0, 4), (4, 4)]


async def test_what_the_callback_raises_ends_the_call():
    def enough(done, total):
        raise LookupError("enough")

    async with wire.Wire(wire.answer(200, b"x" * 10)) as server, APIClient(server.url) as api:
        for call in (api.get("/", progress=enough), api.post("/", content=b"x", progress=enough)):
            with pytest.raises(LookupError):
                await call
        assert api._transport.gate.busy == 0
