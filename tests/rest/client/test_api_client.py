"""What a client does with a call, against a real socket."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass

import msgspec
import pytest

import wire
from consona.errors import APIError, ConfigurationError, ConnectError, DeadlineExceeded, NotStarted
from consona.resilience import Breaker, Policy, Retry
from consona.rest.client.api_client import REPEAT, APIClient, ClientSettings
from consona.rest.client.authentication import APIKey, Basic, Bearer
from consona.rest.client.connection_settings import ConnectionSettings
from consona.rest.client.errors import BadAnswer, ConnectionLost, InvalidAnswer, TooManyRedirects
from consona.rest.client.response import Response
from consona.rest.transport import Timeouts
from consona.telemetry.trace import Sampler, Span, activate, deactivate, default_tracer
from virtual_time import virtual

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0))


class User(msgspec.Struct):
    id: int
    name: str


@dataclass
class NewPost:
    title: str


ADA = b'{"id": 7, "name": "Ada"}'


async def test_a_typed_answer_is_decoded_and_validated():
    async with wire.Wire(wire.answer(200, ADA)) as server, APIClient(f"{server.url}/v1") as api:
        assert await api.get("/users/me", into=User) == User(7, "Ada")
        assert await api.get("users", into=User, params={"tag": ["a", "b"]}) == User(7, "Ada")
    assert [seen.target for seen in server.seen] == ["/v1/users/me", "/v1/users?tag=a&tag=b"]


async def test_an_untyped_answer_is_a_response():
    async with wire.Wire(wire.answer(201, ADA, x_shop="7")) as server, APIClient(server.url) as api:
        reply = await api.post("/posts", json=NewPost("Hello"))
    assert (reply.status, reply.headers["X-Shop"], reply.json(), reply.text) == (
        201,
        "7",
        {"id": 7, "name": "Ada"},
        ADA.decode(),
    )
    assert (reply.attempts, reply.url, reply.ok, reply.http_version) == (1, f"{server.url}/posts", True, "1.1")
    assert reply.elapsed > 0
    assert server.seen[0].body == b'{"title":"Hello"}'
    assert server.seen[0].headers["content-type"] == "application/json"


async def test_each_verb_sends_its_method():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        for verb in (api.get, api.post, api.put, api.patch, api.delete, api.options):
            await verb("/")
    assert [seen.method for seen in server.seen] == ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def test_head_reads_no_body_although_a_length_is_given():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\ncontent-encoding: gzip\r\n\r\n"
    async with wire.Wire(head) as server, APIClient(server.url) as api:
        reply = await api.head("/")
        assert reply.headers["content-length"] == "1000"
        assert reply.content == b""
        await api.head("/")
    assert server.connections == 1


async def test_an_answer_that_does_not_fit_names_every_wrong_field():
    async with wire.Wire(wire.answer(200, b'{"id": "seven"}')) as server, APIClient(server.url) as api:
        with pytest.raises(InvalidAnswer) as caught:
            await api.get("/users/7", into=User)
    assert [field.path for field in caught.value.fields] == ["body.id", "body.name"]
    assert "seven" not in str(caught.value)
    assert caught.value.status == 502


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b'{"id": 1', b"\xff\xfe", b"[" * 100_000])
async def test_an_answer_that_is_no_json_says_so_without_showing_it(body):
    async with wire.Wire(wire.answer(200, body, content_type="text/html")) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer) as caught:
            await api.get("/users/7", into=User)
    assert "html>" not in str(caught.value)


async def test_a_status_of_400_and_above_is_an_error_with_the_servers_problem():
    problem = b'{"type": "about:blank", "title": "Gone fishing", "status": 418, "until": "monday"}'
    async with (
        wire.Wire(wire.answer(418, problem, content_type="application/problem+json")) as server,
        APIClient(server.url) as api,
    ):
        with pytest.raises(APIError, match="418 Gone fishing") as caught:
            await api.get("/users/7?token=hidden")
        assert api.history[-1].error == "api.418"
    assert caught.value.status == 418
    assert caught.value.problem["until"] == "monday"
    assert caught.value.response.json()["until"] == "monday"
    assert not caught.value.retryable
    assert "hidden" not in str(caught.value)


async def test_an_error_by_status_is_the_answer_where_that_is_asked_for():
    settings = ClientSettings(raise_for_status=False)
    async with wire.Wire(wire.answer(404, b"{}")) as server, APIClient(server.url, settings=settings) as api:
        assert (await api.get("/users/7")).status == 404
        assert api.stats.failed == 1
        with pytest.raises(APIError):
            await api.get("/users/7", into=User)
        with pytest.raises(APIError):
            await api.get("/users/7", raise_for_status=True)


async def test_one_history_entry_a_call_made_after_its_last_try():
    deeds = (wire.answer(503), wire.answer(503), wire.answer(200, ADA))
    async with wire.Wire(*deeds) as server, APIClient(server.url, policy=EAGER) as api:
        reply = await api.get("/users/7", params={"api_key": "hidden", "page": 2})
        assert reply.attempts == 3
        [entry] = api.history
        assert (entry.success, entry.operation, entry.target) == (True, "GET", "/users/{id}")
        assert entry.attributes == {
            "url": f"{server.url}/users/7?api_key=***&page=2",
            "attempts": 3,
            "status": 200,
            "bytes": len(ADA),
        }
        assert api.stats.success_rate == 1.0


async def test_a_call_can_be_given_the_name_that_figures_know_it_by():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.get("/x/some-slug", name="/x/{slug}")
        assert list(api.stats.operations) == ["GET /x/{slug}"]


async def test_no_value_of_body_or_credentials_is_logged_or_kept(caplog):
    caplog.set_level(logging.DEBUG, "consona")
    async with (
        wire.Wire(wire.answer(500, b'{"iban": "DE00"}')) as server,
        APIClient(server.url, auth=Bearer("s3cr3t-token")) as api,
    ):
        with pytest.raises(APIError):
            await api.post("/pay", json={"card": "4111"}, headers={"X-Api-Key": "k-123"})
        kept = f"{api.history} {api.stats} {caplog.text} {api!r} {api.auth!r}"
    for secret in ("s3cr3t", "4111", "DE00", "k-123"):
        assert secret not in kept


# What is sent again.


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
async def test_a_passing_failure_of_a_get_is_tried_again(status):
    async with (
        wire.Wire(wire.answer(status), wire.answer(200, ADA)) as server,
        APIClient(server.url, policy=EAGER) as api,
    ):
        assert (await api.get("/")).attempts == 2


@pytest.mark.parametrize("status", [400, 404, 409, 500, 501])
async def test_a_lasting_failure_is_not(status):
    async with wire.Wire(wire.answer(status)) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(APIError) as caught:
            await api.get("/")
    assert len(server.seen) == 1
    assert not caught.value.retryable


@pytest.mark.parametrize("deed", [wire.hang_up, wire.answer(503), wire.answer(429)])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_request_that_may_have_had_effects_is_sent_once(method, deed):
    async with wire.Wire(deed) as server, APIClient(server.url, policy=EAGER) as api:
        with pytest.raises((ConnectionLost, APIError)) as caught:
            await api.request(method, "/orders", json={})
    assert len(server.seen) == 1
    assert not caught.value.retryable, "a policy around the call must not repeat it either"


@pytest.mark.parametrize("deed", [wire.hang_up, wire.answer(503)])
async def test_a_post_declared_idempotent_is_sent_again_under_the_same_key(deed):
    async with wire.Wire(deed, deed, wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:
        await api.post("/orders", json={}, idempotent=True)
        await api.post("/orders", json={}, idempotent=True)
    keys = [seen.headers["idempotency-key"] for seen in server.seen]
    assert len(set(keys[:3])) == 1
    assert keys[3] not in keys[:3]


async def test_a_key_of_the_callers_own_is_kept():
    settings = ClientSettings(idempotent=True)
    async with wire.Wire(wire.answer()) as server, APIClient(server.url, settings=settings) as api:
        await api.post("/orders", json={}, headers={"idempotency-key": "mine"})
    assert server.seen[0].headers["idempotency-key"] == "mine"


async def test_a_post_is_sent_again_when_nothing_of_it_was_sent():
    async with wire.Wire(wire.answer()) as server:
        pass  # it listens no more
    async with APIClient(server.url, policy=EAGER) as api:
        with pytest.raises(ConnectError) as caught:
            await api.post("/orders", json={})
        assert api.history[-1].attributes["attempts"] == 3
    assert caught.value.retryable


async def test_a_reused_connection_that_breaks_is_not_silently_used_twice():
    """aiohttp's session would send an idempotent request again by itself, unseen by the policy."""
    once = Policy(timeout=wire.BOUND_S)
    async with wire.Wire(wire.answer(), wire.hang_up) as server, APIClient(server.url, policy=once) as api:
        await api.get("/")
        with pytest.raises(ConnectionLost):
            await api.put("/thing", json={})
        assert api.history[-1].attributes["attempts"] == 1
    assert [seen.method for seen in server.seen] == ["GET", "PUT"]


