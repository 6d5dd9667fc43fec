"""kill -9 of a process that changes documents: what was acknowledged is there, nothing is half, a watcher misses nothing."""

import signal
import sys

import pytest

from consona.documents import DocumentDatabase
from storage_tools import child, line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is one of POSIX")

WRITERS = """
import asyncio, os, sys
from consona.documents import DocumentDatabase

async def main(url):
    async with DocumentDatabase(url) as db:
        counters = db["counters"]

        async def write(writer):
            n = 0
            while True:
                number = (writer + n) % 3       # eight writers, the same three documents
                if n % 2:
                    change = {"$inc": {"left": 1, "right": 1}, "$push": {"by": {"$each": [writer], "$slice": -5}}}
                else:
                    change = [{"$set": {"left": {"$add": ["$left", 1]}, "right": {"$add": ["$right", 1]}}}]
                await counters.update_one({"_id": number}, change)
                os.write(1, f"{number}\\n".encode())
                n += 1

        async def copy():
            generation = 0
            while True:
                generation += 1
                pipeline = [{"$set": {"generation": generation}}, {"$out": "copies"}]
                await db["sources"].aggregate(pipeline)

        await asyncio.gather(copy(), *(write(n) for n in range(8)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("acknowledged", [30, 200])
async def test_no_update_is_lost_and_none_is_half(tmp_path, acknowledged):
    url = f"sqlite:///{tmp_path}/killed.db"
    async with DocumentDatabase(url) as db:
        await db["counters"].insert_many([{"_id": number, "left": 0, "right": 0} for number in range(3)])
        await db["sources"].insert_many([{"_id": number} for number in range(200)])
    told = [0, 0, 0]
    for _ in range(2):  # the second process recovers what the first left behind
        process = await child(WRITERS, url)
        for _ in range(acknowledged):
            told[int(await line(process))] += 1
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        for number in rest.decode().split("\n")[:-1]:
            told[int(number)] += 1
    async with DocumentDatabase(url) as db:
        counters = await db["counters"].find(sort="_id").to_list()
        assert all(found["left"] == found["right"] for found in counters)
        assert all(count <= found["left"] for count, found in zip(told, counters, strict=True))
        assert sum(found["left"] for found in counters) <= sum(told) + 2 * 8  # done, and not told any more
        copies = await db["copies"].find().to_list()
        assert len(copies) in {0, 200}
        assert len({copy["generation"] for copy in copies}) <= 1


INSERTS = """
import asyncio, os, sys
from consona.documents import DocumentDatabase

async def main(url, first):
    async with DocumentDatabase(url) as db:
        for number in range(int(first), 10**9):
            await db["things"].insert_one({"_id": number})
            os.write(1, f"{number}\\n".encode())

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_watcher_that_goes_on_after_a_kill_misses_nothing(tmp_path):
    url = f"sqlite:///{tmp_path}/watched.db"
    async with DocumentDatabase(url) as db, db["things"].watch() as changes:
        process = await child(INSERTS, url, "0")
        seen = [(await changes.next())["documentKey"]["_id"] for _ in range(20)]
        token = changes.resume_token
        await line(process)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    process = await child(INSERTS, url, "1000000")  # while nobody watches
    for _ in range(20):
        await line(process)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    async with DocumentDatabase(url) as db:
        there = [document["_id"] for document in await db["things"].find(sort="_id").to_list()]
        async with db["things"].watch(resume_after=token) as changes:
            while len(seen) < len(there):
                seen.append((await changes.next())["documentKey"]["_id"])
    assert seen == there
