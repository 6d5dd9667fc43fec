"""`consona run`, for real: a process, a socket, a request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys

import pytest

from asgi_app import write_app
from certificates import ca_file, certificate
from consona.rest.server.listen import listen_tcp, listen_unix
from http_get import get, get_on
from processes import Command, free_port, until

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no inherited sockets here")


@pytest.fixture
def folder(tmp_path):
    write_app(tmp_path)
    return tmp_path


@pytest.fixture
def serve(folder):
    commands: list[Command] = []

    def serve(*options: object) -> tuple[Command, int]:
        port = free_port()
        command = Command("run", "hello:app", "--port", port, *options, folder=folder)
        commands.append(command)
        command.line("Serving hello:app")
        return command, port

    yield serve
    for command in commands:
        command.__exit__()


async def test_an_application_is_served_in_one_process(serve):
    command, port = serve()
    status, pid = await get(port, "/hello")
    assert (status, int(pid)) == (200, command.process.pid)
    assert f"http://127.0.0.1:{port} with 1 worker. Press Ctrl-C to stop." in command.text


async def test_the_access_log_says_in_words_what_was_answered(serve):
    command, port = serve()
    await get(port, "/hello?password=hunter2")
    line = await asyncio.to_thread(command.line, "GET /hello")
    assert " 200 in " in line
    assert line.endswith(" ms")
    assert "hunter2" not in command.text, "a query holds values"


async def test_a_path_cannot_play_tricks_on_the_terminal_of_the_log(serve):
    command, port = serve()
    await get(port, "/%1b%5b2J%0aforged")
    await asyncio.to_thread(command.line, "GET /%1B%5B2J%0Aforged 200")


async def test_the_access_log_can_be_left_out(serve):
    command, port = serve("--no-access-log")
    await get(port, "/hello")
    command.send(signal.SIGTERM)
    assert await asyncio.to_thread(command.end) == 0
    assert "/hello" not in command.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_requests_finish_and_exits_with_zero(serve, folder, number):
    command, port = serve()
    slow = asyncio.create_task(get(port, "/slow"))
    await until((folder / "under-way").exists)
    command.send(number)
    (folder / "go-on").touch()
    assert (await slow)[0] == 200
    assert await asyncio.to_thread(command.end) == 0
    assert command.lines[-2:] == ["said goodbye", "Stopped."]


async def test_a_changed_file_starts_it_again_and_no_request_is_refused(serve, folder):
    command, port = serve("--reload")
    _, before = await get(port)
    write_app(folder, before="# changed\n")
    await asyncio.to_thread(command.line, "hello.py changed: starting again.")
    async with asyncio.timeout(30):
        while (await get(port))[1] == before:
            pass
    assert "refused" not in command.text


async def test_a_mistake_in_a_changed_file_waits_for_the_next_change(serve, folder):
    command, port = serve("--reload")
    (folder / "hello.py").write_text("def broken(:")
    await asyncio.to_thread(command.line, "It is started again when a file changes.")
    assert "SyntaxError" in command.text
    waiting = asyncio.create_task(get(port))
    write_app(folder)
    assert (await waiting)[0] == 200


@unix_only
async def test_a_unix_socket_is_served_and_removed_at_the_end(folder):
    path = folder / "s"
    with Command("run", "hello:app", "--uds", path, folder=folder) as command:
        command.line(f"at unix:{path}")
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
        command.send(signal.SIGTERM)
        assert await asyncio.to_thread(command.end) == 0
    assert not path.exists()


@unix_only
async def test_a_socket_can_be_handed_down_by_its_descriptor(folder):
    with listen_tcp("127.0.0.1", 0) as listener:
        listener.set_inheritable(True)
        options = ("--fd", listener.fileno())
        with Command("run", "hello:app", *options, folder=folder, fds=(listener.fileno(),)) as command:
            command.line("Serving hello:app")
            assert (await get(listener.getsockname()[1]))[0] == 200


@unix_only
def test_a_unix_socket_in_use_is_refused(folder):
    with listen_unix(str(folder / "s")), Command("run", "hello:app", "--uds", folder / "s", folder=folder) as command:
        assert command.end() == 1
        assert "Another program listens on" in command.text


@pytest.mark.parametrize("target", ["hello:ap", "helo:app", "hello"])
def test_a_wrong_target_is_a_usage_error(folder, target):
    with Command("run", target, "--port", 0, folder=folder) as command:
        assert command.end() == 2
        assert "Error: " in command.text
        assert "What to do: " in command.text
        assert "Traceback" not in command.text


@pytest.mark.parametrize(
    "options", [("--port", "many"), ("--port", "70000"), ("--log-level", "loud"), ("--workers", 0)]
)
def test_a_wrong_option_is_a_usage_error(folder, options):
    with Command("run", "hello:app", *options, folder=folder) as command:
        assert command.end() == 2
        assert options[0].lstrip("-") in command.text


def test_any_free_port_may_be_asked_for(folder):
    with listen_tcp("127.0.0.1", 0), Command("run", "hello:app", "--port", "auto", folder=folder) as command:
        line = command.line("Serving hello:app at http://127.0.0.1:")
        port = int(line.partition("127.0.0.1:")[2].split()[0])
        with socket.create_connection(("127.0.0.1", port)):
            pass


# Several processes, and TLS.


async def secure(port: int, path: str = "/") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=ca_file())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        return await get_on(reader, writer, path, close=True)
    finally:
        writer.close()


@unix_only
async def test_several_workers_share_a_port_and_one_that_is_killed_comes_back_unseen(serve):
    command, port = serve("--workers", 2)
    assert "with 2 workers." in command.text
    seen: set[int] = set()
    async with asyncio.timeout(30):
        while len(seen) < 2:
            seen |= {int(pid) for _, pid in await asyncio.gather(*(get(port) for _ in range(8)))}
    killed = seen.pop()
    os.kill(killed, signal.SIGKILL)
    async with asyncio.timeout(30):
        while seen <= {killed} or len(seen) < 2:  # every request is answered meanwhile: by the one, then by both
            status, pid = await get(port)
            assert status == 200
            seen.add(int(pid))
    assert killed not in seen
    command.send(signal.SIGTERM)
    assert await asyncio.to_thread(command.end) == 0


@pytest.mark.parametrize("options", [(), ("--workers", 2, "--reload")], ids=["alone", "workers"])
async def test_it_speaks_tls(serve, folder, options):
    if options and sys.platform == "win32":
        pytest.skip("Windows has no inherited sockets here")
    command, port = serve("--tls-cert", certificate("localhost"), *options)
    assert f"Serving hello:app at https://127.0.0.1:{port} with" in command.text
    _, before = await secure(port)
    if options:
        write_app(folder, before="# changed\n")
        await asyncio.to_thread(command.line, "hello.py changed: starting again.")
        async with asyncio.timeout(30):
            while (await secure(port))[1] == before:
                pass
    command.send(signal.SIGTERM)
    assert await asyncio.to_thread(command.end) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tls-key", "key.pem"), "name the certificate too"),
        (("--tls-cert", "none.pem"), "none.pem cannot be read"),
        (("--tls-cert", "hello.py"), "There is no certificate with its key"),
        (("--tls-cert", "none.pem", "--workers", 2), "none.pem cannot be read"),
    ],
    ids=["a key alone", "no file", "no certificate", "workers"],
)
def test_what_cannot_be_tls_is_a_usage_error(folder, options, words):
    with Command("run", "hello:app", "--port", 0, *options, folder=folder) as command:
        assert command.end() == 2
        assert words in command.text
        assert "Traceback" not in command.text
