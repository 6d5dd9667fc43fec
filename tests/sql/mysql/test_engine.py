"""MariaDB: what is its own, what breaks, and what is refused."""

import asyncio
import subprocess
import sys
import textwrap
import tracemalloc
from contextlib import aclosing
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from consona import Json, SQLDatabase
from consona.errors import (
    CommitUnknown,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConstraintFailed,
    QueryError,
    ValidationError,
)
from consona.sql.dialect import MYSQL
from consona.sql.placeholders import compile_statement
from consona.sql.values import Array
from database_servers import MariaDBServer
from storage_tools import until

pytestmark = pytest.mark.servers

INSERT = "INSERT INTO pets (name, age) VALUES (?, ?)"


async def names(asking):
    return await asking.fetch_column("SELECT name FROM pets ORDER BY id")


def pool(db):
    return db.engine.native.stats()


def statement(sql):
    return compile_statement(sql, MYSQL)


# Keys and counts.


async def test_the_key_of_the_last_row_is_told_where_it_is_certain(db):
    assert await db.execute("INSERT INTO pets (name) VALUES (?), (?), (?)", "Rex", "Kim", "Ada") == (3, 3)
    assert await db.execute("INSERT IGNORE INTO pets (name) VALUES (?)", "Rex") == (0, None)
    assert (await db.execute("INSERT INTO pets (name) SELECT CONCAT(name, '2') FROM pets")).key is None
    assert await db.execute("UPDATE pets SET age = 1 WHERE name = 'Rex'") == (1, None)


async def test_a_row_that_is_changed_to_what_it_was_counts_as_on_other_engines(db):
    await db.execute(INSERT, "Rex", 3)
    assert (await db.execute("UPDATE pets SET age = 3")).rows == 1


async def test_many_rows_go_in_one_step_and_come_with_the_last_key(db):
    rows = [(f"pet {number}", number) for number in range(2500)]
    done = await db.execute_many(INSERT, rows)
    assert done == (2500, await db.fetch_value("SELECT id FROM pets WHERE name = 'pet 2499'"))
    assert await db.fetch_value("SELECT sum(age) FROM pets") == sum(range(2500))


async def test_many_rows_of_mixed_types_go_one_by_one_and_all_or_nothing(db):
    assert (await db.execute_many(INSERT, [("Rex", 1), ("Kim", None), ("Ada", True)])).rows == 3
    with pytest.raises(ConstraintFailed):
        await db.execute_many(INSERT, [("Bob", 1), ("Eve", True), ("Rex", 2)])
    assert await names(db) == ["Rex", "Kim", "Ada"]
    assert (await db.execute_many("UPDATE pets SET age = 9 WHERE name = ?", [("Rex",), ("nobody",)])).rows == 1


async def test_rows_that_an_insert_returns_are_counted_and_committed(db):
    found = await db.fetch_all("INSERT INTO pets (name) VALUES (?), (?) RETURNING id, name", "Rex", "Kim")
    assert found == [{"id": 1, "name": "Rex"}, {"id": 2, "name": "Kim"}]
    many = await db.execute_many("INSERT INTO pets (name) VALUES (?) RETURNING id", [("Ada",), ("Bob",)])
    assert many.rows == 2
    assert await names(db) == ["Rex", "Kim", "Ada", "Bob"]


# Values.


