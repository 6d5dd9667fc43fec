"""Certificates, against real servers: who is trusted, who we are, and what is said when it comes to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest

import certificates
import wire
from consona.errors import ConfigurationError, ConnectError
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from http2_wire import HTTP2Wire, answered

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, budget=None))
OURS = TLS(ca=certificates.ca_file())


@pytest.fixture(params=[False, True], ids=["http/1.1", "http/2"])
def http2(request):
    return request.param


def serving(http2, **certificate):
    names = certificate.pop("names", ())
    tls = certificates.server_context(*names, alpn=("h2",) if http2 else (), **certificate)
    return HTTP2Wire(answered(b"safe"), tls=tls) if http2 else wire.Wire(wire.answer(200, b"safe"), tls=tls)


def client(url, http2, tls=OURS):
    return APIClient(url, connections=ConnectionSettings(tls=tls, http2=http2), policy=EAGER)


async def refusal(url, http2, tls=OURS):
    async with client(url, http2, tls) as api:
        with pytest.raises(ConnectError) as caught:
            await api.post("/", json={"secret": 1})
        assert caught.value.retryable is False
        assert api.history[-1].attributes["attempts"] == 1
        with pytest.raises(ConnectError):  # what may be repeated is not, either
            await api.get("/")
        assert api.history[-1].attributes["attempts"] == 1
    return f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("certificate", "tls", "said"),
    [
        ({}, TLS(), r"authority .* not known here.* TLS\(ca="),
        ({"by": "strangers"}, OURS, r"authority .* not (known|trusted) here.* TLS\(ca="),
        ({"expired": True}, OURS, "has expired.* clock"),
        ({"names": ("shop.example",)}, OURS, "for another address.* name"),
    ],
    ids=["no authority that the system trusts", "another authority", "expired", "another name"],
)
async def test_a_server_that_is_not_to_be_trusted_gets_nothing_and_the_error_says_why(certificate, tls, said, http2):
    async with serving(http2, **certificate) as server:
        assert re.search(said, await refusal(server.url, http2, tls))
        assert server.seen == []


async def test_a_certificate_for_another_host_name_is_told_from_one_for_another_address():
    async with serving(False, names=("127.0.0.1",)) as server:
        said = await refusal(server.url.replace("127.0.0.1", "localhost"), False)
    assert "for another name" in said


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self-signed")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context, str(cert)


async def test_a_certificate_that_vouches_for_itself_is_refused_until_it_is_named(self_signed):
    context, cert = self_signed
    async with wire.Wire(wire.answer(200, b"safe"), tls=context) as server:
        said = await refusal(server.url, False, TLS())
        assert "self-signed" in said
        assert "certificate itself" in said
        async with client(server.url, False, TLS(ca=cert)) as api:
            assert (await api.get("/")).text == "safe"


async def test_an_authority_of_ones_own_is_trusted(http2):
    async with serving(http2) as server, client(server.url, http2) as api:
        reply = await api.get("/")
    assert (reply.text, reply.http_version) == ("safe", "2" if http2 else "1.1")


async def test_a_context_of_ones_own_is_used_as_it_is(http2):
    context = ssl.create_default_context(cafile=certificates.ca_file())
    if http2:
        context.set_alpn_protocols(["h2"])
    async with serving(http2) as server, client(server.url, http2, context) as api:
        assert (await api.get("/")).http_version == ("2" if http2 else "1.1")


async def test_the_clients_certificate_is_shown(http2):
    mine = certificates.certificate("client.example")
    tls = TLS(ca=certificates.ca_file(), cert=mine)
    async with serving(http2, clients=True) as server, client(server.url, http2, tls) as api:
        assert (await api.get("/")).text == "safe"


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def strict(request, http2):
    """A server that says in TLS what it has against a client (asyncio's hangs up without a word)."""
    context = certificates.server_context(clients=True, alpn=("h2",) if http2 else ())
    context.maximum_version = request.param
    over = threading.Event()

    def serve():
        while not over.is_set():
            plain, _ = listener.accept()
            plain.settimeout(wire.BOUND_S)
            with (
                context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as connection,
                contextlib.suppress(OSError),
            ):
                with contextlib.suppress(ssl.SSLError):
                    connection.do_handshake()
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # who closes before all is read has the line cut, and its last words lost
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


async def test_who_shows_no_certificate_where_one_is_wanted_is_told_so(strict, http2):
    said = await refusal(strict, http2)
    assert "wants a certificate of the client" in said
    assert "TLS(cert=" in said


def test_it_is_said_on_the_loop_of_servers_too(strict, http2):
    uvloop = pytest.importorskip("uvloop")  # it notices the end of a connection while a body is written
    assert "certificate of the client" in uvloop.run(refusal(strict, http2))


async def test_a_certificate_that_the_server_does_not_accept_is_told(strict, http2):
    theirs = certificates.certificate("client.example", by="strangers")
    said = await refusal(strict, http2, TLS(ca=certificates.ca_file(), cert=theirs))
    assert "does not accept the client's certificate" in said


async def test_a_server_without_tls_is_told_from_one_that_is_not_trusted(http2):
    async def plain(reader, writer):
        await reader.read(100)
        writer.write(wire.message(400))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        said = await refusal(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", http2)
    assert "does not speak TLS" in said


async def test_a_server_that_ends_the_handshake_is_asked_again():
    async def end(_reader, writer):
        taken.append(1)
        writer.close()

    taken = []
    server = await asyncio.start_server(end, "127.0.0.1", 0)
    async with server, client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", False) as api:
        with pytest.raises(ConnectError):
            await api.post("/", json=1)
    assert len(taken) == 3


# Files.


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A certificate, and its key locked with a password."""
    folder = tmp_path_factory.mktemp("locked")
    key = folder / "key.pem"
    cert = certificates.certificate("client.example")
    subprocess.run(
        ["openssl", "pkey", "-in", cert, "-aes256", "-passout", "pass:open sesame", "-out", key],
        check=True,
        capture_output=True,
    )
    return cert, str(key)


async def test_a_locked_key_is_opened_by_its_password(locked):
    tls = TLS(ca=certificates.ca_file(), cert=locked[0], key=locked[1], password="open sesame")
    assert "sesame" not in repr(tls)
    async with serving(False, clients=True) as server, client(server.url, False, tls) as api:
        assert (await api.get("/")).text == "safe"


@pytest.mark.parametrize("password", [None, "wrong words"])
async def test_a_key_that_stays_locked_is_named_and_nobody_is_asked_at_the_terminal(locked, password):
    with pytest.raises(ConfigurationError, match=r"key\.pem.* (locked|password)") as caught:
        await client("https://localhost", False, TLS(cert=locked[0], key=locked[1], password=password)).start()
    assert "wrong words" not in str(caught.value)


async def test_files_that_cannot_be_used_are_named_at_start(tmp_path):
    (tmp_path / "empty.pem").write_text("")
    other = certificates.certificate("other.example")
    for tls, said in [
        (TLS(ca="missing.pem"), r"missing\.pem"),
        (TLS(ca=str(tmp_path / "empty.pem")), r"empty\.pem"),
        (TLS(cert=str(tmp_path / "empty.pem")), r"empty\.pem.* PEM form"),
        (TLS(cert=certificates.certificate("client.example"), key=other), "do not belong together"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            await client("https://localhost", False, tls).start()
    with pytest.raises(ConfigurationError, match="cert"):
        TLS(key="key.pem")


@pytest.mark.skipif(
    sys.platform != "linux", reason="OpenSSL reads the variable where it keeps no store of the system's"
)
async def test_the_environment_may_name_the_authorities_to_trust(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file())
    async with serving(False) as server, client(server.url, False, TLS()) as api:
        assert (await api.get("/")).text == "safe"
