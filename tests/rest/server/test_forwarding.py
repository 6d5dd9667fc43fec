"""Who really asks, behind proxies; a stranger cannot choose."""

from __future__ import annotations

import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.requests import Request
from consona.rest.server.settings import ServerSettings

PROXY, OTHER_PROXY, CLIENT, LIE = "10.0.0.1", "10.0.0.2", "203.0.113.9", "198.51.100.1"


async def seen(header, headers, *, peer=PROXY):
    api = APIServer("t", settings=ServerSettings(trusted=("10.0.0.0/8",), proxy_header=header))

    @api.get("/who")
    async def who(request: Request) -> str:
        return request.client_address

    async with api:
        scope = {"client": None if peer is None else (peer, 1)}
        return (await call(api, "GET", "/who", headers=headers, **scope)).json()


XFF = "x-forwarded-for"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(XFF, CLIENT)], CLIENT),
        ([(XFF, f"{CLIENT}, {OTHER_PROXY}")], CLIENT),
        ([(XFF, f"{LIE}, {CLIENT}")], CLIENT),
        ([(XFF, LIE), (XFF, CLIENT)], CLIENT),
        ([(XFF, f"{CLIENT}:4711")], CLIENT),
        ([(XFF, "[2001:db8::7]:80")], "2001:db8::7"),
        ([(XFF, "2001:DB8:0::7")], "2001:db8::7"),
        ([(XFF, f"{LIE}, unknown")], PROXY),
        ([(XFF, f"{LIE}, unknown, {OTHER_PROXY}")], OTHER_PROXY),
        ([(XFF, "")], PROXY),
        ([], PROXY),
        ([("forwarded", f"for={LIE}")], PROXY),
    ],
)
async def test_the_last_address_that_no_proxy_of_ours_has(headers, found):
    assert await seen(XFF, headers) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"for={CLIENT};proto=https", CLIENT),
        (f"proto=https; For={CLIENT}", CLIENT),
        (f'for={LIE}, for="{CLIENT}:80"', CLIENT),
        ('for="[2001:db8::7]:80"', "2001:db8::7"),
        (f'for="{LIE},for={LIE}", for={CLIENT}', CLIENT),
        (f"for={LIE}, by=x", PROXY),
        (f"for={LIE}, for=_hidden", PROXY),
        (f"xfor={LIE}", PROXY),
    ],
)
async def test_the_standard_header_is_read_too(value, found):
    assert await seen("forwarded", [("forwarded", value), (XFF, LIE)]) == found


async def test_a_peer_that_is_no_proxy_of_ours_is_not_believed():
    assert await seen(XFF, [(XFF, LIE)], peer=CLIENT) == CLIENT


async def test_without_a_named_header_nothing_is_believed():
    assert await seen("", [(XFF, LIE), ("forwarded", f"for={LIE}")]) == PROXY


async def test_a_proxy_at_a_unix_socket_is_believed():
    assert await seen(XFF, [(XFF, CLIENT)], peer=None) == CLIENT


def test_another_header_is_refused():
    with pytest.raises(ConfigurationError, match="proxy_header"):
        ServerSettings(proxy_header="x-real-ip")
