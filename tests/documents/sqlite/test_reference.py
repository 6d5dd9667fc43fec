"""Whatever is asked of a SQLite file, the answer is that of the reference: with indexes, and without."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consona.documents.engine import CreateIndex, Insert, Query
from consona.documents.errors import DuplicateKey, OperatorError
from consona.documents.filters import parse_filter, wanted_id
from consona.documents.indexes import parse_index
from consona.documents.memory_space import Kept, Space, Work
from consona.documents.operations import modification
from consona.documents.pipeline.parsing import parse_pipeline
from consona.documents.sorting import parse_sort
from consona.documents.sqlite import changes, tables
from consona.documents.sqlite.altering import alter
from consona.documents.sqlite.filters import Places, filter_bounds
from consona.documents.sqlite.keys import key_of, key_sql
from consona.documents.sqlite.reading import read_documents
from consona.documents.sqlite.rows import row_of
from consona.documents.sqlite.writing import do_writes
from consona.documents.values import MISSING, identical, order
from consona.errors import ConsonaError
from documents.random_pipelines import Maker
from documents.strategies import collections, filters, scalars, sorts, updates, values

SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
INDEXES = [[], ["a"], ["a", "b"], ["a.b", "a"], [[("a", 1), ("b", -1)]], ["a.b.c", "a.c"]]


def opened(documents, indexes):
    db = apsw.Connection(":memory:")
    db.execute(tables.FIRST_STEP)
    db.execute(changes.CHANGE_STEP)
    half = len(documents) // 2  # an index is made over some, and kept up to date over the others
    store(db, documents[:half])
    for keys in indexes:
        alter(db, "things", CreateIndex(parse_index(keys, {})), 0.0)
    store(db, documents[half:])
    return db


def store(db, documents):
    answers = do_writes(db, "things", [Insert(document) for document in documents], ordered=True, check=None, now=0.0)
    assert not [answer for answer in answers if isinstance(answer, Exception)]


def kept(documents):
    space = Kept("things")
    for document in documents:
        Work(space, None, 0.0).insert(document)
    return space


@SETTINGS
@given(collections, filters, st.sampled_from(INDEXES))
def test_every_filter_lets_the_same_documents_pass(documents, raw, indexes):
    query = parse_filter(raw)
    wanted = [document["_id"] for document in documents if query.matches(document)]
    db = opened(documents, indexes)
    assert sorted(document["_id"] for document in read_documents(db, "things", Query(filter=query))) == wanted
    assert list(read_documents(db, "things", Query(filter=query, count=True))) == [{"n": len(wanted)}]
    space = kept(documents)
    assert [space.rows[seq].document["_id"] for seq in space.find(query)] == wanted


@SETTINGS
@given(collections, filters, st.sampled_from(INDEXES))
def test_what_sql_is_sure_of_passes_and_what_passes_may_pass(documents, raw, indexes):
    query = parse_filter(raw)
    db = opened(documents, indexes)
    table = tables.require_table(db, "things")
    bounds = filter_bounds(query.node, Places(db, table), None)

    def found(condition):
        return {
            identity
            for (identity,) in db.execute(f"SELECT id FROM {table.sql} WHERE {condition.text}", condition.values)
        }

    passing = {document["_id"] for document in documents if query.matches(document)}
    assert found(bounds.sure) <= passing <= found(bounds.maybe)
    assert passing - found(bounds.sure) <= found(bounds.doubtful)


@SETTINGS
@given(collections, sorts, st.sampled_from(INDEXES), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 5)))
def test_every_sort_gives_the_same_order(documents, raw, indexes, skip, limit):
    sort = parse_sort(raw)
    db = opened(documents, indexes)
    query = Query(filter=parse_filter({}), sort=sort, skip=skip, limit=limit)
    end = None if limit is None else skip + limit
    wanted = [document["_id"] for document in sort.sorted(documents)[skip:end]]
    assert [document["_id"] for document in read_documents(db, "things", query)] == wanted


def reference(space, write):
    work = Work(space, None, 0.0)
    try:
        return work.do(write)
    except ConsonaError as error:
        work.undo()
        return error


def outcome(answer):
    return (type(answer), str(answer))


def unique(index):
    return CreateIndex(parse_index(index, {"unique": True}))


@SETTINGS
@given(
    collections,
    st.lists(st.tuples(filters, updates, st.booleans(), st.booleans()), min_size=1, max_size=3),
    st.sampled_from([*INDEXES, "unique"]),
)
def test_every_update_makes_the_same_of_the_same_documents(documents, changes, indexes):
    db = opened(documents, [] if indexes == "unique" else indexes)
    space = kept(documents)
    if indexes == "unique":
        try:
            space.build(parse_index("c", {"unique": True}))
        except DuplicateKey:
            return
        alter(db, "things", unique("c"), 0.0)
    for query, update, many, upsert in changes:
        try:
            filters = [{"x": {"$gt": 1}}] if "[x]" in str(update) else None
            write = modification(query, update, many=many, upsert=upsert, array_filters=filters)
        except ConsonaError:
            continue
        if upsert and not list(space.find(write.filter)) and wanted_id(write.filter) is MISSING:
            continue  # the new document's id would be another in each
        [answer] = do_writes(db, "things", [write], ordered=True, check=None, now=0.0)
        assert outcome(answer) == outcome(reference(space, write))
    found = list(read_documents(db, "things", Query(filter=parse_filter({}))))
    assert identical(found, [row.document for row in space.rows.values()])
    check_integrity(db)


def check_integrity(db):
    [[answer]] = db.execute("PRAGMA integrity_check")
    assert answer == "ok"


@SETTINGS
@given(collections)
def test_documents_come_back_as_they_went_in(documents):
    db = opened(documents, [])
    assert identical(list(read_documents(db, "things", Query(filter=parse_filter({})))), documents)


@SETTINGS
@given(values)
def test_sql_and_python_make_the_same_key(value):
    db = apsw.Connection(":memory:")
    _, text = row_of({"_id": 1, "a": value})
    [[key]] = db.execute(f"SELECT {key_sql(('a',))} FROM (SELECT jsonb(?) AS data)", (text,))
    assert key == key_of(value)
    assert type(key) is type(key_of(value))


@SETTINGS
@given(scalars, scalars)
def test_keys_sort_as_their_values_do(one, other):
    first, second = key_of(one), key_of(other)
    odd = (b"\x0a", b"\x1e", b"/", b"2")
    if any(type(key) is bytes and key[:1] in odd for key in (first, second)):
        return
    db = apsw.Connection(":memory:")
    [[less]] = db.execute("SELECT (?1 < ?2) OR (?1 IS NULL AND ?2 IS NOT NULL)", (first, second))
    assert bool(less) is (order(one) < order(other))


@pytest.mark.parametrize("text", ["1.0", "1e3", "-0.0", "0.1", "1.7976931348623157e308", "5e-324", "9007199254740993"])
def test_numbers_keep_their_last_digit(text):
    value = float(text) if "." in text or "e" in text else int(text)
    db = opened([{"_id": 1, "a": value}], [])
    [found] = read_documents(db, "things", Query(filter=parse_filter({"a": value})))
    assert identical(found["a"], value)


def outcome_of(read):
    try:
        return list(read())
    except OperatorError as error:
        return str(error)


@settings(SETTINGS, max_examples=150)
@given(collections, collections, filters, st.integers(0, 2**32), st.sampled_from(INDEXES))
def test_every_pipeline_gives_the_same(documents, others, query, number, indexes):
    raw = Maker(number).pipeline(query)
    db = opened(documents, indexes)
    do_writes(db, "others", [Insert(document) for document in others], ordered=True, check=None, now=0.0)
    space = Space()
    space.collections = {"things": kept(documents), "others": kept(others)}
    wanted = outcome_of(lambda: space.read("things", parse_pipeline(raw).query()))
    found = outcome_of(lambda: read_documents(db, "things", parse_pipeline(raw).query()))
    assert identical(found, wanted)
