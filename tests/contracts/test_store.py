"""What every store engine promises. A new engine joins with one line in ENGINES."""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import database_servers
import engine_addresses
from consona.errors import AddressError, ConfigurationError, Conflict, NotStarted, ValidationError
from consona.storage.store import MAX_VALUE_BYTES, Change, Store, open_store
from storage_tools import Clock, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://test{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/store.db?synchronous=OFF",
    "sqlite-memory": lambda folder: f"sqlite://test{next(_number)}",
}
SERVERS = {"postgresql": database_servers.empty_postgresql, "redis": database_servers.empty_redis}
"""Engines that need a server: how to have an empty database on it."""


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def store(url, clock):
    async with open_store(url, clock=clock) as store:
        yield store


async def taken(store, prefix="", **options):
    return [item.key async for item in store.scan(prefix, **options)]


# Reading and writing.


async def test_what_was_put_is_there(store):
    await store.put("key", b"\x00\xff value")
    item = await store.get("key")
    assert (item.key, item.value, item.expires) == ("key", b"\x00\xff value", None)


async def test_a_key_that_was_never_put_is_absent(store):
    assert await store.get("nobody") is None


async def test_an_empty_value_is_a_value(store):
    await store.put("key", b"")
    assert (await store.get("key")).value == b""


@pytest.mark.parametrize("key", ["a", "a/b", "ä😀\U0010ffff", "%_*?[a]'\"\\", " ", "x" * 512])
async def test_any_text_without_control_characters_is_a_key(store, key):
    await store.put(key, b"1")
    assert (await store.get(key)).key == key
    assert await taken(store, key) == [key]


async def test_a_later_put_replaces(store):
    await store.put("key", b"1")
    await store.put("key", b"2")
    assert (await store.get("key")).value == b"2"


