"""What may be kept, and what is refused with which words."""

import dataclasses
import enum
import re
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, ObjectId, Regex

from consona.documents.document import MAX_BYTES, Literal, bson_size, checked_document, checked_value
from consona.documents.errors import DocumentRefused
from consona.documents.values import same


def test_a_document_is_copied_so_later_changes_do_not_reach_it():
    given = {"tags": ["a"], "inner": {"b": 1}}
    kept = checked_document(given)
    given["tags"].append("b")
    given["inner"]["b"] = 2
    assert kept == {"tags": ["a"], "inner": {"b": 1}}


def test_values_become_plain_types():
    class Colour(enum.Enum):
        RED = "red"

    class Text(str):
        __slots__ = ()

    kept = checked_document(
        OrderedDict(
            colour=Colour.RED, text=Text("x"), long=Int64(5), tuple=(1, 2), raw=Binary(b"x"), array=bytearray(b"y")
        )
    )
    assert kept == {"colour": "red", "text": "x", "long": 5, "tuple": [1, 2], "raw": b"x", "array": b"y"}
    assert [type(value) for value in kept.values()] == [str, str, int, list, bytes, bytes]


def test_dates_are_utc_with_milliseconds():
    here = datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert checked_value(here) == datetime(2024, 5, 1, 10, 30, 15, 123000, tzinfo=UTC)
    assert checked_value(datetime(2024, 5, 1, tzinfo=UTC).replace(tzinfo=None)) == datetime(2024, 5, 1, tzinfo=UTC)


def test_a_uuid_is_one_however_it_was_written():
    uuid = UUID(int=7)
    assert checked_value(Binary.from_uuid(uuid)) == uuid
    assert checked_value(uuid) == uuid


def test_a_pattern_keeps_its_options():
    assert checked_value(re.compile("a", re.IGNORECASE)) == Regex("a", "i")


def test_structs_and_dataclasses_are_documents():
    class Product(msgspec.Struct, rename="camel", tag="product"):
        unit_price: float
        added: datetime | msgspec.UnsetType = msgspec.UNSET

    @dataclasses.dataclass
    class Review:
        stars: int

    assert checked_document(Product(2.5)) == {"type": "product", "unitPrice": 2.5}
    assert checked_document({"reviews": [Review(5)]}) == {"reviews": [{"stars": 5}]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "surrogate"),
        (Decimal("1.5"), "Decimal is no value"),
        (date(2024, 1, 1), "date is no value"),
        ({1, 2}, "set is no value"),
        (object(), "object is no value"),
        (Code("x"), "surely"),
        (DBRef("c", 1), "DBRef is no value"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), "years 1 to 9999"),
    ],
)
def test_a_value_that_cannot_be_kept_is_named(value, words):
    if isinstance(value, Code):
        assert checked_value(value) == "x"  # code is text, and is never run
        return
    with pytest.raises(DocumentRefused, match=words) as caught:
        checked_document({"a": {"b": [0, value]}})
    assert caught.value.fields[0].path == "a.b.1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**63 - 1, Decimal128("NaN")])
def test_numbers_that_bson_has_are_kept(value):
    kept = checked_document({"n": value})["n"]
    assert same(kept, value)


@pytest.mark.parametrize("key", ["$where", "$set", "a.b", "", "a\0b", 7, None, "\ud800"])
def test_a_key_that_could_be_an_operator_or_a_path_is_refused(key):
    with pytest.raises(DocumentRefused):
        checked_document({"outer": {key: 1}})


def test_keys_of_references_and_dollars_within_a_key_are_kept():
    assert checked_document({"by": {"$ref": "users", "$id": 1}, "us$": 2})["us$"] == 2


def nested(levels):
    document = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


def test_a_document_may_be_100_levels_deep_and_no_more():
    checked_document(nested(100))
    with pytest.raises(DocumentRefused, match="100 levels"):
        checked_document(nested(101))


def test_depth_1000_and_a_document_within_itself_end_with_a_clear_error():
    for deep in (nested(1000), loop := {}):
        loop["self"] = loop
        with pytest.raises(DocumentRefused, match="levels"):
            checked_document(deep)


def test_a_document_may_have_16_mib_and_no_more():
    room = MAX_BYTES - bson_size({"a": ""})
    checked_document({"a": "x" * room})
    with pytest.raises(DocumentRefused, match="16777216"):
        checked_document({"a": "x" * (room + 1)})


@pytest.mark.parametrize("value", [[0.5] * 1_600_000, [True] * 2_000_000, {str(n): None for n in range(2_000_000)}])
def test_many_small_values_are_measured_too(value):
    with pytest.raises(DocumentRefused, match="bytes in BSON"):
        checked_document({"a": value})


@pytest.mark.parametrize("identity", [[1], re.compile("a")])
def test_some_values_cannot_be_an_id(identity):
    with pytest.raises(DocumentRefused, match="id of a document"):
        checked_document({"_id": identity})


@pytest.mark.parametrize("document", [None, 5, "text", [("a", 1)], ObjectId()])
def test_only_documents_are_documents(document):
    with pytest.raises(DocumentRefused, match="expected a mapping"):
        checked_document(document)


def test_a_literal_shows_nothing_of_what_a_user_sent():
    assert "secret" not in repr(Literal("secret"))
