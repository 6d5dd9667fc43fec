"""A server that dies and comes back under a client that retries."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import subprocess
import sys

import pytest

from consona.errors import CircuitOpen, ConsonaError
from consona.resilience import Breaker, Policy, Retry
from consona.rest.client.api_client import APIClient
from processes import free_port

BOUND_S = 40.0

SERVER = """
import asyncio, os, sys
port, journal = int(sys.argv[1]), open(sys.argv[2], "a", buffering=1)

async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
            method, target, _ = head.split(" ", 2)
            headers = dict(line.lower().split(": ", 1) for line in head.strip().split("\\r\\n")[1:])
            await reader.readexactly(int(headers.get("content-length", 0)))
            journal.write(f"{method} {target} {headers.get('idempotency-key', '-')}\\n")
            await asyncio.sleep(0.002)
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Process:
    """A server in a process of its own that writes down each request before it answers."""

    def __init__(self, folder):
        self.port = free_port()
        self.journal = folder / "journal"
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, str(self.port), str(self.journal), stdout=subprocess.PIPE
        )
        assert (await self.process.stdout.readline()).strip() == b"ready"

    async def kill(self):
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()

    def done(self):
        """How often each request was done."""
        return collections.Counter(line.rsplit(" ", 1)[0] for line in self.journal.read_text().splitlines())

    def keys(self):
        """The idempotency keys under which each request was done."""
        found = collections.defaultdict(set)
        for line in self.journal.read_text().splitlines():
            request, key = line.rsplit(" ", 1)
            found[request].add(key)
        return found


@pytest.fixture
async def server(tmp_path):
    made = Process(tmp_path)
    await made.start()
    yield made
    await made.kill()


async def test_a_restarted_server_loses_no_request_and_does_nothing_twice(server):
    policy = Policy(timeout=BOUND_S, retry=Retry(attempts=30, backoff=0.05, max_wait=0.5, budget=None))
    outcomes, invited_to_repeat = {}, []

    async def worker(api, number):
        for turn in range(60):
            name = f"{number}-{turn}"
            await api.get(f"/read/{name}")
            await api.put(f"/write/{name}", json={})
            await api.post(f"/keyed/{name}", json={}, idempotent=True)
            try:
                await api.post(f"/order/{name}", json={})
                outcomes[name] = "done"
            except ConsonaError as error:
                outcomes[name] = error.code
                invited_to_repeat.append(error.retryable and error.code != "connect")

    async with APIClient(f"http://127.0.0.1:{server.port}", policy=policy) as api, asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(worker(api, number))
        for _ in range(3):
            before = sum(server.done().values())
            while sum(server.done().values()) < before + 200:
                await asyncio.sleep(0.01)
            await server.kill()
            await server.start()

    done = server.done()
    names = [f"{number}-{turn}" for number in range(8) for turn in range(60)]
    for name in names:
        for request in (f"GET /read/{name}", f"PUT /write/{name}", f"POST /keyed/{name}"):
            assert done[request] >= 1, f"{request} was lost"
        assert done[f"POST /order/{name}"] <= 1, "a request with effects was done twice"
        if outcomes[name] == "done":
            assert done[f"POST /order/{name}"] == 1
    assert not any(invited_to_repeat)
    assert all(len(keys) == 1 for request, keys in server.keys().items() if "/keyed/" in request)
    assert "exchange.connection_lost" in outcomes.values(), (
        "no order was under way when the server died: kill it harder"
    )


async def test_a_dead_dependency_opens_its_circuit_which_closes_after_recovery(server):
    policy = Policy(
        timeout=BOUND_S,
        retry=Retry(attempts=1),
        breaker=Breaker(min_calls=5, window=5.0, open_for=0.3, failure_rate=0.5),
    )
    async with APIClient(f"http://127.0.0.1:{server.port}", policy=policy) as api:
        await api.get("/")
        await server.kill()
        refused = 0
        for _ in range(20):
            try:
                await api.get("/")
            except CircuitOpen:
                refused += 1
            except ConsonaError:
                pass
        assert refused >= 14, "after five failures in its window the dependency is left alone"
        assert not (await api.check()).ok
        await server.start()
        async with asyncio.timeout(BOUND_S):
            while True:
                try:
                    await api.get("/back")
                    break
                except CircuitOpen:
                    await asyncio.sleep(0.05)
        assert (await api.check()).ok
        await api.get("/")
    assert server.done()["GET /back"] == 1
