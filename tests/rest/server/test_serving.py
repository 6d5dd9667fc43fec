"""What happens to a request between the server's door and a handler, and to its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import pytest

from asgi_call import call
from consona.errors import APIError, CircuitOpen, DeadlineExceeded, NotFound, RateLimited
from consona.resilience import deadline
from consona.rest.server.api_server import APIServer
from consona.rest.server.parameters import Body
from consona.rest.server.problems import HTTPError
from consona.rest.server.requests import Background, Request
from consona.rest.server.responses import Response
from consona.rest.server.settings import ServerSettings
from consona.telemetry.observer import Observer
from consona.telemetry.trace import Sampler, Tracer, current_span
from virtual_time import now, virtual


def server(handler, *methods, path="/x", api=None, **settings):
    api = api or APIServer("t", settings=ServerSettings(**settings), clock=now)
    api.route(path, *(methods or ("GET",)))(handler)
    return api


async def ask(handler, method="GET", path="/x", *, pattern=None, settings=None, **request):
    async with server(handler, method, path=pattern or path, **(settings or {})) as api:
        return await call(api, method, path, **request)


# Methods and paths.


async def test_an_unknown_path_is_a_problem_that_names_the_spelling_that_exists():
    async def handler(): ...

    async with server(handler, path="/posts") as api:
        answer = await call(api, "GET", "/nothing")
        assert (answer.status, answer.header("content-type")) == (404, "application/problem+json")
        assert answer.json() == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "code": "not_found",
            "detail": "There is nothing at this path.",
            "request_id": answer.header("x-request-id"),
        }
        assert "without the slash" in (await call(api, "GET", "/posts/")).json()["hint"]


async def test_another_method_is_refused_with_those_that_there_are():
    async def handler(): ...

    async with server(handler, "GET", "PATCH") as api:
        for method in ("DELETE", "BREW"):
            answer = await call(api, method, "/x")
            assert (answer.status, answer.header("allow")) == (405, "GET, HEAD, PATCH, OPTIONS")
            assert answer.json()["code"] == "http.method_not_allowed"
        options = await call(api, "OPTIONS", "/x")
        assert (options.status, options.header("allow"), options.body) == (204, "GET, HEAD, PATCH, OPTIONS", b"")


async def test_head_is_get_without_the_body():
    async def handler(n: int = 3) -> str:
        return "x" * n

    async with server(handler) as api:
        get, head = await call(api, "GET", "/x"), await call(api, "HEAD", "/x")
        assert (head.status, head.body, head.header("content-length")) == (200, b"", get.header("content-length"))
        missing = await call(api, "HEAD", "/y")
        assert (missing.status, missing.body) == (404, b"")
        assert (await call(api, "HEAD", "/x", query="n=z")).body == b""


async def test_a_path_that_is_not_utf8_is_a_bad_request():
    async def handler(name: str) -> str:
        return name

    assert (await ask(handler, path="/%ff", pattern="/{name}")).status == 400


# Errors.


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (NotFound("There is no post 7."), 404, "There is no post 7."),
        (HTTPError("Sold out.", status=410), 410, "Sold out."),
        (HTTPError("Not today.", status=503), 503, "Not today."),
        (RateLimited("Slowly.", retry_after=1.2), 429, "Slowly."),
        (APIError("db-7.internal said 404", status=404), 502, "A server that this one depends on"),
        (CircuitOpen("orders at db-7.internal is open", retry_after=3), 503, "The service cannot answer now"),
        (DeadlineExceeded("db-7.internal is slow"), 504, "The answer was not ready in time"),
        (RuntimeError("password=hunter2"), 500, "Something went wrong inside the server"),
        (KeyError("db-7.internal"), 500, "Something went wrong inside the server"),
    ],
)
async def test_an_error_is_a_problem_and_shows_nothing_of_the_inside(error, status, detail, caplog):
    async def handler():
        raise error

    with caplog.at_level(logging.INFO):
        answer = await ask(handler)
    assert (answer.status, answer.header("content-type")) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["request_id"]) == (status, answer.header("x-request-id"))
    assert problem["detail"].startswith(detail)
    whole = answer.body.decode() + str(answer.headers)
    assert "internal" not in whole or (status == 500 and "db-7" not in whole)
    assert "hunter2" not in whole + caplog.text
    assert "Traceback" not in whole
    if isinstance(error, RuntimeError | KeyError):
        assert "in handler" in caplog.text  # the log says where
        assert problem["request_id"] in caplog.text


async def test_retry_after_is_in_whole_seconds():
    async def handler():
        raise RateLimited("Slowly.", retry_after=1.2)

    assert (await ask(handler)).header("retry-after") == "2"


async def test_the_log_shows_messages_of_unexpected_errors_only_in_debug(caplog):
    async def handler():
        raise RuntimeError("the value 42")

    await ask(handler, settings={"debug": True})
    assert "the value 42" in caplog.text


async def test_validation_may_answer_400():
    async def handler(n: int): ...

    answer = await ask(handler, query="n=x", settings={"validation_status": 400})
    assert (answer.status, answer.json()["status"]) == (400, 400)


async def test_an_error_handler_answers_raises_or_fails():
    api = APIServer("t")

    @api.on_error(LookupError)
    async def missing(error, request):
        raise NotFound(f"Nothing like {error} at {request.path}")

    @api.on_error(ValueError)
    def wrong(error, request):
        return {"wrong": str(error)}

    @api.on_error(OSError)
    async def broken(error, request):
        return Response("closed", status=503)

    @api.on_error(ZeroDivisionError)
    async def fails(error, request):
        raise TypeError

    async def handler(kind: str):
        raise {"key": KeyError("k"), "value": ValueError("v"), "os": FileNotFoundError(), "zero": ZeroDivisionError()}[
            kind
        ]

    async with server(handler, api=api) as api:
        found = [await call(api, "GET", "/x", query=f"kind={kind}") for kind in ("key", "value", "os", "zero")]
    assert [answer.status for answer in found] == [404, 500, 503, 500]
    assert found[0].json()["detail"] == "Nothing like 'k' at /x"
    assert found[1].json() == {"wrong": "v"}
    assert found[2].body == b"closed"


# Limits.


async def test_a_body_that_is_too_long_is_refused_before_it_is_read():
    read = []

    async def handler(request: Request) -> int:
        body = await request.body()
        read.append(len(body))
        return len(body)

    settings = {"max_body": 10}
    declared = await ask(handler, "POST", body=[None], headers={"content-length": "11"}, settings=settings)
    streamed = await ask(handler, "POST", body=[b"123456", b"123456", b""], settings=settings)
    at_once = await ask(handler, "POST", body=b"12345678901", settings=settings)
    for answer in (declared, streamed, at_once):
        assert (answer.status, answer.header("connection")) == (413, "close")
        assert "10 bytes" in answer.json()["detail"]
    assert not read
    assert (await ask(handler, "POST", body=[b"12345", b"67890"], settings=settings)).json() == 10


async def test_a_route_may_have_a_limit_of_its_own():
    api = APIServer("t", settings=ServerSettings(max_body=10))

    @api.post("/big", max_body=20)
    async def big(request: Request) -> int:
        return len(await request.body())

    async with api:
        assert (await call(api, "POST", "/big", body=b"x" * 20)).json() == 20
        assert (await call(api, "POST", "/big", body=b"x" * 21)).status == 413


async def test_a_body_can_be_streamed_within_its_limit():
    async def handler(request: Request) -> list[int]:
        return [len(part) async for part in request.stream()]

    assert (await ask(handler, "POST", body=[b"ab", b"", b"c"])).json() == [2, 1]
    assert (await ask(handler, "POST", body=[b"ab", b"c"], settings={"max_body": 2})).status == 413


async def test_ten_megabytes_of_nested_arrays_are_refused_and_the_server_goes_on():
    async def handler(request: Request):
        return await request.json()

    nested = b"[" * 10_000_000
    async with server(handler, "POST", max_body=20_000_000) as api:
        answer = await call(api, "POST", "/x", body=nested)
        assert (answer.status, answer.json()["code"]) == (400, "http.bad_request")
        assert (await call(api, "POST", "/x", body=b"[1]")).json() == [1]


@pytest.mark.parametrize(
    ("kind", "nested"),
    [
        ("application/json", b"[" * 10_000_000),
        ("application/json", b"[" * 5_000_000 + b"]" * 5_000_000),
        ("application/json", b'{"inner":[' * 1_000_000),
        ("application/msgpack", b"\x91" * 10_000_000),
        ("application/msgpack", b"\x81\xa5inner\x91" * 1_000_000),
    ],
    ids=["arrays", "closed arrays", "objects", "packed arrays", "packed objects"],
)
async def test_a_bound_body_that_is_nested_for_ever_is_refused_too(kind, nested):
    async def handler(value: Annotated[Any, Body()]) -> int:
        return 1

    async with server(handler, "POST", max_body=20_000_000) as api:
        answer = await call(api, "POST", "/x", body=nested, headers={"content-type": kind})
        assert (answer.status, answer.json()["detail"]) == (400, "The body is nested too deeply.")


async def test_too_many_or_too_long_headers_are_refused():
    async def handler(): ...

    many = await ask(handler, headers=[("x", "y")] * 101)
    long = await ask(handler, headers={"x": "y" * 40_000})
    huge = await ask(handler, headers=[("x-a", "y")] * 100_000)
    assert [answer.status for answer in (many, long, huge)] == [431, 431, 431]
    assert many.json()["code"] == "http.headers_too_large"


async def test_more_requests_than_allowed_are_told_to_come_back():
    go = asyncio.Event()

    async def handler() -> str:
        await go.wait()
        return "ok"

    async with server(handler, max_open=2) as api:
        first = [asyncio.create_task(call(api, "GET", "/x")) for _ in range(2)]
        await asyncio.sleep(0)
        answer = await call(api, "GET", "/x")
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert api.detail()["open"] == 2
        go.set()
        assert [answer.status for answer in await asyncio.gather(*first)] == [200, 200]


async def test_a_client_that_leaves_before_its_request_is_whole_is_not_answered():
    async def handler(request: Request) -> int:
        return len(await request.body())

    async with server(handler, "POST") as api:
        assert (await call(api, "POST", "/x", body=[b"ab", None])).status == 0
        assert api.stats.errors == {"http.499": 1}


# Time.


@virtual
async def test_a_handler_that_takes_too_long_is_cut():
    ended = []

    async def handler():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(asyncio.get_running_loop().time())

    began = asyncio.get_running_loop().time()
    async with server(handler, timeout=5.0) as api:
        answer = await call(api, "GET", "/x")
    assert (answer.status, answer.json()["code"]) == (503, "http.unavailable")
    assert ended[0] - began == pytest.approx(5, abs=0.1)


@virtual
async def test_a_client_that_sends_too_slowly_is_told_so():
    async def handler(request: Request) -> int:
        return len(await request.body())

    async def receive():
        await asyncio.sleep(1000)

    sent = []

    async def send(message):
        sent.append(message)

    async with server(handler, "POST", timeout=5.0) as api:
        scope = {"type": "http", "method": "POST", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": []}
        await api(scope, receive, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


@virtual
async def test_a_callers_deadline_shortens_and_never_lengthens():
    left = []

    async def handler():
        left.append(deadline.remaining())
        await asyncio.sleep(7)

    async with server(handler, timeout=5.0) as api:
        short = await call(api, "GET", "/x", headers={"x-deadline-remaining": "2.5"})
        long = await call(api, "GET", "/x", headers={"x-deadline-remaining": "900"})
        odd = await call(api, "GET", "/x", headers={"x-deadline-remaining": "soon"})
        over = await call(api, "GET", "/x", headers={"x-deadline-remaining": "0"})
    assert [answer.status for answer in (short, long, odd, over)] == [504, 503, 503, 504]
    assert left == [pytest.approx(2.5, abs=0.1), pytest.approx(5, abs=0.1), pytest.approx(5, abs=0.1)]


@virtual
async def test_a_request_that_is_cancelled_from_outside_stays_cancelled():
    async def handler():
        await asyncio.sleep(100)

    async with server(handler) as api:
        task = asyncio.create_task(call(api, "GET", "/x"))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (api.stats.cancelled, api.detail()["open"]) == (1, 0)


# Observation.


async def test_operations_are_counted_by_pattern_and_strangers_cannot_add_more():
    async def handler(id: int) -> int:
        return id

    async with server(handler, path="/x/{id}") as api:
        for n in range(5):
            await call(api, "GET", f"/x/{n}")
            await call(api, "GET", f"/unknown/{n}")
            await call(api, f"M{n}", "/x/1")
        stats = api.stats
    assert set(stats.operations) >= {"GET /x/{id}", "GET (unknown path)", "OTHER /x/{id}"}
    assert len([name for name in stats.operations if stats.operations[name].total]) == 3
    assert (stats.total, stats.succeeded, stats.errors) == (15, 5, {"http.404": 5, "http.405": 5})
    assert api.history[0].attributes == {"status": 200}


async def test_mistakes_of_clients_do_not_fill_the_log_and_those_of_the_server_do(caplog):
    async def handler(fail: bool = False):
        if fail:
            raise RuntimeError

    with caplog.at_level(logging.INFO):
        async with server(handler) as api:
            await call(api, "GET", "/nothing")
            await call(api, "GET", "/x", query="fail=x")
            assert not caplog.records
            await call(api, "GET", "/x", query="fail=1")
    assert {record.levelno for record in caplog.records} == {logging.ERROR, logging.WARNING}


async def test_without_observation_nothing_is_counted():
    async def handler(): ...

    async with server(handler, observe=False) as api:
        await call(api, "GET", "/x")
        assert (api.stats.total, api.history) == (0, [])


TRACEPARENT = f"00-{7:032x}-{9:016x}-01"


@pytest.mark.parametrize(("client", "believed"), [("127.0.0.1", True), ("::1", True), ("203.0.113.5", False)])
async def test_traces_and_ids_are_taken_from_trusted_peers_only(client, believed):
    spans = []

    async def handler(request: Request) -> str:
        spans.append(current_span())
        return request.id

    tracer = Tracer(Sampler(per_second=0, ratio=0.0))
    tracer.collect(on=True)
    api = APIServer("t", observer=Observer("t", "rest.server", tracer=tracer))
    async with server(handler, api=api) as api:
        headers = {"traceparent": TRACEPARENT, "x-request-id": "from-outside"}
        answer = await call(api, "GET", "/x", headers=headers, client=(client, 1))
    assert (spans[0] is not None and spans[0].trace_id == 7) is believed
    assert (answer.header("x-request-id") == "from-outside") is believed
    assert answer.json() == answer.header("x-request-id")


async def test_an_id_that_could_do_harm_is_replaced():
    async def handler(): ...

    answer = await ask(handler, headers={"x-request-id": "<script>"})
    assert "<" not in answer.header("x-request-id")


# Work after the answer.


async def test_background_work_begins_after_the_answer_and_is_awaited_on_stop():
    done, go = [], asyncio.Event()

    async def mail(to):
        await go.wait()
        done.append(to)

    def blocking(to):
        done.append(to.upper())

    async def handler(background: Background) -> str:
        background.run(mail, "ada")
        background.run(blocking, "bob")
        return "ok"

    api = server(handler)
    await api.start()
    assert (await call(api, "GET", "/x")).json() == "ok"
    assert done == []
    stopping = asyncio.create_task(api.stop())
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert sorted(done) == ["BOB", "ada"]
    assert api.stats.operations["background " + mail.__qualname__].succeeded == 1


async def test_background_work_of_a_failed_request_is_not_done():
    done = []

    async def handler(background: Background):
        background.run(done.append, 1)
        raise NotFound("no")

    await ask(handler)
    assert done == []


async def test_background_work_that_fails_is_counted_and_logged(caplog):
    async def fails():
        raise ValueError("secret value")

    async def handler(background: Background) -> None:
        background.run(fails)

    async with server(handler) as api:
        await call(api, "GET", "/x")
    assert api.stats.operations["background " + fails.__qualname__].errors == {"ValueError": 1}
    assert "failed" in caplog.text
    assert "secret value" not in caplog.text
