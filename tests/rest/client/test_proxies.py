"""Through real proxies: who sees what, what is said when they refuse, and what the environment means."""

from __future__ import annotations

import asyncio.sslproto
import inspect
import re
import ssl

import pytest

import certificates
import wire
from consona.errors import ConfigurationError, ConnectError
from consona.resilience import Policy, Retry
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import Bearer
from consona.rest.client.connection_settings import TLS, ConnectionSettings
from consona.rest.client.proxies import Proxies
from forward_proxy import ForwardProxy
from http2_wire import HTTP2Wire, answered

EAGER = Policy(timeout=wire.BOUND_S, retry=Retry(attempts=3, backoff=0.0, budget=None))
OURS = TLS(ca=certificates.ca_file())
SAYS_WHY = "exc" in inspect.signature(asyncio.sslproto.SSLProtocol._abort).parameters
"""Python before 3.11.8 and 3.12.2 loses the reason of a handshake that fails inside of TLS (CPython issue 113214)."""
SHOP = certificates.server_context("shop.example")


def client(url, **settings):
    connections = ConnectionSettings(**{"tls": OURS, **settings})
    return APIClient(url, auth=Bearer("abc-token"), connections=connections, policy=EAGER)


@pytest.fixture(params=["http/1.1", "http/2", "http/1.1 by agreement"])
def way(request):
    """A server that a tunnel leads to, and how the client speaks to it."""
    if request.param == "http/2":
        tls = certificates.server_context("shop.example", alpn=("h2",))
        return HTTP2Wire(answered(b"safe"), tls=tls), True
    return wire.Wire(wire.answer(200, b"safe"), tls=SHOP), request.param != "http/1.1"


@pytest.fixture(params=[False, True], ids=["http proxy", "https proxy"])
def proxy_tls(request):
    return request.param


async def test_a_proxy_sees_of_a_tunnel_where_it_leads_and_nothing_else(way, proxy_tls):
    server, http2 = way
    async with server:
        leads = {"shop.example": server.port}
        async with (
            ForwardProxy("ada:p@w", tls=proxy_tls, leads=leads) as proxy,
            client("https://shop.example/v1", proxy=proxy.url_with("ada:p%40w"), http2=http2) as api,
        ):
            assert [(await api.post("/things", json={"a": "word"})).text for _ in range(3)] == ["safe"] * 3
    [head] = proxy.heads  # one tunnel, kept and used again
    assert head.startswith(b"CONNECT shop.example:443 HTTP/1.1\r\n")
    assert b"abc-token" not in head
    assert b"/v1/things" not in head
    assert b"abc-token" not in proxy.passed
    assert len(server.seen) == 3
    for seen in server.seen:
        assert seen.headers["authorization"] == "Bearer abc-token"
        assert "proxy-authorization" not in seen.headers


async def test_a_plain_request_is_passed_on_and_the_proxys_credentials_stay_there(proxy_tls):
    async with (
        wire.Wire(wire.answer(200, b"plain")) as server,
        ForwardProxy("ada:p@w", tls=proxy_tls, leads={"shop.example": server.port}) as proxy,
        client("http://shop.example", proxy=proxy.url_with("ada:p%40w")) as api,
    ):
        assert (await api.get("/a", params={"b": 1})).text == "plain"
    assert proxy.heads[0].startswith(b"GET http://shop.example/a?b=1 HTTP/1.1\r\n")
    [seen] = server.seen
    assert (seen.target, seen.headers["host"]) == ("/a?b=1", "shop.example")
    assert "proxy-authorization" not in seen.headers


async def test_a_redirect_from_plain_to_secure_goes_through_a_tunnel():
    async with (
        wire.Wire(wire.answer(200, b"safe"), tls=SHOP) as secure,
        wire.Wire(wire.answer(308, location="https://shop.example/b")) as plain,
        ForwardProxy("ada:pw", leads={"plain.example": plain.port, "shop.example": secure.port}) as proxy,
        client("http://plain.example", proxy=proxy.url_with("ada:pw")) as api,
    ):
        assert (await api.get("/a")).text == "safe"
    assert [head.split()[0] for head in proxy.heads] == [b"GET", b"CONNECT"]
    assert not {"proxy-authorization", "authorization"} & set(secure.seen[0].headers)


# Refusals.


async def test_the_server_behind_a_tunnel_is_verified(way, proxy_tls):
    server, http2 = way
    async with server:
        async with (
            ForwardProxy(tls=proxy_tls, leads={"other.example": server.port}) as proxy,
            client("https://other.example", proxy=proxy.url, http2=http2) as api,
        ):
            with pytest.raises(ConnectError) as caught:
                await api.get("/")
            if SAYS_WHY or not proxy_tls:
                assert re.search(r"no trusted connection to other\.example: .* another name", str(caught.value))
                assert len(proxy.heads) == 1
        assert server.seen == []


