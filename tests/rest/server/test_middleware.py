"""What runs around each request."""

from __future__ import annotations

import asyncio

import pytest

from asgi_call import call
from consona.errors import ConfigurationError, NotFound, RateLimited
from consona.rest.server.api_server import APIServer
from consona.rest.server.responses import Response


def server():
    api = APIServer("t")

    @api.get("/x/{id}")
    async def x(id: int, agent: str = "") -> list:
        if id == 404:
            raise NotFound("no")
        if id == 500:
            raise RuntimeError
        return [id, agent]

    return api


async def test_the_first_declared_is_the_outermost():
    api, seen = server(), []

    @api.middleware
    async def outer(request, call_next):
        seen.append("outer in")
        response = await call_next(request)
        seen.append("outer out")
        return response

    @api.middleware
    async def inner(request, call_next):
        seen.append("inner in")
        response = await call_next(request)
        seen.append("inner out")
        return response

    async with api:
        await call(api, "GET", "/x/1")
    assert seen == ["outer in", "inner in", "inner out", "outer out"]


async def test_it_may_answer_early_with_a_response_data_or_an_error():
    api = server()

    @api.middleware
    async def gate(request, call_next):
        kind = request.headers.get("x-kind")
        if kind == "response":
            return Response("closed", status=503)
        if kind == "data":
            return {"cached": True}
        if kind == "nothing":
            return None
        raise RateLimited("Slowly.", retry_after=4)

    async with api:
        found = [
            await call(api, "GET", "/x/1", headers={"x-kind": kind}) for kind in ("response", "data", "nothing", "-")
        ]
    assert [answer.status for answer in found] == [503, 200, 204, 429]
    assert found[1].json() == {"cached": True}
    assert (found[3].header("retry-after"), found[3].json()["code"]) == ("4", "rate_limited")


@pytest.mark.parametrize(
    ("path", "status"), [("/x/1", 200), ("/x/404", 404), ("/x/500", 500), ("/x/z", 422), ("/no", 404)]
)
async def test_call_next_always_gives_an_answer_and_it_may_be_changed(path, status):
    api, seen = server(), []

    @api.middleware
    async def mark(request, call_next):
        response = await call_next(request)
        seen.append(response.status)
        response.headers["X-Shop"] = "open"
        return response

    async with api:
        answer = await call(api, "GET", path)
    assert (seen, answer.status, answer.header("x-shop")) == ([status], status, "open")


async def test_it_may_change_the_request():
    api = server()

    @api.middleware
    async def rewrite(request, call_next):
        if request.path == "/old/7":
            request.path = "/x/7"
        request.headers["x-agent"] = "changed"
        request.state["seen"] = request.headers["x-agent"]
        response = await call_next(request)
        response.headers["x-seen"] = request.state["seen"]
        return response

    async with api:
        answer = await call(api, "GET", "/old/7", headers={"x-agent": "a"})
        assert (answer.json(), answer.header("x-seen")) == ([7, ""], "changed")
        assert (await call(api, "GET", "/nothing")).status == 404


async def test_an_error_in_a_middleware_is_answered_and_seen_by_the_outer_ones(caplog):
    api, seen = server(), []

    @api.middleware
    async def outer(request, call_next):
        response = await call_next(request)
        seen.append(response.status)
        return response

    @api.middleware
    async def broken(request, call_next):
        raise ZeroDivisionError

    async with api:
        assert (await call(api, "GET", "/x/1")).status == 500
    assert seen == [500]
    assert "ZeroDivisionError" in caplog.text


def refuse(words, middleware):
    api = server()
    api.middleware(middleware)
    with pytest.raises(ConfigurationError, match=words):
        asyncio.run(api.start())


def test_what_cannot_be_a_middleware_is_refused_at_start():
    def plain(request, call_next): ...
    async def short(request): ...

    refuse("async def", plain)
    refuse("two parameters", short)
