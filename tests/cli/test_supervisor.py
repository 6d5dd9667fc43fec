"""The supervisor, over real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from consona.cli.supervisor import Patience, Program, Supervisor
from processes import alive, until

READ_STDIN = "import sys; print('ready', flush=True); sys.stdin.read(); print('drained')"
STUBBORN = "import time; print('ready', flush=True); time.sleep(600)"


def program(code: str, name: str = "work", **more) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), **more)


class Log:
    """What the supervisor said, as (name, line)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for who, line in self.lines if who == name]

    @property
    def own(self) -> str:
        return "\n".join(self.of("consona"))


@pytest.fixture
def log():
    return Log()


@contextlib.asynccontextmanager
async def running(supervisor: Supervisor):
    task = asyncio.create_task(supervisor.run())
    try:
        yield task
    finally:
        supervisor.stop()
        supervisor.stop()
        await task


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_every_line_of_every_process_is_shown_with_its_name(log):
    both = [
        program("print('one'); print('two', end='')", "a.1"),
        program("import sys; sys.stderr.write('oops\\n')", "b"),
    ]
    supervisor = Supervisor(both, say=log, patience=Patience(deaths=1))
    assert await supervisor.run() == 1
    assert log.of("a.1") == ["one", "two"]
    assert log.of("b") == ["oops"]


async def test_a_process_that_is_killed_is_started_again_at_once(log):
    supervisor = Supervisor([program(READ_STDIN)], say=log, patience=Patience(quick=0.0))
    async with running(supervisor):
        await until(lambda: "ready" in log.of("work"))
        first = supervisor.pids["work"]
        os.kill(first, signal.SIGKILL)
        await until(lambda: log.of("work").count("ready") == 2)
        assert supervisor.pids["work"] != first
    assert "work was ended by SIGKILL" in log.own
    assert "It is started again now." in log.own


async def test_quick_deaths_are_followed_by_growing_waits_and_then_given_up(log):
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    patience = Patience(quick=60, deaths=4, backoff=0.5, longest=1.5)
    supervisor = Supervisor([program("raise SystemExit(7)")], say=log, patience=patience, sleep=sleep)
    assert await supervisor.run() == 1
    assert waits == [0.5, 1.0, 1.5]
    assert "work ended with exit code 7 4 times in a row shortly after its start. It is not started again." in log.own
    assert supervisor.failed == {"work"}


async def test_a_program_that_is_called_wrongly_is_not_tried_again(log):
    supervisor = Supervisor([program("print('no such app'); raise SystemExit(2)")], say=log, sleep=no_wait)
    assert await supervisor.run() == 1
    assert log.of("work") == ["no such app"]
    assert "work cannot run as it is called or configured" in log.own


async def test_a_program_that_does_not_exist_is_given_up_and_the_others_go_on(log):
    missing = Program(name="missing", command=("/no/such/program",))
    supervisor = Supervisor([missing, program(READ_STDIN)], say=log)
    async with running(supervisor):
        await until(lambda: "ready" in log.of("work"))
        await until(lambda: "missing cannot be started" in log.own)
        assert list(supervisor.pids) == ["work"]


async def test_stop_lets_processes_finish_and_returns_zero(log):
    supervisor = Supervisor([program(READ_STDIN, f"work.{n}") for n in range(3)], say=log)
    task = asyncio.create_task(supervisor.run())
    await until(lambda: len([line for _, line in log.lines if line == "ready"]) == 3)
    supervisor.stop()
    assert await task == 0
    assert [log.of(f"work.{n}") for n in range(3)] == [["ready", "drained"]] * 3


async def test_a_second_stop_kills_what_does_not_end(log):
    supervisor = Supervisor([program(STUBBORN)], say=log, patience=Patience(drain=600))
    task = asyncio.create_task(supervisor.run())
    await until(lambda: "ready" in log.of("work"))
    supervisor.stop()
    await asyncio.sleep(0)
    assert not task.done()
    supervisor.stop()
    assert await task == 1
    assert supervisor.failed == {"work"}


async def test_what_does_not_drain_in_time_is_killed_and_named(log):
    supervisor = Supervisor([program(STUBBORN)], say=log, patience=Patience(drain=0.05))
    task = asyncio.create_task(supervisor.run())
    await until(lambda: "ready" in log.of("work"))
    supervisor.stop()
    assert await task == 1
    assert "work did not end within 0.05 s and is killed." in log.own


async def test_stop_ends_a_wait_before_a_restart(log):
    patience = Patience(quick=60, backoff=600, longest=600)
    supervisor = Supervisor([program("raise SystemExit(1)")], say=log, patience=patience)
    async with running(supervisor) as task:
        await until(lambda: "started again in 600 s" in log.own)
        supervisor.stop()
        assert await task == 0


async def test_restart_replaces_every_process_and_counts_no_death(log):
    supervisor = Supervisor([program(READ_STDIN, "a"), program(STUBBORN, "b")], say=log, patience=Patience(deaths=1))
    async with running(supervisor):
        await until(lambda: len(supervisor.pids) == 2 and len(log.lines) == 2)
        before = dict(supervisor.pids)
        supervisor.restart(drain=0.05)
        await until(lambda: log.of("a").count("ready") == 2 and log.of("b").count("ready") == 2)
        assert not set(before.values()) & set(supervisor.pids.values())
    assert log.of("a")[:2] == ["ready", "drained"]


async def test_a_held_program_that_died_waits_for_restart(log):
    supervisor = Supervisor([program("print('broken'); raise SystemExit(2)")], say=log, hold=True)
    async with running(supervisor) as task:
        await until(lambda: "started again when a file changes" in log.own)
        assert not supervisor.pids
        supervisor.restart()
        await until(lambda: log.of("work") == ["broken", "broken"])
        assert not task.done()


async def test_what_a_dead_process_left_behind_is_ended_too(log):
    leaves_a_child = (
        "import subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print(child.pid)"
    )
    supervisor = Supervisor([program(leaves_a_child)], say=log, patience=Patience(deaths=1))
    await supervisor.run()
    pid = int(log.of("work")[0])
    await until(lambda: not alive(pid))


async def test_cancelling_the_supervisor_kills_its_processes(log):
    supervisor = Supervisor([program(STUBBORN)], say=log)
    task = asyncio.create_task(supervisor.run())
    await until(lambda: "ready" in log.of("work"))
    pid = supervisor.pids["work"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not alive(pid))


async def test_a_very_long_line_is_shown_in_pieces_and_memory_stays_bounded(log):
    supervisor = Supervisor([program("print('x' * 200_000)")], say=log, patience=Patience(deaths=1))
    await supervisor.run()
    assert "".join(log.of("work")) == "x" * 200_000
    assert len(log.of("work")) > 1


async def test_when_nobody_reads_the_log_any_more_everything_is_stopped():
    def gone(name: str, line: str) -> None:
        raise BrokenPipeError

    supervisor = Supervisor([program(READ_STDIN)], say=gone)
    assert await supervisor.run() == 0
