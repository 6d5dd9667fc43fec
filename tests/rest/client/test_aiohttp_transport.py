"""What the transport over the network promises: above all, that `ConnectError` means that nothing was sent."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import subprocess

import pytest

import wire
from consona.errors import BulkheadFull, ConfigurationError, ConnectError, DeadlineExceeded
from consona.rest.client.aiohttp_transport import AiohttpTransport
from consona.rest.client.api_client import APIClient
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.transport import Request, Timeouts


class Opened:
    def __init__(self, **settings):
        self.transport = AiohttpTransport(ConnectionSettings(**settings))

    async def __aenter__(self):
        await self.transport.open()
        return self.transport

    async def __aexit__(self, *_):
        await self.transport.close()


async def whole(answer):
    body = b""
    while chunk := await answer.chunk():
        body += chunk
    return body


async def test_only_the_given_headers_are_sent_and_the_host():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        await whole(await transport.send(Request("GET", f"{server.url}/a?b=%2F", [("X-A", "1")])))
        await whole(await transport.send(Request("POST", f"{server.url}/", [], b"")))
    assert server.seen[0].target == "/a?b=%2F"
    assert server.seen[0].headers == {"host": f"127.0.0.1:{server.port}", "x-a": "1"}
    assert server.seen[1].headers == {"host": f"127.0.0.1:{server.port}", "content-length": "0"}


async def test_the_url_is_sent_as_it_was_encoded():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        await whole(await transport.send(Request("GET", f"{server.url}/a%2Fb/%7E/c%20d?x=%41+b")))
    assert server.seen[0].target == "/a%2Fb/%7E/c%20d?x=%41+b"


async def test_connections_are_kept_and_used_again():
    async with wire.Wire(wire.answer()) as server, Opened() as transport:
        for _ in range(3):
            await whole(await transport.send(Request("GET", server.url)))
        assert transport.gate.busy == 0
    assert server.connections == 1


async def test_an_answer_that_asks_for_the_end_of_the_connection_gets_it():
    async with wire.Wire(wire.answer(connection="close")) as server, Opened() as transport:
        for _ in range(2):
            await whole(await transport.send(Request("GET", server.url)))
    assert server.connections == 2


async def test_nobody_listening_is_a_connect_error():
    async with wire.Wire() as server:
        pass
    async with Opened() as transport:
        with pytest.raises(ConnectError, match="could not be reached"):
            await transport.send(Request("GET", server.url))


async def test_an_unknown_name_is_a_connect_error():
    async with Opened() as transport:
        with pytest.raises(ConnectError, match="name"):
            await transport.send(Request("GET", "http://no-such-host.invalid/"))


async def test_a_server_that_takes_no_connection_is_a_connect_error():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):  # until its queue is full, the system accepts in its place
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
            async with Opened() as transport:
                request = Request("GET", f"http://127.0.0.1:{port}/", timeouts=Timeouts(connect=0.1))
                with pytest.raises(ConnectError, match=r"within 0\.1 s"):
                    await transport.send(request)
        finally:
            for filler in fillers:
                filler.close()


async def test_no_free_connection_is_told_before_anything_is_sent():
    async with wire.Wire(wire.silence) as server, Opened(connections=1) as transport:
        first = asyncio.create_task(transport.send(Request("GET", server.url)))
        while not server.seen:
            await asyncio.sleep(0.01)
        with pytest.raises(BulkheadFull, match="came free"):
            await transport.send(Request("GET", server.url, timeouts=Timeouts(pool=0.02)))
        first.cancel()
        await asyncio.wait({first})
        assert transport.gate.busy == 0
    assert len(server.seen) == 1


async def test_a_server_that_stops_reading_is_noticed_by_the_write_timeout():
    async with wire.Wire(wire.silence) as server, Opened() as transport:
        original = wire.read_request

        async def never(reader):
            await asyncio.sleep(wire.BOUND_S)

        wire.read_request = never
        try:
            with pytest.raises(DeadlineExceeded) as caught:
                await transport.send(Request("PUT", server.url, [], b"x" * 50_000_000, timeouts=Timeouts(write=0.1)))
        finally:
            wire.read_request = original
    assert caught.value.context["phase"] == "write"


async def test_a_cancelled_send_leaves_no_connection_open():
    async with wire.Wire(wire.silence) as server, Opened() as transport:
        sending = asyncio.create_task(transport.send(Request("GET", server.url)))
        while not server.seen:
            await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert transport.gate.busy == 0
        assert not transport._connector._acquired


async def test_a_connection_that_the_server_closed_while_idle_is_not_used():
    async with wire.Wire(wire.raw_then_close(wire.message())) as server, Opened() as transport:
        for _ in range(3):
            await whole(await transport.send(Request("POST", server.url, [], b"x")))
            await asyncio.sleep(0.01)  # the loop learns of the end
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionLost),
        (b"HTTP/1.1 200", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", ConnectionLost),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 abc OK\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", BadAnswer),
    ],
)
async def test_what_is_no_head_of_an_answer_is_told(data, error):
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        with pytest.raises(error):
            await transport.send(Request("GET", server.url))
        assert transport.gate.busy == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"Content-Length: 10\r\n\r\nhalf", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ConnectionLost),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", BadAnswer),
    ],
)
async def test_a_body_that_does_not_come_whole_is_told(data, error):
    async with wire.Wire(wire.raw_then_close(b"HTTP/1.1 200 OK\r\n" + data)) as server, Opened() as transport:
        with pytest.raises(error):
            await whole(await transport.send(Request("GET", server.url)))
        assert transport.gate.busy == 0


async def test_what_came_before_the_line_broke_is_given_out():
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        answer = await transport.send(Request("GET", server.url))
        assert await answer.chunk() == b"half"
        with pytest.raises(ConnectionLost):
            await answer.chunk()


async def test_a_body_without_a_length_ends_with_the_connection():
    data = b"HTTP/1.0 200 OK\r\n\r\nall of it"
    async with wire.Wire(wire.raw_then_close(data)) as server, Opened() as transport:
        answer = await transport.send(Request("GET", server.url))
        assert (answer.http_version, await whole(answer)) == ("1.0", b"all of it")


async def test_interim_answers_are_passed_over():
    data = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + wire.message(200, b"final")
    async with wire.Wire(data) as server, Opened() as transport:
        assert await whole(await transport.send(Request("GET", server.url))) == b"final"


# Proxies.


async def test_a_proxy_is_asked_in_absolute_form_with_its_credentials_apart():
    async with (
        wire.Wire(wire.answer(200, b"via")) as proxy,
        Opened(proxy=f"http://ada:p%40w@127.0.0.1:{proxy.port}") as transport,
    ):
        answer = await transport.send(Request("GET", "http://shop.invalid/a?b=1"))
        assert await whole(answer) == b"via"
    [seen] = proxy.seen
    assert (seen.target, seen.headers["host"]) == ("http://shop.invalid/a?b=1", "shop.invalid")
    assert base64.b64decode(seen.headers["proxy-authorization"].split()[1]) == b"ada:p@w"


async def test_a_tunnel_gets_the_proxys_credentials_and_not_the_request():
    async with wire.Wire(wire.answer(403)) as proxy, Opened(proxy=f"http://ada:pw@127.0.0.1:{proxy.port}") as transport:
        with pytest.raises(ConnectError):
            await transport.send(Request("GET", "https://shop.invalid/path", [("Authorization", "Bearer abc")]))
    [seen] = proxy.seen
    assert (seen.method, seen.target) == ("CONNECT", "shop.invalid:443")
    assert seen.headers["proxy-authorization"] == "Basic YWRhOnB3"
    assert "authorization" not in seen.headers


@pytest.mark.parametrize(("status", "retryable"), [(407, False), (502, True)])
async def test_a_proxy_that_refuses_is_a_connect_error(status, retryable):
    async with wire.Wire(wire.answer(status)) as proxy, Opened(proxy=proxy.url) as transport:
        with pytest.raises(ConnectError, match="proxy refused") as caught:
            await transport.send(Request("POST", "https://shop.invalid/", [], b"secret"))
    assert caught.value.retryable is retryable
    assert proxy.seen[0].method == "CONNECT"
    assert proxy.seen[0].body == b""


async def test_a_proxy_that_is_not_there_is_a_connect_error():
    async with wire.Wire() as gone:
        pass
    async with Opened(proxy=gone.url) as transport:
        with pytest.raises(ConnectError, match="proxy could not be reached"):
            await transport.send(Request("GET", "http://shop.invalid/"))


async def test_the_environments_proxies_are_used_where_that_is_asked_for(monkeypatch):
    async with wire.Wire(wire.answer(200, b"via")) as proxy, wire.Wire(wire.answer(200, b"direct")) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with Opened(proxy="environment") as transport:
            assert await whole(await transport.send(Request("GET", "http://shop.invalid/"))) == b"via"
            assert await whole(await transport.send(Request("GET", server.url))) == b"direct"
        monkeypatch.delenv("no_proxy")
        async with Opened() as transport:
            assert await whole(await transport.send(Request("GET", server.url))) == b"direct"


@pytest.mark.parametrize(
    "settings",
    [{"proxy": "socks5://u:secret@x"}, {"proxy": ""}, {"connections": 0}, {"per_host": -1}, {"keep_alive": -1}],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ConfigurationError) as caught:
        ConnectionSettings(**settings)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(ConnectionSettings(proxy="http://u:secret@x"))


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return str(cert), str(key)


@pytest.fixture
async def secure(certificate):
    """A server with TLS that wants a certificate of its clients, and says whether it got one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    asked = []

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.append(bool(writer.get_extra_info("peercert")))
        writer.write(wire.message(200, b"safe"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}", asked
    server.close()
    await server.wait_closed()


async def test_a_server_that_nobody_vouches_for_is_not_talked_to(secure):
    url, asked = secure
    async with APIClient(url) as api:
        with pytest.raises(ConnectError, match="trusted") as caught:
            await api.post("/", json={"secret": 1})
    assert not caught.value.retryable
    assert asked == []


async def test_a_certificate_for_another_name_is_not_accepted(secure, certificate):
    url = secure[0].replace("localhost", "127.0.0.1")
    async with Opened(tls=TLS(ca=certificate[0])) as transport:
        with pytest.raises(ConnectError, match="trusted"):
            await transport.send(Request("GET", url))


async def test_an_authority_of_ones_own_and_a_client_certificate(secure, certificate):
    url, asked = secure
    async with Opened(tls=TLS(ca=certificate[0])) as transport:
        assert await whole(await transport.send(Request("GET", url))) == b"safe"
    async with APIClient(
        url, connections=ConnectionSettings(tls=TLS(ca=certificate[0], cert=certificate[0], key=certificate[1]))
    ) as api:
        assert (await api.get("/")).text == "safe"
    assert asked == [False, True]


async def test_files_that_cannot_be_used_are_named_at_start(tmp_path):
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        await APIClient("https://localhost", connections=ConnectionSettings(tls=TLS(ca="missing.pem"))).start()
    with pytest.raises(ConfigurationError, match="cert"):
        TLS(key="key.pem")
