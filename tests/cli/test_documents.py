"""`consona documents`: collections into files, and back, the same to the last bit."""

import asyncio
import io
import json
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from bson import Decimal128, ObjectId, Regex, Timestamp

from consona import DocumentDatabase
from consona.cli import main
from consona.documents.extended_json import loads
from consona.documents.values import identical

KEPT = [
    {
        "_id": ObjectId("f" * 24),
        "at": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "price": Decimal128("4.50"),
        "big": 2**60,
        "half": 0.5,
        "whole": 3.0,
        "nan": float("nan"),
        "raw": b"\x00\xff",
        "uuid": UUID(int=7),
        "pattern": Regex("^a", "i"),
        "time": Timestamp(5, 6),
        "text": 'Grüße "\n\u2028',
        "list": [1, None, {"a": []}],
    },
    {"_id": "cup", "price": 12},
]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/catalog.db"


def run(capsys, *arguments):
    """The exit code, and what was written to standard output and standard error."""
    with pytest.raises(SystemExit) as caught:
        main(["documents", *map(str, arguments)])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def keep(url, *documents, name="products"):
    async def work():
        async with DocumentDatabase(url) as database:
            await database[name].insert_many(documents)

    asyncio.run(work())


def found(url, name="products"):
    async def work():
        async with DocumentDatabase(url) as database:
            return await database[name].find(sort="_id").to_list()

    return asyncio.run(work())


def test_what_goes_out_comes_back_the_same(capsys, url, tmp_path):
    keep(url, *KEPT)
    file = tmp_path / "products.jsonl"
    assert run(capsys, "export", "products", file, "-d", url)[:2] == (0, "Written: 2 documents.\n")
    assert len(file.read_bytes().splitlines()) == 2
    said = run(capsys, "import", "copies", file, "-d", url)
    assert said[:2] == (0, "Read: 2. Kept: 2. Refused: 0.\n")
    assert identical(found(url, "copies"), found(url))


def test_collections_are_listed(capsys, url):
    assert run(capsys, "list", "-d", url)[1] == "There is no collection yet.\n"
    keep(url, *KEPT)
    assert run(capsys, "list", "-d", url)[1] == "products: 2 documents\n"
    assert json.loads(run(capsys, "list", "-d", url, "--json")[1]) == [{"collection": "products", "documents": 2}]


def test_a_filter_chooses_what_goes_out(capsys, url, tmp_path):
    keep(url, *KEPT)
    file = tmp_path / "cheap.jsonl"
    assert run(capsys, "export", "products", file, "-d", url, "--filter", '{"price": {"$gt": 5}}')[0] == 0
    assert loads(file.read_bytes()) == {"_id": "cup", "price": 12}


def test_documents_go_to_the_standard_output(url, capfdbinary):
    keep(url, {"_id": "cup"})
    with pytest.raises(SystemExit):
        main(["documents", "export", "products", "-d", url])
    assert capfdbinary.readouterr().out == b'{"_id":"cup"}\n'


def test_what_cannot_be_kept_is_told_with_its_line_and_the_rest_is_kept(capsys, url, tmp_path):
    file = tmp_path / "mixed.jsonl"
    lines = ['{"_id": 1}', "{broken", "", "7", '{"_id": 1, "again": true}', '{"$set": 1}', '{"a": {"$oid": "xyz"}}',
             '{"_id": 2}']  # fmt: skip
    file.write_text("\ufeff" + "\n".join(lines), "utf-8")
    code, said, _ = run(capsys, "import", "products", file, "-d", url)
    assert code == 1
    assert said.startswith("Read: 7. Kept: 2. Refused: 5.\n")
    for number in (2, 4, 5, 6, 7):
        assert f"line {number}:" in said
    assert [document["_id"] for document in found(url)] == [1, 2]


def test_an_array_is_read_too_and_replaces_where_it_is_asked_to(capsys, url, tmp_path):
    keep(url, {"_id": 1, "old": True}, {"_id": 3})
    file = tmp_path / "array.json"
    file.write_text('[\n {"_id": 1, "new": true},\n {"_id": 2}\n]\n', "utf-8")
    code, said, _ = run(capsys, "import", "products", file, "-d", url, "--json")
    assert (code, json.loads(said)["failed"]) == (1, 1)
    assert run(capsys, "import", "products", file, "-d", url, "--replace")[0] == 0
    assert found(url) == [{"_id": 1, "new": True}, {"_id": 2}, {"_id": 3}]


def test_documents_come_from_the_standard_input(capsys, url, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"_id": 5}\n'), isatty=lambda: False))
    assert run(capsys, "import", "products", "-d", url)[0] == 0
    assert found(url) == [{"_id": 5}]


def test_a_file_is_there_whole_or_not_at_all(capsys, url, tmp_path):
    keep(url, *KEPT)
    file = tmp_path / "out.jsonl"
    code, _, complaint = run(capsys, "export", "products", file, "-d", url, "--filter", '{"price": {"$cheap": 1}}')
    assert code == 1
    assert "$cheap" in complaint
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export", "nothing"], 1, "There is no collection 'nothing'"),
        (["export", "products", "--filter", "{"], 2, "--filter is no JSON"),
        (["import", "products", "/nowhere/at/all"], 2, "cannot be read"),
    ],
)
def test_a_mistake_is_told(capsys, url, arguments, code, words):
    keep(url, {"_id": 1})
    said = run(capsys, *arguments, "-d", url)
    assert said[0] == code
    assert words in said[2]


def test_without_an_address_it_asks_for_one(capsys, monkeypatch):
    monkeypatch.delenv("CONSONA_DOCUMENTS", raising=False)
    code, _, complaint = run(capsys, "list")
    assert code == 2
    assert "CONSONA_DOCUMENTS" in complaint
