"""A client against servers that answer garbage, half a body, nothing, a bomb, or redirects for ever."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

import wire
from consona.errors import APIError, ConnectError, ConsonaError, DeadlineExceeded
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.errors import AnswerTooLarge, BadAnswer, ConnectionLost, TooManyRedirects
from consona.rest.transport import Timeouts

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, budget=None))
SHORT = ClientSettings(timeouts=Timeouts(read=0.05), max_answer_bytes=1_000_000)

BOMB = wire.message(200, gzip.compress(b"\0" * 200_000_000), content_encoding="gzip")
ENDLESS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n"


async def flood(seen, reader, writer):
    writer.write(ENDLESS)
    while True:
        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await writer.drain()


FAULTS = {
    "garbage": (wire.raw_then_close(b"\x00\xff\x13 what?\r\n\r\n"), BadAnswer, 1),
    "half a head": (wire.raw_then_close(b"HTTP/1.1 200 OK\r\nContent-"), ConnectionLost, 3),
    "half a body": (wire.raw_then_close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), ConnectionLost, 3),
    "half a chunk": (wire.raw_then_close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nha"), ConnectionLost, 3),
    "a bad chunk": (wire.raw_then_close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n"), BadAnswer, 1),
    "nothing": (wire.hang_up, ConnectionLost, 3),
    "silence": (wire.silence, DeadlineExceeded, 3),
    "a silent body": (wire.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), DeadlineExceeded, 3),
    "a bomb": (BOMB, AnswerTooLarge, 1),
    "a body without end": (flood, AnswerTooLarge, 1),
    "a body that is too long": (wire.answer(200, b"x" * 1_000_001), AnswerTooLarge, 1),
    "a false coding": (wire.answer(200, b"plain", content_encoding="gzip"), BadAnswer, 1),
    "an unknown coding": (wire.answer(200, b"plain", content_encoding="rot13"), BadAnswer, 1),
    "redirects for ever": (wire.answer(302, b"", location="/again"), TooManyRedirects, 11),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_its_error_and_the_client_lives_on(fault):
    deed, error, requests = FAULTS[fault]
    async with wire.Wire(deed) as server, APIClient(server.url, policy=EAGER, settings=SHORT) as api:
        with pytest.raises(error) as caught:
            await api.get("/")
        assert isinstance(caught.value, ConsonaError)
        assert len(server.seen) == requests
        assert api.stats.failed == len(api.history) == 1
        assert api._transport.gate.busy == 0
        server.deeds = [wire.answer(200, b"1")]
        assert (await api.get("/")).json() == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_fault_makes_a_post_twice(fault):
    deed, _, requests = FAULTS[fault]
    async with wire.Wire(deed) as server, APIClient(server.url, policy=EAGER, settings=SHORT) as api:
        with pytest.raises(ConsonaError) as caught:
            await api.post("/orders", json={})
    assert [seen.method for seen in server.seen].count("POST") == 1
    assert not caught.value.retryable
    assert requests == 11 or len(server.seen) == 1


async def test_a_bomb_costs_little_memory():
    async with wire.Wire(BOMB) as server, APIClient(server.url, settings=SHORT) as api:
        tracemalloc.start()
        with pytest.raises(AnswerTooLarge):
            await api.get("/")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8_000_000


async def test_a_whole_answer_to_half_an_upload_is_an_answer():
    """A server may refuse before it read everything, and say why."""

    async def refuse(seen, reader, writer):
        writer.write(wire.message(413, b'{"title": "Too long"}', connection="close"))

    original = wire.read_request

    async def head_only(reader):
        head = await reader.readuntil(b"\r\n\r\n")
        return wire.Seen(head.split()[0].decode(), "/", {}, b"")

    wire.read_request = head_only
    try:
        async with wire.Wire(refuse) as server, APIClient(server.url, policy=Policy(timeout=wire.BOUND_S)) as api:
            with pytest.raises((APIError, ConnectionLost)) as caught:
                await api.post("/", content=b"x" * 5_000_000)
    finally:
        wire.read_request = original
    # Which of the two it is depends on who is faster: the answer, or the reset that follows unread bytes.
    assert not isinstance(caught.value, ConnectError)
