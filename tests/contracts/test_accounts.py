"""What accounts promise, on each engine that can keep them. Two systems at one database are like two processes."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
import pytest

import servers
from auth_tools import NEW_PASSWORD, PASSWORD, accounts_at
from consona.auth.errors import AccountDisabled, AccountLocked, LinkRefused, LoginFailed, RefreshRefused, TokenRevoked
from consona.auth.links import Purpose
from consona.errors import Conflict


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
async def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/a.db"
        return
    server = servers.need("PostgreSQL")
    name = f"consona_accounts_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.fixture
async def two(url):
    first, second = accounts_at(url), accounts_at(url)
    await asyncio.gather(first.start(), second.start())  # both find no tables
    yield first, second
    await asyncio.gather(first.stop(), second.stop())


async def test_a_name_is_given_once_whoever_gives_it(two):
    done = await asyncio.gather(
        *(two[n % 2].register(name, "", PASSWORD) for n, name in enumerate(["bob", "BOB"] * 4)), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in done) == 7


async def test_no_more_than_five_guesses_are_compared(two):
    await two[0].register("alice", "", PASSWORD)
    done = await asyncio.gather(
        *(two[n % 2].authenticate("alice", f"guess {n}", address="10.0.0.1") for n in range(60)), return_exceptions=True
    )
    kinds = [type(each) for each in done]
    assert (kinds.count(LoginFailed), kinds.count(AccountLocked)) == (5, 55)


async def test_a_refresh_token_has_one_successor_and_an_old_one_ends_the_session_everywhere(two):
    here, there = two
    await here.register("alice", "", PASSWORD)
    session = await here.authenticate("alice", PASSWORD)
    renewed = await asyncio.gather(*(two[n % 2].refresh(session.refresh_token) for n in range(6)))
    assert len({each.refresh_token for each in renewed}) == 1
    last = await there.refresh(renewed[0].refresh_token)
    with pytest.raises(RefreshRefused):
        await here.refresh(session.refresh_token)
    with pytest.raises(RefreshRefused):
        await there.refresh(last.refresh_token)
    await until_revoked(there, last)


async def test_what_changes_here_holds_there_within_a_second(two):
    here, there = two
    alice = await here.register("alice", "alice@example.org", PASSWORD, roles=["editor"])
    for change in (
        lambda: here.set_roles(alice.id, ["reader"]),
        lambda: here.change_password(alice.id, PASSWORD, NEW_PASSWORD),
        lambda: here.logout_everywhere(alice.id),
        lambda: here.disable(alice.id),
    ):
        password = NEW_PASSWORD if await there.hashes.verify(await kept(there, alice), NEW_PASSWORD) else PASSWORD
        session = await there.authenticate("alice@example.org", password)
        there.tokens.verify(session.access_token)
        await change()
        await until_revoked(there, session)
    with pytest.raises(AccountDisabled):
        await there.authenticate("alice", NEW_PASSWORD)


async def kept(accounts, account):
    return await accounts.db.fetch_value("SELECT password FROM consona_accounts WHERE id = ?", account.id)


async def until_revoked(accounts, session):
    async with asyncio.timeout(5.0):  # a second is promised; a busy machine gets more
        while True:
            try:
                accounts.tokens.verify(session.access_token)
            except TokenRevoked:
                return
            await asyncio.sleep(0.02)


async def test_what_happened_is_one_sealed_log_whoever_writes_it(two):
    await asyncio.gather(*(two[n % 2].register(f"user{n}", "", PASSWORD) for n in range(8)))
    await asyncio.gather(*(two[n % 2].authenticate(f"user{n}", PASSWORD) for n in range(8)))
    verdict = await two[0].audit.verify()
    assert (verdict.whole, verdict.entries) == (True, 16)
    await two[0].db.execute("UPDATE consona_audit SET account = 'x' WHERE number = 5")
    assert not (await two[1].audit.verify()).whole


async def test_a_deleted_account_leaves_room_for_its_name(two):
    here, there = two
    alice = await here.register("alice", "alice@example.org", PASSWORD)
    session = await there.authenticate("alice", PASSWORD)
    await here.delete(alice.id)
    with pytest.raises(RefreshRefused):
        await there.refresh(session.refresh_token)
    assert (await there.register("alice", "alice@example.org", PASSWORD)).id != alice.id
    assert await here.sweep() >= 0


async def test_a_link_of_a_mail_counts_once_whoever_follows_it(two):
    alice = await two[0].register("alice", "alice@example.org", PASSWORD)
    token = await two[0]._links.issue(alice.id, Purpose.RESET, alice.email, ttl=60)
    done = await asyncio.gather(
        *(two[n % 2].reset_password(token, f"{NEW_PASSWORD} {n}") for n in range(6)), return_exceptions=True
    )
    assert sum(isinstance(each, LinkRefused) for each in done) == 5


async def test_whoever_runs_it_sees_sessions_and_lockouts(two):
    here, there = two
    for name in ("ada", "bob"):
        await here.register(name, "", PASSWORD)
    await there.authenticate("ada", PASSWORD)
    for _ in range(5):
        with pytest.raises(LoginFailed):
            await there.authenticate("bob", "wrong", address="10.0.0.1")
    seen = {each.account.name: (each.sessions, each.locked_until is not None) for each in await here.overview()}
    assert seen == {"ada": (1, False), "bob": (0, True)}
    assert [each.account.name for each in await here.overview(start="b")] == ["bob"]
    assert [each.event for each in await here.audit.last(2)] == ["login failed", "login failed"]
