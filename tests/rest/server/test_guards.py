"""Who may pass: nobody, until a guard finds out who it is."""

from __future__ import annotations

import msgspec
import pytest

from asgi_call import call
from consona.errors import AuthenticationError, ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import CurrentUser, Identity


class User(msgspec.Struct):
    name: str


class KeyGuard:
    """A real guard, over a table of keys."""

    challenge = 'ApiKey realm="t"'

    def __init__(self):
        self.keys = {
            "ada": Identity("ada", frozenset({"editor"}), frozenset({"posts:write", "posts:read"})),
            "bob": Identity("bob"),
        }

    async def identify(self, request):
        key = request.headers.get("x-key")
        if key is None:
            return None
        if key not in self.keys:
            raise AuthenticationError("This key is not known.")
        return self.keys[key]

    def allows(self, identity, roles, scopes):
        return (not roles or bool(roles & identity.roles)) and scopes <= identity.scopes

    async def user(self, identity, kind):
        assert kind is User
        return User(identity.subject)

    def security_schemes(self):
        return {"key": {"type": "apiKey", "in": "header", "name": "x-key"}}


def server():
    api = APIServer("t")

    @api.get("/open")
    async def open_to_all() -> int:
        return 1

    @api.get("/edit", roles={"editor", "admin"})
    async def edit(n: int) -> int:
        return n

    @api.get("/write", scopes={"posts:write", "posts:read"})
    async def write() -> int:
        return 3

    @api.get("/me")
    async def me(user: CurrentUser[User]) -> User:
        return user

    return api


@pytest.mark.parametrize("path", ["/edit", "/write", "/me"])
async def test_a_route_that_needs_somebody_makes_a_server_without_a_guard_refuse_to_start(path):
    api = APIServer("t")
    api.include(only := server())
    api.routes[:] = [route for route in only.routes if route.path == path]
    with pytest.raises(ConfigurationError, match=rf"GET {path} .*needs to know who calls it"):
        await api.start()


async def test_without_credentials_or_with_wrong_ones_nobody_passes():
    api = server()
    api.secure(KeyGuard())
    async with api:
        for path in ("/edit", "/write", "/me"):
            for headers in ({}, {"x-key": "eve"}):
                answer = await call(api, "GET", path, headers=headers)
                assert (answer.status, answer.header("www-authenticate")) == (401, 'ApiKey realm="t"')
        assert (await call(api, "GET", "/open")).status == 200


async def test_roles_and_scopes_decide_and_the_account_is_handed_in():
    api = server()
    api.secure(KeyGuard())
    async with api:
        assert [(await call(api, "GET", path, headers={"x-key": "ada"})).status for path in ("/write", "/me")] == [
            200,
            200,
        ]
        assert (await call(api, "GET", "/edit", query="n=1", headers={"x-key": "ada"})).json() == 1
        assert (await call(api, "GET", "/me", headers={"x-key": "bob"})).json() == {"name": "bob"}
        refused = await call(api, "GET", "/write", headers={"x-key": "bob"})
        assert (refused.status, refused.json()["code"]) == (403, "permission_denied")


async def test_a_stranger_learns_nothing_about_the_parameters():
    api = server()
    api.secure(KeyGuard())
    async with api:
        assert (await call(api, "GET", "/edit", query="n=x")).status == 401
        assert (await call(api, "GET", "/edit", query="n=x", headers={"x-key": "bob"})).status == 403


def test_there_is_one_guard():
    api = server()
    api.secure(KeyGuard())
    with pytest.raises(ConfigurationError, match="has a guard already"):
        api.secure(KeyGuard())


def test_the_document_says_what_is_needed():
    api = server()
    api.secure(KeyGuard())
    document = api.openapi()
    assert document["components"]["securitySchemes"] == KeyGuard().security_schemes()
    assert document["paths"]["/write"]["get"]["security"] == [{"key": ["posts:read", "posts:write"]}]
    assert {"401", "403"} <= set(document["paths"]["/me"]["get"]["responses"])
    assert "security" not in document["paths"]["/open"]["get"]
