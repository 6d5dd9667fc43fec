"""The storefront gives the same answers on every engine, whatever it is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consona import APIClient, APIError
from database_servers import empty_mysql, empty_postgresql
from storefront.api import create_api

YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).isoformat()
"""What a new shop begins with is older."""

Request = tuple[str, str, dict[str, Any]]


@pytest.fixture(
    params=[
        pytest.param(empty_postgresql, id="postgresql", marks=pytest.mark.servers),
        pytest.param(empty_mysql, id="mariadb", marks=pytest.mark.servers),
    ]
)
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)  # the bus of a shop on MariaDB is in a file there
    with request.param() as url:
        yield url


@pytest.fixture
async def shop(address: str) -> AsyncIterator[APIClient]:
    async with create_api(address).test_client() as client:
        yield client


@pytest.fixture
async def reference() -> AsyncIterator[APIClient]:
    """The shop as everybody starts it: on SQLite."""
    async with create_api(f"sqlite://{uuid4().hex}").test_client() as client:
        yield client


def get(path: str, **query: Any) -> Request:
    return "GET", path, {"params": query}


def order(customer: Any, *lines: tuple[Any, Any]) -> Request:
    wanted = [{"product_id": product, "quantity": quantity} for product, quantity in lines]
    return "POST", "/orders", {"json": {"customer_id": customer, "lines": wanted}}


def register(name: str, email: str, city: str = "Utrecht") -> Request:
    return "POST", "/customers", {"json": {"name": name, "email": email, "city": city}}


def cancel(number: int) -> Request:
    return "POST", f"/orders/{number}/cancel", {}


CHOSEN: list[Request] = [
    *(get(path, size=100, page=page) for path in ("/products", "/customers", "/orders") for page in (1, 2, 1_000_000)),
    *(get("/products", sort=sort, size=100) for sort in ("name", "price", "-price")),
    *(get("/products", search=words) for words in ("LAMP oak", "%", "100%", "_", "!", "'", '"', "\\", "ß", "İ", "?")),
    *(get("/products", category=name) for name in ("Home", "home", " Home ", "Home' OR '1'='1", "Höme")),
    get("/products", category="Kitchen", min_price=30, max_price=80, in_stock="true"),
    get("/categories"),
    *(
        get(f"/{noun}/{number}")
        for noun in ("products", "customers", "orders")
        for number in (1, 999, 2**53 - 1, 0, "x")
    ),
    register("Zoe Quist", "Zoe@Example.org"),
    register("Zoe Again", "zoe@example.ORG"),
    register("Øyvind 🎣 O'Neill", "oy@example.org", 'He said "no" \\'),
    register(" ", "space@example.org"),
    register("", "zoe"),
    *(get(f"/customers/{number}") for number in (51, 52, 53)),
    get("/customers", size=100),
    order(999, (1, 1)),
    order(1, (999, 1)),
    order(1),
    order(52, (1, 1), (1, 1), (2, 3)),
    order(1, (1, 100), (2, 100)),
    order(1, (3, 21)),
    order(1, (3, 2**53)),
    order(51, (4, 1)),
    get("/orders", customer_id=52),
    get("/orders", customer_id=2**53 - 1),
    cancel(82),
    cancel(82),
    *(cancel(number) for number in range(1, 20)),
    get("/orders/82"),
]


def made_up(rng: random.Random, count: int) -> Iterator[Request]:
    """What visitors might ask, good and bad, in any order."""
    words = ["oak", "lamp", "the", "big one", "tea", "ON", "%", "'; DROP TABLE orders; --", "unicorn", "e"]
    for _ in range(count):
        lines = [(rng.randint(1, 130), rng.choice([1, 1, 2, 20, 100])) for _ in range(rng.randint(1, 4))]
        yield rng.choice(
            [
                get("/products", search=rng.choice(words), sort=rng.choice(["name", "-price"]), page=rng.randint(1, 3)),
                get("/products", min_price=rng.randint(0, 90), max_price=rng.randint(10, 200), in_stock="true"),
                get("/orders", customer_id=rng.randint(0, 60), page=rng.randint(1, 2), size=rng.randint(1, 30)),
                get(f"/products/{rng.randint(1, 130)}"),
                order(rng.randint(1, 55), *lines),
                order(rng.randint(1, 55), *lines[:1]),
                cancel(rng.randint(1, 120)),
                register(rng.choice(words), f"{rng.choice(['a', 'B', 'c.d'])}{rng.randint(1, 9)}@example.org"),
            ]
        )


async def answer(shop: APIClient, request: Request) -> tuple[int, Any]:
    method, path, options = request
    try:
        reply = await shop.request(method, path, **options)
    except APIError as error:
        return error.status, comparable(error.problem)
    return reply.status, comparable(reply.json())


def comparable(body: Any) -> Any:
    """A body without what differs between two requests and two moments."""
    if isinstance(body, list):
        return [comparable(item) for item in body]
    if not isinstance(body, dict):
        return body
    return {key: "now" if _is_of_now(key, value) else comparable(value) for key, value in body.items()}


def _is_of_now(key: str, value: Any) -> bool:
    return key == "request_id" or (key in {"placed_at", "since"} and value >= YESTERDAY)


async def test_the_same_requests_get_the_same_answers(shop: APIClient, reference: APIClient) -> None:
    statuses = set()
    for number, request in enumerate([*CHOSEN, *made_up(random.Random(11), 150)], 1):
        expected = await answer(reference, request)
        assert await answer(shop, request) == expected, f"request {number}: {request}"
        statuses.add(expected[0])
    assert statuses == {200, 201, 404, 409, 422}


async def test_a_shop_that_is_started_again_keeps_its_data(address: str) -> None:
    async with create_api(address).test_client() as shop:
        await shop.post("/customers", json={"name": "Zoe", "email": "zoe@example.org", "city": "Utrecht"})
    async with create_api(address).test_client() as shop:
        assert (await shop.get("/customers")).json()["total"] == 51
        assert (await shop.get("/products")).json()["total"] == 120


async def test_a_hundred_who_want_the_last_ones_get_no_more_than_there_are(shop: APIClient) -> None:
    page = (await shop.get("/products", params={"size": 100})).json()
    scarce = next(product["id"] for product in page["items"] if product["stock"] == 3)
    answers = await asyncio.gather(*(answer(shop, order(1, (scarce, 1))) for _ in range(100)))
    assert sorted(status for status, _ in answers) == [201] * 3 + [409] * 97
    assert (await shop.get(f"/products/{scarce}")).json()["stock"] == 0


async def test_orders_that_take_the_same_goods_in_any_order_all_succeed(shop: APIClient) -> None:
    page = (await shop.get("/products", params={"size": 100})).json()
    plenty = [product["id"] for product in page["items"] if product["stock"] == 150][:4]
    ways = [plenty, plenty[::-1]] * 20
    answers = await asyncio.gather(*(answer(shop, order(1, *((product, 1) for product in way))) for way in ways))
    assert {status for status, _ in answers} == {201}
    left = [(await shop.get(f"/products/{product}")).json()["stock"] for product in plenty]
    assert left == [150 - len(ways)] * 4
