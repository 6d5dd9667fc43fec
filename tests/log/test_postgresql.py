"""The log in a PostgreSQL database: late commits, its transactions, other processes, a restored database."""

import asyncio

import pytest

import database_servers
from consona import SQLDatabase
from consona.errors import ConfigurationError, ValidationError
from consona.log import postgresql as postgresql_log
from consona.log.log import Entry, Log
from log_processes import check_killed_appenders, check_woken_reader

pytestmark = pytest.mark.servers


@pytest.fixture
def url():
    with database_servers.quiet_postgresql() as url:
        yield url


@pytest.fixture
async def db(url):
    async with SQLDatabase(url) as db:
        yield db


@pytest.fixture
async def log(url):
    async with Log(url) as log:
        yield log


async def bodies(log, **options):
    return [record.body for record in (await log.read("s", **options)).records]


async def test_a_reader_never_skips_what_commits_late(log, db):
    first = await log.append("s", b"before")
    async with db.transaction() as late:
        await log.append("s", b"late", tx=late)
        behind = await log.append("s", b"early")
        assert await bodies(log, after=first) == []  # what may still come before it is not decided
        assert await log.end("s") == first
    page = await log.read("s", after=first)
    assert [record.body for record in page.records] == [b"late", b"early"]
    assert page.records[1].position == behind


async def test_what_began_early_and_appends_late_comes_in_its_place(log, db):
    await db.execute("CREATE TABLE orders (id bigint)")
    async with db.transaction() as old:
        await old.execute("INSERT INTO orders VALUES (1)")  # it writes, so it has its number now
        await log.append("s", b"young")
        assert await bodies(log) == []
        await log.append("s", b"old", tx=old)
    assert await bodies(log) == [b"old", b"young"]


async def test_who_only_reads_holds_nobody_up(log, db):
    async with db.transaction() as reading:
        await reading.fetch_value("SELECT 1")
        await log.append("s", b"1")
        assert await bodies(log) == [b"1"]


async def test_a_waiting_reader_is_told_when_the_older_transaction_ends(log, db):
    await db.execute("CREATE TABLE orders (id bigint)")
    async with db.transaction() as old:
        await old.execute("INSERT INTO orders VALUES (1)")
        await log.append("s", b"1")
        waiting = asyncio.create_task(log.wait("s", after=0, timeout=60))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.05)
    await asyncio.wait_for(waiting, 20)
    assert await bodies(log) == [b"1"]


async def test_following_gives_every_record_of_crossing_transactions_once(log, db):
    few = asyncio.Semaphore(4)  # who holds a connection appends on another one

    async def place(n):
        async with few, db.transaction() as tx:
            await tx.fetch_value("SELECT pg_current_xact_id()::text")
            for part in "ab":
                await asyncio.sleep(0)
                await log.append("s", f"{n}{part}".encode(), tx=tx)
                await log.append("s", f"{n}{part}-beside".encode()) if n % 3 == 0 else None
            if n % 5 == 4:
                raise LookupError

    found = []

    async def follow():
        async for record in log.follow("s", after=0):
            found.append((record.position, record.body))
            if record.body == b"end":
                return

    following = asyncio.create_task(follow())
    await asyncio.gather(*map(place, range(40)), return_exceptions=True)
    await log.append("s", b"end")
    await asyncio.wait_for(following, 30)
    kept = {f"{n}{part}".encode() for n in range(40) if n % 5 != 4 for part in "ab"}
    beside = {f"{n}{part}-beside".encode() for n in range(0, 40, 3) for part in "ab"}
    assert sorted(body for _, body in found) == sorted({*kept, *beside, b"end"})
    assert [position for position, _ in found] == sorted({position for position, _ in found})


async def test_a_record_of_a_transaction_comes_with_it_or_not_at_all(log, db):
    with pytest.raises(LookupError):
        async with db.transaction() as tx:
            await log.append("s", b"lost", tx=tx)
            raise LookupError
    async with db.transaction() as tx:
        await log.append("s", b"1", tx=tx)
        await log.append("s", b"2", tx=tx)
        async with tx.transaction():
            await log.append("s", b"3", tx=tx)
    assert await bodies(log) == [b"1", b"2", b"3"]


async def test_who_appends_beside_an_open_transaction_does_not_wait_for_it(log, db):
    async with db.transaction() as tx:
        await log.append("s", b"1", tx=tx)
        await asyncio.wait_for(log.append("s", b"2"), 20)
    assert await bodies(log) == [b"1", b"2"]


async def test_a_transaction_of_another_database_is_refused(log, tmp_path):
    async with SQLDatabase(f"sqlite:///{tmp_path}/other.db") as other, other.transaction() as tx:
        with pytest.raises(ConfigurationError, match="same database"):
            await log.append("s", b"", tx=tx)


async def test_more_than_a_transaction_can_hold_is_refused_and_not_appended(log, db, monkeypatch):
    few = postgresql_log._APPEND.replace(str(postgresql_log.PLACES), "3")
    monkeypatch.setattr(postgresql_log, "_APPEND", few)
    async with db.transaction() as tx:
        await log.append_many("s", [Entry(b"1"), Entry(b"2")], tx=tx)
        with pytest.raises(ValidationError, match="One transaction"):
            await log.append_many("s", [Entry(b"3"), Entry(b"4")], tx=tx)
        await log.append("s", b"3", tx=tx)
    assert await bodies(log) == [b"1", b"2", b"3"]


async def test_positions_go_on_in_a_database_that_was_restored_into_a_younger_server(url, db):
    async with Log(url) as log:
        await log.append("s", b"1")
        await db.execute("UPDATE consona_log SET position = position + (1000000::bigint << 20)")
        [old] = await db.fetch_all("SELECT position FROM consona_log")
    async with Log(url) as log:
        new = await log.append("s", b"2")
        assert new > old["position"]
        assert await bodies(log) == [b"1", b"2"]
        assert await bodies(log, after=old["position"]) == [b"2"]


async def test_a_reader_sees_what_other_processes_append_and_nothing_acknowledged_dies_with_them(url):
    await check_killed_appenders(url)


async def test_a_waiting_reader_is_woken_by_another_process(url):
    await check_woken_reader(url)