async def test_the_largest_value_comes_back_whole(store):
    value = bytes(range(256)) * (MAX_VALUE_BYTES // 256)
    await store.put("key", value)
    assert (await store.get("key")).value == value


# Versions.


async def test_a_put_returns_the_version_that_get_shows(store):
    version = await store.put("key", b"1")
    assert version >= 1
    assert (await store.get("key")).version == version


async def test_versions_of_a_key_grow_also_when_it_was_deleted_in_between(store):
    first = await store.put("key", b"1")
    second = await store.put("key", b"1")
    await store.delete("key")
    third = await store.put("key", b"1")
    assert first < second < third


async def test_put_if_absent_writes_once(store):
    assert await store.put_if("key", b"1", version=0) is not None
    assert await store.put_if("key", b"2", version=0) is None
    assert (await store.get("key")).value == b"1"


async def test_put_if_writes_over_the_version_that_it_names_only(store):
    old = await store.put("key", b"1")
    new = await store.put_if("key", b"2", version=old)
    assert await store.put_if("key", b"3", version=old) is None
    assert (await store.get("key")).value == b"2"
    assert (await store.get("key")).version == new


async def test_put_if_does_not_bring_back_a_deleted_key(store):
    version = await store.put("key", b"1")
    await store.delete("key")
    assert await store.put_if("key", b"2", version=version) is None


async def test_of_many_who_want_an_absent_key_one_gets_it(store):
    results = await asyncio.gather(*(store.put_if("lease", b"%d" % n, version=0) for n in range(50)))
    winners = [n for n, version in enumerate(results) if version is not None]
    assert len(winners) == 1
    assert (await store.get("lease")).value == b"%d" % winners[0]


async def test_no_update_is_lost_however_many_run_at_once(store):
    def add(old):
        return b"%d" % (int(old or b"0") + 1)

    await asyncio.gather(*(store.update("count", add, attempts=1000) for _ in range(30)))
    assert (await store.get("count")).value == b"30"


class AlwaysFirst:
    """An engine in which somebody else always writes a moment earlier."""

    def __init__(self, engine):
        self.engine = engine

    def __getattr__(self, name):
        return getattr(self.engine, name)

    async def put_if(self, key, value, **options):
        await self.engine.put_if(key, b"theirs", version=None, ttl_s=None)
        return await self.engine.put_if(key, value, **options)


async def test_an_update_that_always_loses_gives_up_with_a_conflict(url, clock):
    async with Store(AlwaysFirst(open_store(url, clock=clock).engine)) as unlucky:
        seen = []
        with pytest.raises(Conflict, match="3 attempts"):
            await unlucky.update("key", lambda old: seen.append(old) or b"mine", attempts=3)
    assert seen == [None, b"theirs", b"theirs"]


async def test_an_update_to_none_deletes(store):
    await store.put("key", b"1")
    assert await store.update("key", lambda old: None) is None
    assert await store.get("key") is None


# Deleting.


async def test_a_deleted_key_is_absent(store):
    await store.put("key", b"1")
    assert await store.delete("key") is True
    assert await store.get("key") is None
    assert await taken(store) == []


async def test_deleting_what_is_absent_says_so(store):
    assert await store.delete("key") is False
    await store.put("key", b"1")
    await store.delete("key")
    assert await store.delete("key") is False


async def test_delete_with_a_version_spares_a_newer_value(store):
    old = await store.put("key", b"1")
    new = await store.put("key", b"2")
    assert await store.delete("key", version=old) is False
    assert await store.delete("key", version=new) is True


# Expiry.


async def test_an_item_is_given_out_until_its_time_is_over_and_never_after(store, clock):
    await store.put("key", b"1", ttl=10)
    assert (await store.get("key")).expires == clock.now + 10
    clock.advance(9.9)
    assert (await store.get("key")).value == b"1"
    clock.advance(0.1)
    assert await store.get("key") is None
    assert await taken(store) == []


async def test_an_expired_item_counts_as_absent(store, clock):
    version = await store.put("key", b"1", ttl=10)
    clock.advance(10)
    assert await store.put_if("key", b"2", version=version) is None
    assert await store.delete("key") is False
    assert await store.put_if("key", b"2", version=0) is not None
    assert (await store.get("key")).value == b"2"


async def test_a_put_without_limit_ends_an_earlier_limit(store, clock):
    await store.put("key", b"1", ttl=10)
    await store.put("key", b"2")
    clock.advance(100)
    await store.engine.sweep()
    assert (await store.get("key")).value == b"2"


async def test_a_renewed_item_lives_on(store, clock):
    version = await store.put("lease", b"me", ttl=10)
    clock.advance(8)
    assert await store.put_if("lease", b"me", version=version, ttl=10) is not None
    clock.advance(8)
    await store.engine.sweep()
    assert (await store.get("lease")).value == b"me"


async def test_expired_items_are_removed_in_bounded_batches(store, clock):
    await asyncio.gather(*(store.put(f"k{n:04}", b"", ttl=1) for n in range(1200)))
    await store.put("stays", b"")
    clock.advance(1)
    removed = []
    while batch := await store.engine.sweep():
        removed.append(batch)
    assert len(removed) >= 2
    assert await taken(store) == ["stays"]


# Scanning.


async def test_a_scan_gives_the_keys_with_the_prefix_in_the_order_of_code_points(store):
    keys = ["b", "a", "B", "a/", "a/\U00010000", "a/\uffff", "a/é", "a0", "ab", "~"]
    for key in keys:
        await store.put(key, key.encode())
    assert await taken(store) == sorted(keys)
    assert await taken(store, "a/") == sorted(key for key in keys if key.startswith("a/"))
    assert await taken(store, "nothing") == []


@pytest.mark.parametrize("prefix", ["a%", "a_", "\ud7ff", "\U0010ffff", "a\U0010ffff"])
async def test_a_prefix_is_text_and_no_pattern(store, prefix):
    for key in ["aXb", "b", "\ue000", prefix, f"{prefix}b"]:
        await store.put(key, b"")
    assert await taken(store, prefix) == [prefix, f"{prefix}b"]


async def test_a_scan_goes_on_over_many_pages_and_may_begin_behind_a_key(store):
    keys = [f"k{n:04}" for n in range(1000)]
    await asyncio.gather(*(store.put(key, b"x") for key in reversed(keys)))
    assert await taken(store) == keys
    assert await taken(store, "k09", after="k0989") == keys[990:]
    assert await taken(store, after="k0997x") == keys[998:]
    assert await taken(store, "k05", after="k02") == keys[500:600]


async def test_a_scan_of_large_values_gives_them_all(store):
    for n in range(12):
        await store.put(f"k{n:02}", bytes(900_000))
    assert len(await taken(store)) == 12


async def test_what_is_deleted_during_a_scan_does_not_confuse_it(store):
    keys = [f"k{n:04}" for n in range(500)]
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    seen = []
    async for item in store.scan():
        seen.append(item.key)
        await store.delete(item.key)
    assert seen == keys


# Watching.


@pytest.fixture
async def watched(store):
    """Begins a watch; `await watched.next()` is the next change it tells."""

    class Watched:
        def __init__(self):
            self.changes = store.watch("w/")

        async def next(self):
            async with asyncio.timeout(10):
                return await anext(self.changes)

        async def state(self, expected):
            """Follow the changes until what they add up to is `expected`."""
            found = {}
            while found != expected:
                change = await self.next()
                found[change.key] = change.value
            return found

    watched = Watched()
    async with aclosing(watched.changes):
        yield watched


async def test_a_watch_tells_what_is_there_and_then_each_change(store, watched):
    version = await store.put("w/a", b"1")
    await store.put("other", b"1")
    assert await watched.next() == Change("w/a", b"1", version)
    version = await store.put("w/a", b"2")
    assert await watched.next() == Change("w/a", b"2", version)
    await store.delete("w/a")
    gone = await watched.next()
    assert (gone.key, gone.value) == ("w/a", None)
    assert gone.version > version


async def test_a_watch_tells_nothing_of_other_prefixes(store, watched):
    await store.put("w/a", b"1")
    await watched.next()
    await store.put("v", b"1")
    await store.put("x", b"1")
    await store.put("w/end", b"1")
    assert (await watched.next()).key == "w/end"


async def test_a_watch_tells_expiry_as_deletion(store, watched, clock):
    await store.put("w/a", b"1", ttl=5)
    await watched.next()
    clock.advance(5)
    change = await watched.next()
    assert (change.key, change.value) == ("w/a", None)


async def test_a_watch_never_tells_what_has_expired(store, watched, clock):
    await store.put("w/old", b"1", ttl=5)
    clock.advance(5)
    await store.put("w/new", b"1")
    assert (await watched.next()).key == "w/new"


async def test_a_slow_watcher_learns_the_newest_state_of_each_key(store, watched):
    await store.put("w/a", b"0")
    await watched.next()
    for n in range(1, 100):
        await store.put("w/a", b"%d" % n)
        await store.put(f"w/{n % 7}", b"%d" % n)
    await store.delete("w/3")
    expected = {item.key: item.value async for item in store.scan("w/")} | {"w/3": None}
    assert await watched.state(expected) == expected


async def test_many_changes_at_once_are_all_told(store, watched):
    await store.put("w/0000", b"")
    await watched.next()
    keys = {f"w/{n:04}" for n in range(1, 1500)}
    await asyncio.gather(*(store.put(key, b"") for key in keys))
    found = set()
    while found != keys:
        found.add((await watched.next()).key)


async def test_a_watch_ends_when_its_store_stops(url, clock):
    async with open_store(url, clock=clock) as other:  # keeps a shared engine open
        store = open_store(url, clock=clock)
        await store.start()
        await store.put("a", b"")
        changes = []

        async def follow():
            async for change in store.watch():
                changes.append(change)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(follow())
            await until(lambda: changes)
            await store.stop()
            async with asyncio.timeout(10):
                await task
        assert await other.get("a") is not None


# Sharing.


async def test_stores_with_different_prefixes_do_not_see_each_other(url, clock):
    async with open_store(url, prefix="a/", clock=clock) as a, open_store(url, prefix="b/", clock=clock) as b:
        await a.put("key", b"a")
        await b.put("key", b"b")
        assert (await a.get("key")).value == b"a"
        assert await taken(b) == ["key"]
        async with aclosing(b.watch()) as changes:
            assert (await anext(changes)).key == "key"


async def test_two_stores_at_one_address_see_the_same(url, clock):
    async with open_store(url, clock=clock) as one, open_store(url, clock=clock) as other:
        version = await one.put("key", b"1")
        assert (await other.get("key")).version == version
        assert await other.put_if("key", b"2", version=version) is not None
        assert await one.put_if("key", b"3", version=version) is None


# Bad input.


@pytest.mark.parametrize("key", ["", "a\nb", "\x00", "\x7f", "\ud800", "x" * 513, "é" * 257, b"bytes", None, 7])
async def test_a_bad_key_is_refused_with_its_reason(store, key):
    for call in (store.get(key), store.put(key, b""), store.put_if(key, b"", version=0), store.delete(key)):
        with pytest.raises(ValidationError) as caught:
            await call
        assert caught.value.fields[0].path == "key"


@pytest.mark.parametrize("value", ["text", None, 7, bytes(MAX_VALUE_BYTES + 1)])
async def test_a_bad_value_is_refused_with_its_reason(store, value):
    with pytest.raises(ValidationError) as caught:
        await store.put("key", value)
    assert caught.value.fields[0].path == "value"
    assert await store.get("key") is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "10"])