async def test_a_proxy_that_is_not_to_be_trusted_gets_no_credentials():
    async with (
        ForwardProxy("ada:pw", tls=True, by="strangers") as proxy,
        client("https://shop.example", proxy=proxy.url_with("ada:pw")) as api,
    ):
        with pytest.raises(ConnectError, match=rf"no trusted connection to the proxy 127.0.0.1:{proxy.port}") as caught:
            await api.get("/")
    assert proxy.heads == []
    assert not caught.value.retryable
    assert "pw" not in f"{caught.value} {caught.value.hint}".split("@")[0].replace("proxy", "")


async def test_who_is_trusted_as_a_proxy_need_not_be_as_a_server():
    theirs = TLS(ca=certificates.ca_file("strangers"))
    async with (
        wire.Wire(wire.answer(200, b"safe"), tls=SHOP) as server,
        ForwardProxy(tls=True, by="strangers", leads={"shop.example": server.port}) as proxy,
    ):
        async with client("https://shop.example", proxy=proxy.url, proxy_tls=theirs) as api:
            assert (await api.get("/")).text == "safe"
        async with client("https://shop.example", proxy=proxy.url, tls=theirs, proxy_tls=theirs) as api:
            with pytest.raises(ConnectError, match=r"trusted connection to shop\.example" if SAYS_WHY else None):
                await api.get("/")
        assert len(server.seen) == 1


async def test_the_clients_certificate_is_for_the_server_and_not_for_its_proxy():
    tls = TLS(ca=certificates.ca_file(), cert=certificates.certificate("client.example"))
    strict = certificates.server_context("shop.example", clients=True)
    async with (
        wire.Wire(wire.answer(200, b"safe"), tls=strict) as server,
        ForwardProxy(tls=True, leads={"shop.example": server.port}) as proxy,
        ForwardProxy(tls=True, clients=True) as curious,
    ):
        async with client("https://shop.example", proxy=proxy.url, tls=tls) as api:
            assert (await api.get("/")).text == "safe"
        async with client("https://shop.example", proxy=curious.url, tls=tls) as api:
            with pytest.raises(ConnectError):
                await api.get("/")
        assert curious.heads == []
        async with client("https://shop.example", proxy=curious.url, tls=tls, proxy_tls=tls) as api:
            with pytest.raises(ConnectError, match="proxy"):  # it leads nowhere, and yet it was asked
                await api.get("/")
        assert curious.heads


async def test_a_context_of_ones_own_that_offers_http2_is_not_for_proxies():
    context = ssl.create_default_context(cafile=certificates.ca_file())
    context.set_alpn_protocols(["h2", "http/1.1"])
    tls = certificates.server_context("shop.example", alpn=("h2",))
    async with (
        HTTP2Wire(answered(b"safe"), tls=tls) as server,
        ForwardProxy(tls=True, alpn=("h2", "http/1.1"), leads={"shop.example": server.port}) as proxy,
        client("https://shop.example", proxy=proxy.url, tls=context, proxy_tls=OURS, http2=True) as api,
    ):
        assert (await api.get("/")).http_version == "2"


@pytest.mark.parametrize("url", ["https://shop.example", "http://shop.example"])
async def test_wrong_credentials_of_the_proxy_are_a_connect_error_that_is_not_tried_again(url):
    async with ForwardProxy("ada:pw") as proxy, client(url, proxy=proxy.url_with("ada:wrong-words")) as api:
        with pytest.raises(ConnectError, match="proxy") as caught:
            await api.get("/")
    assert len(proxy.heads) == 1
    assert "user" in caught.value.hint
    assert "wrong-words" not in f"{caught.value!r} {caught.value} {caught.value.context} {api.history}"


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (502, 3)])
async def test_a_proxy_that_refuses_is_asked_again_where_its_trouble_may_pass(status, tries):
    async with wire.Wire(wire.answer(status)) as proxy, client("https://shop.example", proxy=proxy.url) as api:
        with pytest.raises(ConnectError, match=rf"refused to connect to shop\.example \(status {status}\)"):
            await api.post("/", json="secret")
    assert [seen.method for seen in proxy.seen] == ["CONNECT"] * tries
    assert {seen.body for seen in proxy.seen} == {b""}


async def test_a_proxy_that_hangs_up_has_sent_nothing_on():
    async with wire.Wire(wire.hang_up) as proxy, client("https://shop.example", proxy=proxy.url) as api:
        with pytest.raises(ConnectError, match=r"the proxy .* ended the connection"):
            await api.post("/", json=1)
    assert len(proxy.seen) == 3  # so even a POST is tried again


