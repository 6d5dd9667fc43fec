"""A made-up visitor, for `consona up --visitors N`: looks around, searches, orders, and makes mistakes.

Most of what it does works; some of it fails on purpose, so that there is something to see.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from consona import APIClient, APIError

WORDS = ["oak", "lamp", "tea", "bench", "wool", "kite", "knife", "unicorn"]


async def walk(api: APIClient, rng: random.Random) -> None:
    """One visit: a few steps, with a moment of thought after each."""
    for _ in range(rng.randint(3, 8)):
        step = rng.choices(list(STEPS), list(STEPS.values()))[0]
        try:
            await step(api, rng)
        except APIError as error:
            if error.status >= 500:
                raise
        await asyncio.sleep(rng.uniform(0.1, 1.0))


async def look_around(api: APIClient, rng: random.Random) -> None:
    page = await api.get(
        "/products", params={"page": rng.randint(1, 6), "sort": rng.choice(["name", "price", "-price"])}
    )
    for product in rng.sample(page.json()["items"], 2):
        await api.get(f"/products/{product['id']}")


async def look_at_a_category(api: APIClient, rng: random.Random) -> None:
    categories = await api.get("/categories")
    await api.get("/products", params={"category": rng.choice(categories.json())["name"], "in_stock": "true"})


async def search(api: APIClient, rng: random.Random) -> None:
    await api.get("/products", params={"search": rng.choice(WORDS), "max_price": rng.choice([20, 50, 200])})


async def order(api: APIClient, rng: random.Random) -> None:
    """Buy a few things, and sometimes regret it."""
    lines = [{"product_id": rng.randint(1, 120), "quantity": rng.choice([1, 1, 2])} for _ in range(rng.randint(1, 3))]
    reply = await api.post("/orders", json={"customer_id": rng.randint(1, 50), "lines": lines})
    if rng.random() < 0.6:  # whoever sends goods back keeps the shop from running empty
        await api.post(f"/orders/{reply.json()['id']}/cancel")


async def look_at_own_orders(api: APIClient, rng: random.Random) -> None:
    customer = rng.randint(1, 50)
    await api.get(f"/customers/{customer}")
    await api.get("/orders", params={"customer_id": customer})


async def follow_an_old_link(api: APIClient, rng: random.Random) -> None:
    await api.get(f"/products/{rng.randint(900, 999)}")


async def order_wrongly(api: APIClient, rng: random.Random) -> None:
    wrong: list[Any] = [
        {"customer_id": 1, "lines": []},
        {"customer_id": "me", "lines": [{"product_id": 1, "quantity": 0}]},
        {"customer_id": 1, "lines": [{"product_id": 1, "quantity": 100}, {"product_id": 2, "quantity": 100}]},
    ]
    await api.post("/orders", json=rng.choice(wrong))


STEPS = {
    look_around: 30,
    look_at_a_category: 15,
    search: 20,
    order: 12,
    look_at_own_orders: 12,
    follow_an_old_link: 5,
    order_wrongly: 6,
}
"""What a visitor does -> how often, in comparison."""
