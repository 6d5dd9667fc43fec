"""A server under load that is told to stop: no request is lost, and whoever stays connected is told to come back."""

from __future__ import annotations

import asyncio
import collections
import signal
import sys
import time
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from http_get import get
from processes import Command, free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process could catch")

BOUND_S = 60.0
CLIENTS = 16

APP = """
import asyncio, os, pathlib
from collections.abc import AsyncIterator
from consona.rest.server.api_server import APIServer
from consona.rest.server.events import Event, LastEventID
from consona.rest.server.requests import Background
from consona.rest.server.websocket import WebSocket

api = APIServer("shop")
here = pathlib.Path(__file__).parent
journal = open(here / "journal", "a", buffering=1)

@api.post("/work")
async def work(number: int) -> int:
    journal.write(f"{number}\\n")
    await asyncio.sleep(0.002)
    return os.getpid()

@api.get("/stuck")
async def stuck() -> int:
    (here / "stuck").touch()
    await asyncio.sleep(600)
    return 1

@api.post("/later")
async def later(background: Background) -> int:
    async def write():
        await asyncio.sleep(0.5)
        (here / "later").touch()
    background.run(write)
    return 1

@api.get("/events")
async def events(last: LastEventID = "0") -> AsyncIterator[Event[int]]:
    number = int(last)
    while True:
        number += 1
        yield Event(number, id=str(number))
        await asyncio.sleep(0.005)

@api.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    async for message in socket:
        await socket.send(message)
"""


@pytest.fixture
def serve(tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    commands = []

    async def serve(*options):
        command = Command("run", "shop:api", "--port", port, "--no-access-log", *options, folder=tmp_path)
        commands.append(command)
        await asyncio.to_thread(command.line, "Serving shop:api")
        return command

    serve.port = port
    serve.folder = tmp_path
    yield serve
    for command in commands:
        command.__exit__()


async def stop(command):
    command.send(signal.SIGTERM)
    code = await asyncio.to_thread(command.end)
    assert (code, "Traceback" in command.text) == (0, False), command.text


class Load:
    """Clients that post without a pause, and try again only where not a byte was sent."""

    def __init__(self, port):
        policy = Policy(timeout=BOUND_S, retry=Retry(attempts=10_000, backoff=0.02, max_wait=0.1, budget=None))
        self.client = APIClient(f"http://127.0.0.1:{port}", policy=policy)
        self.answers = []
        self.errors = []
        self._numbers = iter(range(10**9))
        self._over = False

    @asynccontextmanager
    async def running(self):
        async with self.client:
            tasks = [asyncio.create_task(self._work()) for _ in range(CLIENTS)]
            try:
                yield self
            finally:
                self._over = True
                await asyncio.gather(*tasks)

    async def _work(self):
        while not self._over:
            number = next(self._numbers)
            try:
                self.answers.append((number, await self.client.post("/work", params={"number": number}, into=int)))
            except Exception as error:
                self.errors.append(error)

    async def more(self, count):
        wanted = len(self.answers) + count
        async with asyncio.timeout(BOUND_S):
            while len(self.answers) < wanted:
                assert not self.errors, self.errors[:3]
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
async def test_a_restart_under_load_loses_no_request_and_does_none_twice(serve, options):
    command = await serve(*options)
    async with Load(serve.port).running() as load:
        for _ in range(3):
            await load.more(200)
            await stop(command)
            command = await serve(*options)
        await load.more(200)
    assert load.errors == []
    done = collections.Counter(map(int, (serve.folder / "journal").read_text().split()))
    assert done == collections.Counter(number for number, _ in load.answers)
    assert len({pid for _, pid in load.answers}) >= 4


async def test_events_go_on_where_they_were_and_sockets_are_told_to_come_back(serve):
    command = await serve()
    url = f"http://127.0.0.1:{serve.port}"
    seen, codes, last = [], [], "0"
    over = asyncio.Event()
    policy = Policy(timeout=BOUND_S, retry=Retry(attempts=10_000, backoff=0.02, max_wait=0.1, budget=None))

    async def read_events():
        nonlocal last
        async with APIClient(url, policy=policy) as client:
            while not over.is_set():
                async with client.stream("GET", "/events", headers={"Last-Event-ID": last}) as answer:
                    async for line in answer.lines():  # it ends whole, or this raises
                        if line.startswith("id: "):
                            last = line[4:]
                            seen.append(int(last))
                        if over.is_set():
                            break

    async def talk():
        count = 0
        while not over.is_set():
            try:
                async with connect(f"{url.replace('http', 'ws')}/echo") as socket:
                    while not over.is_set():
                        await socket.send(str(count))
                        assert await socket.recv() == str(count)
                        count += 1
            except ConnectionClosed as closed:
                codes.append(closed.rcvd and closed.rcvd.code)
            except OSError:
                await asyncio.sleep(0.02)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        group.create_task(read_events())
        talkers = [group.create_task(talk()) for _ in range(8)]
        for _ in range(2):
            before = len(seen)
            while len(seen) < before + 20:
                await asyncio.sleep(0.01)
            await stop(command)
            command = await serve()
        over.set()
    assert seen == list(range(1, len(seen) + 1))
    assert set(codes) == {1012}
    assert len(codes) >= len(talkers)


async def test_readiness_goes_false_first_and_everything_is_served_meanwhile(serve):
    command = await serve("--notice", "2")
    assert (await get(serve.port, "/health/ready"))[0] == 200
    command.send(signal.SIGTERM)
    async with asyncio.timeout(BOUND_S):
        while (await get(serve.port, "/health/ready"))[0] == 200:
            await asyncio.sleep(0.01)
        assert (await get(serve.port, "/health/live"))[0] == 200
        assert (await get(serve.port, "/openapi.json"))[0] == 200
    assert await asyncio.to_thread(command.end) == 0
    with pytest.raises(OSError):
        await get(serve.port, "/health/live")


async def test_what_does_not_end_in_its_time_is_cut_and_the_process_ends(serve):
    command = await serve("--drain", "1")
    began = time.monotonic()
    async with APIClient(f"http://127.0.0.1:{serve.port}", policy=Policy(timeout=BOUND_S)) as client:
        stuck = asyncio.create_task(client.get("/stuck", raise_for_status=False))
        while not (serve.folder / "stuck").exists():
            await asyncio.sleep(0.01)
        command.send(signal.SIGTERM)
        assert await asyncio.to_thread(command.end) == 0
        answer = await stuck
    assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
    assert time.monotonic() - began < BOUND_S


async def test_work_after_an_answer_is_done_before_the_process_ends(serve):
    command = await serve()
    async with APIClient(f"http://127.0.0.1:{serve.port}") as client:
        await client.post("/later")
    await stop(command)
    assert (serve.folder / "later").exists()


async def test_nobody_is_accepted_and_then_forgotten(serve):
    """New connections, as fast as they can be made: each is answered, or refused before it is one."""
    command = await serve()
    answered, refused, lost = [], [], []

    async def knock():
        while not refused:
            try:
                answered.append(await get(serve.port, "/health/live"))
            except ConnectionRefusedError as error:
                refused.append(error)
            except (OSError, asyncio.IncompleteReadError) as error:
                if "Connect call failed" not in str(error):  # nothing was sent: that is as good as refused
                    lost.append(error)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(knock())
        while len(answered) < 300:
            await asyncio.sleep(0.01)
        await stop(command)
    assert lost == []
