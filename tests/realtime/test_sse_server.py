"""A server of events, listened to over a socket."""

import asyncio
import json
from itertools import count

import aiohttp
import pytest

from consona import APIServer
from consona.errors import PermissionDenied, ValidationError
from consona.realtime.channels import Channels, Kept
from consona.realtime.settings import RealtimeSettings
from consona.realtime.sse_server import SSEServer
from consona.rest.server.listener import Listener
from event_source import listening
from processes import until

_number = count()


def new(**options):
    return SSEServer("/events", **{"channels": f"memory://events{next(_number)}", **options})


@pytest.fixture
async def news():
    news = new()
    async with Listener(news, port=0) as listener:
        news.url = f"{listener.url}/events"
        yield news


async def there(news, number):
    await until(
        lambda: len(news.clients) == number and all(not c.held and c.held is None for c in news.clients.values())
    )


async def test_all_who_listen_get_an_event_with_its_name_data_and_id(news):
    async with listening(f"{news.url}?channel=orders") as ada, listening(f"{news.url}?channel=orders") as bob:
        await there(news, 2)
        position = await news.send("order", {"id": 7}, channel="orders")
        for each in (ada, bob):
            assert await each.json() == ("order", {"id": 7})
            assert each.last_id == position


async def test_who_names_no_channel_listens_to_all(news):
    async with listening(news.url) as ada:
        await there(news, 1)
        await news.send("order", 1)
        assert await ada.json() == ("order", 1)


async def test_a_listener_that_comes_back_gets_all_it_missed_once_and_in_order(news):
    async with listening(f"{news.url}?channel=a&channel=b") as ada:
        await there(news, 1)
        await news.send("n", 0, channel="a")
        assert await ada.json() == ("n", 0)
        seen = ada.last_id
    for n in range(1, 9):
        await news.send("n", n, channel="ab"[n % 2])
    async with listening(f"{news.url}?channel=a&channel=b", last_id=seen) as ada:
        await news.send("n", 9, channel="a")
        assert [await ada.json() for _ in range(9)] == [("n", n) for n in range(1, 10)]
    async with listening(f"{news.url}?channel=a&channel=b&after={seen}") as ada:
        assert await ada.json() == ("n", 1)


async def test_a_gap_is_told_once():
    news = new(channels=Channels(f"memory://gap{next(_number)}", keep=Kept(per_channel=2)))
    async with Listener(news, port=0) as listener:
        url = f"{listener.url}/events?channel=a"
        first = await news.send("n", 0, channel="a")
        last = [await news.send("n", n, channel="a") for n in range(1, 6)][-1]
        await news.channels.reached(last)
        async with listening(url, last_id=first) as ada:
            assert (await ada.json())[0] == "gap"
            seen = ada.last_id
        async with listening(url, last_id=seen) as ada:
            await news.send("n", 6, channel="a")
            assert await ada.json() == ("n", 6)
        async with listening(url, last_id="forged") as ada:
            assert (await ada.json())[0] == "gap"


async def test_wrapped_events_say_of_which_channel_they_are(news):
    async with listening(f"{news.url}?channel=a&channel=b&wrapped=1") as ada:
        await there(news, 1)
        position = await news.send("n", [1], channel="b")
        assert await ada.json() == ("message", {"channel": "b", "position": position, "event": "n", "data": [1]})


@pytest.mark.parametrize("data", ["a\nid: 1\nevent: x\n\ndata: y", "a\r\rb", "\r\n\r\n", "\x00", "é\u2028😀", "", ":"])
async def test_data_cannot_become_a_field(news, data):
    async with listening(news.url) as ada:
        await there(news, 1)
        await news.send("text", data)
        await news.send("after", 1)
        assert await ada.json() == ("text", data)
        assert await ada.json() == ("after", 1)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b", "x" * 201])
