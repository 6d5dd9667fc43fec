"""What a saga promises, on every engine of the log."""

import asyncio
from itertools import count

import msgspec
import pytest

import database_servers
from consona import ConfigurationError, EventBus, Retry, SQLDatabase, Transaction, event
from consona.events.saga import SagaRun

_number = count()
ENGINES = {
    "memory": lambda folder: f"memory://sagas{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/bus.db?synchronous=OFF",
}
ONCE_MORE = Retry(attempts=2, backoff=0)


@event("order.placed")
class OrderPlaced(msgspec.Struct):
    id: int


@pytest.fixture(params=[*ENGINES, pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request, tmp_path):
    if request.param == "postgresql":
        with database_servers.quiet_postgresql() as url:
            yield url
    else:
        yield ENGINES[request.param](tmp_path)


def fulfilment(url, fails=(), did=None):
    """A bus with a saga of three steps, of which the first two can be undone; those named in `fails` raise."""
    bus = EventBus(url)
    saga = bus.saga("fulfil", OrderPlaced)
    did = [] if did is None else did

    def do(name):
        did.append(name)
        if name in fails:
            raise LookupError(f"no {name}")

    @saga.step(retry=ONCE_MORE)
    async def reserve(order: OrderPlaced, run: SagaRun):
        do("reserve")
        return {"shelf": order.id, "key": run.key("reserve")}

    @saga.undo(reserve, retry=ONCE_MORE)
    async def release(order: OrderPlaced, run: SagaRun):
        do(f"release {run.values['reserve']['shelf']}")

    @saga.step(retry=ONCE_MORE)
    def charge(order: OrderPlaced):
        do("charge")

    @saga.undo(charge, retry=ONCE_MORE)
    async def refund(order: OrderPlaced):
        do("refund")

    @saga.step(retry=ONCE_MORE)
    async def ship(order: OrderPlaced):
        do("ship")

    return bus, saga, did


async def ended(bus, saga):
    async with bus:
        name = await bus.publish(OrderPlaced(7))
        await bus.work(until_empty=True)
        return await saga.run(name), [letter async for letter in bus.dead_letters("saga.fulfil")]


async def test_all_steps_are_done_in_order(url):
    bus, saga, did = fulfilment(url)
    run, letters = await ended(bus, saga)
    assert did == ["reserve", "charge", "ship"]
    assert (run.status, letters) == ("done", [])
    assert [(step.name, step.status) for step in run.steps] == [
        ("reserve", "done"),
        ("charge", "done"),
        ("ship", "done"),
    ]
    assert run.values == {"reserve": {"shelf": 7, "key": f"fulfil/{run.id}/reserve"}}


async def test_what_was_done_is_undone_backwards_where_a_later_step_fails(url):
    bus, saga, did = fulfilment(url, fails={"ship"})
    run, letters = await ended(bus, saga)
    assert did == ["reserve", "charge", "ship", "ship", "refund", "release 7"]
    assert (run.status, letters) == ("undone", [])
    assert [(step.name, step.status) for step in run.steps] == [
        ("reserve", "undone"), ("charge", "undone"), ("ship", "failed"),
    ]  # fmt: skip
    assert run.steps[2].error == "LookupError: no ship"


async def test_an_error_that_is_not_worth_another_try_ends_the_run_at_once(url):
    bus = EventBus(url)
    saga, tries = bus.saga("fulfil", OrderPlaced), []

    @saga.step(retry=Retry(attempts=5, retry_if=lambda error: not isinstance(error, PermissionError)))
    async def reserve(order: OrderPlaced):
        tries.append(order.id)
        raise PermissionError

    run, _ = await ended(bus, saga)
    assert (run.status, tries) == ("undone", [7])


async def test_what_cannot_be_undone_is_told_and_tried_again_when_asked(url):
    fails = {"ship", "refund"}
    bus, saga, did = fulfilment(url, fails=fails)
    async with bus:
        name = await bus.publish(OrderPlaced(7))
        await bus.work(until_empty=True)
        run = await saga.run(name)
        assert run.status == "stuck"
        assert run.steps[1].error == "LookupError: no refund"
        [letter] = [letter async for letter in bus.dead_letters("saga.fulfil")]
        assert "charge" in letter.reason
        assert did == ["reserve", "charge", "ship", "ship", "refund", "refund"]
        fails.clear()
        assert await bus.redrive("saga.fulfil") == 1
        await bus.work(until_empty=True)
        assert did[6:] == ["refund", "release 7"]
        assert (await saga.run(name)).status == "undone"
        assert [each.id async for each in saga.runs()] == [name]


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("fails", [False, True], ids=["all goes well", "the last step fails"])
async def test_killed_at_any_write_it_ends_as_if_nothing_had_happened(tmp_path, fails):
    bus_url, db_url = f"sqlite:///{tmp_path}/bus.db?synchronous=OFF", f"sqlite:///{tmp_path}/shop.db?synchronous=OFF"

    def fulfil(db):
        bus = EventBus(bus_url)
        saga = bus.saga("fulfil", OrderPlaced)

        @saga.step(once=db)
        async def reserve(order: OrderPlaced, tx: Transaction):
            await tx.execute("UPDATE stock SET items = items - 1")

        @saga.undo(reserve, once=db)
        async def release(order: OrderPlaced, tx: Transaction):
            await tx.execute("UPDATE stock SET items = items + 1")

        @saga.step(once=db)
        async def charge(order: OrderPlaced, tx: Transaction):
            await tx.execute("UPDATE account SET euros = euros - 5")

        @saga.undo(charge, once=db)
        async def refund(order: OrderPlaced, tx: Transaction):
            await tx.execute("UPDATE account SET euros = euros + 5")

        @saga.step(retry=ONCE_MORE)
        async def ship(order: OrderPlaced):
            if fails:
                raise LookupError

        return bus, saga

    async with SQLDatabase(db_url) as db:
        await db.execute_script("CREATE TABLE stock (items); CREATE TABLE account (euros);")
        await db.execute("INSERT INTO stock VALUES (10)")
        await db.execute("INSERT INTO account VALUES (100)")
        ids, deaths = [], 0
        for writes in (*range(14), 1000):
            bus, saga = fulfil(db)
            async with bus:
                await bus.store.delete("lease/saga.fulfil")  # of the one before, whose time would have to end
                ids.append(await bus.publish(OrderPlaced(writes)))
                engine, left = bus.store.engine, [writes]

                class Dying:
                    def __init__(self, engine, left):
                        self.engine, self.left = engine, left

                    def __getattr__(self, name):
                        return getattr(self.engine, name)

                    async def put_if(self, key, value, **options):
                        if "lease" not in key:
                            self.left[0] -= 1
                            if self.left[0] < 0:
                                raise Killed
                        return await self.engine.put_if(key, value, **options)

                bus.store.engine = Dying(engine, left)
                try:
                    await bus.work(until_empty=True)
                except (Killed, BaseExceptionGroup):
                    deaths += 1
                bus.store.engine = engine
        bus, saga = fulfil(db)
        async with bus:
            runs = [(await saga.run(each)).status for each in ids]
        assert deaths > 8
        assert runs == ["undone" if fails else "done"] * len(ids)
        left_over = 0 if fails else len(ids)
        assert await db.fetch_value("SELECT items FROM stock") == 10 - left_over
        assert await db.fetch_value("SELECT euros FROM account") == 100 - 5 * left_over


async def test_runs_go_on_at_the_same_time(url):
    bus = EventBus(url)
    saga, together = bus.saga("fulfil", OrderPlaced, concurrency=3), asyncio.Barrier(3)

    @saga.step
    async def meet(order: OrderPlaced):
        async with asyncio.timeout(10):
            await together.wait()

    async with bus:
        await bus.publish_many([OrderPlaced(1), OrderPlaced(2), OrderPlaced(3)])
        await bus.work(until_empty=True)
        assert [run.status async for run in saga.runs()] == ["done"] * 3


def test_what_makes_no_sense_is_refused(url):
    saga = EventBus(url).saga("fulfil", OrderPlaced)

    async def takes_more(order: OrderPlaced, colour: str): ...

    async def takes_tx(order: OrderPlaced, tx): ...

    async def fine(order: OrderPlaced): ...

    for wrong in (takes_more, takes_tx, lambda: None):
        with pytest.raises(ConfigurationError, match="does not know"):
            saga.step(wrong)
    with pytest.raises(ConfigurationError, match="no step"):
        saga.undo(fine)(fine)
    saga.step(fine)
    with pytest.raises(ConfigurationError, match="already"):
        saga.step(fine)
    saga.undo(fine)(fine)
    with pytest.raises(ConfigurationError, match="could be undone"):
        saga.undo(fine)(fine)
