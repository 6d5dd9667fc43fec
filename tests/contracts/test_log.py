"""What every log engine promises. A new engine joins with one line in ENGINES."""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import database_servers
import engine_addresses
from consona.errors import AddressError, ConfigurationError, GapError, NotStarted, ValidationError
from consona.log import log as log_module
from consona.log.log import MAX_BODY_BYTES, Entry, Log, Retention
from storage_tools import Clock, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://log{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/log.db?synchronous=OFF",
    "sqlite-memory": lambda folder: f"sqlite://log{next(_number)}",
}
SERVERS = {"postgresql": database_servers.quiet_postgresql, "redis": database_servers.empty_redis}
"""Engines that need a server: how to have an empty database on it."""
NOTHING_TRIMMED = Retention(max_age=None, max_records=None, max_bytes=None)


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def log(url, clock):
    async with Log(url, clock=clock, retention=NOTHING_TRIMMED) as log:
        yield log


async def bodies(log, stream="s", **options):
    return [record.body for record in (await log.read(stream, **options)).records]


# Appending and reading.


async def test_what_was_appended_is_read_in_order(log, clock):
    positions = [await log.append("s", body) for body in (b"one", b"", b"\x00\xff")]
    page = await log.read("s")
    assert [record.body for record in page.records] == [b"one", b"", b"\x00\xff"]
    assert [record.position for record in page.records] == positions == sorted(set(positions))
    assert min(positions) >= 1
    assert page.begin == 0
    assert {record.at for record in page.records} == {clock.now}


async def test_headers_come_back(log):
    await log.append("s", b"1", headers={"type": "ä😀", "empty": ""})
    await log.append("s", b"2")
    first, second = (await log.read("s")).records
    assert first.headers == {"type": "ä😀", "empty": ""}
    assert second.headers == {}


async def test_many_are_appended_together_in_order(log):
    positions = await log.append_many("s", [Entry(str(n).encode()) for n in range(1000)])
    assert positions == sorted(set(positions))
    assert await bodies(log) == [str(n).encode() for n in range(1000)]


async def test_appending_nothing_does_nothing(log):
    assert await log.append_many("s", []) == []
    assert await log.end("s") == 0


async def test_reading_goes_on_behind_a_position(log):
    first, second, _ = await log.append_many("s", [Entry(b"1"), Entry(b"2"), Entry(b"3")])
    assert await bodies(log, after=first) == [b"2", b"3"]
    assert await bodies(log, after=second, limit=1) == [b"3"]
    assert await bodies(log, after=first, limit=1) == [b"2"]
    assert await bodies(log, after=1 << 50) == []


async def test_a_stream_without_records_is_empty(log):
    page = await log.read("nobody")
    assert (page.records, page.begin) == ([], 0)
    assert (await log.begin("nobody"), await log.end("nobody")) == (0, 0)
    assert await log.trim("nobody") == 0


@pytest.mark.parametrize("stream", ["a/b", "ä😀", "a'b\"c", "%_*?>.", " ", "x" * 200])
async def test_any_text_without_control_characters_names_a_stream(log, stream):
    await log.append(stream, b"mine")
    await log.append("other", b"theirs")
    assert await bodies(log, stream) == [b"mine"]


async def test_streams_do_not_mix(log):
    for n in range(10):
        await log.append(f"s{n % 3}", str(n).encode())
    assert await bodies(log, "s0") == [b"0", b"3", b"6", b"9"]
    assert await bodies(log, "s1") == [b"1", b"4", b"7"]


async def test_a_page_of_large_records_has_at_least_one_and_ends_early(log, monkeypatch):
    monkeypatch.setattr(log_module, "PAGE_BYTES", 1000)
    await log.append_many("s", [Entry(b"x" * 700) for _ in range(5)])
    page = await log.read("s")
    assert 1 <= len(page.records) < 5
    await log.append("t", b"x" * 5000)
    assert len((await log.read("t")).records) == 1


async def test_the_largest_record_comes_back_whole(log):
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    await log.append("s", body)
    assert await bodies(log) == [body]


