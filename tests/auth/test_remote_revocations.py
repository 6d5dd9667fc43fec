"""What one service takes back counts in another that has no database of accounts: over real HTTP."""

from __future__ import annotations

import asyncio

import pytest

from asgi_call import call
from auth_tools import KEY, PASSWORD, accounts_at
from consona.auth.jwt_manager import JWTManager
from consona.auth.remote_revocations import RemoteRevocations
from consona.auth.roles import Roles
from consona.auth.token_guard import TokenGuard
from consona.errors import ConsonaError
from consona.part import Status
from consona.rest.client.authentication import Bearer
from consona.rest.server.api_server import APIServer
from served import served


@pytest.fixture
async def accounts(tmp_path):
    roles = Roles()
    roles.add("service", "revocations:read")
    return accounts_at(f"sqlite:///{tmp_path}/a.db", roles=roles)


@pytest.fixture
async def service(accounts):
    """The accounts' service, and the key of another service."""
    api = APIServer("accounts")
    api.secure(accounts)
    async with served(api) as address:
        made = await accounts.register("orders-service", "", PASSWORD, roles=["service"])
        _, key = await accounts.make_key(made.id, "orders", ["revocations:read"])
        yield address, key


def orders(address, key, **more):
    """A service that believes tokens, and does not share the database."""
    tokens = JWTManager(KEY, issuer="shop")
    revocations = RemoteRevocations(address, tokens, auth=Bearer(key), **more)
    api = APIServer("orders")

    @api.get("/orders")
    async def read() -> int:
        return 1

    @api.get("/pay", critical=True)
    async def pay() -> int:
        return 2

    api.secure(TokenGuard(tokens, revocations=revocations))
    return api, revocations


async def until(condition):
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_a_token_that_is_taken_back_there_counts_here_no_more(accounts, service):
    api, _ = orders(*service)
    async with api:
        await accounts.register("ada", "", PASSWORD)
        session = await accounts.authenticate("ada", PASSWORD)
        headers = {"authorization": f"Bearer {session.access_token}"}
        assert (await call(api, "GET", "/orders", headers=headers)).status == 200
        assert (await call(api, "GET", "/pay", headers=headers)).status == 200
        await accounts.logout(session.id)

        async def refused():
            return (await call(api, "GET", "/orders", headers=headers)).status == 401

        await until(refused)


async def test_a_service_that_starts_late_knows_all_that_was_taken_back(accounts, service, monkeypatch):
    await accounts.register("ada", "", PASSWORD)
    session = await accounts.authenticate("ada", PASSWORD)
    await accounts.disable(session.account.id)
    last = accounts._last_token()
    for module in ("revocation_feed", "revocation_follower"):
        monkeypatch.setattr(f"consona.auth.{module}.PAGE", 20)

    async def many(tx):
        for n in range(50):
            await accounts.feed.write(tx, "token", f"t{n}", until=last)

    await accounts.db.run_in_transaction(many)
    assert len(await accounts.feed.after(0)) == 20
    api, revocations = orders(*service)
    async with api:
        headers = {"authorization": f"Bearer {session.access_token}"}
        assert (await call(api, "GET", "/orders", headers=headers)).status == 401
        assert len(revocations.tokens.revocations) >= 51


async def test_while_the_accounts_are_away_critical_routes_wait_and_others_go_on(accounts, service, monkeypatch):
    api, revocations = orders(*service)
    async with api:
        await accounts.register("ada", "", PASSWORD)
        headers = {"authorization": f"Bearer {(await accounts.authenticate('ada', PASSWORD)).access_token}"}
        follower = revocations._follower
        monkeypatch.setattr(follower, "_timer", lambda: follower._heard + 2.0)
        waits = await call(api, "GET", "/pay", headers=headers)
        assert (waits.status, waits.json()["code"]) == (503, "auth.revocations_stale")
        assert (await call(api, "GET", "/orders", headers=headers)).status == 200
        assert (await revocations.check()).status is Status.DEGRADED


async def test_a_service_that_cannot_ask_does_not_start(service):
    address, _ = service
    for wrong in ("cak_aaaaaaaaaaaa_" + "A" * 43, "x"):
        api, _ = orders(address, wrong)
        with pytest.raises(ConsonaError):
            await api.start()


async def test_only_who_may_reads_what_was_taken_back(accounts, service):
    api = APIServer("t")
    api.secure(accounts)
    async with api:
        assert (await call(api, "GET", "/auth/revocations")).status == 401
        await accounts.register("ada", "", PASSWORD)
        token = (await accounts.authenticate("ada", PASSWORD)).access_token
        headers = {"authorization": f"Bearer {token}"}
        assert (await call(api, "GET", "/auth/revocations", headers=headers)).status == 403
