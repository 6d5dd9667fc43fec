"""A download is there whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import re

import pytest

import wire
from consona.errors import APIError, ConfigurationError, ConnectError, DeadlineExceeded
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.errors import BadAnswer, ConnectionLost, FileNotWritten
from consona.rest.transport import Timeouts

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))
BODY = os.urandom(1_000_000)


class Shelf:
    """A file on a server: gives out ranges of it, and breaks the line where it is told to."""

    def __init__(self, body=BODY, *, breaks_after=(), headers=(("ETag", '"one"'),), length=True):
        self.body = body
        self.headers = list(headers)
        self.length = length
        self.breaks = list(breaks_after)

    async def __call__(self, seen, reader, writer):
        headers, body, status = list(self.headers), self.body, 200
        validators = {value for name, value in self.headers if name in {"ETag", "Last-Modified"}}
        wanted = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        if wanted and seen.headers.get("if-range") in validators:
            start = int(wanted[1])
            if start >= len(self.body):
                writer.write(wire.message(416, b"", content_range=f"bytes */{len(self.body)}"))
                return
            status, body = 206, self.body[start:]
            headers.append(("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"))
        if self.length:
            headers.append(("Content-Length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        cut = self.breaks.pop(0) if self.breaks else None
        writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + (body if cut is None else body[:cut]))
        await writer.drain()
        if cut is not None or not self.length:
            writer.close()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


async def test_a_file_is_fetched_and_nothing_else_is_left(tmp_path):
    seen = []
    async with wire.Wire(Shelf()) as server, APIClient(server.url) as api:
        got = await api.download("/a.bin", to=tmp_path / "a.bin", progress=lambda *both: seen.append(both))
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert (got.path, got.size, got.resumed_at, got.requests) == (tmp_path / "a.bin", len(BODY), 0, 1)
    assert (got.response.status, got.response.headers["etag"]) == (200, '"one"')
    assert files(tmp_path) == ["a.bin"]
    assert (seen[0], seen[-1]) == ((0, len(BODY)), (len(BODY), len(BODY)))
    assert server.seen[0].headers["accept-encoding"] == "identity"


async def test_an_empty_file_is_a_file(tmp_path):
    async with wire.Wire(Shelf(b"")) as server, APIClient(server.url) as api:
        assert (await api.download("/", to=str(tmp_path / "a"))).size == 0
    assert (tmp_path / "a").read_bytes() == b""


async def test_a_broken_line_is_taken_up_where_it_broke(tmp_path):
    shelf = Shelf(breaks_after=[300_000, 300_000, 0, 300_000])
    async with wire.Wire(shelf) as server, APIClient(server.url, policy=EAGER) as api:
        got = await api.download("/a", to=tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert (got.requests, got.resumed_at) == (5, 0)
    assert [seen.headers.get("range") for seen in server.seen] == [
        None,
        "bytes=300000-",
        "bytes=600000-",
        "bytes=600000-",
        "bytes=900000-",
    ]
    assert {seen.headers.get("if-range") for seen in server.seen[1:]} == {'"one"'}


async def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path):
    shelf = Shelf(breaks_after=[300_000])
    async with wire.Wire(shelf) as server, APIClient(server.url, policy=EAGER) as api:

        @api.on_response
        def change(response):
            shelf.body, shelf.headers = b"new", [("ETag", '"two"')]

        await api.download("/a", to=tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(server.seen) == 2


LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ([("ETag", 'W/"weak"')], None),
        ([], None),
        ([("Last-Modified", LONG_AGO)], None),
        ([("Last-Modified", LONG_AGO), ("Date", LONG_AGO)], None),
        ([("Last-Modified", LONG_AGO), ("Date", "Mon, 01 Jan 2024 00:00:01 GMT")], LONG_AGO),
        ([("ETag", '"one"'), ("Accept-Ranges", "none")], None),
    ],
)
async def test_without_a_strong_validator_it_begins_anew(tmp_path, headers, if_range):
    shelf = Shelf(breaks_after=[300_000], headers=headers)
    async with wire.Wire(shelf) as server, APIClient(server.url, policy=EAGER) as api:
        await api.download("/a", to=tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert server.seen[1].headers.get("if-range") == if_range


async def test_a_line_that_breaks_too_often_is_given_up_and_the_old_file_stays(tmp_path):
    (tmp_path / "a").write_text("old")
    async with (
        wire.Wire(Shelf(breaks_after=[10, 0, 10, 0, 0, 0])) as server,
        APIClient(server.url, policy=EAGER) as api,
    ):
        with pytest.raises(ConnectionLost):
            await api.download("/a", to=tmp_path / "a")
    assert len(server.seen) == 5  # each that brought something is the first of three again
    assert (files(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


async def test_a_later_download_goes_on_with_what_an_earlier_one_left(tmp_path):
    shelf = Shelf(breaks_after=[300_000])
    async with wire.Wire(shelf) as server:
        async with APIClient(server.url, policy=Policy(timeout=wire.BOUND_S)) as api:
            with pytest.raises(ConnectionLost):
                await api.download("/a?key=secret", to=tmp_path / "a", resume=True)
        assert files(tmp_path) == ["a.part", "a.part.json"]
        assert "secret" not in (tmp_path / "a.part.json").read_text()
        async with APIClient(server.url) as api:
            got = await api.download("/a?key=secret", to=tmp_path / "a", resume=True)
    assert (got.resumed_at, got.size, got.response.status) == (300_000, len(BODY), 206)
    assert (tmp_path / "a").read_bytes() == BODY
    assert files(tmp_path) == ["a"]


@pytest.mark.parametrize("why", ["changed", "another url", "damaged note", "too long"])
async def test_what_an_earlier_one_left_is_not_used_where_it_does_not_fit(tmp_path, why):
    shelf = Shelf(breaks_after=[300_000])
    async with wire.Wire(shelf) as server, APIClient(server.url, policy=Policy(timeout=wire.BOUND_S)) as api:
        with pytest.raises(ConnectionLost):
            await api.download("/a", to=tmp_path / "a", resume=True)
        if why == "changed":
            shelf.body, shelf.headers = b"other", [("ETag", '"two"')]
        elif why == "damaged note":
            (tmp_path / "a.part.json").write_text("{")
        elif why == "too long":
            shelf.body = BODY[:100]
        got = await api.download("/b" if why == "another url" else "/a", to=tmp_path / "a", resume=True)
    assert (tmp_path / "a").read_bytes() == shelf.body
    assert got.resumed_at == 0
    assert files(tmp_path) == ["a"]


async def test_a_stuck_server_is_given_up_by_the_read_time_and_the_whole_by_its_total(tmp_path):
    async def stuck(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await asyncio.sleep(wire.BOUND_S)

    short = ClientSettings(timeouts=Timeouts(read=0.05))
    async with wire.Wire(stuck) as server, APIClient(server.url, policy=EAGER, settings=short) as api:
        with pytest.raises(DeadlineExceeded, match="sent nothing"):
            await api.download("/a", to=tmp_path / "a")
        assert len(server.seen) == 3
    async with wire.Wire(stuck) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(DeadlineExceeded, match=r"Not done within 0\.05 s"):
            await api.download("/a", to=tmp_path / "a", total=0.05)
        assert len(server.seen) == 1
    assert files(tmp_path) == []


async def test_a_cancelled_download_leaves_nothing(tmp_path):
    began = asyncio.Event()

    async def stuck(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        began.set()
        await asyncio.sleep(wire.BOUND_S)

    async with wire.Wire(stuck) as server, APIClient(server.url) as api:
        task = asyncio.create_task(api.download("/a", to=tmp_path / "a"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert api._transport.gate.busy == 0
    assert files(tmp_path) == []


async def test_an_error_of_the_server_is_that_error(tmp_path):
    async with wire.Wire(wire.answer(404)) as server, APIClient(server.url) as api:
        with pytest.raises(APIError):
            await api.download("/a", to=tmp_path / "a")
    assert files(tmp_path) == []


async def test_a_part_that_was_not_asked_for_is_refused(tmp_path):
    part = wire.answer(206, b"xxx", content_range="bytes 5-7/100")
    async with wire.Wire(part) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer, match="another part"):
            await api.download("/a", to=tmp_path / "a")
        with pytest.raises(ConfigurationError, match="ranges itself"):
            await api.download("/a", to=tmp_path / "a", headers={"Range": "bytes=0-1"})
    assert files(tmp_path) == []


async def test_a_length_that_is_not_kept_is_told(tmp_path):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"1234"})

    async with APIClient("http://testserver", transport=ASGITransport(app)) as api:
        with pytest.raises(BadAnswer, match="4 bytes came, and the server had said 5"):
            await api.download("/a", to=tmp_path / "a")
    assert files(tmp_path) == []


async def test_a_body_without_a_length_ends_where_it_ends(tmp_path):
    async with wire.Wire(Shelf(length=False)) as server, APIClient(server.url) as api:
        await api.download("/a", to=tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("resume", [False, True])
async def test_a_full_disk_is_told_and_gets_its_room_back(small_disk, resume):
    async with wire.Wire(Shelf()) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(FileNotWritten, match=r"no room.*Free some space") as caught:
            await api.download("/a", to=small_disk / "a", resume=resume)
        assert not caught.value.retryable
        assert len(server.seen) == 1
        assert files(small_disk) == []
        assert (await api.get("/")).status == 200


async def test_a_folder_that_is_not_there_is_told_before_anything_is_asked(tmp_path):
    async with wire.Wire(Shelf()) as server, APIClient(server.url) as api:
        with pytest.raises(FileNotWritten, match="No such file"):
            await api.download("/a", to=tmp_path / "no" / "a")
    assert server.seen == []


async def test_a_server_that_is_not_there_is_no_matter_of_the_file(tmp_path):
    async with wire.Wire() as gone:
        pass
    async with APIClient(gone.url, policy=EAGER) as api:
        with pytest.raises(ConnectError):
            await api.download("/a", to=tmp_path / "a")
    assert files(tmp_path) == []
