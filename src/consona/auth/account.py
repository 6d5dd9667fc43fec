"""An account, as the rest of a program sees it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["COLUMNS", "Account", "Row"]


class Account(msgspec.Struct, frozen=True):
    """Whose it is and what they may do. Neither password nor second factor is in it."""

    id: str
    name: str
    email: str
    roles: frozenset[str]
    active: bool
    email_verified: bool
    second_factor: bool
    created_at: float
    """Seconds since the epoch."""
    last_login: float | None

    @property
    def scopes(self) -> frozenset[str]:
        """Nothing: an account is not limited, credentials may be (see `Roles.demand`)."""
        return frozenset()


class Row(msgspec.Struct):
    """An account as it is kept."""

    id: str
    name: str
    email: str
    email_verified: float | None
    password: str | None
    roles: str
    version: int
    active: int
    second_factor: str | None
    second_factor_step: int
    recovery_codes: str
    created_at: float
    last_login: float | None

    @property
    def role_names(self) -> frozenset[str]:
        return frozenset(self.roles.split())

    @property
    def account(self) -> Account:
        return Account(
            id=self.id,
            name=self.name,
            email=self.email,
            roles=self.role_names,
            active=bool(self.active),
            email_verified=self.email_verified is not None,
            second_factor=self.second_factor is not None,
            created_at=self.created_at,
            last_login=self.last_login,
        )

    def values(self) -> dict[str, Any]:
        """What a handler's own type may have as fields (`CurrentUser[User]`)."""
        return msgspec.structs.asdict(self.account) | {"roles": sorted(self.role_names), "username": self.name}


COLUMNS: Final = ", ".join(Row.__struct_fields__)
