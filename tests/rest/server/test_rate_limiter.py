"""Each client may ask so often, and no more."""

from __future__ import annotations

import asyncio
import sys

import pytest

from asgi_call import call
from consona.errors import ConfigurationError, QueryError
from consona.rest.server.api_server import APIServer
from consona.rest.server.rate_limiter import RateLimiter
from consona.storage.store import open_store


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


def server(limiter):
    api = APIServer("t")
    api.middleware(limiter)

    @api.get("/x")
    async def x() -> str:
        return "x"

    return api


async def ask(api, client="203.0.113.9", path="/x", **headers):
    return await call(api, "GET", path, headers=headers, client=(client, 1))


async def test_what_comes_too_soon_is_refused_and_told_when_to_come_back(time):
    async with server(RateLimiter(rate=0.5, burst=2, clock=time)) as api:
        found = [await ask(api) for _ in range(3)]
        assert [answer.status for answer in found] == [200, 200, 429]
        assert [answer.header("ratelimit") for answer in found] == [
            '"default";r=1;t=2',
            '"default";r=0;t=4',
            '"default";r=0;t=2',
        ]
        assert {answer.header("ratelimit-policy") for answer in found} == {'"default";q=2;w=4'}
        assert found[2].header("retry-after") == "2"
        assert found[2].header("content-type") == "application/problem+json"
        assert found[2].json()["code"] == "rate_limited"
        time.now += 2
        assert (await ask(api)).status == 200
        assert (await ask(api)).status == 429


async def test_clients_have_limits_of_their_own_and_one_network_of_ipv6_is_one_client(time):
    async with server(RateLimiter(rate=1, clock=time)) as api:
        clients = ["203.0.113.9", "203.0.113.8", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:203.0.113.9"]
        assert [(await ask(api, client)).status for client in clients] == [200, 200, 200, 429, 200, 429]


async def test_a_key_of_ones_own_may_let_some_through(time):
    async def key(request):
        return request.headers.get("x-plan")

    async with server(RateLimiter(rate=1, key=key, clock=time)) as api:
        assert [(await ask(api, **{"x-plan": "free"})).status for _ in range(2)] == [200, 429]
        found = [await ask(api) for _ in range(2)]
    assert [(answer.status, answer.header("ratelimit")) for answer in found] == [(200, None)] * 2


async def test_a_key_of_any_length_and_any_letters_will_do(time, tmp_path):
    limiter = RateLimiter(rate=1, key=lambda request: "é\n" * 999, store=open_store(f"sqlite:///{tmp_path}/l.db"))
    async with server(limiter) as api:
        assert [(await ask(api)).status for _ in range(2)] == [200, 429]


async def test_health_is_never_limited(time):
    async with server(RateLimiter(rate=1, clock=time)) as api:
        assert [(await ask(api, path="/health/live")).status for _ in range(3)] == [200] * 3


async def test_unknown_paths_count_too(time):
    async with server(RateLimiter(rate=1, clock=time)) as api:
        assert [(await ask(api, path="/nowhere")).status for _ in range(2)] == [404, 429]


async def test_its_memory_is_fixed_and_making_it_forget_gains_nothing(time):
    limiter = RateLimiter(rate=1, max_keys=10, clock=time)
    async with server(limiter) as api:
        for number in range(30):
            await ask(api, f"10.0.0.{number}")
        assert len(limiter._local._expected) == 10
        assert (await ask(api, "10.0.0.0")).status == 429


async def test_two_limits_are_told_apart(time):
    api = server(RateLimiter(rate=10, burst=10, name="second", clock=time))
    api.middleware(RateLimiter(rate=1, burst=60, name="minute", clock=time))
    async with api:
        found = await ask(api)
    assert [value for name, value in found.headers if name == "ratelimit"] == [
        '"minute";r=59;t=1',
        '"second";r=9;t=1',
    ]


async def test_two_servers_share_a_limit_in_a_store(time, tmp_path):
    url = f"sqlite:///{tmp_path}/limits.db"
    one = server(RateLimiter(rate=1, burst=2, store=open_store(url), wall_clock=time))
    two = server(RateLimiter(rate=1, burst=2, store=open_store(url), wall_clock=time))
    async with one, two:
        found = [await ask(api) for api in (one, two, one)]
    assert [(answer.status, answer.header("ratelimit")) for answer in found] == [
        (200, '"default";r=1;t=1'),
        (200, '"default";r=0;t=2'),
        (429, '"default";r=0;t=1'),
    ]


PROCESS = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from asgi_call import call
from consona.rest.server.api_server import APIServer
from consona.rest.server.rate_limiter import RateLimiter
from consona.storage.store import open_store

api = APIServer("t")
api.middleware(RateLimiter(rate=0.001, burst=20, store=open_store(sys.argv[2])))

@api.get("/x")
async def x() -> str:
    return "x"

async def main():
    async with api:
        found = [await call(api, "GET", "/x", client=("203.0.113.9", 1)) for _ in range(20)]
        print(sum(answer.status == 200 for answer in found))

asyncio.run(main())
"""


async def test_processes_together_let_no_more_through_than_one(tmp_path):
    from pathlib import Path

    tests = Path(__file__).parents[2]
    arguments = (sys.executable, "-c", PROCESS, str(tests), f"sqlite:///{tmp_path}/limits.db")
    processes = [await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE) for _ in range(3)]
    passed = [int((await process.communicate())[0]) for process in processes]
    assert sum(passed) == 20


async def test_while_the_store_fails_the_process_keeps_the_limit_alone(time, caplog):
    store = open_store("memory://broken-limits")

    async def broken(_key):
        raise QueryError("The disk is gone.")

    async with server(RateLimiter(rate=1, store=store, clock=time)) as api:
        store.engine.get = broken
        assert [(await ask(api)).status for _ in range(2)] == [200, 429]
    assert "kept by this process alone" in caplog.text


@pytest.mark.parametrize("settings", [{"rate": 0}, {"burst": 0}, {"name": 'a"b'}, {"max_keys": 0}])
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(ConfigurationError):
        RateLimiter(**{"rate": 1, **settings})
