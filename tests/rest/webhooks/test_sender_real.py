"""Webhooks over real sockets: from our sender to our receiver, through kill -9, and never into private networks."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from consona import APIServer, HTTPError
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.webhooks import DeliverySettings, WebhookReceiver, WebhookSender
from processes import LONG_S, free_port
from served import served

NUMBERS = itertools.count()
PROCESS = Path(__file__).with_name("sending_process.py")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPEN = DeliverySettings(http=True, private_networks=True)


class InvoicePaid(msgspec.Struct):
    id: int


class Event(msgspec.Struct):
    type: str
    data: InvoicePaid


def customer(secret, *, failing=0):
    """A server of ours that receives, and fails the first times."""
    api, seen, failures = APIServer("customer"), [], itertools.count()
    hooks = WebhookReceiver(secret, store=f"memory://customer-{next(NUMBERS)}")

    @hooks.receive(api, "/hooks", into=Event)
    async def receive(event):
        if next(failures) < failing:
            raise HTTPError("Not now.", status=503)
        seen.append(event)

    return api, seen


async def status_of(hooks, message, wanted):
    async with asyncio.timeout(LONG_S):
        while True:
            for delivery in [each async for each in hooks.deliveries(message=message)]:
                if delivery.status == wanted:
                    return delivery
            await asyncio.sleep(0.02)


async def test_what_our_sender_sends_our_receiver_takes(tmp_path):
    api, seen = customer(SECRET)
    async with served(api) as address, sender(tmp_path) as hooks:
        await hooks.add_endpoint(f"{address}/hooks", secret=SECRET)
        await status_of(hooks, await hooks.send(InvoicePaid(7)), "delivered")
    assert seen == [Event("invoice.paid", InvoicePaid(7))]


async def test_a_receiver_that_fails_and_recovers_gets_each_event_once(tmp_path):
    api, seen = customer(SECRET, failing=3)
    async with served(api) as address, sender(tmp_path, schedule=(0.0, 0.05, 0.05, 0.05, 0.05)) as hooks:
        await hooks.add_endpoint(f"{address}/hooks", secret=SECRET)
        assert (await status_of(hooks, await hooks.send(InvoicePaid(7)), "delivered")).attempts == 4
    assert seen == [Event("invoice.paid", InvoicePaid(7))]


async def test_a_receiver_with_another_secret_refuses_and_the_record_says_so(tmp_path):
    api, seen = customer("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
    async with served(api) as address, sender(tmp_path, schedule=(0.0, 0.05)) as hooks:
        await hooks.add_endpoint(f"{address}/hooks", secret=SECRET)
        delivery = await status_of(hooks, await hooks.send(InvoicePaid(7)), "failed")
    assert (delivery.attempts, delivery.last_status) == (2, 401)
    assert seen == []


async def test_an_endpoint_that_is_down_is_told_in_the_record(tmp_path):
    async with sender(tmp_path, schedule=(0.0,)) as hooks:
        await hooks.add_endpoint(f"http://127.0.0.1:{free_port()}/hooks")
        delivery = await status_of(hooks, await hooks.send(InvoicePaid(7)), "failed")
    assert delivery.last_status is None
    assert "could not be reached" in delivery.last_error


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
async def test_no_name_and_no_spelling_leads_to_this_machine(tmp_path, monkeypatch, host):
    """What `add_endpoint` cannot see is refused when it is connected to, after the name was resolved."""
    api, seen = customer(SECRET)
    async with served(api) as address, sender(tmp_path, schedule=(0.0,), private_networks=False) as hooks:
        monkeypatch.setattr(WebhookSender, "_check_url", lambda *_: None)  # as if a name's address changed afterwards
        port = address.rpartition(":")[2]
        await hooks.add_endpoint(f"http://{host}:{port}/hooks", secret=SECRET)
        delivery = await status_of(hooks, await hooks.send(InvoicePaid(7)), "failed")
    assert delivery.last_status is None
    assert (
        "is not allowed" if host == "localhost" else "cannot be sent" if not host.startswith("0x") else "is not"
    ) in (delivery.last_error)
    assert seen == []


async def test_two_senders_on_one_database_share_the_work_and_send_each_webhook_once(tmp_path):
    arrived = []

    async def customer(scope, receive, send):
        if scope["type"] == "http":
            arrived.append(dict(scope["headers"])[b"webhook-id"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    both = [sender(tmp_path, transport=ASGITransport(customer)) for _ in range(2)]
    async with both[0], both[1]:
        await both[0].add_endpoint("https://customer.example/")
        sent = [await both[number % 2].send(InvoicePaid(number)) for number in range(60)]
        for message in sent:
            await status_of(both[0], message, "delivered")
    assert sorted(each.decode() for each in arrived) == sorted(sent)


async def test_a_sender_that_is_killed_in_the_middle_of_a_try_is_replaced_by_the_next(tmp_path):
    store = f"sqlite:///{tmp_path}/hooks.db"
    asked, go_on = asyncio.Event(), asyncio.Event()
    inner, seen = customer(SECRET)

    async def slow(scope, receive, send):
        if scope["type"] == "http" and not go_on.is_set():
            asked.set()
            await go_on.wait()
            return
        await inner(scope, receive, send)

    async with served(slow) as address:
        first, message = await start(store, f"{address}/hooks")
        async with asyncio.timeout(LONG_S):
            await asked.wait()
        await kill(first)
        go_on.set()
        second, _ = await start(store)
        try:
            async with WebhookSender(store, deliver=False) as hooks:
                delivery = await status_of(hooks, message, "delivered")
        finally:
            await kill(second)
    assert seen == [Event("invoice.paid", InvoicePaid(7))]
    assert delivery.message == message


async def test_a_retry_survives_a_kill(tmp_path):
    store = f"sqlite:///{tmp_path}/hooks.db"
    port = free_port()
    first, message = await start(store, f"http://127.0.0.1:{port}/hooks")
    async with WebhookSender(store, deliver=False) as hooks:
        async with asyncio.timeout(LONG_S):
            while not [each async for each in hooks.deliveries(message=message) if each.last_error]:
                await asyncio.sleep(0.02)
        await kill(first)
        api, seen = customer(SECRET)
        async with served(api, port=port):
            second, _ = await start(store)
            try:
                assert (await status_of(hooks, message, "delivered")).attempts > 1
            finally:
                await kill(second)
    assert seen == [Event("invoice.paid", InvoicePaid(7))]


def sender(folder, *, transport=None, **settings):
    known = {name: getattr(OPEN, name) for name in ("http", "private_networks")}
    return WebhookSender(
        f"sqlite:///{folder}/hooks.db",
        events={"invoice.paid": InvoicePaid},
        settings=DeliverySettings(**{**known, **settings}),
        transport=transport,
    )


async def start(store, *url):
    """The process, and the first line that it says."""
    process = await asyncio.create_subprocess_exec(sys.executable, PROCESS, store, *url, stdout=subprocess.PIPE)
    return process, (await process.stdout.readline()).decode().strip()


async def kill(process):
    process.kill()
    await process.communicate()
