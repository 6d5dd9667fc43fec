"""What every queue engine promises. A new engine joins with one line in ENGINES."""

import asyncio
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import database_servers
import engine_addresses
from consona.address import Address, adapter_for
from consona.messaging.engine import Entry, Power
from storage_tools import Clock

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://queue{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/queue.db?synchronous=OFF",
    "sqlite-memory": lambda folder: f"sqlite://queue{next(_number)}",
}
SERVERS = {"postgresql": database_servers.empty_postgresql, "redis": database_servers.empty_redis}
"""Engines that need a server: how to have an empty database on it."""


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def engine(url, clock):
    address = Address.parse(url)
    engine = adapter_for("queue", address)(address, clock=clock)
    await engine.open()
    yield engine
    await engine.close()


def entries(*bodies, **options):
    return [Entry(body, **options) for body in bodies]


async def take(engine, limit=10, *, queue="q", lease_s=30.0, wait_s=0.0):
    return await engine.take(queue, limit=limit, lease_s=lease_s, wait_s=wait_s)


async def bodies(engine, limit=10, **options):
    return [lease.body for lease in await take(engine, limit, **options)]


def needs(engine, *powers):
    missing = set(powers) - engine.powers
    if missing:
        pytest.skip(f"this engine declares that it has no {', '.join(missing)}")


async def failing(engine, lease, error="It broke.", *, delay_s=0.0, dead=False):
    return await engine.release("q", lease, delay_s=delay_s, error=error, dead=dead)


# Putting and taking.


async def test_what_was_put_is_taken_in_order(engine, clock):
    ids = await engine.put("q", entries(b"1", b"", b"\x00\xff"))
    assert len(set(ids)) == 3
    leases = await take(engine)
    assert [lease.body for lease in leases] == [b"1", b"", b"\x00\xff"]
    assert [lease.id for lease in leases] == ids
    assert {(lease.attempt, lease.put_at, lease.until) for lease in leases} == {(1, clock.now, clock.now + 30)}


async def test_headers_come_along(engine):
    await engine.put("q", [Entry(b"1", {"type": "ä😀"}), Entry(b"2")])
    assert [dict(lease.headers) for lease in await take(engine)] == [{"type": "ä😀"}, {}]


async def test_a_message_that_is_held_is_nobody_elses(engine):
    await engine.put("q", entries(b"1", b"2"))
    assert await bodies(engine, 1) == [b"1"]
    assert await bodies(engine) == [b"2"]
    assert await bodies(engine) == []


async def test_a_message_that_is_done_is_gone(engine, clock):
    await engine.put("q", entries(b"1"))
    assert await engine.settle("q", await take(engine)) == []
    clock.advance(3600)
    assert await bodies(engine) == []
    assert (await engine.depth("q")).unfinished == 0


async def test_queues_do_not_mix(engine):
    for n in range(6):
        await engine.put(f"q{n % 2}", entries(str(n).encode()))
    assert await bodies(engine, queue="q1") == [b"1", b"3", b"5"]
    assert await bodies(engine, queue="nobody") == []
    assert {"q0", "q1"} <= set(await engine.queues())


@pytest.mark.parametrize("queue", ["a/b", "ä😀", "a'b\"c", "%_*?>.", " ", "x" * 200])
async def test_any_name_will_do(engine, queue):
    await engine.put(queue, entries(b"mine"))
    await engine.put("other", entries(b"theirs"))
    assert await bodies(engine, queue=queue) == [b"mine"]


async def test_many_takers_get_each_message_once(engine):
    await engine.put("q", entries(*[str(n).encode() for n in range(300)]))
    found = await asyncio.gather(*[bodies(engine, 7) for _ in range(60)])
    everything = [body for part in found for body in part]
    assert sorted(everything, key=int) == [str(n).encode() for n in range(300)]


async def test_a_taker_that_waits_is_woken_by_a_put(engine):
    waiting = asyncio.create_task(bodies(engine, wait_s=60))
    await asyncio.sleep(0)
    await engine.put("q", entries(b"1"))
    assert await asyncio.wait_for(waiting, 20) == [b"1"]


