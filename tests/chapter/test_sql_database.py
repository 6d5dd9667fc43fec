"""The chapter's SQL database: its names and answers, from a real database."""

from __future__ import annotations

import inspect
import re
import threading
from pathlib import Path

import pytest

import sql_engines
from consona import blocking
from consona.chapter import DatabaseConnectionError, DatabaseQueryError, SQLDatabase, sql_database
from consona.errors import AddressError, ConfigurationError, ConnectError, QueryError, ValidationError
from database_servers import empty_mysql, empty_postgresql, free_port

PAGE = Path(__file__).parents[2] / "docs" / "chapter" / "sql.md"
INSERT = "INSERT INTO users (name, age) VALUES (?, ?)"
KEYS = {"SQLite": "INTEGER", "PostgreSQL": "SERIAL", "MySQL": "INTEGER AUTO_INCREMENT"}


@pytest.fixture(params=sql_engines.PARAMETERS)
def url(request, tmp_path):
    engine = request.param
    if not engine.servers:
        yield f"sqlite:///{tmp_path}/users.db" if engine.isolates_readers else f"sqlite://{tmp_path.name}"
        return
    with empty_postgresql() if engine.key.startswith("SERIAL") else empty_mysql() as url:
        yield url


@pytest.fixture
def db(url):
    db = SQLDatabase(url)
    assert db.connect() is True
    key = KEYS[db.database_type]
    db.execute_query(f"CREATE TABLE users (id {key} PRIMARY KEY, name VARCHAR(50) UNIQUE NOT NULL, age INTEGER)")
    yield db
    db.close_connection()


@pytest.fixture
def memory():
    db = SQLDatabase("sqlite://chapter-table")
    db.connect()
    db.execute_query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, age INTEGER)")
    yield db
    db.close_connection()


# The table of the docs.


def table():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `SQLDatabase"):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


ROWS = table()
METHODS = {"SQLDatabase": SQLDatabase} | {
    f"SQLDatabase.{name}": function
    for name, function in inspect.getmembers(SQLDatabase, inspect.isfunction)
    if not name.startswith("_")
}


def test_the_table_has_every_method_and_no_other():
    assert sorted(ROWS) == sorted(METHODS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_arguments_are_those_of_the_code(name):
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}"
        for each in inspect.signature(METHODS[name]).parameters.values()
        if each.name != "self"
    ]
    assert ROWS[name][0].strip("`") == ", ".join(shown)
    assert len(ROWS[name]) == 4
    assert ROWS[name][3].endswith((".", "`."))


