"""The chapter's program of a product catalogue in a document database, with the chapter's own class.

python examples/chapter/product_catalog.py                         # in memory
python examples/chapter/product_catalog.py sqlite:///products.db   # in a file
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from consona.chapter import NoSQLDatabase, NoSQLOperationError, ValidationError, narrate, show, think

PRODUCTS: list[dict[str, Any]] = [
    {
        "name": "Wireless Headphones",
        "category": "Electronics",
        "price": 99.99,
        "description": "Wireless headphones with noise cancellation",
        "tags": ["audio", "wireless", "noise-cancelling"],
        "inventory": 50,
        "ratings": [4.5, 4.8, 4.2, 4.7],
    },
    {
        "name": "Smart Watch",
        "category": "Electronics",
        "price": 299.99,
        "description": "Smartwatch with health monitoring",
        "tags": ["wearable", "health", "smart"],
        "inventory": 30,
        "ratings": [4.3, 4.6, 4.1, 4.4],
    },
    {
        "name": "Organic Coffee Beans",
        "category": "Food",
        "price": 24.99,
        "description": "Organic coffee beans from Guatemala",
        "tags": ["coffee", "organic", "fair-trade"],
        "inventory": 100,
        "ratings": [4.9, 4.7, 4.8, 4.6],
    },
    {
        "name": "Yoga Mat",
        "category": "Sports",
        "price": 39.99,
        "description": "Yoga mat with excellent grip",
        "tags": ["yoga", "fitness", "eco-friendly"],
        "inventory": 75,
        "ratings": [4.4, 4.5, 4.3, 4.6],
    },
]
HUB: dict[str, Any] = {
    "name": "Smart Home Hub",
    "category": "Electronics",
    "price": 149.99,
    "description": "Central hub for smart home automation",
    "tags": ["smart-home", "automation", "IoT"],
    "inventory": 25,
    "ratings": [4.6, 4.8, 4.7],
    "specifications": {
        "connectivity": ["WiFi", "Bluetooth", "Zigbee"],
        "compatibility": ["Alexa", "Google Home", "Apple HomeKit"],
        "power": "AC Adapter included",
    },
    "reviews": [
        {"user": "techie123", "rating": 5, "comment": "Excellent device!"},
        {"user": "homeowner", "rating": 4, "comment": "Works great with my setup"},
    ],
}


def fill(db: NoSQLDatabase) -> None:
    think("Begin with an empty collection, so that each run gives the same.")
    db.delete_documents("products", {"_id": {"$exists": True}})
    for product in PRODUCTS:
        db.insert_document("products", dict(product))
        show("Inserted", product["name"])


def tell(title: str, products: Iterable[dict[str, Any]], field: str) -> None:
    show(title)
    for product in products:
        show(" ", product["name"], product[field])


def ask(db: NoSQLDatabase) -> None:
    tell("All products:", db.find_documents("products", {}, {"limit": 10}), "price")
    tell("Electronics:", db.find_documents("products", {"category": "Electronics"}), "inventory")
    query = {"price": {"$lt": 100}, "inventory": {"$gt": 40}}
    by_price = {"sort": {"field": "price", "order": "asc"}}
    tell("Affordable, with good inventory:", db.find_documents("products", query, by_price), "price")
    tell("Health-related:", db.find_documents("products", {"tags": {"$in": ["health", "organic"]}}), "tags")


def change(db: NoSQLDatabase) -> None:
    new = {"inventory": 45, "status": "updated"}
    show(db.update_document("products", {"name": "Wireless Headphones"}, new, {"update_one": True}))
    show(db.update_document("products", {"category": "Electronics"}, {"featured": True}, {"update_one": False}))
    db.insert_document("products", dict(HUB))
    tell("With WiFi:", db.find_documents("products", {"specifications.connectivity": {"$in": ["WiFi"]}}), "price")
    show(db.delete_documents("products", {"inventory": {"$lt": 30}}, {"delete_one": False}))
    tell("Remaining:", db.find_documents("products", {}), "inventory")


def mistakes(db: NoSQLDatabase) -> None:
    try:
        db.find_documents("products", {"price": {"$cheaper": 100}})
    except NoSQLOperationError as error:
        show("Refused:", error.message)
    try:
        db.delete_documents("products", {})
    except ValidationError as error:
        show("Refused:", error.message)


def figures(db: NoSQLDatabase) -> None:
    metrics = db.get_performance_metrics()
    for name in ("total_operations", "successful_operations", "failed_operations"):
        show(" ", name, metrics[name])
    show("Average time in milliseconds is above 0:", metrics["average_operation_time"] * 1000 > 0)
    show(db.get_collection_stats("products"))
    show("The last five:")
    for entry in db.get_query_history()[-5:]:
        show(" ", "ok " if entry["success"] else "not", entry["operation"], "on", entry["collection"])


def main() -> None:
    narrate()
    db = NoSQLDatabase(sys.argv[1] if len(sys.argv) > 1 else "memory://products")
    db.connect()
    fill(db)
    ask(db)
    change(db)
    mistakes(db)
    figures(db)
    db.close_connection()


if __name__ == "__main__":
    main()
