"""Roles: permissions are inherited, patterns cover what they say, and nothing is allowed that nobody gave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.roles import Roles, matches
from consona.errors import ConfigurationError, PermissionDenied
from consona.rest.server.guards import Identity


def shop():
    roles = Roles()
    roles.add("reader", "posts:read")
    roles.add("author", "posts:write:own", "drafts:*", inherits=["reader"])
    roles.add("editor", "posts:*", inherits=["author"])
    roles.add("auditor", "*:read")
    roles.add("admin", "*")
    return roles


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("reader", ["posts:read"], ["posts:write", "posts", "posts:read:own:x", "drafts:read"]),
        ("author", ["posts:read", "drafts:read", "drafts:a:b"], ["posts:write", "drafts", "posts:delete"]),
        ("editor", ["posts:read", "posts:delete", "posts:write", "drafts:x"], ["users:read"]),
        ("auditor", ["posts:read", "users:read"], ["posts:write", "a:b:read", "read"]),
        ("admin", ["posts:read", "users:delete", "a:b:c:d", "anything"], []),
        ("nobody", [], ["posts:read"]),
    ],
)
def test_a_role_may_do_what_it_and_those_that_it_inherits_from_may(role, may, may_not):
    roles = shop()
    assert [each for each in may if not roles.allow({role}, each)] == []
    assert [each for each in may_not if roles.allow({role}, each)] == []


def test_ones_own_things_are_another_matter():
    roles = shop()
    assert roles.allow({"author"}, "posts:write", owns=True)
    assert not roles.allow({"author"}, "posts:write", owns=False)
    assert not roles.allow({"reader"}, "posts:write", owns=True)
    assert roles.allow({"editor"}, "posts:write", owns=False)


def test_code_goes_on_only_if_somebody_may():
    roles = shop()
    ada = Identity("ada", roles=frozenset({"author"}))
    roles.demand(ada, "posts:write", owns=True)
    with pytest.raises(PermissionDenied, match="posts:write") as caught:
        roles.demand(ada, "posts:write")
    assert caught.value.status == 403


def test_limited_credentials_may_less_than_their_owner():
    roles = shop()
    key = Identity("ada", roles=frozenset({"admin"}), scopes=frozenset({"posts:*"}))
    roles.demand(key, "posts:delete")
    with pytest.raises(PermissionDenied):
        roles.demand(key, "users:delete")
    with pytest.raises(PermissionDenied):
        roles.demand(Identity("eve", scopes=frozenset({"*"})), "posts:read")


@pytest.mark.parametrize("name", ["", "Admin", "a b", "a" * 65, "a:b", "*", "ädmin", "a\n"])
def test_a_role_has_a_plain_name(name):
    with pytest.raises(ConfigurationError, match="no name for a role"):
        Roles().add(name)


@pytest.mark.parametrize("permission", ["", ":", "a:", ":a", "a b", "A", "a**", "a:*b", "*a", "a:" * 9 + "a", "a\n"])
def test_a_permission_is_well_formed(permission):
    roles = Roles()
    with pytest.raises(ConfigurationError, match="no permission"):
        roles.add("r", permission)
    with pytest.raises(ConfigurationError, match="no permission"):
        roles.allow({"r"}, permission)


def test_a_role_inherits_from_roles_that_are_there():
    roles = Roles()
    with pytest.raises(ConfigurationError, match="not there yet"):
        roles.add("a", inherits=["a"])
    roles.add("a")
    with pytest.raises(ConfigurationError, match="already"):
        roles.add("a")
    with pytest.raises(ConfigurationError, match="several names"):
        roles.add("b", inherits="a")


def test_a_pattern_is_not_asked_for():
    """`posts:*` as the wish of a caller would be a question that nobody means."""
    with pytest.raises(ConfigurationError):
        shop().allow({"admin"}, "posts:*")


parts = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4).map(":".join)


@given(parts, parts.filter(lambda text: "*" not in text))
def test_a_pattern_covers_what_its_parts_say(pattern, permission):
    own, wanted = pattern.split(":"), permission.split(":")
    expected = all(n < len(wanted) and part in {"*", wanted[n]} for n, part in enumerate(own)) and (
        len(own) == len(wanted) or (own[-1] == "*" and len(own) <= len(wanted))
    )
    assert matches(pattern, permission) == expected


def test_many_kinds_of_tokens_fill_no_memory():
    roles = shop()
    for n in range(3000):
        roles.included(frozenset({"admin", f"x{n}"}))
    assert len(roles._included) <= 1001
