"""The life of a part."""

import asyncio
import os
import sys

import pytest

from consona.errors import ConfigurationError, NotStarted
from consona.part import Health, Part, Status
from consona.telemetry.observer import observers


class Lamp(Part):
    kind = "lamp"

    def __init__(self, name="lamp"):
        super().__init__(name)
        self.opened = self.closed = 0
        self.break_on_open = False

    async def _open(self):
        await asyncio.sleep(0)
        if self.break_on_open:
            raise OSError("no power")
        self.opened += 1

    async def _close(self):
        self.closed += 1

    def use(self):
        self._require_started()
        with self.observer.operation("shine"):
            return "light"

    def detail(self):
        return {"watts": 5}


async def test_a_part_works_alone_as_a_context_manager():
    async with Lamp() as lamp:
        assert lamp.use() == "light"
        assert (await lamp.check()).status is Status.UP
    assert (lamp.opened, lamp.closed) == (1, 1)


async def test_use_before_start_and_after_stop_says_how_to_start():
    lamp = Lamp()
    with pytest.raises(NotStarted, match="async with"):
        lamp.use()
    async with lamp:
        pass
    with pytest.raises(NotStarted):
        lamp.use()
    assert not (await lamp.check()).ok


async def test_a_shared_part_is_opened_once_and_closed_by_the_last():
    lamp = Lamp()
    await asyncio.gather(lamp.start(), lamp.start(), lamp.start())
    await lamp.stop()
    await lamp.stop()
    assert (lamp.opened, lamp.closed, lamp.started) == (1, 0, True)
    await lamp.stop()
    await lamp.stop()  # one too many does nothing
    assert (lamp.opened, lamp.closed, lamp.started) == (1, 1, False)


async def test_a_part_whose_start_failed_is_not_started_and_can_try_again():
    lamp = Lamp()
    lamp.break_on_open = True
    with pytest.raises(OSError, match="no power"):
        await lamp.start()
    assert not lamp.started
    lamp.break_on_open = False
    async with lamp:
        assert lamp.use()


async def test_stats_show_the_operations_and_what_only_the_part_knows():
    async with Lamp() as lamp:
        lamp.use()
        assert (lamp.stats.total, lamp.stats.success_rate, lamp.stats.detail) == (1, 1.0, {"watts": 5})
        assert [entry.operation for entry in lamp.history] == ["shine"]


async def test_only_started_parts_are_seen_by_the_reporter():
    lamp = Lamp()
    assert id(lamp.observer) not in observers
    async with lamp:
        assert observers[id(lamp.observer)] is lamp.observer
    assert id(lamp.observer) not in observers


def test_a_part_started_in_another_loop_is_refused_clearly():
    lamp = Lamp()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(lamp.start())
    try:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(lamp.start())
    finally:
        loop.run_until_complete(lamp.stop())
        loop.close()


def test_a_part_can_be_used_in_one_loop_after_another():
    lamp = Lamp()

    async def once():
        async with lamp:
            lamp.use()

    asyncio.run(once())
    asyncio.run(once())
    assert (lamp.opened, lamp.closed) == (2, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_fork_is_detected():
    async with Lamp() as lamp:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                lamp.use()
                answer = b"used"
            except ConfigurationError as error:
                answer = str(error).encode()
            os.write(writer, answer)
            os._exit(0)
        os.close(writer)
        answer = b"".join(iter(lambda: os.read(reader, 4096), b""))
        os.close(reader)
        os.waitpid(child, 0)
        assert b"before this process was forked" in answer


def test_health_is_ok_while_it_works():
    assert Health(Status.DEGRADED).ok
    assert not Health(Status.DOWN).ok
