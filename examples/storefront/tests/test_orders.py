"""The orders, and the stock that they take."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from consona import APIClient, APIError


async def order(shop: APIClient, *lines: tuple[int, int]) -> dict[str, Any]:
    wanted = [{"product_id": product, "quantity": quantity} for product, quantity in lines]
    reply: dict[str, Any] = (await shop.post("/orders", json={"customer_id": 1, "lines": wanted})).json()
    return reply


async def stock(shop: APIClient, product: int) -> int:
    return int((await shop.get(f"/products/{product}")).json()["stock"])


async def with_stock(shop: APIClient, count: int) -> list[int]:
    """Products of which there are just so many."""
    page = (await shop.get("/products", params={"size": 100})).json()
    return [product["id"] for product in page["items"] if product["stock"] == count]


async def test_an_order_takes_from_the_stock_and_adds_up(shop: APIClient) -> None:
    first, second, *_ = await with_stock(shop, 20)
    before = await stock(shop, first)
    placed = await order(shop, (first, 2), (second, 1))
    assert placed["status"] == "placed"
    assert await stock(shop, first) == before - 2
    assert Decimal(placed["total"]) == sum(Decimal(line["price"]) * line["quantity"] for line in placed["lines"])
    assert (await shop.get(f"/orders/{placed['id']}")).json() == placed


async def test_if_one_product_is_short_nothing_is_taken(shop: APIClient) -> None:
    (plenty, *_), (few, *_) = await with_stock(shop, 150), await with_stock(shop, 20)
    orders = (await shop.get("/orders")).json()["total"]
    with pytest.raises(APIError) as caught:
        await order(shop, (plenty, 1), (few, 21))
    assert caught.value.status == 409
    assert "there are 20 left, and 21 were ordered" in caught.value.problem["detail"]
    assert (await stock(shop, plenty), await stock(shop, few)) == (150, 20)
    assert (await shop.get("/orders")).json()["total"] == orders


async def test_a_hundred_who_want_the_last_ones_get_no_more_than_there_are(shop: APIClient) -> None:
    scarce, *_ = await with_stock(shop, 3)

    async def attempt() -> bool:
        try:
            await order(shop, (scarce, 1))
        except APIError as error:
            if error.status != 409:
                raise
            return False
        return True

    assert sum(await asyncio.gather(*(attempt() for _ in range(100)))) == 3
    assert await stock(shop, scarce) == 0


async def test_a_cancelled_order_returns_its_goods_once(shop: APIClient) -> None:
    product, *_ = await with_stock(shop, 20)
    before = await stock(shop, product)
    placed = await order(shop, (product, 4))
    for _ in range(2):
        cancelled = (await shop.post(f"/orders/{placed['id']}/cancel")).json()
        assert cancelled["status"] == "cancelled"
    assert await stock(shop, product) == before


async def test_what_was_shipped_cannot_be_cancelled(shop: APIClient) -> None:
    orders = (await shop.get("/orders", params={"size": 100})).json()["items"]
    shipped = next(order for order in orders if order["status"] == "shipped")
    with pytest.raises(APIError) as caught:
        await shop.post(f"/orders/{shipped['id']}/cancel")
    assert caught.value.status == 409


async def test_the_orders_of_one_customer_newest_first(shop: APIClient) -> None:
    product, *_ = await with_stock(shop, 20)
    newest = await order(shop, (product, 1))
    found = (await shop.get("/orders", params={"customer_id": 1})).json()
    assert found["items"][0] == newest
    assert {order["customer_id"] for order in found["items"]} == {1}


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({"customer_id": 999, "lines": [{"product_id": 1, "quantity": 1}]}, 404),
        ({"customer_id": 1, "lines": [{"product_id": 999, "quantity": 1}]}, 404),
        ({"customer_id": 1, "lines": []}, 422),
        ({"customer_id": 1, "lines": [{"product_id": 1, "quantity": 0}]}, 422),
        ({"lines": [{"product_id": 1}]}, 422),
    ],
)
async def test_an_order_that_cannot_be_is_refused(shop: APIClient, wanted: dict[str, Any], status: int) -> None:
    with pytest.raises(APIError) as caught:
        await shop.post("/orders", json=wanted)
    assert caught.value.status == status
