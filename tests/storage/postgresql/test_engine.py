"""The engine: statements, what is prepared, what breaks, bulk loading, locks."""

import asyncio
import subprocess
import sys
import textwrap

import pytest

from consona.errors import (
    AddressError,
    CommitUnknown,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    ConstraintFailed,
    DatabaseReadOnly,
    DeadlineExceeded,
    QueryError,
    ValidationError,
)
from consona.storage.postgresql.engine import open_postgresql
from consona.storage.postgresql.settings import PostgreSQLSettings
from storage_tools import until

pytestmark = pytest.mark.servers

INSERT = "INSERT INTO pets (name, age) VALUES ($1, $2)"


async def names(asking):
    return [name for (name,) in (await asking.ask("SELECT name FROM pets ORDER BY id")).rows]


# Statements.


async def test_an_answer_has_columns_rows_and_how_many_changed(engine):
    assert (await engine.ask(INSERT, ["Rex", 3])).changed == 1
    answer = await engine.ask("SELECT name, age FROM pets", reads=True)
    assert answer.columns == ("name", "age")
    assert [tuple(row) for row in answer.rows] == [("Rex", 3)]
    assert (await engine.ask("UPDATE pets SET age = age + 1")).changed == 1
    assert (await engine.ask("SELECT name FROM pets WHERE age = 99")).columns == ("name",)


async def test_a_statement_is_prepared_once_for_each_connection(engine):
    for number in range(5):
        await engine.ask("SELECT $1::int", [number])
    prepared = await engine.ask("SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'")
    assert prepared.rows[0][0] == 1


async def test_the_number_of_prepared_statements_is_bounded(postgresql_url):
    engine = await open_postgresql(f"{postgresql_url}?statements=10&max_size=1")
    for number in range(50):
        assert (await engine.ask(f"SELECT {number}::int")).rows[0][0] == number
    assert (await engine.ask("SELECT count(*) FROM pg_prepared_statements")).rows[0][0] <= 12
    await engine.close()


async def test_without_prepared_statements_it_works_too(postgresql_url):
    engine = await open_postgresql(f"{postgresql_url}?statements=0")
    for number in range(3):
        assert (await engine.ask("SELECT $1::int", [number])).rows[0][0] == number
    assert (await engine.ask("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")).rows[0][0] == 0
    await engine.close()


async def test_a_changed_table_is_seen_by_statements_that_were_prepared_before(engine):
    await engine.ask(INSERT, ["Rex", 3])
    assert (await engine.ask("SELECT * FROM pets")).columns == ("id", "name", "age")
    await engine.ask("ALTER TABLE pets ADD COLUMN colour text DEFAULT 'brown'")
    assert (await engine.ask("SELECT * FROM pets")).columns == ("id", "name", "age", "colour")


async def test_a_table_that_somebody_else_changed_is_seen_too(engine, postgresql_url):
    await engine.ask("SELECT * FROM pets")
    other = await open_postgresql(f"{postgresql_url}?host=127.0.0.1")  # another engine
    assert other is not engine
    await other.ask("ALTER TABLE pets ALTER COLUMN name TYPE varchar(9)")
    await other.ask("ALTER TABLE pets ADD COLUMN colour text")
    assert (await engine.ask("SELECT * FROM pets")).columns == ("id", "name", "age", "colour")
    await other.close()


async def test_a_session_that_was_changed_does_not_change_the_next_ones(postgresql_url):
    engine = await open_postgresql(f"{postgresql_url}?max_size=1")
    await engine.ask("SET statement_timeout = 12345")
    assert (await engine.ask("SHOW statement_timeout")).rows[0][0] == "0"
    await engine.ask("SELECT set_config('search_path', 'elsewhere', false)")
    assert (await engine.ask("SHOW search_path")).rows[0][0] == '"$user", public'
    await engine.ask("CREATE TEMPORARY TABLE mine (n int)")
    assert (await engine.ask("SELECT to_regclass('mine')")).rows[0][0] is None
    await engine.ask("/* a lock */ SELECT pg_advisory_lock(7)")
    assert (await engine.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).rows[0][0] == 0
    assert engine.pool.stats()["cleaned"] == 4
    await engine.close()


