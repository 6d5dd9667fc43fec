"""What figures over streams of events promise, on every engine of the log."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count as counting

import msgspec
import pytest

import database_servers
from consona import EventBus, event
from consona.errors import ConfigurationError
from consona.events import consumer
from consona.events.aggregates import count, distinct, largest, mean, percentile, smallest, total
from storage_tools import until

_number = counting()
ENGINES = {
    "memory": lambda folder: f"memory://streams{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/bus.db?synchronous=OFF",
}
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@event("order.placed")
class OrderPlaced(msgspec.Struct):
    item: str
    price: Decimal
    minute: float = 0


def placed(minute, item="tea", price=1):
    return OrderPlaced(item, Decimal(price), minute)


def its_time(order):
    return NOON + timedelta(minutes=order.minute)


@pytest.fixture(params=[*ENGINES, pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request, tmp_path):
    if request.param == "postgresql":
        with database_servers.quiet_postgresql() as url:
            yield url
    else:
        yield ENGINES[request.param](tmp_path)


def shown(result):
    begin = (result.start - NOON) / timedelta(minutes=1)
    return result.key, begin, (result.end - NOON) / timedelta(minutes=1), result.values


async def results(view, key=None):
    return [shown(each) async for each in view.results(key)]


async def worked(bus, *events):
    await bus.publish_many(events)
    await bus.work(until_empty=True)


async def test_each_key_has_its_figures_for_each_window(url):
    bus, got = EventBus(url), []
    sales = (
        bus.stream(OrderPlaced)
        .filter(lambda order: order.price > 0)
        .key_by(lambda order: order.item)
        .window(minutes=5)
        .aggregate("sales", time=its_time, orders=count(), revenue=total(lambda order: order.price))
    )

    @sales.on_result
    async def note(result):
        got.append(shown(result))

    async with bus:
        await worked(bus, placed(0), placed(4.9, price="0.10"), placed(1, "milk", 3), placed(2, price=0), placed(5))
        assert sorted(got) == [("milk", 0, 5, {"orders": 1, "revenue": Decimal(3)}),
                               ("tea", 0, 5, {"orders": 2, "revenue": Decimal("1.10")})]  # fmt: skip
        [open_one] = await sales.open_windows()
        assert shown(open_one) == ("tea", 5, 10, {"orders": 1, "revenue": Decimal(1)})
        await worked(bus, placed(60))
        assert await results(sales, "tea") == [
            ("tea", 0, 5, {"orders": 2, "revenue": "1.10"}),
            ("tea", 5, 10, {"orders": 1, "revenue": "1"}),
        ]
        assert len(await results(sales)) == 3


async def test_windows_can_slide(url):
    bus = EventBus(url)
    sliding = bus.stream(OrderPlaced).window(minutes=10, every=300).aggregate("slide", time=its_time, n=count())
    async with bus:
        await worked(bus, placed(7), placed(60))
        assert await results(sliding) == [("", 0, 10, {"n": 1}), ("", 5, 15, {"n": 1})]


async def test_a_session_ends_with_a_gap_and_grows_together_with_another(url):
    bus = EventBus(url)
    visits = bus.stream(OrderPlaced).session(gap=600).aggregate("visits", time=its_time, lateness=3600, n=count())
    async with bus:
        await worked(bus, placed(0), placed(15), placed(30), placed(8))
        assert [shown(each) for each in await visits.open_windows()] == [
            ("", 0, 25, {"n": 3}),
            ("", 30, 40, {"n": 1}),
        ]
        await worked(bus, placed(200))
        assert await results(visits) == [("", 0, 25, {"n": 3}), ("", 30, 40, {"n": 1})]


async def test_what_comes_out_of_order_is_waited_for_and_what_comes_too_late_is_told(url):
    bus, late = EventBus(url), []
    patient = bus.stream(OrderPlaced).window(minutes=5).aggregate("patient", time=its_time, lateness=120, n=count())

    @patient.on_late
    async def note(order, received):
        late.append(order.minute)

    async with bus:
        await worked(bus, placed(1), placed(6), placed(2), placed(7), placed(3), placed(8))
        assert await results(patient) == [("", 0, 5, {"n": 2})]
    assert late == [3]
    assert patient.late == 1


async def test_all_figures(url):
    bus = EventBus(url)
    price = lambda order: order.price
    figures = (
        bus.stream("order.*")
        .map(lambda order: OrderPlaced(order["item"], Decimal(order["price"]), order["minute"]))
        .window(days=1)
        .aggregate(
            "all", time=its_time, n=count(), sum=total(price), mean=mean(price), least=smallest(price),
            most=largest(price), median=percentile(0.5, price), items=distinct(lambda order: order.item),
        )
    )  # fmt: skip
    async with bus:
        await worked(bus, *(placed(n / 100, f"item {n % 7}", n) for n in range(1, 101)))
        [result] = [shown(each)[3] for each in await figures.open_windows()]
    assert result.pop("median") == pytest.approx(50, rel=0.02)
    assert result == {"n": 100, "sum": 5050, "mean": 50.5, "least": 1, "most": 100, "items": 7}


async def test_many_different_values_are_counted_within_some_percent(url):
    aggregate = distinct(lambda value: value)
    one, other = aggregate.zero(), aggregate.zero()
    for number in range(20_000):
        one = aggregate.add(one, number)
        if number < 200:
            other = aggregate.add(other, number + 10**6)
    assert aggregate.result(one) == pytest.approx(20_000, rel=0.06)
    assert aggregate.result(other) == 200
    merged = aggregate.merge(one, other)
    assert merged == aggregate.merge(other, one)
    assert aggregate.result(merged) == pytest.approx(20_200, rel=0.06)
    assert aggregate.result(aggregate.merge(one, one)) == aggregate.result(one)


async def test_percentiles_are_within_one_percent_of_a_value_that_was_there():
    values = [random.Random(7).lognormvariate(0, 3) * sign for sign in (1, -1) for _ in range(500)] + [0.0]
    aggregate = percentile(0.9, lambda value: value)
    state = aggregate.zero()
    for value in values:
        state = aggregate.add(state, value)
    assert aggregate.result(state) == pytest.approx(sorted(values)[int(0.9 * 1000)], rel=0.0101)


async def test_what_the_figures_cannot_take_goes_to_the_dead_letters(url):
    bus = EventBus(url)
    sums = bus.stream(OrderPlaced).window(days=1).aggregate("sums", time=its_time, n=total(lambda order: order.item))
    async with bus:
        await worked(bus, placed(0, "7"), placed(1, "seven"), placed(2, "nan"), placed(3, "8"))
        assert [letter.attempts async for letter in bus.dead_letters("sums")] == [1, 1]
        assert [shown(each)[3] for each in await sums.open_windows()] == [{"n": Decimal(15)}]


def view_of(url):
    """A bus with a view."""
    bus = EventBus(url)
    view = (
        bus.stream(OrderPlaced)
        .key_by(lambda order: order.item)
        .window(minutes=5)
        .aggregate("sales", time=its_time, start="beginning", n=count(), sum=total(lambda order: order.price))
    )
    return bus, view


class Killed(BaseException):
    """As if the process had ended here."""


async def test_killed_at_any_write_it_goes_on_with_the_same_results(tmp_path, monkeypatch):
    """Killed before the first write, the second, … of each run, until one gets through: the results are the same."""
    monkeypatch.setattr(consumer, "PAGE", 7)  # so that windows are filled by several pages
    chance = random.Random(5)
    orders = [placed(n / 2 + chance.choice([0, 0, -4]), chance.choice("abcdefg"), n) for n in range(80)]

    async def expected():
        bus, view = view_of("memory://expected")
        async with bus:
            for order in orders:
                await bus.publish(order)
            await bus.work(until_empty=True)
            return await results(view), [shown(each) for each in await view.open_windows()]

    async def run(url, writes):
        """Work, and die before that many writes; True when it got through."""
        bus, _ = view_of(url)
        async with bus:
            await bus.store.delete("lease/sales")  # of the one before, whose time would have to end
            engine, left = bus.store.engine, [writes]

            class Dying:
                def __getattr__(self, name):
                    return getattr(engine, name)

                async def put_if(self, key, value, **options):
                    if "lease" not in key:
                        left[0] -= 1
                        if left[0] < 0:
                            raise Killed
                    return await engine.put_if(key, value, **options)

            bus.store.engine = Dying()
            try:
                await bus.work(until_empty=True)
            except (Killed, BaseExceptionGroup):
                return False
            finally:
                bus.store.engine = engine
            return True

    wanted = await expected()
    url = f"sqlite:///{tmp_path}/bus.db?synchronous=OFF"
    bus, view = view_of(url)
    async with bus:
        for order in orders:
            await bus.publish(order)
    deaths = 0
    for writes in (*range(40), 10_000):
        deaths += not await run(url, writes)
    assert deaths > 5
    bus, view = view_of(url)
    async with bus:
        assert (await results(view), [shown(each) for each in await view.open_windows()]) == wanted


async def test_it_can_be_computed_anew(url):
    bus, view = view_of(url)
    async with bus:
        await worked(bus, *(placed(n) for n in range(12)))
        before = await results(view)
        await bus.seek("sales", "beginning")
        await bus.work(until_empty=True)
        assert await results(view) == before
        assert len(before) == 2


async def test_a_result_that_cannot_be_handled_is_given_again(url):
    bus, view = view_of(url)
    got = []

    @view.on_result
    async def show(result):
        got.append(shown(result)[:2])
        if len(got) == 1:
            raise LookupError("the screen is away")

    async with bus:
        await bus.publish_many([placed(0), placed(6)])
        working = asyncio.create_task(bus.work())
        await until(lambda: len(got) == 2, what="the second try")
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    assert got == [("tea", 0), ("tea", 0)]


def test_what_makes_no_sense_is_refused(url):
    stream = EventBus(url).stream(OrderPlaced)
    for wrong in (
        stream.window,
        lambda: stream.window(minutes=-1),
        lambda: stream.window(minutes=1, every=61),
        lambda: stream.window(minutes=1, every=0),
        lambda: stream.session(0),
        lambda: stream.window(minutes=1).aggregate("x"),
        lambda: stream.window(minutes=1).aggregate("x", n=count(), lateness=-1),
        lambda: stream.window(minutes=1).aggregate("x", n=count(), keep=0),
        lambda: percentile(1.1, len),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
    stream.window(minutes=1).aggregate("taken", n=count())
    with pytest.raises(ConfigurationError, match="taken"):
        stream.window(minutes=1).aggregate("taken", n=count())
