"""Sign in with Google.

Source: https://developers.google.com/identity/openid-connect/openid-connect
"""

from __future__ import annotations

from typing import Any

from consona.auth.oauth.oidc import OIDC

__all__ = ["Google"]


class Google(OIDC):
    """Google, which speaks OpenID Connect.

    Its id_tokens may name the issuer with or without `https://`. With `offline=True` it gives a refresh token, after
    asking the user again.
    """

    def __init__(self, *, client_id: str, client_secret: str, offline: bool = False, **more: Any) -> None:
        extra = {"access_type": "offline", "prompt": "consent"} if offline else {}
        super().__init__(
            more.pop("issuer", "https://accounts.google.com"),
            client_id=client_id,
            client_secret=client_secret,
            name=more.pop("name", "google"),
            extra=extra | more.pop("extra", {}),
            **more,
        )

    def issuers(self) -> frozenset[str]:
        return frozenset({self.issuer, self.issuer.removeprefix("https://")})
