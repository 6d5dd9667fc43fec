from __future__ import annotations

import asyncio
import zlib

import pytest

import wire
from consona.errors import APIError, DeadlineExceeded
from consona.resilience.deadline import remaining
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.errors import AnswerTooLarge, BadAnswer, ConnectionLost
from consona.rest.transport import Timeouts


def chunked(*parts):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=latin-1\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_stream_gives_out_the_body_as_it_comes():
    go_on = asyncio.Event()

    async def deed(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await go_on.wait()
        writer.write(b"other")

    async with wire.Wire(deed) as server, APIClient(server.url) as api:
        async with api.stream("GET", "/export") as answer:
            assert (answer.status, answer.headers["content-length"]) == (200, "10")
            chunks = answer.chunks()
            assert await anext(chunks) == b"first"
            go_on.set()
            assert [chunk async for chunk in chunks] == [b"other"]
        [entry] = api.history
        assert (entry.success, entry.attributes["bytes"]) == (True, 10)


async def test_a_server_is_not_read_faster_than_the_stream_is_used():
    sent = [0]

    async def deed(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent[0] += 100_000

    async with wire.Wire(deed) as server, APIClient(server.url) as api, api.stream("GET", "/") as answer:
        chunks = answer.chunks()
        await anext(chunks)
        before = -1
        while sent[0] != before:  # until the server can send no more
            before = sent[0]
            await asyncio.sleep(0.05)
        assert sent[0] < 50_000_000
        await chunks.aclose()


async def test_lines_are_cut_wherever_the_pieces_are():
    body = chunked(b"a\r", b"\nb\xfc", b"c\n\nl", b"ast")
    async with wire.Wire(body) as server, APIClient(server.url) as api, api.stream("GET", "/") as answer:
        assert [line async for line in answer.lines()] == ["a", "b\u00fcc", "", "last"]


async def test_a_line_without_end_is_bounded():
    body = chunked(*[b"x" * 65536] * 20)
    async with wire.Wire(body) as server, APIClient(server.url) as api, api.stream("GET", "/") as answer:
        with pytest.raises(AnswerTooLarge):
            _ = [line async for line in answer.lines()]


async def test_a_stream_that_is_left_early_gives_its_connection_up():
    async with wire.Wire(chunked(b"a" * 500_000)) as server, APIClient(server.url) as api:
        async with api.stream("GET", "/"):
            pass
        assert api._transport.gate.busy == 0
        await api.get("/")
    assert server.connections == 2


async def test_a_stream_that_was_read_keeps_its_connection():
    async with wire.Wire(chunked(b"a")) as server, APIClient(server.url) as api:
        for _ in range(2):
            async with api.stream("GET", "/") as answer:
                _ = [chunk async for chunk in answer.chunks()]
    assert server.connections == 1


async def test_a_stream_that_breaks_says_so_and_counts_as_failed():
    half = wire.raw_then_close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    async with wire.Wire(half) as server, APIClient(server.url) as api:
        with pytest.raises(ConnectionLost):
            async with api.stream("GET", "/") as answer:
                _ = [chunk async for chunk in answer.chunks()]
        assert api.stats.failed == 1


async def test_a_stream_of_an_error_is_the_error():
    async with wire.Wire(wire.answer(404, b'{"title": "no"}')) as server, APIClient(server.url) as api:
        with pytest.raises(APIError) as caught:
            async with api.stream("GET", "/"):
                raise AssertionError("not reached")
    assert caught.value.problem == {"title": "no"}


async def test_the_time_of_the_call_ends_with_the_head_and_the_read_time_goes_on():
    settings = ClientSettings(timeouts=Timeouts(read=2.0))

    async def deed(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.4)
            writer.write(b"x")
        await asyncio.sleep(wire.BOUND_S)

    async with wire.Wire(deed) as server, APIClient(server.url, settings=settings) as api:
        got = []

        async def read():
            async with api.stream("GET", "/", timeout=1.0) as answer:
                async for chunk in answer.chunks():
                    got.append(chunk)

        with pytest.raises(DeadlineExceeded):
            await read()
        assert got == [b"x"] * 4


async def drip(seen, reader, writer):
    """A body without end, a little at a time, so that the read time is never over."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def test_a_total_time_ends_a_stream_that_never_stops_dripping():
    async with wire.Wire(drip, wire.answer()) as server, APIClient(server.url) as api:
        got = []
        with pytest.raises(DeadlineExceeded, match=r"Not done within 0\.2 s"):
            async with api.stream("GET", "/", total=0.2) as answer:
                async for chunk in answer.chunks():
                    got.append(chunk)
        assert got
        assert asyncio.current_task().cancelling() == 0
        assert remaining() is None
        assert api._transport.gate.busy == 0
        [entry] = api.history
        assert (entry.outcome, entry.attributes["bytes"]) == ("failed", len(got))
        assert (await api.get("/")).status == 200


async def test_the_total_time_of_a_stream_holds_for_what_its_block_does_and_for_the_head():
    async with wire.Wire(wire.answer(200, b"x" * 100), wire.silence) as server, APIClient(server.url) as api:
        with pytest.raises(DeadlineExceeded):
            async with api.stream("GET", "/", total=0.1):
                assert remaining() <= 0.1
                await asyncio.sleep(wire.BOUND_S)
        with pytest.raises(DeadlineExceeded):
            async with api.stream("GET", "/", total=0.1):
                raise AssertionError("not reached")


async def test_a_stream_that_is_read_in_time_knows_nothing_of_its_total():
    async with wire.Wire(chunked(b"a", b"b")) as server, APIClient(server.url) as api:
        async with api.stream("GET", "/", total=wire.BOUND_S) as answer:
            assert b"".join([chunk async for chunk in answer.chunks()]) == b"ab"
        assert remaining() is None


async def test_a_stream_is_decompressed_in_bounded_pieces():
    packed = zlib.compress(b"x" * 5_000_000)
    async with (
        wire.Wire(wire.answer(200, packed, content_encoding="deflate")) as server,
        APIClient(server.url) as api,
        api.stream("GET", "/") as answer,
    ):
        sizes = [len(chunk) async for chunk in answer.chunks()]
    assert sum(sizes) == 5_000_000
    assert max(sizes) <= 65536


async def test_a_compressed_stream_that_ends_early_is_told():
    packed = zlib.compress(bytes(range(256)) * 100)[:-10]
    async with wire.Wire(wire.answer(200, packed, content_encoding="deflate")) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer, match="ends in the middle"):
            await api.get("/")