async def test_a_bad_limit_is_refused_with_its_reason(store, ttl):
    with pytest.raises(ValidationError) as caught:
        await store.put("key", b"", ttl=ttl)
    assert caught.value.fields[0].path == "ttl"


@pytest.mark.parametrize("version", [-1, None, "1", True, 1.0])
async def test_a_bad_version_is_refused(store, version):
    with pytest.raises(ValidationError, match="version"):
        await store.put_if("key", b"", version=version)


async def test_a_store_that_is_not_started_says_so(url):
    store = open_store(url)
    with pytest.raises(NotStarted, match="start"):
        await store.get("key")


def test_an_unknown_scheme_is_refused_at_once():
    with pytest.raises(AddressError, match=r"memory://.*sqlite://"):
        open_store("carrier-pigeon://coop")


async def test_a_store_that_is_no_database_refuses_a_transaction(tmp_path):
    async with open_store("memory://no-database") as store:
        with pytest.raises(ConfigurationError, match="transaction"):
            await store.get("key", tx=object())


# Observation.


async def test_each_call_is_observed_without_keys_and_values(store):
    await store.put("hidden-key", b"hidden-value")
    await store.get("hidden-key")
    assert store.stats.operations["put"].succeeded == 1
    assert store.stats.operations["get"].succeeded == 1
    assert "hidden" not in repr(store.history)
    assert store.stats.detail