async def test_names_that_would_become_fields_are_refused(news, name):
    with pytest.raises(ValidationError):
        await news.send(name, 1)
    with pytest.raises(ValidationError):
        await news.send("n", 1, channel=name)


async def test_channels_that_are_not_declared_may_not_be_listened_to():
    news = new()
    news.channel("orders")

    @news.on_join("orders.{owner}")
    async def check(owner):
        if owner != "ada":
            raise PermissionDenied("This is not yours.")

    async with news.test_client() as client:
        for query, status in (
            ("?channel=secret", 403), ("?channel=orders&channel=orders.bob", 403), ("", 422), ("?channel=", 422),
            ("?channel=%0a", 422), ("?" + "&".join(f"channel={n}" for n in range(101)), 429),
        ):  # fmt: skip
            answer = await client.get(f"/events/poll{query}", raise_for_status=False)
            assert answer.status == status
        assert (await client.get("/events/poll?channel=orders&channel=orders.ada")).status == 200


async def test_polling_gets_what_was_missed_or_waits(news):
    async with aiohttp.ClientSession() as session:

        async def poll(after="", wait=20):
            url = f"{news.url}/poll?channel=a&channel=b&wait={wait}&after={after}"
            async with session.get(url) as response:
                assert response.status == 200
                return await response.json()

        begin = (await poll())["position"]
        for n in range(4):
            await news.send("n", n, channel="ab"[n % 2])
        found = await poll(begin)
        while len(found["messages"]) < 4:  # the first may have come alone
            found = await poll(begin)
        assert [message["data"] for message in found["messages"]] == [0, 1, 2, 3]
        assert found["gap"] == []
        waiting = asyncio.create_task(poll(found["position"]))
        await until(lambda: news.channels.subscribers("b") == 1)
        await news.send("late", 4, channel="b")
        late = await waiting
        assert [(message["event"], message["data"]) for message in late["messages"]] == [("late", 4)]
        nothing = await poll(late["position"], wait=0)
        assert (nothing["messages"], nothing["gap"]) == ([], [])
        assert (await poll("forged", wait=0))["gap"] == ["a", "b"]
    assert news.channels.names() == []


async def test_when_it_stops_listeners_are_told_to_come_back_later_and_the_stream_ends():
    news = new()
    async with Listener(news, port=0) as listener:
        url = f"{listener.url}/events"
        async with listening(url) as ada:
            await there(news, 1)
            news.begin_drain()
            with pytest.raises(EOFError):
                await ada.next()
            assert 0 <= ada.retry <= 10_000


async def test_it_is_mounted_in_an_api_server():
    news, api = new(), APIServer("shop")
    api.mount("/events", news)
    async with Listener(api, port=0) as listener, listening(f"{listener.url}/events?channel=a") as ada:
        await there(news, 1)
        await news.send("n", 1, channel="a")
        assert await ada.json() == ("n", 1)
    assert news.clients == {}


async def test_a_listener_that_goes_is_forgotten(news):
    async with listening(f"{news.url}?channel=a"):
        await there(news, 1)
        assert news.channels.subscribers("a") == 1
    await until(lambda: not news.clients)
    assert news.channels.names() == []


async def test_an_address_has_only_so_many_connections():
    news = new(settings=RealtimeSettings(max_per_address=1))
    async with Listener(news, port=0) as listener, listening(f"{listener.url}/events"):
        await there(news, 1)
        with pytest.raises(aiohttp.ClientResponseError) as refused:
            async with listening(f"{listener.url}/events"):
                pass
        assert refused.value.status == 429


async def test_a_quiet_listener_gets_comments():
    news = new(settings=RealtimeSettings(heartbeat=0.05))
    async with Listener(news, port=0) as listener, listening(f"{listener.url}/events") as ada:
        for _ in range(3):
            assert await asyncio.wait_for(ada.response.content.readline(), 30) in (b":\n", b"\n")
    assert json.dumps(news.stats.detail)
