"""Answers become smaller for clients that ask for it, and are the same after all."""

from __future__ import annotations

import asyncio
import sys
import zlib

import aiohttp
import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.client.content_decoding import decoder_for
from consona.rest.server.api_server import APIServer
from consona.rest.server.compression import Compression
from consona.rest.server.content_coding import CODINGS, best_coding
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response, StreamingResponse
from served import served

TEXT = "word " * 20_000
ALL = ("zstd", "br", "gzip")


def plain(answer):
    coding = answer.header("content-encoding")
    if coding is None:
        return answer.body
    decoder = decoder_for(coding)
    found = b"".join(decoder.pieces(answer.body))
    decoder.finish()
    return found


def server(**settings):
    api = APIServer("t")
    api.middleware(Compression(**settings))

    @api.get("/text")
    async def text() -> Response:
        return Response(TEXT, headers={"etag": '"abc"', "accept-ranges": "bytes"})

    @api.get("/data")
    async def data() -> list[str]:
        return [TEXT]

    @api.get("/small")
    async def small() -> str:
        return "small"

    @api.get("/image")
    async def image() -> Response:
        return Response(b"\0" * 10_000, media_type="image/png")

    @api.get("/coded")
    async def coded() -> Response:
        return Response(zlib.compress(b"x" * 9000), headers={"content-encoding": "deflate"}, media_type="text/plain")

    @api.get("/secret")
    async def secret() -> Response:
        return Response(TEXT, headers={"cache-control": "private, no-transform"})

    @api.get("/part")
    async def part() -> Response:
        return Response(TEXT, status=206, headers={"content-range": "bytes 0-9/10"})

    @api.get("/stream")
    async def stream() -> Response:
        async def pieces():
            for number in range(5):
                yield f"data: {number}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream", headers={"etag": '"s"'})

    @api.get("/known")
    async def known(request: Request) -> Response:
        wanted = request.headers.get("if-none-match", "")
        return Response(status=304, headers={"etag": '"abc"'}) if '"abc"' in wanted else Response(TEXT)

    @api.put("/known")
    async def change(request: Request) -> str:
        return request.headers.get("if-match", "")

    return api


async def get(api, path, accept="gzip", method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(api, method, path, headers={"accept-encoding": accept, **headers})


@pytest.mark.parametrize("coding", ALL)
@pytest.mark.parametrize("path", ["/text", "/data", "/stream"])
async def test_an_answer_is_compressed_and_is_the_same(coding, path):
    async with server() as api:
        bare = await call(api, "GET", path)
        answer = await get(api, path, coding)
    assert answer.header("content-encoding") == coding
    assert plain(answer) == bare.body
    assert answer.header("vary") == bare.header("vary") == "accept-encoding"
    if path != "/stream":
        assert len(answer.body) < len(bare.body) / 10
        assert answer.header("content-length") == str(len(answer.body))


@pytest.mark.parametrize("path", ["/small", "/image", "/coded", "/secret", "/part"])
async def test_what_would_not_gain_or_must_not_change_is_left_alone(path):
    async with server() as api:
        bare = await call(api, "GET", path)
        answer = await get(api, path)
    assert (answer.body, answer.headers) == (bare.body, bare.headers)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("gzip;q=1.0, br;q=0.9", "gzip"),
        ("gzip;q=0", None),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("gzip;q=x", None),
        ("deflate, sdch", None),
        ("br ; q=0.1 , gzip ; q=0.2", "gzip"),
        (",;=,", None),
    ],
)
def test_the_client_chooses(accept, coding):
    assert best_coding(accept, ALL) == coding


async def test_several_headers_count_as_one_and_the_server_may_offer_less():
    async with server(codings=["gzip"]) as api:
        headers = [("accept-encoding", "br"), ("accept-encoding", "gzip;q=0.1")]
        answer = await call(api, "GET", "/text", headers=headers)
    assert answer.header("content-encoding") == "gzip"


async def test_a_strong_tag_becomes_weak_and_comes_back_as_it_was():
    async with server() as api:
        answer = await get(api, "/text")
        assert answer.header("etag") == 'W/"abc-gzip"'
        assert answer.header("accept-ranges") is None
        again = await get(api, "/known", if_none_match='"x", W/"abc-gzip"')
        assert (again.status, again.header("etag"), again.header("vary")) == (304, 'W/"abc-gzip"', "accept-encoding")
        plainly = await get(api, "/known", "", if_none_match='"abc"')
        assert (plainly.status, plainly.header("etag")) == (304, '"abc"')
        written = await get(api, "/known", method="PUT", if_match='W/"abc-gzip", W/"other"')
        assert written.json() == '"abc", W/"other"'


async def test_head_says_the_same_as_get():
    async with server() as api:
        for path in ("/text", "/stream"):
            got, head = await get(api, path), await get(api, path, method="HEAD")
            assert head.body == b""
            assert head.headers == got.headers


async def test_an_answer_that_is_given_to_everybody_is_not_changed():
    api, shared = APIServer("t"), Response(TEXT)
    api.middleware(Compression())

    @api.get("/x")
    async def x() -> Response:
        return shared

    async with api:
        assert [plain(await get(api, "/x", coding)) for coding in ("gzip", "", "gzip")] == [TEXT.encode()] * 3
        assert (await get(api, "/x", "")).header("content-encoding") is None


async def test_a_mounted_applications_answer_is_compressed_and_outer_middlewares_may_still_change_it():
    api = APIServer("t")

    @api.middleware
    async def outer(request, call_next):
        response = await call_next(request)
        response.headers["x-outer"] = "1"
        return response

    api.middleware(Compression())

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(TEXT))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = len(TEXT) // 2
        await send({"type": "http.response.body", "body": TEXT[:half].encode(), "more_body": True})
        await send({"type": "http.response.body", "body": TEXT[half:].encode()})

    api.mount("/app", app)
    async with api:
        answer = await get(api, "/app/x", "br")
    assert (plain(answer), answer.header("x-outer")) == (TEXT.encode(), "1")
    assert answer.header("content-length") is None


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_events_are_not_held_back(coding):
    """Each event arrives before the next one is made, over a real connection."""
    api, go = APIServer("t"), asyncio.Event()
    api.middleware(Compression())

    @api.get("/events")
    async def events() -> Response:
        async def pieces():
            yield "data: first\n\n"
            await go.wait()
            yield "data: second\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    decoder = decoder_for(coding)
    async with (
        api,
        served(api) as address,
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{address}/events", headers={"accept-encoding": coding}) as answer,
    ):
        assert answer.headers["content-encoding"] == coding
        seen = b""
        async with asyncio.timeout(20):
            while seen != b"data: first\n\n":
                seen += b"".join(decoder.pieces(await answer.content.readany()))
            go.set()
            while not answer.content.at_eof():
                seen += b"".join(decoder.pieces(await answer.content.readany()))
        decoder.finish()
    assert seen == b"data: first\n\ndata: second\n\n"


def test_settings_that_cannot_be_meant_are_refused(monkeypatch):
    with pytest.raises(ConfigurationError, match="negative"):
        Compression(minimum=-1)
    with pytest.raises(ConfigurationError, match="gzip"):
        Compression(codings=["deflate"])
    monkeypatch.delitem(CODINGS, "br")
    with pytest.raises(ConfigurationError, match=r"consona\[brotli\]"):
        Compression(codings=["br"])


def test_it_works_without_the_optional_packages():
    code = """
import sys
for name in ("brotli", "compression", "compression.zstd", "backports", "backports.zstd"):
    sys.modules[name] = None
from consona.rest.server.compression import Compression
assert Compression().codings == ("gzip",)
"""
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True)
