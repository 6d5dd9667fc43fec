from __future__ import annotations

import pickle

import pytest

from consona.errors import APIError
from consona.rest.client.response import Response, api_error


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=latin-1", b"\xfc", "ü"),
        ('text/plain; Charset="UTF-8"', "ü".encode(), "ü"),
        ("text/plain", "ü".encode(), "ü"),
        ("text/plain; charset=no-such-thing", "ü".encode(), "ü"),
        ("text/plain; charset=base64", b"YQ==", "YQ=="),
        ("", b"\xff", "\ufffd"),
    ],
)
def test_text_follows_the_charset_that_is_named(content_type, body, text):
    assert Response(200, [(b"Content-Type", content_type.encode())], body).text == text


def test_headers_are_found_in_any_case_and_all_of_a_name_are_kept():
    response = Response(200, [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"X", b"\xe4")])
    assert response.headers.all("SET-COOKIE") == ["a=1", "b=2"]
    assert response.headers["x"] == "ä"
    assert response.content_type == ""


def test_a_repr_shows_neither_body_nor_secrets():
    shown = repr(Response(200, [], b"private", url="http://a.example/?token=s3cret&page=1"))
    assert "private" not in shown
    assert "s3cret" not in shown
    assert "page=1" in shown


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"detail": "x"}', b'{"title": 7}', b'{"title": "a\\nb"}', b"[" * 9999]
)
def test_an_error_has_its_standard_words_where_the_server_has_no_usable_ones(body):
    error = api_error(Response(404, [(b"content-type", b"application/json")], body), retryable=False)
    assert "answered 404 Not Found." in error.message


def test_an_error_can_leave_the_process():
    error = api_error(Response(503, [(b"retry-after", b"7")], b"x"), retryable=True)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, APIError)
    assert (again.status, again.retry_after, again.retryable, again.response) == (503, 7.0, True, None)
