"""kill -9 of workers and of their supervisor, under load."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from asgi_app import write_app
from consona.cli.signals import ONE_PRESS_S
from http_get import get, get_on
from processes import Command, alive, free_port, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows serves with one process")


@pytest.fixture
def served(tmp_path):
    write_app(tmp_path)
    port = free_port()
    with Command("run", "hello:app", "--port", port, "--workers", 2, "--no-access-log", folder=tmp_path) as command:
        command.line("Serving hello:app")
        command.port = port
        yield command


async def workers(port: int, count: int = 2) -> set[int]:
    """The process ids that answer, once there are `count` of them."""
    seen: set[int] = set()
    async with asyncio.timeout(30):
        while len(seen) < count:
            answers = await asyncio.gather(*(get(port) for _ in range(16)))
            seen |= {int(body) for _, body in answers}
    return seen


async def test_a_killed_worker_takes_only_its_own_connections_with_it(served):
    port = served.port
    pids = await workers(port)
    victim = min(pids)
    answered: list[int] = []
    lost_on_survivor: list[BaseException] = []
    lost_on_victim = 0
    stop = asyncio.Event()

    async def client() -> None:
        """Notes who is at the other end of its connection; makes a new one after a while, or when that one dies."""
        nonlocal lost_on_victim
        while not stop.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            owner = 0
            try:
                for _ in range(50):
                    _, body = await get_on(reader, writer)
                    owner = int(body)
                    answered.append(owner)
            except (OSError, EOFError) as error:
                # Accepted and not yet answered: nobody can tell whose it was, so it counts as the victim's.
                if owner in {0, victim}:
                    lost_on_victim += 1
                else:
                    lost_on_survivor.append(error)
            finally:
                writer.close()

    clients = [asyncio.create_task(client()) for _ in range(16)]
    await until(lambda: set(answered) >= pids)
    os.kill(victim, signal.SIGKILL)
    at_kill = len(answered)
    await until(lambda: len(answered) > at_kill + 500)
    stop.set()
    await asyncio.gather(*clients)
    assert not lost_on_survivor
    assert lost_on_victim <= 16
    served.line("was ended by SIGKILL")
    assert len(await workers(port)) == 2, "it was started again"
    assert victim not in await workers(port)


async def test_while_every_worker_is_dead_new_connections_wait_and_are_answered(served):
    for pid in await workers(served.port):
        os.kill(pid, signal.SIGKILL)
    # The supervisor holds the socket, so none of these is refused.
    answers = await asyncio.gather(*(get(served.port) for _ in range(20)))
    assert {status for status, _ in answers} == {200}


async def test_when_the_supervisor_is_killed_its_workers_end(served):
    pids = await workers(served.port)
    os.kill(served.process.pid, signal.SIGKILL)
    await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_worker_whose_event_loop_hangs_ends_when_its_supervisor_is_killed(tmp_path):
    write_app(tmp_path)
    port = free_port()
    options = ("--workers", 2, "--drain", 0.1)
    with Command("run", "hello:app", "--port", port, *options, folder=tmp_path) as command:
        command.line("Serving hello:app")
        pids = await workers(port)
        hanging = asyncio.create_task(get(port, "/hang"))
        await until((tmp_path / "under-way").exists)
        os.kill(command.process.pid, signal.SIGKILL)
        await until(lambda: not any(alive(pid) for pid in pids))
        with pytest.raises((OSError, EOFError)):
            await hanging


async def test_sigterm_lets_requests_under_way_finish_and_exits_with_zero(served, tmp_path):
    slow = asyncio.create_task(get(served.port, "/slow"))
    await until((tmp_path / "under-way").exists)
    served.send(signal.SIGTERM)
    await asyncio.to_thread(served.line, "said goodbye")  # the idle worker is gone already
    assert not slow.done()
    (tmp_path / "go-on").touch()
    assert (await slow)[0] == 200
    assert await asyncio.to_thread(served.end) == 0
    assert served.text.count("said goodbye") == 2


async def test_a_second_ctrl_c_ends_what_would_not_drain(served, tmp_path):
    slow = asyncio.create_task(get(served.port, "/slow"))
    await until((tmp_path / "under-way").exists)
    served.send(signal.SIGINT)
    served.send(signal.SIGTERM)  # at once, as `timeout` and `make` hand it on: still the first wish
    await asyncio.to_thread(served.line, "said goodbye")
    assert not slow.done()
    await asyncio.sleep(ONE_PRESS_S)
    served.send(signal.SIGINT)
    assert await asyncio.to_thread(served.end) == 1
    with pytest.raises((OSError, EOFError)):
        await slow
