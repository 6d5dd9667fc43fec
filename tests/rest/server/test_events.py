"""Server-sent events: what goes over the wire, how a stream begins and ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_call import call
from consona.errors import ConfigurationError, NotFound
from consona.rest.client.api_client import APIClient
from consona.rest.server.api_server import APIServer
from consona.rest.server.compression import Compression
from consona.rest.server.events import Event, EventStream, LastEventID, encode_event
from consona.rest.server.listener import Listener
from consona.rest.server.settings import ServerSettings
from virtual_time import now, virtual

BOUND_S = 20.0


class Price(msgspec.Struct):
    name: str
    cents: int


def parsed(text):
    """Events as a browser reads them (WHATWG HTML, section 9.2.6): (event, data, last id), and what was retried."""
    found, data, name, last = [], [], "", ""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((name or "message", "\n".join(data), last))
            data, name = [], ""
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last = value
    return found


# One event.


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        ("plain", b"data: plain\n\n"),
        ("", b"data: \n\n"),
        ("a\nb\r\nc\rd\n", b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        ("x\n\nevent: evil\nid: 9", b"data: x\ndata: \ndata: event: evil\ndata: id: 9\n\n"),
        (" a: é\u2028\x85", "data:  a: é\u2028\x85\n\n".encode()),
        ({"text": "two\nlines"}, b'data: {"text":"two\\nlines"}\n\n'),
        (Event(Price("tea", 250), event="price", id="7"), b'event: price\nid: 7\ndata: {"name":"tea","cents":250}\n\n'),
        (Event(id="", retry=1.5), b"id: \nretry: 1500\n\n"),
        (Event("é", id="ü"), "id: ü\ndata: é\n\n".encode()),
    ],
)
def test_an_event_goes_as_lines(event, wire):
    assert encode_event(event) == wire


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\r\nb", "\0"])
@pytest.mark.parametrize("field", ["event", "id"])
def test_a_field_that_would_begin_another_is_refused(field, bad):
    with pytest.raises(ConfigurationError, match=f"The {field} of an event"):
        encode_event(Event("x", **{field: bad}))


@pytest.mark.parametrize("retry", [-1, float("nan"), float("inf")])
def test_a_wait_that_is_none_is_refused(retry):
    with pytest.raises(ConfigurationError, match="retry"):
        encode_event(Event(retry=retry))
    with pytest.raises(ConfigurationError, match="retry"):
        EventStream([], retry=retry)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")))
def test_whatever_text_it_is_arrives_as_one_event(data, name):
    [(event, arrived, _)] = parsed(encode_event(Event(data, event=name)).decode())
    assert arrived == data.replace("\r\n", "\n").replace("\r", "\n")
    assert event == (name or "message")


def test_a_heartbeat_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="heartbeat"):
        EventStream([], heartbeat=0)


# A stream.


def prices(api=None, **settings):
    api = api or APIServer("t", settings=ServerSettings(**settings), clock=now)

    @api.get("/prices")
    async def handler(last: LastEventID = "", n: int = 2) -> AsyncIterator[Event[Price]]:
        begin = int(last or 0)
        for number in range(begin + 1, begin + 1 + n):
            yield Event(Price(f"tea {last}", number), id=str(number))

    return api


async def test_a_handler_that_yields_is_a_stream_of_events():
    async with prices() as api:
        answer = await call(api, "GET", "/prices", query="n=1", headers={"last-event-id": "41"})
        assert (answer.status, answer.header("content-type")) == (200, "text/event-stream")
        assert (answer.header("cache-control"), answer.header("x-accel-buffering")) == ("no-store", "no")
        assert answer.body == b'id: 42\ndata: {"name":"tea 41","cents":42}\n\n'
        assert (await call(api, "HEAD", "/prices")).body == b""
        assert (await call(api, "GET", "/prices", query="n=z")).status == 422


async def test_the_last_id_is_utf8_as_browsers_send_it():
    api = APIServer("t")

    @api.get("/x")
    async def handler(last: LastEventID = "") -> str:
        return last

    async with api:
        as_browsers_do = "ü".encode().decode("latin-1")
        assert (await call(api, "GET", "/x", headers={"last-event-id": as_browsers_do})).json() == "ü"
        assert (await call(api, "GET", "/x", headers={"last-event-id": "ü"})).status == 400


async def test_a_handler_may_look_first_and_choose():
    api = APIServer("t")

    @api.get("/rooms/{room}")
    async def handler(room: str) -> EventStream:
        if room != "blue":
            raise NotFound("No such room.")
        return EventStream(["a", Event("b")], retry=2.5, headers={"Cache-Control": "no-cache", "X-Room": room})

    async with api:
        assert (await call(api, "GET", "/rooms/red")).status == 404
        answer = await call(api, "GET", "/rooms/blue")
        assert answer.body == b"retry: 2500\n\ndata: a\n\ndata: b\n\n"
        assert (answer.header("x-room"), answer.header("cache-control")) == ("blue", "no-cache")


def test_what_yields_and_is_no_stream_of_events_is_refused():
    def plain(): yield 1  # fmt: skip

    async def raw() -> AsyncIterator[bytes]: yield b""  # fmt: skip

    async def events() -> AsyncIterator[str]: yield ""  # fmt: skip

    for handler, method, options, words in (
        (plain, "GET", {}, "async def"),
        (raw, "GET", {}, "bytes are no events"),
        (events, "POST", {}, "answer to a GET"),
        (events, "GET", {"status": 201}, "answer to a GET"),
        (events, "GET", {"etag": True}, "no ETag"),
    ):
        api = APIServer("t")
        api.route("/x", method, **options)(handler)
        with pytest.raises(ConfigurationError, match=words):
            api.signatures()


def test_the_document_says_what_comes():
    answer = prices().openapi()["paths"]["/prices"]["get"]["responses"]["200"]
    data = answer["content"]["text/event-stream"]["schema"]["properties"]["data"]
    assert data == {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Price"},
    }
    assert "Price" in prices().openapi()["components"]["schemas"]


class Session:
    open = True


async def test_what_a_provider_gives_lives_as_long_as_the_stream():
    closed = asyncio.Event()

    async def session() -> AsyncIterator[Session]:
        made = Session()
        yield made
        made.open = False
        closed.set()

    async def handler(mine: Session) -> AsyncIterator[bool]:
        yield mine.open
        yield mine.open

    api = APIServer("t")
    api.provide(session)
    api.get("/x")(handler)
    async with api:
        assert (await call(api, "GET", "/x")).body == b"data: true\n\ndata: true\n\n"
        assert closed.is_set()


async def test_an_open_stream_is_never_slow_and_stays_out_of_the_servers_times(caplog):
    api = prices()
    api.observer.slow_ns = 0
    async with api:
        await call(api, "GET", "/prices")
        assert api.stats.operations["GET /prices"].succeeded == 1
        await call(api, "GET", "/health/live")
        assert api.stats.p50 == api.stats.operations["GET /health/live"].p50
    assert [line for line in caplog.messages if "/prices" in line] == []


# Open for long.


class Feed:
    """Events that come when the test says so, and whether somebody still wants them."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.taken = 0

    def server(self, *, middleware=None, settings=None, **options):
        api = APIServer("t", settings=settings)
        if middleware is not None:
            api.middleware(middleware)

        @api.get("/feed")
        async def feed() -> EventStream:
            return EventStream(self.events(), **options)

        return api

    async def events(self):
        self.begun.set()
        try:
            while True:
                yield await self.queue.get()
                self.taken += 1
        finally:
            self.closed.set()


