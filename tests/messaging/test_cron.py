"""Times by the calendar, in zones whose clocks go forward and back."""

from datetime import UTC, datetime, timedelta

import pytest

from consona.errors import ConfigurationError
from consona.messaging.cron import Cron


def times(text, zone, begin, count):
    cron, moment, found = Cron(text, zone), datetime.fromisoformat(begin).replace(tzinfo=UTC), []
    for _ in range(count):
        moment = cron.after(moment)
        found.append(moment.astimezone(cron.zone).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "begin", "expected"),
    [
        ("* * * * *", "2026-01-01T00:00", ["01-01 00:01", "01-01 00:02"]),
        ("*/20 * * * *", "2026-01-01T00:05", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("0 9 * * mon-fri", "2026-01-02T10:00", ["01-05 09:00", "01-06 09:00"]),
        ("30 8,17 * * *", "2026-01-01T08:30", ["01-01 17:30", "01-02 08:30"]),
        ("0 0 31 * *", "2026-01-31T12:00", ["03-31 00:00", "05-31 00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["02-29 00:00"]),
        ("0 0 13 * 5", "2026-03-01T00:00", ["03-06 00:00", "03-13 00:00", "03-20 00:00"]),
        ("0 0 * * 7", "2026-01-01T00:00", ["01-04 00:00"]),
        ("0 0 * * 5-7", "2026-01-01T00:00", ["01-02 00:00", "01-03 00:00", "01-04 00:00"]),
        ("5/20 1 * JAN *", "2026-01-01T00:00", ["01-01 01:05", "01-01 01:25", "01-01 01:45"]),
        ("@monthly", "2026-01-01T00:00", ["02-01 00:00"]),
        ("0 0-23/12 * * *", "2026-01-01T00:00", ["01-01 12:00", "01-02 00:00"]),
    ],
)
def test_the_next_times_are_those_of_the_text(text, begin, expected):
    assert times(text, "UTC", begin, len(expected)) == expected


def test_a_time_is_one_of_the_zone():
    assert Cron("0 9 * * *", "Asia/Tokyo").after(datetime(2026, 6, 1, tzinfo=UTC)) == datetime(2026, 6, 2, tzinfo=UTC)


def test_when_clocks_go_forward_a_time_that_is_not_there_comes_an_hour_later_and_once():
    assert times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", 3) == ["03-28 02:30", "03-29 03:30", "03-30 02:30"]


def test_when_clocks_go_back_a_time_that_comes_twice_counts_once():
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-24T10:00", 2) == ["10-25 02:30", "10-26 02:30"]


@pytest.mark.parametrize("day", ["2026-03-28T22:30", "2026-10-24T22:30"])
def test_what_runs_every_hour_runs_in_each_hour_that_passes(day):
    cron, moment = Cron("15 * * * *", "Europe/Berlin"), datetime.fromisoformat(day).replace(tzinfo=UTC)
    for _ in range(30):
        following = cron.after(moment)
        assert following - moment == timedelta(minutes=45 if moment.minute == 30 else 60)
        moment = following


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *", "*/0 * * * *",
     "5-1 * * * *", "*-5 * * * *", "1, * * * *", "@often", "0 0 30 2 *", "-1 * * * *", "* * * * mon-", "1//2 * * * *"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ConfigurationError, match="no schedule"):
        Cron(text)


@pytest.mark.parametrize("zone", ["Nowhere/Town", "", "../etc/passwd"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(ConfigurationError, match="time zone"):
        Cron("* * * * *", zone)
