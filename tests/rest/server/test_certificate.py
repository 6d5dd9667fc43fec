"""A server that speaks TLS: its certificate, renewed ones, and what cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest

from certificates import authority, ca_file, certificate
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.certificate import LOOK_EVERY, Certificate
from consona.rest.server.listen import listen_tcp
from consona.rest.server.settings import ServerSettings
from consona.rest.server.uvicorn_server import Config, Server
from http_get import get_on


def write(folder: Path, *, chain_of=None, key_of=None, name="localhost"):
    """A new certificate in two files, or parts of two that do not belong together."""
    made = authority("ours").issue_cert(name)
    (chain_of or made).cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (key_of or made).private_key_pem.write_to_path(folder / "key.pem")
    return made


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file())


@contextlib.asynccontextmanager
async def served(pem: Certificate, **settings):
    api = APIServer("t", settings=ServerSettings(**settings))

    @api.get("/scheme")
    async def scheme() -> str:
        return "secret"

    server = Server(Config(api, drain_s=1, certificate=pem))
    with listen_tcp("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await server.listens.wait()
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def ask(port, **tls):
    """The answer, and the number of the certificate that the server showed."""
    options = {"ssl": trusting(), "server_hostname": "localhost", **tls}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        return await get_on(reader, writer, "/scheme", close=True), shown
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_it_answers_over_tls_to_who_trusts_its_authority():
    async with served(Certificate(Path(certificate("localhost")))) as (_, port):
        (status, body), _ = await ask(port)
        assert (status, body) == (200, '"secret"')
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(port, ssl=ssl.create_default_context())


async def test_an_old_version_of_tls_is_not_spoken():
    old = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with served(Certificate(Path(certificate("localhost")))) as (_, port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(port, ssl=old)


async def test_a_renewed_certificate_is_taken_for_new_connections_and_open_ones_go_on(tmp_path):
    write(tmp_path)
    async with served(Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")) as (server, port):
        _, before = await ask(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname="localhost")
        write(tmp_path)
        await server.on_tick(LOOK_EVERY)
        _, after = await ask(port)
        assert before != after
        assert (await get_on(reader, writer, "/scheme", close=True))[0] == 200
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_a_renewed_certificate_that_cannot_be_used_is_said_once_and_the_one_before_stays(tmp_path, caplog):
    first = write(tmp_path)
    pem = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with served(pem) as (_, port):
        _, before = await ask(port)
        write(tmp_path, key_of=first)
        assert not pem.renew()
        assert not pem.renew()
        assert [record.message.count("do not belong together") for record in caplog.records] == [1]
        assert (await ask(port))[1] == before
        (tmp_path / "key.pem").unlink()  # half way between the old files and the new ones
        assert not pem.renew()
        write(tmp_path)
        assert pem.renew()
        assert (await ask(port))[1] != before


async def test_who_connects_and_does_not_agree_on_tls_is_cut_off():
    async with served(Certificate(Path(certificate("localhost"))), head_timeout=0.2) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_plain_http_to_a_port_of_tls_gets_no_answer_of_the_application():
    async with served(Certificate(Path(certificate("localhost")))) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /scheme HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"secret" not in await reader.read()
        writer.close()


def test_files_that_cannot_be_used_are_told_apart(tmp_path):
    made = write(tmp_path)
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(ConfigurationError, match=r"none\.pem cannot be read"):
        Certificate(tmp_path / "none.pem", key)
    with pytest.raises(ConfigurationError, match="There is no certificate with its key"):
        Certificate(chain)
    other = authority("ours").issue_cert("localhost")
    write(tmp_path, chain_of=other, key_of=made)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        Certificate(chain, key)
    (tmp_path / "cert.pem").write_text("nothing of that kind")
    with pytest.raises(ConfigurationError, match="There is no certificate with its key"):
        Certificate(chain, key)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path):
    from cryptography.hazmat.primitives import serialization as form

    made = write(tmp_path)
    key = form.load_pem_private_key(made.private_key_pem.bytes(), None)
    sealed = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"a long one"))
    (tmp_path / "key.pem").write_bytes(sealed)
    with pytest.raises(ConfigurationError, match="protected by a password"):
        Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
