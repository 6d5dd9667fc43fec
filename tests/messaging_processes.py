"""Processes that put and take until they are killed, and what they said they did: for the tests of queue engines."""

import asyncio

from storage_tools import line

OPEN = """
import asyncio, sys
from consona.address import Address, adapter_for
from consona.messaging.engine import Entry
async def opened():
    address = Address.parse(sys.argv[1])
    engine = adapter_for("queue", address)(address)
    await engine.open()
    return engine
"""

PRODUCER = f"""{OPEN}
async def main():
    engine = await opened()
    n = 0
    while True:
        key = sys.argv[3] and f"{{sys.argv[3]}}{{n % 3}}"
        await engine.put("q", [Entry(f"{{sys.argv[2]}}-{{n}}".encode(), key=key)])
        print(f"{{sys.argv[2]}}-{{n}}", flush=True)
        n += 1
asyncio.run(main())
"""

WORKER = f"""{OPEN}
async def main():
    engine = await opened()
    print("ready", flush=True)
    while True:
        for lease in await engine.take("q", limit=5, lease_s=1.0, wait_s=1.0):
            print(lease.body.decode(), flush=True)     # the work is done ...
            await engine.settle("q", [lease])          # ... before the message is
asyncio.run(main())
"""


def start_producers(url, name, *, key="k"):
    """What to start as a child: it puts `name-0`, `name-1`, … and says each that was acknowledged."""
    return PRODUCER, url, name, key


def start_workers(url):
    """What to start as a child: it says `ready`, and then each body that it has handled."""
    return WORKER, url


async def said_by_killed(producers, workers, how, *, lines=20):
    """Let each say so many lines, kill it, and hear the rest: (what was put, what was handled)."""
    said = {process: [await line(process) for _ in range(lines)] for process in [*producers, *workers]}
    for process in said:
        process.send_signal(how)
        said[process] += (await process.communicate())[0].decode().split("\n")[:-1]
    put = {body for producer in producers for body in said[producer]}
    return put, {body for worker in workers for body in said[worker]}


async def finish(engine, *, lease_s=30.0):
    """Handle all that is left; returns the bodies."""
    handled = set()
    async with asyncio.timeout(60):
        while (await engine.depth("q")).unfinished:
            leases = await engine.take("q", limit=100, lease_s=lease_s, wait_s=1.5)
            handled |= {lease.body.decode() for lease in leases}
            await engine.settle("q", leases)
    return handled
