"""Tokens: issued with what their owner may do, believed only while all of it is true."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.errors import TokenExpired, TokenInvalid, TokenRevoked
from consona.auth.jwt_manager import JWTManager, TokenSettings
from consona.auth.keys import ALGORITHMS, SigningKey
from consona.errors import ConfigurationError, NotStarted, ValidationError
from consona.part import Status


class Clock:
    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def manager(clock, keys=None, **more):
    more.setdefault("issuer", "shop")
    return JWTManager(SigningKey.generate(signs_from=0) if keys is None else keys, clock=clock, **more)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_was_issued_is_verified_with_each_algorithm(clock, algorithm):
    async with manager(clock, SigningKey.generate(algorithm, signs_from=0)) as tokens:
        token = tokens.issue(
            "u7",
            roles=["editor"],
            scopes=["posts:read", "posts:write"],
            session="s1",
            version=3,
            claims={"tenant": [1]},
        )
        claims = tokens.verify(token.text)
    assert (claims.subject, claims.roles, claims.session, claims.version) == ("u7", {"editor"}, "s1", 3)
    assert claims.scopes == {"posts:read", "posts:write"}
    assert (claims.issuer, claims.audience) == ("shop", ("shop",))
    assert (claims.issued_at, claims.expires_at) == (clock.now, clock.now + 900)
    assert claims.get("tenant") == [1]
    assert claims.id == token.claims.id != ""


async def test_a_token_counts_until_its_time_is_over_and_the_leeway_with_it(clock):
    async with manager(clock, ttl=60) as tokens:
        token = tokens.issue("u7").text
        clock.now += 64.9
        tokens.verify(token)
        clock.now += 0.1
        for _ in range(2):  # the first knows it from before, the second proves it anew
            with pytest.raises(TokenExpired):
                tokens.verify(token)


async def test_a_token_from_the_future_does_not_count_yet(clock):
    async with manager(clock) as tokens:
        token = tokens.issue("u7").text
        tokens.verify(token)
        clock.now -= 5.5
        with pytest.raises(TokenInvalid, match="future"):
            tokens.verify(token)
        clock.now += 0.5
        tokens.verify(token)


async def test_a_token_of_another_issuer_or_for_somebody_else_is_refused(clock):
    key = SigningKey.generate(signs_from=0)
    async with manager(clock, key) as ours, manager(clock, key, issuer="bank") as bank:
        with pytest.raises(TokenInvalid, match="another issuer"):
            ours.verify(bank.issue("u7").text)
    async with (
        manager(clock, key, audience=["api", "web"]) as wide,
        manager(clock, key, audience="web") as web,
        manager(clock, key, audience="ops") as ops,
    ):
        token = wide.issue("u7").text
        assert web.verify(token).audience == ("api", "web")
        with pytest.raises(TokenInvalid, match="somebody else"):
            ops.verify(token)


async def test_a_token_of_a_key_that_is_not_ours_is_refused(clock):
    async with manager(clock) as ours, manager(clock) as stranger:
        with pytest.raises(TokenInvalid, match="No key of ours"):
            ours.verify(stranger.issue("u7").text)


async def test_a_token_that_was_taken_back_does_not_count_although_it_is_remembered(clock):
    async with manager(clock) as tokens:
        token, other = tokens.issue("u7"), tokens.issue("u7")
        tokens.verify(token.text)
        tokens.revoke(token.claims)
        with pytest.raises(TokenRevoked):
            tokens.verify(token.text)
        tokens.verify(other.text)


async def test_a_session_or_an_account_takes_all_its_tokens_with_it(clock):
    async with manager(clock) as tokens:
        mine, elsewhere = tokens.issue("u7", session="s1", version=2), tokens.issue("u7", session="s2", version=2)
        tokens.revocations.session("s1", until=clock.now + 1000)
        with pytest.raises(TokenRevoked):
            tokens.verify(mine.text)
        tokens.verify(elsewhere.text)
        tokens.revocations.account("u7", version=3, until=clock.now + 1000)
        with pytest.raises(TokenRevoked):
            tokens.verify(elsewhere.text)
        tokens.verify(tokens.issue("u7", version=3).text)  # in the same second as the change
        tokens.verify(tokens.issue("u8", version=0).text)


async def test_revocations_are_forgotten_when_their_tokens_have_ended(clock):
    async with manager(clock, ttl=60) as tokens:
        for _ in range(2500):
            tokens.revoke(tokens.issue("u7").claims)
            clock.now += 1
        assert len(tokens.revocations) < 1100


async def test_a_revocation_of_a_session_is_not_shortened_by_a_later_one(clock):
    async with manager(clock) as tokens:
        tokens.revocations.session("s", until=500)
        tokens.revocations.session("s", until=100)
        tokens.revocations.account("u", version=5, until=500)
        tokens.revocations.account("u", version=4, until=100)
        assert tokens.revocations.cover(tokens.issue("u", version=4).claims)


# What is remembered.


async def test_a_signature_is_checked_once_and_the_memory_is_bounded(clock, monkeypatch):
    async with manager(clock, settings=TokenSettings(cache=3)) as tokens:
        checked = []
        real = SigningKey.verify
        monkeypatch.setattr(SigningKey, "verify", lambda self, *args: checked.append(1) or real(self, *args))
        texts = [tokens.issue(f"u{n}").text for n in range(5)]
        for _ in range(3):
            tokens.verify(texts[0])
        assert len(checked) == 1
        for text in texts:
            tokens.verify(text)
        assert len(tokens._verified) == 3
        assert len(checked) == 5


async def test_what_is_refused_is_not_remembered(clock):
    async with manager(clock) as tokens:
        for n in range(100):
            with pytest.raises(TokenInvalid):
                tokens.verify(f"e30.e30.{n:04d}")
        assert tokens.detail()["remembered"] == 0


async def test_nothing_need_be_remembered(clock):
    async with manager(clock, settings=TokenSettings(cache=0)) as tokens:
        tokens.verify(tokens.issue("u").text)
        assert tokens.detail()["remembered"] == 0


async def test_nobody_changes_what_others_are_given(clock):
    async with manager(clock) as tokens:
        token = tokens.issue("u", claims={"list": [1]}).text
        tokens.verify(token).all["list"].append(2)
        tokens.verify(token).get("list").append(3)
        assert tokens.verify(token).get("list") == [1]
        with pytest.raises(AttributeError):
            tokens.verify(token).subject = "root"


async def test_threads_may_verify_at_the_same_time(clock):
    async with manager(clock, settings=TokenSettings(cache=5)) as tokens:
        texts = [tokens.issue(f"u{n}").text for n in range(50)]
        errors = []

        def verify():
            try:
                for text in texts:
                    tokens.verify(text)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=verify) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(tokens._verified) <= 5


# Bad input.


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "roles", "scope", "sid", "ver"])
async def test_reserved_claims_cannot_be_written_over(clock, name):
    async with manager(clock) as tokens:
        with pytest.raises(ValidationError, match="written by Consona") as caught:
            tokens.issue("u", claims={name: "admin", "fine": 1})
        assert [field.path for field in caught.value.fields] == [f"claims.{name}"]


@pytest.mark.parametrize(
    "more",
    [
        {"subject": ""},
        {"subject": "x" * 256},
        {"subject": 7},
        {"roles": "admin"},
        {"scopes": "read"},
        {"scopes": ["a b"]},
        {"scopes": [""]},
        {"claims": {"x": float("nan")}},
        {"claims": {"x": object()}},
        {"claims": {"x": "\ud800"}},
        {"claims": {1: 2}},
        {"claims": {"x": "y" * 9000}},
        {"version": -1},
        {"session": "s" * 300},
    ],
)
async def test_what_no_reader_would_accept_is_not_issued(clock, more):
    async with manager(clock) as tokens:
        with pytest.raises(ValidationError):
            tokens.issue(**({"subject": "u"} | more))


async def test_a_life_has_its_limits(clock):
    async with manager(clock) as tokens:
        for ttl in (0, -1, 0.5, 86_401, float("inf"), float("nan")):
            with pytest.raises(ConfigurationError, match="lives 1 to 86400 seconds"):
                tokens.issue("u", ttl=ttl)


@pytest.mark.parametrize(
    "more", [{"issuer": ""}, {"audience": []}, {"audience": ["a", ""]}, {"algorithm": "none"}, {"ttl": 0}, {"ttl": 1e9}]
)
def test_a_manager_is_made_with_sensible_arguments(clock, more):
    with pytest.raises(ConfigurationError):
        manager(clock, **more)


@pytest.mark.parametrize(
    "more", [{"leeway": -1}, {"leeway": 301}, {"max_ttl": float("nan")}, {"max_bytes": 1}, {"cache": -1}]
)
def test_settings_are_sensible(more):
    with pytest.raises(ConfigurationError):
        TokenSettings(**more)


async def test_a_manager_is_used_between_start_and_stop(clock):
    tokens = manager(clock)
    for use in (lambda: tokens.issue("u"), lambda: tokens.verify("e30.e30.AA"), tokens.jwks):
        with pytest.raises(NotStarted):
            use()
    async with tokens:
        text = tokens.issue("u").text
    with pytest.raises(NotStarted):
        tokens.verify(text)


claim_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    subject=st.text(min_size=1, max_size=30),
    roles=st.lists(st.text(max_size=10), max_size=4),
    own=st.dictionaries(st.text(max_size=8).map(lambda name: f"x{name}"), claim_values, max_size=4),
)
def test_whatever_is_issued_is_read_again_or_refused_at_once(subject, roles, own):
    tokens = manager(Clock(), KEY)
    tokens._use(tokens._source.load(), None)
    try:
        token = tokens.issue(subject, roles=roles, claims=own)
    except ValidationError:
        return
    claims = tokens.verify(token.text)
    assert (claims.subject, claims.roles) == (subject, frozenset(roles))
    assert claims == token.claims
    assert all(json.dumps(claims.get(name)) == json.dumps(value) for name, value in own.items() if value != -0.0)


KEY = SigningKey.generate(signs_from=0)


# What is seen.


async def test_tokens_enter_no_history_and_no_log(clock, caplog):
    caplog.set_level("DEBUG", "consona")
    async with manager(clock) as tokens:
        token = tokens.issue("user-with-a-name")
        tokens.verify(token.text)
        with pytest.raises(TokenInvalid) as caught:
            tokens.verify(token.text + "AAAA")
    said = f"{tokens.history} {caplog.text} {token} {token!r} {caught.value} {tokens!r} {tokens.detail()}"
    for secret in (token.text, *token.text.split("."), "user-with-a-name"):
        assert secret not in said.replace("subject='user-with-a-name'", "")
    assert [entry.operation for entry in tokens.history] == ["issue", "verify", "verify"]
    assert tokens.stats.errors == {"auth.token_invalid": 1}


async def test_refused_tokens_are_counted_and_are_no_warning(clock, caplog):
    caplog.set_level("INFO", "consona")
    async with manager(clock) as tokens:
        with pytest.raises(TokenInvalid):
            tokens.verify("rubbish")
        assert (tokens.stats.failed, caplog.text) == (1, "")


# Keys.


async def test_the_first_start_makes_the_key_file_and_the_next_uses_it(clock, tmp_path):
    path = tmp_path / "keys.json"
    async with manager(clock, path) as tokens:
        token = tokens.issue("u").text
        [key] = tokens.jwks()["keys"]
        assert (key["alg"], key["crv"], "d" in key) == ("EdDSA", "Ed25519", False)
    async with manager(clock, str(path)) as again:
        assert again.verify(token).subject == "u"
        assert (await again.check()).status is Status.UP


async def test_another_algorithm_than_the_files_is_told(clock, tmp_path):
    path = tmp_path / "keys.json"
    async with manager(clock, path, algorithm="ES256"):
        pass
    with pytest.raises(ConfigurationError, match="is for ES256") as caught:
        await manager(clock, path, algorithm="EdDSA").start()
    assert "rotate --algorithm EdDSA" in caught.value.hint


async def test_a_rotation_ends_no_token_and_other_processes_follow(clock, tmp_path):
    path = tmp_path / "keys.json"
    async with manager(clock, path) as here, manager(clock, path) as there:
        before = here.issue("u").text
        new = await here.rotate()
        clock.now += 1.1
        assert {key["kid"] for key in there.jwks()["keys"]} == {key["kid"] for key in here.jwks()["keys"]}
        assert new in {key["kid"] for key in there.jwks()["keys"]}
        assert kid(there.issue("u").text) != new  # those who verify have not all fetched it
        clock.now += 300
        after = there.issue("u").text
        assert kid(after) == new
        here.verify(before)
        here.verify(after)
        clock.now += 86_400 + 5 + 1
        assert [key["kid"] for key in here.jwks()["keys"]] == [new]


def kid(token):
    import base64

    header = token.partition(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=="))["kid"]


async def test_what_a_removed_key_signed_does_not_count_although_it_is_remembered(clock, tmp_path):
    path = tmp_path / "keys.json"
    async with manager(clock, path) as tokens:
        stolen = tokens.issue("u").text
        new = await tokens.rotate()
        clock.now += 301
        tokens.verify(stolen)
        tokens._source.change(lambda ring: ring.without(kid(stolen)))  # as another process does it
        clock.now += 1.1
        with pytest.raises(TokenInvalid, match="No key of ours"):
            tokens.verify(stolen)
        assert kid(tokens.issue("u").text) == new


async def test_a_key_file_that_is_broken_later_is_told_and_the_known_keys_go_on(clock, tmp_path, caplog):
    path = tmp_path / "keys.json"
    async with manager(clock, path) as tokens:
        token = tokens.issue("u").text
        path.write_text("{")
        for _ in range(3):
            clock.now += 1.1
            assert tokens.verify(token).subject == "u"
        assert caplog.text.count("cannot be used") == 1
        health = await tokens.check()
        assert health.status is Status.DEGRADED
        assert "keys.json" in health.reason
        path.unlink()
        clock.now += 1.1
        assert tokens.verify(token).subject == "u"


async def test_keys_from_the_environment_sign_and_are_not_rotated_here(clock, tmp_path, monkeypatch):
    async with manager(clock, tmp_path / "keys.json"):
        pass
    monkeypatch.setenv("SHOP_KEYS", (tmp_path / "keys.json").read_text())
    async with manager(clock, "env:SHOP_KEYS") as tokens:
        assert tokens.verify(tokens.issue("u").text).subject == "u"
        with pytest.raises(ConfigurationError, match="cannot change"):
            await tokens.rotate()


async def test_a_service_with_the_public_keys_verifies_and_does_not_issue(clock):
    async with manager(clock) as tokens:
        public = [SigningKey.from_jwk(key) for key in tokens.jwks()["keys"]]
        token = tokens.issue("u").text
    async with manager(clock, public) as elsewhere:
        assert elsewhere.verify(token).subject == "u"
        assert (await elsewhere.check()).status is Status.UP
        with pytest.raises(ConfigurationError, match="None of the keys signs"):
            elsewhere.issue("u")


async def test_other_libraries_read_our_tokens_and_we_read_theirs(clock):
    import time

    import jwt as pyjwt
    from joserfc import jwt as joserfc_jwt
    from joserfc.jwk import OctKey

    secret = "a secret of more than thirty-two bytes"
    async with JWTManager(SigningKey.from_secret(secret), issuer="shop") as tokens:
        token = tokens.issue("u", roles=["r"]).text
        read = pyjwt.decode(token, secret, algorithms=["HS256"], audience="shop", issuer="shop")
        assert (read["sub"], read["roles"]) == ("u", ["r"])
        assert joserfc_jwt.decode(token, OctKey.import_key(secret)).claims == read
        now = int(time.time())
        made = pyjwt.encode(
            {"iss": "shop", "aud": "shop", "sub": "v", "iat": now, "exp": now + 60, "jti": "1"},
            secret,
            algorithm="HS256",
            headers={"kid": SigningKey.from_secret(secret).id, "typ": "at+jwt"},
        )
        assert tokens.verify(made).subject == "v"
