"""From our server's document to a client, and back to the same server: in process, and over a socket."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import subprocess
import sys
import uuid
from typing import Annotated, Literal

import msgspec
import pytest

from consona import APIClient, APIError, APIServer, NotFound
from consona.rest.openapi_client import generate
from consona.rest.server.parameters import Cookie, Header, Query
from served import served
from written import written


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog", rename="camel"):
    bone_count: int


class Everything(msgspec.Struct, kw_only=True):
    """All that a body can hold."""

    id: uuid.UUID
    at: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    day: dt.date
    price: decimal.Decimal
    data: bytes
    colour: Colour
    level: Literal[1, 2, 3]
    pets: list[Cat | Dog] = []
    scores: dict[str, float] = {}
    note: str | None = None
    nested: Everything | None = None


def server() -> APIServer:
    api = APIServer("everything", version="2.0")

    @api.post("/things/{kind}", status=201, errors=[NotFound])
    async def add(
        kind: Colour,
        body: Everything,
        trace: Annotated[str, Header("X-Trace")],
        tags: Annotated[list[int], Query()] = [],  # noqa: B006
        since: dt.date | None = None,
        session: Annotated[str, Cookie()] = "",
    ) -> list[Everything | None]:
        """Add a thing.

        It is "quoted", with a \\ and \"\"\" three quotes.
        """
        if session == "gone":
            raise NotFound("There is no such session.")
        body.note = f"{kind.value} {trace} {tags} {since} {session}"
        return [body, None]

    @api.delete("/things/{id}")
    async def remove(id: uuid.UUID) -> None:
        """Remove it."""

    @api.get("/pets/{id}")
    async def pet(id: int) -> Cat | Dog:
        return Cat(id) if id % 2 else Dog(bone_count=id)

    return api


def a_thing(module, **more):
    return module.Everything(
        id=uuid.UUID(int=7),
        at=dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC),
        day=dt.date(2024, 5, 6),
        price=decimal.Decimal("9.90"),
        data=b"\x00\xff",
        colour="red",
        level=2,
        **more,
    )


async def call_everything(module, client):
    async with client:
        thing = a_thing(
            module, pets=[module.Cat(lives=3), module.Dog(boneCount=2)], scores={"a": 0.5}, nested=a_thing(module)
        )
        found, nothing = await client.add(
            "blue", x_trace="t-1", body=thing, tags=[1, 2], since=dt.date(2024, 1, 2), session="s1"
        )
        assert nothing is None
        assert found.note == "blue t-1 [1, 2] 2024-01-02 s1"
        found.note = None
        assert found == thing
        assert await client.remove(uuid.UUID(int=7)) is None
        assert await client.pet(3) == module.Cat(lives=3)
        assert await client.pet(4) == module.Dog(boneCount=4)
        with pytest.raises(APIError) as caught:
            await client.add("blue", "t", thing, session="gone")
        assert caught.value.response.json(into=module.Problem).code == "not_found"


async def test_our_server_understands_its_own_client_in_process():
    api = server()
    module = written(api.openapi())
    await call_everything(module, module.client(api.test_client()))


async def test_our_server_understands_its_own_client_over_a_socket():
    api = server()
    module = written(api.openapi())
    async with served(api) as address:
        await call_everything(module, module.client(address))


def test_the_client_of_our_server_passes_the_checkers(tmp_path):
    (tmp_path / "everything_client.py").write_text(generate(server().openapi()).source, encoding="utf-8")
    for command in (["ruff", "format", "--isolated", "--diff", "."], ["ruff", "check", "--isolated", "."],
                    ["mypy", "--strict", "--config-file=", "."]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


async def test_the_storefront_is_used_through_its_own_client():
    from storefront.api import create_api

    api = create_api("sqlite://client-round-trip")
    module = written(api.openapi(), name="ShopClient")
    async with module.ShopClient(api.test_client()) as shop:
        page = await shop.list_products(size=3, sort="-price")
        assert [type(product) for product in page.items] == [module.Product] * 3
        product = page.items[0]
        assert await shop.read_product(product.id) == product
        customer = await shop.register(module.NewCustomer(name="Ada", email="ada@example.org", city="London"))
        order = await shop.place_order(
            module.NewOrder(customer_id=customer.id, lines=[module.NewLine(product_id=product.id, quantity=1)])
        )
        assert await shop.read_order(order.id) == order
        assert (await shop.cancel_order(order.id)).status == "cancelled"
        with pytest.raises(APIError) as caught:
            await shop.read_product(10**9)
        assert caught.value.status == 404


def test_the_whole_client_stands_on_an_api_client():
    module = written(server().openapi())
    assert isinstance(module.client("https://api.example").api, APIClient)
