"""One connection listens for everybody, and says when it was away."""

import asyncio

import pytest

from consona.storage.postgresql.notifications import Notifications
from storage_tools import until

pytestmark = pytest.mark.servers


class Heard:
    def __init__(self):
        self.messages, self.states = [], []

    async def on(self, engine, channel):
        return await engine.notifications.listen(channel, self.messages.append, self.states.append)


@pytest.fixture
def heard():
    return Heard()


async def test_a_message_reaches_all_who_listen_on_its_channel(engine, heard):
    others, elsewhere = Heard(), Heard()
    await heard.on(engine, "orders")
    await others.on(engine, "orders")
    await elsewhere.on(engine, "customers")
    await engine.notify("orders", "7")
    await until(lambda: heard.messages and others.messages)
    assert (heard.messages, others.messages, elsewhere.messages) == (["7"], ["7"], [])
    assert heard.states == [True]


async def test_a_message_of_a_transaction_comes_when_it_commits(engine, heard):
    await heard.on(engine, "orders")
    async with engine.transaction() as tx:
        await tx.ask("SELECT pg_notify('orders', 'in it')")
        await engine.notify("orders", "beside it")
        await until(lambda: heard.messages)
    await until(lambda: len(heard.messages) == 2)
    assert heard.messages == ["beside it", "in it"]


async def test_who_stopped_hears_nothing_more(engine, heard):
    stop = await heard.on(engine, "orders")
    other = Heard()
    await other.on(engine, "orders")
    await stop()
    await engine.notify("orders", "7")
    await until(lambda: other.messages)
    assert heard.messages == []
    assert engine.notifications.stats()["channels"] == 1


async def test_a_channel_may_have_any_name(engine, heard):
    await heard.on(engine, 'Orders of "today"; DROP TABLE pets')
    await engine.notify('Orders of "today"; DROP TABLE pets', "7")
    await until(lambda: heard.messages)


async def test_a_listener_that_fails_does_not_disturb_the_others(engine, heard, caplog):
    def fail(_):
        raise LookupError

    await engine.notifications.listen("orders", fail)
    await heard.on(engine, "orders")
    await engine.notify("orders", "7")
    await until(lambda: heard.messages)
    assert "listener on 'orders' failed" in caplog.text


async def test_a_broken_connection_is_told_and_mended(shaky, network, engine, heard):
    await heard.on(shaky, "orders")
    network.cut()
    await until(lambda: heard.states == [True, False, True])
    await engine.notify("orders", "after")
    await until(lambda: heard.messages == ["after"])
    assert shaky.notifications.stats()["reconnects"] == 1


async def test_a_black_hole_is_noticed_by_the_heartbeat(network, engine, heard):
    from consona.address import Address
    from consona.storage.postgresql.connections import PostgreSQLDriver
    from consona.storage.postgresql.settings import PostgreSQLSettings

    driver = PostgreSQLDriver(Address.parse(network.url), PostgreSQLSettings())
    notifications = Notifications(driver, heartbeat_s=0.05)
    await notifications.listen("orders", heard.messages.append, heard.states.append)
    network.stall()
    await until(lambda: heard.states == [True, False])
    network.flow()
    await until(lambda: heard.states == [True, False, True])
    await notifications.close()


async def test_who_cannot_listen_is_told(network, shaky, heard):
    from consona.errors import ConnectError

    network.refuse()
    with pytest.raises(ConnectError):
        await heard.on(shaky, "orders")
    network.flow()
    await heard.on(shaky, "orders")
    assert heard.states == [True]


async def test_listening_and_stopping_at_once_by_many_is_safe(engine):
    heard = [Heard() for _ in range(30)]

    async def listen(one, number):
        stop = await one.on(engine, f"channel {number % 3}")
        await asyncio.sleep(0)
        if number % 2:
            await stop()

    await asyncio.gather(*(listen(one, number) for number, one in enumerate(heard)))
    for number in range(3):
        await engine.notify(f"channel {number}", "x")
    await until(lambda: all(one.messages == ["x"] for number, one in enumerate(heard) if number % 2 == 0))
