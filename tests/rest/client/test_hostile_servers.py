"""Servers that answer what they should not: too much, too early, too late, for ever, or to another question."""

from __future__ import annotations

import asyncio
import gzip

import pytest

import wire
from consona.errors import APIError, ConfigurationError, DeadlineExceeded
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.errors import AnswerTooLarge, BadAnswer, ConnectionLost, TooManyRedirects

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, budget=None))
STOLEN = wire.message(200, b'"of somebody else"')


def client(server, policy=EAGER):
    return APIClient(server.url, policy=policy)


# Answers that nobody asked for.


async def test_a_second_answer_behind_the_first_is_not_taken_for_the_next():
    first = wire.message(200, b"1")
    async with wire.Wire(first + STOLEN, wire.answer(200, b"2")) as server, client(server) as api:
        assert [(await api.get("/")).json(), (await api.post("/", json=0)).json()] == [1, 2]
    assert server.connections == 2


@pytest.mark.parametrize("late", [STOLEN, b"garbage", b"\r\n\r\n", STOLEN[:20]])
async def test_what_comes_on_an_idle_connection_is_not_taken_for_the_next(late):
    sent = asyncio.Event()

    async def first(_seen, _reader, writer):
        writer.write(wire.message(200, b"1"))
        await writer.drain()
        await asked.wait()
        writer.write(late)
        await writer.drain()
        sent.set()

    asked = asyncio.Event()
    async with wire.Wire(first, wire.answer(200, b"2")) as server, client(server) as api:
        assert (await api.get("/")).json() == 1
        asked.set()
        await sent.wait()
        for _ in range(20):  # turns of the loop, in which it is read
            await asyncio.sleep(0.001)
        assert (await api.post("/", json=0)).json() == 2


async def test_a_chunk_behind_the_last_is_not_taken_for_the_next():
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n" + STOLEN
    async with wire.Wire(data, wire.answer(200, b"2")) as server, client(server) as api:
        assert [(await api.get("/")).json(), (await api.post("/", json=0)).json()] == [1, 2]


async def test_a_connection_that_ends_just_when_a_post_is_sent_does_not_send_it_twice():
    async with wire.Wire(wire.answer(), wire.hang_up) as server, client(server) as api:
        await api.get("/")
        with pytest.raises(ConnectionLost) as caught:
            await api.post("/", json=1)
    assert not caught.value.retryable
    assert [seen.method for seen in server.seen] == ["GET", "POST"]
    assert server.connections == 1


# Answers that are none.


@pytest.mark.parametrize("status", ["000", "099", "101"])
async def test_a_status_that_ends_nothing_is_no_success(status):
    data = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    async with wire.Wire(data) as server, client(server) as api:
        with pytest.raises(BadAnswer):
            await api.get("/")
        assert api.stats.failed == 1


async def test_a_transfer_coding_that_was_not_asked_for_is_refused_and_not_given_out_packed():
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    async with wire.Wire(data) as server, client(server) as api:
        with pytest.raises(BadAnswer, match="coding"):
            await api.get("/")


@pytest.mark.parametrize(
    "data",
    [
        b"my-secret-words\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nmy-secret-words\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: my-secret-words\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmy-secret-words\r\n",
        wire.message(204) + b"my-secret-words",
    ],
)
async def test_what_came_is_not_in_the_error_nor_in_the_log(data, caplog):
    async with wire.Wire(data) as server, client(server) as api:
        with pytest.raises(BadAnswer) as caught:
            await api.get("/")
        kept = f"{caught.value} {caught.value.context} {api.history} {caplog.text}"
    assert "secret-words" not in kept
    assert "not HTTP" in str(caught.value) or "cannot be read" in str(caught.value)


async def test_an_answer_that_nests_without_end_is_no_json():
    async with wire.Wire(wire.answer(200, b"[" * 1_000_000)) as server, client(server) as api:
        with pytest.raises(BadAnswer, match="no JSON"):
            (await api.get("/")).json()


# Answers without end.


async def test_a_bomb_is_given_up_at_the_limit():
    bomb = gzip.compress(gzip.compress(b"0" * 50_000_000))
    async with wire.Wire(wire.answer(200, bomb, content_encoding="gzip, gzip")) as server, client(server) as api:
        with pytest.raises(AnswerTooLarge):
            await api.get("/")
    assert len(server.seen) == 1


