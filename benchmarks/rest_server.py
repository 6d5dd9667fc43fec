"""Requests per second of server time: Consona, plain ASGI with msgspec, and the frameworks.

All run on the same uvicorn (uvloop, httptools), each in a process of its own on one core, with the
load on another. Each round measures all of them, one after the other, a second each. What is counted is
requests per second of **processor time of the server**: what a full core would answer. Unlike wall
time it does not depend on what else the machine does, nor on how fast the load generator is.

The load comes from `wrk` where it is installed, else from a small one of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rest_apps import BODY
from benchmarks.table import Row, markdown

ROUNDS = 5
SECONDS = 1
CONNECTIONS = 32
SERVERS = ("raw", "consona_unobserved", "consona", "fastapi", "litestar", "starlette")


@dataclass(frozen=True)
class Work:
    """One kind of request, and what we ask of ourselves for it."""

    name: str
    method: str
    path: str
    body: bytes
    over_fastapi: float


WORKS = (
    Work("GET, typed path and query", "GET", "/items/7?limit=12", b"", 2.7),
    Work("POST, validated body", "POST", "/items", BODY, 3.0),
    Work("GET, list of 50", "GET", "/items", b"", 3.5),
)


class Server:
    """One uvicorn on one core."""

    def __init__(self, app: str, port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "uvicorn", f"benchmarks.rest_apps:{app}", "--factory", "--port", str(port)]
        command += ["--no-access-log", "--log-level", "warning", "--loop", "auto", "--http", "httptools"]
        self.process = subprocess.Popen(command)
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(self.process.pid, {0})

    def wait(self) -> None:
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                raise RuntimeError(f"The server ended with {self.process.returncode}.")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/items/1") as answer,
            ):
                assert answer.status == 200
                return
            time.sleep(0.05)
        raise RuntimeError("The server does not answer.")

    def cpu_s(self) -> float:
        """Processor seconds that it used so far."""
        # Nanoseconds that its one thread ran: exact, where the times in `stat` are counted in ticks of 10 ms.
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(work: Work, port: int, seconds: int) -> int:
    """How many requests were answered within `seconds`."""
    wrk = shutil.which("wrk")
    return _wrk(wrk, work, port, seconds) if wrk else asyncio.run(_load(work, port, seconds))


def _wrk(wrk: str, work: Work, port: int, seconds: int) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "{work.method}"\n')
        if work.body:
            script.write(f"wrk.body = '{work.body.decode()}'\nwrk.headers['Content-Type'] = 'application/json'\n")
        script.flush()
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name]
        pin = ["taskset", "-c", "1"] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []
        output = subprocess.run(
            [*pin, *command, f"http://127.0.0.1:{port}{work.path}"], capture_output=True, text=True, check=True
        ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"The load did not go through: {output}")
    found = re.search(r"(\d+) requests in", output)
    assert found is not None, output
    return int(found[1])


async def _load(work: Work, port: int, seconds: int) -> int:
    head = f"{work.method} {work.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(work.body)}\r\n"
    if work.body:
        head += "Content-Type: application/json\r\n"
    request = head.encode() + b"\r\n" + work.body
    ends = time.perf_counter() + seconds

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.perf_counter() < ends:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer[9:10] == b"2", answer
            length = re.search(rb"content-length: (\d+)", answer)
            assert length is not None
            await reader.readexactly(int(length[1]))
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))


@contextlib.contextmanager
def servers(names: tuple[str, ...]) -> Iterator[dict[str, Server]]:
    running: dict[str, Server] = {}
    try:
        for name in names:
            running[name] = Server(name, free_port())
        for server in running.values():
            server.wait()
        yield running
    finally:
        for server in running.values():
            server.stop()


def measure(names: tuple[str, ...] = SERVERS, rounds: int = ROUNDS) -> dict[str, dict[str, list[float]]]:
    """work -> server -> requests per second of the server's processor time, a sample a round."""
    samples: dict[str, dict[str, list[float]]] = {work.name: {name: [] for name in names} for work in WORKS}
    with servers(names) as running:
        for work in WORKS:
            for server in running.values():
                load(work, server.port, 1)  # warm
            for turn in range(rounds):
                order = names if turn % 2 == 0 else tuple(reversed(names))
                for name in order:
                    before = running[name].cpu_s()
                    answered = load(work, running[name].port, SECONDS)
                    samples[work.name][name].append(answered / (running[name].cpu_s() - before))
    return samples


def run() -> list[Row]:
    rows = []
    for work, samples in zip(WORKS, measure().values(), strict=True):
        for ours, peer, goal in (
            ("consona_unobserved", "raw", 0.85),
            ("consona", "raw", 0.75),
            ("consona", "fastapi", work.over_fastapi),
            ("consona", "litestar", 1.0),
            ("consona", "starlette", 1.0),
        ):
            name = work.name + (", unobserved" if ours == "consona_unobserved" else "")
            peer_name = "raw ASGI + msgspec" if peer == "raw" else peer
            rows.append(Row("REST server", name, peer_name, samples[ours], samples[peer], "req/CPU s", goal))
    return rows


if __name__ == "__main__":
    print(markdown(run()))