async def test_what_is_no_proxy_is_told():
    async with (
        wire.Wire(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as proxy,
        client("https://shop.example", proxy=proxy.url) as api,
    ):
        with pytest.raises(ConnectError, match=r"proxy .* is not HTTP"):
            await api.get("/")


@pytest.mark.parametrize("url", ["https://shop.example", "http://shop.example"])
async def test_a_proxy_that_is_not_there_is_named(url):
    async with wire.Wire() as gone:
        pass
    async with client(url, proxy=gone.url) as api:
        with pytest.raises(ConnectError, match=f"the proxy 127.0.0.1:{gone.port} could not be reached"):
            await api.get("/")
    async with client(url, proxy="http://no-such-proxy.invalid:3128") as api:
        with pytest.raises(ConnectError, match=r"name of the proxy no-such-proxy\.invalid:3128 is not known"):
            await api.get("/")


# Settings and the environment.


@pytest.fixture
def environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch.setenv


async def test_the_environment_is_used_where_that_is_asked_for_and_only_there(environment):
    async with wire.Wire(wire.answer(200, b"via")) as proxy, wire.Wire(wire.answer(200, b"direct")) as server:
        environment("HTTP_PROXY", proxy.url)
        async with client(server.url, proxy="environment") as api:
            assert (await api.get("/")).text == "via"
        async with client(server.url) as api:
            assert (await api.get("/")).text == "direct"
        environment("NO_PROXY", "127.0.0.1")
        async with client(server.url, proxy="environment") as api:
            assert (await api.get("/")).text == "direct"


@pytest.mark.parametrize(
    ("variables", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://a:1"}, "a:1", None),
        ({"https_proxy": "http://a:1"}, None, "a:1"),
        ({"ALL_PROXY": "http://a:1"}, "a:1", "a:1"),
        ({"ALL_PROXY": "socks5://a:1", "HTTP_PROXY": "b:2", "HTTPS_PROXY": "https://c"}, "b:2", "c:443"),
        ({"HTTP_PROXY": "http://a:1", "REQUEST_METHOD": "GET"}, None, None),  # a header `Proxy:` makes it, under CGI
    ],
)
def test_which_variable_is_for_what(environment, variables, http, https):
    for name, value in variables.items():
        environment(name, value)
    proxies = Proxies("environment")
    found = [proxies.to(f"{scheme}://shop.example") for scheme in ("http", "https")]
    assert [None if proxy is None else str(proxy) for proxy in found] == [http, https]


@pytest.mark.parametrize(
    ("excepted", "origin", "direct"),
    [
        ("shop.example", "https://shop.example", True),
        ("shop.example", "https://api.shop.example", True),
        (" .shop.example , x", "https://api.Shop.example:8443", True),
        ("shop.example", "https://myshop.example", False),
        ("shop.example:8443", "https://shop.example:8443", True),
        ("shop.example:8443", "https://shop.example", False),
        ("shop.example:443", "https://shop.example", True),
        ("*", "https://anything.example", True),
        ("10.0.0.0/8", "http://10.1.2.3:80", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("::1,fd00::/8", "http://[::1]:80", True),
        ("[::1]", "http://[::1]", True),
        ("fd00::/8", "http://[fd12::3]", True),
        ("fd00::/8", "http://10.1.2.3", False),
        ("", "http://10.1.2.3", False),
    ],
)
def test_what_no_proxy_excepts(environment, excepted, origin, direct):
    environment("ALL_PROXY", "http://a:1")
    environment("NO_PROXY", excepted)
    assert (Proxies("environment").to(origin) is None) is direct


async def test_socks_in_the_environment_is_refused_at_start(environment):
    environment("ALL_PROXY", "socks5://ada:secret@proxy.example:1080")
    with pytest.raises(ConfigurationError, match="SOCKS is not spoken") as caught:
        await client("https://shop.example", proxy="environment").start()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"proxy": "socks5://u:secret@x"},
        {"proxy": "http://u:secret@"},
        {"proxy": "http://u:secret@x:99999"},
        {"proxy": "proxy.example:3128"},
        {"proxy": ""},
        {"connections": 0},
        {"per_host": -1},
        {"keep_alive": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ConfigurationError) as caught:
        ConnectionSettings(**settings)
    assert "secret" not in str(caught.value)


def test_credentials_of_a_proxy_are_not_shown():
    assert "secret" not in repr(ConnectionSettings(proxy="http://u:secret@x"))
    assert "c2VjcmV0" not in repr(Proxies("http://u:secret@x").to("https://shop.example"))
