"""The chapter's document database: its names and answers, from a real database."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from consona import blocking
from consona.chapter import NoSQLConnectionError, NoSQLDatabase, NoSQLOperationError, ValidationError
from consona.errors import AddressError, ConfigurationError, ConnectError, QueryError

PAGE = Path(__file__).parents[2] / "docs" / "chapter" / "nosql.md"
TEAS = [
    {"_id": 1, "name": "mint", "price": 4, "tags": ["hot"], "origin": {"country": "MA"}},
    {"_id": 2, "name": "earl", "price": 9, "tags": ["hot", "black"]},
    {"_id": 3, "name": "ice", "price": 2},
]


@pytest.fixture(params=["file", "sqlite memory", "memory"])
def db(request, tmp_path):
    address = {
        "file": f"sqlite:///{tmp_path}/teas.db",
        "sqlite memory": f"sqlite://{tmp_path.name}",
        "memory": f"memory://{tmp_path.name}",
    }[request.param]
    db = NoSQLDatabase(address)
    assert db.connect() is True
    for tea in TEAS:
        db.insert_document("teas", dict(tea))
    yield db
    db.close_connection()


def names(documents):
    return [document["name"] for document in documents]


# The table of the docs.


def table():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `NoSQLDatabase"):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


ROWS = table()
METHODS = {"NoSQLDatabase": NoSQLDatabase} | {
    f"NoSQLDatabase.{name}": function
    for name, function in inspect.getmembers(NoSQLDatabase, inspect.isfunction)
    if not name.startswith("_")
}


def test_the_table_has_every_method_and_no_other():
    assert sorted(ROWS) == sorted(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_arguments_are_those_of_the_code(name):
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}"
        for each in inspect.signature(METHODS[name]).parameters.values()
        if each.name != "self"
    ]
    assert ROWS[name][0].strip("`") == ", ".join(shown)
    assert len(ROWS[name]) == 4
    assert ROWS[name][3].endswith((".", "`."))


def keys(name):
    return set(re.findall(r"`([^`]+)`", ROWS[f"NoSQLDatabase.{name}"][1]))


def test_the_keys_are_those_that_really_come(db):
    assert set(db.get_collection("teas")) == keys("get_collection")
    assert set(db.insert_document("teas", {})) == keys("insert_document")
    assert set(db.update_document("teas", {}, {"x": 1})) == keys("update_document")
    assert set(db.delete_documents("teas", {"name": "ice"})) == keys("delete_documents")
    assert set(db.get_collection_stats("teas")) == keys("get_collection_stats")
    assert set(db.get_performance_metrics()) == keys("get_performance_metrics")
    db.find_documents("teas")
    with pytest.raises(NoSQLOperationError):
        db.find_documents("teas", {"x": {"$no": 1}})
    seen = set()
    for entry in db.get_query_history():
        assert {"operation", "collection", "execution_time", "timestamp", "success"} <= set(entry)
        seen |= set(entry)
    assert seen == keys("get_query_history")


# Its work, on every engine.


def test_a_document_has_the_times_of_its_insert_and_its_last_update(db):
    document = {"name": "oolong"}
    made = db.insert_document("teas", document)["inserted_id"]
    assert made.startswith("doc_")
    [found] = db.find_documents("teas", {"_id": made})
    assert found == document
    assert found["_created_at"] == found["_updated_at"] > 1_700_000_000
    db.update_document("teas", {"_id": made}, {"price": 3})
    [later] = db.find_documents("teas", {"_id": made})
    assert later["_updated_at"] > later["_created_at"] == found["_created_at"]


def test_it_sorts_before_it_cuts(db):
    by_price = {"sort": {"field": "price", "order": "desc"}, "limit": 2}
    assert names(db.find_documents("teas", {}, by_price)) == ["earl", "mint"]
    assert names(db.find_documents("teas", {}, {"sort": {"field": "price"}, "skip": 1})) == ["mint", "earl"]


def test_queries_know_lists_and_inner_documents(db):
    assert names(db.find_documents("teas", {"tags": {"$in": ["black"]}})) == ["earl"]
    assert names(db.find_documents("teas", {"origin.country": "MA"})) == ["mint"]
    assert names(db.find_documents("teas", {"tags": {"$ne": "hot"}})) == ["ice"]
    assert db.matches_query(TEAS[0], {"price": {"$gte": 4}, "tags": "hot"})
    assert not db.matches_query(TEAS[2], {"tags": "hot"})


def test_one_or_all_are_updated_and_deleted(db):
    assert db.update_document("teas", {"tags": "hot"}, {"new": 1}, {"update_one": True})["updated_count"] == 1
    assert db.update_document("teas", {"tags": "hot"}, {"new": 1})["updated_count"] == 2
    assert db.update_document("teas", {"name": "none"}, {"new": 1})["updated_count"] == 0
    assert db.delete_documents("teas", {"tags": "hot"}, {"delete_one": True})["deleted_count"] == 1
    assert db.delete_documents("teas", {"price": {"$gt": 0}})["deleted_count"] == 2
    assert db.get_collection_stats("teas")["document_count"] == 0


def test_update_data_is_set_and_is_no_operator(db):
    with pytest.raises(NoSQLOperationError):
        db.update_document("teas", {}, {"$inc": {"price": 1}})
    assert [tea["price"] for tea in db.find_documents("teas")] == [4, 9, 2]


def test_everything_is_not_deleted_by_an_empty_query(db):
    for empty in ({}, None):
        with pytest.raises(ValidationError, match="every document would be deleted"):
            db.delete_documents("teas", empty)
    assert db.get_collection_stats("teas")["total_documents"] == 3


def test_what_fails_is_counted_and_raised(db):
    before = db.get_performance_metrics()
    with pytest.raises(NoSQLOperationError):
        db.insert_document("teas", {"_id": 1})
    with pytest.raises(ValidationError):
        db.insert_document("teas", {"$set": 1})
    after = db.get_performance_metrics()
    assert after["failed_operations"] == before["failed_operations"] + 2
    assert after["total_operations"] == after["successful_operations"] + after["failed_operations"]
    assert [entry["success"] for entry in db.get_query_history()[-2:]] == [False, False]


def test_the_history_counts_and_keeps_no_values(db):
    db.find_documents("teas", {"name": "s3cret"})
    db.update_document("teas", {"price": 9}, {"note": "s3cret"}, {"update_one": True})
    db.delete_documents("teas", {"name": "ice"}, {"delete_one": True})
    history = db.get_query_history()
    told = [(entry["operation"], entry.get("result_count", entry.get("updated_count", entry.get("deleted_count"))))
            for entry in history[-3:]]  # fmt: skip
    assert told == [("FIND", 0), ("UPDATE", 1), ("DELETE", 1)]
    assert "s3cret" not in repr(history)


def test_figures_without_any_operation_divide_by_nothing():
    db = NoSQLDatabase("memory://nothing-yet")
    assert db.get_performance_metrics()["average_operation_time"] == 0.0
    assert db.get_query_history() == []


def test_a_collection_is_made_where_it_does_not_exist(db):
    assert db.get_collection("shelf") == {"name": "shelf", "indexes": {}, "document_count": 0}
    blocking.run(db.database["shelf"].create_index("place"))
    assert list(db.get_collection("shelf")["indexes"]) == ["place_1"]
    assert db.get_collection_stats("shelf")["indexes"] == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.find_documents("teas", {}, {"sorted": 1}),
        lambda db: db.find_documents("teas", {}, {"sort": {"field": "price", "order": "up"}}),
        lambda db: db.insert_document("teas", {}, {"x": 1}),
        lambda db: db.update_document("teas", {}, {"a": 1}, {"update_all": True}),
        lambda db: db.delete_documents("teas", {"a": 1}, {"all": True}),
    ],
)
def test_an_option_that_does_not_exist_is_refused(db, call):
    with pytest.raises(ConfigurationError):
        call(db)


def test_before_it_connects_it_says_so(tmp_path):
    db = NoSQLDatabase(f"sqlite:///{tmp_path}/teas.db", "SQLite")
    with pytest.raises(NoSQLConnectionError, match="Not connected"):
        db.find_documents("teas")
    db.close_connection()


def test_a_file_is_there_after_it_was_closed(tmp_path):
    for count in (1, 2):
        db = NoSQLDatabase(f"sqlite:///{tmp_path}/teas.db")
        db.connect()
        db.insert_document("teas", {"name": "mint"})
        assert db.get_collection_stats("teas")["document_count"] == count
        db.close_connection()


def test_the_type_and_the_address_must_fit():
    with pytest.raises(ConfigurationError, match="Known types"):
        NoSQLDatabase("memory://x", "MongoDB")
    with pytest.raises(AddressError):
        NoSQLDatabase("mongodb://localhost:27017/productdb", "MongoDB")


async def test_inside_an_event_loop_it_says_what_to_do():
    db = NoSQLDatabase("memory://loop")
    with pytest.raises(ConfigurationError, match="running event loop"):
        db.connect()


def test_the_errors_have_two_names():
    assert (NoSQLConnectionError, NoSQLOperationError) == (ConnectError, QueryError)
