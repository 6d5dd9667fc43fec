from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from consona.errors import APIError, ConfigurationError, DeadlineExceeded
from consona.resilience import Policy
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.client.errors import ConnectionLost
from consona.rest.transport import Timeouts

ONCE = Policy(timeout=20)


def client(app, **options):
    settings = options.pop("settings", None)
    return APIClient("http://testserver/v1", policy=ONCE, settings=settings, transport=ASGITransport(app, **options))


def http(handler):
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        await handler(scope, receive, send)

    return app


async def say(send, body=b"", status=200, headers=(), more=False):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def whole_body(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def test_the_application_sees_what_a_server_would_show():
    scopes = []

    async def handler(scope, receive, send):
        scopes.append(scope)
        await say(send, await whole_body(receive), 201, [(b"x-a", b"1"), (b"x-a", b"2")])

    async with client(http(handler), root_path="/api", client=("10.0.0.7", 5)) as api:
        reply = await api.post("/a%2Fb/ü?q=1", content="hello")
    [scope] = scopes
    assert scope["path"] == "/api/v1/a/b/ü"
    assert scope["raw_path"] == b"/api/v1/a%2Fb/%C3%BC"
    assert (scope["root_path"], scope["query_string"], scope["method"]) == ("/api", b"q=1", "POST")
    assert (scope["client"], scope["server"], scope["scheme"]) == (("10.0.0.7", 5), ("testserver", 80), "http")
    headers = dict(scope["headers"])
    assert (headers[b"host"], headers[b"content-length"]) == (b"testserver", b"5")
    assert (reply.status, reply.text, reply.headers.all("X-A")) == (201, "hello", ["1", "2"])


async def test_bodies_stream_both_ways_at_the_same_time():
    async def handler(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return

    go_on = asyncio.Event()

    async def upload():
        yield b"one"
        await go_on.wait()
        yield b"two"

    async with client(http(handler)) as api, api.stream("POST", "/", content=upload()) as answer:
        chunks = answer.chunks()
        assert await anext(chunks) == b"one"
        go_on.set()
        assert [chunk async for chunk in chunks] == [b"two"]


async def test_the_application_is_not_read_faster_than_the_stream_is_used():
    sent = [0]

    async def handler(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            sent[0] += 1
        await send({"type": "http.response.body"})

    async with client(http(handler)) as api, api.stream("GET", "/") as answer:
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent[0] <= 7
        assert sum([len(chunk) async for chunk in answer.chunks()]) == 1_000_000


async def test_a_client_that_leaves_is_a_disconnect():
    learned = asyncio.get_running_loop().create_future()

    async def handler(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        learned.set_result((await receive())["type"])
        await send({"type": "http.response.body", "body": b"nobody reads this"})

    async with client(http(handler)) as api:
        async with api.stream("GET", "/"):
            pass
        assert await learned == "http.disconnect"


async def test_a_failing_application_answers_500_as_a_server_would():
    async def handler(scope, receive, send):
        raise LookupError("inside")

    async with client(http(handler)) as api:
        with pytest.raises(APIError) as caught:
            await api.get("/")
    assert caught.value.status == 500
    assert "inside" not in caught.value.response.text


async def test_the_exception_itself_is_raised_where_that_is_asked_for():
    async def handler(scope, receive, send):
        raise LookupError("inside")

    async with client(http(handler), reraise=True) as api:
        with pytest.raises(LookupError, match="inside"):
            await api.get("/")


@pytest.mark.parametrize("length", ["declared", "not"])
async def test_a_failure_in_the_middle_of_an_answer_breaks_it(length):
    async def handler(scope, receive, send):
        headers = [(b"content-length", b"10")] if length == "declared" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if length == "not":
            raise LookupError("inside")

    async with client(http(handler)) as api:
        with pytest.raises(ConnectionLost):
            await api.get("/")


async def test_an_application_that_does_not_answer_is_a_500():
    async def handler(scope, receive, send):
        return

    async with client(http(handler)) as api:
        assert (await api.get("/", raise_for_status=False)).status == 500


async def test_a_silent_application_is_given_up_by_the_read_timeout():
    async def handler(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    async with client(http(handler), settings=ClientSettings(timeouts=Timeouts(read=0.02))) as api:
        with pytest.raises(DeadlineExceeded):
            await api.get("/")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_no_body_comes_where_http_has_none(method, status):
    async def handler(scope, receive, send):
        await say(send, b"body", status)

    async with client(http(handler)) as api:
        assert (await api.request(method, "/")).content == b""


async def test_context_of_the_caller_does_not_leak_into_the_application():
    mine = ContextVar("mine", default="none")
    mine.set("caller")
    seen = []

    async def handler(scope, receive, send):
        seen.append(mine.get())
        await say(send)

    async with client(http(handler)) as api:
        await api.get("/")
    assert seen == ["none"]


async def test_the_lifespan_runs_once_around_all_and_its_state_is_each_requests():
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                events.append(message["type"])
                if message["type"] == "lifespan.startup":
                    scope["state"]["db"] = "open"
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        events.append(scope["state"]["db"])
        await say(send)

    async with client(app) as api:
        await api.get("/")
        await api.get("/")
    assert events == ["lifespan.startup", "open", "open", "lifespan.shutdown"]


async def test_an_application_that_cannot_start_says_why():
    async def app(scope, receive, send):
        await receive()
        try:
            raise LookupError("no database")
        except LookupError:
            await send({"type": "lifespan.startup.failed", "message": "Traceback\nLookupError: no database"})
            raise

    with pytest.raises(ConfigurationError, match="no database") as caught:
        await client(app).start()
    assert isinstance(caught.value.__cause__, LookupError)


async def test_requests_under_way_are_waited_for_and_then_cut():
    cut = asyncio.Event()

    async def handler(scope, receive, send):
        await say(send, b"x", more=True)
        try:
            await asyncio.sleep(100)
        finally:
            cut.set()

    async with client(http(handler), stop_timeout=0.05) as api:
        async with api.stream("GET", "/"):
            pass
        assert not cut.is_set()
    assert cut.is_set()