async def test_values_come_back_as_they_were(db):
    await db.execute(
        "CREATE TABLE things (moment datetime(6), day date, hour time(6), price decimal(30, 10), mark char(36),"
        " own uuid, ok boolean, raw varbinary(20), tags json, note text, big bigint, real_ double)"
    )
    away = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=away)
    mark = UUID("12345678-1234-5678-1234-567812345678")
    values = [
        moment, date(2026, 1, 2), time(23, 59, 59, 999999), Decimal("12345678901234567890.0123456789"), mark, mark,
        True, b"\x00\xff'\\", Json({"a": [1, None]}), "it's \\ %s ? 😀 \" ` --", -(2**63), 0.1,
    ]  # fmt: skip
    await db.execute(f"INSERT INTO things VALUES ({', '.join('?' * len(values))})", *values)
    row = await db.fetch_one(
        "SELECT * FROM things",
        into=tuple[datetime, date, time, Decimal, UUID, UUID, bool, bytes, dict, str, int, float],
    )
    assert row == (*values[:8], {"a": [1, None]}, *values[9:])
    assert row[0].tzinfo is UTC
    assert (await db.fetch_value("SELECT count(*) FROM things WHERE moment = ?", moment)) == 1


async def test_no_value_enters_the_text_of_a_statement(db):
    hostile = "'; DROP TABLE pets; -- \\' OR 1=1 /* %s %(x)s ? :y"
    await db.execute(INSERT, hostile, 1)
    assert await db.fetch_value("SELECT name FROM pets WHERE name = ?", hostile) == hostile
    found = [row async for row in db.stream("SELECT name FROM pets WHERE name = ?", hostile, into=str)]
    assert found == [hostile]
    connection = await db.engine.take("")
    assert connection._kept.keys() >= {"SELECT name FROM pets WHERE name = ?"}
    db.engine.give_back(connection)


async def test_an_array_is_refused(db):
    with pytest.raises(ValidationError, match="no arrays"):
        await db.execute(INSERT, Array(["Rex"]), 1)


async def test_what_does_not_fit_is_refused_and_not_cut(db):
    await db.execute("CREATE TABLE small (name varchar(3), n tinyint, day date)")
    for sql, value, words in [
        ("INSERT INTO small (name) VALUES (?)", "hidden", "too long for its column: name"),
        ("INSERT INTO small (n) VALUES (?)", 300, "out of the range of its column: n"),
        ("INSERT INTO small (n) VALUES (?)", "hidden", "has not the type of its column"),
        ("INSERT INTO small (day) VALUES (?)", "hidden", "."),
    ]:
        with pytest.raises(ConstraintFailed, match=words) as caught:
            await db.execute(sql, value)
        assert "hidden" not in str(caught.value)
    assert await db.fetch_value("SELECT count(*) FROM small") == 0


async def test_a_broken_rule_is_named_and_the_value_is_not(db):
    await db.execute(INSERT, "hidden", 1)
    with pytest.raises(ConstraintFailed, match="duplicate entry for the key 'name'") as caught:
        await db.execute(INSERT, "hidden", 1)
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConstraintFailed) as caught:
        await db.execute(INSERT, "Kim", -1)
    assert caught.value.context["constraint"] == "no_negative_age"
    with pytest.raises(ConstraintFailed, match="may not be NULL: name"):
        await db.execute(INSERT, None, 1)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FRM pets", "syntax"),
        ("SELECT * FROM nothing", "whether the migrations ran"),
        ("SELECT colour FROM pets", "whether the migrations ran"),
    ],
)
async def test_an_error_says_what_was_wrong(db, sql, words):
    with pytest.raises(QueryError, match=words) as caught:
        await db.fetch_all(sql)
    assert not caught.value.retryable
    assert pool(db)["closed"] == {}


# Sessions.


async def test_a_session_that_was_changed_is_not_given_to_the_next_one(mysql_url):
    async with SQLDatabase(f"{mysql_url}?max_size=1") as db:
        await db.execute("SET @mine = 1")
        assert await db.fetch_value("SELECT @mine") is None
        await db.fetch_value("SELECT GET_LOCK('mine', 1)")
        assert await db.fetch_value("SELECT IS_FREE_LOCK('mine')") == 1
        await db.execute("CREATE TEMPORARY TABLE mine (n int)")
        with pytest.raises(QueryError, match="mine"):
            await db.fetch_all("SELECT * FROM mine")
        assert pool(db)["closed"] == {"dirty": 3}