async def test_a_session_that_was_not_changed_costs_no_reset(engine):
    for _ in range(10):
        await engine.ask("SELECT 1")
    assert engine.pool.stats()["cleaned"] == 0


async def test_reset_always_resets_what_a_function_changed_inside(postgresql_url):
    engine = await open_postgresql(f"{postgresql_url}?max_size=1&reset=always")
    await engine.ask(
        "CREATE FUNCTION hidden() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('statement_timeout', '12345', false); END $$"
    )
    await engine.ask("SELECT hidden()")
    assert (await engine.ask("SHOW statement_timeout")).rows[0][0] == "0"
    await engine.close()


async def test_many_rows_happen_together_or_not_at_all(engine):
    given = await engine.ask_many(f"{INSERT} RETURNING id", [("Rex", 3), ("Kim", 4)])
    assert [id_ for (id_,) in given] == [1, 2]
    with pytest.raises(ConstraintFailed):
        await engine.ask_many(INSERT, [("Ada", 1), ("Rex", 2)])
    assert await names(engine) == ["Rex", "Kim"]


async def test_a_stream_gives_all_rows_of_one_moment_and_lets_its_connection_go(engine):
    await engine.ask("INSERT INTO pets (name, age) SELECT 'pet ' || n, n FROM generate_series(1, 2500) n")
    seen = []
    async for answer in engine.stream("SELECT age FROM pets ORDER BY id", [], batch=1000):
        assert len(answer.rows) <= 1000
        seen += [age for (age,) in answer.rows]
        await engine.ask("DELETE FROM pets")
    assert seen == list(range(1, 2501))
    assert engine.pool.stats()["in_use"] == 0


async def test_a_stream_that_is_left_early_lets_its_connection_go(engine):
    stream = engine.stream("SELECT generate_series(1, 1000000)", [], batch=10)
    await anext(stream)
    await stream.aclose()
    await until(lambda: engine.pool.stats()["idle"] == engine.pool.size)
    assert (await engine.ask("SELECT 1")).rows[0][0] == 1


# Bulk loading.


async def test_copy_loads_rows_as_they_come(engine):
    rows = ((f"pet {number}", number % 20) for number in range(20_000))
    assert await engine.copy("pets", rows, columns=["name", "age"]) == 20_000
    assert (await engine.ask("SELECT count(*), sum(age) FROM pets")).rows[0] == (20_000, 190_000)


async def test_copy_loads_all_or_nothing(engine):
    with pytest.raises(ConstraintFailed):
        await engine.copy("pets", [("Rex", 1), ("Kim", -1)], columns=["name", "age"])
    with pytest.raises(ValidationError, match="Row 2 does not fit") as caught:
        await engine.copy("pets", [("Rex", 1), ("Kim", "secret")], columns=["name", "age"])
    assert "secret" not in str(caught.value)
    assert await names(engine) == []


async def test_an_error_of_the_rows_own_source_passes_through(engine):
    def rows():
        yield ("Rex", 1)
        raise FileNotFoundError("pets.csv")

    with pytest.raises(FileNotFoundError):
        await engine.copy("pets", rows(), columns=["name", "age"])
    assert await names(engine) == []


# What PostgreSQL refuses.


async def test_a_broken_rule_is_named_and_the_value_is_not(engine):
    await engine.ask(INSERT, ["hidden", 3])
    with pytest.raises(ConstraintFailed, match="pets_name_key") as caught:
        await engine.ask(INSERT, ["hidden", 3])
    assert caught.value.context["constraint"] == "pets_name_key"
    assert caught.value.context["table"] == "pets"
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConstraintFailed) as caught:
        await engine.ask(INSERT, [None, 3])
    assert caught.value.context["column"] == "name"


