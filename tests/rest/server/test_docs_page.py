"""The docs page works offline, says everything, and runs nothing that is not its own."""

from __future__ import annotations

import re

import every_binding
from asgi_call import call
from consona.rest.server.api_server import APIServer
from consona.rest.server.docs_page import example_of, words_for
from consona.rest.server.settings import ServerSettings


async def page(api, path="/docs"):
    async with api:
        return await call(api, "GET", path)


async def test_it_shows_every_operation_with_its_types():
    answer = await page(every_binding.make())
    html = answer.body.decode()
    assert answer.header("content-type") == "text/html; charset=utf-8"
    for words in (
        "/things/{id}",
        "Read one thing.",
        "list of red or blue",
        "integer, at least 1, at most 100",
        "How many.",
    ):
        assert words.replace("red or blue", "Colour") in html
    assert "deprecated" in html
    assert html.count("<section") == html.count("</section>") > 12


async def test_it_loads_nothing_from_elsewhere():
    answer = await page(every_binding.make())
    links = re.findall(r'(?:src|href)="([^"]*)"', answer.body.decode())
    assert links
    assert all(link.startswith(("/docs/", "/openapi.json", "#")) for link in links)
    assert "default-src 'none'" in answer.header("content-security-policy")
    async with every_binding.make() as api:
        for link in links:
            if link.startswith("/"):
                assert (await call(api, "GET", link)).status == 200
        assert (await call(api, "GET", "/docs/..%2Fserver.py")).status == 404
        assert (await call(api, "GET", "/docs/other.css")).status == 404


async def test_what_users_write_is_shown_and_not_run():
    api = APIServer("<script>alert(1)</script>", description="<img src=x onerror=alert(1)>")

    @api.get("/x", tags=["<b>t</b>"], summary="<i>s</i>")
    async def x(): ...

    html = (await page(api)).body.decode()
    assert not re.search(r"<script>|<img|<b>|<i>", html)


async def test_paths_may_be_moved_taken_or_left_out():
    moved = APIServer("t", settings=ServerSettings(docs_path="/d", openapi_path="/o.json"))
    assert "/d/docs.css" in (await page(moved, "/d")).body.decode()
    closed = APIServer("t", settings=ServerSettings(openapi_path="", health_path=""))
    async with closed:
        for path in ("/docs", "/openapi.json", "/health/live"):
            assert (await call(closed, "GET", path)).status == 404
    own = APIServer("t")

    @own.get("/docs")
    async def docs() -> str:
        return "mine"

    assert (await page(own)).json() == "mine"


def test_a_schema_in_words():
    assert words_for({"type": "array", "items": {"$ref": "#/components/schemas/Post"}}) == "list of Post"
    assert words_for({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}) == "text, uuid or nothing"
    assert words_for({"enum": ["a", 1]}) == "one of a, 1"


def test_an_example_ends_also_where_types_contain_themselves():
    schemas = {"Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}}}
    assert example_of({"$ref": "#/components/schemas/Node"}, schemas)["next"]["next"]


async def test_descriptions_are_markdown_and_never_html():
    api = APIServer(
        "t", description="Use `sort`:\n\n- *one*\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1))\n\n# big"
    )
    async with api.test_client() as client:
        page = (await client.get("/docs")).text
    assert "<code>sort</code>" in page
    assert "<li><em>one</em></li>" in page
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    assert page.count("<h1") == 1
