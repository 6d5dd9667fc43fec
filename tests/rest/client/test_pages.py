from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

import wire
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import Bearer
from consona.rest.client.errors import BadAnswer, InvalidAnswer, TooManyRedirects
from consona.rest.client.pages import CursorPages, LinkPages, OffsetPages, PageNumbers
from consona.rest.client.response import Response, links
from consona.rest.headers import Headers

POSTS = [{"id": number} for number in range(25)]


class Post(msgspec.Struct):
    id: int


def query(seen):
    return {name: values[0] for name, values in parse_qs(urlsplit(seen.target).query).items()}


def slice_of(start, size):
    return json.dumps(POSTS[start : start + size]).encode()


def by_link(seen):
    page = int(query(seen).get("page", "1"))
    more = page * 10 < 25
    link = f'<?page={page - 1}>; rel="prev", <?page={page + 1}>; rel="next"' if more else '<?page=1>; rel="first"'
    return wire.message(200, slice_of((page - 1) * 10, 10), link=link)


def by_number(seen):
    asked = query(seen)
    size = int(asked.get("per_page", 10))
    return wire.message(200, slice_of((int(asked["page"]) - 1) * size, size))


def by_offset(seen):
    asked = query(seen)
    return wire.message(200, slice_of(int(asked["offset"]), int(asked["limit"])))


def by_cursor(seen):
    start = int(query(seen).get("cursor", "0"))
    following = start + 10 if start + 10 < 25 else None
    body = {"data": POSTS[start : start + 10], "meta": {"next": following}}
    return wire.message(200, json.dumps(body).encode())


def by_next_url(seen):
    start = int(query(seen).get("from", "0"))
    following = f"/posts?from={start + 10}" if start + 10 < 25 else None
    return wire.message(200, json.dumps({"results": POSTS[start : start + 10], "next": following}).encode())


@pytest.mark.parametrize(
    ("serve", "style", "requests"),
    [
        (by_link, None, 3),
        (by_number, PageNumbers(), 4),
        (by_number, PageNumbers(size=10), 3),
        (by_offset, OffsetPages(limit=10), 3),
        (by_offset, OffsetPages(limit=5), 6),
        (by_cursor, CursorPages(items="data", field="meta.next"), 3),
        (by_next_url, CursorPages(items="results", field="next"), 3),
    ],
)
async def test_every_item_of_every_page_comes_once_and_in_order(serve, style, requests):
    async with wire.Wire(wire.told(serve)) as server, APIClient(server.url) as api:
        posts = [post async for post in api.pages("/posts", into=Post, style=style, params={"sort": "id"})]
        assert posts == [Post(number) for number in range(25)]
        assert len(api.history) == requests
    assert len(server.seen) == requests
    assert query(server.seen[0])["sort"] == "id"


async def test_a_page_is_asked_for_when_it_is_needed():
    async with wire.Wire(wire.told(by_link)) as server, APIClient(server.url) as api:
        async for post in api.pages("/posts"):
            if post["id"] == 9:
                break
        assert len(server.seen) == 1


async def test_a_page_elsewhere_gets_no_credentials():
    async with (
        wire.Wire(wire.answer(200, b"[2]")) as elsewhere,
        wire.Wire(wire.answer(200, b"[1]", link=f"<{elsewhere.url}/p2>; rel=next")) as home,
        APIClient(home.url, auth=Bearer("abc"), headers={"X-Own": "1"}) as api,
    ):
        assert [item async for item in api.pages("/p1")] == [1, 2]
    assert home.seen[0].headers["authorization"] == "Bearer abc"
    assert not {"authorization", "x-own", "x-deadline-remaining", "cookie"} & set(elsewhere.seen[0].headers)


async def test_a_page_that_leads_to_itself_is_told():
    async with wire.Wire(wire.answer(200, b"[1]", link="</posts>; rel=next")) as server, APIClient(server.url) as api:
        with pytest.raises(TooManyRedirects, match="itself"):
            _ = [item async for item in api.pages("/posts")]
    assert len(server.seen) == 2


async def test_pages_without_end_are_bounded():
    async with wire.Wire(wire.answer(200, b"[1]")) as server, APIClient(server.url) as api:
        with pytest.raises(TooManyRedirects, match="more than 5 pages"):
            _ = [item async for item in api.pages("/posts", style=PageNumbers(), max_pages=5)]
    assert len(server.seen) == 5


async def test_an_object_where_a_list_was_expected_names_the_lists_in_it():
    async with wire.Wire(wire.answer(200, b'{"data": [], "n": 1}')) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer, match="Lists in it: data"):
            _ = [item async for item in api.pages("/posts")]
        assert [item async for item in api.pages("/posts", style=LinkPages(items="data"))] == []


async def test_an_item_that_does_not_fit_is_named():
    async with wire.Wire(wire.answer(200, b'[{"id": 1}, {"id": "x"}]')) as server, APIClient(server.url) as api:
        with pytest.raises(InvalidAnswer, match=r"body\[1\]\.id"):
            _ = [item async for item in api.pages("/posts", into=Post)]


async def test_an_empty_answer_is_an_empty_page():
    async with wire.Wire(wire.answer(204, b"")) as server, APIClient(server.url) as api:
        assert [item async for item in api.pages("/posts")] == []


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://a/?p=2>; rel="next"', [("next", "https://a/?p=2")]),
        ('<a>; rel=next, <b>; rel="prev first"', [("next", "a"), ("prev", "b"), ("first", "b")]),
        ('<a,b>; title="x, <y>; rel=no"; REL=Next', [("next", "a,b")]),
        ("<a>", []),
        ("nonsense; rel=next", []),
    ],
)
def test_link_headers_are_read(header, found):
    assert list(links(Headers([(b"link", header.encode())]))) == found


def test_a_response_by_hand_can_stand_for_a_page():
    assert Response(200, [], b"[]").json(into=list[Post]) == []
