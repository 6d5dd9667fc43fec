"""What became of a message, for whoever put it: results, progress, cancelling; on every engine that has a store."""

import asyncio
import threading
from itertools import count

import msgspec
import pytest

import database_servers
import engine_addresses
from consona import MessageQueue, Retry
from consona.errors import ConfigurationError, ValidationError, WorkCancelled, WorkFailed
from storage_tools import child, line, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://results{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/work.db?synchronous=OFF",
}
SERVERS = {"postgresql": database_servers.empty_postgresql, "redis": database_servers.empty_redis}


class Table(msgspec.Struct):
    rows: list[int]


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
async def queue(url):
    async with MessageQueue("reports", url, retry=Retry(attempts=2, backoff=0.0), results=60) as queue:
        yield queue


@pytest.fixture
async def working(queue):
    """Let the queue's handler work beside the test."""
    tasks = []

    def start():
        tasks.append(asyncio.create_task(queue.work(drain=0)))

    yield start
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def empty(queue):
    """Wait until everything is acknowledged: a result is told just before."""
    async with asyncio.timeout(20):
        while (await queue.depth()).unfinished:
            await asyncio.sleep(0.001)


async def test_who_put_it_gets_what_the_handler_returned(queue, working):
    @queue.worker()
    async def count_up(n: int) -> Table:
        return Table(list(range(n)))

    handle = await queue.put(3)
    assert (await handle.outcome()).state == "waiting"
    working()
    assert await handle.result(timeout=20) == {"rows": [0, 1, 2]}
    assert await handle.result(Table) == Table([0, 1, 2])
    assert (await handle.outcome()).state == "done"
    with pytest.raises(ValidationError):
        await handle.result(list[int])


@pytest.mark.parametrize("value", ["text ä😀", b"\x00\xff", None, 7])
async def test_a_plain_functions_value_comes_back_as_it_was(queue, working, value):
    @queue.worker()
    def give(_: str):
        return value

    working()
    assert await (await queue.put("x")).result(timeout=20) == value


async def test_a_handle_is_a_text_and_is_found_again_by_it(queue, working):
    queue.worker()(lambda text: text)
    working()
    name = str(await queue.put("x"))
    assert await queue.handle(name).result(timeout=20) == "x"


async def test_each_of_many_has_its_own_result(queue, working):
    queue.worker(concurrency=4)(lambda n: n * n)
    working()
    handles = await queue.put_many(list(range(30)))
    assert await asyncio.gather(*(handle.result(timeout=20) for handle in handles)) == [n * n for n in range(30)]


async def test_a_failure_is_told_when_no_attempt_is_left(queue, working):
    seen = []

    @queue.worker()
    async def fail(_: str):
        seen.append(await handle.outcome())
        raise LookupError("no such report")

    handle = await queue.put("x")
    working()
    with pytest.raises(WorkFailed, match="LookupError: no such report"):
        await handle.result(timeout=20)
    assert [outcome.state for outcome in seen] == ["running", "running"]
    assert "no such report" in seen[1].error


async def test_a_result_that_does_not_come_in_time_is_a_timeout(queue):
    with pytest.raises(TimeoutError):
        await (await queue.put("x")).result(timeout=0.01)


async def test_progress_is_seen_while_it_works(queue, working):
    go_on = asyncio.Event()

    @queue.worker()
    async def work(_: str, message):
        await message.progress(0.4, "reading")
        await go_on.wait()

    handle = await queue.put("x")
    working()
    async with asyncio.timeout(20):
        while (outcome := await handle.outcome()).progress == 0:
            await asyncio.sleep(0.001)
    assert (outcome.state, outcome.progress, outcome.note) == ("running", 0.4, "reading")
    go_on.set()
    await handle.result(timeout=20)
    assert (await handle.outcome()).progress == 1.0


@pytest.mark.parametrize("part", [-0.1, 1.1, float("nan")])
async def test_a_progress_that_is_none_is_refused(queue, part):
    await queue.put("x")
    [message] = await queue.get_many(1)
    with pytest.raises(ValidationError):
        await message.progress(part)


async def test_what_was_cancelled_before_is_not_handled(queue, working):
    seen = []
    queue.worker()(seen.append)
    first, second = await queue.put("no"), await queue.put("yes")
    assert await first.cancel()
    working()
    await second.result(timeout=20)
    with pytest.raises(WorkCancelled):
        await first.result(timeout=20)
    assert seen == ["yes"]
    await empty(queue)


async def test_what_is_being_handled_is_interrupted_and_does_not_come_again(queue, working):
    begun, seen = asyncio.Event(), []

    @queue.worker()
    async def work(_: str):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("interrupted")
            raise

    handle = await queue.put("x")
    working()
    await asyncio.wait_for(begun.wait(), 20)
    assert await handle.cancel()
    with pytest.raises(WorkCancelled):
        await handle.result(timeout=20)
    assert seen == ["interrupted"]
    await empty(queue)
    assert (await queue.depth()).dead == 0


async def test_what_has_ended_cannot_be_cancelled(queue, working):
    queue.worker()(lambda text: text)
    working()
    handle = await queue.put("x")
    await handle.result(timeout=20)
    assert not await handle.cancel()
    assert await handle.result() == "x"


async def test_what_fails_while_it_is_cancelled_is_not_tried_again(queue, working):
    tries, begun, cancelled = [], threading.Event(), threading.Event()

    @queue.worker()
    def work(_: str):
        tries.append(1)
        begun.set()
        cancelled.wait(20)
        raise LookupError

    handle = await queue.put("x")
    working()
    await until(begun.is_set)
    assert await handle.cancel()
    cancelled.set()
    with pytest.raises((WorkCancelled, WorkFailed)):
        await handle.result(timeout=20)
    assert len(tries) == 1


async def test_a_queue_that_keeps_no_results_says_so(url):
    async with MessageQueue("plain", url) as queue:
        handle = await queue.put("x")
        with pytest.raises(ConfigurationError, match="keeps no results"):
            await handle.result()


async def test_results_without_an_address_are_refused(queue):
    with pytest.raises(ConfigurationError, match="address"):
        MessageQueue("q", queue.engine, results=60)


WORKER = """
import asyncio, sys
from consona import MessageQueue
queue = MessageQueue("reports", sys.argv[1], results=60)
@queue.worker()
async def shout(text: str):
    return text.upper()
async def main():
    async with queue:
        print("ready", flush=True)
        await queue.work()
asyncio.run(main())
"""


async def test_the_result_of_another_processs_work_arrives(queue, url):
    if url.startswith("memory:"):
        pytest.skip("memory is of one process")
    worker = await child(WORKER, url)
    assert await line(worker) == "ready"
    assert await (await queue.put("tea")).result(timeout=20) == "TEA"
    worker.kill()
    await worker.communicate()
