"""Roles: what each may do, and what it inherits. In code, since that is where the rules of an application belong.

    roles = Roles()
    roles.add("reader", "posts:read")
    roles.add("author", "posts:write:own", inherits=["reader"])
    roles.add("editor", "posts:*", inherits=["author"])

A permission is a name in parts: `posts:read`. A role may have patterns: `posts:*` is everything that begins with
`posts:`, `*:read` one part of any name, `*` everything. What ends in `:own` counts for one's own things alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from consona.errors import ConfigurationError, PermissionDenied

__all__ = ["Role", "Roles", "Somebody", "check_pattern", "matches"]

_PERMISSION: Final = re.compile(r"[a-z0-9_.-]{1,64}(:[a-z0-9_.-]{1,64}){0,7}")
_PATTERN: Final = re.compile(r"(\*|[a-z0-9_.-]{1,64})(:(\*|[a-z0-9_.-]{1,64})){0,7}")
_ROLE: Final = re.compile(r"[a-z0-9_.-]{1,64}")


class Somebody(Protocol):
    """Who wants to do something: an `Identity` of a request, the `Claims` of a token, an account."""

    @property
    def roles(self) -> frozenset[str]: ...
    @property
    def scopes(self) -> frozenset[str]:
        """What their credentials are good for, where that is less than everything; else empty."""
        ...


@dataclass(frozen=True, slots=True)
class Role:
    """A name for what somebody may do."""

    name: str
    permissions: frozenset[str]
    inherits: frozenset[str]


class Roles:
    """The roles of an application. A role that was never added gives no permission, only its name.

    Example:
        >>> roles = Roles()
        >>> roles.add("reader", "posts:read")
        >>> roles.add("editor", "posts:*", inherits=["reader"])
        >>> roles.allow({"editor"}, "posts:delete"), roles.allow({"reader"}, "posts:delete")
        (True, False)
    """

    def __init__(self) -> None:
        self._roles: dict[str, Role] = {}
        self._included: dict[frozenset[str], frozenset[str]] = {}

    def add(self, name: str, *permissions: str, inherits: Iterable[str] = ()) -> None:
        """Add a role; those that it inherits from come first.

        Args:
            name: Lower-case letters, digits and `_.-`.
            permissions: What it may do, beside what it inherits: names or patterns.
            inherits: Roles whose permissions it has too, and whose routes it passes.

        Raises:
            ConfigurationError: A name is not well-formed or unknown, or the role is there already.
        """
        if isinstance(inherits, str):
            raise ConfigurationError("inherits= is several names, not one text.", hint='inherits=["reader"]')
        parents = frozenset(inherits)
        if not _ROLE.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name for a role: lower-case letters, digits and _.- make one.")
        if name in self._roles:
            raise ConfigurationError(f"There is a role {name!r} already.")
        if unknown := sorted(parents - self._roles.keys()):
            raise ConfigurationError(
                f"The role {name!r} inherits from {', '.join(unknown)}, which is not there yet.",
                hint="Add the inherited role first. So no role can inherit from itself.",
            )
        for permission in permissions:
            if not _PATTERN.fullmatch(permission):
                raise ConfigurationError(
                    f"{permission!r} is no permission.", hint="Write it like posts:read or posts:*."
                )
        self._roles[name] = Role(name, frozenset(permissions), parents)
        self._included.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._roles

    def __iter__(self) -> Iterator[Role]:
        return iter(list(self._roles.values()))

    def included(self, names: Iterable[str]) -> frozenset[str]:
        """These roles and all that they inherit from."""
        asked = names if isinstance(names, frozenset) else frozenset(names)
        known = self._included.get(asked)
        if known is None:
            found: set[str] = set()
            waiting = list(asked)
            while waiting:
                name = waiting.pop()
                if name not in found:
                    found.add(name)
                    if name in self._roles:
                        waiting += self._roles[name].inherits
            known = frozenset(found)
            if len(self._included) > 1000:  # names come from tokens, of which there may be many kinds
                self._included.clear()
            self._included[asked] = known
        return known

    def permissions(self, names: Iterable[str]) -> frozenset[str]:
        """All permissions and patterns that these roles give."""
        roles = (self._roles.get(name) for name in self.included(names))
        return frozenset(permission for role in roles if role is not None for permission in role.permissions)

    def allow(self, names: Iterable[str], permission: str, *, owns: bool = False) -> bool:
        """Whether one of these roles gives a permission.

        Args:
            names: The roles that somebody has.
            permission: What they want to do: `posts:write`.
            owns: Whether it is their own thing that they want to do it to: then `posts:write:own` is enough.

        Raises:
            ConfigurationError: The permission is not well-formed: a mistake in the program, not of a user.
        """
        if not _PERMISSION.fullmatch(permission):
            raise ConfigurationError(f"{permission!r} is no permission.", hint="Write it like posts:read.")
        wanted = [permission, f"{permission}:own"] if owns else [permission]
        patterns = self.permissions(names)
        return any(matches(pattern, want) for pattern in patterns for want in wanted)

    def demand(self, somebody: Somebody, permission: str, *, owns: bool = False) -> None:
        """Go on only if somebody may do it: the guard for code.

        Args:
            somebody: An `Identity`, `Claims`, or anything else with `roles` and `scopes`.
            permission: What they want to do.
            owns: Whether it is their own thing.

        Raises:
            PermissionDenied: They may not, or their credentials are for less.

        Example:
            >>> from consona.rest.server.guards import Identity
            >>> roles = Roles()
            >>> roles.add("author", "posts:write:own")
            >>> roles.demand(Identity("ada", roles=frozenset({"author"})), "posts:write", owns=True)
        """
        limited = somebody.scopes and not any(matches(scope, permission) for scope in somebody.scopes)
        if limited or not self.allow(somebody.roles, permission, owns=owns):
            raise PermissionDenied(f"You may not do this: {permission}.", permission=permission)


def check_pattern(text: str) -> bool:
    """Whether it is a permission, or a pattern of permissions."""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, permission: str) -> bool:
    """Whether a pattern covers a permission. Part by part: nothing in it can take long.

    Example:
        >>> [matches(p, "posts:read") for p in ("posts:read", "posts:*", "*:read", "*", "posts", "posts:*:own")]
        [True, True, True, True, False, False]
    """
    if pattern == permission:
        return True
    if "*" not in pattern:
        return False
    parts, wanted = pattern.split(":"), permission.split(":")
    if parts[-1] == "*":
        if len(wanted) < len(parts):
            return False
        wanted = wanted[: len(parts)]
    return len(parts) == len(wanted) and all(part in {"*", want} for part, want in zip(parts, wanted, strict=True))
