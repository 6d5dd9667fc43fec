"""Rows become what was asked for; what does not fit is named, all of it, and no value is told."""

import dataclasses
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pytest

from consona.errors import ConfigurationError, ValidationError
from consona.sql.dialect import MYSQL, POSTGRESQL, SQLITE
from consona.sql.rows import column_reader, in_pieces, row_reader


class User(msgspec.Struct):
    id: int
    name: str
    age: int | None = None


class Renamed(msgspec.Struct, rename="camel"):
    user_id: int


class OnlyNamed(msgspec.Struct, kw_only=True):
    id: int
    name: str


class Checked(msgspec.Struct):
    age: int

    def __post_init__(self):
        if self.age < 0:
            raise ValueError("an age is not below 0")


@dataclasses.dataclass
class Pet:
    id: int
    name: str = "nobody"
    tags: list[str] = dataclasses.field(default_factory=list)


class Row(TypedDict):
    id: int
    name: NotRequired[str]


class Pair(NamedTuple):
    id: int
    name: str = "nobody"


class Colour(Enum):
    RED = "red"


def read(into, columns, *rows, dialect=SQLITE):
    return row_reader(into, tuple(columns.split()), dialect)(list(rows))


@pytest.mark.parametrize(
    ("into", "columns", "row", "expected"),
    [
        (None, "id name", (1, "Ada"), {"id": 1, "name": "Ada"}),
        (dict, "id name", (1, "Ada"), {"id": 1, "name": "Ada"}),
        (dict[str, int], "a b", (1, 2), {"a": 1, "b": 2}),
        (tuple, "id id", (1, 2), (1, 2)),
        (tuple[int, str], "id name", (1, "Ada"), (1, "Ada")),
        (tuple[int, ...], "a b c", (1, 2, 3), (1, 2, 3)),
        (User, "id name age", (1, "Ada", 36), User(1, "Ada", 36)),
        (User, "name id", ("Ada", 1), User(1, "Ada")),
        (User, "more age name id", (9, 36, "Ada", 1), User(1, "Ada", 36)),
        (Renamed, "userId", (1,), Renamed(1)),
        (OnlyNamed, "name id", ("Ada", 1), OnlyNamed(id=1, name="Ada")),
        (Pet, "id", (1,), Pet(1)),
        (Pet, "id tags", (1, '["a"]'), Pet(1, tags=["a"])),
        (Row, "id", (1,), {"id": 1}),
        (Row, "id name", (1, "Ada"), {"id": 1, "name": "Ada"}),
        (Pair, "name id", ("Ada", 1), Pair(1, "Ada")),
        (int, "n", (5,), 5),
        (float, "n", (5,), 5.0),
        (int | None, "n", (None,), None),
        (Colour, "c", ("red",), Colour.RED),
        (Literal["a", "b"], "c", ("a",), "a"),
        (Annotated[int, msgspec.Meta(ge=0)], "n", (5,), 5),
        (Any, "n", ("x",), "x"),
        (bool, "b", (1,), True),
        (bool | None, "b", (None,), None),
        (Decimal, "d", ("0.10",), Decimal("0.10")),
        (date, "d", ("2026-01-02",), date(2026, 1, 2)),
        (datetime, "d", ("2026-01-02 03:04:05.000001+00:00",), datetime(2026, 1, 2, 3, 4, 5, 1, UTC)),
        (datetime, "d", ("2026-01-02 03:04:05",), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (dict[str, int], "j", (1,), {"j": 1}),
        (list[int], "j", ("[1,2]",), [1, 2]),
        (Annotated[dict[str, int] | None, "a document"], "j", ('{"a":1}',), {"a": 1}),
    ],
    ids=str,
)
def test_a_row_becomes_what_was_asked_for(into, columns, row, expected):
    found = read(into, columns, row)
    assert found == [expected]
    assert type(found[0]) is type(expected)


def test_native_values_of_a_driver_are_taken_as_they_are():
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert read(datetime, "d", (noon,), dialect=POSTGRESQL) == [noon]
    assert read(tuple[Decimal, bool], "d b", (Decimal("0.10"), True), dialect=POSTGRESQL) == [(Decimal("0.10"), True)]


def test_every_column_of_every_row_that_does_not_fit_is_named_without_its_value():
    with pytest.raises(ValidationError) as caught:
        read(User, "id name age", (1, "Ada", 3), ("secret", None, 3), (3, "Kim", "old"))
    assert caught.value.fields == (
        ("row[2].id", "expected int, got str"),
        ("row[2].name", "expected str, got null"),
        ("row[3].age", "expected int | null, got str"),
    )
    assert caught.value.message.startswith("2 row(s) do not fit User: row[2].id: expected int, got str")
    assert "secret" not in str(caught.value)


def test_the_problems_of_at_most_twenty_rows_are_named():
    with pytest.raises(ValidationError, match=r"^500 row\(s\) do not fit int: .*\(and 15 more\)") as caught:
        read(int, "n", *[("x",)] * 500)
    assert len(caught.value.fields) == 20


def test_a_text_that_is_no_json_or_no_time_is_a_mismatch():
    with pytest.raises(ValidationError) as caught:
        read(Pet, "id tags", (1, "[]"), (2, "{not json"))
    assert [field.path for field in caught.value.fields] == ["row[2].tags"]
    with pytest.raises(ValidationError) as caught:
        read(datetime, "at", ("yesterday",))
    assert [field.path for field in caught.value.fields] == ["row[1].at"]


def test_numbers_other_than_0_and_1_are_no_truth():
    with pytest.raises(ValidationError, match="expected bool, got int"):
        read(bool, "b", (2,))


def test_a_types_own_refusal_names_the_row_without_its_words():
    with pytest.raises(ValidationError) as caught:
        read(Checked, "age", (1,), (-1,))
    assert caught.value.fields == (("row[2]", "Checked refused it"),)


def test_columns_that_a_type_needs_and_that_are_not_there_are_named():
    with pytest.raises(ValidationError) as caught:
        read(User, "age nick", (1, "a"))
    assert [field.path for field in caught.value.fields] == ["row.id", "row.name"]


@pytest.mark.parametrize("into", [None, dict, User, dict[str, int]])
def test_two_columns_of_one_name_would_hide_each_other(into):
    with pytest.raises(ValidationError, match="more than one column named 'id'"):
        read(into, "id name id", (1, "a", 2))


@pytest.mark.parametrize(("into", "columns"), [(int, "a b"), (int, ""), (tuple[int, str], "a"), (tuple[int], "a b")])
def test_a_type_takes_as_many_columns_as_it_has(into, columns):
    with pytest.raises(ValidationError, match="columns"):
        read(into, columns, tuple(range(len(columns.split()))))


@pytest.mark.parametrize("into", ["User", 5, type(len), list[type(len)]])
def test_what_rows_cannot_become_is_refused(into):
    with pytest.raises((ConfigurationError, ValidationError)):
        read(into, "a", (1,))


def test_no_rows_are_an_empty_list():
    for into in (None, User, int, tuple[int], Pet):
        assert read(into, "id name tags" if into not in {int, tuple[int]} else "id") == []


def test_the_first_column_alone():
    assert column_reader(int, ("a", "b"), SQLITE)([(1, "x"), (2, "y")]) == [1, 2]
    assert column_reader(Any, ("a", "a"), SQLITE)([(1, "x")]) == [1]
    assert column_reader(Any, (), SQLITE)([]) == []
    with pytest.raises(ValidationError, match=r"row\[8\]\.a"):
        column_reader(int, ("a", "b"), SQLITE)([(1, "x"), ("z", "y")], 7)


async def test_a_long_answer_is_read_in_pieces_of_a_millisecond():
    sizes, now = [], [0.0]

    def slow(rows, first=1):
        sizes.append(len(rows))
        now[0] += len(rows) * 50e-6  # 50 microseconds a row
        return [(first + number, *row) for number, row in enumerate(rows)]

    rows = [(random.random(),) for _ in range(3000)]
    found = await in_pieces(slow, rows, clock=lambda: now[0])
    assert [row[0] for row in found] == list(range(1, 3001))
    assert max(sizes[1:]) <= 20


def test_mysqls_dialect_reads_what_its_driver_gives():
    assert read(tuple[int, str], "a b", (1, "x"), dialect=MYSQL) == [(1, "x")]