@virtual
async def test_retry_after_is_waited_for():
    loop = asyncio.get_running_loop()
    deeds = (wire.answer(429, retry_after="7"), wire.answer())
    async with wire.Wire(*deeds) as server, APIClient(server.url, policy=Policy(timeout=60, retry=Retry())) as api:
        began = loop.time()
        await api.get("/")
        assert 7 <= loop.time() - began < 8


async def test_retry_after_beyond_the_deadline_is_not_waited_for():
    policy = Policy(timeout=5, retry=Retry())
    async with wire.Wire(wire.answer(503, retry_after="3600")) as server, APIClient(server.url, policy=policy) as api:
        with pytest.raises(APIError) as caught:
            await api.get("/")
    assert caught.value.retry_after == 3600
    assert caught.value.retryable


async def test_a_silent_server_is_given_up_and_asked_again_by_the_read_timeout():
    settings = ClientSettings(timeouts=Timeouts(read=0.05))
    async with (
        wire.Wire(wire.silence, wire.answer()) as server,
        APIClient(server.url, policy=EAGER, settings=settings) as api,
    ):
        assert (await api.get("/")).attempts == 2
        server.deeds = [wire.silence]
        with pytest.raises(DeadlineExceeded) as caught:
            await api.post("/")
    assert caught.value.context["phase"] == "read"
    assert len(server.seen) == 3