async def test_appends_from_many_tasks_all_arrive_once(log):
    async def append(task):
        return [await log.append("s", f"{task}-{n}".encode()) for n in range(20)]

    positions = await asyncio.gather(*map(append, range(20)))
    found = await bodies(log)
    assert len(set(found)) == len(found) == 400
    assert len({position for each in positions for position in each}) == 400
    for task in range(20):
        mine = [body for body in found if body.startswith(f"{task}-".encode())]
        assert mine == [f"{task}-{n}".encode() for n in range(20)]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.binary(max_size=20), max_size=5)), max_size=20))
async def test_reading_page_by_page_gives_what_was_appended(log, data):
    run = f"run{next(_number)}"
    expected = {name: [] for name in "abc"}
    for name, batch in data:
        await log.append_many(f"{run}/{name}", [Entry(body) for body in batch])
        expected[name] += batch
    for name in "abc":
        found, after = [], 0
        while page := (await log.read(f"{run}/{name}", after=after, limit=3)).records:
            found += [record.body for record in page]
            after = page[-1].position
        assert found == expected[name]


# Waiting and following.


async def test_a_reader_that_waits_is_woken_by_an_append(log):
    position = await log.append("s", b"1")
    waiting = asyncio.create_task(log.wait("s", after=position, timeout=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.append("s", b"2")
    await asyncio.wait_for(waiting, 20)


async def test_waiting_ends_at_once_where_there_is_something(log):
    await log.append("s", b"1")
    await asyncio.wait_for(log.wait("s", after=0, timeout=60), 20)


async def test_waiting_ends_when_time_is_over(log):
    await asyncio.wait_for(log.wait("s", after=0, timeout=0.05), 20)


async def test_following_gives_what_is_there_and_what_comes(log):
    await log.append("s", b"0")
    found = []

    async def follow():
        async with aclosing(log.follow("s", after=0)) as records:
            async for record in records:
                found.append(record.body)
                if len(found) == 50:
                    return

    following = asyncio.create_task(follow())
    await until(lambda: found == [b"0"])
    for n in range(1, 50):
        await log.append("s", str(n).encode())
    await asyncio.wait_for(following, 20)
    assert found == [str(n).encode() for n in range(50)]


async def test_following_from_now_leaves_out_what_was(log):
    await log.append("s", b"old")
    async with aclosing(log.follow("s")) as records:
        coming = asyncio.create_task(anext(records))
        while not (await asyncio.wait([coming], timeout=0.05))[0]:
            await log.append("s", b"new")
        assert coming.result().body == b"new"


# Times and trimming.


async def test_replay_begins_at_a_time(log, clock):
    positions = {}
    for minute in range(5):
        positions[minute] = await log.append("s", str(minute).encode())
        clock.advance(60)
    begin = clock.now - 300
    assert await log.position_at("s", begin) == 0
    assert await log.position_at("s", begin + 120) == positions[1]
    assert await log.position_at("s", begin + 130) == positions[2]
    assert await log.position_at("s", clock.now) == positions[4]
    assert await log.end("s") == positions[4]
    assert await bodies(log, after=await log.position_at("s", begin + 150)) == [b"3", b"4"]


async def test_a_clock_that_goes_back_does_not_disorder_times(log, clock):
    await log.append("s", b"1")
    clock.advance(-1000)
    await log.append("s", b"2")
    first, second = (await log.read("s")).records
    assert second.at == first.at


async def test_old_records_are_trimmed(log, clock):
    await log.append_many("s", [Entry(b"old") for _ in range(3)])
    clock.advance(100)
    kept = await log.append("s", b"new")
    assert await log.trim("s", Retention(max_age=50, max_records=None, max_bytes=None)) == 3
    page = await log.read("s")
    assert [record.body for record in page.records] == [b"new"]
    assert page.begin == await log.begin("s")
    assert 0 < page.begin < kept


async def test_only_so_many_records_are_kept(log):
    await log.append_many("s", [Entry(str(n).encode()) for n in range(2500)])
    assert await log.trim("s", Retention(max_age=None, max_records=10, max_bytes=None)) == 2490
    assert await bodies(log) == [str(n).encode() for n in range(2490, 2500)]


async def test_only_so_many_bytes_are_kept(log):
    await log.append_many("s", [Entry(b"x" * 100, {"n": "1234"}) for _ in range(50)])
    await log.trim("s", Retention(max_age=None, max_records=None, max_bytes=1100))
    assert 5 <= len(await bodies(log)) <= 10
    await log.append("s", b"last")
    assert (await bodies(log))[-1] == b"last"


async def test_positions_go_on_after_everything_was_trimmed(log, clock):
    before = await log.append("s", b"1")
    clock.advance(100)
    await log.trim("s", Retention(max_age=1))
    assert await bodies(log) == []
    assert await log.begin("s") == await log.end("s") == before
    assert await log.append("s", b"2") > before


async def test_a_reader_behind_what_is_kept_is_told(log):
    positions = await log.append_many("s", [Entry(str(n).encode()) for n in range(5)])
    await log.trim("s", Retention(max_records=2))
    with pytest.raises(GapError) as told:
        await log.read("s", after=positions[0])
    assert (told.value.after, told.value.begin) == (positions[0], positions[2])
    assert await bodies(log, after=positions[2]) == [b"3", b"4"]
    assert await bodies(log, after=0) == [b"3", b"4"]
    with pytest.raises(GapError):
        await anext(log.follow("s", after=positions[1]))


async def test_who_appends_also_trims(url, clock, monkeypatch):
    monkeypatch.setattr(log_module, "TRIM_PAUSE_S", 0.01)
    async with Log(url, clock=clock, retention=Retention(max_records=3)) as log:
        log.keep("long", Retention(max_records=8))
        for stream in ("short", "long"):
            await log.append_many(stream, [Entry(b"") for _ in range(10)])
        async with asyncio.timeout(20):
            while len(await bodies(log, "short")) > 3 or len(await bodies(log, "long")) > 8:
                await asyncio.sleep(0.01)
        assert (len(await bodies(log, "short")), len(await bodies(log, "long"))) == (3, 8)


# Bad input.


@pytest.mark.parametrize("stream", ["", "a\nb", "a\x00", "\ud800", "x" * 201, "ä" * 101, None, b"s", 7])
async def test_unfit_names_are_refused(log, stream):
    with pytest.raises(ValidationError, match="stream"):
        await log.append(stream, b"")
    with pytest.raises(ValidationError, match="stream"):
        await log.read(stream)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("text", {}),
        (None, {}),
        (b"x" * (MAX_BODY_BYTES + 1), {}),
        (b"", {"n": 1}),
        (b"", {1: "n"}),
        (b"", {"n": "\udc00"}),
        (b"", {"n": "x" * 64_001}),
    ],
)
async def test_unfit_records_are_refused_and_nothing_is_appended(log, body, headers):
    with pytest.raises(ValidationError):
        await log.append_many("s", [Entry(b"good"), Entry(body, headers)])
    assert await bodies(log) == []


