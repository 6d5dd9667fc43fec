"""A schedule in a process that goes on working: each time's message is put before it comes."""

import asyncio
from types import SimpleNamespace

import pytest

from consona.errors import ConnectError
from consona.messaging import schedule as schedule_module
from consona.messaging.cron import Cron
from consona.messaging.engine import Entry
from consona.messaging.schedule import Schedule
from storage_tools import Clock


class EndError(Exception):
    """Enough was seen."""


@pytest.fixture
def clock(monkeypatch):
    """Time passes where somebody sleeps; after twenty times the test is over."""
    clock, left = Clock(1_700_000_000.0), iter(range(20))
    real = asyncio.sleep

    async def sleep(seconds):
        if next(left, None) is None:
            raise EndError
        clock.advance(seconds)
        await real(0)

    # Of this module alone: other loops of the process go on sleeping.
    monkeypatch.setattr(schedule_module, "asyncio", SimpleNamespace(sleep=sleep))
    return clock


async def test_the_message_of_each_time_is_put_ahead_of_it(clock):
    hourly = Schedule("hourly", Cron("0 * * * *"), Entry(b"x", {"type": "Report"}), "once")
    put = []

    async def note(entry):
        put.append((entry.dedup, clock.now + entry.delay_s, entry.headers["type"], entry.dedup_s > entry.delay_s))

    due = await hourly.ensure(note, clock())
    with pytest.raises(EndError):
        await hourly.run(note, clock, due)
    first = 1_700_002_800
    assert [dedup for dedup, *_ in dict.fromkeys(put)][:2] == [f"schedule hourly {first + 3600 * n}" for n in range(2)]
    assert all(abs(due - float(dedup.split()[-1])) < 1 and later for dedup, due, _, later in put)


async def test_what_could_not_be_put_is_tried_again(clock):
    minute = Schedule("minute", Cron("* * * * *"), Entry(b"x"), "once")
    tried = []

    async def fail(entry):
        tried.append(entry.dedup)
        if len(tried) < 3:
            raise ConnectError("gone")

    due = await minute.ensure(fail, clock())
    with pytest.raises(EndError):
        await minute.run(fail, clock, due)
    assert len(tried) > 3
    assert tried[0] == tried[1] == tried[2] != tried[3]