async def test_the_whole_call_ends_by_its_deadline():
    async with wire.Wire(wire.silence) as server, APIClient(server.url) as api:
        with pytest.raises(DeadlineExceeded):
            await api.get("/", timeout=0.05)
        assert api.history[-1].error == "deadline_exceeded"


HASTY = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, try_timeout=0.1))


@pytest.mark.parametrize("hang", [wire.silence, wire.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")])
async def test_a_try_that_hangs_is_given_up_and_the_request_sent_again(hang):
    async with wire.Wire(hang, wire.answer(200, b"1")) as server, APIClient(server.url, policy=HASTY) as api:
        reply = await api.get("/")
        assert (reply.json(), reply.attempts) == (1, 2)
        assert api._transport.gate.busy == 0
    assert float(server.seen[0].headers["x-deadline-remaining"]) <= 0.1  # it is told how long it has


async def test_a_post_that_hangs_is_given_up_and_not_sent_again():
    async with wire.Wire(wire.silence) as server, APIClient(server.url, policy=HASTY) as api:
        with pytest.raises(DeadlineExceeded, match=r"took longer than 0\.1 s") as caught:
            await api.post("/", json={})
        assert not caught.value.retryable
        assert len(server.seen) == 1
        with pytest.raises(DeadlineExceeded) as caught:
            await api.post("/", json={}, idempotent=True)
    assert caught.value.retryable
    assert len(server.seen) == 4


async def test_redirects_share_the_one_deadline_of_the_call():
    async def slowly(seen, reader, writer):
        await asyncio.sleep(0.1)
        writer.write(wire.message(302, location="/again"))

    async with wire.Wire(slowly) as server, APIClient(server.url, policy=Policy(timeout=0.25)) as api:
        with pytest.raises(DeadlineExceeded):
            await api.get("/")
    assert len(server.seen) <= 3


# Where credentials go.


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (Bearer("abc"), "authorization", "Bearer abc"),
        (APIKey("k-1", header="X-Shop-Key"), "x-shop-key", "k-1"),
        (Basic("Aladdin", "open sesame"), "authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (Bearer(lambda: "fresh"), "authorization", "Bearer fresh"),
    ],
)
async def test_credentials_go_to_the_base_and_nowhere_else(auth, name, value):
    async with (
        wire.Wire(wire.answer(set_cookie="sid=1")) as home,
        wire.Wire(wire.answer()) as elsewhere,
        APIClient(home.url, auth=auth, headers={"X-Own": "1"}) as api,
    ):
        await api.get("/")
        await api.get(f"{home.url}/absolute")
        await api.get(f"{elsewhere.url}/absolute")
        home.deeds = [wire.answer(307, location=f"{elsewhere.url}/redirected")]
        await api.post("/", json={}, headers={"X-Secret": "2"}, idempotent=True)
    assert [seen.headers[name] for seen in home.seen] == [value] * 3
    assert home.seen[1].headers["cookie"] == "sid=1"
    assert [seen.target for seen in elsewhere.seen] == ["/absolute", "/redirected"]
    harmless = {"host", "accept", "accept-encoding", "user-agent", "content-type", "content-length", "traceparent"}
    for seen in elsewhere.seen:
        assert set(seen.headers) <= harmless


async def test_the_deadline_travels_with_a_call():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.get("/", timeout=5)
    assert 4 < float(server.seen[0].headers["x-deadline-remaining"]) <= 5


@pytest.fixture
def tracing():
    default_tracer.collect(on=True)
    yield default_tracer
    default_tracer.collect(on=False)


async def test_the_trace_travels_to_everybody_and_the_baggage_stays_at_home(tracing):
    token = activate(Span(7, 9, baggage={"customer": "ada"}))
    try:
        async with (
            wire.Wire(wire.answer()) as server,
            wire.Wire(wire.answer()) as elsewhere,
            APIClient(server.url) as api,
        ):
            await api.get("/")
            await api.get(elsewhere.url)
    finally:
        deactivate(token)
    spans = {f"{span.span_id:016x}" for span in tracing.drain()}
    for seen, baggage in ((server.seen[0], "customer=ada"), (elsewhere.seen[0], None)):
        version, trace_id, span_id, flags = seen.headers["traceparent"].split("-")
        assert (version, int(trace_id, 16), flags) == ("00", 7, "01")
        assert span_id in spans
        assert seen.headers.get("baggage") == baggage


async def test_a_trace_that_is_not_kept_is_not_begun_further_on(tracing, monkeypatch):
    monkeypatch.setattr(tracing, "sampler", Sampler(per_second=0, ratio=0.0))
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.get("/")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", server.seen[0].headers["traceparent"])


async def test_a_program_without_traces_says_nothing_of_them():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        await api.get("/")
    assert "traceparent" not in server.seen[0].headers


async def test_cookies_can_be_switched_off():
    settings = ClientSettings(cookies=False)
    async with wire.Wire(wire.answer(set_cookie="sid=1")) as server, APIClient(server.url, settings=settings) as api:
        await api.get("/")
        await api.get("/")
    assert "cookie" not in server.seen[1].headers


# Redirects.


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        ("GET", 301, "GET"),
        ("POST", 301, "GET"),
        ("POST", 302, "GET"),
        ("PUT", 302, "PUT"),
        ("PUT", 303, "GET"),
        ("HEAD", 303, "HEAD"),
        ("POST", 307, "POST"),
        ("PATCH", 308, "PATCH"),
    ],
)
async def test_a_redirect_changes_the_method_as_rfc_9110_says(method, status, then):
    body = None if method in {"GET", "HEAD"} else {"a": 1}
    async with (
        wire.Wire(wire.answer(status, b"", location="/there"), wire.answer(200, b"")) as server,
        APIClient(f"{server.url}/v1") as api,
    ):
        reply = await api.request(method, "/here", json=body)
    assert [(seen.method, seen.target) for seen in server.seen] == [(method, "/v1/here"), (then, "/there")]
    assert server.seen[1].body == (b'{"a":1}' if then == method and body else b"")
    assert (reply.url, reply.attempts) == (f"{server.url}/there", 2)


