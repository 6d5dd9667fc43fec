"""What a bus promises, on every engine of the log. A new engine joins with one line in ENGINES."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count

import msgspec
import pytest

import database_servers
from consona.errors import ConfigurationError, NotFound, NotStarted, ValidationError
from consona.events.bus import EventBus
from consona.events.cloudevents import CloudEvent
from consona.events.event import event
from consona.events.records import Received
from consona.log.log import Retention
from consona.part import Status
from consona.resilience.retry import Retry
from storage_tools import Clock, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://events{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/bus.db?synchronous=OFF",
    "sqlite-memory": lambda folder: f"sqlite://events{next(_number)}",
}
AT_ONCE = Retry(attempts=3, backoff=0.0)


@event("order.placed")
class OrderPlaced(msgspec.Struct):
    id: int
    total: Decimal = Decimal(0)


@event("order.paid")
@dataclass
class OrderPaid:
    id: int


@pytest.fixture(params=[*ENGINES, pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request, tmp_path):
    if request.param == "postgresql":
        with database_servers.quiet_postgresql() as url:
            yield url
    else:
        yield ENGINES[request.param](tmp_path)


@asynccontextmanager
async def alive(url, **options):
    """Keeps what is only in memory while no bus is open."""
    async with EventBus(url, name="keeper", **options):
        yield


async def handled(bus):
    async with bus:
        await bus.work(until_empty=True)


# Publishing and handling.


async def test_an_event_reaches_its_handler_as_its_type(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced):
        got.append(event)

    async with bus:
        await bus.publish(OrderPlaced(7, Decimal("9.90")))
        await bus.work(until_empty=True)
    assert got == [OrderPlaced(7, Decimal("9.90"))]


async def test_handlers_get_what_they_asked_for_in_order(url):
    bus, got = EventBus(url), {"one": [], "both": [], "orders": [], "all": [], "none": []}

    def noting(name):
        async def note(event):
            got[name].append(event if isinstance(event, dict) else msgspec.to_builtins(event))

        return note

    bus.on(OrderPaid, durable="one")(noting("one"))
    bus.on(OrderPlaced, OrderPaid, durable="both")(noting("both"))
    bus.on("order.*", durable="orders")(noting("orders"))
    bus.on(">", durable="all")(noting("all"))
    bus.on("shop.>", durable="none")(noting("none"))
    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPaid(1), OrderPlaced(2)])
        await bus.work(until_empty=True)
    placed, paid, second = {"id": 1, "total": "0"}, {"id": 1}, {"id": 2, "total": "0"}
    assert got == {"one": [paid], "both": [placed, paid, second], "orders": [placed, paid, second],
                   "all": [placed, paid, second], "none": []}  # fmt: skip


async def test_a_handler_can_see_all_attributes(url):
    bus, got = EventBus(url, source="/shop"), []

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced, received: Received):
        got.append(received)

    async with bus:
        name = await bus.publish(OrderPlaced(7), key="ada", subject="orders/7", extensions={"colour": "red", "n": 3})
        await bus.work(until_empty=True)
    [received] = got
    assert received.event.id == name
    assert (received.event.type, received.event.source, received.event.subject) == ("order.placed", "/shop", "orders/7")
    assert received.key == "ada"
    assert received.event.extensions["colour"] == "red"
    assert received.attempt == 1
    assert received.position >= 1
    assert received.event.time.tzinfo is not None


async def test_a_plain_function_handles_events_too(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing")
    def bill(event: OrderPlaced):
        got.append(event.id)

    async with bus:
        await bus.publish(OrderPlaced(7))
        await bus.work(until_empty=True)
    assert got == [7]


async def test_a_cloud_event_is_published_as_it_is(url):
    bus, got = EventBus(url), []

    @bus.on("com.example.>", durable="foreign")
    async def take(event: CloudEvent):
        got.append(event)

    sent = CloudEvent(type="com.example.made", source="urn:x", data=b"<a/>", datacontenttype="text/xml", id="1")
    async with bus:
        await bus.publish(sent)
        await bus.work(until_empty=True)
    assert got == [sent]


async def test_what_is_no_event_is_refused(url):
    async with EventBus(url) as bus:
        for wrong in ({"id": 7}, "order", None, 7):
            with pytest.raises(ConfigurationError, match="no type of events"):
                await bus.publish(wrong)
        with pytest.raises(ValidationError, match="too large"):
            await bus.publish(CloudEvent(type="big", source="/x", data=b"x" * 900_001))
        with pytest.raises(ValidationError):
            await bus.publish(OrderPlaced(7), extensions={"Not Allowed": "x"})
        assert [each async for each in bus.events()] == []


async def test_nothing_is_published_before_the_start(url):
    with pytest.raises(NotStarted):
        await EventBus(url).publish(OrderPlaced(7))


# Consumers.


async def test_a_durable_consumer_goes_on_where_it_was(url):
    got = []

    def bus():
        bus = EventBus(url)

        @bus.on(OrderPlaced, durable="billing")
        async def bill(event: OrderPlaced):
            got.append(event.id)

        return bus

    async with alive(url):
        first = bus()
        async with first:
            await first.publish(OrderPlaced(1))
            await first.work(until_empty=True)
        async with EventBus(url) as other:
            await other.publish(OrderPlaced(2))
        await handled(bus())
    assert got == [1, 2]


async def test_a_consumer_has_its_place_from_the_first_start(url):
    """What is published before it works for the first time is its, too."""
    got = []
    async with alive(url):
        for working in (False, True):
            bus = EventBus(url)

            @bus.on(OrderPlaced, durable="billing")
            async def bill(event: OrderPlaced):
                got.append(event.id)

            async with bus:
                if working:
                    await bus.work(until_empty=True)
                else:
                    await bus.publish(OrderPlaced(1))
    assert got == [1]


@pytest.mark.parametrize("start", ["new", "beginning", "position", "time"])
async def test_a_new_consumer_begins_where_it_is_told_to(url, start):
    got, clock = [], Clock()
    async with EventBus(url, clock=clock) as before:
        await before.publish(OrderPlaced(1))
        position = await before.log.end(before.log_stream)
        clock.advance(60)
        at = datetime.fromtimestamp(clock.now, UTC)
        await before.publish(OrderPlaced(2))
        place = {"position": position, "time": at}.get(start, start)
        bus = EventBus(url, clock=clock)

        @bus.on(OrderPlaced, durable="late", start=place)
        async def note(event: OrderPlaced):
            got.append(event.id)

        async with bus:
            await bus.publish(OrderPlaced(3))
            await bus.work(until_empty=True)
    assert got == {"new": [3], "beginning": [1, 2, 3], "position": [2, 3], "time": [2, 3]}[start]


async def test_a_consumer_without_a_name_gets_what_comes_while_it_runs(url):
    async with EventBus(url) as other:
        await other.publish(OrderPlaced(1))
        bus, got = EventBus(url, consume=True), []

        @bus.on(OrderPlaced)
        async def note(event: OrderPlaced):
            got.append(event.id)

        async with bus:
            await other.publish(OrderPlaced(2))
            await until(lambda: got == [2], what="the event")
            assert await bus.consumers() == []


async def test_events_with_the_same_key_are_handled_in_order_and_others_at_the_same_time(url):
    bus, got, most, now = EventBus(url), [], 0, 0
    together = asyncio.Event()

    @bus.on(OrderPlaced, durable="billing", concurrency=4)
    async def bill(event: OrderPlaced, received: Received):
        nonlocal most, now
        now += 1
        most = max(most, now)
        if now == 2:
            together.set()
        await asyncio.wait_for(together.wait(), 10)
        got.append((received.key, event.id))
        now -= 1

    async with bus:
        for number in range(6):
            await bus.publish(OrderPlaced(number), key="ab"[number % 2])
        await bus.work(until_empty=True)
    assert [number for key, number in got if key == "a"] == [0, 2, 4]
    assert [number for key, number in got if key == "b"] == [1, 3, 5]
    assert most == 2


async def test_of_two_processes_one_handles_an_event(url):
    got = []

    def bus():
        bus = EventBus(url, consume=True)

        @bus.on(OrderPlaced, durable="billing", start="beginning")
        async def bill(event: OrderPlaced):
            got.append(event.id)

        return bus

    async with bus() as first, bus():
        for number in range(20):
            await first.publish(OrderPlaced(number))
        await until(lambda: len(got) >= 20, what="the events")
    assert got == list(range(20))


async def test_when_the_one_that_handles_stops_another_goes_on(url):
    got = []

    def bus(name):
        bus = EventBus(url, consume=True)

        @bus.on(OrderPlaced, durable="billing", start="beginning")
        async def bill(event: OrderPlaced):
            got.append((name, event.id))

        return bus

    async with bus("first") as first:
        await first.publish(OrderPlaced(1))
        await until(lambda: got == [("first", 1)], what="the first event")
        second = bus("second")
        await second.start()
    await second.publish(OrderPlaced(2))
    await until(lambda: len(got) == 2, what="the second event")
    await second.stop()
    assert got == [("first", 1), ("second", 2)]


async def test_stopped_it_lets_the_handler_end(url):
    bus, got, begun = EventBus(url), [], asyncio.Event()

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced):
        begun.set()
        await asyncio.sleep(0.05)
        got.append(event.id)

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2)])
        working = asyncio.create_task(bus.work())
        await begun.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert got == [1]
        await bus.work(until_empty=True)
    assert got == [1, 2]


# Failures.


async def test_what_fails_is_tried_again_in_order(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing", retry=AT_ONCE)
    async def bill(event: OrderPlaced, received: Received):
        got.append((event.id, received.attempt))
        if event.id == 1 and received.attempt < 3:
            raise LookupError("not yet")

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2)])
        await bus.work(until_empty=True)
        assert [each async for each in bus.dead_letters("billing")] == []
    assert got == [(1, 1), (1, 2), (1, 3), (2, 1)]


async def test_what_fails_for_good_goes_to_the_dead_letters_and_the_rest_goes_on(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing", retry=AT_ONCE)
    async def bill(event: OrderPlaced):
        if event.id == 1:
            raise LookupError("no such customer")
        got.append(event.id)

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2)])
        await bus.work(until_empty=True)
        [letter] = [each async for each in bus.dead_letters("billing")]
    assert got == [2]
    assert letter.headers["type"] == "order.placed"
    assert msgspec.json.decode(letter.body) == {"id": 1, "total": "0"}
    assert (letter.attempts, letter.reason) == (3, "LookupError: no such customer")


async def test_dead_letters_can_be_tried_again_or_removed(url):
    bus, got, working = EventBus(url), [], False

    @bus.on(OrderPlaced, durable="billing", retry=Retry(attempts=1))
    async def bill(event: OrderPlaced):
        if not working:
            raise LookupError("down")
        got.append(event.id)

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2), OrderPlaced(3)])
        await bus.work(until_empty=True)
        first, second, _ = [each.position async for each in bus.dead_letters("billing")]
        working = True
        assert await bus.redrive("billing", second) == 1
        assert await bus.redrive("billing", second) == 0
        await bus.work(until_empty=True)
        assert got == [2]
        assert await bus.purge("billing", first) == 1
        assert await bus.redrive("billing") == 1
        await bus.work(until_empty=True)
        assert got == [2, 3]
        assert [each async for each in bus.dead_letters("billing")] == []


async def test_an_event_that_does_not_fit_is_not_tried_twice(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced):
        got.append(event)

    async with bus:
        for data in (b'{"id": "seven"}', b"no json", b""):
            await bus.publish(CloudEvent(type="order.placed", source="/x", data=data))
        await bus.work(until_empty=True)
        letters = [each async for each in bus.dead_letters("billing")]
    assert got == []
    assert [each.attempts for each in letters] == [1, 1, 1]
    assert "data.id" in letters[0].reason


async def test_a_record_that_is_no_event_stops_nobody(url):
    bus, got = EventBus(url), []

    @bus.on(">", durable="all")
    async def note(event):
        got.append(event)

    async with bus:
        await bus.log.append(bus.log_stream, b"\x00", headers={"hello": "x"})
        await bus.log.append(bus.log_stream, b"{}", headers={"type": "order.placed"})  # neither id nor source
        await bus.publish(OrderPlaced(1))
        await bus.work(until_empty=True)
        assert len([each async for each in bus.dead_letters("all")]) == 1
    assert got == [{"id": 1, "total": "0"}]


async def test_a_consumer_that_fell_behind_what_is_kept_says_so_and_is_moved_by_hand(url):
    bus, got = EventBus(url, retention=Retention(max_records=1)), []

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced):
        got.append(event.id)

    async with bus:
        await bus.publish(OrderPlaced(0))
        await bus.work(until_empty=True)
        await bus.publish_many([OrderPlaced(number) for number in range(1, 5)])
        await bus.log.trim(bus.log_stream)
        working = asyncio.create_task(bus.work())
        await until(lambda: bus._consumers[0].problem is not None, what="the gap")
        health = await bus.check()
        assert health.status is Status.DEGRADED
        assert "trimmed" in health.reason
        await bus.seek("billing", "beginning")
        await until(lambda: got == [0, 4], what="the rest")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert (await bus.check()).status is Status.UP


# Versions.


@event("profile.changed", version=3)
class ProfileChanged(msgspec.Struct):
    given_name: str
    family_name: str


async def test_an_old_event_is_raised_to_the_version_that_the_handler_takes(url):
    bus, got = EventBus(url), []

    @bus.upcast(ProfileChanged, from_version=1)
    def _(old):
        return {"name": old["n"]}

    @bus.upcast(ProfileChanged, from_version=2)
    def _(old):
        first, last = old["name"].split()
        return {"given_name": first, "family_name": last}

    @bus.on(ProfileChanged, durable="search")
    async def index(event: ProfileChanged):
        got.append(event)

    async with bus:
        await bus.publish(CloudEvent(type="profile.changed", source="/x", data=b'{"n": "Ada Lovelace"}'))
        await bus.publish(ProfileChanged("Grace", "Hopper"))
        newer = CloudEvent(type="profile.changed", source="/x", data=b"{}", extensions={"dataversion": "4"})
        await bus.publish(newer)
        await bus.work(until_empty=True)
        [letter] = [each async for each in bus.dead_letters("search")]
    assert got == [ProfileChanged("Ada", "Lovelace"), ProfileChanged("Grace", "Hopper")]
    assert "version 4" in letter.reason


# Looking back, and moving.


async def test_what_is_kept_can_be_read_again(url):
    clock = Clock()
    async with EventBus(url, clock=clock) as bus:
        await bus.publish(OrderPlaced(1))
        clock.advance(60)
        await bus.publish_many([OrderPaid(1), OrderPlaced(2)])
        everything = [each async for each in bus.events()]
        assert [each.event.type for each in everything] == ["order.placed", "order.paid", "order.placed"]
        since = [each async for each in bus.events("order.placed", since=datetime.fromtimestamp(clock.now, UTC))]
        assert [each.event.json() for each in since] == [{"id": 2, "total": "0"}]
        after = [each async for each in bus.events(OrderPaid, after=everything[0].position)]
        assert [each.event.json() for each in after] == [{"id": 1}]
        with pytest.raises(ConfigurationError, match="time zone"):
            _ = [each async for each in bus.events(since=datetime(2026, 1, 1))]  # noqa: DTZ001


async def test_a_consumer_can_be_sent_back(url):
    bus, got = EventBus(url), []

    @bus.on(OrderPlaced, durable="billing")
    async def bill(event: OrderPlaced):
        got.append(event.id)

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2)])
        await bus.work(until_empty=True)
        await bus.seek("billing", "beginning")
        await bus.work(until_empty=True)
        assert got == [1, 2, 1, 2]
        [state] = await bus.consumers()
        assert (state.name, state.behind, state.problem) == ("billing", 0, "")
        await bus.remove_consumer("billing")
        assert await bus.consumers() == []
        with pytest.raises(NotFound):
            await bus.remove_consumer("billing")


async def test_buses_of_different_names_do_not_see_each_other(url):
    async with EventBus(url, name="one") as one, EventBus(url, name="two") as two:
        await one.publish(OrderPlaced(1))
        assert [each async for each in two.events()] == []


# Registering.


def test_a_handler_that_the_bus_cannot_call_is_refused(url):
    bus = EventBus(url)

    async def takes_more(event: OrderPlaced, colour: str): ...

    async def takes_nothing(): ...

    async def takes_tx(event: OrderPlaced, tx): ...

    async def fine(event: OrderPlaced): ...

    for wrong, message in ((takes_more, "colour"), (takes_nothing, "takes no event"), (takes_tx, "once")):
        with pytest.raises(ConfigurationError, match=message):
            bus.on(OrderPlaced)(wrong)
    for events, options, message in (
        ((), {}, "no events"),
        (("order..x",), {}, "pattern"),
        ((dict,), {}, "no type of events"),
        ((OrderPlaced,), {"durable": "a/b"}, "slash"),
        ((OrderPlaced,), {"concurrency": 0}, "at least 1"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            bus.on(*events, **options)(fine)
    bus.on(OrderPlaced, durable="billing")(fine)
    with pytest.raises(ConfigurationError, match="already"):
        bus.on(OrderPlaced, durable="billing")(fine)


async def test_a_bus_without_handlers_does_not_work(url):
    async with EventBus(url) as bus:
        with pytest.raises(ConfigurationError, match="no handler"):
            await bus.work()
        with pytest.raises(ConfigurationError, match="started already"):
            bus.on(OrderPlaced)(lambda event: None)
