"""What every transport promises, against real servers: HTTP/1.1, HTTP/2, HTTP/1.1 where HTTP/2 was offered, in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple
from urllib.parse import parse_qs

import pytest

import certificates
from consona.errors import ConnectError, DeadlineExceeded
from consona.rest.client.aiohttp_transport import AiohttpTransport
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from consona.rest.client.errors import ConnectionLost
from consona.rest.client.http2_transport import HTTP2Transport
from consona.rest.transport import Request, Timeouts
from relay import Relay
from served import BOUND_S, served, served_with_tls

PIECE = b"x" * 65536
MANY = 500
"""So many pieces (32 MB) fit into no buffer on the way."""


class Site:
    """The application behind each of the servers."""

    def __init__(self) -> None:
        self.arrived, self.left, self.go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.requests = self.sent = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": f"{message['type']}.complete"})
            return
        self.requests += 1
        self.arrived.set()
        await getattr(self, scope["path"].split("/")[1] or "echo")(scope, receive, send)

    async def echo(self, scope, receive, send):
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        await answer(send, 200, b"".join(parts), [(b"x-kind", b"a"), (b"x-kind", b"b")])

    async def seen(self, scope, receive, send):
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        seen = {"method": scope["method"], "path": scope["raw_path"].decode(), "query": scope["query_string"].decode()}
        await answer(send, 200, json.dumps(seen | {"headers": headers}).encode())

    async def status(self, scope, receive, send):
        await answer(send, int(scope["path"].rpartition("/")[2]), b"", [(b"etag", b'"1"')])

    async def duplex(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})

    async def flood(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(MANY):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body", "body": b""})

    async def silent(self, scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()

    async def begun(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self.silent(scope, receive, send)

    async def broken(self, scope, receive, send):
        length = parse_qs(scope["query_string"].decode()).get("length")
        headers = [(b"content-length", length[0].encode())] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("as the test wants it")

    async def unread(self, scope, receive, send):
        await self.go_on.wait()
        await self.echo(scope, receive, send)


async def answer(send, status, body, headers=()):
    length = [] if status in {204, 304} else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


async def over_http1(site, stack):
    return AiohttpTransport(), await relayed(served(site), stack)


async def over_http2(site, stack):
    return HTTP2Transport(OURS), await relayed(served_with_tls(site), stack)


async def over_http1_by_agreement(site, stack):
    return HTTP2Transport(OURS), await relayed(served_with_tls(site, alpn=["http/1.1"]), stack)


async def in_process(site, stack):
    return ASGITransport(site), Address("http://testserver", lambda: site.sent * len(PIECE))


class Address(NamedTuple):
    url: str
    came: Callable[[], int]
    """How many bytes the server could get rid of. (hypercorn's own buffer has no limit, so they are counted
    on the line.)"""


async def relayed(server, stack):
    url, _, port = (await stack.enter_async_context(server)).rpartition(":")
    relay = await stack.enter_async_context(Relay(int(port)))
    return Address(f"{url}:{relay.port}", lambda: relay.down)


OURS = ConnectionSettings(tls=TLS(ca=certificates.ca_file()))
WAYS = {
    "http/1.1": (over_http1, "1.1"),
    "http/2": (over_http2, "2"),
    "http/1.1 by agreement": (over_http1_by_agreement, "1.1"),
    "asgi": (in_process, "1.1"),
}


@pytest.fixture(params=WAYS)
async def way(request):
    return WAYS[request.param]


@pytest.fixture
async def site():
    return Site()


@pytest.fixture
async def transport(way, site):
    async with AsyncExitStack() as stack:
        transport, address = await way[0](site, stack)
        await transport.open()
        transport.url, transport.came = address
        yield transport
        site.go_on.set()
        await transport.close()


def ask(transport, path="/echo", method="GET", headers=(), body=None, **timeouts):
    return transport.send(Request(method, transport.url + path, headers, body, Timeouts(**timeouts)))


async def whole(answer):
    parts = []
    while chunk := await answer.chunk():
        parts.append(chunk)
    return b"".join(parts)


async def soon(event):
    async with asyncio.timeout(BOUND_S):
        await event.wait()


async def pieces(*parts):
    for part in parts:
        yield part


# What is sent, and what comes back.


async def test_the_answer_says_over_which_http_it_came(transport, way):
    answer = await ask(transport, method="POST", body=b"hello")
    assert (answer.status, answer.http_version) == (200, way[1])
    assert await whole(answer) == b"hello"
    assert await answer.chunk() == b""


async def test_the_request_arrives_as_it_was_given_with_a_host_and_nothing_else(transport, way):
    headers = [("X-Shop", '7; a="b"'), ("Accept", "*/*")]
    seen = json.loads(await whole(await ask(transport, "/seen/a%2Fb/%C3%A4?x=%41+b&y", "GET", headers)))
    host = transport.url.partition("://")[2]
    assert (seen["method"], seen["path"], seen["query"]) == ("GET", "/seen/a%2Fb/%C3%A4", "x=%41+b&y")
    assert seen["headers"] == {"host": host, "x-shop": '7; a="b"', "accept": "*/*"}


async def test_a_host_of_the_callers_own_is_kept(transport):
    seen = json.loads(await whole(await ask(transport, "/seen", headers=[("Host", "shop.example")])))
    assert seen["headers"]["host"] == "shop.example"


async def test_bytes_are_framed_by_their_length(transport):
    seen = json.loads(await whole(await ask(transport, "/seen", "PUT", body=b"12345")))
    assert seen["headers"]["content-length"] == "5"
    seen = json.loads(await whole(await ask(transport, "/seen", "POST", body=b"")))
    assert seen["headers"]["content-length"] == "0"


async def test_a_length_that_was_given_frames_a_stream(transport):
    answer = await ask(transport, "/seen", "PUT", [("Content-Length", "6")], pieces(b"abc", b"", b"def"))
    seen = json.loads(await whole(answer))
    assert seen["headers"]["content-length"] == "6"
    assert "transfer-encoding" not in seen["headers"]


async def test_a_stream_arrives_whole(transport):
    answer = await ask(transport, method="POST", body=pieces(b"abc", b"", b"d" * 200_000, b"e"))
    assert await whole(answer) == b"abc" + b"d" * 200_000 + b"e"


async def test_headers_of_one_name_are_all_there_in_order(transport):
    answer = await ask(transport)
    assert [value for name, value in answer.headers if name.lower() == b"x-kind"] == [b"a", b"b"]
    assert not any(name.startswith(b":") for name, _ in answer.headers)


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/echo"), ("GET", "/status/204"), ("GET", "/status/304")])
async def test_an_answer_without_a_body_has_none_and_the_next_request_goes_on(transport, method, path):
    answer = await ask(transport, path, method)
    assert answer.status in {200, 204, 304}
    assert await whole(answer) == b""
    assert await whole(await ask(transport, method="POST", body=b"next")) == b"next"


async def test_many_requests_run_at_once(transport):
    bodies = [bytes([number]) * (number * 1000 + 1) for number in range(100)]
    answers = await asyncio.gather(*(ask(transport, method="POST", body=body) for body in bodies))
    assert [await whole(answer) for answer in answers] == bodies


async def test_large_bodies_go_both_ways(transport):
    body = PIECE * 100
    assert await whole(await ask(transport, method="POST", body=body)) == body


# Streaming.


async def test_bodies_stream_both_ways_at_the_same_time(transport):
    said, heard = asyncio.Queue(), []

    async def talk():
        while (word := await said.get()) is not None:
            yield word

    said.put_nowait(b"one")
    answer = await ask(transport, "/duplex", "POST", body=talk())
    for word in (b"two", b"three"):
        heard.append(await answer.chunk())  # each word comes back before the next is said
        said.put_nowait(word)
    heard.append(await answer.chunk())
    said.put_nowait(None)
    assert heard == [b"one", b"two", b"three"]
    assert await whole(answer) == b""


async def test_a_server_is_not_read_faster_than_the_answer_is(transport, site):
    answer = await ask(transport, "/flood")
    first = await answer.chunk()
    while (came := transport.came()) == 0 or await later(transport.came) != came:
        pass
    assert came < len(PIECE) * MANY / 2  # it waits for us
    assert len(first) + len(await whole(answer)) == len(PIECE) * MANY


async def test_an_answer_that_nobody_reads_holds_up_no_other(transport):
    unread = [await ask(transport, "/flood") for _ in range(5)]
    assert await whole(await ask(transport, method="POST", body=b"next")) == b"next"
    for answer in unread:
        await answer.close()


async def test_a_body_is_not_taken_faster_than_the_server_reads(transport, site):
    taken = 0

    async def body():
        nonlocal taken
        for _ in range(MANY):
            yield PIECE
            taken += 1

    sending = asyncio.create_task(ask(transport, "/unread", "POST", body=body()))
    await soon(site.arrived)
    while await later(lambda: taken) != (before := taken):
        pass
    assert before < MANY
    site.go_on.set()
    answer = await sending
    assert len(await whole(answer)) == len(PIECE) * MANY


async def later(value):
    """What it is once everybody has had their turns."""
    await asyncio.sleep(0.1)
    return value()


# Times.


async def test_a_silent_server_is_given_up_by_the_read_time(transport, site):
    with pytest.raises(DeadlineExceeded) as caught:
        await ask(transport, "/silent", read=0.1)
    assert caught.value.context["phase"] == "read"
    await soon(site.left)


async def test_a_silent_body_is_given_up_by_the_read_time(transport):
    answer = await ask(transport, "/begun", read=0.2)
    assert await answer.chunk() == b"begun"
    with pytest.raises(DeadlineExceeded) as caught:
        await answer.chunk()
    assert caught.value.context["phase"] == "read"


async def test_a_long_upload_costs_nothing_of_the_read_time(transport):
    async def slowly():
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield b"x"

    assert await whole(await ask(transport, method="POST", body=slowly(), read=0.3)) == b"xxxx"


# Ends.


async def test_who_is_cancelled_leaves_and_the_others_go_on(transport, site):
    other = asyncio.create_task(ask(transport, "/unread", "POST", body=b"other"))
    sending = asyncio.create_task(ask(transport, "/silent"))
    await soon(site.arrived)
    while site.requests < 2:
        await asyncio.sleep(0.01)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await soon(site.left)
    site.go_on.set()
    assert await whole(await other) == b"other"


async def test_an_answer_that_is_closed_early_ends_for_the_server_too(transport, site):
    answer = await ask(transport, "/begun")
    assert await answer.chunk() == b"begun"
    await answer.close()
    await answer.close()
    await soon(site.left)
    assert await whole(await ask(transport, method="POST", body=b"next")) == b"next"


@pytest.mark.parametrize("query", ["", "?length=9"])
async def test_an_answer_that_breaks_is_lost_after_what_came_of_it(transport, query):
    answer = await ask(transport, "/broken" + query)
    assert await answer.chunk() == b"half"
    with pytest.raises(ConnectionLost):
        await whole(answer)
    await answer.close()
    assert await whole(await ask(transport, method="POST", body=b"next")) == b"next"


async def test_a_body_that_fails_is_raised_as_it_is_and_the_server_sees_no_whole_request(transport, site):
    async def failing():
        yield b"half"
        await site.arrived.wait()
        raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        await ask(transport, "/silent", "POST", body=failing())
    await soon(site.left)


async def test_a_transport_that_is_not_open_says_so_before_anything_is_sent(transport, site):
    await transport.close()
    with pytest.raises(ConnectError):
        await ask(transport)
    assert site.requests == 0
    await transport.open()
    assert await whole(await ask(transport, method="POST", body=b"again")) == b"again"


async def test_closing_ends_what_is_under_way(transport, site):
    sending = asyncio.create_task(ask(transport, "/silent"))
    await soon(site.arrived)
    if isinstance(transport, ASGITransport):
        transport.stop_timeout = 0.1
    async with asyncio.timeout(BOUND_S):
        await transport.close()
        with pytest.raises(ConnectionLost):
            await sending
    await transport.open()
