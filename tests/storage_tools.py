"""What the tests of storage share: a clock that is moved by hand, and waiting with a bound."""

import asyncio
import sys
import threading
from pathlib import Path


class Clock:
    """Seconds since the epoch that pass only when told."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


async def until(condition, *, seconds: float = 10.0, what: str = "the condition"):
    """Let others run until `condition()` is true; fail after `seconds`."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.001)
    return value


async def child(program: str, *arguments: str | Path) -> asyncio.subprocess.Process:
    """A Python process that runs `program`, with its output to read and its input to write."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def line(process: asyncio.subprocess.Process, *, seconds: float = 20.0) -> str:
    """The next line that the process prints."""
    assert process.stdout is not None
    async with asyncio.timeout(seconds):
        return (await process.stdout.readline()).decode().strip()


def insert(name):
    """A write that adds a pet, and returns its id."""

    def insert_pet(db):
        db.execute("INSERT INTO pets (name) VALUES (?)", (name,))
        return db.last_insert_rowid()

    return insert_pet


def pets(db):
    """A read of all names."""
    return [name for (name,) in db.execute("SELECT name FROM pets ORDER BY id")]


class Gate:
    """A write that reaches a point in the writer's thread and waits there until it is let go."""

    def __init__(self, then=None):
        self.reached = threading.Event()
        self.open = threading.Event()
        self.then = then

    def __call__(self, db):
        self.reached.set()
        assert self.open.wait(20), "nobody opened the gate"
        return self.then(db) if self.then else None

    async def is_reached(self):
        await until(self.reached.is_set, what="the gate")
