"""`consona up`: a whole system, started, watched and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from asgi_app import write_app
from consona import MessageQueue
from consona.cli import main
from consona.cli.workers import MAY_SHARE
from http_get import get
from processes import Command, alive, until

NOTES = """
import random
from consona import APIClient, APIServer

api = APIServer("notes")


@api.get("/notes")
async def notes() -> list[str]:
    return ["milk"]


async def walk(client: APIClient, rng: random.Random) -> None:
    await client.get("/notes")
    raise RuntimeError("lost the way")
"""

SYSTEM = """
[system]
name = "notes"

[services.notes]
app = "notes:api"
port = 0
workers = 2

[dashboard]
port = 0

[visitors]
walk = "notes:walk"
service = "notes"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notes.py").write_text(NOTES, "utf-8")
    (tmp_path / "consona.toml").write_text(SYSTEM, "utf-8")
    return tmp_path


def port_in(line: str) -> int:
    return int(line.rpartition(":")[2].split("/")[0])


async def test_every_address_is_told_once_it_answers(folder):
    with Command("up", folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        notes, dashboard = (port_in(command.line(label)) for label in ("notes API", "dashboard  "))
        assert await get(notes, "/notes") == (200, '["milk"]')
        status, page = await get(dashboard, "/ops")
        assert status == 200
        assert "<html" in page


async def test_the_dashboard_learns_what_the_services_did(folder):
    with Command("up", folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        notes, dashboard = (port_in(command.line(label)) for label in ("notes API", "dashboard  "))
        await get(notes, "/notes")
        async with asyncio.timeout(30):
            while "/notes" not in (await get(dashboard, "/ops"))[1]:
                await asyncio.sleep(0.1)


WORK = """
from consona import App, MessageQueue

queue = MessageQueue("numbers", "sqlite:///work.db")
app = App("numbers", parts=[queue])


@queue.worker()
async def handle(number: int):
    print("handled", number, flush=True)
"""


async def test_workers_work_beside_the_services(folder):
    (folder / "work.py").write_text(WORK, "utf-8")
    with (folder / "consona.toml").open("a", encoding="utf-8") as file:
        file.write('[workers.work]\nrun = ["work:app"]\n')
    async with MessageQueue("numbers", f"sqlite:///{folder / 'work.db'}") as queue:
        await queue.put(7)
        with Command("up", folder=folder) as command:
            said = await asyncio.to_thread(command.line, "handled 7")
            assert said.startswith("work.1")
        assert command.process.returncode == 0


async def test_visitors_visit_and_one_who_loses_the_way_stops_nobody(folder):
    with Command("up", "--visitors", 2, "--access-log", folder=folder) as command:
        await asyncio.to_thread(command.line, "access: GET /notes 200", times=3)
        said = await asyncio.to_thread(command.line, "RuntimeError: lost the way")
        assert said.startswith("visitors")
    assert command.process.returncode == 0


@pytest.mark.skipif(not MAY_SHARE, reason="one worker serves there")
async def test_a_killed_worker_is_started_again_and_the_log_says_so(folder):
    with Command("up", folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        port = port_in(command.line("notes API"))
        workers = [pid for pid in children(command.process.pid) if b"notes.1" in command_line(pid)]
        os.kill(workers[0], signal.SIGKILL)
        await asyncio.to_thread(command.line, "notes.1 was ended by SIGKILL")
        assert (await get(port, "/notes"))[0] == 200
        await until(lambda: any(b"notes.1" in command_line(pid) for pid in children(command.process.pid)))


@pytest.mark.skipif(not MAY_SHARE, reason="reads /proc")
async def test_when_it_is_killed_nothing_of_the_system_is_left(folder):
    with Command("up", "--visitors", 1, folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        pids = children(command.process.pid)
        assert len(pids) == 4
        command.process.kill()
        await until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_well_when_it_is_asked_to(folder, number):
    with Command("up", folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        command.send(number)
        assert await asyncio.to_thread(command.end) == 0
        assert command.lines[-1] == "Everything has stopped."


async def test_ports_can_be_counted_up_from_one(folder):
    with Command("up", "--port", 0, folder=folder) as command:
        await asyncio.to_thread(command.line, "Press Ctrl-C to stop.")
        assert port_in(command.line("notes API")) != port_in(command.line("dashboard  "))


def test_the_services_find_their_environment(tmp_path):
    write_app(tmp_path, before="import os\nprint('currency', os.environ['CURRENCY'], flush=True)\n")
    (tmp_path / "consona.toml").write_text(
        '[services.shop]\napp = "hello:app"\nport = 0\nenv = { CURRENCY = "EUR" }\n', "utf-8"
    )
    with Command("up", folder=tmp_path) as command:
        command.line("shop.1 | currency EUR")


@pytest.mark.parametrize(
    ("env", "found"), [({}, "shop.db"), ({"CONSONA_DATABASE": "postgresql://elsewhere/shop"}, "elsewhere/shop")]
)
def test_the_services_find_their_database(env, found, tmp_path):
    write_app(tmp_path, before="import os\nprint('data in', os.environ['CONSONA_DATABASE'], flush=True)\n")
    (tmp_path / "consona.toml").write_text(
        '[services.shop]\napp = "hello:app"\nport = 0\n[database]\naddress = "sqlite:///shop.db"\n', "utf-8"
    )
    expected = found if env else f"sqlite:///{tmp_path.resolve() / found}"
    with Command("up", folder=tmp_path, env=env) as command:
        assert command.line("data in").endswith(expected)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", (), "declares no service"),
        ('[services.a]\napp = "a:b"\nport = 0', ("--visitors", "1"), "declares no visitors"),
        ("[services.a]", (), "the setting 'app' is missing"),
    ],
)
def test_a_system_that_cannot_be_started_is_a_usage_error(text, options, said, tmp_path, capsys):
    (tmp_path / "consona.toml").write_text(text, "utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["up", str(tmp_path), *options])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def children(pid: int) -> list[int]:
    """The processes that `pid` started (Linux)."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
