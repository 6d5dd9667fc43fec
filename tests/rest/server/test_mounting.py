"""Applications within the server, and the server within applications: each really."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from fastapi import WebSocket as FastAPIWebSocket
from litestar import Litestar, asgi
from litestar import Request as LitestarRequest
from litestar import WebSocket as LitestarWebSocket
from litestar import get as litestar_get
from litestar import websocket as litestar_websocket
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount as StarletteMount
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect

import http_get
from asgi_call import call
from consona.errors import ConfigurationError, RateLimited
from consona.rest.client.api_client import APIClient
from consona.rest.server.api_server import APIServer
from consona.rest.server.listener import Listener
from consona.rest.server.requests import Request
from consona.rest.server.settings import ServerSettings
from served import served
from virtual_time import now, virtual


def shop():
    api = APIServer("shop")

    @api.get("/items/{id}")
    async def item(id: int, request: Request) -> list:
        return [id, request.path]

    return api


def starlette_app(log):
    async def hello(request):
        return PlainTextResponse(f"hello {request.url.path} {request.scope['root_path']} {request.state.word}")

    async def parts():
        for number in range(3):
            yield str(number)

    async def stream(request):
        return StreamingResponse(parts())

    async def fails(request):
        raise ValueError("secret")

    async def echo(websocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async def lifespan(app):
        log.append("up")
        yield {"word": "kept"}
        log.append("down")

    return Starlette(
        routes=[
            Route("/hello", hello, methods=["GET", "POST"]),
            Route("/stream", stream),
            Route("/fails", fails),
            WebSocketRoute("/echo", echo),
        ],
        lifespan=contextlib.asynccontextmanager(lifespan),
    )


async def test_a_mounted_application_gets_its_requests_and_its_life():
    log = []
    api = shop()
    api.mount("/star", starlette_app(log))
    async with api:
        assert log == ["up"]
        answer = await call(api, "GET", "/star/hello")
        assert (answer.status, answer.body) == (200, b"hello /star/hello /star kept")
        asked = await call(api, "GET", "/star/hello", headers={"x-request-id": "abc"})
        assert asked.header("x-request-id") == "abc"
        assert (await call(api, "GET", "/star/stream")).body == b"012"
        assert (await call(api, "GET", "/star/nothing")).status == 404
        assert (await call(api, "GET", "/starling")).status == 404
        assert (await call(api, "GET", "/items/7")).json() == [7, "/items/7"]
        assert api.stats.operations["GET /items/{id}"].total == 1
        assert api.stats.operations["ANY /star/*"].total == 4
    assert log == ["up", "down"]


async def test_an_error_within_is_answered_as_a_problem(caplog):
    async def fails(scope, receive, send):
        raise ValueError("secret")

    api = shop()
    api.mount("/fails", fails)
    api.mount("/star", starlette_app([]))
    async with api:
        answer = await call(api, "GET", "/fails")
        assert (answer.status, answer.header("content-type")) == (500, "application/problem+json")
        assert "secret" not in answer.body.decode()
        with pytest.raises(ValueError, match="secret"):  # Starlette answers 500, and then raises for the log
            await call(api, "GET", "/star/fails")


async def test_middlewares_see_and_change_what_a_mounted_application_answers():
    api, seen = shop(), []
    api.mount("", starlette_app([]))

    @api.middleware
    async def watch(request, call_next):
        response = await call_next(request)
        seen.append((request.path, response.status, response.headers.get("content-type")))
        if request.path == "/stream":
            raise RateLimited("No.")
        response.headers["x-seen"] = "yes"
        return response

    async with api:
        assert (await call(api, "GET", "/hello")).header("x-seen") == "yes"
        assert (await call(api, "GET", "/stream")).status == 429
        assert (await call(api, "GET", "/none")).status == 404
    assert [status for _, status, _ in seen] == [200, 200, 404]
    assert api.detail()["background"] == 0


async def test_an_application_that_gives_no_answer_and_one_that_cannot_start():
    async def silent(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError

    async def refuses(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    api = shop()
    api.mount("/silent", silent)
    async with api:
        assert (await call(api, "GET", "/silent")).status == 500
    bad = shop()
    bad.mount("/bad", refuses)
    with pytest.raises(ConfigurationError, match="no disk"):
        await bad.start()


@virtual
async def test_a_mounted_application_has_the_servers_time_to_begin():
    cut = []

    async def slow(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        try:
            await asyncio.sleep(1000)
        finally:
            cut.append(1)

    api = APIServer("t", settings=ServerSettings(timeout=3), clock=now)
    api.mount("/slow", slow)
    async with api:
        assert (await call(api, "GET", "/slow")).status == 503
    assert cut == [1]


@pytest.mark.parametrize("prefix", ["star", "/a/{b}", "/a//b"])
def test_a_prefix_that_is_none_is_refused(prefix):
    with pytest.raises(ConfigurationError, match="not a path to mount at"):
        shop().mount(prefix, starlette_app([]))


def test_a_prefix_is_taken_once():
    api = shop()
    api.mount("/a", starlette_app([]))
    with pytest.raises(ConfigurationError, match="already"):
        api.mount("/a/", starlette_app([]))


async def test_one_server_within_another():
    outer, inner = APIServer("outer"), shop()
    outer.mount("/v1", inner)
    async with outer:
        assert inner.started
        assert (await call(outer, "GET", "/v1/items/3")).json() == [3, "/items/3"]
        assert (await call(outer, "GET", "/v1/items/a%2Fb")).json()["errors"][0]["path"] == "path.id"
        assert (await call(outer, "GET", "/v1/openapi.json")).json()["servers"] == [{"url": "/v1"}]
        assert "/v1/openapi.json" in (await call(outer, "GET", "/v1/docs")).body.decode()
    assert not inner.started


async def test_web_sockets_of_mounted_applications_and_of_nobody():
    api = shop()
    api.mount("/star", starlette_app([]))

    async def connect(path):
        sent, messages = [], [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await api({"type": "websocket", "path": path, "headers": [], "query_string": b""}, receive, send)
        return [message["type"] for message in sent]

    async with api:
        assert await connect("/star/echo") == ["websocket.accept", "websocket.send", "websocket.close"]
        assert await connect("/nobody") == ["websocket.close"]


# Others within the server, over a socket.


def lifespan_of(log):
    @contextlib.asynccontextmanager
    async def lifespan(_):
        log.append("up")
        yield
        log.append("down")

    return lifespan


class Doors:
    """What a test and a handler wait for."""

    def __init__(self):
        self.came = asyncio.Event()
        self.go = asyncio.Event()

    async def slow(self):
        self.came.set()
        await self.go.wait()
        return "done"


def fastapi_within(log, doors):
    app = FastAPI(lifespan=lifespan_of(log))

    @app.get("/items/{number}")
    async def item(number: int, request: FastAPIRequest) -> dict[str, Any]:
        return {"number": number, "url": str(request.url_for("item", number=8))}

    @app.get("/slow")
    async def slow() -> str:
        return await doors.slow()

    @app.websocket("/echo")
    async def echo(socket: FastAPIWebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    return app


def starlette_within(log, doors):
    async def item(request):
        number = request.path_params["number"]
        return JSONResponse({"number": number, "url": str(request.url_for("item", number=8))})

    async def slow(request):
        return JSONResponse(await doors.slow())

    async def echo(socket):
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    routes = [Route("/items/{number:int}", item), Route("/slow", slow), WebSocketRoute("/echo", echo)]
    return Starlette(routes=routes, lifespan=lifespan_of(log))


def litestar_within(log, doors):
    @litestar_get("/items/{number:int}", name="item")
    async def item(request: LitestarRequest) -> dict[str, Any]:
        number = request.path_params["number"]
        return {"number": number, "url": str(request.base_url) + request.app.route_reverse("item", number=8)[1:]}

    @litestar_get("/slow")
    async def slow() -> str:
        return await doors.slow()

    @litestar_websocket("/echo")
    async def echo(socket: LitestarWebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    return Litestar([item, slow, echo], lifespan=[lifespan_of(log)])


@pytest.mark.parametrize("make", [fastapi_within, starlette_within, litestar_within])
async def test_other_frameworks_live_within_the_server(make):
    log, doors = [], Doors()
    api = shop()
    api.mount("/inner", make(log, doors))
    async with Listener(api, port=0) as listener:
        assert log == ["up"]
        port = int(listener.url.rpartition(":")[2])
        status, body = await http_get.get(port, "/inner/items/7")
        assert (status, json.loads(body)["number"]) == (200, 7)
        assert json.loads(body)["url"].endswith("/inner/items/8"), "its own links lead back to it"
        assert (await http_get.get(port, "/inner/nothing"))[0] == 404
        assert (await http_get.get(port, "/items/7"))[0] == 200
        async with connect(f"ws://127.0.0.1:{port}/inner/echo") as socket:
            await socket.send("hello")
            assert await socket.recv() == "HELLO"
        slow = asyncio.create_task(http_get.get(port, "/inner/slow"))
        await doors.came.wait()
        stopping = asyncio.create_task(listener.stop())
        while not api.draining:
            await asyncio.sleep(0)
        assert log == ["up"], "it lives while a request of its is under way"
        doors.go.set()
        assert await slow == (200, '"done"' if make is not litestar_within else "done")
        await stopping
        assert log == ["up", "down"]


async def test_a_mounted_applications_document_names_the_place_where_it_is_mounted():
    api = shop()
    api.mount("/fast", fastapi_within([], Doors()))
    async with Listener(api, port=0) as listener, APIClient(listener.url) as client:
        inner = await client.get("/fast/openapi.json", into=dict)
        assert (inner["servers"], list(inner["paths"])) == ([{"url": "/fast"}], ["/items/{number}", "/slow"])
        assert "/fast/openapi.json" in (await client.get("/fast/docs")).text
        own = await client.get("/openapi.json", into=dict)
        assert "/items/{id}" in own["paths"]


# Within others.


@litestar_get("/native")
async def native() -> str:
    return "native"


def within_fastapi(api):
    app = FastAPI(lifespan=api.lifespan)
    app.add_api_route("/native", lambda: "native")
    app.mount("/api", api)
    return app


def within_starlette(api):
    async def native(request):
        return PlainTextResponse('"native"')

    return Starlette(routes=[Route("/native", native), StarletteMount("/api", app=api)], lifespan=api.lifespan)


def within_litestar(api):
    return Litestar([native, asgi("/api", is_mount=True, copy_scope=True)(api.__call__)], lifespan=[api.lifespan])


@pytest.mark.parametrize("around", [within_fastapi, within_starlette, within_litestar])
async def test_the_server_lives_within_other_frameworks(around):
    api = shop()
    async with served(around(api)) as address:
        assert api.started
        port = int(address.rpartition(":")[2])
        status, body = await http_get.get(port, "/api/items/7")
        assert (status, body) == (200, '[7,"/items/7"]')
        assert (await http_get.get(port, "/api/items/a%2Fb"))[0] == 422
        assert (await http_get.get(port, "/api/items/x"))[0] == 422
        assert (await http_get.get(port, "/api/nothing"))[0] == 404
        assert (await http_get.get(port, "/native"))[0] == 200
        async with APIClient(address) as client:
            assert (await client.get("/api/openapi.json", into=dict))["info"]["title"] == "shop"
    assert not api.started
