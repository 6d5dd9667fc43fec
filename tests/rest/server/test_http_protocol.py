"""What strangers send to `consona run` on a raw socket, and what the server underneath answers: pinned down.

The page `docs/reference/server-limits.md` says the same in words.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from processes import Command, free_port

APP = """
import asyncio
from consona.rest.server.api_server import APIServer
from consona.rest.server.requests import Request
from consona.rest.server.responses import StreamingResponse
from consona.rest.server.settings import ServerSettings
from consona.rest.server.websocket import WebSocket

api = APIServer("t", settings=ServerSettings(
    timeout=1.5, head_timeout=1.0, idle_timeout=1.0, stall_timeout=1.5, max_body=20_000_000, max_url=8192,
    metrics_path="/metrics",
))
closed = 0

@api.get("/n")
async def n(n: int = 1) -> int:
    return n

@api.get("/name/{name}")
async def name(name: str) -> str:
    return name

@api.get("/seen")
async def seen(request: Request) -> list[list[str]]:
    await request.body()
    return [[key.decode(), value.decode("latin-1")] for key, value in request.scope["headers"]]

@api.post("/seen")
async def posted(request: Request) -> list[list[str]]:
    return await seen(request)

@api.post("/size")
async def size(request: Request) -> int:
    return len(await request.body())

@api.post("/ignore")
async def ignore() -> int:
    return 1

@api.post("/small", max_body=10)
async def small(request: Request) -> int:
    return len(await request.body())

@api.post("/json")
async def read(data: list[dict]) -> int:
    return len(data)

@api.get("/wait")
async def wait() -> int:
    await asyncio.sleep(0.5)
    return 1

@api.post("/begun")
async def begun(request: Request) -> StreamingResponse:
    async def parts():
        yield "begun"
        async for part in request.stream():
            yield part
    return StreamingResponse(parts())

@api.get("/endless")
async def endless() -> StreamingResponse:
    async def parts():
        global closed
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            closed += 1
    return StreamingResponse(parts())

@api.get("/closed")
async def how_many() -> list[int]:
    return [closed, api.detail()["open"]]

@api.websocket("/socket")
async def echo(socket: WebSocket) -> None:
    async for message in socket:
        await socket.send(message)
