"""Regular expressions: what they find, and that they end."""

import contextlib
import re
import time

import pytest
from bson import Regex

from consona.documents.errors import OperatorError, PatternTooSlow
from consona.documents.patterns import compile_pattern


@pytest.mark.parametrize(
    ("source", "options", "text", "found"),
    [
        ("art", "", "party", True),
        ("^art", "", "party", False),
        ("ART", "i", "party", True),
        ("É", "i", "café", True),
        ("^b$", "m", "a\nb\nc", True),
        ("^b$", "", "a\nb\nc", False),
        ("a.c", "s", "a\nc", True),
        ("a.c", "", "a\nc", False),
        ("a b # c", "x", "ab", True),
        (r"\d", "", "٣", False),
        (r"\w", "", "é", False),
        (r"(*UCP)\w", "", "é", True),
        (r"[\d-]", "", "-", True),
        (r"\p{Lu}", "", "É", True),
        (r"(?<=a)b", "", "ab", True),
        (r"(a)\1", "", "aa", True),
        ("[[:alpha:]]", "", "1x", True),
        ("[[:alpha:]]", "", "1", False),
        ("a{2}", "", "aa", True),
        ("(?:ab)+c", "", "ababc", True),
        ("", "", "", True),
    ],
)
def test_what_a_pattern_finds(source, options, text, found):
    assert compile_pattern(source, options).found_in(text) is found


def test_compiled_patterns_are_taken_with_their_options():
    assert compile_pattern(re.compile("A", re.IGNORECASE)).found_in("a")
    assert compile_pattern(Regex("A", "i")).found_in("a")
    assert not compile_pattern(re.compile("A")).found_in("a")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("(a|aa)+$", "a" * 60 + "b"),
        ("(a|a)(a|a)(a|a)(a|a)(a|a)" * 8 + "$", "a" * 60),
        ("a?" * 40 + "a" * 40 + "$", "a" * 39 + "b"),
        (".*.*.*.*=.*", "x" * 3000),
        (r"^(\w+\s?)*$", "a word and another word and so on and on!"),
    ],
)
def test_a_catastrophic_pattern_ends_within_its_time(source, text):
    began = time.perf_counter()
    with contextlib.suppress(PatternTooSlow):
        compile_pattern(source).found_in(text)
    assert time.perf_counter() - began < 10  # without a limit: years


def test_the_time_of_a_query_is_for_all_of_its_texts():
    pattern = compile_pattern("(a|aa)+$")
    pattern._time.left_s = 0.0
    with pytest.raises(PatternTooSlow):
        pattern.found_in("a" * 60 + "b")


@pytest.mark.parametrize("source", ["(", "[a", "a{2,1}", "(?<n", "*a", "a" * 40_000, "a\0b", r"\p{Nothing}"])
def test_a_broken_pattern_is_refused(source):
    with pytest.raises(OperatorError, match="regular expression"):
        compile_pattern(source)


def test_an_unknown_option_is_refused():
    with pytest.raises(OperatorError, match="'g' is no option"):
        compile_pattern("a", "g")


@pytest.mark.parametrize(
    ("source", "options", "prefix"),
    [
        ("^abc", "", "abc"),
        ("^abc.*", "", "abc"),
        ("^abc*", "", "ab"),
        ("^ab+", "", "ab"),
        (r"^a\.b\*?", "", "a.b"),
        ("^abc", "i", ""),
        ("abc", "", ""),
        ("^a|b", "", ""),
        ("^[ab]", "", ""),
        (r"^a\d", "", "a"),
    ],
)
def test_the_fixed_beginning_of_a_pattern_is_known(source, options, prefix):
    assert compile_pattern(source, options).prefix == prefix
