"""What follows from an order: a mail to the customer, and the sales of each five minutes."""

from __future__ import annotations

from email import message_from_bytes
from pathlib import Path

import pytest

from consona import APIError
from storefront.api import create_api
from storefront.notices import create_app


async def test_an_order_is_confirmed_and_its_cancelling_too_and_a_refused_one_is_not(tmp_path: Path) -> None:
    database, mails = f"sqlite:///{tmp_path / 'shop.db'}", tmp_path / "mail"
    app, bus, sales = create_app(database, f"file:///{mails}")
    async with create_api(database).test_client() as shop, app:
        customer = (await shop.get("/customers/1")).json()
        order = {"customer_id": 1, "lines": [{"product_id": 5, "quantity": 2}]}
        placed = (await shop.post("/orders", json=order)).json()
        with pytest.raises(APIError):
            await shop.post("/orders", json={"customer_id": 1, "lines": [{"product_id": 999, "quantity": 1}]})
        await shop.post(f"/orders/{placed['id']}/cancel")
        await shop.post(f"/orders/{placed['id']}/cancel")  # again, which changes nothing
        await bus.work(until_empty=True)
        [window] = await sales.open_windows()
    sent = [message_from_bytes(file.read_bytes()) for file in sorted(mails.rglob("*")) if file.is_file()]
    assert sorted(mail["Subject"] for mail in sent) == [
        f"Your order {placed['id']}",
        f"Your order {placed['id']} is cancelled",
    ]
    assert all(customer["email"] in mail["To"] for mail in sent)
    assert any(f"of {placed['total']} euros" in mail.get_payload() for mail in sent)
    assert {name: str(value) for name, value in window.values.items()} == {"orders": "1", "revenue": placed["total"]}
