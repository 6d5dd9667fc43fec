"""Tokens as text: one way to write each, everything else is refused before it is believed."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consona.auth.errors import TokenInvalid
from consona.auth.jws import encode, read_compact, read_object


def part(value) -> str:
    return encode(value if isinstance(value, bytes) else json.dumps(value).encode())


def test_a_token_comes_apart_into_what_was_written():
    header, payload = part({"alg": "EdDSA", "kid": "k"}), part({"sub": "ada"})
    compact = read_compact(f"{header}.{payload}.{part(b'signature')}")
    assert (compact.algorithm, compact.key_id, compact.signature) == ("EdDSA", "k", b"signature")
    assert compact.signed == f"{header}.{payload}".encode()
    assert json.loads(compact.payload) == {"sub": "ada"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "e30.e30.",
        "e30..AA",
        ".e30.AA",
        "e30.e30.AA.AA",
        "e30.e30.AA\n",
        " e30.e30.AA",
        "e30=.e30.AA",  # padding
        "e3+.e30.AA",  # the alphabet of plain base64
        "e30.e30.ÄÖ",
        "e30.e30.\u0661\u0662",
        "e30\x00.e30.AA",
        "A.e30.AA",  # one character is no byte
    ],
)
def test_what_is_not_three_parts_of_base64url_is_no_token(token):
    with pytest.raises(TokenInvalid):
        read_compact(token)


def test_bits_that_belong_to_no_byte_must_be_zero():
    assert read_compact("e30.e30.AA").signature == b"\x00"
    with pytest.raises(TokenInvalid, match="one form"):
        read_compact("e30.e30.AB")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'"text"',
        b"null",
        b'{"alg":"none","alg":"EdDSA"}',
        b'{"alg":"EdDSA","x":{"a":1,"a":2}}',
        b'{"alg":NaN}',
        b'{"alg":Infinity}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{" + b'"a":{' * 3000,
        b"[" * 3000,
        b'{"n":' + b"9" * 5000 + b"}",
    ],
)
def test_a_header_that_is_not_one_plain_object_is_refused(header):
    with pytest.raises(TokenInvalid):
        read_compact(f"{encode(header)}.e30.AA")


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp", None, 1])
def test_a_token_that_demands_an_extension_is_refused(crit):
    with pytest.raises(TokenInvalid, match="crit"):
        read_compact(f"{part({'alg': 'EdDSA', 'crit': crit, 'exp': 1})}.e30.AA")


def test_a_token_has_a_longest_size():
    token = f"e30.e30.{encode(b'x' * 9000)}"
    with pytest.raises(TokenInvalid, match="at most 8192"):
        read_compact(token)
    assert len(read_compact(token, max_bytes=20_000).signature) == 9000


@given(st.binary(min_size=1, max_size=200))
def test_what_is_encoded_is_read_again(data):
    assert read_compact(f"e30.e30.{encode(data)}").signature == data
    assert encode(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{0,20}(\.[A-Za-z0-9_-]{0,20}){0,4}", fullmatch=True))
@example("e30.e30.AA")
def test_any_text_is_a_token_or_refused_and_nothing_else(text):
    try:
        compact = read_compact(text)
    except TokenInvalid:
        return
    rebuilt = f"{compact.signed.decode()}.{encode(compact.signature)}"
    assert rebuilt == text


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_refused_and_nothing_else(data):
    with contextlib.suppress(TokenInvalid):
        assert isinstance(read_object(data, "payload"), dict)


def test_the_refusal_shows_nothing_of_the_token():
    secret = part({"password": "hunter2"})
    with pytest.raises(TokenInvalid) as caught:
        read_compact(f"{secret}!.{secret}.{secret}")
    assert secret not in str(caught.value)