async def test_a_value_of_another_type_is_named_by_its_place(engine):
    with pytest.raises(ValidationError, match=r"Value 2 does not fit: int4 expected, str given") as caught:
        await engine.ask(INSERT, ["Rex", "hidden"])
    assert caught.value.fields[0].path == "values[2]"
    assert "hidden" not in str(caught.value)
    with pytest.raises(ValidationError, match="out of the range of int4"):
        await engine.ask(INSERT, ["Rex", 1 << 40])
    with pytest.raises(ValidationError, match=r"Row 2, value 2 does not fit: int4 expected"):
        await engine.ask_many(INSERT, [("Rex", 1), ("Kim", "x")])


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("SELECT * FRM pets", QueryError, "syntax error"),
        ("SELECT * FROM nothing", QueryError, "whether the migrations ran"),
        ("SELECT colour FROM pets", QueryError, "whether the migrations ran"),
        ("SELECT 1 / 0", QueryError, "division by zero"),
        ("SELECT 'hidden'::int", ConstraintFailed, "does not read as the type"),
        ("SELECT 40000::smallint", ConstraintFailed, "out of the range"),
    ],
)
async def test_an_error_says_what_was_wrong(engine, sql, kind, words):
    with pytest.raises(kind, match=words) as caught:
        await engine.ask(sql)
    assert not caught.value.retryable
    assert "hidden" not in str(caught.value)
    assert await names(engine) == []  # the connection is whole


async def test_a_timeout_of_the_server_is_a_deadline(engine):
    async with engine.transaction() as tx:
        await tx.ask("SET LOCAL statement_timeout = 20")
        with pytest.raises(DeadlineExceeded, match="statement timeout"):
            await tx.ask("SELECT pg_sleep(5)")
        await tx.rollback()


async def test_a_transaction_that_may_only_read_refuses_to_write(engine):
    async with engine.transaction(read_only=True) as tx:
        with pytest.raises(DatabaseReadOnly):
            await tx.ask(INSERT, ["Rex", 1])
        await tx.rollback()


# What breaks.


async def test_a_read_whose_connection_breaks_is_asked_again_unseen(shaky, network):
    reading = asyncio.create_task(shaky.ask("SELECT 7 FROM pg_sleep(0.2)", reads=True))
    await until(lambda: shaky.pool.stats()["in_use"])
    await asyncio.sleep(0.05)
    network.cut()
    assert (await reading).rows[0][0] == 7
    assert shaky.pool.stats()["closed"] == {"lost": 1}


async def test_a_write_whose_connection_breaks_before_the_answer_is_unknown(shaky, network, engine):
    writing = asyncio.create_task(shaky.ask("INSERT INTO pets (name) SELECT 'Rex' FROM pg_sleep(0.2)"))
    await until(lambda: shaky.pool.stats()["in_use"])
    await asyncio.sleep(0.05)
    network.cut()
    with pytest.raises(CommitUnknown) as caught:
        await writing
    assert not caught.value.retryable


async def test_a_write_whose_session_the_server_ends_is_known_not_to_have_happened(engine, postgresql_url):
    other = await open_postgresql(f"{postgresql_url}?host=127.0.0.1")
    writing = asyncio.create_task(other.ask("INSERT INTO pets (name) SELECT 'Rex' FROM pg_sleep(10)"))
    await until(lambda: other.pool.stats()["in_use"])
    await asyncio.sleep(0.05)
    sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO pets%'"
    assert (await engine.ask(sql)).rows[0][0] == 1
    with pytest.raises(ConnectionLost, match="ended the connection; nothing was written") as caught:
        await writing
    assert caught.value.retryable
    assert await names(engine) == []
    await other.close()


async def test_a_write_on_a_connection_that_was_lost_before_is_done_on_another_unseen(shaky, network, engine):
    await shaky.ask("SELECT 1")
    network.cut()
    await shaky.ask(INSERT, ["Rex", 3])
    assert await names(engine) == ["Rex"]