async def test_a_store_tells_its_health(store):
    assert (await store.check()).ok


# All of it at once, against a model.

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "ä", "😀"])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.binary(max_size=3), st.none() | st.integers(1, 5)),
    st.tuples(st.just("put_if"), KEYS, st.binary(max_size=3), st.sampled_from(["absent", "current", "stale"])),
    st.tuples(st.just("delete"), KEYS, st.sampled_from([None, "current", "stale"])),
    st.tuples(st.just("advance"), st.integers(1, 5)),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("scan"), st.sampled_from(["", "a", "a/", "z"])),
)


@given(steps=st.lists(STEPS, max_size=30), engine=st.sampled_from(["memory", "sqlite-memory"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_calls_does_what_a_plain_dict_would(steps, engine):
    asyncio.run(follow_the_model(ENGINES[engine](None), steps))


async def follow_the_model(url, steps):
    clock = Clock()
    model = {}  # key -> (value, version, expires)
    stale = {}

    def present(key):
        entry = model.get(key)
        return entry if entry and (entry[2] is None or entry[2] > clock.now) else None

    def version_of(key, which):
        return {"absent": 0, "current": present(key)[1] if present(key) else 0, "stale": stale.get(key, 9999)}[which]

    async with open_store(url, clock=clock) as store:
        for step in steps:
            match step:
                case "put", key, value, ttl:
                    stale[key] = model[key][1] if key in model else 9999
                    version = await store.put(key, value, ttl=ttl)
                    model[key] = (value, version, ttl and clock.now + ttl)
                case "put_if", key, value, which:
                    expected = version_of(key, which)
                    fits = expected == (present(key)[1] if present(key) else 0)
                    version = await store.put_if(key, value, version=expected)
                    assert (version is not None) == fits
                    if fits:
                        stale[key] = expected or 9999
                        model[key] = (value, version, None)
                case "delete", key, which:
                    expected = None if which is None else version_of(key, which)
                    fits = present(key) is not None and expected in {None, present(key)[1]}
                    assert await store.delete(key, version=expected) == fits
                    if fits:
                        stale[key] = model.pop(key)[1]
                case "advance", seconds:
                    clock.advance(seconds)
                case ("sweep",):
                    await store.engine.sweep()
                case "scan", prefix:
                    found = [(i.key, i.value, i.version) async for i in store.scan(prefix)]
                    live = [(k, *present(k)[:2]) for k in sorted(model) if k.startswith(prefix) and present(k)]
                    assert found == live
        for key in ["a", "a/1", "a/2", "b", "ä", "😀"]:
            item = await store.get(key)
            assert (item and (item.value, item.version, item.expires)) == present(key)
