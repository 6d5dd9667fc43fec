"""Readers are spared what they have; writers cannot undo what others did."""

from __future__ import annotations

import asyncio

import msgspec
import openapi_spec_validator
import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.headers import Headers
from consona.rest.server.api_server import APIServer
from consona.rest.server.conditional import NotModified, Precondition, entity_tag, evaluate, http_date
from consona.rest.server.responses import Response

NOW = 1_800_000_000


class Post(msgspec.Struct):
    text: str


def server():
    api = APIServer("t")
    api.posts = {1: Post("old")}

    @api.get("/posts/{id}", etag=True)
    async def read(id: int) -> Post:
        return api.posts[id]

    @api.get("/weak", etag="weak")
    async def weak() -> Response:
        return Response("x", headers={"cache-control": "max-age=60", "last-modified": http_date(NOW)})

    @api.get("/own", etag=True)
    async def own() -> Response:
        return Response("x", headers={"etag": '"v7"'})

    @api.get("/cheap")
    async def cheap(match: Precondition) -> Response:
        if match.unmodified('"v7"', modified=NOW):
            return NotModified('"v7"', modified=NOW)
        return Response("dear", headers={"etag": '"v7"'})

    @api.put("/posts/{id}", require_match=True)
    async def change(id: int, post: Post, match: Precondition) -> Post:
        match.check(api.posts.get(id), modified=NOW)
        api.posts[id] = post
        return post

    @api.post("/posts/{id}")
    async def create(id: int, post: Post, match: Precondition) -> bool:
        match.check(api.posts.get(id))
        api.posts[id] = post
        return match.given

    return api


async def ask(api, method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers["content-type"] = "application/json"
    return await call(api, method, path, body=msgspec.json.encode(body) if body is not None else b"", headers=headers)


async def test_an_answer_gets_a_tag_of_its_bytes_and_who_has_them_gets_304():
    async with server() as api:
        answer = await ask(api, "GET", "/posts/1")
        tag = answer.header("etag")
        assert tag == entity_tag(api.posts[1])
        again = await ask(api, "GET", "/posts/1", if_none_match=f'"x", {tag}')
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag)
        assert again.header("content-type") is again.header("content-length") is None
        assert (await ask(api, "HEAD", "/posts/1", if_none_match=tag)).status == 304
        api.posts[1] = Post("new")
        assert (await ask(api, "GET", "/posts/1", if_none_match=tag)).json() == {"text": "new"}
        assert (await ask(api, "GET", "/posts/1", if_match=tag)).status == 412


async def test_another_form_has_another_tag():
    async with server() as api:
        packed = await ask(api, "GET", "/posts/1", accept="application/msgpack")
        plain = await ask(api, "GET", "/posts/1", accept="application/json")
    assert packed.header("etag") != plain.header("etag")
    assert packed.header("vary") == plain.header("vary") == "accept"


async def test_a_tag_may_be_weak_or_the_handlers_own_and_failures_have_none():
    async with server() as api:
        weak = await ask(api, "GET", "/weak")
        assert weak.header("etag") == entity_tag("x", weak=True)
        short = await ask(api, "GET", "/weak", if_modified_since=http_date(NOW))
        assert (short.status, short.header("cache-control")) == (304, "max-age=60")
        assert (await ask(api, "GET", "/own", if_none_match='W/"v7"')).status == 304
        failed = await ask(api, "GET", "/posts/x")
        assert (failed.status, failed.header("etag")) == (422, None)


async def test_a_handler_may_spare_itself_the_work():
    async with server() as api:
        assert (await ask(api, "GET", "/cheap")).body == b"dear"
        found = await ask(api, "GET", "/cheap", if_none_match='"v7"')
        assert (found.status, found.header("etag"), found.header("last-modified")) == (304, '"v7"', http_date(NOW))
        assert (await ask(api, "GET", "/cheap", if_match='"v6"')).status == 412


async def test_of_two_writers_who_read_the_same_the_second_is_told():
    async with server() as api:
        tag = (await ask(api, "GET", "/posts/1")).header("etag")
        assert (await ask(api, "PUT", "/posts/1", Post("first"), if_match=tag)).status == 200
        late = await ask(api, "PUT", "/posts/1", Post("second"), if_match=tag)
        assert (late.status, late.json()["code"]) == (412, "http.precondition_failed")
        assert api.posts[1].text == "first"


async def test_a_writer_who_read_messagepack_is_known_too():
    async with server() as api:
        tag = (await ask(api, "GET", "/posts/1", accept="application/msgpack")).header("etag")
        assert (await ask(api, "PUT", "/posts/1", Post("first"), if_match=tag)).status == 200


class Author(msgspec.Struct):
    name: str


class StoredAuthor(Author):
    password_hash: str


