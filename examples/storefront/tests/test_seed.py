"""What a new shop begins with."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from consona import APIClient
from storefront.api import create_api


async def everything(shop: APIClient) -> list[object]:
    lists = ("/products", "/customers", "/orders")
    return [(await shop.get(path, params={"size": 100})).json() for path in lists]


async def test_every_new_shop_is_the_same(shop: APIClient) -> None:
    async with create_api(f"sqlite://{uuid4().hex}").test_client() as another:
        assert await everything(another) == await everything(shop)


async def test_a_shop_that_is_started_again_keeps_its_data(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'shop.db'}"
    async with create_api(address).test_client() as shop:
        await shop.post("/customers", json={"name": "Zoe", "email": "zoe@example.org", "city": "Utrecht"})
    async with create_api(address).test_client() as shop:
        assert (await shop.get("/customers")).json()["total"] == 51
        assert (await shop.get("/products")).json()["total"] == 120
