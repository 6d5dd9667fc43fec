"""The catalogue."""

from __future__ import annotations

from decimal import Decimal

import pytest

from consona import APIClient, APIError


async def test_the_catalogue_comes_in_pages(shop: APIClient) -> None:
    first = (await shop.get("/products", params={"size": 50})).json()
    last = (await shop.get("/products", params={"size": 50, "page": 3})).json()
    assert first["total"] == 120
    assert (len(first["items"]), len(last["items"])) == (50, 20)


async def test_every_page_together_has_every_product_once(shop: APIClient) -> None:
    pages = [(await shop.get("/products", params={"page": page})).json()["items"] for page in range(1, 7)]
    assert len({product["id"] for page in pages for product in page}) == 120


async def test_search_finds_every_word_in_name_or_description(shop: APIClient) -> None:
    found = (await shop.get("/products", params={"search": "LAMP oak"})).json()["items"]
    assert found
    assert all("lamp" in product["name"].lower() and "oak" in product["name"].lower() for product in found)


async def test_a_search_is_text_and_no_pattern(shop: APIClient) -> None:
    assert (await shop.get("/products", params={"search": "%' OR '1'='1"})).json()["total"] == 0


async def test_filters_are_combined(shop: APIClient) -> None:
    wanted = {"category": "Kitchen", "min_price": 30, "max_price": 80, "in_stock": "true", "size": 100}
    found = (await shop.get("/products", params=wanted)).json()["items"]
    assert found
    for product in found:
        assert product["category"] == "Kitchen"
        assert 30 <= Decimal(product["price"]) <= 80
        assert product["stock"] > 0


async def test_the_most_expensive_may_come_first(shop: APIClient) -> None:
    found = (await shop.get("/products", params={"sort": "-price", "size": 100})).json()["items"]
    prices = [Decimal(product["price"]) for product in found]
    assert prices == sorted(prices, reverse=True)


async def test_a_price_has_two_decimal_places(shop: APIClient) -> None:
    product = (await shop.get("/products/1")).json()
    assert Decimal(product["price"]).as_tuple().exponent == -2


async def test_the_categories_count_every_product(shop: APIClient) -> None:
    categories = (await shop.get("/categories")).json()
    assert len(categories) == 8
    assert sum(category["products"] for category in categories) == 120


async def test_a_product_that_does_not_exist_is_not_found(shop: APIClient) -> None:
    with pytest.raises(APIError) as caught:
        await shop.get("/products/999")
    assert caught.value.status == 404
    assert caught.value.problem["detail"] == "There is no product 999."


async def test_every_wrong_filter_is_named(shop: APIClient) -> None:
    with pytest.raises(APIError) as caught:
        await shop.get("/products", params={"page": 0, "sort": "colour"})
    assert caught.value.status == 422
    assert {error["path"] for error in caught.value.problem["errors"]} == {"query.page", "query.sort"}
