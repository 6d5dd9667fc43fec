"""A form is taken apart the same way, however it arrives, and a broken one is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.rest.client.multipart import File, Multipart
from consona.rest.server.multipart import MultipartParser, PartEnd, PartHead
from consona.rest.server.problems import BadRequest, UnsupportedMediaType


def taken_apart(pieces, boundary):
    """(name, filename, type, content) of each part."""
    parser = MultipartParser(boundary)
    parts: list[list] = []
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, PartHead):
                parts.append([event.name, event.filename, event.type, b""])
            elif not isinstance(event, PartEnd):
                parts[-1][3] += event
    parser.finish()
    return [tuple(part) for part in parts]


def one(head: str, content: str = "x") -> bytes:
    return f"--B\r\n{head}\r\n\r\n{content}\r\n--B--\r\n".encode()


names = st.text("aB ä€;='-.", min_size=1, max_size=9)
texts = st.text("aB-\r\n ä", max_size=30)


@given(
    fields=st.lists(st.tuples(names, texts), max_size=2),
    files=st.lists(st.tuples(names, names, st.binary(max_size=100)), max_size=2),
    size=st.integers(1, 70),
)
async def test_what_our_client_sends_arrives_in_pieces_of_any_size(fields, files, size):
    form = Multipart(fields, [(name, File(data, name=called, type="image/png")) for name, called, data in files])
    await form.measure()
    whole = b"".join([piece async for piece in form.pieces()])
    boundary = form.content_type.partition("boundary=")[2]
    found = taken_apart([whole[start : start + size] for start in range(0, len(whole), size)], boundary)
    assert found == [(name, None, "", text.encode()) for name, text in fields] + [
        (name, called, "image/png", data) for name, called, data in files
    ]


@pytest.mark.parametrize("content", ["\r\n--A", "--B", "\r\n--C\r\n", "\r\n\r\n--\r\n", "-" * 500, "\r" * 300])
def test_what_looks_like_a_boundary_and_is_none(content):
    body = one('Content-Disposition: form-data; name="a"', content)
    for size in (1, 7, 1000):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert taken_apart(pieces, "B") == [("a", None, "", content.encode())]


def test_names_are_unescaped_as_browsers_escape_them():
    body = one('Content-Disposition: form-data; name="a%22b%0D%0Ac"; filename="%22.txt"')
    assert taken_apart([body], "B") == [('a"b\r\nc', '".txt', "", b"x")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of a form",
        b"--B",
        b"--B\r\n",
        b"--C\r\n\r\n",
        one('Content-Disposition: form-data; name="a"')[:-8],
        one('Content-Disposition: form-data; name="a"').replace(b"\r\n", b"\n"),
        one("Content-Disposition: form-data"),
        one('Content-Disposition: attachment; name="a"'),
        one("X-Other: 1"),
        one("no colon"),
        one(f'Content-Disposition: form-data; name="a"\r\nX-Long: {"x" * 9000}'),
        one('Content-Disposition: form-data; name="a"' + "\r\nX-Many: 1" * 50),
        '--B\r\nContent-Disposition: form-data; name="ä"\r\n\r\nx\r\n--B--\r\n'.encode("latin-1"),
    ],
)
def test_a_broken_form_is_refused(body):
    with pytest.raises(BadRequest):
        taken_apart([body], "B")


@pytest.mark.parametrize("boundary", ["", "x" * 5000])
def test_a_boundary_that_is_none(boundary):
    with pytest.raises(BadRequest):
        MultipartParser(boundary)


def test_an_encoded_part_is_refused_by_its_name():
    head = 'Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64'
    with pytest.raises(UnsupportedMediaType) as caught:
        taken_apart([one(head)], "B")
    assert caught.value.fields == (("form.a", "has Content-Transfer-Encoding 'base64'"),)
    assert taken_apart([one(head.replace("base64", "Binary"))], "B")


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_break_anything_but_the_form(data, size):
    body = b'--B\r\nContent-Disposition: form-data; name="a"\r\n' + data
    with contextlib.suppress(BadRequest, UnsupportedMediaType):
        taken_apart([body[start : start + size] for start in range(0, len(body), size)], "B")