def keys(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_keys_are_those_that_really_come(memory):
    read, changed, inserted, other = map(keys, ROWS["SQLDatabase.execute_query"][1].split("; or"))
    assert set(memory.execute_query(INSERT, ["Ada", 36])) == inserted
    assert set(memory.execute_query("SELECT * FROM users")) == read
    assert set(memory.execute_query("UPDATE users SET age = 1")) == changed
    assert set(memory.execute_query("DELETE FROM users")) == changed
    assert set(memory.execute_query("CREATE INDEX users_age ON users (age)")) == other
    for name in ("begin_transaction", "commit_transaction", "begin_transaction", "rollback_transaction"):
        assert set(getattr(memory, name)()) == keys(ROWS[f"SQLDatabase.{name}"][1])
    assert set(memory.get_performance_stats()) == keys(ROWS["SQLDatabase.get_performance_stats"][1])
    with pytest.raises(DatabaseQueryError):
        memory.execute_query("SELECT * FROM nowhere")
    done, failed = memory.get_transaction_history()[-2:]
    told, _, more = ROWS["SQLDatabase.get_transaction_history"][1].partition("; ")
    assert set(done) == keys(told)
    assert set(failed) == keys(told) | keys(more)


# Its work, on every engine.


def test_answers_have_the_chapters_form(db):
    assert db.execute_query(INSERT, ("Ada", 36)) == {"type": "INSERT", "rows_affected": 1, "last_insert_id": 1}
    assert db.execute_query(INSERT, ["Kim", 27])["last_insert_id"] == 2
    found = db.execute_query("SELECT name, age FROM users WHERE age > ?", [28])
    assert found == {
        "type": "SELECT",
        "rows": [{"name": "Ada", "age": 36}],
        "columns": ["name", "age"],
        "row_count": 1,
    }
    none = db.execute_query("SELECT name, age FROM users WHERE age > :age", {"age": 100})
    assert (none["rows"], none["columns"], none["row_count"]) == ([], ["name", "age"], 0)
    assert db.execute_query("UPDATE users SET age = age + 1") == {"type": "UPDATE", "rows_affected": 2}
    assert db.execute_query("DELETE FROM users WHERE name = ?", ["Kim"]) == {"type": "DELETE", "rows_affected": 1}


def test_a_transaction_is_of_its_thread_and_is_undone_whole(db):
    db.begin_transaction()
    db.execute_query(INSERT, ("Ada", 36))
    assert db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"] == [{"total": 1}]
    db.rollback_transaction()
    assert db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"] == [{"total": 0}]
    db.begin_transaction()
    db.execute_query(INSERT, ("Ada", 36))
    db.commit_transaction()
    assert db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"] == [{"total": 1}]


def test_another_thread_is_beside_the_transaction(db, url):
    if not url.startswith("sqlite://") or url.startswith("sqlite:///"):  # in memory they take turns
        db.begin_transaction()
        db.execute_query(INSERT, ("Ada", 36))
        seen = []

        def other():
            seen.append(db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"][0]["total"])
            with pytest.raises(DatabaseQueryError, match="no transaction open"):
                db.commit_transaction()
            seen.append("told")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert seen == [0, "told"]
        db.commit_transaction()
        assert db.execute_query("SELECT COUNT(*) AS total FROM users")["rows"][0]["total"] == 1


def test_threads_have_transactions_at_the_same_time_and_lose_nothing(db):
    db.execute_query(INSERT, ("Ada", 0))

    def add():
        for _ in range(5):
            db.begin_transaction()
            db.execute_query("UPDATE users SET age = age + 1")
            db.commit_transaction()

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.execute_query("SELECT age FROM users")["rows"] == [{"age": 30}]


# The rest, on one.


def test_a_transaction_can_be_written_as_sql_too(memory):
    memory.execute_query("BEGIN TRANSACTION")
    memory.execute_query(INSERT, ("Ada", 36))
    memory.execute_query("ROLLBACK")
    memory.execute_query("BEGIN")
    memory.execute_query(INSERT, ("Kim", 27))
    with pytest.raises(ValidationError, match="ROLLBACK"):
        memory.execute_query("ROLLBACK TO SAVEPOINT x")
    memory.execute_query("COMMIT;")
    assert memory.execute_query("SELECT name FROM users")["rows"] == [{"name": "Kim"}]


def test_a_second_begin_and_an_end_without_one_are_told(memory):
    with pytest.raises(DatabaseQueryError, match="no transaction open"):
        memory.rollback_transaction()
    memory.begin_transaction()
    with pytest.raises(DatabaseQueryError, match="open already"):
        memory.begin_transaction()
    memory.close_connection()
    assert memory.connect()


def test_what_is_kept_is_given_while_nothing_changed_and_what_writes_runs(memory):
    for name in ("Ada", "Kim"):
        memory.execute_query(INSERT, (name, 1), use_cache=True)
        for _ in range(3):
            found = memory.execute_query("SELECT name FROM users ORDER BY id", use_cache=True)
            found["rows"].clear()  # what is given is the caller's own
    assert memory.execute_query("SELECT name FROM users ORDER BY id", use_cache=True)["row_count"] == 2
    assert memory.get_performance_stats()["cache_hits"] == 5
    memory.clear_cache()
    memory.execute_query("SELECT name FROM users ORDER BY id", use_cache=True)
    assert memory.get_performance_stats()["cache_hits"] == 5


def test_failures_are_counted_and_raised_and_values_are_in_no_history(memory):
    before = memory.get_performance_stats()
    memory.execute_query(INSERT, ("a-secret", 1))
    with pytest.raises(DatabaseQueryError, match="UNIQUE"):
        memory.execute_query(INSERT, ("a-secret", 1))
    stats = memory.get_performance_stats()
    assert stats["total_queries"] == before["total_queries"] + 2
    assert (stats["successful_queries"] - before["successful_queries"], stats["failed_queries"]) == (1, 1)
    done, failed = memory.get_transaction_history()[-2:]
    assert (done["query"], done["result_count"], done["success"]) == ("INSERT users", 1, True)
    assert (failed["success"], failed["error"]) == (False, "query.constraint")
    assert "a-secret" not in str(memory.get_transaction_history())


def test_before_connect_nothing_is_asked():
    db = SQLDatabase("sqlite://chapter-unopened")
    for call in (lambda: db.execute_query("SELECT 1"), db.begin_transaction):
        with pytest.raises(DatabaseConnectionError, match="Not connected"):
            call()
    with pytest.raises(ConfigurationError, match="once at least"):
        db.connect(0)


def test_a_server_that_is_not_there_is_tried_as_often_as_was_asked(monkeypatch):
    waits = []
    monkeypatch.setattr(sql_database.time, "sleep", waits.append)
    db = SQLDatabase(f"postgresql://somebody:very-secret@127.0.0.1:{free_port()}/shop?wait=0.2", "PostgreSQL")
    with pytest.raises(DatabaseConnectionError) as caught:
        db.connect(max_retries=3)
    assert waits == [1, 2]
    assert "very-secret" not in f"{caught.value}{db.database}{caught.value.context}"


@pytest.mark.parametrize(
    ("url", "kind"), [("sqlite://", "PostgreSQL"), ("mysql://localhost/x", "SQLite"), ("sqlite://", "Oracle")]
)
def test_a_type_that_is_not_the_addresss_is_refused(url, kind):
    with pytest.raises(ConfigurationError, match="Known types"):
        SQLDatabase(url, kind)


def test_an_address_of_no_engine_is_refused():
    with pytest.raises(AddressError):
        SQLDatabase("oracle://localhost/x")


async def test_inside_an_event_loop_it_says_what_to_do(memory):
    with pytest.raises(ConfigurationError, match="running event loop"):
        memory.execute_query("SELECT 1")


def test_the_errors_have_two_names():
    assert (DatabaseConnectionError, DatabaseQueryError) == (ConnectError, QueryError)


def test_the_real_part_is_within_reach(memory):
    assert blocking.run(memory.database.fetch_value("SELECT 1")) == 1
