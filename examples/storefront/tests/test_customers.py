"""The customers."""

from __future__ import annotations

import pytest

from consona import APIClient, APIError

ZOE = {"name": "Zoe Quist", "email": "zoe@example.org", "city": "Utrecht"}


async def test_whoever_registers_can_be_found(shop: APIClient) -> None:
    new = await shop.post("/customers", json=ZOE)
    assert new.status == 201
    found = (await shop.get(f"/customers/{new.json()['id']}")).json()
    assert {**ZOE, "id": found["id"], "since": found["since"]} == found


async def test_an_address_belongs_to_one_customer_whatever_its_capitals(shop: APIClient) -> None:
    await shop.post("/customers", json=ZOE)
    with pytest.raises(APIError) as caught:
        await shop.post("/customers", json={**ZOE, "email": "ZOE@example.org"})
    assert caught.value.status == 409
    assert (await shop.get("/customers")).json()["total"] == 51


async def test_every_wrong_field_of_a_registration_is_named(shop: APIClient) -> None:
    with pytest.raises(APIError) as caught:
        await shop.post("/customers", json={"name": "", "email": "zoe", "admin": True})
    assert caught.value.status == 422
    paths = {error["path"] for error in caught.value.problem["errors"]}
    assert paths == {"body.name", "body.email", "body.city", "body.admin"}


async def test_customers_come_by_name(shop: APIClient) -> None:
    page = (await shop.get("/customers", params={"size": 100})).json()
    names = [customer["name"] for customer in page["items"]]
    assert len(names) == page["total"] == 50
    assert names == sorted(names)


async def test_a_customer_who_does_not_exist_is_not_found(shop: APIClient) -> None:
    with pytest.raises(APIError) as caught:
        await shop.get("/customers/999")
    assert caught.value.status == 404