async def test_on_a_pinned_connection_the_session_lasts(db):
    async with db.engine.pinned() as session:
        await session.execute(statement("SET @mine = 5"), ())
        assert (await session.fetch(statement("SELECT @mine"), ())).rows == [(5,)]
        done = await session.execute_many(statement("INSERT INTO pets (name) VALUES (?)"), [("Rex",), ("Kim",)])
        assert done.rows == 2
        batches = [
            rows async for _, rows in session.stream(statement("SELECT name FROM pets ORDER BY id"), (), batch=1)
        ]
        assert batches == [[("Rex",)], [("Kim",)]]


async def test_a_script_is_run_statement_by_statement(db):
    await db.execute_script(
        "INSERT INTO pets (name) VALUES ('a;b'); CREATE TABLE toys (n int); INSERT INTO toys VALUES (1)"
    )
    assert await db.fetch_value("SELECT name FROM pets, toys") == "a;b"


async def test_the_number_of_prepared_statements_is_bounded(mysql_url):
    async with SQLDatabase(f"{mysql_url}?statements=5&max_size=1") as db:
        for number in range(30):
            assert await db.fetch_value(f"SELECT {number} + ?", 1) == number + 1
        count = await db.fetch_one("SHOW STATUS LIKE 'Prepared_stmt_count'", into=tuple)
        closed = await db.fetch_one("SHOW SESSION STATUS LIKE 'Com_stmt_close'", into=tuple)
        assert int(closed[1]) >= 25, count


async def test_a_table_that_was_changed_is_seen_by_prepared_statements(db):
    await db.execute(INSERT, "Rex", 3)
    assert list(await db.fetch_one("SELECT * FROM pets WHERE id > ?", 0)) == ["id", "name", "age"]
    await db.execute("ALTER TABLE pets ADD COLUMN colour varchar(9) DEFAULT 'brown'")
    assert (await db.fetch_one("SELECT * FROM pets WHERE id > ?", 0))["colour"] == "brown"


async def test_explain_shows_the_plan_and_analyzing_a_write_undoes_it(db):
    insert = statement("INSERT INTO pets (name) SELECT CONCAT(name, ?) FROM pets")
    await db.execute(INSERT, "Rex", 3)
    assert "query_block" in await db.engine.explain(insert, ["2"], analyze=False)
    update = statement("UPDATE pets SET age = ?")
    assert "query_block" in await db.engine.explain(update, [9], analyze=True)
    assert await db.fetch_value("SELECT age FROM pets") == 3


# Streams.


async def test_a_stream_holds_the_server_back_while_nobody_reads(db):
    sql = "SELECT seq, repeat('x', 1000) FROM seq_1_to_200000 WHERE seq > ?"
    tracemalloc.start()
    try:
        async with aclosing(db.stream(sql, 0, into=tuple, batch=500)) as rows:
            count = 0
            async for _ in rows:
                count += 1
                if count % 10_000 == 0:
                    await asyncio.sleep(0.02)  # the server has time to send all of it
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 30_000_000


async def test_a_stream_that_is_left_early_lets_its_connection_go(db):
    async with aclosing(db.stream("SELECT seq FROM seq_1_to_10000000", into=int)) as rows:
        async for number in rows:
            if number == 1000:
                break
    await until(lambda: pool(db)["in_use"] == 0)
    assert await db.fetch_value("SELECT 1") == 1
    running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%seq_1_to_10000000' AND id <> connection_id()"
    async with asyncio.timeout(10):
        while await db.fetch_value(running):
            await asyncio.sleep(0.01)


async def test_in_a_transaction_nothing_is_asked_beside_a_stream(db):
    await db.execute_many(INSERT, [("Rex", 1), ("Kim", 2), ("Ada", 3)])
    async with db.transaction() as tx:
        async with aclosing(tx.stream("SELECT name FROM pets WHERE age > ? ORDER BY id", 0, into=str, batch=1)) as rows:
            assert await anext(rows) == "Rex"
            with pytest.raises(QueryError, match="not read to its end"):
                await tx.fetch_value("SELECT 1")
        assert await tx.fetch_value("SELECT 1") == 1  # the stream was closed


