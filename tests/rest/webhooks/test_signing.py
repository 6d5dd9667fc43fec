"""Webhook signatures: the public vectors, and everything that must not pass."""

from __future__ import annotations

import base64
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.errors import ConfigurationError, MissingExtra
from consona.rest.server.problems import BodyTooLarge
from consona.rest.webhooks import SignatureMissing, SignatureWrong, TimestampRefused, new_secret, sign, verify
from consona.rest.webhooks.ed25519 import new_key_pair
from consona.rest.webhooks.signing import MAX_BODY_BYTES, read_keys

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = 1614265330.0

# From the reference libraries of the specification (Apache-2.0, MIT):
# https://github.com/standard-webhooks/standard-webhooks, commit b2fa7b8719fb75d326b591077f5d1b385cfcdfae.
VECTORS = {
    "libraries/python/tests/test_webhooks.py, test_sign_function": (
        SECRET,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        BODY,
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    "libraries/rust/src/lib.rs, test_sign": (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
}


def signed(body=BODY, secrets=SECRET, *, id="msg_1", at=NOW):
    return sign(body, secrets, id=id, timestamp=at)


def check(headers, body=BODY, secrets=SECRET, *, now=NOW, **options):
    return verify(headers, body, secrets, clock=lambda: now, **options)


@pytest.mark.parametrize("source", VECTORS)
def test_the_vectors_of_the_reference_libraries(source):
    secret, name, at, body, signature = VECTORS[source]
    headers = sign(body, secret, id=name, timestamp=at)
    assert headers == {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": signature}
    assert check(headers, body, secret, now=at).id == name


def test_the_key_pair_of_rfc_8032():
    """Section 7.1, TEST 1: what its private key signs, its public key verifies."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    written = [f"{kind}_{base64.b64encode(raw).decode()}" for kind, raw in (("whsk", seed), ("whpk", public))]
    [private_key], [public_key] = read_keys(written[0]), read_keys(written[1])
    # The same section's signature of the empty message.
    assert private_key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
    headers = signed(secrets=written[0])
    assert headers["webhook-signature"].startswith("v1a,")
    assert check(headers, secrets=written[1]).body == BODY
    with pytest.raises(ConfigurationError, match="can only verify"):
        public_key.sign(b"")


@given(body=st.binary(max_size=2000), id=st.from_regex(r"\A[!-\-/-~]{1,256}\Z"), at=st.integers(0, 10**11))
def test_what_was_signed_is_verified(body, id, at):
    seen = check(sign(body, SECRET, id=id, timestamp=at), body, now=at)
    assert (seen.id, seen.timestamp.timestamp(), seen.body) == (id, at, body)


@given(place=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7))
def test_a_body_that_differs_in_one_bit_is_refused(place, bit):
    changed = bytearray(BODY)
    changed[place] ^= 1 << bit
    with pytest.raises(SignatureWrong):
        check(signed(), bytes(changed))


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1614265331"},
        {"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,?? v1,=== nonsense"},
        {"webhook-signature": "v1,é"},
    ],
)
def test_a_changed_header_is_refused(change):
    with pytest.raises(SignatureWrong):
        check({**signed(), **change})


def test_a_signature_counts_only_under_its_own_version():
    shared = signed()["webhook-signature"].removeprefix("v1,")
    with pytest.raises(SignatureWrong):
        check({**signed(), "webhook-signature": f"v1a,{shared} v2,{shared} ,{shared}"})


def test_the_secret_of_another_is_refused():
    with pytest.raises(SignatureWrong) as caught:
        check(signed(), secrets=new_secret())
    assert SECRET not in str(caught.value)


def test_while_a_secret_is_exchanged_either_side_may_be_the_first_to_know_the_new_one():
    old, new, other = new_secret(), new_secret(), new_secret()
    assert check(signed(secrets=[new, old]), secrets=old)  # the sender was first
    assert check(signed(secrets=old), secrets=[new, old])  # the receiver was first
    with pytest.raises(SignatureWrong):
        check(signed(secrets=[new, old]), secrets=other)


def test_shared_secrets_and_key_pairs_go_together():
    private, public = new_key_pair()
    headers = signed(secrets=[SECRET, private])
    assert [part.partition(",")[0] for part in headers["webhook-signature"].split()] == ["v1", "v1a"]
    assert check(headers, secrets=SECRET)
    assert check(headers, secrets=public)
    with pytest.raises(SignatureWrong):
        check(headers, secrets=new_key_pair()[1])


def test_only_so_many_signatures_are_looked_at():
    wrong = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="
    right = signed()["webhook-signature"]
    assert check({**signed(), "webhook-signature": " ".join([wrong] * 15 + [right])})
    with pytest.raises(SignatureWrong):
        check({**signed(), "webhook-signature": " ".join([wrong] * 16 + [right])})


@pytest.mark.parametrize(("late", "words"), [(301, "301 s ago"), (-301, "301 s in the future")])
def test_a_clock_that_is_more_than_five_minutes_off_is_refused_and_named(late, words):
    with pytest.raises(TimestampRefused, match=words):
        check(signed(), now=NOW + late)


@pytest.mark.parametrize("late", [300, -300])
def test_a_clock_that_is_five_minutes_off_is_tolerated(late):
    assert check(signed(), now=NOW + late)


def test_the_tolerance_can_be_chosen():
    with pytest.raises(TimestampRefused):
        check(signed(), now=NOW + 11, tolerance=10)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_must_be_there_once(name):
    headers = signed()
    with pytest.raises(SignatureMissing, match=f"no header {name}"):
        check({key: value for key, value in headers.items() if key != name})
    with pytest.raises(SignatureMissing, match=f"more than one header {name}"):
        check([*headers.items(), (name, headers[name])])


@pytest.mark.parametrize("at", ["", "now", "1614265330.5", "-1", "+1614265330", "١٦١٤٢٦٥٣٣٠", "9" * 13])
def test_a_time_that_is_no_number_of_seconds_is_refused(at):
    with pytest.raises(SignatureMissing, match="webhook-timestamp"):
        check({**signed(), "webhook-timestamp": at})


@pytest.mark.parametrize("id", ["", "a.b", "a b", "a\n", "é", "x" * 257])
def test_an_id_that_could_be_taken_for_another_part_is_refused(id):
    with pytest.raises(SignatureMissing, match="webhook-id"):
        check({**signed(), "webhook-id": id})
    with pytest.raises(ConfigurationError, match="id of a webhook"):
        sign(BODY, SECRET, id=id)


def test_headers_may_come_as_asgi_has_them_and_in_any_case():
    assert check([(name.upper().encode(), value.encode()) for name, value in signed().items()])
    assert check({name.title(): value for name, value in signed().items()})


def test_a_giant_body_is_neither_signed_nor_verified():
    giant = b"x" * (MAX_BODY_BYTES + 1)
    with pytest.raises(BodyTooLarge):
        sign(giant, SECRET, id="msg_1")
    with pytest.raises(BodyTooLarge):
        check(signed(), giant)
    with pytest.raises(BodyTooLarge):
        check(signed(), max_bytes=len(BODY) - 1)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_ABCD",
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa*w",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsk_" + base64.b64encode(b"x" * 64).decode(),
        7,
    ],
)
def test_a_malformed_secret_is_a_configuration_error_that_does_not_tell_it(secret):
    with pytest.raises(ConfigurationError, match="secret 2") as caught:
        sign(BODY, [SECRET, secret], id="msg_1")
    assert not secret or str(secret) not in str(caught.value)


def test_no_secret_at_all_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="at least one secret"):
        verify(signed(), BODY, [])


@pytest.mark.parametrize("text", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr=="])
def test_the_padding_of_a_secret_may_be_left_out(text):
    assert check(signed(secrets="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr=="), secrets=f"whsec_{text}")


def test_without_its_package_a_key_pair_says_what_to_install(monkeypatch):
    private, _ = new_key_pair()
    monkeypatch.delitem(sys.modules, "consona.rest.webhooks.ed25519")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingExtra, match=r"consona\[webhooks\]"):
        signed(secrets=private)
    assert signed(secrets=SECRET)
