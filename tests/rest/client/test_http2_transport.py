"""HTTP/2 in its own ways: shared connections, refusals, GOAWAY, windows, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

import certificates
import wire
from consona.errors import BulkheadFull, ConnectError, DeadlineExceeded, MissingExtra
from consona.resilience import Policy, Retry
from consona.rest.client import http2_connection
from consona.rest.client.api_client import APIClient
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.client.http2_transport import HTTP2Transport
from consona.rest.transport import Request, Timeouts
from http2_wire import HTTP2Wire, answered, refused, silent
from relay import Relay

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, budget=None))
OURS = TLS(ca=certificates.ca_file())


class Opened:
    def __init__(self, **settings):
        self.transport = HTTP2Transport(ConnectionSettings(tls=OURS, **settings))

    async def __aenter__(self):
        await self.transport.open()
        return self.transport

    async def __aexit__(self, *_):
        await self.transport.close()


def client(server, **options):
    return APIClient(server.url, connections=ConnectionSettings(http2=True, tls=OURS), policy=EAGER, **options)


def get(server, path="/", **timeouts):
    return Request("GET", server.url + path, timeouts=Timeouts(**timeouts))


def post(server, body=b"x", **timeouts):
    return Request("POST", server.url + "/", [], body, Timeouts(**timeouts))


async def whole(answer):
    body = b""
    while chunk := await answer.chunk():
        body += chunk
    return body


async def until(holds):
    async with asyncio.timeout(wire.BOUND_S):
        while not holds():
            await asyncio.sleep(0.01)


# Connections.


async def test_all_requests_share_one_connection():
    async with HTTP2Wire(answered(b"ok")) as server, Opened() as transport:
        answers = await asyncio.gather(*(transport.send(get(server)) for _ in range(30)))
        assert [await whole(answer) for answer in answers] == [b"ok"] * 30
        assert await whole(await transport.send(get(server))) == b"ok"
        assert len(server.connections) == 1
        assert transport.gate.busy == 0


async def test_no_more_run_at_once_than_the_server_allows():
    async def slow(asked):
        await asyncio.sleep(0.02)
        await answered()(asked)

    async with HTTP2Wire(slow, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 3}) as server, Opened() as transport:
        await asyncio.gather(*(transport.send(get(server)) for _ in range(20)))
    assert 1 < server.most_at_once <= 3


async def test_who_finds_no_place_is_told_before_anything_is_sent():
    async with HTTP2Wire(silent, settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1}) as server, Opened() as transport:
        first = asyncio.create_task(transport.send(get(server)))
        await until(lambda: server.seen)
        with pytest.raises(BulkheadFull, match="place for an exchange"):
            await transport.send(get(server, pool=0.05))
        first.cancel()
        await asyncio.wait({first})
    assert len(server.seen) == 1


async def test_a_connection_takes_one_place_however_many_run_on_it():
    async with HTTP2Wire(silent) as server, HTTP2Wire(answered()) as other, Opened(connections=1) as transport:
        sending = [asyncio.create_task(transport.send(get(server))) for _ in range(5)]
        await until(lambda: len(server.seen) == 5)
        assert transport.gate.busy == 1
        with pytest.raises(BulkheadFull):
            await transport.send(get(other, pool=0.05))
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)
        assert (await transport.send(get(other))).status == 200


async def test_a_server_without_http2_gets_http1_and_is_asked_once():
    async with HTTP2Wire(alpn=("http/1.1",)) as server, Opened() as transport:
        for _ in range(3):
            answer = await transport.send(get(server))
            assert (answer.http_version, await whole(answer)) == ("1.1", b"by HTTP/1.1")


async def test_without_tls_it_is_http1():
    async with wire.Wire(wire.answer(200, b"plain")) as server, Opened() as transport:
        answer = await transport.send(get(server))
        assert (answer.http_version, await whole(answer)) == ("1.1", b"plain")


async def test_an_idle_connection_is_closed_with_a_word():
    async with HTTP2Wire(answered()) as server, Opened(keep_alive=0.05) as transport:
        await whole(await transport.send(get(server)))
        await until(lambda: server.connections[0].goaway)
        assert server.connections[0].goaway.error_code == ErrorCodes.NO_ERROR
        await whole(await transport.send(get(server)))
        assert len(server.connections) == 2


async def test_all_who_wait_for_a_server_that_is_not_there_are_told_of_their_own_request():
    async with HTTP2Wire() as gone:
        pass
    async with Opened() as transport:
        errors = await asyncio.gather(
            *(transport.send(get(gone, f"/{number}")) for number in range(5)), return_exceptions=True
        )
    assert all(isinstance(error, ConnectError) and f"/{number}:" in str(error) for number, error in enumerate(errors))


async def test_who_waits_for_a_connection_goes_on_when_its_maker_is_cancelled():
    async with HTTP2Wire(answered(b"ok")) as server, Opened() as transport:
        maker = asyncio.create_task(transport.send(get(server)))
        waiter = asyncio.create_task(transport.send(get(server)))
        await asyncio.sleep(0)
        maker.cancel()
        assert await whole(await waiter) == b"ok"


async def test_no_header_of_the_connection_is_sent():
    headers = [("Connection", "keep-alive"), ("TE", "gzip"), ("Upgrade", "x"), ("Transfer-Encoding", "chunked")]
    async with HTTP2Wire(answered()) as server, Opened() as transport:
        await transport.send(Request("GET", f"{server.url}/a?b=1", [*headers, ("X-A", "1"), ("Host", "shop.example")]))
    assert server.seen[0].headers == {
        ":method": "GET",
        ":authority": "shop.example",
        ":scheme": "https",
        ":path": "/a?b=1",
        "x-a": "1",
    }


async def test_the_missing_package_is_named_at_start(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("consona.rest.client.http2_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(MissingExtra, match=r"consona\[http2\]"):
        await APIClient("https://localhost", connections=ConnectionSettings(http2=True)).start()


# What the server did not take is sent again, and nothing else is.


async def test_a_refused_request_is_known_to_be_unsent_and_is_sent_again_whatever_it_is():
    async with HTTP2Wire(refused, answered()) as server, client(server) as api:
        assert (await api.post("/orders", json={})).attempts == 2
    async with HTTP2Wire(refused) as server, Opened() as transport:
        with pytest.raises(ConnectError, match="REFUSED_STREAM") as caught:
            await transport.send(post(server))
        assert caught.value.retryable


async def test_a_goaway_divides_what_goes_on_from_what_is_sent_elsewhere():
    go_on = asyncio.Event()

    async def taken(asked):
        await go_on.wait()
        asked.head()
        asked.data(b"taken", end=True)

    async def leaving(asked):
        asked.connection.go_away(last_stream_id=asked.id - 2)

    async with HTTP2Wire(taken, leaving, answered(b"elsewhere")) as server, client(server) as api:
        first = asyncio.create_task(api.post("/first", json=1))
        await until(lambda: server.seen)
        second = await api.post("/second", json=2)
        assert (second.content, second.attempts) == (b"elsewhere", 2)
        go_on.set()
        assert ((await first).content, (await first).attempts) == (b"taken", 1)
        assert len(server.connections) == 2


async def test_a_server_that_says_goodbye_early_lets_everything_end():
    async def warning(asked):
        asked.connection.go_away(last_stream_id=2**31 - 1)
        asked.head()
        asked.data(b"all")
        asked.connection.h2.ping(b"12345678")
        asked.connection.go_away(last_stream_id=asked.id)
        asked.data(b" of it", end=True)

    async with HTTP2Wire(warning, answered(b"next")) as server, Opened() as transport:
        assert await whole(await transport.send(get(server))) == b"all of it"
        assert await whole(await transport.send(get(server))) == b"next"
        await until(lambda: server.connections[0].goaway)
    assert len(server.connections) == 2


@pytest.mark.parametrize("code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.NO_ERROR, 4711])
async def test_a_request_that_was_broken_off_may_have_had_effects(code):
    async def broken_off(asked):
        asked.connection.raw(3, asked.id, int(code).to_bytes(4, "big"))

    async with HTTP2Wire(broken_off) as server, client(server) as api:
        with pytest.raises(ConnectionLost) as caught:
            await api.post("/orders", json={})
        assert not caught.value.retryable
        assert len(server.seen) == 1
        with pytest.raises(ConnectionLost):
            await api.get("/")
        assert len(server.seen) == 4  # a GET is tried again
        assert len(server.connections) == 1


async def test_what_was_answered_in_part_is_lost_although_the_server_calls_it_refused():
    async def half(asked):
        asked.head()
        asked.data(b"half")
        asked.break_off(ErrorCodes.REFUSED_STREAM)

    async with HTTP2Wire(half) as server, Opened() as transport:
        answer = await transport.send(get(server))
        assert await answer.chunk() == b"half"
        with pytest.raises(ConnectionLost):
            await answer.chunk()


async def test_a_server_that_wants_http1_gets_it():
    async def wants_http1(asked):
        asked.break_off(ErrorCodes.HTTP_1_1_REQUIRED)

    async with HTTP2Wire(wants_http1, alpn=("h2", "http/1.1")) as server, client(server) as api:
        reply = await api.post("/orders", json={})
    assert (reply.http_version, reply.attempts, reply.text) == ("1.1", 2, "by HTTP/1.1")


async def test_a_line_that_is_cut_is_lost_for_all_and_a_new_one_is_made():
    async with (
        HTTP2Wire(silent, silent, answered(b"new")) as server,
        Relay(server.port) as relay,
        Opened() as transport,
    ):
        relay.url = f"https://127.0.0.1:{relay.port}"
        sending = [asyncio.create_task(transport.send(get(relay))) for _ in range(2)]
        await until(lambda: len(server.seen) == 2)
        relay.cut()
        errors = await asyncio.gather(*sending, return_exceptions=True)
        assert all(isinstance(error, ConnectionLost) for error in errors)
        assert await whole(await transport.send(get(relay))) == b"new"
        assert transport.gate.busy == 0


async def test_a_connection_that_fell_silent_is_not_used_again():
    async with HTTP2Wire(silent, answered(b"new")) as server, Opened() as transport:
        with pytest.raises(DeadlineExceeded):
            await transport.send(get(server, read=0.3))
        assert await whole(await transport.send(get(server))) == b"new"
        assert len(server.connections) == 2


async def test_a_slow_answer_costs_a_connection_that_is_alive_nothing():
    async with HTTP2Wire(silent, answered(b"alive")) as server, Opened() as transport:
        slow = asyncio.create_task(transport.send(get(server, read=0.5)))
        await until(lambda: server.seen)
        while not slow.done():
            assert await whole(await transport.send(get(server))) == b"alive"
            await asyncio.sleep(0.01)
        assert isinstance(slow.exception(), DeadlineExceeded)
        assert await whole(await transport.send(get(server))) == b"alive"
        assert len(server.connections) == 1


# Cancelling, interim answers, trailers.


async def test_who_leaves_resets_the_stream_and_the_connection_stays():
    async with HTTP2Wire(silent, answered()) as server, Opened() as transport:
        sending = asyncio.create_task(transport.send(get(server)))
        await until(lambda: server.seen)
        sending.cancel()
        await asyncio.wait({sending})
        await until(lambda: server.seen[0].reset is not None)
        assert server.seen[0].reset == ErrorCodes.CANCEL
        await whole(await transport.send(get(server)))
        assert len(server.connections) == 1
        assert transport.gate.busy == 0


async def test_interim_answers_and_trailers_are_passed_over():
    async def talkative(asked):
        asked.head(103, (("link", "</a.css>"),))
        asked.head(100)
        asked.head(200, (("x-a", "1"),))
        asked.data(b"body")
        asked.connection.h2.send_headers(asked.id, [("x-checksum", "7")], end_stream=True)
        asked.connection.flush()

    async with HTTP2Wire(talkative) as server, Opened() as transport:
        answer = await transport.send(get(server))
        assert (answer.status, list(answer.headers)) == (200, [(b"x-a", b"1")])
        assert await whole(answer) == b"body"


@pytest.mark.parametrize("status", [b"abc", b"099", b"-20", b"2e2"])
async def test_a_status_that_is_none_is_told_and_the_connection_goes_on(status):
    async def wrong(asked):
        await asked.whole.wait()
        asked.connection.raw(1, asked.id, b"\x08\x03" + status, flags=5)  # HEADERS, as HPACK writes `:status`

    async with HTTP2Wire(wrong, answered(b"2")) as server, client(server) as api:
        with pytest.raises(BadAnswer):
            await api.get("/")
        assert (await api.get("/")).json() == 2
    assert len(server.connections) == 1


async def test_a_whole_answer_to_half_an_upload_is_an_answer_and_ends_the_upload():
    ended = asyncio.Event()

    async def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    async def enough(asked):
        asked.head(413)
        asked.data(b"too long", end=True)
        asked.break_off(ErrorCodes.NO_ERROR)

    async with HTTP2Wire(enough, answered(b"next")) as server, Opened() as transport:
        answer = await transport.send(post(server, endless()))
        assert (answer.status, await whole(answer)) == (413, b"too long")
        async with asyncio.timeout(wire.BOUND_S):
            await ended.wait()
        assert await whole(await transport.send(get(server))) == b"next"
        assert len(server.connections) == 1


# Windows.


async def test_a_body_keeps_within_the_servers_windows():
    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 1000, SettingCodes.MAX_FRAME_SIZE: 16384}
    async with HTTP2Wire(answered(), settings=settings) as server, Opened() as transport:
        await asyncio.gather(*(transport.send(post(server, bytes([number]) * 50_000)) for number in range(5)))
    assert sorted(asked.body for asked in server.seen) == [bytes([number]) * 50_000 for number in range(5)]


async def test_a_server_that_opens_no_window_is_noticed_by_the_write_time():
    async with HTTP2Wire(silent, opens_windows=False) as server, Opened() as transport:
        with pytest.raises(DeadlineExceeded) as caught:
            await transport.send(post(server, b"x" * 1_000_000, write=0.1))
        assert caught.value.context["phase"] == "write"
        await until(lambda: server.seen[0].reset == ErrorCodes.CANCEL)
        assert len(server.seen[0].body) == 65_535


async def test_a_window_that_shrinks_below_zero_only_delays():
    async def shrinking(asked):
        asked.connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        asked.connection.flush()
        await asyncio.sleep(0.05)
        asked.connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 200_000})
        asked.connection.flush()
        await answered()(asked)

    async with HTTP2Wire(shrinking) as server, Opened() as transport:
        await transport.send(post(server, b"x" * 300_000))
    assert len(server.seen[0].body) == 300_000


async def test_padding_counts_for_the_window_and_is_no_body():
    async def padded(asked):
        asked.head()
        for _ in range(3000):  # more than a window of padding alone
            while asked.connection.h2.local_flow_control_window(asked.id) < 257:
                await asyncio.sleep(0.001)
            asked.connection.h2.send_data(asked.id, b"x", pad_length=255)
            asked.connection.flush()
        asked.data(b"", end=True)

    async with HTTP2Wire(padded) as server, Opened() as transport:
        assert await whole(await transport.send(get(server))) == b"x" * 3000


# Servers that do not keep to the rules.


def raw(*frames):
    async def deed(asked):
        for kind, stream_id, payload, flags in frames:
            asked.connection.raw(kind, asked.id if stream_id is None else stream_id, payload, flags)

    return deed


HEADERS, RST_STREAM, PUSH, PING, CONTINUATION = 1, 3, 5, 6, 9
WRONGS = {
    "data before the head": raw((0, None, b"body", 0)),
    "a head without a status": raw((HEADERS, None, b"\x00\x01a\x011", 4)),
    "what is no header block": raw((HEADERS, None, b"\xff\xff\xff\xff\xff", 4)),
    "a promise that nobody wants": raw((PUSH, None, b"\0\0\0\2\x88", 4)),
    "a continuation of nothing": raw((CONTINUATION, None, b"\x88", 4)),
    "a frame that is too long": raw((0, None, b"x" * 70_000, 0)),
    "a ping of the wrong size": raw((PING, 0, b"123", 0)),
    "a window that overflows": raw((8, 0, b"\x7f\xff\xff\xff", 0), (8, 0, b"\x7f\xff\xff\xff", 0)),
    "headers without end": raw((HEADERS, None, b"\x88", 0), *[(CONTINUATION, None, b"\0\1a\1b" * 2000, 0)] * 100),
    "a small head that unfolds to a large one": raw(
        (HEADERS, None, b"\x88\x40\x01a\x7d" + b"x" * 125 + b"\xbe" * 2000, 4)
    ),
    "a body that is longer than it said": raw((HEADERS, None, b"\x88\x5c\x011", 4), (0, None, b"more", 1)),
    "garbage": raw((200, None, b"?", 0), (0, 0, b"HTTP/1.1 400 Bad Request", 0)),
}


@pytest.mark.parametrize("wrong", WRONGS)
async def test_what_is_not_http2_is_told_and_the_client_lives_on(wrong):
    async with HTTP2Wire(WRONGS[wrong], answered(b"next")) as server, Opened() as transport:
        with pytest.raises(BadAnswer, match="not HTTP/2"):
            await whole(await transport.send(get(server)))
        assert await whole(await transport.send(get(server))) == b"next"
        assert transport.gate.busy == 0
        assert len(server.connections) == 2


async def test_a_server_that_pings_and_does_not_read_is_left(monkeypatch):
    monkeypatch.setattr(http2_connection, "MAX_UNSENT_BYTES", 100_000)

    async def flood(asked):
        writer = asked.connection.writer
        writer.transport.pause_reading()
        while not writer.is_closing():
            writer.write(b"\0\0\x08\x06\0\0\0\0\0pingpong" * 1000)
            await asyncio.sleep(0.001)

    async with HTTP2Wire(answered(), flood, receive_buffer=4096) as server, Opened() as transport:
        await whole(await transport.send(get(server)))
        [connection] = transport._shared.values()  # the system's own buffers would take millions of replies
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(BadAnswer, match="does not read"):
            await transport.send(get(server))


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_comes_is_an_answer_or_an_error_of_ours(seed):
    chance = random.Random(seed)

    async def noise(asked):
        for _ in range(20):
            kind, size = chance.choice([0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 42]), chance.choice([0, 4, 5, 6, 8, 100])
            stream = chance.choice([asked.id, asked.id, 0, asked.id + 2, 2])
            asked.connection.raw(kind, stream, chance.randbytes(size), chance.choice([0, 1, 4, 5, 8, 32, 255]))
        asked.connection.writer.close()

    async with HTTP2Wire(noise) as server, Opened() as transport:
        with contextlib.suppress(BadAnswer, ConnectionLost, ConnectError):
            await whole(await transport.send(get(server, read=5)))
        assert transport.gate.busy == 0
