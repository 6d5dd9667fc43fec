"""Answers: headers that cannot be forged, cookies, redirects, streams."""

from __future__ import annotations

import threading

import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.headers import Headers
from consona.rest.server.api_server import APIServer
from consona.rest.server.requests import read_cookies
from consona.rest.server.responses import Redirect, Response, StreamingResponse


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\r\nset-cookie: b=c"), ("x", "a\nb"), ("x", "a\x00"), ("x y", "a"), ("", "a"), ("x", "€")],
)
def test_a_header_cannot_smuggle_another(name, value):
    with pytest.raises(ConfigurationError):
        Response(headers={name: value})
    with pytest.raises(ConfigurationError):
        Response().headers[name] = value


def test_headers_have_names_in_any_case_and_several_values():
    headers = Headers.of({"Content-Type": "a", "X-B": "b"})
    headers.add("vary", "accept")
    headers.add("Vary", "origin")
    assert (headers["content-type"], headers.all("VARY"), "x-b" in headers, len(headers)) == (
        "a",
        ["accept", "origin"],
        True,
        3,
    )
    headers["VARY"] = "*"
    del headers["x-b"]
    assert headers.raw == [(b"content-type", b"a"), (b"vary", b"*")]
    with pytest.raises(KeyError):
        del headers["x-b"]
    assert 3 not in headers
    assert "a" not in repr(headers).replace("vary", "")[-5:]


def test_a_cookie_is_closed_to_scripts_and_other_sites_unless_opened():
    response = Response()
    response.set_cookie("session", "a;b", max_age=60)
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("session=")
    for attribute in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=60"):
        assert attribute in cookie
    assert read_cookies([cookie.partition("; ")[0]]) == {"session": "a;b"}
    response.set_cookie("open", "1", secure=False, http_only=False, same_site="strict", domain="example.org")
    assert "HttpOnly" not in response.headers.all("set-cookie")[1]


def test_the_first_of_two_cookies_with_one_name_counts():
    assert read_cookies(["a=1; b=2; a=3", 'junk; b=4; =5; c="q r"']) == {"a": "1", "b": "2", "c": "q r"}


def test_a_redirect_cannot_carry_a_header():
    redirect = Redirect("/a b\r\nx: y?q=é", status=303)
    assert (redirect.status, redirect.headers["location"]) == (303, "/a%20b%0D%0Ax:%20y?q=%C3%A9")


async def streamed(parts, method="GET", **options):
    api = APIServer("t")

    @api.get("/x")
    async def handler() -> StreamingResponse:
        return StreamingResponse(parts(), **options)

    async with api:
        return await call(api, method, "/x")


async def test_streams_of_bytes_and_text_from_either_kind_of_iterator():
    async def pieces():
        yield b"a"
        yield ""
        yield "é"

    def plain():
        yield str(threading.current_thread() is threading.main_thread())

    answer = await streamed(pieces, status=206, headers={"x-a": "1"}, media_type="text/plain")
    assert (answer.status, answer.body.decode(), answer.header("content-length")) == (206, "aé", None)
    assert answer.header("x-a") == "1"
    assert (await streamed(plain)).body == b"False"


async def test_a_stream_is_closed_for_head():
    closed = []

    async def pieces():
        try:
            yield b"a"
        finally:
            closed.append(1)

    answer = await streamed(pieces, "HEAD")
    assert (answer.status, answer.body) == (200, b"")


async def test_a_stream_that_fails_is_broken_off_and_counted():
    async def pieces():
        yield b"a"
        raise ValueError

    api = APIServer("t")

    @api.get("/x")
    async def handler() -> StreamingResponse:
        return StreamingResponse(pieces())

    async with api:
        with pytest.raises(ValueError):
            await call(api, "GET", "/x")
        assert api.stats.errors == {"ValueError": 1}
