"""What MongoDB's manual shows, held against the reference and the engines: `manual.jsonl`, each line with its page.

The examples are cut down to what they show: their documents, their question, their answer.
"""

from pathlib import Path

import apsw
import pytest

from consona.documents.engine import Insert, Query
from consona.documents.errors import OperatorError
from consona.documents.expressions import parse_expression
from consona.documents.extended_json import dumps, loads
from consona.documents.filters import parse_filter
from consona.documents.memory_space import Kept, Space, Work
from consona.documents.pipeline.parsing import parse_pipeline
from consona.documents.sqlite import changes, tables
from consona.documents.sqlite.reading import read_documents
from consona.documents.sqlite.writing import do_writes
from consona.documents.values import MISSING, order

MANUAL = "https://www.mongodb.com/docs/manual/reference/operator/aggregation/"
CASES = [loads(line) for line in (Path(__file__).parent / "manual.jsonl").read_text("utf-8").splitlines()]

EXCEPTIONS = {
    '{"$indexOfBytes":["vanilla","ll",-1]}': "its table gives -1 for a negative start, and its text says that it is an error",
    '{"$toDate":1100000000000}': "it writes 2004-11-19 for what is 2004-11-09",
    "granularity": "preferred numbers as boundaries are not made here, and the option is refused",
}
"""What does not hold, and why."""


def exception(case):
    text = dumps(case)
    return next((why for part, why in EXCEPTIONS.items() if part in text), None)


def name(case):
    return f"{case['page']}-{CASES.index(case)}"


HELD = [case for case in CASES if exception(case) is None]
ASKED = [case for case in HELD if "expression" in case]
READ = [case for case in HELD if "expression" not in case]


def alike(found, wanted):
    """The same to MongoDB's shell: it shows 2 and 2.0 alike."""
    return order(found) == order(wanted)


@pytest.mark.parametrize("case", ASKED, ids=name)
def test_an_expression_gives_what_the_manual_shows(case):
    document = case.get("document", {})
    if case.get("error"):
        with pytest.raises(OperatorError):
            parse_expression(case["expression"])(document)
        return
    found = parse_expression(case["expression"])(document)
    assert alike(found, MISSING if case.get("missing") else case["gives"]), found


def memory(case):
    space = Space()
    for collection, documents in (("things", case["documents"]), ("others", case.get("others", []))):
        space.collections[collection] = Kept(collection)
        work = Work(space.collections[collection], None, 0.0)
        for document in documents:
            work.do(Insert(document))
    return space.read


def sqlite(case):
    db = apsw.Connection(":memory:")
    db.execute(tables.FIRST_STEP)
    db.execute(changes.CHANGE_STEP)
    for collection, documents in (("things", case["documents"]), ("others", case.get("others", []))):
        do_writes(db, collection, [Insert(document) for document in documents], ordered=True, check=None, now=0.0)
    return lambda collection, query: read_documents(db, collection, query)


@pytest.mark.parametrize("engine", [memory, sqlite])
@pytest.mark.parametrize("case", READ, ids=name)
def test_an_engine_gives_what_the_manual_shows(case, engine):
    read = engine(case)
    if "filter" in case:
        found = [document["_id"] for document in read("things", Query(filter=parse_filter(case["filter"])))]
        assert sorted(found) == sorted(case["ids"])
        return
    found, wanted = list(read("things", parse_pipeline(case["pipeline"]).query())), case["results"]
    if not case.get("ordered"):
        found, wanted = (sorted(rows, key=lambda row: order(row["_id"])) for rows in (found, wanted))
    assert alike(found, wanted), found


@pytest.mark.parametrize("case", [case for case in CASES if exception(case)], ids=name)
def test_what_does_not_hold_still_does_not(case):
    if "pipeline" in case:
        with pytest.raises(OperatorError, match="granularity"):
            parse_pipeline(case["pipeline"])
        return
    try:
        found = parse_expression(case["expression"])({})
    except OperatorError:
        return
    assert not alike(found, case["gives"])


def test_the_docs_say_how_many_there_are():
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "documents.md").read_text("utf-8")
    failing = sum(exception(case) is not None for case in CASES)
    assert f"{len(CASES)} examples" in page
    assert f"{failing} do not hold" in page
    assert [why for why in EXCEPTIONS.values() if why not in page] == []
