"""API keys: for programs, in somebody's name, for less than they may do; shown once."""

from __future__ import annotations

import asyncio
import json

import pytest

from asgi_call import call
from auth_tools import PASSWORD, Clock, accounts_at
from consona.auth.errors import TokenExpired, TokenInvalid, TokenRevoked
from consona.auth.roles import Roles
from consona.errors import NotFound, ValidationError
from consona.rest.server.api_server import APIServer


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def accounts(tmp_path, clock):
    roles = Roles()
    roles.add("editor", "posts:*")
    async with accounts_at(f"sqlite:///{tmp_path}/a.db", clock, roles=roles) as made:
        yield made


@pytest.fixture
async def alice(accounts):
    return await accounts.register("alice", "", PASSWORD, roles=["editor"])


async def test_a_key_names_its_owner_and_what_it_is_for(accounts, alice, clock):
    info, text = await accounts.make_key(alice.id, "my script", ["posts:read"])
    claims = await accounts.keys.identify(text)
    assert (claims.subject, claims.scopes, claims.roles, claims.session) == (alice.id, {"posts:read"}, {"editor"}, "")
    [listed] = await accounts.list_keys(alice.id)
    assert (listed.id, listed.name, listed.scopes, listed.last_used) == (
        info.id,
        "my script",
        ["posts:read"],
        clock.now,
    )


async def test_the_database_and_the_log_hold_no_key(accounts, alice):
    _, text = await accounts.make_key(alice.id, "x", ["*"])
    kept = str(await accounts.db.fetch_all("SELECT * FROM consona_api_keys"))
    kept += str(await accounts.db.fetch_all("SELECT * FROM consona_audit"))
    assert text.rpartition("_")[2] not in kept + str(accounts.history)


async def test_a_key_ends_when_it_is_removed_or_its_time_is_over(accounts, alice, clock):
    info, text = await accounts.make_key(alice.id, "x", ["*"], ttl=100)
    await accounts.keys.identify(text)
    clock.now += 101
    with pytest.raises(TokenExpired):
        await accounts.keys.identify(text)
    info, text = await accounts.make_key(alice.id, "x", ["*"])
    await accounts.keys.identify(text)
    with pytest.raises(NotFound):
        await accounts.remove_key("somebody", info.id)
    await accounts.remove_key(alice.id, info.id)
    with pytest.raises(TokenInvalid):
        await accounts.keys.identify(text)
    with pytest.raises(NotFound):
        await accounts.remove_key(alice.id, info.id)


async def test_a_key_that_is_remembered_ends_at_once_with_what_changes(accounts, alice):
    _, text = await accounts.make_key(alice.id, "x", ["*"])
    await accounts.keys.identify(text)
    await accounts.disable(alice.id)
    with pytest.raises(TokenRevoked):
        await accounts.keys.identify(text)


async def test_a_key_follows_its_owners_roles_at_once(accounts, alice):
    _, text = await accounts.make_key(alice.id, "x", ["*"])
    await accounts.keys.identify(text)
    await accounts.set_roles(alice.id, ["reader"])
    assert (await accounts.keys.identify(text)).roles == {"reader"}


async def test_a_key_that_one_process_removed_counts_in_no_other_a_second_later(tmp_path):
    url = f"sqlite:///{tmp_path}/b.db"
    async with accounts_at(url) as here, accounts_at(url) as there:
        bob = await here.register("bob", "", PASSWORD)
        info, text = await here.make_key(bob.id, "x", ["*"])
        await there.keys.identify(text)
        await here.remove_key(bob.id, info.id)
        async with asyncio.timeout(5):
            while True:
                try:
                    await there.keys.identify(text)
                except TokenRevoked:
                    break
                await asyncio.sleep(0.02)


async def test_an_invented_key_is_nobody(accounts, alice):
    info, text = await accounts.make_key(alice.id, "x", ["*"])
    for wrong in (
        "cak_",
        text[:-1],
        text + "A",
        text[:-4] + "AAAA",
        f"cak_{'a' * 12}_{text[-43:]}",
        f"cak_{info.id}_{'A' * 43}",
    ):
        with pytest.raises(TokenInvalid):
            await accounts.keys.identify(wrong)


@pytest.mark.parametrize(
    "bad",
    [
        {"scopes": []},
        {"scopes": "posts:read"},
        {"scopes": ["a b"]},
        {"scopes": ["x"] * 3 + [""]},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": 1000000000000.0},
    ],
)
async def test_bad_input_is_refused(accounts, alice, bad):
    with pytest.raises(ValidationError):
        await accounts.make_key(alice.id, **({"name": "x", "scopes": ["*"]} | bad))
    with pytest.raises(NotFound):
        await accounts.make_key("nobody", "x", ["*"])


async def test_an_account_has_a_bounded_number_of_keys(accounts, alice):
    for _ in range(100):
        await accounts.make_key(alice.id, "x", ["*"])
    with pytest.raises(ValidationError, match="at most 100"):
        await accounts.make_key(alice.id, "x", ["*"])


async def test_a_key_opens_what_it_and_its_owner_may_and_changes_no_account(accounts, alice):
    api = APIServer("t")

    @api.get("/read", scopes={"posts:read"})
    async def read() -> int:
        return 1

    @api.get("/write", scopes={"posts:write"})
    async def write() -> int:
        return 2

    @api.get("/users", scopes={"users:read"})
    async def users() -> int:
        return 3

    api.secure(accounts)
    async with api:
        session = await accounts.authenticate("alice", PASSWORD)
        bearer = {"authorization": f"Bearer {session.access_token}", "content-type": "application/json"}
        body = json.dumps({"name": "script", "scopes": ["posts:read", "users:read"]}).encode()
        made = await call(api, "POST", "/auth/keys", body=body, headers=bearer)
        assert (made.status, made.header("cache-control")) == (201, "no-store")
        key = {"authorization": f"Bearer {made.json()['key']}", "content-type": "application/json"}
        found = [(await call(api, "GET", path, headers=key)).status for path in ("/read", "/write", "/users")]
        assert found == [200, 403, 403]
        for method, path in (("GET", "/auth/keys"), ("POST", "/auth/keys"), ("POST", "/auth/logout-everywhere")):
            assert (await call(api, method, path, body=body if method == "POST" else b"", headers=key)).status == 403
        listed = (await call(api, "GET", "/auth/keys", headers=bearer)).json()
        assert made.json()["key"] not in json.dumps(listed)
        path = f"/auth/keys/{listed[0]['id']}"
        assert (await call(api, "DELETE", path, headers=bearer)).status == 204
        assert (await call(api, "GET", "/read", headers=key)).status == 401
