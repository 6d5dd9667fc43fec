"""Sending webhooks: the schedule of days in virtual time, and all that an endpoint can do to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from datetime import UTC, datetime

import msgspec
import pytest

from consona import ConfigurationError, Conflict, NotFound, NotStarted, Store, ValidationError
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.server.problems import BodyTooLarge
from consona.rest.webhooks import (
    RETRY_SCHEDULE,
    AddressRefused,
    DeliverySettings,
    SignatureWrong,
    WebhookSender,
    new_secret,
    verify,
)
from virtual_time import now, virtual

NUMBERS = itertools.count()
DAY = 86_400.0
HOUR = 3600.0


class InvoicePaid(msgspec.Struct):
    id: int


class Customer:
    """An endpoint that answers as it is told, and keeps what it got."""

    def __init__(self, *answers):
        self.answers = list(answers)
        """A status, (status, headers), or an exception; the last one from then on."""
        self.got = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        self.got.append((asyncio.get_running_loop().time(), dict(scope["headers"]), body, scope["path"]))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = 200
        status, headers = answer if isinstance(answer, tuple) else (answer, [])
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"thanks" * 100_000 if status == 200 else b"no"})

    @property
    def times(self):
        return [round(at - self.got[0][0], 3) for at, *_ in self.got]


def sender(customer, *, store=None, **settings):
    store = store or Store(f"memory://sender-{next(NUMBERS)}", clock=now)
    return WebhookSender(
        store,
        events={"invoice.paid": InvoicePaid},
        settings=DeliverySettings(jitter=0.0, **settings),
        transport=ASGITransport(customer),
        clock=now,
    )


async def only(hooks, **wanted):
    [delivery] = [each async for each in hooks.deliveries(**wanted)]
    return delivery


async def until_finished(hooks, message):
    while (delivery := await only(hooks, message=message)).status == "pending":
        await asyncio.sleep(60)
    return delivery


@virtual
async def test_an_event_arrives_signed_with_its_type_and_time():
    customer = Customer(200)
    async with sender(customer) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks?x=1")
        message = await hooks.send(InvoicePaid(7))
        delivery = await until_finished(hooks, message)
    [(_, headers, body, path)] = customer.got
    assert path == "/hooks"
    assert verify(headers.items(), body, endpoint.secret, clock=lambda: 1000).id == message
    assert headers[b"content-type"] == b"application/json"
    assert json.loads(body) == {"type": "invoice.paid", "timestamp": "1970-01-01T00:16:40Z", "data": {"id": 7}}
    assert (delivery.status, delivery.attempts, delivery.last_status, delivery.next_try) == ("delivered", 1, 200, None)


@virtual
async def test_a_failing_endpoint_is_tried_after_the_schedule_of_the_specification_then_given_up():
    customer = Customer(500)
    async with sender(customer, disable_after=30 * DAY) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        delivery = await until_finished(hooks, await hooks.send(InvoicePaid(7)))
    assert customer.times == [float(each) for each in itertools.accumulate(RETRY_SCHEDULE)]
    assert customer.times[-1] == 75 * 3600 + 35 * 60 + 5
    assert (delivery.status, delivery.attempts) == ("failed", 10)
    assert delivery.last_error == "the endpoint answered 500"


@virtual
async def test_each_try_is_signed_anew_with_the_same_id_and_body():
    customer = Customer(500, 500, 200)
    async with sender(customer) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")
        await until_finished(hooks, await hooks.send(InvoicePaid(7)))
    assert len({body for *_, body, _ in customer.got}) == 1
    seen = [verify(h.items(), body, endpoint.secret, clock=lambda at=at: at) for at, h, body, _ in customer.got]
    assert len({each.id for each in seen}) == 1
    assert [each.timestamp.timestamp() for each in seen] == [1000, 1005, 1305]


@virtual
async def test_waits_are_spread_but_never_shorter():
    customer = Customer(500)
    store = Store(f"memory://sender-{next(NUMBERS)}", clock=now)
    settings = DeliverySettings(jitter=0.5, schedule=(0, 100, 100))
    hooks = WebhookSender(store, settings=settings, transport=ASGITransport(customer), clock=now, rng=lambda: 0.5)
    async with hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        await until_finished(hooks, await hooks.send({"id": 7}, type="x"))
    assert customer.times == [0, 125, 250]


@virtual
async def test_an_endpoint_that_recovers_gets_it_and_is_well_again():
    customer = Customer(500, 503, 200)
    async with sender(customer) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")
        message = await hooks.send(InvoicePaid(7))
        await asyncio.sleep(10)
        assert (await hooks.endpoint(endpoint.id)).failing_since == datetime.fromtimestamp(1000, UTC)
        assert (await until_finished(hooks, message)).status == "delivered"
        assert (await hooks.endpoint(endpoint.id)).failing_since is None
    assert customer.times == [0, 5, 305]


@virtual
async def test_410_disables_the_endpoint_at_once():
    customer = Customer(410)
    async with sender(customer) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")
        delivery = await until_finished(hooks, await hooks.send(InvoicePaid(7)))
        assert (delivery.status, delivery.last_status) == ("failed", 410)
        assert "410" in (await hooks.endpoint(endpoint.id)).disabled
        message = await hooks.send(InvoicePaid(8))
        assert [each async for each in hooks.deliveries(message=message)] == []
    assert len(customer.got) == 1


@virtual
async def test_an_endpoint_that_fails_for_days_is_disabled_and_can_be_enabled_again():
    customer = Customer(500)
    async with sender(customer, disable_after=HOUR) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")
        message = await hooks.send(InvoicePaid(7))
        delivery = await until_finished(hooks, message)
        assert customer.times[-1] >= HOUR > customer.times[-2]
        assert (await hooks.endpoint(endpoint.id)).disabled == "it has failed since 1970-01-01 00:16 UTC"
        customer.answers = [200]
        await hooks.enable(endpoint.id)
        await hooks.resend(delivery.id)
        assert (await until_finished(hooks, message)).status == "delivered"


@virtual
async def test_what_is_pending_for_a_disabled_or_removed_endpoint_fails_when_it_is_due():
    customer = Customer(500)
    async with sender(customer) as hooks:
        first = await hooks.add_endpoint("https://one.example/hooks", events=["a"])
        second = await hooks.add_endpoint("https://two.example/hooks", events=["b"])
        messages = [await hooks.send({}, type=each) for each in "ab"]
        await asyncio.sleep(1)
        await hooks.disable(first.id, reason="not paid")
        assert await hooks.remove_endpoint(second.id)
        errors = [(await until_finished(hooks, message)).last_error for message in messages]
    assert errors == ["the endpoint is disabled: not paid", "the endpoint was removed"]
    assert len(customer.got) == 2


@virtual
async def test_retry_after_is_waited_for_and_the_endpoint_left_alone_meanwhile():
    customer = Customer((429, [(b"retry-after", b"600")]), 200)
    async with sender(customer) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        await hooks.send(InvoicePaid(7))
        await asyncio.sleep(1)
        second = await hooks.send(InvoicePaid(8))
        assert (await until_finished(hooks, second)).status == "delivered"
    assert customer.times == [0, 600, 600]


@virtual
async def test_redirects_are_failures():
    customer = Customer((302, [(b"location", b"https://evil.example/")]))
    async with sender(customer, schedule=(0.0,)) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        delivery = await until_finished(hooks, await hooks.send(InvoicePaid(7)))
    assert delivery.last_error == "the endpoint redirects, which is not followed"
    assert len(customer.got) == 1


@virtual
async def test_an_endpoint_that_does_not_answer_in_time_is_tried_again():
    customer = Customer(1000.0, 200)
    async with sender(customer, timeout=15.0) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        assert (await until_finished(hooks, await hooks.send(InvoicePaid(7)))).attempts == 2
    assert customer.times == [0, 20]


@virtual
async def test_a_slow_endpoint_does_not_stop_the_others():
    class Two(Customer):
        async def __call__(self, scope, receive, send):
            if dict(scope["headers"]).get(b"host") == b"slow.example":
                await asyncio.sleep(10)
            await super().__call__(scope, receive, send)

    customer = Two(200)
    async with sender(customer, concurrency=5, per_endpoint=2) as hooks:
        slow = await hooks.add_endpoint("https://slow.example/", owner="slow")
        await hooks.add_endpoint("https://quick.example/", owner="quick")
        for _ in range(20):
            await hooks.send({}, type="x", owner="slow")
        for _ in range(20):
            await hooks.send({}, type="x", owner="quick")
        await asyncio.sleep(1)
        assert hooks.stats.detail["in_flight"] == 2
        assert len([each async for each in hooks.deliveries(status="delivered")]) == 20
        await asyncio.sleep(200)
        assert len([each async for each in hooks.deliveries(status="delivered", endpoint=slow.id)]) == 20


@virtual
async def test_endpoints_get_the_types_that_they_want_and_owners_only_their_own():
    customer = Customer(200)
    async with sender(customer) as hooks:
        for owner, events in (("ann", ["invoice.paid"]), ("ann", ["invoice.*"]), ("bob", []), ("bob", ["user.*"])):
            await hooks.add_endpoint(f"https://{owner}.example/{'-'.join(events) or 'all'}", owner=owner, events=events)
        for name, owner, count in (
            ("invoice.paid", "", 3),
            ("invoice.void", "", 2),
            ("user.new", "bob", 2),
            ("x", "ann", 0),
        ):
            message = await hooks.send({}, type=name, owner=owner)
            assert len([each async for each in hooks.deliveries(message=message)]) == count
        assert len([each async for each in hooks.endpoints(owner="ann")]) == 2
        assert len([each async for each in hooks.endpoints()]) == 4


@virtual
async def test_a_secret_is_exchanged_without_a_gap():
    customer = Customer(200)
    async with sender(customer) as hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")
        new = (await hooks.rotate(endpoint.id, overlap=3600)).secret
        assert new != endpoint.secret
        for wait in (0, 3601):
            await asyncio.sleep(wait)
            await until_finished(hooks, await hooks.send(InvoicePaid(7)))
    (at, headers, body, _), (later, later_headers, _, _) = customer.got
    for secret in (new, endpoint.secret):
        assert verify(headers.items(), body, secret, clock=lambda: at)
    assert verify(later_headers.items(), customer.got[1][2], new, clock=lambda: later)
    with pytest.raises(SignatureWrong):
        verify(later_headers.items(), customer.got[1][2], endpoint.secret, clock=lambda: later)
    assert endpoint.secret not in repr(endpoint)


@virtual
async def test_a_delivery_can_be_sent_again_also_one_that_arrived():
    customer = Customer(200)
    async with sender(customer) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        message = await hooks.send(InvoicePaid(7))
        delivery = await until_finished(hooks, message)
        assert (await hooks.resend(delivery.id)).status == "pending"
        assert (await until_finished(hooks, message)).status == "delivered"
        assert await hooks.delivery(delivery.id) == await only(hooks)
        with pytest.raises(NotFound):
            await hooks.resend("msg_1/default/ep_1")
    assert [h[b"webhook-id"].decode() for _, h, *_ in customer.got] == [message] * 2


@virtual
async def test_a_waiting_delivery_can_be_sent_at_once_but_not_while_it_is_tried():
    customer = Customer(500, 500, 10.0)
    async with sender(customer) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        message = await hooks.send(InvoicePaid(7))
        await asyncio.sleep(20)
        delivery = await hooks.resend((await only(hooks)).id)
        await asyncio.sleep(1)
        with pytest.raises(Conflict, match="tried at this moment"):
            await hooks.resend(delivery.id)
        await until_finished(hooks, message)
    assert customer.times == [0, 5, 20]


@virtual
async def test_finished_deliveries_are_forgotten_after_a_while():
    async with sender(Customer(200), keep=600) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks")
        delivery = await until_finished(hooks, await hooks.send(InvoicePaid(7)))
        await asyncio.sleep(700)
        with pytest.raises(NotFound):
            await hooks.delivery(delivery.id)


@virtual
async def test_two_senders_on_one_store_send_each_webhook_once():
    customer = Customer(0.5)
    store = Store(f"memory://sender-{next(NUMBERS)}", clock=now)
    async with sender(customer, store=store) as first, sender(customer, store=store) as second:
        await first.add_endpoint("https://customer.example/hooks")
        for number in range(20):
            await (first, second)[number % 2].send(InvoicePaid(number))
        await asyncio.sleep(100)
        assert len([each async for each in first.deliveries(status="delivered")]) == 20
    assert len(customer.got) == 20


@virtual
async def test_a_try_that_is_cut_by_stop_is_made_again_by_the_next():
    customer = Customer(8.0, 200)
    store = Store(f"memory://sender-{next(NUMBERS)}", clock=now)
    async with store:
        async with sender(customer, store=store, drain=1.0) as hooks:
            await hooks.add_endpoint("https://customer.example/hooks")
            message = await hooks.send(InvoicePaid(7))
            await asyncio.sleep(2)
        async with sender(customer, store=store) as hooks:
            assert (await only(hooks)).in_progress
            assert (await until_finished(hooks, message)).status == "delivered"
    assert customer.times == [0, 30]


@virtual
async def test_stop_waits_for_a_try_that_is_nearly_done():
    customer = Customer(3.0)
    store = Store(f"memory://sender-{next(NUMBERS)}", clock=now)
    async with store:
        async with sender(customer, store=store) as hooks:
            await hooks.add_endpoint("https://customer.example/hooks")
            await hooks.send(InvoicePaid(7))
            await asyncio.sleep(1)
        async with sender(customer, store=store) as hooks:
            assert (await only(hooks)).status == "delivered"


@virtual
async def test_operations_are_observed_without_values():
    async with sender(Customer(500, 200)) as hooks:
        await hooks.add_endpoint("https://customer.example/hooks?token=abc")
        await until_finished(hooks, await hooks.send({"card": "4111"}, type="invoice.paid"))
        stats = hooks.stats
        assert stats.operations["send invoice.paid"].succeeded == 1
        assert stats.operations["deliver customer.example"].errors == {"api": 1}
        told = repr(hooks.history) + repr(stats) + repr(hooks._client.history)
    assert not [secret for secret in ("4111", "abc", "whsec_") if secret in told]


# What is refused.


@pytest.fixture
async def quiet():
    hooks = WebhookSender(f"memory://quiet-{next(NUMBERS)}", events={"invoice.paid": InvoicePaid}, deliver=False)
    async with hooks:
        yield hooks


@pytest.mark.parametrize(
    "url",
    [
        "", "customer.example", "http://customer.example/", "ftp://customer.example/", "https://", "https://u:p@x.example/",
        "https://x.example/#a", "https://x.example/a b", "https://[::1", "https://x.example:99999/",
        "https://x.example/" + "a" * 2048,
    ],
)  # fmt: skip
async def test_a_url_that_is_none_for_a_webhook_is_refused(quiet, url):
    with pytest.raises(ValidationError) as caught:
        await quiet.add_endpoint(url)
    assert caught.value.fields[0].path == "url"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest",
        "https://localhost/",
        "https://a.localhost/",
    ],
)
async def test_an_address_of_this_machine_or_a_private_network_is_refused(quiet, url):
    with pytest.raises(AddressRefused):
        await quiet.add_endpoint(url)


async def test_malformed_types_owners_and_secrets_are_refused(quiet):
    for wrong in ({"events": ["a b"]}, {"events": ["*.a"]}, {"owner": "a/b"}, {"owner": ""}):
        with pytest.raises(ValidationError):
            await quiet.add_endpoint("https://customer.example/", **wrong)
    with pytest.raises(ConfigurationError):
        await quiet.add_endpoint("https://customer.example/", secret="secret")
    for wrong in ({"type": "a b"}, {"type": "a..b"}, {"type": "x", "owner": "a/b"}):
        with pytest.raises(ValidationError):
            await quiet.send({}, **wrong)


async def test_an_event_that_nobody_declared_is_refused(quiet):
    with pytest.raises(ConfigurationError, match="which event type a dict is"):
        await quiet.send({})
    with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
        await quiet.send(object(), type="x")
    with pytest.raises(BodyTooLarge):
        await quiet.send("x" * 300_000, type="x")


async def test_what_is_not_there_is_told(quiet):
    for call in (quiet.endpoint, quiet.enable, quiet.disable, quiet.rotate, quiet.delivery):
        with pytest.raises(NotFound):
            await call("default/ep_1")
    assert not await quiet.remove_endpoint("default/ep_1")


async def test_it_must_be_started():
    with pytest.raises(NotStarted):
        await WebhookSender("memory://never").send({}, type="x")


@pytest.mark.parametrize("events", [{"a b": InvoicePaid}, {"a": InvoicePaid, "b": InvoicePaid}])
def test_declared_events_must_be_well_formed_and_told_apart(events):
    with pytest.raises(ConfigurationError, match="events="):
        WebhookSender("memory://never", events=events)


@pytest.mark.parametrize(
    "wrong", [{"schedule": ()}, {"schedule": (-1.0,)}, {"timeout": 0}, {"concurrency": 0}, {"jitter": -1}, {"keep": 0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DeliverySettings(**wrong)


async def test_a_webhook_goes_with_the_transaction_or_not_at_all(tmp_path):
    from consona.storage.sqlite_engine import open_sqlite

    url = f"sqlite:///{tmp_path}/shop.db"
    engine = await open_sqlite(url)
    try:
        async with WebhookSender(url, deliver=False) as hooks:
            await hooks.add_endpoint("https://customer.example/")
            with contextlib.suppress(ZeroDivisionError):
                async with engine.transaction() as tx:
                    await hooks.send({}, type="lost", tx=tx)
                    raise ZeroDivisionError
            async with engine.transaction() as tx:
                await hooks.send({}, type="kept", tx=tx)
            assert [each.type async for each in hooks.deliveries()] == ["kept"]
    finally:
        await engine.close()


def test_secrets_of_an_own_choice_are_used():
    secret = new_secret()

    async def main():
        async with WebhookSender("memory://own", deliver=False) as hooks:
            return await hooks.add_endpoint("https://customer.example/", secret=secret)

    assert asyncio.run(main()).secret == secret