async def test_waiting_in_vain_ends(engine):
    assert await asyncio.wait_for(bodies(engine, wait_s=0.05), 20) == []


async def test_a_taker_that_is_cancelled_takes_nothing_along(engine):
    for n in range(50):
        await engine.put("q", entries(str(n).encode()))
        taker = asyncio.create_task(take(engine, 1))
        for _ in range(n % 10):
            await asyncio.sleep(0)
        taker.cancel()
        await asyncio.wait([taker])
        if not taker.cancelled():
            await engine.settle("q", taker.result())
    left = await take(engine, 100)
    assert {lease.attempt for lease in left} <= {1}
    assert (await engine.depth("q")).leased == len(left)


# Leases.


async def test_a_message_whose_worker_died_is_delivered_again(engine, clock):
    await engine.put("q", entries(b"work"))
    [lost] = await take(engine, lease_s=5)
    clock.advance(6)
    [again] = await take(engine)
    assert (again.id, again.body, again.attempt) == (lost.id, b"work", 2)
    assert [(failure.attempt, failure.error) for failure in again.failures] == [(1, "")]


async def test_who_lost_the_lease_can_do_nothing_more(engine, clock):
    needs(engine, Power.FENCING)
    await engine.put("q", entries(b"work"))
    [lost] = await take(engine, lease_s=5)
    clock.advance(6)
    [again] = await take(engine)
    assert await engine.settle("q", [lost]) == [lost]
    assert not await failing(engine, lost)
    assert await engine.extend("q", lost, lease_s=60) is None
    assert await engine.settle("q", [again]) == []


async def test_a_late_worker_may_finish_what_nobody_else_has_taken(engine, clock):
    await engine.put("q", entries(b"work"))
    [late] = await take(engine, lease_s=5)
    clock.advance(6)
    assert await engine.settle("q", [late]) == []
    assert await bodies(engine) == []


async def test_a_lease_can_be_extended(engine, clock):
    await engine.put("q", entries(b"work"))
    [lease] = await take(engine, lease_s=5)
    clock.advance(4)
    longer = await engine.extend("q", lease, lease_s=10)
    assert longer.until == clock.now + 10
    clock.advance(8)
    assert await bodies(engine) == []
    assert await engine.settle("q", [longer]) == []


async def test_settling_twice_tells_that_it_is_gone(engine):
    needs(engine, Power.FENCING)
    await engine.put("q", entries(b"work"))
    leases = await take(engine)
    await engine.settle("q", leases)
    assert await engine.settle("q", leases) == leases
    assert (await engine.depth("q")).unfinished == 0


# Failing, retrying, dying.


async def test_what_failed_comes_back_with_its_history(engine, clock):
    await engine.put("q", [Entry(b"work", {"type": "a"})])
    [lease] = await take(engine)
    assert await failing(engine, lease, "It broke.")
    [again] = await take(engine)
    assert (again.id, again.body, again.headers, again.attempt) == (lease.id, b"work", {"type": "a"}, 2)
    assert [(f.attempt, f.at, f.error) for f in again.failures] == [(1, clock.now, "It broke.")]


async def test_what_failed_comes_back_after_its_delay(engine, clock):
    await engine.put("q", entries(b"work"))
    [lease] = await take(engine)
    await failing(engine, lease, delay_s=10)
    assert await bodies(engine) == []
    assert (await engine.depth("q")).delayed == 1
    clock.advance(10)
    assert await bodies(engine) == [b"work"]


async def test_what_is_given_back_untried_counts_no_attempt(engine):
    await engine.put("q", entries(b"work"))
    [lease] = await take(engine)
    await failing(engine, lease, "")
    [again] = await take(engine)
    assert (again.attempt, list(again.failures)) == (1, [])


async def test_the_last_ten_failures_are_kept(engine):
    await engine.put("q", entries(b"work"))
    for n in range(1, 13):
        [lease] = await take(engine)
        await failing(engine, lease, f"error {n}")
    [lease] = await take(engine)
    assert lease.attempt == 13
    assert [failure.error for failure in lease.failures] == [f"error {n}" for n in range(3, 13)]


