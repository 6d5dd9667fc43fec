"""Whole sign-ins and refreshes, with everything that belongs to them, in a file that is synced.

Ours looks for the account, counts the guess, checks the password, begins a session, writes the audit log, signs a
token. FastAPI-Users does part of it: it looks for the account (aiosqlite), checks the password with the
same Argon2 at the same cost, and signs a token; it has no lockout, no sessions, no refresh tokens, no log. The floor is
Argon2 alone. Rates are per second of CPU time, so they are per core.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from argon2 import PasswordHasher
from benchmarks.table import Row, markdown

from consona import AccountSettings, AuthenticationSystem, JWTManager, SigningKey, SQLDatabase

ROUNDS = 5
LOGINS = 6
REFRESHES = 200
PASSWORD = "correct horse battery staple"

Login = Callable[[], Awaitable[object]]


async def per_cpu_second(work: Login, times: int) -> float:
    begin = time.process_time()
    for _ in range(times):
        await work()
    return times / (time.process_time() - begin)


async def milliseconds(work: Login) -> float:
    begin = time.perf_counter()
    await work()
    return (time.perf_counter() - begin) * 1e3


@dataclass
class User:
    """What FastAPI-Users wants to know of one."""

    id: uuid.UUID
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = True


@asynccontextmanager
async def fastapi_users(folder: Path, hasher: PasswordHasher):
    """Its own way to sign in, as its router does it: `authenticate`, then `write_token`."""
    import aiosqlite
    from fastapi.security import OAuth2PasswordRequestForm
    from fastapi_users import BaseUserManager, UUIDIDMixin
    from fastapi_users.authentication import JWTStrategy
    from fastapi_users.db import BaseUserDatabase
    from fastapi_users.password import PasswordHelper
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    class Users(BaseUserDatabase):
        """The least that it asks of a database: one look-up. (Its own adapters, on SQLAlchemy, cost more.)"""

        async def get_by_email(self, email: str) -> User | None:
            async with database.execute(
                "SELECT id, email, hashed_password FROM users WHERE email = ?", (email,)
            ) as row:
                found = await row.fetchone()
            return None if found is None else User(uuid.UUID(found[0]), *found[1:])

    class Manager(UUIDIDMixin, BaseUserManager):
        pass

    same = Argon2Hasher(time_cost=hasher.time_cost, memory_cost=hasher.memory_cost, parallelism=hasher.parallelism)
    helper = PasswordHelper(PasswordHash((same,)))
    strategy = JWTStrategy(secret="a secret for the benchmark alone, of no use elsewhere", lifetime_seconds=900)
    database = await aiosqlite.connect(folder / "peer.db")
    await database.execute("CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT UNIQUE, hashed_password TEXT)")
    values = (str(uuid.uuid4()), "ada@example.org", helper.hash(PASSWORD))
    await database.execute("INSERT INTO users VALUES (?, ?, ?)", values)
    await database.commit()
    form = OAuth2PasswordRequestForm(username="ada@example.org", password=PASSWORD, scope="")

    async def login() -> str:
        user = await Manager(Users(), helper).authenticate(form)
        assert user is not None
        return await strategy.write_token(user)

    try:
        yield login
    finally:
        await database.close()


async def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db = SQLDatabase(f"sqlite:///{folder}/accounts.db")
        tokens = JWTManager(SigningKey.generate(), issuer="bench")
        async with AuthenticationSystem(db, tokens, settings=AccountSettings(hash_workers=1)) as accounts:
            await accounts.register("ada", "ada@example.org", PASSWORD)
            cost = accounts.hashes.cost
            bare = PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=1)
            async with fastapi_users(folder, bare) as peer:
                return await _logins(accounts, bare, peer) + await _refreshes(accounts)


async def _logins(accounts: AuthenticationSystem, bare: PasswordHasher, peer: Login) -> list[Row]:
    kept = bare.hash(PASSWORD)

    async def ours() -> object:
        return await accounts.authenticate("ada@example.org", PASSWORD)

    async def floor() -> object:
        return bare.verify(kept, PASSWORD)

    works = {"ours": ours, "floor": floor, "peer": peer}
    rates = {each: [] for each in works}
    times = {each: [] for each in works}
    for _ in range(ROUNDS):
        for each, work in works.items():
            rates[each].append(await per_cpu_second(work, LOGINS))
    for _ in range(ROUNDS * 3):
        for each, work in works.items():
            times[each].append(await milliseconds(work))
    what, each = "sign in, everything", "sign-ins a second and core"
    return [
        Row("auth", what, "argon2-cffi alone", times["ours"], times["floor"], "ms", goal=1.1, higher_is_better=False),
        Row("auth", each, "argon2-cffi alone", rates["ours"], rates["floor"], "1/s", goal=0.9),
        Row("auth", each, "FastAPI-Users", rates["ours"], rates["peer"], "1/s", goal=0.9),
    ]


async def _refreshes(accounts: AuthenticationSystem) -> list[Row]:
    """A refresh reads the session and the account, writes once, synced, and signs a token; its floor is one such write."""
    session = await accounts.authenticate("ada", PASSWORD)
    kept = [session.refresh_token]

    async def refresh() -> None:
        kept[0] = (await accounts.refresh(kept[0])).refresh_token

    async def write() -> None:
        await accounts.db.execute("UPDATE consona_sessions SET last_seen = ? WHERE id = ?", time.time(), session.id)

    ours, floor = [], []
    for _ in range(ROUNDS):
        for samples, work in ((ours, refresh), (floor, write)):
            begin = time.perf_counter()
            for _ in range(REFRESHES):
                await work()
            samples.append(REFRESHES / (time.perf_counter() - begin))
    return [Row("auth", "refresh a session, synced", "one synced write", ours, floor, "1/s", goal=0.5)]


def run() -> list[Row]:
    return asyncio.run(measure())


if __name__ == "__main__":
    print(markdown(run()))
