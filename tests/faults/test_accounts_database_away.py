"""The database of accounts goes away and comes back: each call says so, and nothing is half made."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit

import asyncpg
import pytest

import servers
from auth_tools import NEW_PASSWORD, PASSWORD, accounts_at
from consona.errors import ConsonaError
from consona.part import Status
from faulty_network import FaultyNetwork

pytestmark = pytest.mark.servers


@pytest.fixture
async def database():
    server = servers.need("PostgreSQL")
    name = f"consona_away_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def test_every_call_says_so_and_nothing_is_half_made(database):
    parts = urlsplit(database)
    async with FaultyNetwork(parts.hostname or "127.0.0.1", parts.port or 5432) as network:
        url = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{network.port}".lstrip("@")).geturl()
        async with accounts_at(url) as accounts:
            ada = await accounts.register("ada", "", PASSWORD)
            session = await accounts.authenticate("ada", PASSWORD)
            network.refuse()
            network.cut()
            for work in (
                accounts.authenticate("ada", PASSWORD),
                accounts.register("bob", "", PASSWORD),
                accounts.refresh(session.refresh_token),
                accounts.logout(session.id),
                accounts.set_roles(ada.id, ["admin"]),
                accounts.change_password(ada.id, PASSWORD, NEW_PASSWORD),
                accounts.make_key(ada.id, "x", ["*"]),
                accounts.delete(ada.id),
            ):
                with pytest.raises(ConsonaError) as caught:
                    async with asyncio.timeout(30):
                        await work
                assert caught.value.hint
                assert caught.value.status >= 500
                assert PASSWORD not in f"{caught.value!r} {caught.value.context}"
            # What was given out before goes on to count: it is checked without the database.
            assert accounts.tokens.verify(session.access_token).subject == ada.id
            async with asyncio.timeout(20):
                while not accounts.feed.stale:
                    await asyncio.sleep(0.05)
            assert (await accounts.check()).status is not Status.UP
            network.flow()
            async with asyncio.timeout(30):
                while accounts.feed.stale:
                    await asyncio.sleep(0.05)
            assert await accounts.find("bob") is None
            assert (await accounts.get(ada.id)).roles == frozenset()
            assert await accounts.list_keys(ada.id) == []
            renewed = await accounts.refresh(session.refresh_token)
            assert renewed.id == session.id
            assert (await accounts.audit.verify()).whole
