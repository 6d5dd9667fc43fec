"""Who may connect, and for how long: with real accounts' tokens."""

import asyncio
from itertools import count

import pytest

from consona import APIServer, JWTManager
from consona.auth.token_guard import TokenGuard
from consona.errors import APIError, ConnectError
from consona.realtime.settings import RealtimeSettings
from consona.realtime.websocket_server import WebSocketServer
from consona.rest.server.guards import Identity
from consona.rest.websocket_messages import WebSocketClosed
from processes import until
from storage_tools import Clock

_number = count()
QUICK = RealtimeSettings(recheck=0.05, heartbeat=60.0)


class Guard:
    """Knows who is behind a token, until they are taken off the list."""

    challenge = "Bearer"

    def __init__(self):
        self.roles = {"ada": {"staff"}, "bob": set()}
        self.away = False

    async def identify(self, request):
        if self.away:
            raise ConnectError("The accounts are away.")
        _, _, name = request.headers.get("authorization", "").partition(" ")
        name = name or request.cookies.get("session", "")
        if not name:
            return None
        return Identity(name, roles=frozenset(self.roles[name])) if name in self.roles else None

    def allows(self, identity, roles, scopes):
        return not roles or bool(roles & self.roles.get(identity.subject, set()))

    async def user(self, identity, kind):
        return identity

    def security_schemes(self):
        return {}


@pytest.fixture
def guard():
    return Guard()


def new(guard, **options):
    return WebSocketServer("/live", f"memory://door{next(_number)}", guard=guard, **{"settings": QUICK, **options})


async def status(client, path="/live", **headers):
    """101, or the status of the refusal."""
    try:
        async with client.websocket(path, headers=headers) as socket:
            await socket.receive()
            return 101
    except APIError as error:
        return error.status


async def closed(socket):
    with pytest.raises(WebSocketClosed) as ended:
        while True:
            await socket.receive()
    return ended.value.close_code


async def test_who_has_not_signed_in_is_refused_at_the_handshake(guard):
    async with new(guard).test_client() as client:
        assert await status(client) == 401
        assert await status(client, authorization="Bearer eve") == 401
        assert await status(client, authorization="Bearer ada") == 101
        assert await status(client, cookie="session=bob") == 101


async def test_a_public_server_lets_strangers_in_and_knows_the_others(guard):
    live = new(guard, public=True)
    seen = []

    @live.on_connect
    async def come(client):
        seen.append(client.user)

    async with live.test_client() as client:
        assert await status(client) == 101
        assert await status(client, authorization="Bearer ada") == 101
    assert seen == ["", "ada"]


async def test_a_role_is_asked_for(guard):
    async with new(guard, roles={"staff"}).test_client() as client:
        assert await status(client, authorization="Bearer bob") == 403
        assert await status(client, authorization="Bearer ada") == 101


async def test_mounted_it_has_the_guard_of_the_server_around_it(guard):
    api, live = APIServer("shop"), new(None)
    api.mount("/live", live)
    api.secure(guard)
    async with api.test_client() as client:
        assert await status(client) == 401
        assert await status(client, authorization="Bearer ada") == 101


async def test_a_ticket_stands_for_the_credentials_and_is_good_once(guard):
    async with new(guard).test_client() as client:
        with pytest.raises(APIError) as refused:
            await client.post("/live/ticket")
        assert refused.value.status == 401
        given = (await client.post("/live/ticket", headers={"authorization": "Bearer ada"})).json()
        assert given["expires_in"] == 30
        path = f"/live?ticket={given['ticket']}"
        assert await status(client, path) == 101
        assert await status(client, path) == 401
        assert await status(client, "/live?ticket=forged", authorization="Bearer ada") == 401


async def test_one_ticket_lets_one_of_many_in(guard):
    async with new(guard).test_client() as client:
        given = (await client.post("/live/ticket", headers={"authorization": "Bearer ada"})).json()
        path = f"/live?ticket={given['ticket']}"
        assert sorted(await asyncio.gather(*(status(client, path) for _ in range(10)))) == [101] + [401] * 9


async def test_what_the_store_holds_of_a_ticket_does_not_show_the_credentials(guard):
    live = new(guard)
    async with live.test_client() as client:
        given = (await client.post("/live/ticket", headers={"authorization": "Bearer ada"})).json()
        items = [item async for item in live.channels.store.scan("tickets/")]
        assert len(items) == 1
        assert given["ticket"] not in items[0].key
        assert b"ada" not in items[0].value


@pytest.mark.parametrize("by_ticket", [False, True])
async def test_a_login_that_was_taken_back_ends_the_connection(guard, by_ticket):
    async with new(guard).test_client() as client:
        headers, path = {"authorization": "Bearer bob"}, "/live"
        if by_ticket:
            ticket = (await client.post("/live/ticket", headers=headers)).json()["ticket"]
            headers, path = {}, f"/live?ticket={ticket}"
        async with client.websocket(path, headers=headers) as socket:
            await socket.receive()
            del guard.roles["bob"]
            assert await closed(socket) == 4401


async def test_a_token_that_expires_ends_the_connection(tmp_path):
    clock = Clock()
    tokens = JWTManager(keys=tmp_path / "keys.json", issuer="shop", clock=clock)
    async with new(TokenGuard(tokens)).test_client() as client:
        token = tokens.issue("ada", ttl=60).text
        async with client.websocket("/live", headers={"authorization": f"Bearer {token}"}) as socket:
            await socket.receive()
            clock.advance(100)
            assert await closed(socket) == 4401


async def test_a_role_that_was_taken_back_ends_the_connection_or_the_channel(guard):
    live = new(guard, public=True)
    live.channel("staff", roles={"staff"})
    async with live.test_client() as client:
        async with client.websocket("/live", headers={"authorization": "Bearer bob"}) as bob:
            await bob.receive()
            await bob.send({"join": "staff"})
            assert (await bob.receive(dict))["error"]["code"] == "permission_denied"
        async with client.websocket("/live", headers={"authorization": "Bearer ada"}) as ada:
            await ada.receive()
            await ada.send({"join": "staff"})
            assert (await ada.receive(dict))["joined"] == "staff"
            guard.roles["ada"] = set()
            assert await ada.receive(dict) == {"left": "staff"}
            assert live.channels.subscribers("staff") == 0
    staff = new(guard, roles={"staff"})
    guard.roles["ada"] = {"staff"}
    async with (
        staff.test_client() as client,
        client.websocket("/live", headers={"authorization": "Bearer ada"}) as ada,
    ):
        await ada.receive()
        guard.roles["ada"] = set()
        assert await closed(ada) == 4403


async def test_nobody_is_turned_out_while_the_accounts_are_away(guard, caplog):
    live = new(guard)
    async with (
        live.test_client() as client,
        client.websocket("/live", headers={"authorization": "Bearer ada"}) as ada,
    ):
        await ada.receive()
        guard.away = True
        await until(lambda: "cannot be looked at again" in caplog.text)
        assert len(live.clients) == 1
        await ada.send({"join": "anything"})
        assert (await ada.receive(dict))["joined"] == "anything"


async def test_a_quiet_client_gets_heartbeats():
    live = new(None, settings=RealtimeSettings(heartbeat=0.05))
    async with live.test_client() as client, client.websocket("/live") as ada:
        await ada.receive()
        assert await ada.receive(dict) == {"beat": True}
        assert await ada.receive(dict) == {"beat": True}