async def test_a_body_without_end_is_given_up_at_the_limit():
    async def for_ever(_seen, _reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with wire.Wire(for_ever) as server, client(server) as api:
        with pytest.raises(AnswerTooLarge):
            await api.get("/")


@pytest.mark.parametrize(
    "drop", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y"], ids=["interim", "head"]
)
async def test_a_head_that_never_comes_is_given_up_by_the_deadline(drop):
    async def drip(_seen, _reader, writer):
        writer.write(drop)
        while True:
            writer.write(drop if drop.endswith(b"\r\n\r\n") else b"y")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with wire.Wire(drip) as server, client(server, Policy(timeout=0.3)) as api:
        with pytest.raises(DeadlineExceeded):
            await api.get("/")


async def test_redirects_for_ever_end():
    async with wire.Wire(wire.answer(302, location="/again")) as server, client(server) as api:
        with pytest.raises(TooManyRedirects):
            await api.get("/")
    assert len(server.seen) == 11


# Expect: 100-continue.


async def served_by_hand(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_says_continue_gets_the_body_at_once(monkeypatch):
    monkeypatch.setattr("consona.rest.client.aiohttp_transport.CONTINUE_S", 2 * wire.BOUND_S)

    async def go_on(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(wire.message(200, await reader.readexactly(5)))
        writer.close()

    server, url = await served_by_hand(go_on)
    async with server, APIClient(url, policy=EAGER) as api:
        reply = await api.post("/", content=b"words", headers={"Expect": "100-continue"})
    assert reply.content == b"words"


async def test_a_server_that_does_not_say_continue_gets_the_body_all_the_same(monkeypatch):
    monkeypatch.setattr("consona.rest.client.aiohttp_transport.CONTINUE_S", 0.05)
    async with wire.Wire(wire.told(wire.echo)) as server, client(server) as api:
        reply = await api.post("/", content=b"words", headers={"Expect": "100-continue"})
    assert reply.content == b"words"


async def test_a_server_that_refuses_instead_gets_no_body(monkeypatch):
    monkeypatch.setattr("consona.rest.client.aiohttp_transport.CONTINUE_S", 2 * wire.BOUND_S)
    rest = asyncio.get_running_loop().create_future()

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(wire.message(413))
        rest.set_result(await reader.read())  # until the client ends the connection
        writer.close()

    server, url = await served_by_hand(refuse)
    async with server, APIClient(url, policy=EAGER) as api:
        with pytest.raises(APIError) as caught:
            await api.post("/", content=b"words", headers={"Expect": "100-continue"})
        assert caught.value.status == 413
        assert await asyncio.wait_for(rest, wire.BOUND_S) == b""


# What is asked for.


@pytest.mark.parametrize("value", ["Müller", "日本", "a\r\nX-Evil: 1", "\x00"])
async def test_a_header_that_servers_would_read_in_different_ways_is_refused(value):
    async with wire.Wire(wire.answer()) as server, client(server) as api:
        with pytest.raises(ConfigurationError, match="X-Name"):
            await api.get("/", headers={"X-Name": value})

        @api.on_request
        def add(request):
            request.headers = [*request.headers, ("X-Name", value)]

        with pytest.raises(ConfigurationError, match="X-Name"):
            await api.get("/")
    assert server.seen == []


async def test_what_a_header_of_an_answer_holds_beyond_ascii_is_read_as_latin_1():
    data = "HTTP/1.1 200 OK\r\nX-Name: Müller\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    async with wire.Wire(data) as server, client(server) as api:
        assert (await api.get("/")).headers["X-Name"] == "Müller"


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nA: b", "TWO WORDS", "GÄT"])
async def test_a_method_that_is_none_is_refused(method):
    async with wire.Wire(wire.answer()) as server, client(server) as api:
        with pytest.raises(ConfigurationError, match="method"):
            await api.request(method, "/")
    assert server.seen == []


async def test_a_method_in_small_letters_is_the_same_and_as_safe():
    async with wire.Wire(wire.answer(503), wire.answer()) as server, client(server) as api:
        await api.request("get", "/")
    assert [seen.method for seen in server.seen] == ["GET", "GET"]
