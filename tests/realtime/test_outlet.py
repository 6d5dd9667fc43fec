import asyncio

import pytest

from consona.errors import ConfigurationError
from consona.realtime.outlet import Counters, Outlet, SlowClients
from processes import until


class Client:
    """A connection that takes what is sent while it is `open`."""

    def __init__(self, **slow):
        self.got = []
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False
        self.closed = 0
        self.counters = Counters()
        self.outlet = Outlet(
            self.send,
            slow=SlowClients(**slow),
            counters=self.counters,
            too_slow=self.too_slow,
            gap=lambda channel: f"gap in {channel}",
        )

    async def send(self, message):
        await self.open.wait()
        if self.gone:
            raise OSError
        self.got.append(message)

    def too_slow(self):
        self.closed += 1


class Steady(Client):
    """One whose `send` is known to be steady: it is begun without a task."""


Steady.__module__ = "consona.tests"


@pytest.fixture(params=[Client, Steady])
def kind(request):
    return request.param


async def test_a_quick_client_gets_all_in_order(kind):
    client = kind()
    for n in range(20):
        client.outlet.put(n, "tea")
    await client.outlet.flush()
    assert client.got == list(range(20))
    assert client.counters.sent == 20
    assert client.counters.dropped == 0


async def test_what_goes_out_at_once_needs_no_task():
    client = Steady()
    client.outlet.put(1, "tea")
    assert client.got == [1]
    assert client.outlet.task is None


async def test_a_client_that_was_slow_gets_all_that_its_queue_holds(kind):
    client = kind(queue=10)
    client.open.clear()
    for n in range(10):
        client.outlet.put(n, "tea")
    assert client.got == []
    assert client.outlet.waiting == 9
    client.open.set()
    await client.outlet.flush()
    assert client.got == list(range(10))
    assert client.outlet.task is None
    client.outlet.put("more", "tea")
    await client.outlet.flush()
    assert client.got[-1] == "more"


async def test_a_slow_client_loses_the_oldest_and_is_told_before_it_gets_more(kind):
    client = kind(queue=3)
    client.open.clear()
    for n in range(10):
        client.outlet.put(n, "tea")
    client.open.set()
    await client.outlet.flush()
    assert client.got == [0, "gap in tea", 7, 8, 9]
    assert client.counters.dropped == 6


async def test_answers_are_never_dropped(kind):
    client = kind(queue=2)
    client.open.clear()
    client.outlet.put("first")
    for n in range(5):
        client.outlet.put(n, "tea")
        client.outlet.put(f"answer {n}")
    client.open.set()
    await client.outlet.flush()
    assert [each for each in client.got if str(each).startswith("answer")] == [f"answer {n}" for n in range(5)]


async def test_a_slow_client_is_disconnected_where_that_is_the_policy(kind):
    client = kind(policy="disconnect", queue=3)
    client.open.clear()
    for n in range(10):
        client.outlet.put(n, "tea")
    assert client.closed == client.counters.disconnected == 1
    await client.outlet.close()
    assert client.got == []


async def test_a_client_that_has_gone_is_sent_nothing_more(kind):
    client = kind()
    client.gone = True
    client.outlet.put(1, "tea")
    await until(lambda: client.outlet.closed)
    client.outlet.put(2, "tea")
    assert client.outlet.task is None


async def test_closing_ends_what_waits(kind):
    client = kind()
    client.open.clear()
    client.outlet.put(1, "tea")
    await client.outlet.close()
    client.open.set()
    assert client.outlet.task is None
    assert client.got == []


@pytest.mark.parametrize("wrong", [{"policy": "wait"}, {"queue": 0}])
def test_a_policy_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        SlowClients(**wrong)