# Transactions.


async def test_a_change_of_tables_in_a_transaction_is_refused_since_it_would_commit(db):
    async with db.transaction() as tx:
        await tx.execute(INSERT, "Rex", 3)
        with pytest.raises(QueryError, match="would commit the transaction"):
            await tx.execute("CREATE TABLE toys (n int)")
        await tx.execute("CREATE TEMPORARY TABLE toys (n int)")
        await tx.rollback()
    assert await names(db) == []


async def test_isolation_and_read_only_are_the_servers(db):
    async with db.transaction(isolation="serializable", read_only=True) as tx:
        assert await tx.fetch_value("SELECT @@in_transaction") == 1
        with pytest.raises(QueryError, match="may only be read here"):
            await tx.execute(INSERT, "Rex", 1)


async def test_a_deadlock_is_told_to_one_of_the_two_and_run_again(db):
    await db.execute_many(INSERT, [("Rex", 1), ("Kim", 1)])
    tries = []
    meeting = asyncio.Barrier(2)

    async def change(first, second):
        async def work(tx):
            tries.append(first)
            await tx.execute("UPDATE pets SET age = age + 1 WHERE name = ?", first)
            if len(tries) <= 2:
                await meeting.wait()
            await tx.execute("UPDATE pets SET age = age + 1 WHERE name = ?", second)

        await db.run_in_transaction(work)

    await asyncio.gather(change("Rex", "Kim"), change("Kim", "Rex"))
    assert len(tries) == 3
    assert await db.fetch_column("SELECT age FROM pets") == [3, 3]


async def test_one_that_is_open_for_too_long_is_rolled_back(db):
    with pytest.raises(Exception, match=r"open for more than 0\.1 s"):
        async with db.transaction(deadline=0.1) as tx:
            await tx.execute(INSERT, "Rex", 3)
            await tx.fetch_value("SELECT SLEEP(30)")
    assert await names(db) == []


# Cancellation, and what breaks.


async def test_a_cancelled_statement_ends_on_the_server(db):
    task = asyncio.create_task(db.execute("INSERT INTO pets (name) SELECT 'Rex' FROM (SELECT SLEEP(30)) AS nap"))
    await until(lambda: pool(db)["in_use"])
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    running = "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'INSERT%' AND id <> connection_id()"
    async with asyncio.timeout(10):
        while await db.fetch_value(running):
            await asyncio.sleep(0.01)
    assert await names(db) == []
    assert db.engine.stats()["sessions_ended"] == 1


async def test_a_read_whose_connection_breaks_is_asked_again_unseen(shaky, network):
    reading = asyncio.create_task(shaky.fetch_value("SELECT SLEEP(0.2) + 7"))
    await until(lambda: pool(shaky)["in_use"])
    await asyncio.sleep(0.05)
    network.cut()
    assert await reading == 7


async def test_a_write_whose_connection_breaks_before_the_answer_is_unknown(shaky, network):
    writing = asyncio.create_task(shaky.execute("INSERT INTO pets (name) SELECT 'Rex' FROM (SELECT SLEEP(0.2)) AS nap"))
    await until(lambda: pool(shaky)["in_use"])
    await asyncio.sleep(0.05)
    network.cut()
    with pytest.raises(CommitUnknown) as caught:
        await writing
    assert not caught.value.retryable


async def test_a_write_on_a_connection_that_was_lost_before_is_done_on_another_unseen(shaky, network, db):
    await shaky.fetch_value("SELECT 1")
    network.cut()
    await shaky.execute(INSERT, "Rex", 3)
    assert await names(db) == ["Rex"]