async def test_redirects_for_ever_end():
    async with wire.Wire(wire.answer(302, location="/again")) as server, APIClient(server.url) as api:
        with pytest.raises(TooManyRedirects):
            await api.get("/")
    assert len(server.seen) == 11


async def test_a_redirect_is_the_answer_where_none_is_to_be_followed():
    settings = ClientSettings(max_redirects=0)
    async with wire.Wire(wire.answer(302, location="/x")) as server, APIClient(server.url, settings=settings) as api:
        assert (await api.get("/")).status == 302


@pytest.mark.parametrize("location", ["ftp://example.org/", "http://user:pw@127.0.0.1/", "http://[::1", "file:///etc"])
async def test_a_redirect_to_nowhere_says_so(location):
    async with wire.Wire(wire.answer(302, location=location)) as server, APIClient(server.url) as api:
        with pytest.raises(BadAnswer) as caught:
            await api.get("/")
    assert "pw" not in str(caught.value)


async def test_a_lost_connection_after_a_redirected_post_does_not_invite_to_repeat_it():
    async with (
        wire.Wire(wire.answer(303, location="/result"), wire.hang_up) as server,
        APIClient(server.url, policy=EAGER) as api,
    ):
        with pytest.raises(ConnectionLost) as caught:
            await api.post("/orders", json={})
    assert [seen.method for seen in server.seen] == ["POST", "GET", "GET", "GET"]
    assert not caught.value.retryable


# Handlers and hooks.


