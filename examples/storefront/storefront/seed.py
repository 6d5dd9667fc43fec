"""The goods, customers and orders that a new shop begins with. Made by rule, so that every new shop is the same."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta

from consona.sql.transaction import Transaction

ORDERS = 80
OPENED = date(2025, 3, 1)

GOODS: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "Books": (
        "bound in cloth, printed on acid-free paper",
        [
            ("Atlas of rivers", 48),
            ("Bread baking", 26),
            ("Field guide to birds", 22),
            ("History of clocks", 31),
            ("Knots", 14),
        ],
    ),
    "Camping": (
        "light, and tested in rain and wind",
        [("Two-person tent", 189), ("Sleeping mat", 59), ("Gas stove", 44), ("Headlamp", 29), ("Folding cup", 8)],
    ),
    "Coffee and tea": (
        "for slow mornings",
        [("Coffee grinder", 79), ("Teapot", 34), ("Pour-over filter", 18), ("Milk jug", 16), ("Tea tin", 11)],
    ),
    "Garden": (
        "made to stay outside all year",
        [("Watering can", 27), ("Pruning shears", 38), ("Nesting box", 24), ("Garden bench", 149), ("Seed tray", 9)],
    ),
    "Home": (
        "with a finish that can be renewed",
        [("Floor lamp", 119), ("Wool blanket", 85), ("Wall clock", 42), ("Coat rack", 64), ("Candle holder", 15)],
    ),
    "Kitchen": (
        "easy to clean, and good to hold",
        [("Chef's knife", 74), ("Cutting board", 32), ("Frying pan", 58), ("Mixing bowl", 21), ("Salad spoons", 13)],
    ),
    "Office": (
        "for a desk that is a pleasure to sit at",
        [("Desk lamp", 69), ("Notebook", 12), ("Fountain pen", 46), ("Letter tray", 28), ("Pencil case", 17)],
    ),
    "Toys": (
        "without small parts, for ages 3 and up",
        [("Building blocks", 39), ("Kite", 23), ("Puzzle", 16), ("Wooden train", 52), ("Spinning top", 7)],
    ),
}
"""Category -> what its goods have in common, and the goods with a price in euros."""

STYLES = [("Plain", 1.0, "The one that most people take"), ("Oak", 1.35, "The warm one"), ("Large", 1.6, "The big one")]
FIRST_NAMES = ["Ada", "Ben", "Chloe", "Dario", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas"]
LAST_NAMES = ["Abel", "Brandt", "Costa", "Demir", "Eriksen"]
CITIES = ["Antwerp", "Bergen", "Cologne", "Dublin", "Florence", "Ghent", "Helsinki", "Krakow", "Lyon", "Porto"]


Goods = tuple[int, str, str, str, int, int]

PRODUCT = ("id", "name", "category", "description", "cents", "stock")
LINE = ("order_id", "position", "product_id", "name", "quantity", "cents")
NEW_CUSTOMER = "INSERT INTO customers (name, email, city, since) VALUES (?, ?, ?, ?)"
NEW_ORDER = "INSERT INTO orders (customer_id, status, placed_at) VALUES (?, ?, ?)"


async def fill(tx: Transaction) -> None:
    """Put everything into empty tables."""
    rng = random.Random(7)
    goods = list(products(rng))
    await tx.insert_many("products", goods, columns=PRODUCT)
    buyers = [(await tx.execute(NEW_CUSTOMER, *customer)).key for customer in customers(rng)]
    numbers = [(await tx.execute(NEW_ORDER, *order)).key for order in orders(rng, buyers)]
    await tx.insert_many("order_lines", lines(rng, numbers, goods), columns=LINE)


def products(rng: random.Random) -> Iterator[Goods]:
    """(number, name, category, description, cents, stock); a few are sold out."""
    everything = [
        (category, quality, good, style)
        for category, (quality, goods) in GOODS.items()
        for good in goods
        for style in STYLES
    ]
    for number, (category, quality, (good, price), (style, factor, remark)) in enumerate(everything, 1):
        name = f"{good}, {style.lower()}"
        description = f"{remark}: {good.lower()}, {quality}."
        cents = round(price * factor) * 100 - rng.choice([0, 1, 5, 10])
        yield number, name, category, description, cents, rng.choice([0, 3, *[20] * 4, *[150] * 6])


def customers(rng: random.Random) -> Iterator[tuple[str, str, str, date]]:
    """(name, email, city, since)"""
    for last in LAST_NAMES:
        for first in FIRST_NAMES:
            since = OPENED + timedelta(days=rng.randrange(300))
            yield f"{first} {last}", f"{first}.{last}@example.org".lower(), rng.choice(CITIES), since


def orders(rng: random.Random, buyers: Sequence[int]) -> Iterator[tuple[int, str, datetime]]:
    """(customer, status, placed at): those of the first year; the older one is, the more certainly was it shipped."""
    for number in range(1, ORDERS + 1):
        day = OPENED + timedelta(days=300 + number // 2)
        at = datetime.combine(day, time(rng.randrange(7, 23), rng.randrange(60)), UTC)
        status = rng.choices(["shipped", "placed", "cancelled"], [ORDERS, number / 2, 6])[0]
        yield rng.choice(buyers), status, at


def lines(
    rng: random.Random, numbers: Sequence[int], goods: Sequence[Goods]
) -> Iterator[tuple[int, int, int, str, int, int]]:
    """(order, position, product, name, quantity, cents): one to three products for each order."""
    for number in numbers:
        for position, (product, name, _, _, cents, _) in enumerate(rng.sample(goods, rng.choice([1, 1, 2, 3]))):
            yield number, position, product, name, rng.choice([1, 1, 1, 2, 4]), cents
