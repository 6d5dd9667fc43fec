"""What a form with files promises, read back by a strict parser of another house."""

from __future__ import annotations

import asyncio
import io
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multipart import MultipartParser

import wire
from consona.errors import ConfigurationError, ConnectError
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.multipart import File, Multipart

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))


def parts_of(seen):
    boundary = re.fullmatch("multipart/form-data; boundary=(\\w+)", seen.headers["content-type"])[1]
    read = []
    for part in MultipartParser(io.BytesIO(seen.body), boundary, strict=True):
        read.append((part.name, part.filename, part.content_type if part.filename else None, part.raw))
        part.close()
    return read


async def stream():
    yield b"one"
    yield b""
    yield b"two"


async def test_a_form_carries_fields_and_files(tmp_path):
    photo = tmp_path / "sunset.jpg"
    photo.write_bytes(bytes(range(256)) * 1000)
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.post(
            "/photos",
            data={"title": "Süden", "tag": ["a", "b"], "public": True, "none": None, "size": 3},
            files={"photo": File(photo), "notes": [File(b"x", name="n.txt"), File(stream, name="a.bin", type="a/b")]},
        )
    [seen] = server.seen
    assert parts_of(seen) == [
        ("title", None, None, "Süden".encode()),
        ("tag", None, None, b"a"),
        ("tag", None, None, b"b"),
        ("public", None, None, b"true"),
        ("size", None, None, b"3"),
        ("photo", "sunset.jpg", "image/jpeg", photo.read_bytes()),
        ("notes", "n.txt", "text/plain", b"x"),
        ("notes", "a.bin", "a/b", b"onetwo"),
    ]
    assert seen.headers["transfer-encoding"] == "chunked"  # the stream's length is not known
    assert "content-length" not in seen.headers


async def test_the_length_is_told_where_it_is_known(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"hello")
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.post("/", files=[("a", File(str(file))), ("a", File(b"x" * 200_000))], data=[("b", "1")])
    [seen] = server.seen
    assert int(seen.headers["content-length"]) == len(seen.body)
    assert [(name, filename) for name, filename, _, _ in parts_of(seen)] == [
        ("b", None),
        ("a", "a.txt"),
        ("a", "file"),
    ]


