"""A server with accounts: who signed in passes where their roles allow, and what was taken back opens nothing."""

from __future__ import annotations

import msgspec
import pytest

from asgi_call import call
from auth_tools import PASSWORD, accounts_at
from consona.auth.account import Account
from consona.auth.browser_sessions import CrossSite
from consona.auth.claims import Claims
from consona.auth.roles import Roles
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import CurrentUser
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response


class User(msgspec.Struct):
    id: str
    username: str
    roles: list[str]


@pytest.fixture
async def shop(tmp_path):
    roles = Roles()
    roles.add("reader", "posts:read")
    roles.add("editor", "posts:*", inherits=["reader"])
    accounts = accounts_at(f"sqlite:///{tmp_path}/a.db", roles=roles)
    api = APIServer("t")

    @api.get("/me")
    async def me(user: CurrentUser[User]) -> User:
        return user

    @api.get("/account")
    async def account(found: CurrentUser[Account], claims: CurrentUser[Claims]) -> list[str]:
        return [found.email, claims.session]

    @api.get("/read", roles={"reader"})
    async def read() -> int:
        return 1

    @api.get("/write", scopes={"posts:write"})
    async def write() -> int:
        return 2

    @api.get("/pay", critical=True)
    async def pay() -> int:
        return 3

    api.secure(accounts)
    async with api:
        await accounts.register("alice", "alice@example.org", PASSWORD, roles=["editor"])
        await accounts.register("bob", "", PASSWORD)
        yield api, accounts


def bearer(session):
    return {"authorization": f"Bearer {session.access_token}"}


async def test_who_signed_in_passes_where_their_roles_allow(shop):
    api, accounts = shop
    alice, bob = [await accounts.authenticate(name, PASSWORD) for name in ("alice", "bob")]
    found = [
        [(await call(api, "GET", p, headers=bearer(who))).status for p in ("/me", "/read", "/write")]
        for who in (alice, bob)
    ]
    assert found == [[200, 200, 200], [200, 403, 403]]
    me = (await call(api, "GET", "/me", headers=bearer(alice))).json()
    assert me == {"id": alice.account.id, "username": "alice", "roles": ["editor"]}
    assert (await call(api, "GET", "/account", headers=bearer(alice))).json() == ["alice@example.org", alice.id]


async def test_the_account_is_read_anew_and_the_token_ends_with_what_changes(shop):
    api, accounts = shop
    alice = await accounts.authenticate("alice", PASSWORD)
    await accounts.set_roles(alice.account.id, [])
    answer = await call(api, "GET", "/read", headers=bearer(alice))
    assert (answer.status, answer.json()["code"]) == (401, "auth.token_revoked")
    renewed = await accounts.refresh(alice.refresh_token)
    assert (await call(api, "GET", "/read", headers=bearer(renewed))).status == 403


async def test_where_revocations_are_not_heard_critical_routes_wait_and_the_others_go_on(shop, monkeypatch):
    api, accounts = shop
    alice = await accounts.authenticate("alice", PASSWORD)
    monkeypatch.setattr(accounts.feed, "_timer", lambda: accounts.feed._heard + 1.0)  # however busy the machine is
    assert (await call(api, "GET", "/pay", headers=bearer(alice))).status == 200
    monkeypatch.setattr(accounts.feed, "_timer", lambda: accounts.feed._heard + 2.0)
    answer = await call(api, "GET", "/pay", headers=bearer(alice))
    assert (answer.status, answer.json()["code"]) == (503, "auth.revocations_stale")
    assert (await call(api, "GET", "/read", headers=bearer(alice))).status == 200


async def test_scopes_without_a_role_open_nothing(shop):
    api, accounts = shop
    bob = await accounts.find("bob")
    token = accounts.tokens.issue(bob.id, scopes=["*"]).text
    headers = {"authorization": f"Bearer {token}"}
    assert (await call(api, "GET", "/write", headers=headers)).status == 403


async def test_a_token_of_an_account_that_is_gone_gives_nobody(shop):
    api, accounts = shop
    token = accounts.tokens.issue("nobody").text
    assert (await call(api, "GET", "/me", headers={"authorization": f"Bearer {token}"})).status == 401


async def test_a_websocket_that_another_site_opens_with_the_cookie_does_not_count(shop):
    _, accounts = shop
    alice = await accounts.authenticate("alice", PASSWORD)
    browsers = accounts.browsers
    response = Response(b"")
    browsers.give(response, alice.id)
    kept = dict(response.raw_headers)[b"set-cookie"].decode().partition(";")[0]

    def handshake(**headers):
        fields = {"cookie": kept, "host": "shop.example"} | headers
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        scope = {"type": "websocket", "method": "GET", "headers": pairs}
        return Request(scope, None, None, (), dict(pairs), None)

    assert (await browsers.identify(handshake(origin="https://shop.example"))).subject == alice.account.id
    for headers in ({"origin": "https://evil.example"}, {}):
        with pytest.raises(CrossSite):
            await browsers.identify(handshake(**headers))


async def test_accounts_start_and_stop_with_the_server(shop):
    api, accounts = shop
    assert accounts.started
    await api.stop()
    assert not accounts.started
    await api.start()
