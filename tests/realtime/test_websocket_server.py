"""A WebSocket server and its clients, in one process, without a socket."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import msgspec
import pytest

from consona import APIServer
from consona.errors import APIError, ConfigurationError, NotFound, PermissionDenied, ValidationError
from consona.realtime.settings import RealtimeSettings
from consona.realtime.websocket_server import WebSocketServer
from consona.resilience.rate import RateLimit
from consona.rest.websocket_messages import WebSocketClosed
from processes import until

_number = count()


class Chat(msgspec.Struct):
    text: str
    stars: int = 0


def new(**options):
    options = {"path": "/live", "channels": f"memory://live{next(_number)}"} | options
    return WebSocketServer(**options)


@pytest.fixture
def live():
    live = new()

    @live.on_message("chat.{room}")
    async def chat(message: Chat, client, room: str):
        await live.broadcast(f"chat.{room}", message)

    return live


class Page:
    """A client that keeps apart what it gets."""

    def __init__(self, socket):
        self.socket = socket
        self.id = 0

    async def next(self):
        message = await self.socket.receive()
        return msgspec.json.decode(message) if isinstance(message, str) else msgspec.msgpack.decode(message)

    async def find(self, *keys):
        """The next that has all of `keys`."""
        while True:
            fields = await self.next()
            if all(key in fields for key in keys):
                return fields

    async def ask(self, **fields):
        self.id += 1
        await self.socket.send({**fields, "id": self.id})
        while True:
            answer = await self.find("answer")
            if answer["answer"] == self.id:
                return answer

    async def join(self, channel, **more):
        return await self.ask(join=channel, **more)

    async def say(self, channel, data):
        await self.socket.send({"send": channel, "data": data})


@asynccontextmanager
async def page(client, path="/live", **options):
    async with client.websocket(path, **options) as socket:
        page = Page(socket)
        page.hello = await page.next()
        yield page


@asynccontextmanager
async def pages(server, number, path="/live"):
    async with server.test_client() as client, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(page(client, path)) for _ in range(number)]


# Rooms.


async def test_what_one_says_reaches_all_in_the_room_and_nobody_else(live):
    async with pages(live, 4) as (ada, bob, cleo, dan):
        for each in (ada, bob):
            await each.join("chat.tea")
        for each in (cleo, dan):
            await each.join("chat.coffee")
        await ada.say("chat.tea", {"text": "hello"})
        await dan.say("chat.coffee", {"text": "good morning"})
        for each, text in ((ada, "hello"), (bob, "hello"), (cleo, "good morning"), (dan, "good morning")):
            message = await each.find("channel")
            assert message["data"] == {"text": text, "stars": 0}


async def test_the_server_broadcasts_in_order(live):
    async with pages(live, 2) as both:
        for each in both:
            await each.join("chat.tea")
        positions = [await live.broadcast("chat.tea", n) for n in range(30)]
        for each in both:
            got = [await each.find("channel") for _ in range(30)]
            assert [message["data"] for message in got] == list(range(30))
            assert [message["position"] for message in got] == positions


async def test_who_left_a_room_gets_nothing_more(live):
    async with pages(live, 1) as (ada,):
        await ada.join("chat.tea")
        assert (await ada.ask(leave="chat.tea"))["left"] == "chat.tea"
        await live.channels.reached(await live.broadcast("chat.tea", 1))
        await ada.join("chat.tea")
        await live.broadcast("chat.tea", 2)
        assert (await ada.find("channel"))["data"] == 2


async def test_who_comes_back_gets_what_it_missed(live):
    async with live.test_client() as client:
        async with page(client) as ada:
            await ada.join("chat.tea")
            await live.broadcast("chat.tea", 0)
            seen = (await ada.find("channel"))["position"]
        last = [await live.broadcast("chat.tea", n) for n in (1, 2, 3)][-1]
        await live.channels.reached(last)
        async with page(client) as ada:
            assert (await ada.join("chat.tea", after=seen))["gap"] is False
            await live.broadcast("chat.tea", 4)
            assert [(await ada.find("channel"))["data"] for _ in range(4)] == [1, 2, 3, 4]
        async with page(client) as ada:
            assert (await ada.join("chat.tea", after="forged"))["gap"] is True


async def test_a_client_may_join_the_channels_that_are_declared_and_no_others(live):
    @live.on_join("private.{owner}")
    async def check(owner, client):
        if owner != "ada":
            raise PermissionDenied("This is not yours.")

    live.channel("news", history=2)
    async with pages(live, 1) as (ada,):
        assert "error" not in await ada.join("private.ada")
        assert (await ada.join("private.bob"))["error"]["message"] == "This is not yours."
        assert (await ada.join("secret"))["error"]["code"] == "permission_denied"
        assert (await ada.join("chat.tea.more"))["error"]["code"] == "permission_denied"
        assert (await ada.ask(history="chat.tea"))["error"]["code"] == "permission_denied"
        assert (await ada.join("a\nb"))["error"]["code"] == "validation"
        last = [await live.broadcast("news", n) for n in range(5)][-1]
        await live.channels.reached(last)
        await ada.join("news")
        assert [(await ada.find("channel"))["data"] for _ in range(2)] == [3, 4]
        history = await ada.ask(history="news", limit=3)
        assert [message["data"] for message in history["messages"]] == [2, 3, 4]


async def test_an_open_server_lets_clients_join_everything():
    async with pages(new(), 1) as (ada,):
        assert (await ada.join("anything"))["joined"] == "anything"


async def test_a_client_is_in_no_more_channels_than_it_may():
    live = new(settings=RealtimeSettings(max_channels=2))
    async with pages(live, 1) as (ada,):
        for name in ("a", "b", "a"):
            assert "error" not in await ada.join(name)
        assert (await ada.join("c"))["error"]["code"] == "rate_limited"


# Messages.


async def test_handlers_answer_who_asks(live):
    @live.on_message("sum")
    async def add(message: list[int]) -> int:
        return sum(message)

    @live.on_message("item.{number}")
    async def item(number: int, client) -> dict:
        return {"number": number, "client": client.id}

    async with pages(live, 1) as (ada,):
        assert (await ada.ask(send="sum", data=[1, 2, 3]))["data"] == 6
        assert (await ada.ask(send="item.7"))["data"] == {"number": 7, "client": ada.hello["client"]}
        assert (await ada.ask(send="item.x"))["error"]["code"] == "validation"


async def test_what_is_wrong_is_told_and_the_connection_goes_on(live, caplog):
    @live.on_message("break")
    async def fail(message):
        raise KeyError(message)

    @live.on_message("missing")
    async def missing(message):
        raise NotFound("There is no such tea.")

    async with pages(live, 1) as (ada,):
        wrong = await ada.ask(send="chat.tea", data={"text": 7})
        assert wrong["error"]["code"] == "websocket.invalid_message"
        assert wrong["error"]["fields"][0]["path"] == "message.text"
        assert (await ada.ask(send="break", data="a secret"))["error"]["code"] == "internal"
        assert (await ada.ask(send="missing", data=1))["error"]["message"] == "There is no such tea."
        assert (await ada.ask(send="nobody", data=1))["error"]["code"] == "not_found"
        await ada.socket.send({"send": "chat.tea", "what": 1})
        assert "error" in await ada.next()
        await ada.socket.send({"join": "chat.tea", "leave": "chat.tea"})
        assert "error" in await ada.next()
        assert (await ada.ask(send="chat.tea", data={"text": "x"}))["data"] is None
    assert "a secret" not in caplog.text
    assert "KeyError" in caplog.text


@pytest.mark.parametrize(("wrong", "code"), [("{", 1007), (b"\xc1", 1007), ('{"send":"' + "x" * 70_000 + '"}', 1009)])
async def test_what_cannot_be_read_ends_the_connection(live, wrong, code):
    async with pages(live, 1) as (ada,):
        await ada.socket.send(wrong)
        with pytest.raises(WebSocketClosed) as ended:
            while True:
                await ada.next()
        assert ended.value.close_code == code


async def test_messagepack_is_spoken_with_those_who_ask_for_it(live):
    async with (
        live.test_client() as client,
        client.websocket("/live", subprotocols=["msgpack"]) as packed,
        client.websocket("/live") as text,
    ):
        for socket in (packed, text):
            await socket.receive()
            await socket.send({"join": "chat.tea"})
            await socket.receive()
        await packed.send({"send": "chat.tea", "data": {"text": "hello", "stars": 5}})
        message = msgspec.msgpack.decode(await packed.receive())
        same = msgspec.json.decode(await text.receive())
        assert message == same
        assert message["data"] == {"text": "hello", "stars": 5}


async def test_a_flood_of_one_client_is_refused_and_harms_nobody():
    live = new(settings=RealtimeSettings(messages=RateLimit(rate=1e-3, burst=3)))
    got = []

    @live.on_message("in")
    async def take(message, client):
        got.append(client.state.setdefault("name", message))

    async with pages(live, 2) as (flood, other):
        for _ in range(50):
            await flood.say("in", "flood")
        assert (await other.ask(send="in", data="other")).get("error") is None
        assert (await flood.next())["error"]["code"] == "rate_limited"
        assert got.count("flood") == 3


# Who comes and goes.


async def test_hooks_see_clients_come_and_go(live):
    seen = []

    @live.on_connect
    async def come(client):
        client.state["name"] = "Ada"
        await client.join("chat.tea")
        await client.send("welcome", event="hello")

    @live.on_disconnect
    async def go(client):
        seen.append((client.state["name"], sorted(client.channels)))

    async with live.test_client() as client:
        async with page(client) as ada:
            assert (await ada.next())["joined"] == "chat.tea"
            assert await ada.next() == {"event": "hello", "data": "welcome"}
            assert len(live.clients) == 1
        await until(lambda: seen == [("Ada", ["chat.tea"])])
        await until(lambda: not live.clients)
        assert live.channels.subscribers("chat.tea") == 0


async def test_a_client_that_on_connect_refuses_is_closed(live):
    @live.on_connect
    async def come(client):
        raise PermissionDenied("Not today.")

    async with pages(live, 1) as (ada,):
        with pytest.raises(WebSocketClosed) as ended:
            await ada.next()
        assert ended.value.close_code == 1008


async def test_the_server_closes_a_client(live):
    @live.on_message("bye")
    async def bye(message, client):
        await client.close(4000, "Goodbye.")

    async with pages(live, 1) as (ada,):
        await ada.say("bye", None)
        with pytest.raises(WebSocketClosed) as ended:
            await ada.next()
        assert (ended.value.close_code, ended.value.reason) == (4000, "Goodbye.")
        await until(lambda: not live.clients)


async def test_members_see_who_comes_and_goes():
    live = new()
    live.channel("chat.{room}", presence=True)

    @live.on_connect
    async def come(client):
        client.info = {"name": client.request.query["name"][0]}

    def names(fields):
        return sorted(member["info"]["name"] for member in fields["members"])

    async with live.test_client() as client, page(client, "/live?name=ada") as ada:
        await ada.join("chat.tea")
        assert names(await ada.find("presence", "members")) == ["ada"]
        async with page(client, "/live?name=bob") as bob:
            await bob.join("chat.tea")
            assert names(await bob.find("presence", "members")) == ["ada", "bob"]
            while (come := await ada.find("presence", "joined"))["joined"]["client"] != bob.hello["client"]:
                pass
            assert come["joined"]["info"] == {"name": "bob"}
            assert names(await ada.ask(presence="chat.tea")) == ["ada", "bob"]
        gone = await ada.find("presence", "left")
        assert gone["left"]["info"] == {"name": "bob"}
        assert [member.info["name"] for member in await live.members("chat.tea")] == ["ada"]
        # Who comes and who goes is no part of the history.
        assert live.recent("chat.tea") == []


# Where it stands.


@pytest.mark.parametrize(("prefix", "path"), [("", "/live"), ("/live", "/live"), ("/rt", "/rt/live")])
async def test_it_is_mounted_in_an_api_server(live, prefix, path):
    api = APIServer("shop")
    api.mount(prefix, live)

    @api.get("/hello")
    async def hello() -> str:
        return "hello"

    async with api.test_client() as client:
        assert await client.get("/hello", into=str) == "hello"
        async with page(client, path) as ada:
            assert (await ada.join("chat.tea"))["joined"] == "chat.tea"


async def test_two_servers_on_the_same_channels_are_one(live):
    address = str(live.channels.address)
    other = WebSocketServer("/other", address)
    api = APIServer("shop")
    api.mount("/live", live)
    api.mount("/other", other)
    async with api.test_client() as client, page(client, "/live") as ada, page(client, "/other") as bob:
        await bob.join("chat.tea")
        await ada.join("chat.tea")
        await ada.say("chat.tea", {"text": "hello"})
        assert (await bob.find("channel"))["data"]["text"] == "hello"


async def test_a_plain_server_passes_on_what_comes():
    live = new(plain=True)

    @live.on_message()
    async def say(message: str) -> None:
        await live.broadcast_to_all(message)

    async with live.test_client() as client, client.websocket("/live") as ada, client.websocket("/live") as bob:
        await until(lambda: live.channels.subscribers("all") == 2)
        await ada.send("hello")
        assert await ada.receive() == await bob.receive() == "hello"
        await bob.send('{"not": "read"}')
        assert await ada.receive() == '{"not": "read"}'


# Stopping and limits.


async def test_when_it_stops_clients_are_told_to_come_back_spread_over_time(live):
    async with pages(live, 20) as all_pages:
        live.begin_drain()
        waits = []
        for each in all_pages:
            waits.append((await each.find("reconnect"))["reconnect"])
            with pytest.raises(WebSocketClosed) as ended:
                await each.next()
            assert ended.value.close_code == 1012
        assert all(0 <= wait <= live.limits.spread for wait in waits)
        assert len(set(waits)) > 10


async def test_there_is_an_end_to_how_many_may_connect():
    live = new(settings=RealtimeSettings(max_clients=1))
    async with live.test_client() as client, page(client):
        with pytest.raises(APIError) as refused:
            async with page(client):
                pass
        assert refused.value.status == 503


async def test_pages_of_other_sites_may_not_connect(live):
    async with live.test_client() as client:
        for origin in ("https://evil.example", "null"):
            with pytest.raises(APIError) as refused:
                async with page(client, headers={"origin": origin}):
                    pass
            assert refused.value.status == 403
        async with page(client, headers={"origin": "http://testserver"}) as own:
            assert own.hello["client"]
    named = new(settings=RealtimeSettings(origins=["https://shop.example"]))
    async with named.test_client() as client, page(client, headers={"origin": "https://shop.example"}) as ada:
        assert ada.hello["client"]


# What cannot be.


def test_what_cannot_be_is_refused_when_it_is_declared(live):
    with pytest.raises(ConfigurationError):
        WebSocketServer("live")
    with pytest.raises(ConfigurationError):
        live.on_message()
    with pytest.raises(ConfigurationError):
        live.on_message("chat.{}")(lambda: None)
    with pytest.raises(ConfigurationError, match="asynchronous"):
        live.on_message("x")(lambda message: None)
    with pytest.raises(ConfigurationError):
        RealtimeSettings(heartbeat=0)


async def test_what_cannot_be_is_refused_when_it_starts(live):
    @live.on_message("x.{y}")
    async def two(message, more, y):
        pass

    with pytest.raises(ConfigurationError, match="more"):
        await live.start()


async def test_roles_without_a_guard_are_refused_at_the_start():
    live = new(roles={"staff"})
    with pytest.raises(ConfigurationError, match="guard"):
        await live.start()
    with pytest.raises(ValidationError):
        async with new() as live:
            await live.broadcast("a\r\nb", 1)


async def test_what_it_does_is_counted(live):
    async with pages(live, 2) as (ada, bob):
        for each in (ada, bob):
            await each.join("chat.tea")
        await ada.ask(send="chat.tea", data={"text": "hello"})
        await bob.find("channel")
        await asyncio.sleep(0)
        detail = live.stats.detail
        assert (detail["clients"], detail["rooms"], detail["dropped"]) == (2, 1, 0)
        assert detail["sent"] >= 6
        assert live.stats.operations["send"].succeeded == 1
