"""Sign-in with a foreign, certified OpenID Connect provider, in a process of its own."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode, urlsplit

import pytest

from auth_tools import Clock
from consona.auth.errors import ProviderFailed, SignInRefused
from consona.auth.jws import encode
from consona.auth.keys import SigningKey
from consona.auth.oauth.handshake import Handshake
from consona.auth.oauth.oidc import OIDC
from consona.errors import ConfigurationError
from oidc_server import SECRET, answer, oidc_provider, sign_in

pytestmark = pytest.mark.servers
BACK = "http://127.0.0.1:9/auth/op/callback"


@pytest.fixture(scope="module")
def issuer():
    with oidc_provider(BACK) as started:
        yield started


def client(issuer, client_id="shop", **more):
    more.setdefault("client_secret", SECRET)
    return OIDC(issuer, client_id=client_id, name="op", **more)


async def go(provider, name="ada", **more):
    url, handshake = await provider.begin(BACK, **more)
    return handshake, answer(await sign_in(url, name, back=BACK))


@pytest.mark.parametrize("client_id", ["shop", "shop-es256", "shop-eddsa"])
async def test_somebody_signs_in_with_each_algorithm(issuer, client_id):
    async with client(issuer, client_id) as provider:
        grant = await provider.finish(*await go(provider))
    profile = grant.profile
    assert (profile.issuer, profile.subject, profile.email, profile.email_verified) == (
        issuer,
        "ada",
        "ada@example.org",
        True,
    )
    assert (profile.username, profile.name) == ("ada", "ada of the tests")
    assert grant.tokens.access_token
    assert grant.tokens.access_token not in repr(grant)


async def test_clients_prove_themselves_in_each_way(issuer):
    async with (
        client(issuer, "shop-post", send="body") as by_form,
        client(issuer, "shop-public", client_secret="") as public,
    ):
        for provider in (by_form, public):
            assert (await provider.finish(*await go(provider))).profile.subject == "ada"
    async with client(issuer, client_secret="wrong") as provider:
        with pytest.raises(SignInRefused, match="invalid_client"):
            await provider.finish(*await go(provider))


async def test_the_question_has_all_that_protects_it(issuer):
    async with client(issuer) as provider:
        url, handshake = await provider.begin(BACK)
        _again, other = await provider.begin(BACK)
    asked = answer(url)
    assert asked["code_challenge_method"] == "S256"
    assert asked["state"] == handshake.state
    assert asked["nonce"] == handshake.nonce
    assert handshake.verifier not in url
    assert len({handshake.state, handshake.nonce, handshake.verifier, other.state, other.nonce, other.verifier}) == 6
    assert asked["redirect_uri"] == BACK


async def test_an_address_that_is_not_verified_is_told_so(issuer):
    async with client(issuer) as provider:
        grant = await provider.finish(*await go(provider, "unverified-eve"))
    assert grant.profile.email_verified is False


async def test_tokens_are_refreshed_in_one_flight_and_given_back(issuer):
    async with client(issuer, scopes=["email", "offline_access"], extra={"prompt": "consent"}) as provider:
        grant = await provider.finish(*await go(provider))
        old = grant.tokens.refresh_token
        assert old
        renewed = await asyncio.gather(*(provider.refresh(old) for _ in range(5)))
        assert len({each.access_token for each in renewed}) == 1
        assert (await provider.userinfo(renewed[0].access_token)).subject == "ada"
        await provider.revoke(renewed[0].refresh_token)
        with pytest.raises(SignInRefused, match="invalid_grant"):
            await provider.refresh(renewed[0].refresh_token)


# Attacks.


async def test_a_code_counts_once_and_with_its_verifier_alone(issuer):
    async with client(issuer) as provider:
        handshake, back = await go(provider)
        wrong = Handshake.new("op", BACK, now=handshake.expires_at)
        wrong.state, wrong.nonce = handshake.state, handshake.nonce
        with pytest.raises(SignInRefused, match="invalid_grant"):
            await provider.finish(wrong, back)
        handshake, back = await go(provider)
        await provider.finish(handshake, back)
        with pytest.raises(SignInRefused, match="invalid_grant"):
            await provider.finish(handshake, back)


async def test_the_provider_refuses_a_question_without_a_challenge(issuer):
    """So nobody can take PKCE out on the way."""
    async with client(issuer) as provider:
        url, handshake = await provider.begin(BACK)
        parts = urlsplit(url)
        asked = {n: v for n, v in answer(url).items() if not n.startswith("code_challenge")}
        back = await sign_in(f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(asked)}", "ada", back=BACK)
        with pytest.raises(SignInRefused, match="invalid_request"):
            await provider.finish(handshake, answer(back))


async def test_an_answer_to_another_question_does_not_count(issuer):
    async with client(issuer) as provider:
        handshake, back = await go(provider)
        _, other = await provider.begin(BACK)
        for changed in ({"state": other.state}, {"state": ""}, {"state": handshake.state + "x"}, {"state": "\u00e4"}):
            with pytest.raises(SignInRefused, match="state"):
                await provider.finish(handshake, back | changed)
        with pytest.raises(SignInRefused, match="state"):
            await provider.finish(handshake, {"code": back["code"]})


async def test_an_answer_of_another_provider_does_not_count(issuer):
    """Mix-up: RFC 9207."""
    async with client(issuer) as provider:
        handshake, back = await go(provider)
        assert back["iss"] == issuer
        with pytest.raises(SignInRefused, match="iss"):
            await provider.finish(handshake, back | {"iss": "https://evil.example"})
        with pytest.raises(SignInRefused, match="iss"):
            await provider.finish(handshake, {name: back[name] for name in ("code", "state")})
        handshake.provider = "other"
        with pytest.raises(SignInRefused, match="another service"):
            await provider.finish(handshake, back)


async def test_a_refusal_is_told_without_what_strangers_wrote(issuer):
    async with client(issuer) as provider:
        _, handshake = await provider.begin(BACK)
        evil = {"error": "access_denied\r\nSet-Cookie: <script>", "state": handshake.state, "iss": issuer}
        with pytest.raises(SignInRefused) as caught:
            await provider.finish(handshake, evil)
        assert caught.value.message == "op refused: access_deniedSet-Cookie script."
        with pytest.raises(SignInRefused, match="no code"):
            await provider.finish(handshake, {"state": handshake.state, "iss": issuer})


async def test_an_id_token_is_the_providers_for_us_of_this_question_and_of_now(issuer):
    clock = Clock()
    key, evil = SigningKey.generate("RS256"), SigningKey.generate("RS256")
    async with client(issuer, clock=clock) as provider:
        await provider.discover()
        provider._keys, provider._keys_at = {"k": key.jwk() | {"kid": "k"}}, float("inf")
        good = {"iss": issuer, "aud": "shop", "sub": "ada", "iat": clock.now, "exp": clock.now + 60, "nonce": "n"}

        def token(by=key, header=None, **changes):
            return signed(
                by,
                {"alg": "RS256", "kid": "k"} | (header or {}),
                {n: v for n, v in (good | changes).items() if v is not None},
            )

        assert (await provider.check_id_token(token(), nonce="n"))["sub"] == "ada"
        assert (await provider.check_id_token(token(aud=["shop", "x"], azp="shop"), nonce="n"))["sub"] == "ada"
        wrong = [
            token(by=evil),
            token(header={"kid": "other"}),
            token(header={"alg": "none"}),
            token(header={"alg": "HS256"}),
            token(header={"alg": "PS256"}),
            token(header={"crit": ["exp"]}),
            token(iss="https://evil.example"),
            token(iss=issuer + "/"),
            token(aud="other"),
            token(aud=[]),
            token(aud=["shop", "x"]),
            token(aud=["shop", "x"], azp="x"),
            token(azp="x"),
            token(exp=clock.now - 61),
            token(iat=clock.now + 61),
            token(exp=None),
            token(exp="never"),
            token(exp=10**30),
            token(nonce="other"),
            token(nonce=None),
            token(sub=None),
            token(sub=""),
            token(sub=7),
            token(at_hash="wrong"),
            token() + "x",
            "",
        ]
        for each in wrong:
            with pytest.raises(SignInRefused):
                await provider.check_id_token(each, nonce="n", access_token="a")


def signed(key, header, claims):
    import json

    text = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encode(key.sign(text.encode()))}"


# What can go wrong.


async def test_keys_that_were_exchanged_are_fetched_anew():
    with oidc_provider(BACK) as issuer:
        port = urlsplit(issuer).port
        provider = await client(issuer).__aenter__()
        await provider.finish(*await go(provider))
        known = set(provider._keys)
    with oidc_provider(BACK, port) as again:
        assert again == issuer
        provider._keys_at = float("-inf")  # ten seconds later
        assert (await provider.finish(*await go(provider))).profile.subject == "ada"
        assert not known & set(provider._keys)
        await provider.stop()


async def test_a_provider_that_is_away_is_told_and_asked_again_later(issuer):
    with oidc_provider(BACK) as gone:
        pass
    async with client(gone) as provider:
        with pytest.raises(ProviderFailed, match="does not answer") as caught:
            await provider.begin(BACK)
        assert (caught.value.status, caught.value.retryable) == (502, True)


async def test_an_issuer_that_describes_another_is_refused(issuer):
    async with client(issuer.replace("127.0.0.1", "localhost")) as provider:
        with pytest.raises(ProviderFailed, match="another issuer"):
            await provider.begin(BACK)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.org",
        "ftp://x",
        "https://",
        "https://a:b@x.example",
        "https://x.example/#a",
        "javascript:1",
    ],
)
def test_secrets_go_over_https_alone(url):
    with pytest.raises(ConfigurationError, match="https"):
        OIDC(url, client_id="shop")