async def test_a_dead_letter_says_why_and_is_not_delivered(engine, clock):
    await engine.put("q", [Entry(b"poison", {"type": "a"})])
    [lease] = await take(engine)
    clock.advance(3)
    await failing(engine, lease, "It broke.", dead=True)
    clock.advance(3600)
    assert await bodies(engine) == []
    [letter] = await engine.dead("q", after="", limit=10)
    assert (letter.id, letter.body, letter.headers) == (lease.id, b"poison", {"type": "a"})
    assert (letter.attempts, letter.reason, letter.died_at - letter.put_at) == (1, "It broke.", 3)
    assert [failure.error for failure in letter.failures] == ["It broke."]
    assert await engine.dead("other", after="", limit=10) == []


async def kill(engine, *names):
    """Put these and let them die; returns their letters."""
    await engine.put("q", entries(*names))
    for lease in await take(engine, len(names)):
        await failing(engine, lease, "dead", dead=True)
    return await engine.dead("q", after="", limit=100)


async def test_dead_letters_are_read_page_by_page_in_the_order_of_death(engine):
    letters = await kill(engine, *[str(n).encode() for n in range(5)])
    assert [letter.body for letter in letters] == [b"0", b"1", b"2", b"3", b"4"]
    page = await engine.dead("q", after=letters[1].id, limit=2)
    assert [letter.body for letter in page] == [b"2", b"3"]


async def test_dead_letters_are_put_back_with_attempts_forgotten(engine):
    first, second, _ = await kill(engine, b"1", b"2", b"3")
    assert await engine.redrive("q", [first.id, second.id, "999999"], replacement=None) == 2
    leases = await take(engine)
    assert [(lease.body, lease.attempt, list(lease.failures)) for lease in leases] == [(b"1", 1, []), (b"2", 1, [])]
    assert (await engine.depth("q")).dead == 1


async def test_a_dead_letter_can_be_mended(engine):
    [letter] = await kill(engine, b"wrong")
    assert await engine.redrive("q", [letter.id], replacement=Entry(b"right", {"mended": "yes"})) == 1
    [lease] = await take(engine)
    assert (lease.body, lease.headers) == (b"right", {"mended": "yes"})


async def test_dead_letters_are_removed_for_ever(engine):
    first, second = await kill(engine, b"1", b"2")
    assert await engine.bury("q", [first.id, "999999"]) == 1
    assert [letter.id for letter in await engine.dead("q", after="", limit=10)] == [second.id]


async def test_another_queues_dead_letters_are_out_of_reach(engine):
    [letter] = await kill(engine, b"1")
    assert await engine.redrive("other", [letter.id], replacement=None) == 0
    assert await engine.bury("other", [letter.id]) == 0
    assert len(await engine.dead("q", after="", limit=10)) == 1


async def test_the_depth_tells_what_is_where(engine, clock):
    await kill(engine, b"dead")
    await engine.put("q", entries(b"1", b"2", b"3", b"4"))
    one, two = await take(engine, 2)
    await failing(engine, one, delay_s=60)
    depth = await engine.depth("q")
    assert (depth.ready, depth.delayed, depth.leased, depth.dead, depth.unfinished) == (2, 1, 1, 1, 4)
    await engine.settle("q", [two])
    clock.advance(60)
    assert (await engine.depth("q")).ready == 3
    assert (await engine.depth("nobody")).unfinished == 0


# Powers.


async def test_a_delayed_message_comes_when_it_is_due(engine, clock):
    needs(engine, Power.DELAY)
    await engine.put("q", [Entry(b"later", delay_s=3 * 86_400), Entry(b"now")])
    assert await bodies(engine) == [b"now"]
    clock.advance(3 * 86_400 - 1)
    assert await bodies(engine, queue="q", lease_s=1e9) == [b"now"]  # its lease ended long ago
    clock.advance(1)
    assert await bodies(engine) == [b"later"]


async def test_the_more_urgent_comes_first(engine):
    needs(engine, Power.PRIORITY)
    await engine.put("q", [Entry(str(n).encode(), priority=n) for n in (0, 5, 9, 1)])
    assert await bodies(engine) == [b"9", b"5", b"1", b"0"]


