"""The log in a SQLite file: with its transactions, with other processes, and after a kill."""

import asyncio
import signal

import pytest

from consona.errors import ConfigurationError
from consona.log.log import Log
from consona.storage.sqlite_engine import open_sqlite
from storage_tools import child, line


async def test_a_record_of_a_transaction_comes_with_it_or_not_at_all(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = await open_sqlite(url)
    async with Log(url) as log:
        async with engine.transaction() as tx:
            await log.append("orders", b"kept", tx=tx)
            assert [r.body for r in (await log.read("orders", tx=tx)).records] == [b"kept"]
            assert (await log.read("orders")).records == []

        async def fail():
            async with engine.transaction() as tx:
                await log.append("orders", b"lost", tx=tx)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert [r.body for r in (await log.read("orders")).records] == [b"kept"]
        await log.append("orders", b"next")
        assert [r.position for r in (await log.read("orders")).records] == [1, 2]
    await engine.close()


async def test_a_log_in_memory_refuses_a_transaction(tmp_path):
    engine = await open_sqlite(f"sqlite:///{tmp_path}/shop.db")
    async with Log("memory://log") as log, engine.transaction() as tx:
        with pytest.raises(ConfigurationError, match="no database"):
            await log.append("orders", b"", tx=tx)
    await engine.close()


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


async def test_a_reader_sees_what_other_processes_append_and_nothing_acknowledged_dies_with_them(tmp_path):
    url = f"sqlite:///{tmp_path}/bus.db"
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


async def test_a_waiting_reader_is_woken_by_another_process(tmp_path):
    url = f"sqlite:///{tmp_path}/bus.db"
    async with Log(url) as log:
        waiting = asyncio.create_task(log.wait("s", after=0, timeout=60))
        writer = await child(APPENDER, url, "0")
        await asyncio.wait_for(waiting, 30)
        writer.kill()
        await writer.communicate()
