"""The life of a server: start, stop, drain, health, and being served really."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec
import pytest

import http_get
from asgi_call import call
from consona.errors import ConfigurationError
from consona.part import Health, Part, Status
from consona.rest.server.api_server import APIServer
from consona.rest.server.requests import Background
from consona.rest.server.responses import StreamingResponse
from consona.rest.server.settings import ServerSettings
from served import served
from virtual_time import now, virtual


class Item(msgspec.Struct):
    id: int
    name: str


class Recorded(Part):
    """A part that writes down its life."""

    def __init__(self, name, log, *, fails=False, health=None):
        super().__init__(name)
        self.log = log
        self.fails = fails
        self.health = health

    async def _open(self):
        if self.fails:
            raise ConfigurationError(f"{self.name} cannot open.")
        self.log.append(f"open {self.name}")

    async def _close(self):
        self.log.append(f"close {self.name}")

    async def check(self):
        if isinstance(self.health, Exception):
            raise self.health
        return self.health or await super().check()


def lived(log, **options):
    api = APIServer("t", parts=[Recorded("a", log), Recorded("b", log)], **options)

    @api.on_start
    async def begin():
        log.append("on_start")

    @api.on_stop
    def end():
        log.append("on_stop")

    @api.get("/x")
    async def x() -> int:
        return 1

    return api


async def test_parts_and_hooks_are_started_in_order_and_stopped_in_reverse():
    log = []
    async with lived(log):
        assert log == ["open a", "open b", "on_start"]
        log.clear()
    assert log == ["on_stop", "close b", "close a"]


async def test_a_part_that_cannot_open_leaves_nothing_open():
    log = []
    api = APIServer("t", parts=[Recorded("a", log), Recorded("b", log, fails=True)])
    with pytest.raises(ConfigurationError, match="b cannot open"):
        await api.start()
    assert log == ["open a", "close a"]
    assert not api.started


async def test_a_server_can_be_started_again():
    log = []
    api = lived(log)
    for _ in range(2):
        async with api:
            assert (await call(api, "GET", "/x")).json() == 1
    assert (await call(api, "GET", "/x")).status == 503


async def test_nothing_can_be_declared_on_a_started_server():
    async def handler(*_): ...

    api = lived([])
    async with api:
        for declare in (
            lambda: api.get("/late")(handler),
            lambda: api.middleware(handler),
            lambda: api.on_error(ValueError)(handler),
            lambda: api.provide(handler),
            lambda: api.secure(None),
            lambda: api.mount("/late", handler),
        ):
            with pytest.raises(ConfigurationError, match="comes too late"):
                declare()


async def lifespan(app):
    """Both ends of an application's lifespan, as a server underneath sees them."""
    to_app, from_app = asyncio.Queue(), asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, to_app.get, from_app.put))
    to_app.put_nowait({"type": "lifespan.startup"})
    started = await from_app.get()
    if started["type"] == "lifespan.startup.complete":
        to_app.put_nowait({"type": "lifespan.shutdown"})
        stopped = await from_app.get()
    else:
        stopped = None
    await task
    return started, stopped


async def test_the_asgi_lifespan_starts_and_stops_it():
    log = []
    started, stopped = await lifespan(lived(log))
    assert (started, stopped) == ({"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"})
    assert log[-1] == "close a"


async def test_a_start_that_fails_is_said_in_plain_words():
    api = APIServer("t")

    @api.get("/x", roles={"admin"})
    async def x(): ...

    started, _ = await lifespan(api)
    assert started["type"] == "lifespan.startup.failed"
    assert "Attach a guard" in started["message"]


