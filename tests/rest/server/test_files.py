"""Files as answers: whole, in parts, or not at all where the client has them."""

from __future__ import annotations

import asyncio
import email.parser
import gc
import os
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_call import call
from consona.rest.server.api_server import APIServer
from consona.rest.server.conditional import http_date
from consona.rest.server.file_names import safe_name
from consona.rest.server.files import FileResponse, content_disposition
from consona.rest.server.ranges import Part, wanted_parts
from processes import until
from served import served

TEXT = bytes(range(256)) * 400
OLD = 1_700_000_000


def make(path, data=TEXT, *, modified=OLD):
    path.write_bytes(data)
    os.utime(path, (modified, modified))
    return path


def server(path, **settings):
    api = APIServer("t")

    @api.get("/file")
    async def file() -> FileResponse:
        return FileResponse(path, **settings)

    return api


async def ask(api, method="GET", path="/file", **headers):
    return await call(api, method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_whole_file_and_what_is_known_of_it(tmp_path):
    async with server(make(tmp_path / "a.txt")) as api:
        answer, head = await ask(api), await ask(api, "HEAD")
    assert (answer.status, answer.body) == (200, TEXT)
    assert head.body == b""
    assert head.headers == answer.headers
    assert answer.header("content-type") == "text/plain; charset=utf-8"
    assert answer.header("content-length") == str(len(TEXT))
    assert answer.header("last-modified") == http_date(OLD)
    assert answer.header("accept-ranges") == "bytes"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("content-disposition") is None


async def test_an_empty_file(tmp_path):
    async with server(make(tmp_path / "a.txt", b"")) as api:
        assert (await ask(api)).header("content-length") == "0"
        assert (await ask(api, range="bytes=0-")).status == 416


async def test_who_has_it_is_not_sent_it_again(tmp_path):
    path = make(tmp_path / "a.txt")
    async with server(path, headers={"cache-control": "no-cache"}) as api:
        tag = (await ask(api)).header("etag")
        for headers in ({"if_none_match": tag}, {"if_modified_since": http_date(OLD)}):
            short = await ask(api, **headers)
            assert (short.status, short.body, short.header("etag")) == (304, b"", tag)
            assert short.header("cache-control") == "no-cache"
        assert (await ask(api, if_match='"other"')).status == 412
        make(path, modified=OLD + 1)
        assert (await ask(api, if_none_match=tag)).status == 200


async def test_a_file_that_was_just_changed_has_a_weak_tag(tmp_path):
    async with server(make(tmp_path / "a.txt", modified=time.time())) as api:
        tag = (await ask(api)).header("etag")
        assert tag.startswith('W/"')
        assert (await ask(api, if_none_match=tag.removeprefix("W/"))).status == 304
        assert (await ask(api, range="bytes=0-1", if_range=tag)).status == 200


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-0", TEXT[:1], "bytes 0-0/102400"),
        ("bytes=10-19", TEXT[10:20], "bytes 10-19/102400"),
        ("bytes=102390-", TEXT[102390:], "bytes 102390-102399/102400"),
        ("bytes=-5", TEXT[-5:], "bytes 102395-102399/102400"),
        ("bytes=-999999", TEXT, "bytes 0-102399/102400"),
        ("bytes=102390-999999", TEXT[102390:], "bytes 102390-102399/102400"),
        ("Bytes = 0-9", TEXT[:10], "bytes 0-9/102400"),
        ("bytes=999999-, 5-6", TEXT[5:7], "bytes 5-6/102400"),
    ],
)
async def test_one_part(tmp_path, header, expected, content_range):
    async with server(make(tmp_path / "a.bin")) as api:
        answer = await ask(api, range=header)
    assert (answer.status, answer.body, answer.header("content-range")) == (206, expected, content_range)
    assert answer.header("content-length") == str(len(expected))


async def test_several_parts(tmp_path):
    async with server(make(tmp_path / "a.txt", b"0123456789" * 10)) as api:
        answer = await ask(api, range="bytes=0-3, 50-54, -2")
    kind = answer.header("content-type")
    assert (answer.status, answer.header("content-range")) == (206, None)
    assert answer.header("content-length") == str(len(answer.body))
    message = email.parser.BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + answer.body)
    assert message.get_content_type() == "multipart/byteranges"
    found = [(part["content-range"], part["content-type"], part.get_payload()) for part in message.get_payload()]
    text = "text/plain; charset=utf-8"
    assert found == [
        ("bytes 0-3/100", text, "0123"),
        ("bytes 50-54/100", text, "01234"),
        ("bytes 98-99/100", text, "89"),
    ]


@pytest.mark.parametrize("header", ["bytes=102400-", "bytes=999999-9999999", "bytes=-0"])
async def test_parts_beyond_the_end(tmp_path, header):
    async with server(make(tmp_path / "a.bin")) as api:
        answer = await ask(api, range=header)
    assert (answer.status, answer.header("content-range")) == (416, "bytes */102400")
    assert answer.json()["code"] == "http.range_not_satisfiable"


