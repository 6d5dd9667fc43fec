"""Sign in with GitHub, which speaks OAuth 2 with ways of its own.

Source: https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps and the REST API's pages on
users, emails and OAuth authorizations.
"""

from __future__ import annotations

import base64
from typing import Any

from consona.auth.errors import ProviderFailed
from consona.auth.oauth.oauth2 import OAuth2, Profile
from consona.auth.strangers import asked_by_strangers

__all__ = ["GitHub"]


class GitHub(OAuth2):
    """GitHub. The public address of a profile proves nothing, so the list of addresses is asked, for the one that is
    primary and verified. Tokens are given back at an address of its own.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        site: str = "https://github.com",
        api: str = "https://api.github.com",
        **more: Any,
    ) -> None:
        self.api = api
        super().__init__(
            more.pop("name", "github"),
            client_id=client_id,
            client_secret=client_secret,
            authorize=f"{site}/login/oauth/authorize",
            token=f"{site}/login/oauth/access_token",
            userinfo=f"{api}/user",
            issuer=site,
            scopes=more.pop("scopes", ("read:user", "user:email")),
            mapping={"subject": "id", "username": "login", "name": "name", "picture": "avatar_url"},
            send="body",
            **more,
        )

    async def userinfo(self, access_token: str) -> Profile:
        self._require_started()
        with asked_by_strangers(self.observer, "userinfo"):
            told = await self._get(self.userinfo_url, access_token)
            profile = self.profile_of(told)
            headers = {"Authorization": f"Bearer {access_token}"}
            addresses = await self._call("GET", f"{self.api}/user/emails", headers=headers)
            if not isinstance(addresses, list):
                raise ProviderFailed(f"{self.name} did not give the list of addresses.")
            for each in addresses:
                if isinstance(each, dict) and each.get("primary") is True and each.get("verified") is True:
                    return Profile(
                        issuer=profile.issuer,
                        subject=profile.subject,
                        email=str(each.get("email", "")),
                        email_verified=True,
                        username=profile.username,
                        name=profile.name,
                        picture=profile.picture,
                    )
            return profile

    async def revoke(self, token: str) -> None:
        self._require_started()
        with asked_by_strangers(self.observer, "revoke"):
            pair = base64.b64encode(f"{self.client_id}:{self._client_secret}".encode()).decode("ascii")
            await self._call(
                "DELETE",
                f"{self.api}/applications/{self.client_id}/token",
                headers={"Authorization": f"Basic {pair}"},
                json={"access_token": token},
            )
