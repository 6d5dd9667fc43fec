"""WebSockets: what a handler gets and sends, what is refused, and how each of them ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asgi_call import call
from consona.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    RateLimited,
)
from consona.rest.client.authentication import APIKey
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import CurrentUser, Identity
from consona.rest.server.listener import Listener
from consona.rest.server.parameters import Body, Header
from consona.rest.server.problems import ServiceUnavailable
from consona.rest.server.requests import Background, Request
from consona.rest.server.routing import Routes
from consona.rest.server.settings import ServerSettings
from consona.rest.server.websocket import WebSocket
from consona.rest.websocket_messages import InvalidMessage, WebSocketClosed
from virtual_time import now, virtual


class Chat(msgspec.Struct):
    text: str
    size: int = 0


def server(handler, path="/x", *, api=None, settings=None, **options):
    api = api or APIServer("t", settings=ServerSettings(**(settings or {})), clock=now)
    api.websocket(path, **options)(handler)
    return api


@contextlib.asynccontextmanager
async def talking(handler, path="/x", *, pattern=None, settings=None, options=None, **connecting):
    api = server(handler, pattern or path.partition("?")[0], settings=settings, **(options or {}))
    async with api.test_client() as client, client.websocket(path, **connecting) as socket:
        yield socket


async def echo(socket: WebSocket) -> None:
    async for message in socket:
        await socket.send(message)


# What is bound, sent and received.


async def test_text_and_bytes_come_back_as_they_were():
    async with talking(echo) as socket:
        for message in ("é", "", b"\x00\xff", b""):
            await socket.send(message)
            assert await socket.receive() == message


async def test_parameters_are_bound_as_for_a_request():
    async def handler(
        room: str, socket: WebSocket, request: Request, n: int = 1, x_key: Annotated[str, Header()] = ""
    ) -> None:
        await socket.send([room, n, x_key, request.path, request.method, socket.request is request])

    api = server(handler, "/rooms/{room}")
    async with (
        api.test_client() as client,
        client.websocket("/rooms/a%2Fb?n=3", headers={"X-Key": "k"}) as socket,
    ):
        assert await socket.receive(list) == ["a/b", 3, "k", "/rooms/a/b", "GET", True]


async def test_text_is_read_as_json_and_bytes_as_messagepack():
    async def handler(socket: WebSocket) -> None:
        async for message in socket.messages(Chat):
            await socket.send(Chat(message.text.upper(), len(message.text)))

    async with talking(handler) as socket:
        await socket.send(Chat("hi"))
        assert await socket.receive() == '{"text":"HI","size":2}'
        await socket.send(msgspec.msgpack.encode(Chat("packed")))
        assert await socket.receive(Chat) == Chat("PACKED", 6)


async def test_values_go_as_messagepack_where_the_subprotocol_says_so():
    async with talking(echo_chat, options={"subprotocols": ["v9", "msgpack"]}, subprotocols=["x", "msgpack"]) as socket:
        assert (socket.subprotocol, socket.packed) == ("msgpack", True)
        await socket.send(Chat("a"))
        assert await socket.receive() == msgspec.msgpack.encode(Chat("a"))


async def echo_chat(socket: WebSocket) -> None:
    await socket.send(await socket.receive(Chat))


async def test_a_subprotocol_and_headers_can_be_chosen_once():
    async def handler(socket: WebSocket) -> None:
        with pytest.raises(ConfigurationError, match="did not offer"):
            await socket.accept(subprotocol="c")
        with pytest.raises(ConfigurationError):
            await socket.accept(headers={"x": "a\r\nb: c"})
        await socket.accept(subprotocol=socket.offered[1], headers={"X-Room": "blue"})
        with pytest.raises(ConfigurationError, match="accepted already"):
            await socket.accept()
        await socket.send(socket.subprotocol)

    async with talking(handler, subprotocols=["a", "b"]) as socket:
        assert (await socket.receive(), socket.subprotocol, socket.headers) == ("b", "b", [(b"x-room", b"blue")])


async def test_a_route_of_a_group_has_its_prefix_and_its_guards_alone():
    routes = Routes("/v1", tags=["a"], etag=True, roles={"editor"})
    routes.websocket("/x")(echo)
    api = APIServer("t")
    api.include(routes)
    [route] = api.routes
    assert (route.path, route.options) == ("/v1/x", {"roles": {"editor"}})


class Session:
    open = True


async def test_providers_live_as_long_as_the_connection():
    ended = asyncio.Event()

    async def session() -> AsyncIterator[Session]:
        made = Session()
        yield made
        made.open = False
        ended.set()

    async def handler(socket: WebSocket, mine: Session) -> None:
        await socket.receive()
        await socket.send([mine.open])

    api = server(handler)
    api.provide(session)
    async with api.test_client() as client, client.websocket("/x") as socket:
        await socket.send("?")
        assert await socket.receive(list) == [True]
        await ended.wait()


# How it ends.


async def test_iteration_ends_when_the_client_closes_and_the_handler_learns_how():
    ends = asyncio.Queue()

    async def handler(socket: WebSocket) -> None:
        async for _ in socket:
            pass
        ends.put_nowait((socket.closed.close_code, socket.closed.reason))
        with pytest.raises(WebSocketClosed):
            await socket.receive()
        with pytest.raises(WebSocketClosed):
            await socket.send("too late")
        await socket.close()

    api = server(handler)
    async with api.test_client() as client:
        async with client.websocket("/x") as socket:
            await socket.send("a")
            await socket.close(4001, "enough")
        async with client.websocket("/x") as socket:
            await socket.vanish()
    assert [ends.get_nowait() for _ in range(2)] == [(4001, "enough"), (1006, "")]
    assert api.stats.operations["WEBSOCKET /x"].succeeded == 2


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (None, 1000, ""),
        (NotFound("No such room."), 1008, "No such room."),
        (PermissionDenied("Not here."), 1008, "Not here."),
        (RateLimited("Slowly."), 1013, "Slowly."),
        (ServiceUnavailable("Full."), 1013, "Full."),
        (RuntimeError("password=hunter2"), 1011, "Something went wrong inside the server. Request "),
    ],
)
async def test_the_end_of_a_handler_closes_with_a_code(error, code, reason, caplog):
    async def handler(socket: WebSocket) -> None:
        await socket.accept()
        if error is not None:
            raise error

    api = server(handler)
    async with api.test_client() as client, client.websocket("/x") as socket:
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
    assert caught.value.close_code == code
    assert caught.value.reason.startswith(reason)
    assert "hunter2" not in caught.value.reason + caplog.text
    stats = api.stats.operations["WEBSOCKET /x"]
    assert (stats.succeeded, stats.failed) == ((1, 0) if error is None else (0, 1))
    assert ("in handler" in caplog.text) == isinstance(error, RuntimeError)
    assert api.history[-1].attributes == {"status": 101, "received": 0, "sent": 0, "code": code}


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ("{", 1007, "not JSON"),
        (b"\xc1", 1007, "not MessagePack"),
        ('{"text": 1, "size": "x"}', 1008, "message.text, message.size"),
        ("[" * 100_000, 1007, "nested too deeply"),
        ('{"text": "' + "x" * 200_000 + '"}', 1009, "longer than 150000 bytes"),
    ],
)
async def test_a_message_that_is_not_what_was_asked_for_closes_with_a_code(message, code, words):
    async with talking(echo_chat, options={"max_message": 150_000}) as socket:
        await socket.send(message)
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
    assert (caught.value.close_code, words in caught.value.reason) == (code, True), caught.value.reason


async def test_text_is_not_taken_for_bytes_nor_the_reverse():
    async def handler(socket: WebSocket, kind: str) -> None:
        await socket.receive(str if kind == "str" else bytes)

    for kind, message in (("str", b"a"), ("bytes", "a")):
        async with talking(handler, f"/x?kind={kind}") as socket:
            await socket.send(message)
            with pytest.raises(WebSocketClosed) as caught:
                await socket.receive()
            assert caught.value.close_code == 1003


async def test_a_handler_may_answer_a_wrong_message_and_go_on():
    async def handler(socket: WebSocket) -> None:
        while True:
            try:
                message = await socket.receive(Chat)
            except InvalidMessage as error:
                await socket.send([path for path, _ in error.fields])
            else:
                await socket.send(message.text)

    async with talking(handler, settings={"max_message": 10}) as socket:
        await socket.send("{}")
        assert await socket.receive(list) == ["message.text"]
        await socket.send("é" * 6)  # twelve bytes
        assert await socket.receive(list) == []


@pytest.mark.parametrize("code", [999, 1005, 1006, 1015, 2000, 5000])
async def test_a_code_that_may_not_be_sent_is_refused(code):
    async with talking(echo) as socket:
        with pytest.raises(ConfigurationError, match="cannot be closed"):
            await socket.close(code)


async def test_a_long_reason_is_cut_between_characters():
    async def handler(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(4000, "é" * 100)

    async with talking(handler) as socket:
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
        assert caught.value.reason == "é" * 61


# What is refused before it begins.


class KeyGuard:
    """A real guard, over a table of keys."""

    challenge = 'ApiKey realm="t"'

    def __init__(self):
        self.keys = {"ada": Identity("ada", frozenset({"editor"})), "bob": Identity("bob")}

    async def identify(self, request):
        key = request.headers.get("x-api-key")
        if key is not None and key not in self.keys:
            raise AuthenticationError("This key is not known.")
        return self.keys.get(key or "")

    def allows(self, identity, roles, scopes):
        return (not roles or bool(roles & identity.roles)) and scopes <= identity.scopes

    async def user(self, identity, kind):
        return kind(identity.subject)

    def security_schemes(self):
        return {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}


class User(msgspec.Struct):
    name: str


async def test_who_may_not_pass_gets_an_http_answer():
    async def handler(socket: WebSocket, user: CurrentUser[User], n: int = 0) -> None:
        await socket.send(user.name)

    api = server(handler, roles={"editor"})
    with pytest.raises(ConfigurationError, match="needs to know who calls it"):
        await api.start()
    api.secure(KeyGuard())
    for key, status in ((None, 401), ("eve", 401), ("bob", 403), ("ada", None)):
        async with api.test_client(auth=APIKey(key) if key else None) as client:
            if status is None:
                async with client.websocket("/x") as socket:
                    assert await socket.receive() == "ada"
                continue
            with pytest.raises(APIError) as caught:
                async with client.websocket("/x?n=z"):
                    pass
            assert caught.value.status == status
            if status == 401:
                assert caught.value.response.headers["www-authenticate"] == KeyGuard.challenge


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/y", 404, "not_found"), ("/http", 404, "not_found"), ("/n/z", 422, "validation"), ("/n/%ff", 400, None)],
)
async def test_a_wrong_request_is_a_problem(path, status, code):
    async def handler(socket: WebSocket, n: int) -> None: ...

    api = server(handler, "/n/{n}")
    api.get("/http")(lambda: 1)
    async with api.test_client() as client:
        with pytest.raises(APIError) as caught:
            async with client.websocket(path):
                pass
    assert caught.value.status == status
    assert code in {None, caught.value.problem["code"]}
    assert api.history[-1].attributes["status"] == status


async def test_what_a_handler_raises_or_closes_before_it_accepts_is_an_http_answer():
    async def handler(socket: WebSocket, how: str) -> None:
        if how == "raise":
            raise NotFound("No such room.")
        if how == "close":
            await socket.close(1008)

    api = server(handler)
    async with api.test_client() as client:
        for how, status in (("raise", 404), ("close", 403), ("nothing", 403)):
            with pytest.raises(APIError) as caught:
                async with client.websocket(f"/x?how={how}"):
                    pass
            assert (caught.value.status, api.history[-1].attributes["status"]) == (status, status)


async def test_an_error_handler_of_the_server_answers_a_refusal():
    api = server(echo_or_fail)
    api.on_error(LookupError)(lambda error, request: {"missing": request.path})
    async with api.test_client() as client:
        with pytest.raises(APIError) as caught:
            async with client.websocket("/x"):
                pass
        assert (caught.value.status, caught.value.response.json()) == (500, {"missing": "/x"})


async def echo_or_fail(socket: WebSocket) -> None:
    raise KeyError("a")


@pytest.mark.parametrize(
    ("origin", "origins", "passes"),
    [
        (None, None, True),
        ("http://testserver", None, True),
        ("https://TESTSERVER", None, True),
        ("https://evil.example", None, False),
        ("null", None, False),
        ("http://[", None, False),
        ("https://app.example", ["https://app.example/"], True),
        ("https://app.example.evil", ["https://app.example"], False),
        ("https://evil.example", "*", True),
        (None, ["https://app.example"], True),
    ],
)
async def test_pages_of_other_sites_may_not_connect_unless_they_are_named(origin, origins, passes):
    options = {} if origins is None else {"origins": origins}
    headers = {} if origin is None else {"Origin": origin}
    opened = talking(echo, options=options, headers=headers)
    if passes:
        async with opened:
            return
    with pytest.raises(APIError) as caught:
        async with opened:
            pass
    assert (caught.value.status, caught.value.problem["code"]) == (403, "permission_denied")


async def test_a_server_without_the_extension_refuses_plainly():
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    async with server(echo) as api:
        scope = {"type": "websocket", "path": "/y", "raw_path": b"/y", "query_string": b"", "headers": []}
        await api(scope, receive, send)
        await api({**scope, "headers": [(b"x", b"y")] * 101}, receive, send)
        assert api.history[-1].error == "http.headers_too_large" or api.history[-1].attributes["status"] == 404
    assert sent == [{"type": "websocket.close", "code": 1008}] * 2


async def test_a_request_to_a_websockets_path_is_told_to_upgrade():
    api = server(echo, "/live")
    api.websocket("/both")(echo)
    api.get("/both")(lambda: 1)
    async with api:
        answer = await call(api, "GET", "/live")
        assert (answer.status, answer.header("upgrade")) == (426, "websocket")
        assert (await call(api, "GET", "/both")).status == 200
        assert (await call(api, "POST", "/both")).header("allow") == "GET, HEAD, OPTIONS"
        assert (await call(api, "WEBSOCKET", "/both")).status == 405
        assert "/live" not in api.openapi()["paths"]


async def test_more_sockets_than_allowed_are_told_to_come_back():
    api = server(echo, settings={"max_sockets": 1})
    async with api.test_client() as client, client.websocket("/x") as socket:
        await socket.send("a")
        await socket.receive()
        assert api.detail()["sockets"] == 1
        with pytest.raises(APIError) as caught:
            async with client.websocket("/x"):
                pass
        assert (caught.value.status, caught.value.response.headers["retry-after"]) == (503, "1")


@virtual
async def test_a_handler_has_the_servers_time_to_accept_and_then_as_long_as_it_likes():
    async def handler(socket: WebSocket, slow: bool) -> None:
        if not slow:
            await socket.accept()
        await asyncio.sleep(1000)
        await socket.send("late")

    api = server(handler, settings={"timeout": 5.0})
    async with api.test_client() as client:
        with pytest.raises(APIError) as caught:
            async with client.websocket("/x?slow=true"):
                pass
        assert caught.value.status == 503
        async with client.websocket("/x?slow=false") as socket:
            await asyncio.sleep(990)
            assert await socket.receive() == "late"


def test_what_a_websocket_has_not_cannot_be_asked_for():
    async def without() -> None: ...

    async def body(socket: WebSocket, chat: Chat) -> None: ...

    async def raw(socket: WebSocket, data: Annotated[bytes, Body()]) -> None: ...

    async def background(socket: WebSocket, background: Background) -> None: ...

    def plain(socket: WebSocket) -> None: ...

    for handler, words in (
        (without, "no parameter of the type WebSocket"),
        (body, "'chat' belongs to a request"),
        (raw, "'data' belongs to a request"),
        (background, "'background' belongs to a request"),
        (plain, "async def"),
    ):
        api = server(handler)
        with pytest.raises(ConfigurationError, match=words):
            api.signatures()
    api = APIServer("t")
    api.get("/x")(echo)
    with pytest.raises(ConfigurationError, match=r"Declare it with @api\.websocket"):
        api.signatures()
    with pytest.raises(ConfigurationError, match="no option etag"):
        api.websocket("/y", etag=True)
    with pytest.raises(ConfigurationError, match="answer the same"):
        asyncio.run(server(echo, api=server(echo)).start())


# Being watched.


async def test_a_connection_is_one_operation_that_is_never_slow(caplog):
    api = APIServer("t")
    api.observer.slow_ns = 0
    server(echo, api=api)
    with caplog.at_level(logging.INFO):
        async with api.test_client() as client:
            async with client.websocket("/x") as socket:
                await socket.send("a")
                await socket.receive()
                assert api.stats.operations["WEBSOCKET /x"].in_flight == 1
            await client.get("/health/live")
    [entry] = [entry for entry in api.history if entry.operation == "WEBSOCKET"]
    assert entry.attributes == {"status": 101, "received": 1, "sent": 1, "code": 1000}
    assert [line for line in caplog.messages if "WEBSOCKET" in line and "slow" in line] == []
    assert api.stats.p50 == api.stats.operations["GET /health/live"].p50 > 0


# On a real socket.


async def test_a_real_client_talks_is_refused_and_is_told_when_the_server_stops():
    under_way = asyncio.Event()
    ended = []

    async def handler(socket: WebSocket, user: CurrentUser[User]) -> None:
        try:
            async for message in socket:
                await socket.send(message)
                under_way.set()
        finally:
            ended.append(socket.closed.close_code)

    api = server(handler, "/live", roles={"editor"})
    api.secure(KeyGuard())
    async with Listener(api, port=0) as listener:
        url = listener.url.replace("http", "ws") + "/live"
        for key, status in (("bob", 403), ("", 401)):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url, additional_headers={"x-api-key": key} if key else {})
            assert caught.value.response.status_code == status
            assert msgspec.json.decode(caught.value.response.body)["status"] == status
        async with connect(url, additional_headers={"x-api-key": "ada"}) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
            await under_way.wait()
            stopping = asyncio.create_task(listener.stop())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            await stopping
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "The server stops. Connect again.")
    assert ended == [1012]


@pytest.mark.parametrize("size", [200_000, 5_000_000])
async def test_a_real_message_that_is_too_long_closes_with_1009(size):
    async with Listener(server(echo, max_message=100_000), port=0) as listener:
        async with connect(listener.url.replace("http", "ws") + "/x") as socket:
            with contextlib.suppress(ConnectionClosed):
                await socket.send("x" * size)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        assert closed.value.rcvd.code == 1009


async def test_a_real_client_that_vanishes_ends_its_handler():
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def handler(socket: WebSocket) -> None:
        try:
            async for _ in socket:
                begun.set()
        finally:
            ended.set()

    async with Listener(server(handler), port=0) as listener:
        socket = await connect(listener.url.replace("http", "ws") + "/x")
        await socket.send("a")
        await begun.wait()
        socket.transport.abort()
        async with asyncio.timeout(20):
            await ended.wait()


async def test_a_client_that_does_not_read_holds_the_handler_back():
    sent, noise = 0, os.urandom(100_000)  # what compresses well would take longer to fill the line

    async def handler(socket: WebSocket) -> None:
        nonlocal sent
        while True:
            await socket.send(noise)
            sent += 1

    async with (
        Listener(server(handler), port=0) as listener,
        connect(listener.url.replace("http", "ws") + "/x", max_queue=1) as socket,
    ):
        await socket.recv()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 1000
        socket.transport.abort()


@virtual
async def test_a_websocket_that_does_not_end_in_time_is_cut():
    ended = []

    async def handler(socket: WebSocket) -> None:
        await socket.accept()
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(socket.closed.close_code)

    api = server(handler, settings={"drain": 3.0})
    async with api, api.test_client() as client, client.websocket("/x") as socket:
        began = now()
        stopping = asyncio.create_task(api.stop())
        await api.stop()
        with pytest.raises(WebSocketClosed) as caught:
            await socket.receive()
        await stopping
        assert (caught.value.close_code, now() - began) == (1012, pytest.approx(3, abs=0.1))
    assert ended == [1012]
