"""Keys: one algorithm each, strong enough, and never shown."""

from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from consona.auth.jws import encode
from consona.auth.keys import ALGORITHMS, SigningKey
from consona.errors import ConfigurationError

KEYS = {name: SigningKey.generate(name) for name in ALGORITHMS}


def pem(key, *, private=True):
    if private:
        return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    return key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_a_key_signs_it_recognizes_and_nothing_else(name):
    key = KEYS[name]
    signature = key.sign(b"text")
    assert key.verify(b"text", signature)
    assert not key.verify(b"texT", signature)
    for wrong in (b"", signature[:-1], signature + b"\0", signature[1:] + signature[:1], b"\0" * len(signature)):
        assert not key.verify(b"text", wrong)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_key_is_read_again_as_it_was_written(name):
    key = KEYS[name]
    again = SigningKey.from_jwk(key.jwk(private=True))
    assert (again.id, again.algorithm, again.signs_from) == (key.id, name, key.signs_from)
    assert key.verify(b"text", again.sign(b"text"))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "HS256"])
def test_the_public_half_verifies_and_does_not_sign(name):
    shown = KEYS[name].jwk()
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & shown.keys()
    public = SigningKey.from_jwk(shown)
    assert public.verify(b"text", KEYS[name].sign(b"text"))
    assert not public.can_sign
    with pytest.raises(ConfigurationError, match="can only verify"):
        public.sign(b"text")
    with pytest.raises(ConfigurationError, match="not here"):
        public.jwk(private=True)


def test_a_shared_secret_has_no_public_half():
    with pytest.raises(ConfigurationError, match="no half"):
        KEYS["HS256"].jwk()


@pytest.mark.parametrize("algorithm", ["none", "None", "HS512", "RS1", "", "eddsa", None, 1])
def test_other_algorithms_do_not_exist(algorithm):
    with pytest.raises(ConfigurationError, match="no algorithm"):
        SigningKey.generate(algorithm)
    with pytest.raises(ConfigurationError, match="no algorithm"):
        SigningKey("k", algorithm, KEYS["EdDSA"].key)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("other", ALGORITHMS)
def test_a_key_has_no_other_algorithm(name, other):
    if other == name or {name, other} == {"RS256", "PS256"}:
        return
    with pytest.raises(ConfigurationError, match=r"is none for|not supported"):
        SigningKey("k", other, KEYS[name].key)


def test_an_rsa_key_made_for_one_algorithm_is_refused_for_another():
    members = KEYS["RS256"].jwk(private=True)
    with pytest.raises(ConfigurationError, match="cannot be used for PS256"):
        SigningKey("k", "PS256", SigningKey.from_jwk(members).key)


def test_a_key_for_encryption_does_not_sign():
    with pytest.raises(ConfigurationError, match="cannot be used"):
        SigningKey.from_jwk(KEYS["ES256"].jwk() | {"use": "enc"})


@pytest.mark.parametrize("secret", ["", "hunter2", "x" * 31, b"\xff" * 16])
def test_a_short_secret_is_refused_with_its_length_and_without_itself(secret):
    with pytest.raises(ConfigurationError, match=f"this one has {len(secret)}") as caught:
        SigningKey.from_secret(secret)
    assert not secret or str(secret) not in str(caught.value)


@pytest.mark.parametrize("secret", ["your-super-secret-key-change-in-production", "a" * 40, "abc" * 20])
def test_a_secret_that_everybody_knows_is_refused(secret):
    with pytest.raises(ConfigurationError, match="anybody could sign"):
        SigningKey.from_secret(secret)


def test_a_short_secret_in_a_written_key_is_refused_too():
    with pytest.raises(ConfigurationError, match="at least 32 bytes"):
        SigningKey.from_jwk({"kty": "oct", "k": encode(b"short"), "alg": "HS256"})


def test_all_who_have_a_secret_agree_on_its_id():
    one, two = (SigningKey.from_secret("correct horse battery staple, and more") for _ in range(2))
    other = SigningKey.from_secret("correct horse battery staple, and less")
    assert one.id == two.id != other.id
    assert two.verify(b"text", one.sign(b"text"))


def test_a_public_key_is_never_taken_for_a_secret():
    with pytest.raises(ConfigurationError, match="PEM"):
        SigningKey.from_secret(pem(rsa.generate_private_key(65537, 2048), private=False))


@pytest.mark.filterwarnings("ignore:Key size")  # joserfc warns where we refuse
def test_weak_keys_are_refused():
    with pytest.raises(ConfigurationError, match="at least 2048 bits"):
        SigningKey.from_pem(pem(rsa.generate_private_key(65537, 1024)), algorithm="RS256")
    with pytest.raises(ConfigurationError, match="is none for"):
        SigningKey.from_pem(pem(ec.generate_private_key(ec.SECP384R1())), algorithm="ES256")
    with pytest.raises(ConfigurationError, match="is none for"):
        SigningKey.from_pem(pem(ed448.Ed448PrivateKey.generate()), algorithm="EdDSA")


def test_keys_of_other_programs_are_read():
    key = ed25519.Ed25519PrivateKey.generate()
    ours = SigningKey.from_pem(pem(key), algorithm="EdDSA")
    public = SigningKey.from_pem(pem(key, private=False), algorithm="EdDSA")
    assert ours.id == public.id
    assert public.verify(b"text", key.sign(b"text"))
    with pytest.raises(ConfigurationError, match="not a key for EdDSA"):
        SigningKey.from_pem(b"-----BEGIN NOTHING-----", algorithm="EdDSA")
    with pytest.raises(ConfigurationError, match="no PEM keys"):
        SigningKey.from_pem(pem(key), algorithm="HS256")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["kty", "alg", "kid", "k", "crv", "x", "y", "d", "n", "e", "use", "key_ops", "signs_from"])
kinds = st.sampled_from(["oct", "RSA", "EC", "OKP", "P-256", "Ed25519", "HS256", "EdDSA", "sig", encode(b"k" * 32)])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(names, kinds | json_values, max_size=8))
def test_any_object_is_a_key_or_refused_and_nothing_else(members):
    try:
        key = SigningKey.from_jwk(members)
    except ConfigurationError:
        return
    assert key.algorithm in ALGORITHMS


def test_a_key_never_shows_itself():
    key = KEYS["HS256"]
    assert repr(key) == f"SigningKey({key.id!r}, 'HS256', private)"
    with pytest.raises(TypeError):
        pickle.dumps(KEYS["EdDSA"])
