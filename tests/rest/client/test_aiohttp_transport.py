"""What the transport over the network promises: above all, that `ConnectError` means that nothing was sent."""

from __future__ import annotations

import asyncio
import socket

import pytest

import wire
from consona.errors import BulkheadFull, ConnectError, DeadlineExceeded
from consona.rest.client.aiohttp_transport import AiohttpTransport
from consona.rest.client.connection_settings import ConnectionSettings
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.transport import Request, Timeouts


class Opened:
    def __init__(self, **settings):
        self.transport = AiohttpTransport(ConnectionSettings(**settings))

    async def __aenter__(self):
        await self.transport.open()
        return self.transport

    async def __aexit__(self, *_):
        await self.transport.close()


async def whole(answer):
    body = b""
    while chunk := await answer.chunk():
        body += chunk
    return body


async def test_only_the_given_headers_are_sent_and_the_host():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        await whole(await transport.send(Request("GET", f"{server.url}/a?b=%2F", [("X-A", "1")])))
        await whole(await transport.send(Request("POST", f"{server.url}/", [], b"")))
    assert server.seen[0].target == "/a?b=%2F"
    assert server.seen[0].headers == {"host": f"127.0.0.1:{server.port}", "x-a": "1"}
    assert server.seen[1].headers == {"host": f"127.0.0.1:{server.port}", "content-length": "0"}


async def test_the_url_is_sent_as_it_was_encoded():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        await whole(await transport.send(Request("GET", f"{server.url}/a%2Fb/%7E/c%20d?x=%41+b")))
    assert server.seen[0].target == "/a%2Fb/%7E/c%20d?x=%41+b"


async def test_connections_are_kept_and_used_again():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        for _ in range(3):
            await whole(await transport.send(Request("GET", server.url)))
        assert transport.gate.busy == 0
    assert server.connections == 1


async def test_an_answer_that_asks_for_the_end_of_the_connection_gets_it():
    async with wire.Wire(wire.answer(connection="close")) as server, Opened() as transport:
        for _ in range(2):
            await whole(await transport.send(Request("GET", server.url)))
    assert server.connections == 2


async def test_nobody_listening_is_a_connect_error():
    async with wire.Wire() as server:
        pass
    async with Opened() as transport:
        with pytest.raises(ConnectError, match="could not be reached"):
            await transport.send(Request("GET", server.url))


async def test_an_unknown_name_is_a_connect_error():
    async with Opened() as transport:
        with pytest.raises(ConnectError, match="name"):
            await transport.send(Request("GET", "http://no-such-host.invalid/"))


async def test_a_server_that_takes_no_connection_is_a_connect_error():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):  # until its queue is full, the system accepts in its place
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            async with Opened() as transport:
                request = Request("GET", f"http://127.0.0.1:{port}/", timeouts=Timeouts(connect=0.1))
                with pytest.raises(ConnectError, match=r"within 0\.1 s"):
                    await transport.send(request)
        finally:
            for filler in fillers:
                filler.close()


async def test_no_free_connection_is_told_before_anything_is_sent():
    async with wire.Wire(wire.silence) as server, Opened(connections=1) as transport:
        first = asyncio.create_task(transport.send(Request("GET", server.url)))
        while not server.seen:
            await asyncio.sleep(0.01)
        with pytest.raises(BulkheadFull, match="came free"):
            await transport.send(Request("GET", server.url, timeouts=Timeouts(pool=0.02)))
        first.cancel()
        await asyncio.wait({first})
        assert transport.gate.busy == 0
    assert len(server.seen) == 1


async def test_a_server_that_stops_reading_is_noticed_by_the_write_timeout():
    async with wire.Wire(wire.silence) as server, Opened() as transport:
        original = wire.read_request

        async def never(reader):
            await asyncio.sleep(wire.BOUND_S)

        wire.read_request = never
        try:
            with pytest.raises(DeadlineExceeded) as caught:
                await transport.send(Request("PUT", server.url, [], b"x" * 50_000_000, timeouts=Timeouts(write=0.1)))
        finally:
            wire.read_request = original
    assert caught.value.context["phase"] == "write"


async def test_a_cancelled_send_leaves_no_connection_open():
    async with wire.Wire(wire.silence) as server, Opened() as transport:
        sending = asyncio.create_task(transport.send(Request("GET", server.url)))
        while not server.seen:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.gate.busy == 0
        assert not transport._connector._acquired


async def test_a_connection_that_the_server_closed_while_idle_is_not_used():
    async with wire.Wire(wire.raw_then_close(wire.message())) as server, Opened() as transport:
        for _ in range(3):
            await whole(await transport.send(Request("POST", server.url, [], b"x")))
            await asyncio.sleep(0.01)  # the loop learns of the end
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 200", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", ConnectionLost),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 abc OK\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", BadAnswer),
    ],
)
async def test_what_is_no_head_of_an_answer_is_told(data, error):
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        with pytest.raises(error):
            await transport.send(Request("GET", server.url))
        assert transport.gate.busy == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"Content-Length: 10\r\n\r\nhalf", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", BadAnswer),
    ],
)
async def test_a_body_that_does_not_come_whole_is_told(data, error):
    async with wire.Wire(wire.raw_then_close(b"HTTP/1.1 200 OK\r\n" + data)) as server, Opened() as transport:
        with pytest.raises(error):
            await whole(await transport.send(Request("GET", server.url)))
        assert transport.gate.busy == 0


async def test_what_came_before_the_line_broke_is_given_out():
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        answer = await transport.send(Request("GET", server.url))
        assert await answer.chunk() == b"half"
        with pytest.raises(ConnectionLost):
            await answer.chunk()


async def test_a_body_without_a_length_ends_with_the_connection():
    data = b"HTTP/1.0 200 OK\r\n\r\nall of it"
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        answer = await transport.send(Request("GET", server.url))
        assert (answer.http_version, await whole(answer)) == ("1.0", b"all of it")


async def test_interim_answers_are_passed_over():
    data = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + wire.message(200, b"final")
    async with wire.Wire(data) as server, Opened() as transport:
        assert await whole(await transport.send(Request("GET", server.url))) == b"final"
