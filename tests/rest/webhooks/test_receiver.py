"""Receiving webhooks: each once, whoever sends it how often, and what must not get through."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from consona import APIServer, ConfigurationError, NotStarted, Store, ValidationError
from consona.rest.server.problems import BadRequest
from consona.rest.server.routing import Routes
from consona.rest.webhooks import (
    SignatureWrong,
    TimestampRefused,
    Webhook,
    WebhookBusy,
    WebhookReceiver,
    WebhookReplayed,
    new_secret,
    sign,
)
from served import served
from virtual_time import now, virtual

SECRET = new_secret()


class Paid(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    total: str = ""


NUMBERS = itertools.count()


def receiver(store="", **options):
    return WebhookReceiver(SECRET, store=store or f"memory://receiver-{next(NUMBERS)}", **options)


def clocked_store():
    return Store(f"memory://receiver-{next(NUMBERS)}", clock=now)


def headers(body=b"{}", *, id="msg_1", secret=SECRET, **options):
    return sign(body, secret, id=id, **options)


async def test_a_webhook_is_worked_on_once():
    async with receiver() as hooks:
        async with hooks.accept(headers(), b"{}") as webhook:
            assert webhook.id == "msg_1"
        with pytest.raises(WebhookReplayed):
            async with hooks.accept(headers(), b"{}"):
                pytest.fail("twice")
        async with hooks.accept(headers(id="msg_2"), b"{}"):
            pass


async def test_a_later_try_of_the_sender_is_known_by_its_id():
    async with receiver() as hooks:
        async with hooks.accept(headers(), b"{}"):
            pass
        with pytest.raises(WebhookReplayed):
            async with hooks.accept(headers(timestamp=hooks._clock() + 30), b"{}"):
                pytest.fail("twice")


async def test_when_the_work_fails_the_next_try_is_taken():
    async with receiver() as hooks:
        with pytest.raises(ZeroDivisionError):
            async with hooks.accept(headers(), b"{}"):
                raise ZeroDivisionError
        async with hooks.accept(headers(), b"{}") as webhook:
            assert webhook.body == b"{}"


async def test_when_the_work_is_cancelled_the_next_try_is_taken():
    async with receiver() as hooks:

        async def work():
            async with hooks.accept(headers(), b"{}"):
                begun.set()
                await asyncio.Event().wait()

        begun = asyncio.Event()
        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        async with hooks.accept(headers(), b"{}"):
            pass


async def test_while_one_works_on_it_others_are_told_to_come_again():
    async with receiver() as hooks:
        async with hooks.accept(headers(), b"{}"):
            with pytest.raises(WebhookBusy) as caught:
                async with hooks.accept(headers(), b"{}"):
                    pytest.fail("twice")
        assert caught.value.status == 503
        assert caught.value.retry_after == 5


async def test_of_many_at_once_one_works(tmp_path):
    async with receiver(f"sqlite:///{tmp_path}/ids.db") as hooks:
        done = []

        async def work():
            try:
                async with hooks.accept(headers(), b"{}"):
                    done.append(1)
                    await asyncio.sleep(0)
            except (WebhookReplayed, WebhookBusy):
                pass

        await asyncio.gather(*[work() for _ in range(50)])
        assert len(done) == 1


async def test_what_was_done_is_known_after_a_restart_and_in_other_processes(tmp_path):
    async with receiver(f"sqlite:///{tmp_path}/ids.db") as hooks, hooks.accept(headers(), b"{}"):
        pass
    async with receiver(f"sqlite:///{tmp_path}/ids.db") as hooks:
        with pytest.raises(WebhookReplayed):
            async with hooks.accept(headers(), b"{}"):
                pytest.fail("twice")


@virtual
async def test_a_recorded_webhook_is_never_right_again():
    """From the first moment at which it is valid (the sender's clock is ahead) to the day it is forgotten."""
    async with receiver(clocked_store(), clock=now, tolerance=300, remember=600) as hooks:
        recorded = headers(timestamp=now() + 300)
        async with hooks.accept(recorded, b"{}"):
            pass
        for _ in range(70):
            with pytest.raises((WebhookReplayed, TimestampRefused)):
                async with hooks.accept(recorded, b"{}"):
                    pytest.fail("replayed")
            await asyncio.sleep(10)


@virtual
async def test_work_that_is_never_heard_of_again_is_taken_by_the_next_try():
    hooks = receiver(clocked_store(), clock=now, working=60)
    async with hooks, hooks.accept(headers(timestamp=now()), b"{}"):
        await asyncio.sleep(61)
        async with hooks.accept(headers(timestamp=now()), b"{}"):
            pass


def test_ids_must_be_remembered_for_as_long_as_they_are_valid():
    with pytest.raises(ConfigurationError, match="twice the tolerance"):
        receiver(remember=599)


async def test_a_wrong_signature_leaves_no_trace():
    async with receiver() as hooks:
        with pytest.raises(SignatureWrong):
            async with hooks.accept(headers(secret=new_secret()), b"{}"):
                pytest.fail("forged")
        async with hooks.accept(headers(), b"{}"):
            pass


async def test_secrets_are_exchanged_while_it_runs():
    new = new_secret()
    async with receiver() as hooks:
        hooks.use([new, SECRET])
        assert hooks.verify(headers(), b"{}")
        hooks.use(new)
        with pytest.raises(SignatureWrong):
            hooks.verify(headers(), b"{}")
        with pytest.raises(ConfigurationError):
            hooks.use("nonsense")
        assert hooks.verify(headers(secret=new), b"{}")


async def test_it_must_be_started():
    with pytest.raises(NotStarted):
        async with receiver().accept(headers(), b"{}"):
            pass


async def test_each_wrong_field_is_named():
    webhook = receiver().verify(headers(b'{"id": "x", "total": 1}'), b'{"id": "x", "total": 1}')
    with pytest.raises(ValidationError) as caught:
        webhook.json(into=Paid)
    assert [field.path for field in caught.value.fields] == ["body.id", "body.total"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_a_bad_request(body):
    with pytest.raises(BadRequest):
        receiver().verify(headers(body), body).json()


async def test_values_stay_out_of_the_history():
    async with receiver() as hooks, hooks.accept(headers(b'{"card": "4111"}'), b'{"card": "4111"}'):
        pass
    [entry] = hooks.history
    assert "4111" not in repr(entry)
    assert entry.attributes == {"bytes": 16, "repeated": False}


# As a route.


def shop(**options):
    api, seen = APIServer("shop"), []
    hooks = receiver(**options)

    @hooks.receive(api, "/hooks/{source}", into=Paid)
    async def paid(event, source: str, dry: bool = False):
        if event.total == "fail":
            raise RuntimeError
        seen.append((event, source, dry))

    return api, hooks, seen


async def post(client, body, path="/hooks/bank", **options):
    return await client.post(path, content=body, headers=headers(body, **options), raise_for_status=False)


async def test_a_route_gets_the_event_typed_and_whatever_else_it_asks_for():
    api, hooks, seen = shop()
    async with api.test_client() as client:
        assert hooks.started  # by the server
        assert (await post(client, b'{"id": 7}', "/hooks/bank?dry=true")).status == 204
    assert seen == [(Paid(7), "bank", True)]
    assert not hooks.started


async def test_a_repeated_webhook_is_answered_with_success_and_not_handed_on():
    api, _, seen = shop()
    async with api.test_client() as client:
        assert [(await post(client, b'{"id": 7}')).status for _ in range(3)] == [204, 204, 204]
    assert len(seen) == 1


async def test_a_handler_that_fails_gets_the_next_try():
    api, _, seen = shop()
    async with api.test_client() as client:
        assert (await post(client, b'{"id": 7, "total": "fail"}')).status == 500
        assert (await post(client, b'{"id": 7}')).status == 204
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("body", "options", "status", "code"),
    [
        (b'{"id": 7}', {"secret": new_secret()}, 401, "webhook.signature_wrong"),
        (b'{"id": 7}', {"timestamp": 1}, 401, "webhook.timestamp"),
        (b'{"id": "x"}', {}, 422, "validation"),
        (b'{"id": 7, "more": 1}', {}, 422, "validation"),
        (b"{", {}, 400, "http.bad_request"),
    ],
)
async def test_what_the_sender_hears(body, options, status, code):
    api, _, seen = shop()
    async with api.test_client() as client:
        answer = await post(client, body, **options)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert seen == []


async def test_an_unsigned_request_is_refused():
    api, _, _ = shop()
    async with api.test_client() as client:
        answer = await client.post("/hooks/bank", json={"id": 7}, raise_for_status=False)
    assert (answer.status, answer.json()["code"]) == (401, "webhook.signature_missing")


async def test_giant_bodies_are_refused_before_they_are_read():
    api, _, _ = shop(max_bytes=1000)
    async with served(api) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"POST /hooks/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in await reader.readline()
        writer.close()


async def test_the_annotation_says_the_type_and_a_plain_function_may_handle_it():
    api, seen = APIServer("shop"), []
    hooks = receiver()

    class Refunded(msgspec.Struct):
        id: int

    @hooks.receive(api, "/refunds")
    def refunded(event: Refunded) -> None:
        seen.append(event)

    @hooks.receive(api, "/raw")
    async def raw(event: Webhook) -> None:
        seen.append(event.body)

    async with api.test_client() as client:
        await post(client, b'{"id": 7}', "/refunds", id="a")
        await post(client, b'{"id": 8}', "/raw", id="b")
    assert seen == [Refunded(7), b'{"id": 8}']


async def test_a_group_of_routes_may_receive():
    group, api, seen = Routes("/hooks"), APIServer("shop"), []
    hooks = receiver()

    @hooks.receive(group, "/paid")
    async def paid(event: Paid) -> None:
        seen.append(event)

    api.include(group)
    api.parts.append(hooks)
    async with api.test_client() as client:
        assert (await post(client, b'{"id": 7}', "/hooks/paid")).status == 204
    assert seen == [Paid(7)]


def test_a_handler_without_an_event_or_a_type_is_refused_at_once():
    hooks, api = receiver(), APIServer("shop")
    with pytest.raises(ConfigurationError, match="takes no event"):
        hooks.receive(api, "/a")(lambda: None)
    with pytest.raises(ConfigurationError, match="has no type"):
        hooks.receive(api, "/a")(lambda event: None)


async def test_it_works_in_any_asgi_application():
    hooks = receiver()

    async def app(scope, receive, send):
        body = (await receive())["body"]
        try:
            async with hooks.accept(scope["headers"], body) as webhook:
                status = 200 if webhook.json() == {"id": 7} else 500
        except SignatureWrong:
            status = 401
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    from consona import APIClient
    from consona.rest.client.asgi_transport import ASGITransport

    async with hooks, APIClient("http://app", transport=ASGITransport(app)) as client:
        assert (await post(client, b'{"id": 7}', "/")).status == 200
        assert (await post(client, b'{"id": 7}', "/", secret=new_secret())).status == 401
