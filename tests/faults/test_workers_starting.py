"""What hinders a start: a port in use, an application that crashes, one that cannot be loaded."""

from __future__ import annotations

import socket

import pytest

from asgi_app import write_app
from consona.rest.server.listen import listen_tcp
from http_get import get
from processes import Command, free_port


@pytest.fixture
def taken():
    with listen_tcp("127.0.0.1", 0) as listener:
        yield listener.getsockname()[1]


def port_in(line: str) -> int:
    return int(line.rpartition(":")[2].split("/")[0].split()[0])


def test_run_says_that_a_port_is_in_use_and_what_to_type(tmp_path, taken):
    write_app(tmp_path)
    with Command("run", "hello:app", "--port", taken, folder=tmp_path) as command:
        assert command.end() == 1
        assert f"Error: Port {taken} on 127.0.0.1 is in use by another program." in command.text
        free = int(command.line("--port ").rpartition("--port ")[2].split()[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free))


async def test_up_takes_the_next_free_port_and_says_so(tmp_path, taken):
    write_app(tmp_path)
    (tmp_path / "consona.toml").write_text(f'[services.shop]\napp = "hello:app"\nport = {taken}\n')
    with Command("up", folder=tmp_path) as command:
        said = command.line("is taken instead.")
        assert f"shop: Port {taken} on 127.0.0.1 is in use by another program." in said
        port = port_in(command.line("shop API"))
        assert port != taken
        assert (await get(port))[0] == 200


def test_up_with_a_port_of_your_own_that_is_in_use_stops(tmp_path, taken):
    write_app(tmp_path)
    (tmp_path / "consona.toml").write_text('[services.shop]\napp = "hello:app"\n')
    with Command("up", "--port", taken, folder=tmp_path) as command:
        assert command.end() == 1
        assert "is in use" in command.text


async def test_an_application_that_crashes_at_start_is_given_up_and_the_others_serve(tmp_path):
    write_app(tmp_path)
    (tmp_path / "crash.py").write_text("raise RuntimeError('no database')\n")
    (tmp_path / "consona.toml").write_text(
        f'[services.good]\napp = "hello:app"\nport = {free_port()}\n'
        f'[services.bad]\napp = "crash:app"\nport = {free_port()}\n'
    )
    with Command("up", folder=tmp_path) as command:
        assert (await get(port_in(command.line("good API"))))[0] == 200
        command.line("bad.1 ended with exit code 1 5 times in a row shortly after its start. It is not started again.")
        command.line("Press Ctrl-C to stop.")
        assert "bad API  " not in command.text, "what does not answer is not announced"
        assert command.text.count("RuntimeError: no database") == 5


def test_when_nothing_can_run_up_ends_with_one(tmp_path):
    (tmp_path / "consona.toml").write_text('[services.shop]\napp = "nothing:app"\nport = 0\n')
    with Command("up", folder=tmp_path) as command:
        assert command.end() == 1
        assert "There is no module 'nothing'" in command.text
        assert "shop.1 cannot run as it is called or configured." in command.text


def test_a_start_that_the_application_refuses_is_a_failure(tmp_path):
    (tmp_path / "refuses.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'the cellar is flooded'})\n"
    )
    with Command("run", "refuses:app", "--port", 0, folder=tmp_path) as command:
        assert command.end() == 1
        assert "the cellar is flooded" in command.text
        assert "Serving" not in command.text