class Book(msgspec.Struct):
    author: Author


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack"])
async def test_a_writer_is_known_by_what_it_was_shown_not_by_what_is_stored(accept):
    api = APIServer("t")
    stored = Book(StoredAuthor("ada", "$argon2id$"))

    async def read(id: int) -> Book:
        return stored

    async def write(number: int, match: Precondition) -> None:
        match.check(stored)

    api.get("/books/{id}", etag=True)(read)
    api.put("/books/{number}", require_match=True)(write)
    async with api:
        answer = await call(api, "GET", "/books/1", headers={"accept": accept})
        assert b"argon2id" not in answer.body
        tag = answer.header("etag")
        assert (await call(api, "PUT", "/books/1", headers={"if-match": tag})).status == 204
        stored.author = StoredAuthor("bob", "$argon2id$")
        assert (await call(api, "PUT", "/books/1", headers={"if-match": tag})).status == 412


async def test_a_writer_must_say_what_it_changes_where_that_is_required():
    async with server() as api:
        found = await ask(api, "PUT", "/posts/1", Post("x"))
        assert (found.status, found.json()["code"]) == (428, "http.precondition_required")
        assert (await ask(api, "PUT", "/posts/1", Post("x"), if_match="*")).status == 200
        assert (await ask(api, "PUT", "/posts/9", Post("x"), if_match="*")).status == 412
        assert (await ask(api, "PUT", "/posts/1", Post("x"), if_unmodified_since=http_date(NOW))).status == 200
        assert (await ask(api, "PUT", "/posts/1", Post("x"), if_unmodified_since=http_date(NOW - 1))).status == 412


async def test_create_only_if_there_is_none():
    async with server() as api:
        assert (await ask(api, "POST", "/posts/1", Post("x"), if_none_match="*")).status == 412
        assert (await ask(api, "POST", "/posts/2", Post("x"), if_none_match="*")).json() is True
        assert (await ask(api, "POST", "/posts/2", Post("x"))).json() is False


TAGS = ('"a"',)


@pytest.mark.parametrize(
    ("method", "headers", "tags", "outcome"),
    [
        ("GET", {}, TAGS, "go on"),
        ("GET", {"if-none-match": '"b", W/"a"'}, TAGS, "not modified"),
        ("GET", {"if-none-match": '"a'}, TAGS, "go on"),
        ("GET", {"if-none-match": "a"}, TAGS, "go on"),
        ("GET", {"if-none-match": '"x,", "a"'}, TAGS, "not modified"),
        ("GET", {"if-none-match": "*"}, None, "go on"),
        ("PUT", {"if-none-match": '"a"'}, TAGS, "failed"),
        ("PUT", {"if-match": '"a"'}, TAGS, "go on"),
        ("PUT", {"if-match": 'W/"a"'}, ('W/"a"',), "failed"),
        ("PUT", {"if-match": '"b","a"'}, TAGS, "go on"),
        ("PUT", {"if-match": "nonsense"}, TAGS, "failed"),
        ("PUT", {"if-match": ""}, TAGS, "failed"),
        ("PUT", {"if-match": "*"}, None, "failed"),
        ("PUT", {"if-match": '"a"', "if-unmodified-since": http_date(NOW - 9)}, TAGS, "go on"),
        ("PUT", {"if-unmodified-since": http_date(NOW - 1)}, TAGS, "failed"),
        ("PUT", {"if-unmodified-since": "yesterday"}, TAGS, "go on"),
        ("GET", {"if-modified-since": http_date(NOW)}, TAGS, "not modified"),
        ("GET", {"if-modified-since": http_date(NOW - 1)}, TAGS, "go on"),
        ("GET", {"if-modified-since": http_date(NOW), "if-none-match": '"b"'}, TAGS, "go on"),
        ("PUT", {"if-modified-since": http_date(NOW)}, TAGS, "go on"),
        ("GET", {"if-match": '"a"', "if-none-match": '"a"'}, TAGS, "not modified"),
    ],
)
def test_conditions_mean_what_the_standard_says(method, headers, tags, outcome):
    assert evaluate(Headers.of(headers), method, tags=tags, modified=NOW + 0.9) == outcome


def test_what_cannot_be_meant_is_refused():
    api = APIServer("t")

    @api.put("/a", require_match=True)
    async def a() -> None: ...

    with pytest.raises(ConfigurationError, match="Precondition"):
        asyncio.run(api.start())
    api = APIServer("t")

    @api.post("/b", etag=True)
    async def b() -> int: ...

    with pytest.raises(ConfigurationError, match="for GET"):
        asyncio.run(api.start())
    with pytest.raises(ConfigurationError, match="quotes"):
        NotModified("v7")


def test_the_document_tells_of_conditions():
    document = server().openapi()
    openapi_spec_validator.validate(document)
    change = document["paths"]["/posts/{id}"]["put"]
    named = {parameter["name"]: parameter["required"] for parameter in change["parameters"]}
    assert named == {"id": True, "If-Match": True, "If-None-Match": False}
    assert {"412", "428"} <= set(change["responses"])
    read = document["paths"]["/posts/{id}"]["get"]
    assert "ETag" in read["responses"]["200"]["headers"]
    assert "304" in read["responses"]
