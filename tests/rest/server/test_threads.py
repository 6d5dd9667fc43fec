"""What blocks runs in a bounded pool."""

from __future__ import annotations

import asyncio
import threading

from consona.rest.server.threads import Threads


async def test_no_more_threads_than_allowed_and_the_loop_goes_on():
    threads = Threads("t", 2)
    running, most, gate = set(), [], threading.Event()
    both = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work():
        running.add(threading.get_ident())
        most.append(len(running))
        if len(running) == 2:
            loop.call_soon_threadsafe(both.set)
        gate.wait(10)

    tasks = [asyncio.create_task(threads.run(work)) for _ in range(6)]
    async with asyncio.timeout(10):
        await both.wait()
    gate.set()
    await asyncio.gather(*tasks)
    assert max(most) == 2
    threads.close()


async def test_a_generator_is_closed_also_when_it_is_left_early():
    closed = []

    def numbers():
        try:
            yield from range(10)
        finally:
            closed.append(threading.current_thread() is threading.main_thread())

    threads = Threads("t", 1)
    items = threads.iterate(numbers())
    assert [await anext(items), await anext(items)] == [0, 1]
    await items.aclose()
    assert closed == [False]
    threads.close()
    threads.close()
