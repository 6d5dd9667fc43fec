"""Which passwords may be chosen: long ones that strangers do not guess."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.password_rules import PasswordRefused, PasswordRules, normalized, password_rules
from consona.errors import ConfigurationError

NIST = PasswordRules()
CHAPTER = password_rules("chapter")


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "fifteen letters",
        "ein Satz, den ich mir merke",
        "длинный пароль из слов",
        "長い合言葉はとても長い合言葉です",
        "🐎🔋📎🐎🔋📎🌳🌲🌵🌴🌱🌿🍀🍁🍂",
        "a" * 20 + " but with more behind",
        "x" * 500 + "yz1",
    ],
)
def test_a_long_password_of_any_characters_may_be_chosen(password):
    assert NIST.problems(password, names=["alice", "alice@example.org"]) == []


def test_eight_characters_are_enough_with_a_second_factor():
    assert NIST.problems("vK8#rT2w") == ["It has 8 characters; at least 15 are needed."]
    assert NIST.problems("vK8#rT2w", second_factor=True) == []
    assert NIST.problems("vK8#rT2", second_factor=True) != []


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PassWord",
        "football1",
        "iloveyou",
        "passwordpassword",
        "monkeymonkeymonkey",
        "123456789012345",
        "987654321098765",
        "abcdefghijklmnopq",
        "zyxwvutsrqponmlk",
        "qwertyuiopasdfghjkl",
        "1qaz2wsx3edc4rfv",
        "aaaaaaaaaaaaaaaaaa",
        "abababababababab",
        "               ",
        "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",  # full-width letters
    ],
)
def test_what_everybody_tries_first_is_refused(password):
    assert "It is one that everybody tries first." in NIST.problems(password, second_factor=True)


@pytest.mark.parametrize(
    "password", ["alice.liddell", "Alice.Liddell2024", "123alice.liddell!!!", "lleddil.ecila", "storefrontstorefront"]
)
def test_a_name_that_others_know_is_refused(password):
    names = ["alice", "alice.liddell@example.org", "storefront"]
    assert "It is a name that others know." in NIST.problems(password, names=names, second_factor=True)


def test_a_name_within_a_sentence_is_no_fault():
    assert NIST.problems("alice went down the hole", names=["alice"]) == []


def test_an_empty_or_short_name_forbids_nothing():
    assert NIST.problems("ab and many more words", names=["", "ab", "@", "a@b"]) == []


@pytest.mark.parametrize(
    "password", ["with a \0 in the middle", "and a line\nbreak in it", "half \ud83d of a character"]
)
def test_characters_that_cannot_be_used_are_told(password):
    assert NIST.problems(password) == ["It has a character that cannot be used: a control character, or none at all."]


def test_a_password_has_a_longest_size():
    assert NIST.problems("word " * 200) == []
    assert NIST.problems("word " * 201) == ["It has more than 1000 characters."]


def test_the_length_is_that_of_the_normal_form():
    assert NIST.problems("e\u0301" * 7)[0] == "It has 7 characters; at least 15 are needed."


# The chapter's rules.


@pytest.mark.parametrize("password", ["AlicePass123!", "BobSecure456#", "CharlieStrong789$", "NewBobPass789!"])
def test_the_chapters_passwords_follow_the_chapters_rules(password):
    assert CHAPTER.problems(password, names=["alice", "bob", "charlie"]) == []


def test_the_chapters_rules_are_told_one_by_one():
    assert CHAPTER.problems("vkrtw") == [
        "It has 5 characters; at least 8 are needed.",
        "It needs a special character.",
        "It needs a number.",
        "It needs an uppercase letter.",
    ]


def test_what_everybody_tries_first_is_refused_by_the_chapters_rules_too():
    assert CHAPTER.problems("P@ssw0rd") == ["It is one that everybody tries first."]


# How it is told.


def test_all_reasons_are_told_and_the_password_is_not():
    with pytest.raises(PasswordRefused) as caught:
        CHAPTER.check("hunter2")
    error = caught.value
    assert [field.path for field in error.fields] == ["password"] * len(CHAPTER.problems("hunter2"))
    assert "hunter2" not in f"{error} {error.fields} {error.context}"
    assert (error.code, error.status) == ("auth.password_refused", 422)


def test_check_gives_the_normal_form():
    assert NIST.check("Cafe\u0301 au lait s'il vous plai\u0302t") == "Café au lait s'il vous plaît"


@given(st.text(max_size=60))
def test_any_text_is_judged_and_the_normal_form_is_stable(text):
    problems = NIST.problems(text, names=[text[:5]])
    if not problems:
        plain = normalized(text)
        assert normalized(plain) == plain == unicodedata.normalize("NFKC", text)
        assert normalized(unicodedata.normalize("NFD", text)) == plain


@pytest.mark.parametrize("more", [{"min_length": 7}, {"min_length": 65}, {"min_length_with_second_factor": 0}])
def test_rules_are_sensible(more):
    with pytest.raises(ConfigurationError):
        PasswordRules(**({"min_length_with_second_factor": 8} | more))


def test_rules_have_names():
    assert password_rules("nist") == NIST
    assert password_rules(CHAPTER) is CHAPTER
    with pytest.raises(ConfigurationError, match="no password rules"):
        password_rules("secure")
