"""Dates: parts, texts, calculations, time zones."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from consona.documents.errors import OperatorError
from documents.expressions.expression_tools import check, value_of

BERLIN = "Europe/Berlin"


def date(*parts):
    return datetime(*parts, tzinfo=UTC)


DAY = datetime(2024, 12, 31, 23, 30, 15, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"$year": "$d"}, 2024),
        ({"$year": {"date": "$d", "timezone": BERLIN}}, 2025),
        ({"$year": {"date": "$d", "timezone": None}}, None),
        ({"$month": "$d"}, 12),
        ({"$dayOfMonth": ["$d"]}, 31),
        ({"$dayOfWeek": "$d"}, 3),
        ({"$dayOfYear": "$d"}, 366),
        ({"$hour": {"date": "$d", "timezone": "-0530"}}, 18),
        ({"$minute": {"date": "$d", "timezone": "+05:45"}}, 15),
        ({"$second": "$d"}, 15),
        ({"$millisecond": "$d"}, 123),
        ({"$week": "$d"}, 52),
        ({"$week": date(2024, 1, 6)}, 0),
        ({"$week": date(2024, 1, 7)}, 1),
        ({"$isoWeek": "$d"}, 1),
        ({"$isoWeekYear": "$d"}, 2025),
        ({"$isoDayOfWeek": "$d"}, 2),
        ({"$year": "$missing"}, None),
        ({"$year": ObjectId("507f191e810c19729de860ea")}, 2012),
        ({"$year": Timestamp(0, 1)}, 1970),
        ({"$tsSecond": Timestamp(5, 6)}, 5),
        ({"$tsIncrement": Timestamp(5, 6)}, 6),
        (
            {"$dateToParts": {"date": date(2017, 1, 1, 1, 29, 9)}},
            {"year": 2017, "month": 1, "day": 1, "hour": 1, "minute": 29, "second": 9, "millisecond": 0},
        ),
        (
            {"$dateToParts": {"date": date(2017, 1, 1), "iso8601": True}},
            {"isoWeekYear": 2016, "isoWeek": 52, "isoDayOfWeek": 7, "hour": 0, "minute": 0, "second": 0}
            | {"millisecond": 0},
        ),
        ({"$dateFromParts": {"year": 2017, "month": 2, "day": 8, "hour": 12}}, date(2017, 2, 8, 12)),
        ({"$dateFromParts": {"year": 2017, "month": 14, "day": 1}}, date(2018, 2, 1)),
        ({"$dateFromParts": {"year": 2017, "month": 0, "day": 1}}, date(2016, 12, 1)),
        ({"$dateFromParts": {"year": 2017, "timezone": "America/New_York"}}, date(2017, 1, 1, 5)),
        ({"$dateFromParts": {"isoWeekYear": 2017, "isoWeek": 6, "isoDayOfWeek": 3}}, date(2017, 2, 8)),
        ({"$dateFromParts": {"year": None}}, None),
        ({"$dateToString": {"date": "$d"}}, "2024-12-31T23:30:15.123Z"),
        ({"$dateToString": {"date": "$d", "timezone": BERLIN}}, "2025-01-01T00:30:15.123"),
        ({"$dateToString": {"date": "$d", "format": "%G-W%V-%u %j %U %w %%"}}, "2025-W01-2 366 52 3 %"),
        ({"$dateToString": {"date": "$d", "format": "%d %b %B %H:%M:%S:%L%z %Z", "timezone": "+0130"}},
         "01 Jan January 01:00:15:123+0130 90"),
        ({"$dateToString": {"date": None, "onNull": "none"}}, "none"),
        ({"$dateFromString": {"dateString": "2017-02-08T12:10:40.787"}}, date(2017, 2, 8, 12, 10, 40, 787000)),
        ({"$dateFromString": {"dateString": "2017-02-08T12:10:40Z"}}, date(2017, 2, 8, 12, 10, 40)),
        ({"$dateFromString": {"dateString": "2017-02-08", "timezone": "America/New_York"}}, date(2017, 2, 8, 5)),
        ({"$dateFromString": {"dateString": "06-15-2018", "format": "%m-%d-%Y"}}, date(2018, 6, 15)),
        ({"$dateFromString": {"dateString": "2018 166", "format": "%Y %j"}}, date(2018, 6, 15)),
        ({"$dateFromString": {"dateString": "2018-24-5", "format": "%G-%V-%u"}}, date(2018, 6, 15)),
        ({"$dateFromString": {"dateString": "5 march 2018 +0100", "format": "%d %B %Y %z"}}, date(2018, 3, 4, 23)),
        ({"$dateFromString": {"dateString": "soon", "onError": "bad"}}, "bad"),
        ({"$dateFromString": {"dateString": None, "onNull": 0}}, 0),
        ({"$dateAdd": {"startDate": date(2021, 1, 31), "unit": "month", "amount": 1}}, date(2021, 2, 28)),
        ({"$dateAdd": {"startDate": date(2024, 2, 29), "unit": "year", "amount": -1}}, date(2023, 2, 28)),
        ({"$dateAdd": {"startDate": date(2024, 3, 30, 12), "unit": "day", "amount": 1, "timezone": BERLIN}},
         date(2024, 3, 31, 11)),
        ({"$dateAdd": {"startDate": date(2024, 3, 30, 12), "unit": "hour", "amount": 24, "timezone": BERLIN}},
         date(2024, 3, 31, 12)),
        ({"$dateSubtract": {"startDate": date(2024, 5, 1), "unit": "quarter", "amount": 2}}, date(2023, 11, 1)),
        ({"$dateSubtract": {"startDate": date(2024, 5, 1), "unit": "week", "amount": None}}, None),
        ({"$dateDiff": {"startDate": date(2020, 12, 31, 23), "endDate": date(2021, 1, 1), "unit": "year"}}, 1),
        ({"$dateDiff": {"startDate": date(2021, 1, 31), "endDate": date(2020, 12, 1), "unit": "month"}}, -1),
        ({"$dateDiff": {"startDate": date(2021, 1, 2), "endDate": date(2021, 1, 3), "unit": "week"}}, 1),
        ({"$dateDiff": {"startDate": date(2021, 1, 2), "endDate": date(2021, 1, 3), "unit": "week",
                        "startOfWeek": "Mon"}}, 0),
        ({"$dateDiff": {"startDate": date(2024, 1, 1, 0, 59), "endDate": date(2024, 1, 1, 1), "unit": "hour"}}, 1),
        ({"$dateDiff": {"startDate": date(2024, 1, 1, 22), "endDate": date(2024, 1, 1, 23), "unit": "day",
                        "timezone": BERLIN}}, 1),
        ({"$dateTrunc": {"date": "$d", "unit": "month"}}, date(2024, 12, 1)),
        ({"$dateTrunc": {"date": "$d", "unit": "day", "timezone": BERLIN}}, date(2024, 12, 31, 23)),
        ({"$dateTrunc": {"date": "$d", "unit": "hour", "binSize": 6}}, date(2024, 12, 31, 18)),
        ({"$dateTrunc": {"date": date(2021, 3, 20, 11, 30, 5), "unit": "month", "binSize": 2}}, date(2021, 3, 1)),
        ({"$dateTrunc": {"date": date(2021, 3, 20, 11), "unit": "week", "binSize": 2}}, date(2021, 3, 14)),
        ({"$dateTrunc": {"date": date(1999, 12, 31), "unit": "year", "binSize": 5}}, date(1995, 1, 1)),
        ({"$dateTrunc": {"date": "$d", "unit": "week", "startOfWeek": "monday"}}, date(2024, 12, 30)),
    ],
    ids=str,
)  # fmt: skip
def test_dates_give(expression, expected):
    check(expression, {"d": DAY}, expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"$year": 5}, "$year takes a date"),
        ({"$year": {"date": DAY, "timezone": "Mars/Olympus"}}, "no such time zone"),
        ({"$year": {"date": DAY, "timezone": "../../etc/passwd"}}, "no such time zone"),
        ({"$dateToString": {"date": DAY, "format": "%Q"}}, "has no format %Q"),
        ({"$dateFromString": {"dateString": "2017-02-30"}}, "no such day or time"),
        ({"$dateFromString": {"dateString": "2017-02-03T10:00:00Z", "timezone": "UTC"}}, "a time zone is given too"),
        ({"$dateFromString": {"dateString": "2017", "format": "%Y-%m"}}, "does not have the format"),
        ({"$dateAdd": {"startDate": DAY, "unit": "fortnight", "amount": 1}}, "takes a unit of time"),
        ({"$dateAdd": {"startDate": DAY, "unit": "year", "amount": 9000}}, "leaves the years 1 to 9999"),
        ({"$dateAdd": {"startDate": DAY, "unit": "day", "amount": 0.5}}, "whole number as its amount"),
        ({"$dateTrunc": {"date": DAY, "unit": "day", "binSize": 0}}, "binSize of at least 1"),
        ({"$dateFromParts": {"year": 10000}}, "a year of 1 to 9999"),
    ],
    ids=str,
)
def test_dates_refuse(expression, message):
    with pytest.raises(OperatorError, match=re.escape(message)):
        value_of(expression)


dates = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001
    lambda found: found.replace(microsecond=found.microsecond // 1000 * 1000, tzinfo=UTC)
)
zones = st.sampled_from(["UTC", BERLIN, "America/New_York", "+0545", "Pacific/Apia"])
units = st.sampled_from(["year", "quarter", "month", "week", "day", "hour", "minute", "second", "millisecond"])


@given(dates)
def test_a_date_survives_text_and_parts(value):
    text = value_of({"$dateToString": {"date": value}})
    assert value_of({"$dateFromString": {"dateString": text}}) == value
    assert value_of({"$dateFromParts": value_of({"$dateToParts": {"date": value}})}) == value
    parts = value_of({"$dateToParts": {"date": value, "iso8601": True}})
    assert value_of({"$dateFromParts": parts}) == value


@given(dates, units, st.integers(1, 9))
def test_the_beginning_of_a_bin_is_not_after_the_date_and_its_end_is(value, unit, size):
    start = value_of({"$dateTrunc": {"date": value, "unit": unit, "binSize": size}})
    end = value_of({"$dateAdd": {"startDate": start, "unit": unit, "amount": size}})
    assert start <= value < end


@given(dates, units, st.integers(-50, 50))
def test_the_difference_is_what_was_added(value, unit, amount):
    later = value_of({"$dateAdd": {"startDate": value, "unit": unit, "amount": amount}})
    assert value_of({"$dateDiff": {"startDate": value, "endDate": later, "unit": unit}}) == amount


@given(dates, dates, zones)
def test_days_between_are_those_of_the_calendar(one, other, zone):
    days = value_of({"$dateDiff": {"startDate": one, "endDate": other, "unit": "day", "timezone": zone}})
    assert abs(days - (other - one) / timedelta(days=1)) < 2
