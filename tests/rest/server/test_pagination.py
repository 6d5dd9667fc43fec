"""Pages of a list: right in each style, to our own client too, and no cursor but those that were given."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Annotated

import msgspec
import openapi_spec_validator
import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.client.pages import CursorPages, LinkPages, OffsetPages, PageNumbers
from consona.rest.server.api_server import APIServer
from consona.rest.server.pagination import ByCursor, ByNumber, ByOffset, Page, PageSize
from consona.sql.database import SQLDatabase


class Post(msgspec.Struct):
    id: int
    name: str = ""


class Secret(Post):
    password: str = "hidden"


POSTS = [Post(number) for number in range(1, 48)]


def blog(posts: list[Post] = POSTS) -> APIServer:
    api = APIServer("blog")

    @api.get("/cursor")
    async def by_cursor(want: ByCursor[int], even: bool = False) -> Page[Post]:
        found = [post for post in posts if post.id > (want.after or 0) and not (even and post.id % 2)]
        return want.page(found[: want.fetch], key=lambda post: post.id)

    @api.get("/offset")
    async def by_offset(want: ByOffset, q: str = "") -> Page[Post]:
        return want.page(posts[want.offset :][: want.fetch])

    @api.get("/number")
    async def by_number(want: Annotated[ByNumber, PageSize(5, most=10)]) -> Page[Post]:
        assert want.offset == (want.number - 1) * want.limit
        return want.page(posts[want.offset :][: want.limit], total=len(posts))

    @api.get("/users/{user}/posts")
    async def of_user(user: str, want: ByCursor[int]) -> Page[Post]:
        return want.page(POSTS[: want.fetch], key=lambda post: post.id)

    return api


def links(answer) -> dict[str, str]:
    found = {}
    for name, value in answer.headers:
        if name == "link":
            target, _, relation = value.partition("; rel=")
            found[relation.strip('"')] = target.strip("<>")
    return found


@pytest.mark.parametrize(
    ("path", "style"),
    [
        ("/cursor", CursorPages()),
        ("/cursor", CursorPages(size=7)),
        ("/offset", OffsetPages(items="items", limit=10)),
        ("/number", PageNumbers(items="items")),
        ("/number", PageNumbers(items="items", size=10)),
        ("/cursor", LinkPages(items="items")),
        ("/offset", LinkPages(items="items")),
        ("/number", LinkPages(items="items")),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 20, 47])
async def test_our_client_walks_each_style(path, style, count):
    async with blog(POSTS[:count]).test_client() as client:
        found = [post async for post in client.pages(path, into=Post, style=style)]
    assert found == POSTS[:count]


async def test_a_cursor_loses_and_repeats_nothing_while_rows_come_and_go():
    db = SQLDatabase("sqlite://pages")
    api = APIServer("blog", parts=[db])

    @api.get("/posts")
    async def posts(want: ByCursor[tuple[dt.datetime, int]], db: SQLDatabase) -> Page[Post]:
        time, last = want.after or (dt.datetime.min.replace(tzinfo=dt.UTC), 0)
        rows = await db.fetch_all(
            "SELECT id, made FROM posts WHERE (made, id) > (?, ?) ORDER BY made, id LIMIT ?",
            time.isoformat(),
            last,
            want.fetch,
        )
        made = {row["id"]: dt.datetime.fromisoformat(row["made"]) for row in rows}
        return want.page([Post(row["id"]) for row in rows], key=lambda post: (made[post.id], post.id))

    async with api.test_client() as client:
        await db.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, made TEXT)")
        day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        for number in range(1, 11):
            await db.execute("INSERT INTO posts VALUES (?, ?)", number, (day + dt.timedelta(number // 3)).isoformat())
        found = []
        async for post in client.pages("/posts", into=Post, style=CursorPages(size=3)):
            found.append(post.id)
            if post.id == 3:  # one that was read goes, one comes before, and one behind
                await db.execute("DELETE FROM posts WHERE id = 3")
                await db.execute("INSERT INTO posts VALUES (100, ?)", (day - dt.timedelta(1)).isoformat())
                await db.execute("INSERT INTO posts VALUES (101, ?)", (day + dt.timedelta(9)).isoformat())
    assert found == [*range(1, 11), 101]


async def test_links_say_where_the_pages_around_are_and_keep_the_filters():
    async with blog() as api:
        assert links(await call(api, "GET", "/offset", query="q=a%26b&offset=20&limit=10")) == {
            "first": "?q=a%26b&offset=0&limit=10",
            "prev": "?q=a%26b&offset=10&limit=10",
            "next": "?q=a%26b&offset=30&limit=10",
        }
        assert links(await call(api, "GET", "/number", query="page=10")) == {
            "first": "?page=1&per_page=5",
            "prev": "?page=9&per_page=5",
            "last": "?page=10&per_page=5",
        }
        assert set(links(await call(api, "GET", "/cursor", query="limit=47"))) == {"first"}
        assert links(await call(api, "GET", "/number", query="per_page=99")) == {}


async def test_a_page_beyond_the_last_is_empty():
    async with blog() as api:
        answer = await call(api, "GET", "/number", query="page=1000000")
        assert answer.json() == {"items": [], "total": 47}
        assert "next" not in links(answer)


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/offset", "limit=101", "query.limit"),
        ("/offset", "limit=0", "query.limit"),
        ("/offset", "offset=-1", "query.offset"),
        ("/offset", "offset=99999999999", "query.offset"),
        ("/number", "page=0", "query.page"),
        ("/number", "per_page=11", "query.per_page"),
        ("/cursor", "limit=x", "query.limit"),
        ("/cursor", "cursor=", "query.cursor"),
        ("/cursor", "cursor=abc", "query.cursor"),
        ("/cursor", "cursor=%C3%A4", "query.cursor"),
        ("/cursor", f"cursor={'A' * 1001}", "query.cursor"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_by_its_name(path, query, field):
    async with blog() as api:
        answer = await call(api, "GET", path, query=query)
    assert (answer.status, [each["path"] for each in answer.json()["errors"]]) == (422, [field])


async def test_a_cursor_is_taken_by_the_list_that_gave_it_and_by_no_other():
    async with blog() as api:
        cursor = (await call(api, "GET", "/cursor", query="limit=2")).json()["next_cursor"]
        assert (await call(api, "GET", "/cursor", query=f"limit=5&cursor={cursor}")).json()["items"][0]["id"] == 3
        assert (await call(api, "GET", "/cursor", query=f"even=true&cursor={cursor}")).status == 422
        assert (await call(api, "GET", "/users/ada/posts", query=f"cursor={cursor}")).status == 422
        adas = (await call(api, "GET", "/users/ada/posts")).json()["next_cursor"]
        assert (await call(api, "GET", "/users/ada/posts", query=f"cursor={adas}")).status == 200
        assert (await call(api, "GET", "/users/bob/posts", query=f"cursor={adas}")).status == 422


async def test_a_cursor_of_another_type_is_refused():
    async with blog() as api:
        cursor = (await call(api, "GET", "/cursor", query="limit=2")).json()["next_cursor"]
        made_for, _ = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        for key in ("text", None, [1], 1.5):
            forged = base64.urlsafe_b64encode(msgspec.msgpack.encode((made_for, key))).rstrip(b"=").decode()
            assert (await call(api, "GET", "/cursor", query=f"cursor={forged}")).status == 422


async def test_an_item_shows_no_more_than_is_declared():
    async with blog([Secret(1), Post(2)]) as api:
        assert b"password" not in (await call(api, "GET", "/offset")).body


async def test_it_works_where_the_server_is_mounted():
    outer = APIServer("outer")
    outer.mount("/blog", blog())
    async with outer.test_client() as client:
        found = [post async for post in client.pages("/blog/cursor", into=Post, style=LinkPages(items="items"))]
    assert found == POSTS


def test_the_document_has_the_parameters_and_the_links():
    document = blog().openapi()
    openapi_spec_validator.validate(document)
    operation = document["paths"]["/number"]["get"]
    page, per_page = operation["parameters"]
    assert (page["name"], page["schema"]) == (
        "page",
        {"type": "integer", "minimum": 1, "maximum": 1_000_000_000, "default": 1},
    )
    assert (per_page["name"], per_page["schema"]["maximum"], per_page["schema"]["default"]) == ("per_page", 10, 5)
    assert "Link" in operation["responses"]["200"]["headers"]


@pytest.mark.parametrize(("default", "most"), [(0, 10), (20, 10)])
def test_a_size_that_cannot_be(default, most):
    with pytest.raises(ConfigurationError):
        PageSize(default, most=most)


def test_a_cursor_needs_the_type_of_its_key():
    api = APIServer("t")

    @api.get("/x")
    async def x(want: ByCursor) -> Page[Post]: ...

    with pytest.raises(ConfigurationError, match="type of its key"):
        api.openapi()
