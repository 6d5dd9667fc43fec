"""Listening sockets."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from consona.errors import ConfigurationError
from consona.rest.server.listen import PortInUseError, inherited, listen_tcp, listen_unix, url_of

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets in Python")


def test_port_zero_is_any_free_port():
    with listen_tcp("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_port_in_use_is_said_with_the_next_free_one():
    with listen_tcp("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} on 127.0.0.1 is in use") as caught:
            listen_tcp("127.0.0.1", port)
    assert caught.value.free > port
    assert f"--port {caught.value.free}" in caught.value.hint
    with listen_tcp("127.0.0.1", caught.value.free):
        pass


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_refused(host):
    with pytest.raises(ConfigurationError, match=host):
        listen_tcp(host, 0)


def test_every_network_is_shown_as_an_address_that_a_browser_can_open():
    with listen_tcp("0.0.0.0", 0) as listener:
        assert url_of(listener).startswith("http://127.0.0.1:")


@unix_only
def test_a_unix_socket_that_a_dead_program_left_is_replaced(tmp_path):
    path = str(tmp_path / "s")
    listen_unix(path).close()
    with listen_unix(path) as listener:
        assert url_of(listener) == f"unix:{path}"


@unix_only
def test_a_unix_socket_in_use_is_left_alone(tmp_path):
    path = str(tmp_path / "s")
    with listen_unix(path), pytest.raises(PortInUseError, match="Another program listens"):
        listen_unix(path)


@unix_only
def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(tmp_path):
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(ConfigurationError, match="is not a socket"):
        listen_unix(str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "precious"


@unix_only
def test_an_inherited_socket_is_used_as_it_is():
    with listen_tcp("127.0.0.1", 0) as original, inherited(os.dup(original.fileno())) as taken:
        assert taken.getsockname() == original.getsockname()


@unix_only
def test_a_descriptor_that_is_no_listening_socket_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigurationError, match="is not a socket"):
        inherited(file.fileno())
    one, other = socket.socketpair()
    with one, other, pytest.raises(ConfigurationError, match="cannot listen"):
        inherited(one.fileno())