@asynccontextmanager
async def reading(listener):
    """A raw client that has read the head of the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(listener.url.rpartition(":")[2]))
    try:
        writer.write(b"GET /feed HTTP/1.1\r\nHost: t\r\nAccept-Encoding: gzip\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        yield head, reader, writer
    finally:
        writer.close()


@virtual
async def test_a_quiet_stream_beats_and_a_lively_one_does_not():
    sent = []

    async def events():
        yield "first"
        await asyncio.sleep(25)
        for number in range(5):
            yield number
            await asyncio.sleep(9)

    api = APIServer("t", clock=now)
    api.get("/x")(lambda: EventStream(events(), heartbeat=10))
    began = now()

    async def send(message):
        if message.get("body"):
            sent.append((round(now() - began), message["body"]))

    scope = {"type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": []}
    async with api:
        await api(scope, asyncio.Event().wait, send)
    assert [at for at, body in sent if body == b":\n\n"] == [10, 20]
    assert [at for at, body in sent if body != b":\n\n"] == [0, 25, 34, 43, 52, 61]


async def test_our_client_reads_events_as_they_come():
    feed = Feed()
    async with Listener(feed.server(), port=0) as listener, APIClient(listener.url) as client:
        async with client.stream("GET", "/feed") as answer:
            lines = answer.lines()
            for number in range(3):
                feed.queue.put_nowait(Event(number, id=str(number)))
                assert [await anext(lines) for _ in range(3)] == [f"id: {number}", f"data: {number}", ""]
        async with asyncio.timeout(BOUND_S):
            await feed.closed.wait()


async def test_compression_holds_no_event_back():
    feed = Feed()
    async with (
        Listener(feed.server(middleware=Compression(minimum=0)), port=0) as listener,
        reading(listener) as (head, reader, _),
    ):
        assert b"content-encoding: gzip" in head
        coded, plain = b"", b""
        decoder = zlib.decompressobj(wbits=31)
        for number in range(3):
            feed.queue.put_nowait(number)
            async with asyncio.timeout(BOUND_S):
                while not plain.endswith(b"data: %d\n\n" % number):
                    size = int(await reader.readline(), 16)
                    coded += await reader.readexactly(size)
                    await reader.readline()
                    plain += decoder.decompress(coded)
                    coded = b""
    assert plain == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_client_that_vanishes_closes_the_iterator_and_nothing_is_left():
    feed = Feed()
    api = feed.server()
    async with Listener(api, port=0) as listener:
        before = asyncio.all_tasks()
        async with reading(listener) as (_, _, writer):
            feed.queue.put_nowait("a")
            writer.transport.abort()
            async with asyncio.timeout(BOUND_S):
                await feed.closed.wait()
                while api.detail()["open"] or asyncio.all_tasks() - before:
                    await asyncio.sleep(0.01)
        assert api.stats.operations["GET /feed"].in_flight == 0


async def test_a_stream_ends_whole_when_the_server_stops():
    feed = Feed()
    async with Listener(feed.server(), port=0) as listener, reading(listener) as (_, reader, _):
        feed.queue.put_nowait("a")
        assert await reader.readuntil(b"data: a\n\n\r\n")
        stopping = asyncio.create_task(listener.stop())
        async with asyncio.timeout(BOUND_S):
            assert await reader.read() == b"0\r\n\r\n"
            await stopping
        assert feed.closed.is_set()


async def test_a_client_that_reads_slowly_holds_the_iterator_back():
    feed = Feed()
    count = 2000
    for _ in range(count):
        feed.queue.put_nowait("x" * 100_000)
    async with Listener(feed.server(), port=0) as listener:
        with socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2]))) as client:
            client.sendall(b"GET /feed HTTP/1.1\r\nHost: t\r\n\r\n")
            await feed.begun.wait()
            before = -1
            while before != feed.taken:
                before = feed.taken
                await asyncio.sleep(0.2)
            assert 0 < feed.taken < count
        async with asyncio.timeout(BOUND_S):
            await feed.closed.wait()
