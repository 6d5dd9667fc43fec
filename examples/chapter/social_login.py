"""The chapter's program of signing in with other services, with the chapter's own classes.

    python examples/chapter/social_login.py

The services are below, in `build_service`. They are small and they are real: each listens at an address of this
machine, asks who somebody is, gives out a code that counts once, and exchanges it for tokens (OAuth 2 with PKCE).
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from consona import APIServer, AuthenticationError, HTTPError, blocking
from consona.chapter import JWTManager, OAuthError, OAuthProvider, SocialAuthManager, narrate, show
from consona.rest.server.listener import Listener
from consona.rest.server.requests import Request
from consona.rest.server.responses import Redirect

BACK = "http://localhost:8080/auth/callback"
SECRET = secrets.token_urlsafe(32)


def build_service(name: str, people: dict[str, dict[str, Any]]) -> APIServer:
    """A service that people have an account at."""
    api = APIServer(name)
    codes: dict[str, dict[str, str]] = {}
    tokens: dict[str, str] = {}

    @api.get("/authorize")
    async def authorize(request: Request) -> Redirect:
        """Its sign-in page; here, who signs in stands in the address."""
        asked = dict(parse_qsl(request.scope["query_string"].decode()))
        code = secrets.token_urlsafe(16)
        codes[code] = asked
        return Redirect(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", status=303)

    @api.post("/token")
    async def token(request: Request) -> dict[str, Any]:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            raise HTTPError("invalid_grant", status=400)
        made = secrets.token_urlsafe(32)
        tokens[made] = asked["login"]
        return {"access_token": made, "token_type": "Bearer", "expires_in": 3600, "scope": asked.get("scope", "")}

    @api.get("/me")
    async def me(request: Request) -> dict[str, Any]:
        who = tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if who is None:
            raise AuthenticationError("This token does not count.")
        return people[who]

    @api.post("/revoke")
    async def revoke(request: Request) -> None:
        tokens.pop(dict(parse_qsl((await request.body()).decode())).get("token", ""), None)

    return api


def register(social: SocialAuthManager, name: str, people: dict[str, dict[str, Any]]) -> OAuthProvider:
    """Start a service, and tell the application where it is."""
    listener = blocking.enter(Listener(build_service(name, people), port=0))
    endpoints = {"authorization": "authorize", "token": "token", "user_info": "me", "revocation": "revoke"}
    config = {f"{what}_endpoint": f"{listener.url}/{path}" for what, path in endpoints.items()}
    return social.register_provider(name, "neighbour-app", SECRET, config)


def visit(url: str, login: str) -> dict[str, str]:
    """What a person's browser does: sign in at the service, and come back with what it gave."""
    from http.client import HTTPConnection  # noqa: PLC0415 it plays the browser, and is no part of the program

    parts = urlsplit(url)
    browser = HTTPConnection(parts.netloc)
    browser.request("GET", f"{parts.path}?{parts.query}&{urlencode({'login': login})}")
    back = browser.getresponse().headers["location"]
    browser.close()
    return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}


def sign_in(social: SocialAuthManager, name: str, login: str) -> dict[str, Any]:
    begun = social.initiate_social_login(name, BACK, "profile email", None)
    answer = visit(begun["authorization_url"], login)
    return social.complete_social_login(name, answer["code"], BACK, answer["state"], begun["note"])


def main() -> None:
    narrate()
    manager = JWTManager(secrets.token_urlsafe(32), "HS256", 24)
    social = SocialAuthManager(manager)
    google = register(
        social, "Google", {"noor": {"id": "g-1", "name": "Noor", "email": "noor@example.org", "verified_email": True}}
    )
    register(social, "GitHub", {"pim": {"id": 7, "login": "pim", "name": "Pim", "email": None}})
    register(social, "Facebook", {"noor": {"id": "f-9", "name": "Noor", "email": "noor@example.org"}})

    first = sign_in(social, "Google", "noor")
    show("Signed in with Google:", first["user"]["username"], first["user"]["email"])
    again = sign_in(social, "Google", "noor")
    show("The same user at the second time:", again["user"]["id"] == first["user"]["id"])
    show("Signed in with GitHub:", sign_in(social, "GitHub", "pim")["user"]["username"])

    begun = social.initiate_social_login("Facebook", BACK, None, None, user_id=first["user"]["id"])
    answer = visit(begun["authorization_url"], "noor")
    linked = social.link_social_account(
        first["user"]["id"], "Facebook", answer["code"], BACK, answer["state"], begun["note"]
    )
    show(linked["message"])
    for account in social.get_user_social_accounts(first["user"]["id"]):
        show(" ", account["provider"], account["social_id"], account["name"])

    payload = manager.verify_token(first["token"])["payload"]
    show("The token says:", payload["provider"], payload["social_id"])
    try:
        social.complete_social_login("Google", answer["code"], BACK, "a guessed state", begun["note"])
    except OAuthError as error:
        show("Somebody else's answer:", error.message)

    asked = google.generate_authorization_url(BACK, "profile")
    answer = visit(asked["authorization_url"], "noor")
    tokens = google.exchange_code_for_token(answer["code"], BACK, answer["state"])
    show("User info:", google.get_user_info(tokens["access_token"])["name"])
    show(google.revoke_token(tokens["access_token"])["message"])
    try:
        google.get_user_info(tokens["access_token"])
    except OAuthError as error:
        show("After that:", error.message)
    for name, count in social.get_auth_stats().items():
        show(" ", name, count)
    for name, count in google.get_oauth_stats().items():
        show(" ", name, count)
    social.close()


if __name__ == "__main__":
    main()
