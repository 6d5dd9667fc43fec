"""Rings of keys: which one signs, and whose tokens still count."""

from __future__ import annotations

import math

import pytest

from consona.auth.key_ring import KeyRing
from consona.auth.keys import SigningKey
from consona.errors import ConfigurationError


def first(at=0.0, algorithm="EdDSA"):
    return SigningKey.generate(algorithm, signs_from=at)


def test_a_new_key_is_published_before_it_signs_and_the_old_one_counts_after():
    old = first()
    ring = KeyRing.of([old]).rotated(now=1000, lead=300, keep=900)
    new = next(key for key in ring.keys.values() if key.id != old.id)
    assert [ring.signing(now).id for now in (1000, 1299, 1300, 9999)] == [old.id, old.id, new.id, new.id]
    assert {key["kid"] for key in ring.jwks(now=1001)["keys"]} == {old.id, new.id}
    assert ring.find(old.id, 1300 + 900) is not None
    assert ring.find(old.id, 1300 + 901) is None
    assert [key["kid"] for key in ring.jwks(now=2201)["keys"]] == [new.id]


def test_a_second_rotation_does_not_lengthen_the_life_of_the_first_key():
    ring = KeyRing.of([old := first()]).rotated(now=1000, lead=300, keep=900)
    again = ring.rotated(now=1100, lead=300, keep=900)
    assert again.keys[old.id].verifies_until == 2200
    assert len(again.keys) == 3


def test_keys_whose_time_is_over_are_left_out_at_the_next_rotation():
    ring = KeyRing.of([old := first()]).rotated(now=1000, lead=0, keep=900)
    later = ring.rotated(now=5000, lead=0, keep=900)
    assert old.id not in later.keys
    assert len(later.keys) == 2


def test_a_rotation_keeps_the_algorithm_or_changes_it():
    ring = KeyRing.of([first(algorithm="ES256")])
    assert ring.rotated(now=1, lead=0, keep=1).signing(2).algorithm == "ES256"
    assert ring.rotated(now=1, lead=0, keep=1, algorithm="EdDSA").signing(2).algorithm == "EdDSA"


def test_a_written_ring_is_read_again():
    ring = KeyRing.of([first(5.0), first(7.0, "HS256")]).rotated(now=10, lead=0, keep=90)
    again = KeyRing.from_jwks(ring.written())
    assert {key.id: (key.signs_from, key.verifies_until) for key in again.keys.values()} == {
        key.id: (key.signs_from, key.verifies_until) for key in ring.keys.values()
    }
    assert math.inf in {key.verifies_until for key in again.keys.values()}


def test_a_shared_secret_is_never_published():
    assert KeyRing.of([first(algorithm="HS256")]).jwks(now=1) == {"keys": []}


def test_a_key_that_became_known_is_gone_at_once():
    ring = KeyRing.of([old := first(), other := first(1.0)])
    left = ring.without(old.id)
    assert left.find(old.id, 2) is None
    assert left.signing(2).id == other.id
    with pytest.raises(ConfigurationError, match="no key 'x'"):
        ring.without("x")
    with pytest.raises(ConfigurationError, match="1 to 50 keys"):
        left.without(other.id)


def test_public_keys_alone_sign_nothing():
    public = SigningKey.from_jwk(first().jwk())
    ring = KeyRing.of([public])
    with pytest.raises(ConfigurationError, match="None of the keys signs"):
        ring.signing(10)


def test_two_keys_of_one_id_are_refused():
    key = first()
    with pytest.raises(ConfigurationError, match="same id"):
        KeyRing.of([key, key])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "JSON Web Key Set"),
        ({}, "JSON Web Key Set"),
        ({"keys": {}}, "JSON Web Key Set"),
        ({"keys": []}, "1 to 50 keys"),
        ({"keys": ["text"]}, "is an object"),
        ({"keys": [{}]}, "not a JSON Web Key"),
        ({"version": 2, "keys": []}, "format 2"),
        ({"keys": [{"kty": "oct", "k": "c2hvcnQ", "alg": "HS256"}]}, "at least 32 bytes"),
    ],
)
def test_what_is_no_set_of_keys_is_refused(document, words):
    with pytest.raises(ConfigurationError, match=words):
        KeyRing.from_jwks(document)


@pytest.mark.parametrize("key_id", [None, 1, "", "../../etc/passwd", "k' OR '1'='1", "/dev/null", ["a"], {"a": 1}])
def test_an_id_is_compared_and_nothing_more(key_id):
    assert KeyRing.of([first()]).find(key_id, 1) is None