@pytest.mark.parametrize("options", [{"after": -1}, {"after": "1"}, {"limit": 0}, {"limit": 10_001}, {"limit": True}])
async def test_unfit_places_are_refused(log, options):
    with pytest.raises(ValidationError):
        await log.read("s", **options)


async def test_too_many_at_once_are_refused(log):
    with pytest.raises(ValidationError, match="10000"):
        await log.append_many("s", [Entry(b"")] * 10_001)


@pytest.mark.parametrize("limits", [{"max_age": 0}, {"max_records": -1}, {"max_bytes": 0}])
def test_a_retention_of_nothing_is_refused(limits):
    with pytest.raises(ConfigurationError):
        Retention(**limits)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(AddressError, match="log"):
        Log("carrier-pigeon://loft")


# Life.


async def test_before_its_start_it_cannot_be_used(url):
    log = Log(url)
    with pytest.raises(NotStarted):
        await log.append("s", b"")
    with pytest.raises(NotStarted):
        await log.read("s")
    assert not (await log.check()).ok


async def test_two_logs_at_one_address_share_their_streams(url, clock):
    async with Log(url, clock=clock) as one, Log(url, clock=clock) as two:
        await one.append("s", b"1")
        assert await bodies(two) == [b"1"]
        assert (await two.check()).ok


async def test_what_was_done_is_counted_and_bodies_are_in_no_history(log):
    await log.append("s", b"secret", headers={"token": "secret"})
    await log.read("s")
    assert log.stats.operations["append s"].succeeded == 1
    assert log.history[0].attributes == {"records": 1, "bytes": 6}
    assert "secret" not in repr(log.history)
