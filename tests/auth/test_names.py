"""Names: two that a person could take for one another are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.names import address_key, email_key, name_key
from consona.errors import ValidationError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice", "ALICE"),
        ("alice", "\uff41lice"),  # a full-width a
        ("caf\u00e9", "cafe\u0301"),
        ("scope", "\u0455\u0441\u043e\u0440\u0435"),  # all Cyrillic
        ("stra\u00dfe", "STRASSE"),
        ("paypai", "paypa\u0131"),  # without its dot
        ("\u03bf\u03c1\u03bf", "opo"),  # Greek
    ],
)
def test_names_that_look_alike_are_the_same(one, other):
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    "name", ["alice", "Alice2", "a.b-c_d", "J\u00fcrgen", "\u4f60\u597d", "\u0438\u0432\u0430\u043d", "7of9"]
)
def test_names_of_any_script_are_taken(name):
    assert name_key(name)
    assert name_key(name) != name_key(name + "7")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a" * 65,
        "a\x00",
        "a\n",
        "a\u200bb",
        "a\u202eb",
        "a@b",
        "a/b",
        "<a>",
        ".a",
        "-a",
        "́a",
        "a�",
        f"{chr(0x430)}lice",
        f"{chr(0x3B1)}lice",
        f"b{chr(0x43E)}b",
    ],  # mixed scripts
)
def test_other_names_are_refused_and_told_why(name):
    with pytest.raises(ValidationError) as caught:
        name_key(name)
    assert caught.value.fields[0].path == "name"


@given(st.text(max_size=70))
def test_any_text_is_a_name_or_refused_and_its_key_is_stable(text):
    try:
        key = name_key(text)
    except ValidationError:
        return
    assert name_key(text.upper()) == name_key(text.lower()) or text.upper().lower() != text.lower()
    assert len(key) <= 200


@pytest.mark.parametrize(
    "email", ["ada@example.org", "a.b+c@x-y.example.co", "\u00fc@b\u00fccher.example", "o'neil@a.io"]
)
def test_addresses_are_taken(email):
    assert email_key(email) == email_key(email.upper())


@pytest.mark.parametrize(
    "email",
    [
        "",
        "a",
        "@",
        "a@",
        "@b.c",
        "a@b",
        "a@@b.c",
        "a b@c.d",
        "a@b..c",
        "a@-b.c",
        "a@b-.c",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.d",
        "a@b.c\nBcc: x@y.z",
        "a\r@b.c",
        '"a"@b.c',
        "a@b.c,d@e.f",
        "a@[127.0.0.1]",
        "a" * 65 + "@b.c",
        "a@" + "b" * 64 + ".c",
        "a@" + "b." * 130 + "c",
        "a@b.c>",
        "a\x00@b.c",
    ],
)
def test_what_is_no_address_is_refused(email):
    with pytest.raises(ValidationError):
        email_key(email)


def test_a_whole_network_of_ipv6_counts_as_one_address():
    assert address_key("2001:db8:1:2:3::1") == address_key("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert address_key("2001:db8:1:3::1") != address_key("2001:db8:1:2::1")
    assert address_key("10.0.0.1") == "10.0.0.1"
    assert address_key("::::") == "::::"
    assert address_key("") == ""