async def test_a_cancelled_statement_ends_on_the_server(engine):
    task = asyncio.create_task(engine.ask("INSERT INTO pets (name) SELECT 'Rex' FROM pg_sleep(30)"))
    await until(lambda: engine.pool.stats()["in_use"])
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT%'"
    async with asyncio.timeout(5):
        while (await engine.ask(running)).rows[0][0]:
            await asyncio.sleep(0.01)
    assert await names(engine) == []


# Locks.


async def test_a_lock_is_held_by_one_at_a_time(engine):
    inside, most = 0, 0

    async def work():
        nonlocal inside, most
        async with engine.lock("migrations"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(8)))
    assert most == 1


async def test_a_lock_is_let_go_when_its_block_fails_or_is_cancelled(engine):
    async def hold(event):
        async with engine.lock("it's mine"):
            event.set()
            await asyncio.sleep(30)

    event = asyncio.Event()
    task = asyncio.create_task(hold(event))
    await event.wait()
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(FileNotFoundError):
        async with asyncio.timeout(5), engine.lock("it's mine"):
            raise FileNotFoundError
    async with asyncio.timeout(5), engine.lock("it's mine"):
        pass


# Sharing, and the address.


async def test_all_who_name_one_database_share_its_engine(postgresql_url):
    one, other = await open_postgresql(postgresql_url), await open_postgresql(postgresql_url)
    assert one is other
    await one.close()
    await other.ask("SELECT 1")
    await other.close()
    assert other.pool.size == 0


async def test_different_settings_for_one_database_are_refused(engine, postgresql_url):
    with pytest.raises(ConfigurationError, match=r"max_size \(3 here, 10 there\)"):
        await open_postgresql(f"{postgresql_url}?max_size=3")


async def test_an_unknown_setting_is_refused(postgresql_url):
    with pytest.raises(ConfigurationError, match=r"'maxsize'.*max_size"):
        await open_postgresql(f"{postgresql_url}?maxsize=3")
    with pytest.raises(ConfigurationError, match="must be a number"):
        await open_postgresql(f"{postgresql_url}?max_size=many")
    with pytest.raises(AddressError, match="postgresql://"):
        await open_postgresql("sqlite:///shop.db")


@pytest.mark.parametrize("setting", [{"ssl": "maybe"}, {"reset": "never"}, {"statements": -1}, {"transaction": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigurationError, match="PostgreSQL setting"):
        PostgreSQLSettings(**setting)


async def test_a_wrong_password_is_told_at_once_and_never_shown(tmp_path):
    from database_servers import PostgreSQLServer

    async with PostgreSQLServer() as server:
        rules = server.folder / "data" / "pg_hba.conf"
        admin = await open_postgresql(server.url)
        await admin.ask("CREATE ROLE shop LOGIN PASSWORD 'right'")
        rules.write_text("host all shop 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        await admin.ask("SELECT pg_reload_conf()")
        with pytest.raises(ConnectError, match="password") as caught:
            await open_postgresql(f"postgresql://shop:wr0ng-s3cret@127.0.0.1:{server.port}/postgres")
        assert not caught.value.retryable
        assert "wr0ng" not in f"{caught.value!s}{caught.value.context}{caught.value.__cause__!s}"
        right = await open_postgresql(f"postgresql://shop:right@127.0.0.1:{server.port}/postgres")
        assert "right" not in f"{right.name}{right.stats()}"
        await right.close()
        await admin.close()


def test_a_missing_driver_names_the_extra(tmp_path):
    program = """
        import sys
        sys.modules["asyncpg"] = None
        from consona.address import adapter_for
        from consona.errors import MissingExtra
        for port in ("sql", "store"):
            try:
                adapter_for(port, "postgresql://localhost/shop")
            except MissingExtra as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'consona[postgresql]'") == 2