async def test_the_least_urgent_comes_too(engine, clock):
    needs(engine, Power.PRIORITY)
    await engine.put("q", entries(b"patient", priority=0))
    clock.advance(9 * 60 + 1)
    await engine.put("q", entries(b"urgent", priority=9))
    assert await bodies(engine) == [b"patient", b"urgent"]


async def test_messages_of_one_key_come_one_after_another(engine, clock):
    needs(engine, Power.ORDER)
    await engine.put("q", [Entry(b"a1", key="a"), Entry(b"a2", key="a"), Entry(b"b1", key="b"), Entry(b"x")])
    leases = await take(engine)
    assert sorted(lease.body for lease in leases) == [b"a1", b"b1", b"x"]
    [a1] = [lease for lease in leases if lease.body == b"a1"]
    await failing(engine, a1, delay_s=10)
    assert await bodies(engine) == []  # the second waits for the first, also while that waits for its retry
    clock.advance(10)
    [a1] = await take(engine)
    assert a1.body == b"a1"
    await engine.settle("q", [a1])
    assert await bodies(engine) == [b"a2"]


async def test_a_dead_letter_lets_the_next_of_its_key_pass(engine):
    needs(engine, Power.ORDER)
    await engine.put("q", entries(b"1", b"2", key="a"))
    [lease] = await take(engine)
    await failing(engine, lease, dead=True)
    assert await bodies(engine) == [b"2"]


async def test_a_duplicate_within_its_window_is_not_put(engine, clock):
    needs(engine, Power.DEDUPLICATION)
    [first] = await engine.put("q", entries(b"1", dedup="order-7", dedup_s=60))
    [again] = await engine.put("q", entries(b"2", dedup="order-7", dedup_s=60))
    assert again == first
    assert await engine.settle("q", await take(engine)) == []
    [still] = await engine.put("q", entries(b"3", dedup="order-7", dedup_s=60))
    assert still == first
    await engine.put("elsewhere", entries(b"4", dedup="order-7", dedup_s=60))
    assert await bodies(engine) == []
    assert (await engine.depth("q")).unfinished == 0
    clock.advance(61)
    [new] = await engine.put("q", entries(b"5", dedup="order-7", dedup_s=60))
    assert new != first
    assert await bodies(engine) == [b"5"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["", "a", "b"]), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(1, 3), st.integers(0, 2)),
        st.tuples(st.sampled_from(["settle", "fail", "return", "die"]), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("pass"), st.sampled_from([1.0, 20.0]), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
async def test_whatever_happens_nothing_is_lost_and_keys_keep_their_order(engine, clock, steps):
    needs(engine, Power.ORDER, Power.PRIORITY, Power.FENCING)
    queue = f"run{next(_number)}"
    put, done, dead, held = {}, [], set(), []
    for verb, first, second in steps:
        if verb == "put":
            body = str(len(put)).encode()
            await engine.put(queue, [Entry(body, key=first, priority=second)])
            put[body] = first
        elif verb == "take":
            held += await engine.take(queue, limit=first, lease_s=10.0, wait_s=0.0)
        elif verb == "pass":
            clock.advance(first)
        elif held:
            lease = held.pop(first % len(held))
            if verb == "settle":
                if not await engine.settle(queue, [lease]):
                    done.append(lease.body)
            else:
                gone = verb == "die"
                kept = await engine.release(queue, lease, delay_s=0.0, error="" if verb == "return" else "x", dead=gone)
                if kept and gone:
                    dead.add(lease.body)
    clock.advance(1000)
    while leases := await engine.take(queue, limit=100, lease_s=10.0, wait_s=0.0):
        assert await engine.settle(queue, leases) == []
        done += [lease.body for lease in leases]
    assert len(done) == len(set(done))
    assert set(done) | dead == set(put)
    assert not set(done) & dead
    for key in "ab":
        mine = [body for body in done if put[body] == key]
        assert mine == sorted(mine, key=int)
    assert (await engine.depth(queue)).unfinished == 0
    assert (await engine.depth(queue)).dead == len(dead)