async def test_without_a_lifespan_the_first_request_starts_it_once_and_says_so(caplog):
    log = []
    api = lived(log)
    answers = await asyncio.gather(*(call(api, "GET", "/x") for _ in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    assert log.count("open a") == 1
    assert caplog.text.count("lifespan=api.lifespan") == 1
    await api.stop()
    assert log[-1] == "close a"


async def test_a_first_request_to_a_server_that_cannot_start_is_told_so(caplog):
    api = APIServer("t", parts=[Recorded("a", [], fails=True)])
    answer = await call(api, "GET", "/x")
    assert (answer.status, answer.header("content-type")) == (503, "application/problem+json")
    assert "cannot open" not in answer.body.decode()
    assert "cannot open" in caplog.text


async def test_the_lifespan_helper_is_the_servers_life():
    api = lived([])
    async with api.lifespan(object()):
        assert api.started
    assert not api.started


# Stopping.


async def test_open_requests_finish_while_new_ones_are_refused():
    go, under_way = asyncio.Event(), asyncio.Event()
    api = lived(log := [])

    @api.get("/slow")
    async def slow() -> str:
        under_way.set()
        await go.wait()
        return "whole"

    await api.start()
    open_request = asyncio.create_task(call(api, "GET", "/slow"))
    await under_way.wait()
    stopping = asyncio.create_task(api.stop())
    await asyncio.sleep(0)
    refused = await call(api, "GET", "/x")
    assert (refused.status, refused.header("connection"), refused.header("retry-after")) == (503, "close", "1")
    assert "close a" not in log
    go.set()
    assert (await open_request).json() == "whole"
    await stopping
    assert log[-1] == "close a"


@virtual
async def test_what_does_not_end_in_time_is_cut_and_named_in_the_log():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("consona.rest.server").addHandler(handler)
    ended, under_way = [], asyncio.Event()
    api = APIServer("t", settings=ServerSettings(drain=3, timeout=1000), clock=now)

    async def work():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
        ended.append("work")

    @api.get("/slow")
    async def slow():
        try:
            under_way.set()
            await asyncio.sleep(1000)
        finally:
            ended.append("request")

    @api.get("/later")
    async def later(background: Background) -> None:
        background.run(work)

    await api.start()
    open_request = asyncio.create_task(call(api, "GET", "/slow"))
    await call(api, "GET", "/later")
    await under_way.wait()
    began = now()
    await api.stop()
    assert now() - began == pytest.approx(3, abs=0.1)
    assert ended == ["request", "work"]
    assert any("not done after 3 s, and cut: open requests (1)" in text for text in records)
    assert any("cut: pieces of background work (1)" in text for text in records)
    assert ((await open_request).status, (await open_request).header("retry-after")) == (503, "1")
    logging.getLogger("consona.rest.server").removeHandler(handler)


async def test_a_stream_of_events_ends_when_the_server_drains_and_a_download_does_not():
    begun = asyncio.Event()
    go = asyncio.Event()
    api = APIServer("t")

    async def forever():
        while True:
            yield "data: 1\n\n"
            begun.set()
            await asyncio.Event().wait()

    async def download():
        yield b"first "
        await go.wait()
        yield b"last"

    @api.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(forever(), media_type="text/event-stream")

    @api.get("/file")
    async def file() -> StreamingResponse:
        return StreamingResponse(download())

    await api.start()
    stream = asyncio.create_task(call(api, "GET", "/events"))
    whole = asyncio.create_task(call(api, "GET", "/file"))
    await begun.wait()
    api.begin_drain()
    assert (await stream).body == b"data: 1\n\n"
    stopping = asyncio.create_task(api.stop())
    await asyncio.sleep(0)
    go.set()
    assert (await whole).body == b"first last"
    await stopping


# Health.


async def test_readiness_follows_the_parts_and_ends_before_the_server_does():
    sick = Recorded("db", [], health=Health(Status.DEGRADED, "host db-7.internal is slow", {"host": "db-7.internal"}))
    clock = iter(range(0, 1000, 10))
    api = APIServer("t", parts=[sick], clock=lambda: next(clock))
    async with api:
        assert (await call(api, "GET", "/health/live")).status == 200
        answer = await call(api, "GET", "/health/ready")
        assert (answer.status, answer.json()["status"]) == (200, "degraded")
        assert "internal" not in answer.body.decode()
        for health in (Health(Status.DOWN, "gone"), RuntimeError("x")):
            sick.health = health
            answer = await call(api, "GET", "/health/ready")
            assert (answer.status, answer.json()["parts"]) == (503, {"db": {"status": "down"}})
        sick.health = None
        assert (await call(api, "GET", "/health/ready")).status == 200
        api.begin_drain()
        assert (await call(api, "GET", "/health/ready")).status == 503
        assert (await call(api, "GET", "/health/live")).status == 200
        assert answer.header("cache-control") == "no-store"


async def test_a_part_is_not_asked_for_each_readiness_request():
    asked = []

    class Counted(Recorded):
        async def check(self):
            asked.append(1)
            await asyncio.sleep(0)
            return Health(Status.UP)

    async with APIServer("t", parts=[Counted("db", [])], clock=lambda: 0.0) as api:
        await asyncio.gather(*(call(api, "GET", "/health/ready") for _ in range(20)))
    assert len(asked) == 1


# With a client, and on a socket.


async def test_the_test_client_calls_the_server_without_a_socket():
    api = lived(log := [])

    @api.post("/items", status=201)
    async def create(item: Item) -> Item:
        return item

    async with api.test_client() as client:
        assert log[-1] == "on_start"
        item = await client.post("/items", json=Item(1, "a"), into=Item)
        assert item == Item(1, "a")
    assert log[-1] == "close a"


async def test_a_real_server_answers_and_streams_and_drains():
    go, under_way = asyncio.Event(), asyncio.Event()
    api = lived(log := [])

    @api.get("/slow")
    async def slow() -> str:
        under_way.set()
        await go.wait()
        return "whole"

    async def parts():
        for number in range(3):
            yield f"{number},"

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts(), media_type="text/plain")

    async with served(api) as address:
        port = int(address.rpartition(":")[2])
        assert await http_get.get(port, "/x") == (200, "1")
        assert await http_get.get(port, "/stream") == (200, "0,1,2,")
        slow_answer = asyncio.create_task(http_get.get(port, "/slow"))
        await under_way.wait()
        asyncio.get_running_loop().call_later(0.05, go.set)
    assert await slow_answer == (200, '"whole"')
    assert log[-1] == "close a"


async def test_a_client_that_vanishes_ends_its_stream():
    ended = asyncio.Event()
    api = APIServer("t")

    async def forever():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(forever())

    async with served(api) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        async with asyncio.timeout(10):
            await ended.wait()


SMUGGLING = [
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n",
    b"GET /x\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", SMUGGLING)
async def test_requests_that_two_servers_could_read_differently_are_refused(request_bytes):
    async with served(lived([])) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(request_bytes)
        async with asyncio.timeout(10):
            head = await reader.read(12)
        writer.close()
    assert head[9:12] in {b"400", b""}


def test_the_import_is_light():
    import subprocess
    import sys

    program = "import consona.rest.server.api_server, sys; print([m for m in ('aiohttp', 'jinja2', 'apsw') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert found.stdout.strip() == "[]"
