"""The same three requests served by Consona and by its peers, each as its own documentation would write it.

GET  /items/{id}?limit=…    an integer in the path, one in the query; one object
POST /items                 a body of four fields, validated; one object
GET  /items                 a list of 50 objects
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec


class Item(msgspec.Struct):
    id: int
    name: str
    price: float
    tags: list[str]


class NewItem(msgspec.Struct):
    name: str
    price: float
    tags: list[str]
    stock: int


ITEMS = [Item(number, f"item {number}", number * 1.5, ["a", "b"]) for number in range(50)]
BODY = b'{"name":"a chair","price":12.5,"tags":["wood","red"],"stock":7}'


def raw() -> Any:
    """ASGI by hand, with msgspec: the floor."""
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(NewItem).decode
    json = (b"content-type", b"application/json")

    async def answer(send: Any, status: int, body: bytes) -> None:
        headers = [json, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path == "/items" and method == "GET":
            await answer(send, 200, encode(ITEMS))
        elif path == "/items" and method == "POST":
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            try:
                new = decode(body)
            except msgspec.ValidationError as error:
                await answer(send, 422, encode({"detail": str(error)}))
                return
            await answer(send, 201, encode(Item(1, new.name, new.price, new.tags)))
        elif path.startswith("/items/") and method == "GET":
            query = dict(parse_qsl(scope["query_string"].decode()))
            try:
                number, limit = int(path[7:]), int(query.get("limit", "10"))
            except ValueError:
                await answer(send, 422, b'{"detail":"a number is wrong"}')
                return
            await answer(send, 200, encode(Item(number, "x" * limit, 1.5, [])))
        else:
            await answer(send, 404, b'{"detail":"not found"}')

    return app


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def consona() -> Any:
    return _consona(observe=True)


def consona_unobserved() -> Any:
    return _consona(observe=False)


def _consona(*, observe: bool) -> Any:
    from consona.rest.server.api_server import APIServer
    from consona.rest.server.settings import ServerSettings
    from consona.telemetry.trace import default_tracer

    if observe:  # as with a dashboard: some of the traces are kept, too
        default_tracer.collect(on=True)
    api = APIServer("bench", settings=ServerSettings(observe=observe))

    @api.get("/items/{id}")
    async def read(id: int, limit: int = 10) -> Item:  # noqa: A002
        return Item(id, "x" * limit, 1.5, [])

    @api.post("/items", status=201)
    async def create(new: NewItem) -> Item:
        return Item(1, new.name, new.price, new.tags)

    @api.get("/items")
    async def listing() -> list[Item]:
        return ITEMS

    return api


def fastapi() -> Any:
    import pydantic
    from fastapi import FastAPI

    global PydanticItem, PydanticNewItem  # noqa: PLW0603 FastAPI looks annotations up in the module

    class PydanticItem(pydantic.BaseModel):
        id: int
        name: str
        price: float
        tags: list[str]

    class PydanticNewItem(pydantic.BaseModel):
        name: str
        price: float
        tags: list[str]
        stock: int

    items = [PydanticItem(id=item.id, name=item.name, price=item.price, tags=item.tags) for item in ITEMS]
    app = FastAPI()

    @app.get("/items/{id}")
    async def read(id: int, limit: int = 10) -> PydanticItem:  # noqa: A002
        return PydanticItem(id=id, name="x" * limit, price=1.5, tags=[])

    @app.post("/items", status_code=201)
    async def create(new: PydanticNewItem) -> PydanticItem:
        return PydanticItem(id=1, name=new.name, price=new.price, tags=new.tags)

    @app.get("/items")
    async def listing() -> list[PydanticItem]:
        return items

    return app


def litestar() -> Any:
    from litestar import Litestar, get, post

    @get("/items/{id:int}")
    async def read(id: int, limit: int = 10) -> Item:  # noqa: A002
        return Item(id, "x" * limit, 1.5, [])

    @post("/items")
    async def create(data: NewItem) -> Item:
        return Item(1, data.name, data.price, data.tags)

    @get("/items")
    async def listing() -> list[Item]:
        return ITEMS

    return Litestar([read, create, listing], openapi_config=None)


def starlette() -> Any:
    """With msgspec in place of its JSONResponse: the fastest that it is written."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(NewItem).decode

    async def read(request: Request) -> Response:
        try:
            limit = int(request.query_params.get("limit", "10"))
        except ValueError:
            return Response(b'{"detail":"limit"}', 422, media_type="application/json")
        item = Item(request.path_params["id"], "x" * limit, 1.5, [])
        return Response(encode(item), media_type="application/json")

    async def create(request: Request) -> Response:
        try:
            new = decode(await request.body())
        except msgspec.ValidationError as error:
            return Response(encode({"detail": str(error)}), 422, media_type="application/json")
        return Response(encode(Item(1, new.name, new.price, new.tags)), 201, media_type="application/json")

    async def listing(request: Request) -> Response:
        return Response(encode(ITEMS), media_type="application/json")

    return Starlette(
        routes=[
            Route("/items/{id:int}", read),
            Route("/items", listing, methods=["GET"]),
            Route("/items", create, methods=["POST"]),
        ]
    )
