"""`consona worker`: handles messages in processes of its own, stops well, and comes back after a kill."""

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from consona import CloudEvent, EventBus, MessageQueue
from consona.cli import main

MODULE = """
import asyncio, os
from consona import MessageQueue

queue = MessageQueue("numbers", {url!r}, lease=1.0)

@queue.worker(concurrency=2)
async def handle(number: int):
    if number < 0:
        print("begin", number, os.getpid(), flush=True)
        await asyncio.sleep(3600)
    if number == 100:
        print("begin", number, os.getpid(), flush=True)
        await asyncio.sleep(0.5)
    print("done", number, os.getpid(), flush=True)

text = "no queue"
"""

BUS = """
import msgspec
from consona import EventBus, event

@event("number.drawn")
class Drawn(msgspec.Struct):
    number: int

bus = EventBus({url!r})

@bus.on(Drawn, durable="printer", start="beginning")
async def show(drawn: Drawn):
    print("drawn", drawn.number, flush=True)
"""


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/work.db"
    (tmp_path / "shop.py").write_text(MODULE.format(url=url))
    return url


@asynccontextmanager
async def working(folder, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consona.cli", "worker", "shop:queue", "--folder", folder, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process, pattern):
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if found := re.search(pattern, line):
                return found
    raise AssertionError(f"it ended without {pattern}")


async def test_it_handles_what_is_there_and_ends_when_asked(tmp_path, url):
    async with MessageQueue("numbers", url) as queue:
        await queue.put_many([1, 2])
        async with working(tmp_path) as process:
            await said(process, "done 1 ")
            await said(process, "done 2 ")
            await queue.put(100)
            await said(process, "begin 100")
            process.send_signal(signal.SIGTERM)
            await said(process, "done 100")
            assert await asyncio.wait_for(process.wait(), 30) == 0
        assert (await queue.depth()).unfinished == 0


async def test_it_ends_by_itself_when_nothing_is_left(tmp_path, url):
    async with MessageQueue("numbers", url) as queue:
        await queue.put_many([1, 2, 3])
        async with working(tmp_path, "--until-empty") as process:
            assert await asyncio.wait_for(process.wait(), 60) == 0
        assert (await queue.depth()).unfinished == 0


async def test_a_killed_process_is_replaced_and_its_message_comes_back(tmp_path, url):
    async with MessageQueue("numbers", url) as queue:
        await queue.put(-1)
        async with working(tmp_path, "--processes", "2", "--drain", "0") as process:
            found = await said(process, r"begin -1 (\d+)")
            os.kill(int(found[1]), signal.SIGKILL)
            await said(process, "was ended by SIGKILL")
            again = await said(process, r"begin -1 (\d+)")
            assert again[1] != found[1]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == 0
        [message] = await queue.get_many(1, wait=10)
        assert message.attempt == 2  # the killed one; who was stopped gave it back untried


async def test_it_handles_the_events_of_a_bus_and_the_messages_of_a_queue_together(tmp_path, url):
    (tmp_path / "draws.py").write_text(BUS.format(url=url))
    drawn = CloudEvent(type="number.drawn", source="/test", data=b'{"number": 7}')
    async with MessageQueue("numbers", url) as queue, EventBus(url) as bus:
        await queue.put(1)
        await bus.publish(drawn)
        async with working(tmp_path, "draws:bus") as process:
            seen = {(await said(process, "done 1 |drawn 7"))[0], (await said(process, "done 1 |drawn 7"))[0]}
            assert seen == {"done 1 ", "drawn 7"}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0


def test_what_is_no_queue_is_refused(tmp_path, url, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["worker", "shop:text", "--folder", str(tmp_path)])
    assert caught.value.code == 2
    assert "neither a MessageQueue nor an EventBus, nor an App with one" in capsys.readouterr().err
