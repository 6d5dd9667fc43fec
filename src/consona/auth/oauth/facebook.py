"""Sign in with Facebook, which speaks OAuth 2 through its Graph API.

Source: https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow, Graph API reference for User,
and "Secure Graph API Calls" (`appsecret_proof`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any
from urllib.parse import urlencode

from consona.auth.oauth.oauth2 import OAuth2, Profile
from consona.auth.strangers import asked_by_strangers

__all__ = ["Facebook"]


class Facebook(OAuth2):
    """Facebook. Its paths have a version; each call is proven with the secret; whether an address is verified is not
    told, so none is taken for verified; there are no refresh tokens.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        version: str = "v23.0",
        site: str = "https://www.facebook.com",
        graph: str = "https://graph.facebook.com",
        **more: Any,
    ) -> None:
        self.graph = f"{graph}/{version}"
        super().__init__(
            more.pop("name", "facebook"),
            client_id=client_id,
            client_secret=client_secret,
            authorize=f"{site}/{version}/dialog/oauth",
            token=f"{self.graph}/oauth/access_token",
            userinfo=f"{self.graph}/me",
            issuer=site,
            scopes=more.pop("scopes", ("public_profile", "email")),
            mapping={"subject": "id", "email": "email", "name": "name", "picture": _picture},
            send="body",
            **more,
        )

    async def userinfo(self, access_token: str) -> Profile:
        self._require_started()
        with asked_by_strangers(self.observer, "userinfo"):
            asked = {"fields": "id,name,email,picture", "appsecret_proof": self._call_proof(access_token)}
            return self.profile_of(await self._get(f"{self.userinfo_url}?{urlencode(asked)}", access_token))

    async def revoke(self, token: str) -> None:
        self._require_started()
        with asked_by_strangers(self.observer, "revoke"):
            asked = urlencode({"appsecret_proof": self._call_proof(token)})
            await self._call(
                "DELETE", f"{self.graph}/me/permissions?{asked}", headers={"Authorization": f"Bearer {token}"}
            )

    def _call_proof(self, access_token: str) -> str:
        return hmac.digest(self._client_secret.encode(), access_token.encode(), hashlib.sha256).hex()


def _picture(told: dict[str, Any]) -> Any:
    data = told.get("picture")
    inner = data.get("data") if isinstance(data, dict) else None
    return inner.get("url") if isinstance(inner, dict) else None
