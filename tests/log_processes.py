"""Processes that append to a log until they are killed, and what a reader must find: for the tests of log engines."""

import asyncio
import signal

from consona.log.log import Log
from storage_tools import child, line

APPENDER = """
import asyncio, sys
from consona.log.log import Log
async def main():
    async with Log(sys.argv[1]) as log:
        n = 0
        while True:
            await log.append("s", f"{sys.argv[2]}-{n}".encode())
            print(n, flush=True)
            n += 1
asyncio.run(main())
"""


async def check_killed_appenders(url):
    """Three processes append until they are killed; a reader finds all that they were told is there, in order."""
    async with Log(url) as log:
        writers = [await child(APPENDER, url, str(n)) for n in range(3)]
        acknowledged = [-1, -1, -1]
        for number, writer in enumerate(writers):
            for _ in range(20):
                acknowledged[number] = int(await line(writer))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for number, writer in enumerate(writers):
            rest, _ = await writer.communicate()
            acknowledged[number] = max([acknowledged[number], *map(int, rest.split(b"\n")[:-1])])
        found = {"0": [], "1": [], "2": []}
        position, end = 0, await log.end("s")
        async with asyncio.timeout(20):
            async for record in log.follow("s", after=0):
                name, _, number = record.body.decode().partition("-")
                found[name].append(int(number))
                assert record.position > position
                position = record.position
                if position == end:
                    break
    for number, last in enumerate(acknowledged):
        mine = found[str(number)]
        assert mine == list(range(len(mine)))
        assert len(mine) > last


async def check_woken_reader(url):
    """Who waits is woken by what another process appends."""
    async with Log(url) as log:
        waiting = asyncio.create_task(log.wait("s", after=0, timeout=60))
        writer = await child(APPENDER, url, "0")
        await asyncio.wait_for(waiting, 30)
        writer.kill()
        await writer.communicate()
