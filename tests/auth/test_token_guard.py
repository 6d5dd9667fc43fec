"""A server that believes tokens: who has none passes nowhere but where it is public."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from asgi_call import call
from consona.auth.jwt_manager import JWTManager
from consona.auth.keys import SigningKey
from consona.auth.roles import Roles
from consona.auth.token_guard import TokenGuard
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.guards import CurrentUser, Identity


class User(msgspec.Struct):
    id: str
    roles: list[str]
    tenant: str = ""


def server(**more):
    roles = Roles()
    roles.add("reader", "posts:read")
    roles.add("editor", "posts:*", inherits=["reader"])
    api = APIServer("t")
    tokens = JWTManager(SigningKey.generate(signs_from=0), issuer="shop")

    @api.get("/closed")
    async def closed() -> int:
        return 1

    @api.get("/open", public=True)
    async def opened() -> int:
        return 2

    @api.get("/read", roles={"reader"})
    async def read() -> int:
        return 3

    @api.get("/write", scopes={"posts:write"})
    async def write() -> int:
        return 4

    @api.get("/both", roles={"editor"}, scopes={"posts:write"})
    async def both() -> int:
        return 5

    @api.get("/me")
    async def me(user: CurrentUser[User]) -> User:
        return user

    @api.get("/who")
    async def who(identity: CurrentUser[Identity]) -> str:
        return identity.subject

    api.secure(TokenGuard(tokens, roles, **more))
    return api, tokens


async def statuses(api, token=None, paths=("/closed", "/open", "/read", "/write", "/both", "/me")):
    headers = {} if token is None else {"authorization": f"Bearer {token.text}"}
    return [(await call(api, "GET", path, headers=headers)).status for path in paths]


async def test_everything_is_closed_that_does_not_say_public():
    api, tokens = server()
    async with api:
        assert await statuses(api) == [401, 200, 401, 401, 401, 401]
        assert await statuses(api, tokens.issue("ada")) == [200, 200, 403, 403, 403, 200]
        assert (await call(api, "GET", "/health/live")).status == 200
        assert (await call(api, "GET", "/openapi.json")).status == 200


async def test_open_by_default_is_said():
    api, _ = server(closed=False)
    async with api:
        assert await statuses(api) == [200, 200, 401, 401, 401, 401]


async def test_roles_and_what_they_inherit_decide():
    api, tokens = server()
    async with api:
        assert await statuses(api, tokens.issue("ada", roles=["reader"])) == [200, 200, 200, 403, 403, 200]
        assert await statuses(api, tokens.issue("ada", roles=["editor"])) == [200] * 6


async def test_scopes_limit_a_token_or_stand_alone():
    api, tokens = server()
    async with api:
        limited = tokens.issue("ada", roles=["editor"], scopes=["posts:write"])
        assert await statuses(api, limited) == [200, 200, 403, 200, 200, 200]
        narrow = tokens.issue("ada", roles=["editor"], scopes=["posts:read"])
        assert await statuses(api, narrow) == [200, 200, 403, 403, 403, 200]
        greedy = tokens.issue("ada", roles=["reader"], scopes=["*"])
        assert await statuses(api, greedy) == [200, 200, 200, 403, 403, 200]
        service = tokens.issue("billing", scopes=["posts:*"])
        assert await statuses(api, service) == [200, 200, 403, 200, 403, 200]


async def test_the_caller_is_given_as_the_type_that_is_asked_for():
    api, tokens = server()
    async with api:
        token = tokens.issue("ada", roles=["reader"], claims={"tenant": "north"})
        headers = {"authorization": f"bearer {token.text}"}
        assert (await call(api, "GET", "/me", headers=headers)).json() == {
            "id": "ada",
            "roles": ["reader"],
            "tenant": "north",
        }
        assert (await call(api, "GET", "/who", headers=headers)).json() == "ada"


async def test_a_type_that_cannot_be_filled_is_the_programs_fault():
    api = APIServer("t")
    tokens = JWTManager(SigningKey.generate(signs_from=0), issuer="shop")

    class Customer(msgspec.Struct):
        number: int

    @api.get("/me")
    async def me(user: CurrentUser[Customer]) -> int:
        return user.number

    api.secure(TokenGuard(tokens))
    async with api:
        headers = {"authorization": f"Bearer {tokens.issue('ada').text}"}
        assert (await call(api, "GET", "/me", headers=headers)).status == 500
        guard = api.guard
        with pytest.raises(ConfigurationError, match="cannot be given as Customer"):
            await guard.user(Identity("ada", claims={"token": tokens.issue("ada").claims}), Customer)


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer x", "bearer e30.e30.AA", "Bearer a b"])
async def test_a_wrong_token_is_told_as_the_standard_says(value):
    api, _ = server()
    async with api:
        answer = await call(api, "GET", "/closed", headers={"authorization": value})
        assert (answer.status, answer.header("www-authenticate")) == (401, 'Bearer error="invalid_token"')
        missing = await call(api, "GET", "/closed")
        assert (missing.status, missing.header("www-authenticate")) == (401, "Bearer")


@pytest.mark.parametrize("value", ["Basic YTpi", "Bear x", "Token x", ""])
async def test_other_credentials_are_none(value):
    api, _ = server()
    async with api:
        answer = await call(api, "GET", "/closed", headers={"authorization": value})
        assert (answer.status, answer.header("www-authenticate")) == (401, "Bearer")


async def test_a_token_in_the_query_or_a_cookie_does_not_count():
    api, tokens = server()
    async with api:
        text = tokens.issue("ada", roles=["editor"]).text
        assert (await call(api, "GET", "/closed", query=f"access_token={text}")).status == 401
        assert (await call(api, "GET", "/closed", headers={"cookie": f"session={text}"})).status == 401


async def test_the_public_keys_are_published():
    api, tokens = server()
    async with api:
        answer = await call(api, "GET", "/.well-known/jwks.json")
        assert answer.json() == tokens.jwks()
        assert "/.well-known/jwks.json" not in (await call(api, "GET", "/openapi.json")).json()["paths"]


async def test_the_document_says_what_is_closed():
    api, _ = server()
    paths = api.openapi()["paths"]
    assert "security" not in paths["/open"]["get"]
    for path in ("/closed", "/read", "/write", "/both", "/me"):
        assert list(paths[path]["get"]["security"][0]) == ["bearer"]


async def test_all_combinations_of_roles_and_scopes_agree_with_the_rule():
    """A walk over all routes with all roles and scopes; the rule is written down a second time, by hand."""
    api, tokens = server()
    async with api:
        for role, scope in itertools.product(
            [None, "reader", "editor", "stranger"], [None, "posts:read", "posts:write", "posts:*", "*", "other"]
        ):
            token = tokens.issue("u", roles=[role] if role else [], scopes=[scope] if scope else [])
            is_reader, is_editor = role in {"reader", "editor"}, role == "editor"
            covers_write = scope in {None, "posts:write", "posts:*", "*"}
            may_write = (is_editor and covers_write) or (role is None and scope is not None and covers_write)
            expected = {
                "/read": is_reader and scope in {None, "*"},
                "/write": may_write,
                "/both": is_editor and covers_write,
            }
            found = dict(zip(expected, await statuses(api, token, expected), strict=True))
            assert found == {path: 200 if may else 403 for path, may in expected.items()}, (role, scope)
