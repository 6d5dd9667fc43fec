"""Who may call what: a walk over all routes of a server with all roles, without calling any of them.

for each in access_table(api):
print(each.method, each.path, each.words)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consona.errors import ConfigurationError
from consona.rest.server.guards import Identity

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["Access", "access_table"]


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call one route."""

    method: str
    path: str
    public: bool
    """Whether everybody may, without a login."""
    anybody: bool
    """Whether a login is enough, without any role."""
    roles: frozenset[str]
    """The roles that may, those that inherit among them."""

    @property
    def words(self) -> str:
        if self.public:
            return "everybody"
        if self.anybody:
            return "whoever is signed in"
        return ", ".join(sorted(self.roles)) or "nobody"


def access_table(api: APIServer) -> list[Access]:
    """Each route of a secured server, with the roles that its guard would let pass. For tests, too.

    Raises:
        ConfigurationError: The server has no guard with roles.
    """
    guard = api.guard
    table = getattr(guard, "roles", None)
    if guard is None or table is None:
        raise ConfigurationError(f"{api.name} has no guard that knows roles.", hint="Call api.secure(accounts) before.")
    signatures = api.signatures()
    names = {role.name for role in table} | {role for signature in signatures for role in signature.roles}

    def may(roles: frozenset[str], wanted: frozenset[str], scopes: frozenset[str]) -> bool:
        return guard.allows(Identity("somebody", roles=roles), wanted, scopes)

    return [
        Access(
            signature.route.method,
            signature.route.path,
            public=not signature.guarded,
            anybody=may(frozenset(), signature.roles, signature.scopes),
            roles=frozenset(n for n in names if may(frozenset({n}), signature.roles, signature.scopes)),
        )
        for signature in signatures
    ]