"""

HOST = b"Host: t\r\n"
linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says it there")
CHUNKED = b"POST /size HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "strangers.py").write_text(APP)
    port = free_port()
    with Command("run", "strangers:api", "--port", port, "--no-access-log", folder=folder) as command:
        command.line("Serving strangers:api")
        yield command, port
        command.send(signal.SIGTERM)
        assert command.end() == 0
        assert "Traceback" not in command.text


@pytest.fixture
def port(server):
    return server[1]


class Talk:
    """A raw connection: sends bytes, and reads whole answers."""

    def __init__(self, port, *, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *parts, every_s=0.0):
        for part in parts:
            self.socket.sendall(part)
            time.sleep(every_s)

    def answer(self):
        """The next answer: status, headers, body; None at the end of the connection."""
        while b"\r\n\r\n" not in self.data:
            if not self._read():
                assert not self.data, self.data
                return None
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        status = int(head[9:12])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if status == 100:
            return status, fields, b""
        size = int(fields.get(b"content-length", 0))
        while len(self.data) < size:
            assert self._read(), "the answer is not whole"
        body, self.data = self.data[:size], self.data[size:]
        return status, fields, body

    def _read(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return b""
        self.data += data
        return data

    def vanish(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def ask(port, data, count=1):
    """The statuses of (at least) so many answers, the last body, and whether the connection is closed then."""
    with Talk(port) as talk:
        talk.send(data)
        statuses, body = [], b""
        while True:
            if len(statuses) >= count and not talk.data:
                talk.socket.settimeout(0.3)
                try:
                    talk._read()
                except TimeoutError:
                    return statuses, body, False
            answer = talk.answer()
            if answer is None:
                return statuses, body, True
            status, fields, body = answer
            statuses.append(status)
            if fields.get(b"connection") == b"close":
                talk.socket.settimeout(20)
                assert talk.answer() is None, "said close, and did not"
                return statuses, body, True


def get(target=b"/n", *lines, version=b"HTTP/1.1"):
    return b"GET " + target + b" " + version + b"\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(target=b"/size", *lines, body=b""):
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


# What is not HTTP, or could be read in two ways: one answer, and the connection is closed.

REFUSED = {
    "no Host": (b"GET /n HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (get(b"/n", b"Host: u"), 400),
    "HTTP/0.9": (b"GET /n\r\n\r\n", 505),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), 400),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "an unknown method": (b"FOO /n HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a method in small letters": (b"get /n HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT t:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a length and chunks": (post(b"/size", b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunks and a length": (post(b"/size", b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n"), 400),
    "two lengths": (post(b"/size", b"Content-Length: 1", b"Content-Length: 2", body=b"xx"), 400),
    "two equal lengths": (post(b"/size", b"Content-Length: 1", b"Content-Length: 1", body=b"x"), 400),
    "a list of lengths": (post(b"/size", b"Content-Length: 1, 1", body=b"x"), 400),
    "a length with a sign": (post(b"/size", b"Content-Length: +1", body=b"x"), 400),
    "a negative length": (post(b"/size", b"Content-Length: -1", body=b"x"), 400),
    "a length in hex": (post(b"/size", b"Content-Length: 0x1", body=b"x"), 400),
    "a length beyond 64 bits": (post(b"/size", b"Content-Length: 99999999999999999999", body=b"x"), 400),
    "an empty length": (post(b"/size", b"Content-Length: ", body=b"x"), 400),
    "an unknown coding": (post(b"/size", b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "identity": (post(b"/size", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), 501),
    "gzip, chunked": (post(b"/size", b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "a quoted coding": (post(b"/size", b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 501),
    "chunked, identity": (post(b"/size", b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "chunked twice": (post(b"/size", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked after a control character": (post(b"/size", b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "chunks in HTTP/1.0": (b"POST /size HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a space before the colon": (post(b"/size", b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "a space before the colon of a length": (post(b"/size", b"Content-Length : 1", body=b"x"), 400),
    "a folded line": (get(b"/n", b"X-A: a", b" b"), 400),
    "a folded coding": (post(b"/size", b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"), 400),
    "a line that begins with a space": (b"GET /n HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n", 400),
    "bare line feeds": (b"GET /n HTTP/1.1\nHost: t\n\n", 400),
    "one bare line feed": (b"GET /n HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", 400),
    "a bare carriage return": (b"GET /n HTTP/1.1\r\nHost: t\rX: y\r\n\r\n", 400),
    "NUL in a value": (get(b"/n", b"X: a\0b"), 400),
    "NUL in a name": (get(b"/n", b"X\0: a"), 400),
    "NUL in the path": (get(b"/n\0"), 400),
    "a header without a colon": (get(b"/n", b"nothing"), 400),
    "a header without a name": (get(b"/n", b": a"), 400),
    "UTF-8 that is not percent-encoded": (get("/name/é".encode()), 400),
    "bytes in the query": (get(b"/n?n=\xff"), 400),
    "a space in the path": (get(b"/n n"), 400),
    "another host in the URL": (get(b"http://evil/n"), 400),
    "a host without a path": (get(b"t:80"), 400),
    "a chunk size that is none": (CHUNKED + b"zz\r\nx\r\n0\r\n\r\n", 400),
    "a negative chunk size": (CHUNKED + b"-1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size with a prefix": (CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk size beyond 64 bits": (CHUNKED + b"f" * 17 + b"\r\nx\r\n0\r\n\r\n", 400),
    "a chunk with bare line feeds": (CHUNKED + b"1\nx\n0\n\n", 400),
    "a chunk longer than it says": (CHUNKED + b"1\r\nxyz\r\n0\r\n\r\n", 400),
    "a line feed in an extension": (CHUNKED + b"1;a\nb\r\nx\r\n0\r\n\r\n", 400),
    "a WebSocket without a key": (get(b"/socket", b"Connection: Upgrade", b"Upgrade: websocket"), 400),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_http_is_refused_and_the_connection_closed(port, name):
    data, status = REFUSED[name]
    statuses, body, closed = ask(port, data)
    assert (statuses, closed) == ([status], True)
    if name != "a WebSocket without a key":  # that one is the WebSocket library's
        assert json.loads(body)["status"] == status


# What looks odd, and means one thing.

TAKEN = {
    "an absolute URL of the same host": (get(b"http://t/n?n=3"), [200], b"3", False),
    "a fragment": (get(b"/n#part"), [200], b"1", False),
    "two slashes": (get(b"//evil/n"), [404], None, False),
    "the asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [404], None, False),
    "line ends before the request": (b"\r\n\r\n" + get(), [200], b"1", False),
    "HTTP/1.0": (b"GET /n HTTP/1.0\r\n\r\n", [200], b"1", True),
    "HTTP/1.0 that would stay": (b"GET /n HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [200], b"1", True),
    "CHUNKED": (post(b"/size", b"Transfer-Encoding:\tCHUNKED", body=b"1\r\nx\r\n0\r\n\r\n"), [200], b"1", False),
    "a chunk with an extension": (CHUNKED + b"1;a=b\r\nx\r\n0\r\n\r\n", [200], b"1", False),
    "a body that is not asked for": (get(b"/n", b"Content-Length: 3") + b"abc" + get(b"/n?n=2"), [200, 200], b"2", False),
    "an encoded NUL": (get(b"/name/%00"), [200], b'"\\u0000"', False),
    "an encoded path that is not UTF-8": (get(b"/name/%ff"), [400], None, False),
    "an encoded query that is not UTF-8": (get(b"/n?n=%ff"), [400], None, False),
    "a header that is not UTF-8": (get(b"/n", b"X: \xff"), [200], b"1", False),
    "JSON that is not UTF-8": (post(b"/json", b"Content-Type: application/json", b"Content-Length: 5", body=b'["\xff"]'), [400], None, False),
    "JSON that is none": (post(b"/json", b"Content-Type: application/json", b"Content-Length: 2", body=b"[{"), [400], None, False),
    "an unknown expectation": (post(b"/size", b"Expect: magic", b"Content-Length: 1", body=b"x"), [200], b"1", False),
    "an upgrade to HTTP/2": (get(b"/n", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"), [200], b"1", False),
    "an upgrade to HTTP/2 with a body": (post(b"/size", b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"), [200], b"3", False),
    "an upgrade, and another request": (get(b"/n", b"Connection: Upgrade", b"Upgrade: \x80") + get(b"/n?n=2"), [200, 200], b"2", False),
    "a POST that would be a WebSocket": (post(b"/size", b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 3", body=b"abc"), [200], b"3", False),
    "three at once": (get() + get(b"/wait") + get(b"/n?n=3", b"Connection: close"), [200, 200, 200], b"3", True),
    "one more after the last": (get(b"/n", b"Connection: close") + get(b"/n?n=2"), [200], b"1", True),
    "garbage after a request": (get(b"/wait") + b"\0\0\0", [200, 400], None, True),
    "a bad length after a request": (get(b"/wait") + post(b"/size", b"Content-Length: x"), [200, 400], None, True),
    "bad chunks after a request": (get(b"/wait") + CHUNKED + b"zz\r\n", [200, 400], None, True),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_means_one_thing_is_answered_in_its_turn(port, name):
    data, statuses, body, closed = TAKEN[name]
    found = ask(port, data, len(statuses))
    assert (found[0], found[2]) == (statuses, closed)
    assert body in {None, found[1]}


def test_trailers_are_never_taken_for_headers(port):
    trailers = b"X-Forwarded-For: 6.6.6.6\r\nHost: evil\r\nAuthorization: Bearer x\r\n"
    request = post(b"/seen", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n" + trailers + b"\r\n")
    statuses, body, _ = ask(port, request)
    assert (statuses, json.loads(body)) == ([200], [["host", "t"], ["transfer-encoding", "chunked"]])


def test_a_request_that_goes_wrong_after_its_answer_began_ends_the_connection(port):
    with Talk(port) as talk:
        talk.send(post(b"/begun", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n"))
        talk.answer()
        while b"x" not in talk.data.replace(b"begun", b""):
            talk._read()
        talk.send(b"zz\r\n")
        while talk._read():
            pass
        assert b"400" not in talk.data
        assert not talk.data.endswith(b"0\r\n\r\n"), "it looks whole, and is not"


def test_a_body_is_sent_after_100_continue(port):
    with Talk(port) as talk:
        talk.send(post(b"/size", b"Expect: 100-continue", b"Content-Length: 3"))
        assert talk.answer()[0] == 100
        talk.send(b"abc")
        status, fields, body = talk.answer()
        assert (status, body, b"connection" in fields) == (200, b"3", False)
        talk.send(get())
        assert talk.answer()[0] == 200


@pytest.mark.parametrize("path", [b"/ignore", b"/small", b"/nothing"])
def test_a_body_that_nobody_wants_ends_the_connection_so_that_it_is_never_taken_for_a_request(port, path):
    with Talk(port) as talk:
        talk.send(post(path, b"Expect: 100-continue", b"Content-Length: 100"))
        status, fields, _ = talk.answer()
        assert (status in {200, 413, 404}, fields[b"connection"]) == (True, b"close")
        talk.send(get() * 3)
        assert talk.answer() is None


def test_who_sends_too_much_gets_to_see_why(port):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(post(b"/small", b"Content-Length: 5000000"), b"x" * 5_000_000)
        assert talk.answer()[0] == 413


# Size.


def test_a_hundred_thousand_headers_are_refused(port):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(b"GET /n HTTP/1.1\r\n" + HOST, b"X: y\r\n" * 100_000, b"\r\n")
        status, _, body = talk.answer()
        assert (status, json.loads(body)["code"]) == (431, "http.headers_too_large")


def test_a_hundred_and_one_headers_are_refused(port):
    statuses, body, _ = ask(port, get(b"/n", *[b"X: y"] * 100))
    assert (statuses, json.loads(body)["code"]) == ([431], "http.headers_too_large")
    assert ask(port, get(b"/n", *[b"X: y"] * 99))[0] == [200]


@pytest.mark.parametrize("size", [40_000, 50_000_000])
def test_one_huge_header_is_refused(port, size):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(b"GET /n HTTP/1.1\r\n" + HOST + b"X: ", b"y" * size, b"\r\n\r\n")
        assert talk.answer()[0] == 431


@pytest.mark.parametrize("size", [9_000, 50_000_000])
def test_a_huge_url_is_refused(port, size):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(b"GET /n?", b"y" * size, b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert talk.answer()[0] == 414


@pytest.mark.parametrize("part", [b"1;" + b"x" * 100, b"0\r\n" + b"X: y\r\n" * 100, b"0\r\nX: yyyy" + b"y" * 100])
def test_endless_extensions_and_trailers_are_refused(port, part):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(CHUNKED + part, *[part[-6:] * 10_000] * 100)
        assert talk.answer()[0] == 400


def test_a_body_of_chunks_without_end_is_refused(port):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(CHUNKED, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 400)
        assert talk.answer()[0] == 413


def test_ten_megabytes_of_nested_arrays_are_refused_and_the_server_goes_on(port):
    lines = (b"Content-Type: application/json", b"Content-Length: 10000000")
    for _ in range(3):
        assert ask(port, post(b"/json", *lines, body=b"[" * 10_000_000))[0] == [400]
    assert ask(port, get())[0] == [200]


def test_requests_that_wait_for_their_turn_are_bounded(port):
    statuses, _, closed = ask(port, get(b"/wait") + get() * 5000, 102)
    assert (statuses[:101], statuses[101:], closed) == ([200] * 101, [429], True)


def memory_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


@linux_only
def test_none_of_it_grows_the_server(server, port):
    command, _ = server
    before = memory_mb(command.process.pid)
    for begin, part in (
        (b"GET /n?", b"y" * 65536),
        (b"GET /n HTTP/1.1\r\nX: ", b"y" * 65536),
        (CHUNKED + b"0\r\nX: ", b"y" * 65536),
        (post(b"/ignore", b"Content-Length: 100000000"), b"y" * 65536),
    ):
        with Talk(port) as talk:
            with contextlib.suppress(ConnectionError):
                talk.send(begin, *[part] * 1000)
            assert memory_mb(command.process.pid) < before + 30


# Time. The limits of this server are one second and a half at most; each test only waits for what must come.


def test_a_connection_that_sends_nothing_is_closed(port):
    with Talk(port) as talk:
        assert talk.answer() is None


def test_a_head_that_comes_slowly_is_cut_off(port):
    with Talk(port) as talk:
        talk.send(b"GET /n HTTP/1.1\r\n")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            talk.send(*[b"X: y\r\n"] * 40, every_s=0.1)
        assert talk.answer()[0] == 408
        assert time.monotonic() - began < 20


def test_a_second_head_that_comes_slowly_is_cut_off(port):
    with Talk(port) as talk:
        talk.send(get())
        assert talk.answer()[0] == 200
        with contextlib.suppress(ConnectionError):
            talk.send(*[b"G"], *[b"ET /n HTTP/1.1\r\n"], *[b"X: y\r\n"] * 40, every_s=0.1)
        assert talk.answer()[0] == 408


def test_a_kept_connection_is_closed_when_nothing_more_comes(port):
    with Talk(port) as talk:
        for _ in range(3):
            talk.send(get())
            assert talk.answer()[0] == 200
        assert talk.answer() is None


def test_a_slow_head_does_not_cut_the_answer_before_it(port):
    with Talk(port) as talk:
        talk.send(get(b"/wait") + b"GET /n")
        assert talk.answer()[0] == 200
        talk.send(b"?n=7 HTTP/1.1\r\n" + HOST + b"\r\n")
        assert talk.answer()[2] == b"7"


@pytest.mark.parametrize("begin", [post(b"/size", b"Content-Length: 100"), CHUNKED], ids=["length", "chunks"])
def test_a_body_that_comes_slowly_is_cut_off(port, begin):
    with Talk(port) as talk:
        with contextlib.suppress(ConnectionError):
            talk.send(begin, *[b"1\r\nx\r\n"] * 40, every_s=0.1)
        status, fields, body = talk.answer()
        assert (status, fields[b"connection"]) == (408, b"close")
        assert json.loads(body)["code"] == "http.request_timeout"
        assert talk.answer() is None


def test_a_body_that_is_not_asked_for_has_little_time(port):
    with Talk(port) as talk:
        talk.send(post(b"/ignore", b"Content-Length: 100000", body=b"abc"))
        assert talk.answer()[0] == 200
        with contextlib.suppress(ConnectionError):
            talk.send(*[b"x"] * 60, every_s=0.1)
            talk.send(b"x" * 100_000 + get())
        assert talk.answer() is None


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(port):
    before = closed_streams(port)
    with Talk(port, receive_buffer=4096) as talk:
        talk.send(get(b"/endless"))
        until_closed(port, before + 1)


@linux_only
def test_a_small_answer_that_is_never_taken_does_not_hold_the_connection(port):
    with Talk(port, receive_buffer=2048) as talk:
        talk.send(*[get(b"/name/" + b"x" * 7000)] * 90)
        end = time.monotonic() + 20
        while connections_to(port, talk.socket.getsockname()[1]) and time.monotonic() < end:
            time.sleep(0.1)
        assert not connections_to(port, talk.socket.getsockname()[1])


def connections_to(port, mine):
    """Whether the server's end of the connection is still open."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if int(local[-4:], 16) == port and int(remote[-4:], 16) == mine and state == "01":
            return True
    return False


