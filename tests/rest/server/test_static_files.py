"""A folder whose files anybody may read, and nothing beside it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.compression import Compression
from consona.rest.server.cors import CORS
from consona.rest.server.settings import ServerSettings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "public"
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "index.html").write_text("<h1>Home</h1>")
    (folder / "docs" / "index.html").write_text("<h1>Docs</h1>")
    (folder / "style.css").write_text("a { color: teal }" * 100)
    (folder / "a b ü%2F.txt").write_text("odd")
    (folder / ".env").write_text("key")
    (folder / ".git" / "config").write_text("key")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    return folder


def server(folder, *, prefix="/static", **settings):
    api = APIServer("t", settings=ServerSettings(docs_path=""))
    api.files(prefix, folder, **settings)

    @api.get("/static/made")
    async def made() -> str:
        return "made"

    return api


async def test_a_file_is_given_out_and_routes_come_first(folder):
    async with server(folder) as api:
        answer = await call(api, "GET", "/static/style.css")
        assert (answer.status, answer.header("content-type")) == (200, "text/css; charset=utf-8")
        assert answer.header("cache-control") == "no-cache"
        assert (await call(api, "GET", "/static/made")).json() == "made"
        again = await call(api, "GET", "/static/style.css", headers={"if-none-match": answer.header("etag")})
        assert again.status == 304
        assert (await call(api, "GET", "/static/style.css", headers={"range": "bytes=0-1"})).body == b"a "
        assert (await call(api, "GET", "/static/a%20b%20%C3%BC%252F.txt")).body == b"odd"


OUTSIDE = [
    "/static/../secret.txt",
    "/static/%2e%2e/secret.txt",
    "/static/..%2fsecret.txt",
    "/static/docs/../../secret.txt",
    "/static/..%5csecret.txt",
    "/static/docs/..",
    "/static//etc/passwd",
    "/static/%2Fetc%2Fpasswd",
    "/static/./style.css",
    "/static/style.css%00.txt",
    "/static/out.txt",
    "/static/up/secret.txt",
    "/static/.env",
    "/static/.git/config",
    "/static/docs%2Findex.html",
    "/static/docs",
    "/static/docs/",
    "/static/",
    "/static",
    "/static/absent",
    "/static/style.css/",
    "/static/style.css/x",
    "/staticstyle.css",
    "/static/" + "x" * 5000,
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_nothing_else_is(folder, path):
    async with server(folder) as api:
        answer = await call(api, "GET", path)
    assert answer.status == 404
    assert b"secret" not in answer.body


async def test_hidden_names_only_where_they_are_wanted(folder):
    async with server(folder, hidden=True) as api:
        assert (await call(api, "GET", "/static/.env")).body == b"key"
        assert (await call(api, "GET", "/static/../secret.txt")).status == 404


@pytest.mark.parametrize("prefix", ["/static", ""])
async def test_an_index_answers_for_its_folder(folder, prefix):
    async with server(folder, prefix=prefix, index=True, max_age=60) as api:
        answer = await call(api, "GET", f"{prefix}/")
        assert (answer.body, answer.header("cache-control")) == (b"<h1>Home</h1>", "public, max-age=60")
        assert (await call(api, "GET", f"{prefix}/docs/")).body == b"<h1>Docs</h1>"
        moved = await call(api, "GET", f"{prefix}/docs")
        assert (moved.status, moved.header("location")) == (308, f"{prefix}/docs/")
        assert (await call(api, "GET", f"{prefix}/docs/deep/")).status == 404


async def test_files_are_found_where_the_server_is_mounted(folder):
    async with server(folder) as api:
        answer = await call(api, "GET", "/shop/static/a%20b%20%C3%BC%252F.txt", root_path="/shop")
        assert answer.body == b"odd"
        assert (await call(api, "GET", "/shop/static/style.css", root_path="/shop")).status == 200


async def test_files_can_only_be_read(folder):
    async with server(folder) as api:
        refused = await call(api, "PUT", "/static/style.css", body=b"x")
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD, OPTIONS")
        assert (await call(api, "OPTIONS", "/static/style.css")).header("allow") == "GET, HEAD, OPTIONS"
        assert (await call(api, "HEAD", "/static/style.css")).body == b""


async def test_middlewares_see_them(folder):
    api = server(folder)
    api.middleware(CORS(origins=["https://a.example"]))
    api.middleware(Compression())
    async with api:
        asks = {"origin": "https://a.example", "access-control-request-method": "GET"}
        preflight = await call(api, "OPTIONS", "/static/style.css", headers=asks)
        answer = await call(api, "GET", "/static/style.css", headers={"accept-encoding": "gzip"})
        part = await call(api, "GET", "/static/style.css", headers={"accept-encoding": "gzip", "range": "bytes=0-9"})
    assert preflight.header("access-control-allow-methods") == "GET, HEAD, OPTIONS"
    assert (answer.header("content-encoding"), answer.header("content-length")) == ("gzip", None)
    assert (part.status, part.body, part.header("content-encoding")) == (206, b"a { color:", None)


def test_a_folder_that_does_not_exist_is_told_at_start(tmp_path):
    with pytest.raises(ConfigurationError, match="no folder"):
        asyncio.run(server(tmp_path / "absent").start())


def test_a_prefix_has_one_owner(folder):
    with pytest.raises(ConfigurationError, match="already"):
        server(folder).files("/static", folder)


async def test_a_file_that_may_not_be_read_is_not_found(folder):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "style.css").chmod(0)
    async with server(folder) as api:
        assert (await call(api, "GET", "/static/style.css")).status == 404
