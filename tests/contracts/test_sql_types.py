"""Values come back from every engine as they went in: each type, each strange value of it, and many by chance."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sql_engines
from consona.errors import ValidationError
from consona.sql.database import SQLDatabase
from consona.sql.values import Json

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)
ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda delta: timezone(timedelta(minutes=delta // timedelta(minutes=1)))
)

EARLY, LATE = datetime.fromisoformat("1000-01-03"), datetime.fromisoformat("9999-12-29")

CHANCE: dict[str, tuple[Any, st.SearchStrategy]] = {
    "integer": (int, st.integers(-(2**63), 2**63 - 1)),
    "text": (str, TEXT),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (bool, st.booleans()),
    "bytes": (bytes, st.binary()),
    "decimal": (Decimal, st.decimals(-(10**18), 10**18, places=6)),
    "datetime": (datetime, st.datetimes(EARLY, LATE, timezones=ZONES)),
    "date": (date, st.dates(date(1000, 1, 1))),
    "time": (time, st.times()),
    "uuid": (UUID, st.uuids()),
    "json": (dict[str, Any], st.dictionaries(TEXT, JSON)),
}


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


class Point(msgspec.Struct):
    x: int
    y: int


def shown(value):
    """A parameter in the name of its test: the same in every process."""
    return "…" if " at 0x" in repr(value) else repr(value)[:30]


@pytest.fixture(params=sql_engines.PARAMETERS)
def engine(request):
    return request.param


@pytest.fixture
async def db(engine, tmp_path):
    async with engine.new(tmp_path) as url, SQLDatabase(url) as db:
        columns = ", ".join(f"a_{name} {declared}" for name, declared in engine.types.items())
        await db.execute(f"CREATE TABLE kept (id {engine.key}, {columns})")
        yield db


async def back(db, kind, value, into):
    """Store a value, and read it as `into`."""
    key = (await db.execute(f"INSERT INTO kept (a_{kind}) VALUES (?)", value)).key
    return await db.fetch_value(f"SELECT a_{kind} FROM kept WHERE id = ?", key, into=into)


@pytest.mark.parametrize("kind", CHANCE)
@given(data=st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25, deadline=None
)
async def test_values_by_chance_come_back_as_they_were(db, kind, data):
    into, values = CHANCE[kind]
    chosen = data.draw(st.lists(values, max_size=20))
    await db.execute("DELETE FROM kept")
    await db.execute_many(f"INSERT INTO kept (a_{kind}) VALUES (?)", [(value,) for value in chosen])
    assert await db.fetch_column(f"SELECT a_{kind} FROM kept ORDER BY id", into=into) == chosen


@pytest.mark.parametrize(
    ("kind", "value", "into"),
    [
        ("integer", 2**63 - 1, int),
        ("integer", -(2**63), int),
        ("integer", 2**53 + 1, int),
        ("integer", True, int),
        ("float", 0.1, float),
        ("float", 1, float),
        ("float", 5e-324, float),
        ("float", -0.0, float),
        ("float", 1.7976931348623157e308, float),
        ("decimal", Decimal("0.10"), Decimal),
        ("decimal", Decimal("123456789012345678.123456"), Decimal),
        ("text", "", str),
        ("text", "a 'quoted' \"text\" \\ with % ? :name $1 -- ;", str),
        ("text", "ÄÖÜ 漢字 🦉 \u200d \ufeff", str),
        ("text", "x" * 60_000, str),
        ("text", "007", str),
        ("bytes", b"\0\xff" * 30_000, bytes),
        ("bytes", b"", bytes),
        ("bool", False, bool),
        ("datetime", datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=1))), datetime),
        ("datetime", datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime),
        ("date", date(2024, 2, 29), date),
        ("time", time(23, 59, 59, 999_999), time),
        ("time", time(0), time),
        ("json", {"a": [1, None, {"b": "ü"}]}, dict[str, Any]),
        ("json", Json([1, "two"]), list[int | str]),
        ("json", Point(1, 2), Point),
        ("text", Colour.RED, Colour),
        ("integer", Size.BIG, Size),
        ("text", None, str | None),
        ("datetime", None, datetime | None),
        ("json", None, dict[str, Any] | None),
    ],
    ids=shown,
)
async def test_a_strange_value_comes_back_as_it_was(db, kind, value, into):
    expected = value.value if isinstance(value, Json) else value
    assert await back(db, kind, value, into) == expected


async def test_a_moment_comes_back_with_its_zone_stated(db):
    noon = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    found = await back(db, "datetime", noon, datetime)
    assert found == noon
    assert found.utcoffset() is not None


async def test_moments_are_ordered_by_time_whatever_their_zone_and_fraction(db):
    moments = [
        datetime(2026, 1, 1, hour, tzinfo=UTC) + timedelta(microseconds=n) for hour in (3, 4) for n in (0, 1, 500_000)
    ]
    elsewhere = [moment.astimezone(timezone(timedelta(hours=n - 3))) for n, moment in enumerate(moments)]
    await db.execute_many("INSERT INTO kept (a_datetime) VALUES (?)", [(moment,) for moment in reversed(elsewhere)])
    assert await db.fetch_column("SELECT a_datetime FROM kept ORDER BY a_datetime", into=datetime) == moments
    assert await db.fetch_value("SELECT count(*) FROM kept WHERE a_datetime < ?", moments[3]) == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "beyond 64 bits"),
        (-(2**63) - 1, "beyond 64 bits"),
        (float("nan"), "NaN"),
        (Decimal("NaN"), "finite"),
        (Decimal("Infinity"), "finite"),
        ("a\0b", "NUL"),
        ("\ud800", "surrogate"),
        ("漢\udfff", "surrogate"),
        (datetime(2026, 1, 1), "without a zone"),  # noqa: DTZ001  that is the point
        (time(12, tzinfo=UTC), "time of day with a zone"),
        ([1, 2], "list.*IN"),
        ((1, 2), "tuple.*IN"),
        ({1, 2}, "set.*IN"),
        ({"a": "b\0"}, "NUL"),
        ({"a": object()}, "JSON"),
        (object(), "no place"),
        (1j, "no place"),
        (timedelta(1), "no place"),
    ],
    ids=shown,
)
async def test_what_would_not_come_back_is_refused_and_never_told(db, value, message):
    with pytest.raises(ValidationError, match=rf"The 2\. value of the statement .*{message}") as caught:
        await db.fetch_all("SELECT ?, ?", 1, value)
    assert caught.value.fields[0].path == "values[2]"
    assert len(repr(value)) < 5 or repr(value)[1:-1] not in caught.value.message
    with pytest.raises(ValidationError, match=r"^Row 2: "):
        await db.execute_many("INSERT INTO kept (a_text, a_integer) VALUES (?, ?)", [("a", 1), ("b", value)])
    assert await db.fetch_value("SELECT count(*) FROM kept") == 0


async def test_a_backslash_before_u0000_is_no_nul(db):
    assert await back(db, "json", {"a": "\\u0000 \\\\u0000"}, dict[str, Any]) == {"a": "\\u0000 \\\\u0000"}
