"""What attackers send instead of a token. Each of these passes somewhere in the world.

Source: RFC 8725, section 2; the lists of CVEs of JWT libraries.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json

import pytest
from cryptography.hazmat.primitives import serialization as ser
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.errors import TokenInvalid
from consona.auth.jws import encode
from consona.auth.jwt_manager import JWTManager
from consona.auth.keys import SigningKey

NOW = 1_800_000_000
KEYS = [SigningKey.generate(name, signs_from=begin) for begin, name in enumerate(("HS256", "RS256", "ES256", "EdDSA"))]
EDDSA = KEYS[-1]
EVIL = SigningKey.generate("EdDSA")


@pytest.fixture
async def tokens():
    async with JWTManager(KEYS, issuer="shop", clock=lambda: NOW) as manager:
        yield manager


def payload(**changes):
    claims = {"iss": "shop", "aud": "shop", "sub": "admin", "iat": NOW, "exp": NOW + 60, "jti": "j"} | changes
    return {name: value for name, value in claims.items() if value is not None}


def forge(key, header=None, body=None, *, sign=True):
    """A token with any header and payload, signed with `key`, as it is written by whoever has that key."""
    header = {"alg": key.algorithm, "kid": key.id, "typ": "at+jwt"} | (header or {})
    body = payload() if body is None else body
    written = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, body)]
    signed = ".".join(encode(part) for part in written)
    return f"{signed}.{encode(key.sign(signed.encode()) if sign else b'')}"


async def test_the_tool_of_these_tests_makes_tokens_that_count(tokens):
    for key in KEYS:
        assert tokens.verify(forge(key)).subject == "admin"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, [], "HS512"])
async def test_no_signature_is_no_signature(tokens, algorithm):
    for key in KEYS:
        signed = forge(key, {"alg": algorithm}).rpartition(".")[0]
        for signature in ("", "AA", encode(b"\0" * 64)):
            with pytest.raises(TokenInvalid):
                tokens.verify(f"{signed}.{signature}")


async def test_a_public_key_is_no_secret(tokens):
    """Algorithm confusion: the public key, which everybody has, as the secret of an HMAC."""
    for key in KEYS[1:]:
        raw = key.key.public_key
        texts = [
            raw.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo),
            raw.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo),
            json.dumps(key.jwk()).encode(),
        ]
        for secret in [*texts, texts[0].strip(), texts[0] + b"\0"]:
            signed = forge(key, {"alg": "HS256"}).rpartition(".")[0]
            forged = f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
            with pytest.raises(TokenInvalid, match="one algorithm"):
                tokens.verify(forged)


async def test_a_key_does_not_answer_to_another_algorithm(tokens):
    for key, other in itertools.permutations(KEYS, 2):
        with pytest.raises(TokenInvalid):
            tokens.verify(forge(key, {"alg": other.algorithm}))
        with pytest.raises(TokenInvalid):
            tokens.verify(forge(key, {"kid": other.id}))
    with pytest.raises(TokenInvalid):
        tokens.verify(forge(KEYS[1], {"alg": "PS256"}))


@pytest.mark.parametrize(
    "kid",
    [
        None,
        "",
        "../../../../dev/null",
        "/etc/passwd",
        "keys.json",
        "' UNION SELECT 'x",
        "k|whoami",
        "http://evil.example/key",
        "\0",
        "й",
        0,
        True,
        [],
        {},
        ["k"],
        "x" * 4000,
    ],
)
async def test_a_key_id_leads_nowhere(tokens, kid):
    with pytest.raises(TokenInvalid, match=r"No key of ours|not a signed token"):
        tokens.verify(forge(EVIL, {"kid": kid}))


async def test_a_key_that_the_token_brings_along_does_not_count(tokens):
    own = EVIL.jwk()
    for header in (
        {"jwk": own},
        {"jwk": own, "kid": None},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"], "x5t": "AA"},
        {"jwk": own, "kid": EDDSA.id},
    ):
        with pytest.raises(TokenInvalid):
            tokens.verify(forge(EVIL, header))


async def test_what_a_good_token_brings_along_is_not_followed(tokens, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("nothing is fetched"))
    assert tokens.verify(forge(EDDSA, {"jku": "https://evil.example/", "jwk": EVIL.jwk()})).subject == "admin"


@pytest.mark.parametrize("crit", [["exp"], ["b64"], []])
async def test_a_critical_extension_is_honoured_by_refusing(tokens, crit):
    with pytest.raises(TokenInvalid, match="crit"):
        tokens.verify(forge(EDDSA, {"crit": crit, "b64": False}))


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "id+jwt", "reset+jwt", "AT+JWT", 1])
async def test_a_token_made_for_something_else_is_not_taken_for_this(tokens, kind):
    with pytest.raises(TokenInvalid, match="another type"):
        tokens.verify(forge(EDDSA, {"typ": kind}))


def json_with_twice(name, value):
    return json.dumps(payload())[:-1].encode() + f',"{name}":{json.dumps(value)}}}'.encode()


async def test_a_claim_that_stands_there_twice_is_refused(tokens):
    """Two readers may pick another one each."""
    for name, value in {"sub": "bob", "exp": NOW + 1, "aud": "bank"}.items():
        with pytest.raises(TokenInvalid, match="twice"):
            tokens.verify(forge(EDDSA, body=json_with_twice(name, value)))
    header = f'{{"alg":"EdDSA","kid":"{EVIL.id}","kid":"{EDDSA.id}","typ":"at+jwt"}}'.encode()
    signed = f"{encode(header)}.{encode(json.dumps(payload()).encode())}"
    with pytest.raises(TokenInvalid, match="twice"):
        tokens.verify(f"{signed}.{encode(EDDSA.sign(signed.encode()))}")


@pytest.mark.parametrize(
    "changes",
    [{name: None} for name in ("iss", "aud", "sub", "iat", "exp", "jti")]
    + [{"exp": value} for value in ("9999999999", True, [], 1e400, 10**400, -1, NOW - 6, 2**44, "never")]
    + [{"nbf": value} for value in (NOW + 6, "now", -1, 10**400)]
    + [{"iat": value} for value in (NOW + 6, "now", [], 10**400)]
    + [{"sub": value} for value in ("", 0, [], {}, "x" * 256)]
    + [{"aud": value} for value in ("", [], ["bank"], [1], {}, "shop ", "SHOP", ["shop", 1])]
    + [{"iss": value} for value in ("", "shop ", "Shop", ["shop"], "sh\u043ep")]
    + [{"roles": value} for value in ("admin", {"admin": True}, [1], 7)]
    + [{"scope": value} for value in (["a"], 1)]
    + [{"ver": value} for value in (-1, "1", True, 1.5, 2**60)]
    + [{"sid": value} for value in ("", 1, [])]
    + [{"jti": value} for value in ("", 1, "x" * 300)],
    ids=str,
)
async def test_a_claim_of_another_kind_is_refused_although_the_signature_is_right(tokens, changes):
    with pytest.raises(TokenInvalid):
        tokens.verify(forge(EDDSA, body=payload(**changes)))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"exp":NaN}', b"\xff", b"{" * 4000], ids=repr)
async def test_a_payload_that_is_no_object_is_refused(tokens, body):
    with pytest.raises(TokenInvalid):
        tokens.verify(forge(EDDSA, body=body))


async def test_a_signature_is_whole_or_wrong(tokens):
    for key in KEYS:
        signed, _, signature = forge(key).rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        wrong = [raw[:n] for n in range(len(raw))] if len(raw) < 100 else [raw[:-1], raw[:100], b""]
        for bad in [*wrong, raw + b"\0", b"\0" + raw, raw * 2, b"\0" * len(raw), bytes(len(raw) * [255])]:
            with pytest.raises(TokenInvalid):
                tokens.verify(f"{signed}.{encode(bad)}")


async def test_an_ecdsa_signature_of_zeros_is_wrong(tokens):
    """CVE-2022-21449: r = s = 0 was right for everything."""
    signed = forge(KEYS[2]).rpartition(".")[0]
    for pair in (b"\0" * 64, b"\0" * 31 + b"\1" + b"\0" * 32):
        with pytest.raises(TokenInvalid, match="signature is wrong"):
            tokens.verify(f"{signed}.{encode(pair)}")


async def test_a_signature_belongs_to_its_token(tokens):
    one, two = forge(EDDSA), forge(EDDSA, body=payload(sub="root"))
    with pytest.raises(TokenInvalid, match="signature is wrong"):
        tokens.verify(f"{two.rpartition('.')[0]}.{one.rpartition('.')[2]}")


@pytest.mark.parametrize("end", ["=", "==", " ", "\n", "\t", ".", "\0", "\u200b", ".e30", ";", ","])
async def test_a_token_with_something_before_or_behind_it_is_another_text(tokens, end):
    for text in (forge(EDDSA) + end, end + forge(EDDSA)):
        with pytest.raises(TokenInvalid):
            tokens.verify(text)


async def test_a_huge_token_costs_nothing(tokens, monkeypatch):
    monkeypatch.setattr(SigningKey, "verify", lambda *_: pytest.fail("its signature was checked"))
    with pytest.raises(TokenInvalid, match="at most 8192"):
        tokens.verify(forge(EDDSA, body=payload(filling="x" * 10_000_000)))


async def test_a_name_that_looks_alike_is_another_name(tokens):
    assert tokens.verify(forge(EDDSA, body=payload(sub="\u0430dmin"))).subject != "admin"  # a Cyrillic a


GOOD = forge(EDDSA)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("ABCXYZabcxyz0189-_. ="))
def test_one_changed_character_makes_it_wrong(place, character):
    import asyncio

    async def main():
        async with JWTManager(KEYS, issuer="shop", clock=lambda: NOW) as tokens:
            changed = GOOD[:place] + character + GOOD[place + 1 :]
            if changed != GOOD:
                with pytest.raises(TokenInvalid):
                    tokens.verify(changed)

    asyncio.run(main())
