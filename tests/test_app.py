"""An application starts its parts in order, stops them in reverse, and ends when it is asked to."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from consona.app import App
from consona.errors import ConfigurationError
from consona.part import Health, Part, Status


class Recorded(Part):
    """A part that writes down its life."""

    kind = "recorded"

    def __init__(self, name, diary, *, fails="", health=None, hangs=False):
        super().__init__(name)
        self.diary, self.fails, self.health, self.hangs = diary, fails, health, hangs

    async def _open(self):
        if self.fails == "start":
            raise OSError("no power")
        self.diary.append(f"start {self.name}")

    async def _close(self):
        if self.hangs:
            await asyncio.Event().wait()
        self.diary.append(f"stop {self.name}")
        if self.fails == "stop":
            raise OSError("stuck")

    async def check(self):
        if self.fails == "check":
            raise OSError("no answer")
        return self.health or await super().check()


async def test_parts_start_in_order_and_stop_in_reverse():
    diary = []
    async with App("shop", parts=[Recorded("db", diary), Recorded("api", diary)]):
        pass
    assert diary == ["start db", "start api", "stop api", "stop db"]


async def test_when_a_part_cannot_start_those_before_it_are_stopped():
    diary = []
    app = App("shop", parts=[Recorded("db", diary), Recorded("api", diary, fails="start")])
    with pytest.raises(OSError, match="no power"):
        await app.start()
    assert diary == ["start db", "stop db"]
    assert not app.started


async def test_a_part_that_fails_to_stop_keeps_no_other_from_stopping(caplog):
    diary = []
    async with App("shop", parts=[Recorded("db", diary), Recorded("api", diary, fails="stop")]):
        pass
    assert diary[-1] == "stop db"
    assert "api failed to stop" in caplog.text


async def test_a_part_that_hangs_is_cut_off_and_named(caplog):
    diary = []
    parts = [Recorded("db", diary), Recorded("api", diary, hangs=True)]
    async with App("shop", parts=parts, stop_timeout=0.05):
        pass
    assert diary[-1] == "stop db"
    assert "api did not stop within 0.05 s" in caplog.text


def test_two_parts_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="'db'"):
        App("shop", parts=[Recorded("db", []), Recorded("db", [])])


async def test_the_worst_part_decides_the_health_and_says_why():
    parts = [
        Recorded("db", [], fails="check"),
        Recorded("cache", [], health=Health(Status.DEGRADED, "stale")),
        Recorded("api", []),
    ]
    async with App("shop", parts=parts) as app:
        health = await app.check()
    assert health.status is Status.DOWN
    assert "db: its check failed: no answer" in health.reason
    assert health.detail == {"db": "down", "cache": "degraded", "api": "up"}


PROGRAM = """
import asyncio
from consona.app import App

async def main():
    async with App("shop") as app:
        asyncio.get_running_loop().call_soon(lambda: print("up", flush=True))  # once it waits
        await app.wait()
    print("down", flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_in_order(number):
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "up\n"
        os.kill(program.pid, number)
        assert program.communicate(timeout=20)[0] == "down\n"
        assert program.returncode == 0
