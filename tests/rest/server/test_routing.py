"""Which handler answers which path."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError
from consona.rest.server.problems import BadRequest
from consona.rest.server.routing import Route, Router, Routes, check_pattern


def handler():
    return None


def router_of(*paths, method="GET"):
    router = Router()
    for path in paths:
        router.add(Route(method, path, handler))
    return router


def found(router, path, raw=None):
    leaf, values = router.find(path, path.encode() if raw is None else raw)
    return (leaf.pattern, list(values)) if leaf else None


def test_a_fixed_segment_wins_over_a_parameter_and_a_parameter_over_a_rest():
    router = router_of("/posts/{id}", "/posts/latest", "/{rest:path}")
    assert found(router, "/posts/latest") == ("/posts/latest", [])
    assert found(router, "/posts/7") == ("/posts/{id}", ["7"])
    assert found(router, "/posts/7/likes") == ("/{rest:path}", ["posts/7/likes"])


def test_a_dead_end_under_a_fixed_segment_goes_back_to_the_parameter():
    router = router_of("/posts/latest", "/posts/{id}/comments", "/posts/{id}/comments/{comment}")
    assert found(router, "/posts/latest/comments") == ("/posts/{id}/comments", ["latest"])
    assert found(router, "/posts/latest/comments/2") == ("/posts/{id}/comments/{comment}", ["latest", "2"])
    assert found(router, "/posts/latest/likes") is None


def test_two_methods_may_name_the_parameter_differently():
    router = router_of("/posts/{id}")
    router.add(Route("DELETE", "/posts/{post_id}", handler))
    leaf, _ = router.find("/posts/7", b"/posts/7")
    assert {method: route.path_names for method, route in leaf.routes.items()} == {
        "GET": ("id",),
        "DELETE": ("post_id",),
    }


def test_the_slash_at_the_end_is_part_of_the_path():
    router = router_of("/posts", "/users/")
    assert found(router, "/posts/") is None
    assert found(router, "/users") is None
    assert found(router, "/users/") == ("/users/", [])


@pytest.mark.parametrize("path", ["/posts/", "//", "/posts//7", "", "posts/7"])
def test_a_parameter_is_never_empty(path):
    assert found(router_of("/posts/{id}", "/posts/{id}/{other}"), path) is None


def test_an_encoded_slash_is_a_character_of_its_segment():
    router = router_of("/files/{name}", "/files/{folder}/{name}")
    assert found(router, "/files/a/b", b"/files/a%2Fb") == ("/files/{name}", ["a/b"])
    assert found(router, "/files/a/b", b"/files/a/b") == ("/files/{folder}/{name}", ["a", "b"])


def test_a_fixed_path_may_come_encoded():
    assert found(router_of("/über/uns"), "/über/uns", b"/%C3%BCber/uns") == ("/über/uns", [])


def test_segments_are_decoded_once():
    assert found(router_of("/{name}"), "/%41", b"/%2541") == ("/{name}", ["%41"])


def test_a_path_that_is_not_utf8_cannot_be_read():
    with pytest.raises(BadRequest, match="UTF-8"):
        router_of("/{name}").find("/\ufffd", b"/%ff")


TRICKS = [
    b"/files/../secret",
    b"/files/..",
    b"/files/./a",
    b"/files/%2e%2e/secret",
    b"/files/%2E%2E%2Fsecret",
    b"/files/a/..%2f..%2fsecret",
    b"/files/..%5c..%5csecret",
    b"/files/a%00b",
    b"/files/a//b",
    b"/files/a/",
    b"/files/a%0ab",
]


@pytest.mark.parametrize("raw", TRICKS)
def test_a_rest_never_leaves_its_folder(raw):
    from urllib.parse import unquote_to_bytes

    assert found(router_of("/files/{path:path}"), unquote_to_bytes(raw).decode(), raw) is None


@pytest.mark.parametrize("raw", [b"/files/..", b"/files/%2e%2e", b"/files/."])
def test_a_parameter_is_never_a_dot_segment(raw):
    from urllib.parse import unquote_to_bytes

    assert found(router_of("/files/{name}"), unquote_to_bytes(raw).decode(), raw) is None


def test_names_that_begin_with_a_dot_are_names():
    router = router_of("/.well-known/{name}", "/files/{path:path}")
    assert found(router, "/.well-known/jwks.json") == ("/.well-known/{name}", ["jwks.json"])
    assert found(router, "/files/.config/a..b") == ("/files/{path:path}", [".config/a..b"])


@given(st.binary(max_size=60))
def test_no_path_breaks_the_router(raw):
    router = router_of("/a/{b}/c", "/a/{rest:path}", "/{x}/{y}")
    with contextlib.suppress(BadRequest):
        router.find(raw.decode("utf-8", "replace"), b"/" + raw)


def test_two_routes_for_the_same_requests_are_refused_by_name():
    router = router_of("/posts/{id}")
    with pytest.raises(ConfigurationError, match=r"GET /posts/\{slug\}.*GET /posts/\{id\}"):
        router.add(Route("GET", "/posts/{slug}", handler))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("posts", "slash"),
        ("/posts/{id", "whole segment"),
        ("/posts/a{id}", "whole segment"),
        ("/posts/{id:int}", "whole segment"),
        ("/{rest:path}/more", "must be last"),
        ("/a//b", "empty segment"),
        ("/a/../b", "never match"),
        ("/a?b=c", "never match"),
        ("/{id}/{id}", "twice"),
    ],
)
def test_a_pattern_that_cannot_mean_what_it_says_is_refused(path, words):
    with pytest.raises(ConfigurationError, match=words):
        check_pattern(path)


def test_a_group_gives_its_prefix_and_options_and_a_route_may_have_its_own():
    posts = Routes("/posts", tags=["posts"], status=202)

    @posts.post("/{id}", status=201)
    async def read(id: int): ...

    @posts.get("")
    async def listing(): ...

    all_routes = Routes("/v1")
    all_routes.include(posts)
    assert [(r.method, r.path, r.options) for r in all_routes.routes] == [
        ("POST", "/v1/posts/{id}", {"tags": ["posts"], "status": 201}),
        ("GET", "/v1/posts", {"tags": ["posts"], "status": 202}),
    ]


def test_a_decorator_returns_the_function():
    routes = Routes()
    assert routes.route("/x", "get", "POST")(handler) is handler
    assert [route.method for route in routes.routes] == ["GET", "POST"]


def test_wrong_options_and_methods_are_named():
    with pytest.raises(ConfigurationError, match="no option stauts"):
        Routes().get("/x", stauts=3)
    with pytest.raises(ConfigurationError, match="'FETCH' is not a method"):
        Routes().route("/x", "FETCH")
    with pytest.raises(ConfigurationError, match="at least one method"):
        Routes().route("/x")
    with pytest.raises(ConfigurationError, match="prefix"):
        Routes("posts/")
