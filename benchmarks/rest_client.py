"""Requests per second of one client process: Consona with its policy and history, bare aiohttp, httpx, niquests.

The server is plain ASGI on uvicorn, on a core of its own; the client has another, and runs on uvloop
where that is installed. Each round measures all of them, one after the other; the rows of processor time are
microseconds of the client's own time for each request, which says more on a machine that does other things too.

niquests replaces `urllib3` by another package of that name, so it runs in a process and a virtual environment of its
own (`apart.py`), on the same core and in turn with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from benchmarks.apart import python_with
from benchmarks.rest_apps import Item, NewItem
from benchmarks.rest_server import Server, free_port
from benchmarks.table import Row, markdown

from consona.rest.client.api_client import APIClient
from consona.telemetry.trace import default_tracer

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

ROUNDS = 7
SECONDS = 0.4
WARM_UP = 50

Call = Callable[[], Awaitable[Item]]

NEW = NewItem("a chair", 12.5, ["wood", "red"], 7)
decode = msgspec.json.Decoder(Item).decode
encode = msgspec.json.Encoder().encode
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def consona(url: str, method: str) -> AsyncIterator[Call]:
    async with APIClient(url) as api:  # timeout, three tries, retry budget, figures, history, trace headers

        async def get() -> Item:
            return await api.get("/items/7", params={"limit": 12}, into=Item)

        async def post() -> Item:
            return await api.post("/items", json=NEW, into=Item)

        yield get if method == "GET" else post


@asynccontextmanager
async def aiohttp(url: str, method: str) -> AsyncIterator[Call]:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def get() -> Item:
            async with session.get(f"{url}/items/7", params={"limit": 12}) as response:
                return decode(await response.read())

        async def post() -> Item:
            async with session.post(f"{url}/items", data=encode(NEW), headers=JSON) as response:
                return decode(await response.read())

        yield get if method == "GET" else post


@asynccontextmanager
async def httpx(url: str, method: str) -> AsyncIterator[Call]:
    import httpx

    async with httpx.AsyncClient() as client:

        async def get() -> Item:
            return decode((await client.get(f"{url}/items/7", params={"limit": 12})).content)

        async def post() -> Item:
            return decode((await client.post(f"{url}/items", content=encode(NEW), headers=JSON)).content)

        yield get if method == "GET" else post


@asynccontextmanager
async def niquests(url: str, method: str) -> AsyncIterator[Call]:
    import niquests

    async with niquests.AsyncSession(pool_maxsize=100, disable_http2=True, disable_http3=True) as session:

        async def get() -> Item:
            return decode((await session.get(f"{url}/items/7", params={"limit": 12})).content or b"")

        async def post() -> Item:
            return decode((await session.post(f"{url}/items", data=encode(NEW), headers=JSON)).content or b"")

        yield get if method == "GET" else post


CLIENTS: dict[str, Callable[[str, str], AbstractAsyncContextManager[Call]]] = {
    "consona": consona,
    "aiohttp": aiohttp,
    "httpx": httpx,
    "niquests": niquests,
}
APART = {"niquests": "niquests==3.21.2"}


@dataclass(frozen=True)
class Sample:
    per_second: float
    cpu_us: float


async def measure(client: str, url: str, method: str, concurrent: int) -> Sample:
    async with CLIENTS[client](url, method) as call:
        await asyncio.gather(*(call() for _ in range(max(WARM_UP, concurrent))))
        cpu, began = time.process_time(), time.perf_counter()
        ends = began + SECONDS

        async def one() -> int:
            answered = 0
            while time.perf_counter() < ends:
                await call()
                answered += 1
            return answered

        answered = sum(await asyncio.gather(*(one() for _ in range(concurrent))))
        return Sample(answered / (time.perf_counter() - began), (time.process_time() - cpu) / answered * 1e6)


class Apart:
    """A client in a process of its own, which measures when it is told to."""

    def __init__(self, client: str, python: Path, url: str) -> None:
        command = [python, "-m", "benchmarks.rest_client", client, url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, method: str, concurrent: int) -> Sample:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(method, concurrent, file=self._process.stdin, flush=True)
        per_second, cpu_us = self._process.stdout.readline().split()
        return Sample(float(per_second), float(cpu_us))

    def stop(self) -> None:
        self._process.communicate()


def serve(client: str, url: str) -> None:
    """The other side of `Apart`."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        for line in sys.stdin:
            method, concurrent = line.split()
            sample = runner.run(measure(client, url, method, int(concurrent)))
            print(sample.per_second, sample.cpu_us, flush=True)


def run() -> list[Row]:
    works = [(method, concurrent) for method in ("GET", "POST") for concurrent in (1, 50)]
    samples: dict[tuple[str, str, int], list[Sample]] = {}
    pythons = {client: python_with(packages) for client, packages in APART.items()}
    server = Server("raw", free_port())
    url = f"http://127.0.0.1:{server.port}"
    default_tracer.collect(on=True)  # as within an application: the first traces of each second are kept
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    apart: dict[str, Apart] = {}
    try:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {1})  # those apart inherit it
        server.wait()
        apart = {client: Apart(client, python, url) for client, python in pythons.items() if python is not None}
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            for _ in range(ROUNDS):
                for method, concurrent in works:
                    for client in CLIENTS:
                        if client in apart:
                            sample = apart[client].measure(method, concurrent)
                        elif client in APART:
                            continue
                        else:
                            sample = runner.run(measure(client, url, method, concurrent))
                        samples.setdefault((client, method, concurrent), []).append(sample)
    finally:
        for each in apart.values():
            each.stop()
        if before is not None:
            os.sched_setaffinity(0, before)
        default_tracer.collect(on=False)
        server.stop()
    return _rows(works, samples)


def _rows(works: list[tuple[str, int]], samples: dict[tuple[str, str, int], list[Sample]]) -> list[Row]:
    rows: list[Row] = []
    for method, concurrent in works:
        work = f"{method}, {concurrent} at once"
        ours, bare = samples["consona", method, concurrent], samples["aiohttp", method, concurrent]
        rows += [_rate(work, ours, "aiohttp", bare, goal=0.85), _cpu(work, ours, "aiohttp", bare, goal=1.2)]
        if concurrent == 50:
            rows += [
                _rate(work, ours, peer, samples[peer, method, concurrent], goal=goal)
                for peer, goal in (("httpx", 6.0), ("niquests", 4.0))
                if (peer, method, concurrent) in samples
            ]
    return rows


def _rate(work: str, ours: list[Sample], peer: str, theirs: list[Sample], *, goal: float) -> Row:
    figures = [[sample.per_second for sample in samples] for samples in (ours, theirs)]
    return Row("REST client", work, peer, *figures, unit="req/s", goal=goal)


def _cpu(work: str, ours: list[Sample], peer: str, theirs: list[Sample], *, goal: float) -> Row:
    figures = [[sample.cpu_us for sample in samples] for samples in (ours, theirs)]
    return Row("REST client", f"{work}, processor time", peer, *figures, unit="µs", goal=goal, higher_is_better=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(*sys.argv[1:])
    else:
        print(markdown(run()))
