"""GitHub, Facebook and Google, with their own ways.

GitHub and Facebook are doubles of ours, written from the services' public documentation, with the shapes of answers
that stand there, errors among them; they stand for nothing more than that. Google is played by a foreign provider.
"""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from consona.auth.errors import ProviderFailed, SignInRefused
from consona.auth.oauth.facebook import Facebook
from consona.auth.oauth.github import GitHub
from consona.auth.oauth.google import Google
from consona.auth.oauth.handshake import Handshake, challenge_of
from consona.auth.oauth.oauth2 import OAuth2
from consona.errors import ConfigurationError
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.server.api_server import APIServer
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response
from oidc_server import SECRET, answer, oidc_provider, sign_in

BACK = "https://shop.example/auth/x/callback"


class Service:
    """What is the same of both doubles: it remembers what it was asked, and answers what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], str]] = []
        self.answers: dict[str, Response] = {}
        self.api = APIServer("double")
        self.api.route("/{path:path}", "GET", "POST", "DELETE", public=True)(self.answer)

    async def answer(self, path: str, request: Request) -> Response:
        query = request.scope["query_string"].decode()
        body = (await request.body()).decode()
        self.asked.append((f"{request.method} /{path}", query, dict(request.headers.items()), body))
        return self.answers[path]

    def says(self, path: str, told, status: int = 200) -> None:
        self.answers[path] = Response(json.dumps(told).encode(), status=status, media_type="application/json")


@pytest.fixture
async def service():
    made = Service()
    async with made.api:
        yield made


def handshake(provider):
    return Handshake.new(provider.name, BACK, now=0.0)


async def finish(provider):
    kept = handshake(provider)
    return await provider.finish(kept, {"code": "c", "state": kept.state})


# GitHub: docs.github.com, "Authorizing OAuth apps", "Get the authenticated user", "List email addresses".

GITHUB_USER = {
    "login": "octocat",
    "id": 1,
    "avatar_url": "https://github.com/images/error/octocat_happy.gif",
    "name": "monalisa octocat",
    "email": "octocat@github.com",
}
GITHUB_EMAILS = [
    {"email": "old@github.com", "verified": True, "primary": False, "visibility": None},
    {"email": "octocat@github.com", "verified": True, "primary": True, "visibility": "public"},
]
GITHUB_TOKEN = {
    "access_token": "gho_16C7e42F292c6912E7710c838347Ae178B4a",
    "scope": "read:user,user:email",
    "token_type": "bearer",
}


@pytest.fixture
async def github(service):
    provider = GitHub(client_id="shop", client_secret="secret", transport=ASGITransport(service.api))
    service.says("login/oauth/access_token", GITHUB_TOKEN)
    service.says("user", GITHUB_USER)
    service.says("user/emails", GITHUB_EMAILS)
    async with provider:
        yield provider


async def test_github_gives_the_address_that_is_primary_and_verified(service, github):
    profile = (await finish(github)).profile
    assert (profile.issuer, profile.subject, profile.username) == ("https://github.com", "1", "octocat")
    assert (profile.email, profile.email_verified) == ("octocat@github.com", True)
    path, _, headers, body = service.asked[0]
    assert (path, headers["accept"]) == ("POST /login/oauth/access_token", "application/json")
    assert "client_secret=secret" in body
    assert "code_verifier=" in body
    assert service.asked[1][2]["authorization"] == f"Bearer {GITHUB_TOKEN['access_token']}"


@pytest.mark.parametrize(
    "emails",
    [[], [GITHUB_EMAILS[0]], [GITHUB_EMAILS[1] | {"verified": False}], [GITHUB_EMAILS[1] | {"verified": "yes"}], ["x"]],
)
async def test_githubs_public_address_proves_nothing(service, github, emails):
    service.says("user/emails", emails)
    profile = (await finish(github)).profile
    assert (profile.email, profile.email_verified) == ("", False)


async def test_github_refuses_with_status_200(service, github):
    service.says(
        "login/oauth/access_token",
        {"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."},
    )
    with pytest.raises(SignInRefused, match="bad_verification_code"):
        await finish(github)


async def test_github_takes_tokens_back_at_an_address_of_its_own(service, github):
    service.answers["applications/shop/token"] = Response(b"", status=204)
    await github.revoke("gho_x")
    path, _, headers, body = service.asked[-1]
    assert path == "DELETE /applications/shop/token"
    assert headers["authorization"].startswith("Basic ")
    assert json.loads(body) == {"access_token": "gho_x"}


async def test_githubs_question(github):
    url, kept = await github.begin(BACK)
    asked = answer(url)
    assert url.startswith("https://github.com/login/oauth/authorize?")
    assert asked["scope"] == "read:user user:email"
    assert asked["code_challenge"] == challenge_of(kept.verifier)


# Facebook: developers.facebook.com, "Manually build a login flow", "Handling errors".


@pytest.fixture
async def facebook(service):
    provider = Facebook(client_id="1", client_secret="secret", transport=ASGITransport(service.api))
    service.says("v23.0/oauth/access_token", {"access_token": "EAAG", "token_type": "bearer", "expires_in": 5183944})
    service.says(
        "v23.0/me",
        {
            "id": "100",
            "name": "Ada",
            "email": "ada@example.org",
            "picture": {"data": {"url": "https://x.example/p.jpg"}},
        },
    )
    async with provider:
        yield provider


async def test_facebook_tells_an_address_that_proves_nothing(service, facebook):
    profile = (await finish(facebook)).profile
    assert (profile.issuer, profile.subject, profile.name) == ("https://www.facebook.com", "100", "Ada")
    assert (profile.email, profile.email_verified) == ("ada@example.org", False)
    assert profile.picture == "https://x.example/p.jpg"
    proof = hmac.digest(b"secret", b"EAAG", hashlib.sha256).hex()
    assert f"appsecret_proof={proof}" in service.asked[-1][1]
    assert "fields=id%2Cname%2Cemail%2Cpicture" in service.asked[-1][1]


async def test_facebook_refuses_with_an_object(service, facebook):
    error = {"message": "Error validating access token", "type": "OAuthException", "code": 190, "fbtrace_id": "H2"}
    service.says("v23.0/me", {"error": error}, status=400)
    with pytest.raises(SignInRefused, match="OAuthException"):
        await finish(facebook)


async def test_facebook_gives_up_its_permissions(service, facebook):
    service.says("v23.0/me/permissions", {"success": True})
    await facebook.revoke("EAAG")
    assert service.asked[-1][0] == "DELETE /v23.0/me/permissions"


# Any other service, and services that are broken.


@pytest.fixture
async def forge(service):
    provider = OAuth2(
        "forge",
        client_id="shop",
        authorize="https://forge.example/authorize",
        token="https://forge.example/token",
        userinfo="https://forge.example/me",
        mapping={"subject": "uid", "name": lambda told: f"{told['first']} {told['last']}", "email_verified": "proven"},
        transport=ASGITransport(service.api),
    )
    service.says("token", {"access_token": "a", "token_type": "Bearer"})
    service.says("me", {"uid": 7, "first": "Ada", "last": "Lovelace", "proven": "true"})
    async with provider:
        yield provider


async def test_any_service_is_described_by_its_endpoints_and_a_mapping(forge):
    profile = (await finish(forge)).profile
    assert (profile.subject, profile.name, profile.email_verified) == ("7", "Ada Lovelace", False)
    with pytest.raises(ConfigurationError, match="no way"):
        await forge.revoke("a")


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        ({"error": "invalid_grant"}, 400, SignInRefused),
        ({}, 401, SignInRefused),
        ({}, 500, ProviderFailed),
        ({}, 302, ProviderFailed),
        ({}, 200, ProviderFailed),
        ([], 200, ProviderFailed),
        ({"access_token": "a", "token_type": "mac"}, 200, ProviderFailed),
        ({"access_token": "", "token_type": "bearer"}, 200, ProviderFailed),
        ({"access_token": 7}, 200, ProviderFailed),
        ("text", 200, ProviderFailed),
    ],
)
async def test_a_service_that_answers_otherwise_gives_a_clear_error(service, forge, told, status, error):
    service.says("token", told, status)
    with pytest.raises(error, match="forge"):
        await finish(forge)


async def test_garbage_is_told_as_such(service, forge):
    for garbage in (b"<html>", b"\xff\xfe", b"[" * 5000):
        service.answers["token"] = Response(garbage, media_type="application/json")
        with pytest.raises(ProviderFailed, match="not JSON"):
            await finish(forge)


async def test_a_service_that_does_not_say_who_it_is_gives_nobody(service, forge):
    for told in (
        {"first": "A", "last": "B"},
        {"uid": "", "first": "A", "last": "B"},
        {"uid": None, "first": "", "last": ""},
    ):
        service.says("me", told)
        with pytest.raises(ProviderFailed, match="who it is"):
            await finish(forge)


@pytest.mark.servers
async def test_google_is_openid_connect_with_two_spellings_of_its_name():
    back = "http://127.0.0.1:9/auth/google/callback"
    with oidc_provider(back) as issuer:
        async with Google(client_id="shop", client_secret=SECRET, issuer=issuer, offline=True) as google:
            url, kept = await google.begin(back)
            assert answer(url)["access_type"] == "offline"
            grant = await google.finish(kept, answer(await sign_in(url, "ada", back=back)))
    assert grant.profile.email_verified
    assert Google(client_id="x", client_secret="y").issuers() == {"https://accounts.google.com", "accounts.google.com"}


def test_the_challenge_of_the_standard():
    """RFC 7636, appendix B."""
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
