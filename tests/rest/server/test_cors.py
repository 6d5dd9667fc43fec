"""Which pages of other sites may call the server."""

from __future__ import annotations

import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.cors import CORS
from consona.rest.server.responses import Response

SHOP = "https://shop.example"


def server(**settings):
    api = APIServer("t")
    api.middleware(CORS(**{"origins": [SHOP], **settings}))

    @api.get("/posts/{id}")
    async def read(id: int) -> Response:
        return Response("x", headers={"vary": "accept"})

    @api.delete("/posts/{id}", roles=())
    async def delete(id: int) -> None: ...

    return api


def asks(method, origin=SHOP, **more):
    return {"origin": origin, "access-control-request-method": method, **more}


async def test_a_page_of_a_named_site_may_read_the_answer_and_caches_keep_sites_apart():
    async with server() as api:
        answer = await call(api, "GET", "/posts/7", headers={"origin": SHOP})
    assert answer.header("access-control-allow-origin") == SHOP
    assert answer.header("access-control-allow-credentials") is None
    assert "etag" in answer.header("access-control-expose-headers")
    assert answer.header("vary") == "accept, origin"


@pytest.mark.parametrize("origin", ["https://shop.example.evil", "http://shop.example", "null", "https://SHOP.example"])
async def test_a_page_of_another_site_may_not(origin):
    async with server() as api:
        answer = await call(api, "GET", "/posts/7", headers={"origin": origin})
        asked = await call(api, "OPTIONS", "/posts/7", headers=asks("GET", origin))
    assert answer.header("access-control-allow-origin") is None
    assert answer.header("vary") == "accept, origin"
    assert (asked.status, asked.header("access-control-allow-origin")) == (403, None)
    assert asked.header("vary") is None or "origin" in asked.header("vary")


async def test_what_is_no_browser_is_not_touched_but_for_vary():
    async with server() as api:
        answer = await call(api, "GET", "/posts/7")
    assert [name for name, _ in answer.headers if name.startswith("access-control")] == []
    assert answer.header("vary") == "accept, origin"


async def test_a_preflight_is_answered_with_the_methods_that_the_path_has():
    async with server() as api:
        answer = await call(api, "OPTIONS", "/posts/7", headers=asks("DELETE"))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("access-control-allow-methods") == "GET, HEAD, DELETE, OPTIONS"
    assert answer.header("access-control-allow-headers") == "authorization, content-type"
    assert answer.header("access-control-max-age") == "600"
    assert answer.header("access-control-allow-origin") == SHOP
    assert answer.header("vary") == "origin"


async def test_only_the_named_methods_of_them():
    async with server(methods=["get", "post"]) as api:
        answer = await call(api, "OPTIONS", "/posts/7", headers=asks("DELETE"))
    assert answer.header("access-control-allow-methods") == "GET"


async def test_a_preflight_for_a_path_that_does_not_exist_is_a_404():
    async with server() as api:
        answer = await call(api, "OPTIONS", "/nowhere", headers=asks("GET"))
    assert (answer.status, answer.header("access-control-allow-methods")) == (404, None)


async def test_an_options_request_that_is_no_preflight_is_answered_as_ever():
    async with server() as api:
        answer = await call(api, "OPTIONS", "/posts/7", headers={"origin": SHOP})
    assert answer.header("allow") == "GET, HEAD, DELETE, OPTIONS"


async def test_every_site_with_a_star_and_then_nothing_varies():
    async with server(origins="*", headers="*") as api:
        answer = await call(api, "GET", "/posts/7", headers={"origin": "https://any.example"})
        asked = await call(
            api, "OPTIONS", "/posts/7", headers=asks("GET", **{"access-control-request-headers": "x-a, x-b"})
        )
    assert (answer.header("access-control-allow-origin"), answer.header("vary")) == ("*", "accept")
    assert asked.header("access-control-allow-headers") == "x-a, x-b"


async def test_credentials_go_to_named_sites_alone():
    async with server(credentials=True) as api:
        good = await call(api, "GET", "/posts/7", headers={"origin": SHOP})
        bad = await call(api, "GET", "/posts/7", headers={"origin": "https://evil.example"})
    assert (good.header("access-control-allow-origin"), good.header("access-control-allow-credentials")) == (
        SHOP,
        "true",
    )
    assert bad.header("access-control-allow-credentials") is None


async def test_a_failed_answer_can_be_read_too_and_a_mounted_application_is_reachable():
    api = server()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["method"].encode()})

    api.mount("/old", app)
    async with api:
        failed = await call(api, "GET", "/posts/x", headers={"origin": SHOP})
        asked = await call(api, "OPTIONS", "/old/x", headers=asks("PUT"))
        under = await call(api, "PUT", "/old/x", headers={"origin": SHOP})
    assert (failed.status, failed.header("access-control-allow-origin")) == (422, SHOP)
    assert "PUT" in asked.header("access-control-allow-methods")
    assert (under.body, under.header("access-control-allow-origin")) == (b"PUT", SHOP)


@pytest.mark.parametrize(
    "settings",
    [
        {"origins": "*", "credentials": True},
        {"headers": "*", "credentials": True},
        {"origins": SHOP},
        {"origins": ["https://shop.example/"]},
        {"origins": ["null"]},
        {"methods": ["FETCH"]},
        {"headers": ["x y"]},
        {"max_age": -1},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(ConfigurationError):
        CORS(**{"origins": [SHOP], **settings})