async def test_a_transaction_whose_connection_breaks_is_lost_and_nothing_was_written(shaky, network, db):
    with pytest.raises(ConnectionLost) as caught:
        async with shaky.transaction() as tx:
            await tx.execute(INSERT, "Rex", 3)
            network.cut()
            await tx.execute(INSERT, "Kim", 3)
    assert caught.value.retryable
    assert await names(db) == []


@pytest.mark.parametrize("answered", [False, True])
async def test_a_connection_that_breaks_during_the_commit_leaves_it_unknown(shaky, network, db, answered):
    tx = await shaky.begin()
    await tx.execute(INSERT, "Rex", 3)
    network.cut_after(network.to_client if answered else network.to_server, 0)
    with pytest.raises(CommitUnknown):
        await tx.commit()
    await asyncio.sleep(0.1)
    assert await names(db) == (["Rex"] if answered else [])


async def test_an_answer_that_cannot_be_read_costs_the_connection_and_nothing_else(db, monkeypatch):
    from consona.sql.mysql import connections

    original = connections.MySQLConnection._prepared
    calls = []

    async def garbled(self, text):
        statement = await original(self, text)
        if not calls:
            calls.append(1)
            self.wire._next_seq_id = 99  # as if packets had been lost

            async def execute(values):
                await self.wire._execute_command(0x03, b"SELECT 1")
                self.wire._next_seq_id = 99
                return await self.wire.read_packet()

            monkeypatch.setattr(statement, "execute", execute, raising=False)
        return statement

    monkeypatch.setattr(connections.MySQLConnection, "_prepared", garbled)
    with pytest.raises(QueryError, match="sequence number"):
        await db.fetch_value("SELECT 41 + 1")
    assert await db.fetch_value("SELECT 41 + 1") == 42


# The address.


async def test_a_wrong_password_is_told_at_once_and_never_shown():
    async with MariaDBServer() as server:
        async with SQLDatabase(server.url.replace("/test", "/mysql")) as admin:
            await admin.execute("CREATE DATABASE shop")
            await admin.execute("CREATE USER 'shop'@'127.0.0.1' IDENTIFIED BY 'rïght'")
            await admin.execute("GRANT ALL ON shop.* TO 'shop'@'127.0.0.1'")
        with pytest.raises(ConnectError, match="password") as caught:
            async with SQLDatabase(f"mysql://shop:wr0ng-s3cret@127.0.0.1:{server.port}/shop"):
                pass
        assert not caught.value.retryable
        assert "wr0ng" not in f"{caught.value!s}{caught.value.context}{caught.value.__cause__!s}"
        async with SQLDatabase(f"mariadb://shop:r%C3%AFght@127.0.0.1:{server.port}/shop") as right:
            assert await right.fetch_value("SELECT database()") == "shop"
            assert "rïght" not in f"{right.engine.name}{right.stats}"
        with pytest.raises(ConnectError, match="CREATE DATABASE nothing"):
            async with SQLDatabase(f"mysql://root@127.0.0.1:{server.port}/nothing"):
                pass
        with pytest.raises(ConnectError, match="offers no encryption"):
            async with SQLDatabase(f"mysql://root@127.0.0.1:{server.port}/shop?ssl=require"):
                pass


async def test_nobody_listens_there():
    with pytest.raises(ConnectError, match="cannot be reached"):
        async with SQLDatabase("mysql://root@127.0.0.1:1/test?patience=0.1"):
            pass


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigurationError, match=r"'poolsize'.*max_size"):
        SQLDatabase("mysql://root@127.0.0.1/test?poolsize=3")


def test_a_missing_driver_names_the_extra():
    program = """
        import sys
        sys.modules["asyncmy"] = sys.modules["asyncmy.errors"] = None
        from consona import SQLDatabase
        from consona.errors import MissingExtra
        try:
            SQLDatabase("mysql://localhost/shop")
        except MissingExtra as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert "pip install 'consona[mysql]'" in done.stdout