# Who vanishes.


def closed_streams(port):
    with Talk(port) as talk:
        talk.send(get(b"/closed"))
        return json.loads(talk.answer()[2])[0]


def until_closed(port, count):
    end = time.monotonic() + 20
    while closed_streams(port) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


def open_requests(port):
    with Talk(port) as talk:
        talk.send(get(b"/closed"))
        return json.loads(talk.answer()[2])[1]


def test_a_client_that_vanishes_in_the_middle_of_its_request_leaves_nothing(port):
    for begin in (b"GET /n HT", post(b"/size", b"Content-Length: 100", body=b"abc"), CHUNKED + b"5\r\nab"):
        talk = Talk(port)
        talk.send(begin)
        talk.vanish()
    end = time.monotonic() + 20
    while open_requests(port) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_client_that_vanishes_in_the_middle_of_a_stream_ends_it(port):
    before = closed_streams(port)
    talk = Talk(port)
    talk.send(get(b"/endless"))
    talk._read()
    talk.vanish()
    until_closed(port, before + 1)


def test_what_is_refused_before_it_is_a_request_is_counted(port):
    ask(port, b"\0")
    with Talk(port) as talk:
        talk.send(get(b"/metrics"))
        figures = talk.answer()[2].decode()
    assert re.search(r'consona_operations_total\{[^}]*operation="REFUSED"[^}]*outcome="failed"[^}]*\} [1-9]', figures)