async def test_the_same_upload_in_process_without_a_socket(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"hello")
    got = []

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        got.append(wire.Seen("POST", "/", headers, body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1"})

    async with APIClient("http://testserver", transport=ASGITransport(app)) as api:
        await api.post("/", files={"a": File(file)})
    assert parts_of(got[0]) == [("a", "a.txt", "text/plain", b"hello")]
    assert int(got[0].headers["content-length"]) == len(got[0].body)


@pytest.mark.parametrize("deed", [wire.answer(503), wire.hang_up])
async def test_a_file_from_disk_is_sent_again_by_a_safe_retry(tmp_path, deed):
    file = tmp_path / "a.bin"
    file.write_bytes(os.urandom(300_000))
    async with wire.Wire(deed, wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        await api.put("/", files={"a": File(file)})
    first, second = server.seen
    assert first.body == second.body
    assert parts_of(second)[0][3] == file.read_bytes()


async def test_a_stream_in_a_form_is_not_sent_again():
    async with wire.Wire(wire.answer(503)) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(Exception, match="503"):
            await api.put("/", files={"a": File(stream())})
    assert len(server.seen) == 1


async def test_a_file_that_is_not_there_is_told_before_anything_is_sent(tmp_path):
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        with pytest.raises(ConfigurationError, match=r"gone\.txt cannot be read: No such file"):
            await api.post("/", files={"a": File(tmp_path / "gone.txt")})
        with pytest.raises(ConfigurationError, match="cannot be read"):
            await api.post("/", files={"a": File(tmp_path)})
    assert server.seen == []


async def test_a_file_that_shrinks_on_the_way_breaks_the_request_and_says_so(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"x" * 2_000_000)

    async def shrinking():
        yield b"first"
        file.write_bytes(b"x")

    async with wire.Wire(wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        form = {"begin": File(shrinking, name="b"), "log": File(file)}
        with pytest.raises(ConfigurationError, match="became shorter while it was sent"):
            await api.put("/", files=form)
        assert server.seen == []
        assert api._transport.gate.busy == 0


async def test_a_file_that_grows_on_the_way_is_sent_as_long_as_it_was(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"x" * 1000)

    async def growing():
        with file.open("ab") as more:
            more.write(b"y" * 1000)
        yield b"first"

    async with wire.Wire(wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        await api.put("/", files={"begin": File(growing, name="b"), "log": File(file)})
    assert parts_of(server.seen[0])[1][3] == b"x" * 1000


async def test_a_server_that_does_not_read_holds_the_disk_back(tmp_path):
    file = tmp_path / "big"
    with file.open("wb") as big:
        big.truncate(200_000_000)
    seen = []

    async def read_head_only(reader):
        await reader.readuntil(b"\r\n\r\n")
        return wire.Seen("PUT", "/", {}, b"")

    original, wire.read_request = wire.read_request, read_head_only
    try:
        async with wire.Wire(wire.silence) as server, APIClient(server.url) as api:
            upload = asyncio.create_task(
                api.put("/", files={"a": File(file)}, progress=lambda done, total: seen.append((done, total)))
            )
            before = -1
            while not seen or before != seen[-1]:  # until it can send no more
                before = seen[-1] if seen else -1
                await asyncio.sleep(0.05)
            assert 0 < seen[-1][0] < 50_000_000
            assert seen[-1][1] > 200_000_000
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
    finally:
        wire.read_request = original


@pytest.mark.parametrize(
    "name", ['a"; filename="b', "a\r\nX-Evil: 1", "back\\slash", "ü ñ 漢", "%22", "semi;colon", ""]
)
async def test_names_cannot_break_out_of_their_place(name):
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.post("/", data={name: "v"}, files={name: File(b"f", name=name)})
    field, file = parts_of(server.seen[0])
    assert b"\r\nX-Evil" not in server.seen[0].body
    assert (field[3], file[3], file[1]) == (b"v", b"f", file[0] or "file")
    if "\\" not in name:  # whose meaning parsers do not agree on
        assert field[0] == file[0] == name.replace("%22", '"')  # as every browser's: the escape itself has none


@pytest.mark.parametrize("make", [lambda: File(7), lambda: File(["a"]), lambda: File(b"", type="text/x\r\nX: 1")])
def test_what_is_no_file_is_refused(make):
    with pytest.raises(ConfigurationError, match=r"File\("):
        make()


@pytest.mark.parametrize(
    "body", [{"files": {"a": b"raw"}}, {"files": {"a": "path"}}, {"files": {}, "json": 1}, {"files": {}, "data": "x"}]
)
async def test_a_form_that_cannot_be_sent_is_refused_before_anything_is(body):
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        with pytest.raises(ConfigurationError):
            await api.post("/", **body)
    assert server.connections == 0


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\%'), min_size=1)


@settings(deadline=None)
@given(
    st.lists(st.tuples(names, names, st.binary())), st.lists(st.tuples(names, st.text(st.characters(codec="utf-8"))))
)
def test_any_form_is_read_back_as_it_was(files, fields):
    async def made():
        form = Multipart(fields, [(name, File(content, name=filename)) for name, filename, content in files])
        size = await form.measure()
        body = b"".join([piece async for piece in form.pieces()])
        assert size == len(body)
        return wire.Seen("POST", "/", {"content-type": form.content_type}, body)

    read = parts_of(asyncio.run(made()))
    assert [(name, raw) for name, filename, _, raw in read if filename is None] == [
        (name, value.encode()) for name, value in fields
    ]
    assert [(name, filename, raw) for name, filename, _, raw in read if filename is not None] == files


async def test_a_redirected_form_goes_along_where_it_can_be_sent_again(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"hello")
    async with wire.Wire(wire.answer(307, location="/there"), wire.answer()) as server, APIClient(server.url) as api:
        await api.post("/", files={"a": File(file)})
    assert server.seen[1].target == "/there"
    assert parts_of(server.seen[1])[0][3] == b"hello"


async def test_nothing_was_taken_of_a_stream_whose_server_was_not_there():
    async with wire.Wire() as gone:
        pass
    taken = []

    async def noting():
        taken.append(1)
        yield b"x"

    async with APIClient(gone.url, policy=EAGER) as api:
        with pytest.raises(ConnectError) as caught:
            await api.post("/", files={"a": File(noting())})
    assert (taken, caught.value.retryable) == ([], True)
