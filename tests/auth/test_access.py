"""The table of who may call what agrees with what really happens."""

from __future__ import annotations

import pytest

from asgi_call import call
from consona.auth.access import access_table
from consona.auth.jwt_manager import JWTManager
from consona.auth.keys import SigningKey
from consona.auth.roles import Roles
from consona.auth.token_guard import TokenGuard
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer


def server():
    roles = Roles()
    roles.add("reader", "posts:read")
    roles.add("editor", "posts:*", inherits=["reader"])
    api = APIServer("t")
    tokens = JWTManager(SigningKey.generate(signs_from=0), issuer="t")
    for path, options in {
        "/open": {"public": True},
        "/any": {},
        "/read": {"roles": {"reader"}},
        "/write": {"scopes": {"posts:write"}},
        "/odd": {"roles": {"stranger"}},
        "/never": {"scopes": {"users:delete"}},
    }.items():

        @api.get(path, **options)
        async def handler() -> int:
            return 1

    api.secure(TokenGuard(tokens, roles))
    return api, tokens


def test_it_says_in_words_who_may():
    api, _ = server()
    assert {each.path: each.words for each in access_table(api) if each.path[1] != "."} == {
        "/open": "everybody",
        "/any": "whoever is signed in",
        "/read": "editor, reader",
        "/write": "editor",
        "/odd": "stranger",
        "/never": "nobody",
    }


async def test_a_walk_over_all_routes_with_all_roles_agrees():
    api, tokens = server()
    async with api:
        for each in access_table(api):
            assert (await call(api, each.method, each.path)).status == (200 if each.public else 401)
            for role in ("reader", "editor", "stranger"):
                headers = {"authorization": f"Bearer {tokens.issue('u', roles=[role]).text}"}
                may = each.public or each.anybody or role in each.roles
                assert (await call(api, each.method, each.path, headers=headers)).status == (200 if may else 403)


def test_a_server_without_a_guard_has_no_table():
    with pytest.raises(ConfigurationError, match="no guard"):
        access_table(APIServer("t"))
