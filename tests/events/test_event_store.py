"""Streams of events with a version: on SQLite, PostgreSQL and MariaDB."""

import asyncio
from dataclasses import dataclass

import msgspec
import pytest

from consona import CloudEvent, ConfigurationError, Conflict, EventBus, SQLDatabase, ValidationError, event
from consona.events.event_store import EventStore
from sql_engines import ENGINES


@event("account.opened")
class Opened(msgspec.Struct):
    owner: str


@event("account.paid_in", version=2)
@dataclass
class PaidIn:
    cents: int


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.servers if ENGINES[name].servers else ()) for name in ENGINES]
)
async def db(request, tmp_path):
    async with ENGINES[request.param].new(tmp_path) as url, SQLDatabase(url) as db:
        yield db


@pytest.fixture
async def store(db):
    async with EventStore(db, types=[Opened, PaidIn]) as store:
        yield store


def balance(cents, happened):
    return cents + happened.cents if isinstance(happened, PaidIn) else cents


async def test_events_come_back_as_their_types_in_order(store):
    assert await store.append("account-7", [Opened("Ada"), PaidIn(500)], expected_version=0) == 2
    assert await store.append("account-7", [PaidIn(250)], expected_version=2) == 3
    await store.append("account-8", [Opened("Bob")], expected_version=0)
    found = await store.read("account-7")
    assert [(each.version, each.data) for each in found] == [(1, Opened("Ada")), (2, PaidIn(500)), (3, PaidIn(250))]
    assert [each.version for each in await store.read("account-7", after=1, limit=1)] == [2]
    assert await store.fold("account-7", balance, 0) == (750, 3)
    assert await store.fold("account-9", balance, 0) == (0, 0)
    assert (await store.version("account-7"), await store.version("account-9")) == (3, 0)
    assert [(each.stream, each.version) async for each in store.all()] == [
        ("account-7", 1), ("account-7", 2), ("account-7", 3), ("account-8", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_who_has_not_seen_the_newest_writes_nothing(store, expected):
    await store.append("account-7", [Opened("Ada"), PaidIn(500)], expected_version=0)
    with pytest.raises(Conflict, match="version 2"):
        await store.append("account-7", [PaidIn(1)], expected_version=expected)
    assert await store.fold("account-7", balance, 0) == (500, 2)
    assert await store.append("account-7", [PaidIn(1)], expected_version=None) == 3


async def test_of_many_who_decide_at_once_one_is_first(store):
    await store.append("account-7", [Opened("Ada")], expected_version=0)

    async def pay_in(cents):
        try:
            await store.append("account-7", [PaidIn(cents), PaidIn(cents)], expected_version=1)
        except Conflict:
            return 0
        return 2 * cents

    paid = await asyncio.gather(*(pay_in(cents) for cents in range(1, 11)))
    assert sum(map(bool, paid)) == 1
    assert await store.fold("account-7", balance, 0) == (sum(paid), 3)


async def test_who_does_not_care_is_never_refused(store):
    await asyncio.gather(*(store.append("account-7", [PaidIn(1)], expected_version=None) for _ in range(8)))
    assert await store.fold("account-7", balance, 0) == (8, 8)


async def test_it_appends_with_the_rest_of_a_transaction_and_tells_the_bus(db, tmp_path):
    async with (
        EventBus(f"sqlite:///{tmp_path}/bus.db?synchronous=OFF", outbox=[db]) as bus,
        EventStore(db, types=[Opened], bus=bus) as store,
    ):
        with pytest.raises(LookupError):
            async with db.transaction() as tx:
                await store.append("account-7", [Opened("Eve")], expected_version=0, tx=tx)
                raise LookupError
        async with db.transaction() as tx:
            await store.append("account-7", [Opened("Ada")], expected_version=0, tx=tx)
        assert [each.data for each in await store.read("account-7")] == [Opened("Ada")]
        async with asyncio.timeout(20):
            while not (told := [each async for each in bus.events()]):
                await asyncio.sleep(0.01)
        assert [(each.event.subject, each.key, each.event.json()) for each in told] == [
            ("account-7", "account-7", {"owner": "Ada"})
        ]


async def test_old_versions_are_raised_and_unknown_types_are_plain_data(store):
    store.upcasters.add(PaidIn, 1, lambda old: {"cents": old["euros"] * 100})
    old = CloudEvent(type="account.paid_in", source="/x", data=b'{"euros": 5}')
    await store.append("account-7", [old, CloudEvent(type="other", source="/x", data=b"[1]")], expected_version=0)
    assert [each.data for each in await store.read("account-7")] == [PaidIn(500), [1]]


async def test_what_cannot_be_appended_is_refused(store):
    for stream, events in (("", [Opened("Ada")]), ("x" * 201, [Opened("Ada")]), ("s", []), ("s", [PaidIn(1)] * 1001)):
        with pytest.raises(ValidationError):
            await store.append(stream, events, expected_version=0)
    with pytest.raises(ConfigurationError):
        await store.append("s", [{"owner": "Ada"}], expected_version=0)


def test_two_classes_of_one_name_are_refused():
    @event("account.opened")
    class Other(msgspec.Struct):
        pass

    with pytest.raises(ConfigurationError, match=r"account\.opened"):
        EventStore(SQLDatabase("sqlite://x"), types=[Opened, Other])
