"""What is kept of somebody can be had, and goes when they go."""

from __future__ import annotations

import json

import pytest

from asgi_call import call
from auth_tools import PASSWORD, accounts_at
from consona.auth.errors import LoginFailed, TokenRevoked
from consona.errors import NotFound
from consona.rest.server.api_server import APIServer


@pytest.fixture
async def accounts(tmp_path):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db") as made:
        yield made


@pytest.fixture
async def ada(accounts):
    return await accounts.register("ada", "ada@example.org", PASSWORD, roles=["editor"])


async def test_all_that_is_known_of_somebody_is_in_the_export_and_no_secret(accounts, ada):
    session = await accounts.authenticate("ada", PASSWORD, address="10.0.0.1", agent="Phone")
    _, key = await accounts.make_key(ada.id, "import", ["*"])
    told = await accounts.export(ada.id)
    assert told["account"]["email"] == "ada@example.org"
    assert [each["device"] for each in told["sessions"]] == ["Phone"]
    assert [each["name"] for each in told["keys"]] == ["import"]
    assert [each["event"] for each in told["events"]] == ["registered", "login", "key made"]
    text = json.dumps(told)
    for secret in (PASSWORD, key, session.refresh_token, session.access_token, "argon2"):
        assert secret not in text
    with pytest.raises(NotFound):
        await accounts.export("nobody")


async def test_who_leaves_takes_everything_along_but_the_log(accounts, ada):
    session = await accounts.authenticate("ada", PASSWORD)
    await accounts.make_key(ada.id, "import", ["*"])
    await accounts.delete(ada.id)
    with pytest.raises(TokenRevoked):
        accounts.tokens.verify(session.access_token)
    for table in ("sessions", "identities", "api_keys", "links"):
        sql = f"SELECT count(*) FROM consona_{table} WHERE account = ?"
        assert await accounts.db.fetch_value(sql, ada.id) == 0
    assert [e.event async for e in accounts.audit.entries(account=ada.id)][-1] == "deleted"
    assert (await accounts.audit.verify()).whole


async def test_a_deletion_that_fails_leaves_everything_as_it_was(accounts, ada):
    await accounts.authenticate("ada", PASSWORD)
    await accounts.db.execute(
        "CREATE TRIGGER no BEFORE DELETE ON consona_accounts BEGIN SELECT RAISE(ABORT, 'not now'); END"
    )
    with pytest.raises(Exception):
        await accounts.delete(ada.id)
    assert (await accounts.get(ada.id)).active
    assert len(await accounts.sessions(ada.id)) == 1


async def test_the_routes_ask_for_the_password(tmp_path):
    accounts = accounts_at(f"sqlite:///{tmp_path}/b.db")
    api = APIServer("t")
    api.secure(accounts)
    async with api:
        made = await accounts.register("ada", "", PASSWORD)
        headers = {"authorization": f"Bearer {(await accounts.authenticate('ada', PASSWORD)).access_token}"}
        assert (await call(api, "GET", "/auth/export", headers=headers)).json()["account"]["name"] == "ada"
        headers["content-type"] = "application/json"

        async def leave(password):
            body = json.dumps({"password": password}).encode()
            return await call(api, "POST", "/auth/delete", body=body, headers=headers)

        assert (await leave("wrong")).status == 401
        assert (await leave(PASSWORD)).status == 204
        assert await accounts.find("ada") is None
        with pytest.raises(LoginFailed):
            await accounts.authenticate("ada", PASSWORD)
        assert made.id
