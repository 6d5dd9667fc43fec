"""The filter of common passwords: never misses one, seldom takes another for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.auth.bloom import Bloom


@given(st.sets(st.text(max_size=20), max_size=50))
def test_no_word_of_the_list_is_missed_also_after_writing(words):
    kept = Bloom.read(Bloom.of(words, false_positives=0.01).written())
    assert all(word in kept for word in words)


def test_other_words_are_taken_for_one_as_seldom_as_promised():
    kept = Bloom.of([f"word{n}" for n in range(5000)], false_positives=0.01)
    assert sum(f"other{n}" in kept for n in range(20_000)) < 20_000 * 0.015


@pytest.mark.parametrize("cut", [slice(0, 20), slice(0, -1), slice(1, None)])
def test_a_file_that_is_cut_off_is_refused(cut):
    whole = Bloom.of(["a", "b"], false_positives=0.001).written()
    with pytest.raises(ValueError, match="Bloom filter"):
        Bloom.read((whole + whole)[cut] if cut.stop != 20 else b"x" * 20)