@pytest.mark.parametrize(
    "header",
    [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-3",
        "lines=1-2",
        "bytes=1-2-3",
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(17)),
        "bytes=0-,0-,0-",
    ],
)
async def test_a_header_that_is_not_well_formed_or_asks_too_much_is_ignored(tmp_path, header):
    async with server(make(tmp_path / "a.bin")) as api:
        answer = await ask(api, range=header)
    assert (answer.status, len(answer.body)) == (200, len(TEXT))


async def test_parts_are_for_get_alone(tmp_path):
    async with server(make(tmp_path / "a.bin")) as api:
        assert (await ask(api, "HEAD", range="bytes=0-1")).status == 200


async def test_parts_only_of_the_file_that_the_client_has_begun_with(tmp_path):
    path = make(tmp_path / "a.bin")
    async with server(path) as api:
        tag, date = (await ask(api)).header("etag"), http_date(OLD)
        assert (await ask(api, range="bytes=0-1", if_range=tag)).status == 206
        assert (await ask(api, range="bytes=0-1", if_range=date)).status == 206
        make(path, modified=OLD + 1)
        for known in (tag, f"W/{tag}", date, "nonsense"):
            assert (await ask(api, range="bytes=0-1", if_range=known)).status == 200


@given(st.text(max_size=60), st.integers(0, 200))
def test_any_header_gives_parts_within_the_file(header, size):
    for prefix in ("", "bytes="):
        parts = wanted_parts(prefix + header, size) or []
        assert all(0 <= part.start < part.end <= size for part in parts)
        assert sum(part.length for part in parts) <= size


def test_parts_come_in_the_order_in_which_they_were_asked_for():
    assert wanted_parts("bytes=50-59, 0-9", 100) == [Part(50, 60), Part(0, 10)]


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
async def test_what_is_no_file_is_not_found(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "pipe", "/dev/zero", tmp_path / "circle", "a\0b", "x" * 999):
        async with server(path) as api:
            assert (await ask(api)).status == 404, path


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
async def test_within_a_folder_means_within_it(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(tmp_path / "secret.txt", b"secret")
    make(folder / "fine.txt", b"fine")
    (folder / "link.txt").symlink_to(folder / "fine.txt")
    (folder / "way-out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "out").symlink_to(tmp_path)
    wanted = ["fine.txt", "link.txt", "../secret.txt", "way-out.txt", "out/secret.txt", str(tmp_path / "secret.txt")]
    found = []
    for path in wanted:
        async with server(path, within=folder) as api:
            found.append((await ask(api)).status)
    assert found == [200, 200, 404, 404, 404, 404]


async def test_a_middleware_may_answer_with_a_file_and_one_answer_may_serve_all(tmp_path):
    api, shared = APIServer("t"), FileResponse(make(tmp_path / "a.bin", b"0123456789"))

    @api.middleware
    async def files(request, call_next):
        return shared if request.path == "/file" else FileResponse(tmp_path / "absent")

    async with api:
        parts = await ask(api, range="bytes=0-1,3-4")
        assert (parts.status, b"01" in parts.body) == (206, True)
        assert (await ask(api)).body == b"0123456789"
        assert (await ask(api, path="/other")).json()["code"] == "not_found"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_client_that_goes_away_leaves_no_open_file(tmp_path):
    path = make(tmp_path / "big.bin", b"x" * 30_000_000)

    def opened():
        gc.collect()
        return [fd for fd in Path("/proc/self/fd").iterdir() if is_ours(fd, path)]

    async with server(path) as api, served(api) as address:
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /file HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readexactly(100_000)
        assert opened()
        writer.transport.abort()
        await until(lambda: not opened())
        assert not api.stats.detail["open"]


def is_ours(fd, path):
    try:
        return fd.readlink() == path
    except OSError:
        return False


async def test_a_file_that_becomes_shorter_meanwhile_breaks_the_connection(tmp_path, caplog):
    """The length was promised: half a file must not look like a whole one."""
    path = make(tmp_path / "big.bin", b"x" * 30_000_000)
    async with server(path) as api, served(api) as address:
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /file HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(path, 100)
        async with asyncio.timeout(20):
            assert len(await reader.read(-1)) < 30_000_000
        writer.close()
    assert "GET /file failed" in caplog.text


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("C:\\temp\\a.txt", 'attachment; filename="a.txt"'),
        ("日本.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
        ('a"b\\c.txt', 'attachment; filename="c.txt"'),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        (".bashrc", 'attachment; filename="bashrc"'),
        ("\r\nset-cookie: x", 'attachment; filename="set-cookie: x"'),
        ("", 'attachment; filename="file"'),
        ("..", 'attachment; filename="file"'),
    ],
)
def test_a_file_name_cannot_do_harm(name, header):
    assert content_disposition(name) == header


@given(st.text(max_size=300))
def test_every_file_name_becomes_a_safe_one(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[^/\\\x00-\x1f\x7f]+", safe)
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 200
    content_disposition(name).encode("latin-1")
