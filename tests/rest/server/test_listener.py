"""A server at an address of this machine, in the event loop of whoever starts it."""

from __future__ import annotations

import asyncio
import signal
from contextvars import ContextVar

import pytest

from consona.errors import ConfigurationError, ConnectError
from consona.resilience import Policy
from consona.rest.client.api_client import APIClient
from consona.rest.server.api_server import APIServer
from consona.rest.server.listen import PortInUseError
from consona.rest.server.listener import Listener

BOUND_S = 20.0


def hello() -> APIServer:
    api = APIServer("hello")

    @api.get("/hello")
    async def say() -> str:
        return "Hello"

    return api


async def test_it_answers_from_the_moment_that_start_returns_until_it_is_stopped():
    async with Listener(hello(), port=0) as listener:
        url = listener.url
        async with APIClient(url) as client:
            assert await client.get("/hello", into=str) == "Hello"
    assert listener.url == ""
    async with APIClient(url, policy=Policy()) as client:
        with pytest.raises(ConnectError):
            await client.get("/hello")


async def test_it_can_be_started_again():
    listener = Listener(hello(), port=0)
    for _ in range(2):
        async with listener, APIClient(listener.url) as client:
            assert await client.get("/hello", into=str) == "Hello"


async def test_a_port_in_use_is_refused_and_leaves_the_server_stopped():
    async with Listener(hello(), port=0) as first:
        port = int(first.url.rpartition(":")[2])
        second = Listener(hello(), port=port)
        with pytest.raises(PortInUseError, match=f"Port {port}"):
            await second.start()
        assert not second.api.started


async def test_a_server_that_cannot_start_frees_its_port_and_says_why():
    api = hello()
    api.get("/hello")(lambda: None)
    listener = Listener(api, port=0)
    with pytest.raises(ConfigurationError, match="answer the same requests"):
        await listener.start()
    assert not listener.started


async def test_a_request_under_way_is_answered_before_it_stops():
    api, arrived, go = hello(), asyncio.Event(), asyncio.Event()

    @api.get("/slow")
    async def slow() -> str:
        arrived.set()
        await go.wait()
        return "done"

    listener = Listener(api, port=0)
    await listener.start()
    async with APIClient(listener.url) as client, asyncio.timeout(BOUND_S):
        asked = asyncio.create_task(client.get("/slow", into=str))
        await arrived.wait()
        stopping = asyncio.create_task(listener.stop())
        while not api.draining:
            await asyncio.sleep(0)
        go.set()
        assert await asked == "done"
        await stopping


async def test_the_programs_signal_handlers_stay_as_they_are():
    before = signal.getsignal(signal.SIGINT)
    async with Listener(hello(), port=0):
        assert signal.getsignal(signal.SIGINT) is before


async def test_what_the_starters_context_holds_is_not_seen_by_requests():
    mine: ContextVar[str] = ContextVar("mine", default="nothing")
    api = hello()

    @api.get("/mine")
    async def seen() -> str:
        return mine.get()

    listener = Listener(api, port=0)
    token = mine.set("a deadline, a trace")
    await listener.start()
    mine.reset(token)
    try:
        async with APIClient(listener.url) as client:
            assert await client.get("/mine", into=str) == "nothing"
    finally:
        await listener.stop()


async def test_its_detail_tells_where_it_listens():
    async with Listener(hello(), port=0) as listener, APIClient(listener.url) as client:
        await client.get("/hello")
        assert listener.stats.detail == {"url": listener.url, "connections": 1}
    assert listener.detail() == {"url": "", "connections": 0}