async def test_a_handler_may_have_the_request_repeated_once():
    async with wire.Wire(wire.answer(401), wire.answer(200, ADA)) as server, APIClient(server.url) as api:
        api.on_status(401, lambda response: REPEAT)
        assert await api.post("/users", json={}, into=User) == User(7, "Ada")
        assert api.stats.success_rate == 1.0
        server.deeds = [wire.answer(401)]
        with pytest.raises(APIError):
            await api.get("/")
    assert len(server.seen) == 4


async def test_a_handler_may_answer_with_a_value_a_response_or_an_error():
    async with wire.Wire(wire.answer(404)) as server, APIClient(server.url) as api:

        @api.on_status(404, 410)
        async def missing(response):
            return {"missing": response.status}

        assert await api.get("/", into=User) == {"missing": 404}
        api.on_status(404, lambda response: Response(200, [], ADA))
        assert await api.get("/", into=User) == User(7, "Ada")

        def refuse(response):
            raise LookupError("none")

        api.on_status(404, refuse)
        with pytest.raises(LookupError):
            await api.get("/")
        api.on_status(404, lambda response: None)
        with pytest.raises(APIError):
            await api.get("/")
        assert api.stats.failed == 4


async def test_a_handler_runs_after_the_retries():
    asked = []
    async with wire.Wire(wire.answer(503)) as server, APIClient(server.url, policy=EAGER) as api:
        api.on_status(503, lambda response: asked.append(response.attempts))
        with pytest.raises(APIError):
            await api.get("/")
    assert asked == [3]


@pytest.mark.parametrize("status", [200, 399, 600, "404"])
async def test_a_handler_for_another_status_is_refused(status):
    with pytest.raises(ConfigurationError, match="400 to 599"):
        APIClient("http://localhost").on_status(status, print)


async def test_hooks_see_every_try_and_may_change_it():
    seen = []
    async with wire.Wire(wire.answer(503), wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:

        @api.on_request
        async def sign(request):
            request.headers.append(("X-Signature", str(len(seen))))

        @api.on_response
        def note(response):
            seen.append(response.status)

        await api.get("/")
    assert seen == [503, 200]
    assert [one.headers["x-signature"] for one in server.seen] == ["0", "1"]


async def test_what_a_hook_raises_is_what_the_caller_gets():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url, policy=EAGER) as api:

        @api.on_response
        def refuse(response):
            raise APIError("not from the server", status=503)

        with pytest.raises(APIError, match="not from the server"):
            await api.post("/")
        reply = [entry.success for entry in api.history]
    assert reply == [False]


# The life of a client.


async def test_a_client_that_is_not_started_says_how():
    with pytest.raises(NotStarted, match="async with"):
        await APIClient("http://localhost").get("/")


async def test_a_dead_dependency_opens_the_circuit_which_health_tells():
    policy = Policy(timeout=5, breaker=Breaker(min_calls=3))
    async with wire.Wire(wire.answer(500)) as server, APIClient(server.url, policy=policy) as api:
        assert (await api.check()).ok
        for _ in range(3):
            with pytest.raises(APIError):
                await api.post("/")
        assert not (await api.check()).ok
        assert api.stats.detail["policy"]["keys"][server.url]["breaker"]["state"] == "open"


@pytest.mark.parametrize(
    "base", ["example.com", "ftp://example.com", "http://", "http://u:p@example.com", "http://a?b=1", ""]
)
async def test_a_base_that_cannot_be_used_is_refused(base):
    with pytest.raises(ConfigurationError) as caught:
        APIClient(base)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X Y": "1"}, {"X": "\x00"}])
async def test_a_header_that_would_break_out_is_refused_before_anything_is_sent(headers):
    with pytest.raises(ConfigurationError):
        APIClient("http://localhost", headers=headers)
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        with pytest.raises(ConfigurationError):
            await api.get("/", headers=headers)
    assert server.seen == []


async def test_an_option_that_there_is_not_is_refused_with_the_nearest():
    async with wire.Wire(wire.answer()) as server, APIClient(server.url) as api:
        with pytest.raises(ConfigurationError, match="Did you mean `json=`"):
            await api.post("/", jsn={"a": 1})
        with pytest.raises(ConfigurationError, match="There are: content,"):
            await api.post("/", qqqqqqqq=1)
    assert server.seen == []


@pytest.mark.parametrize("http2", [False, True])
async def test_a_client_of_another_event_loop_says_so(http2):
    settings = ConnectionSettings(http2=http2)
    async with wire.Wire(wire.answer()) as server, APIClient(server.url, connections=settings) as api:

        def elsewhere():
            asyncio.run(api.get("/"))

        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
        assert (await api.get("/")).status == 200
