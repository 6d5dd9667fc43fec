from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consona.resilience.keyed import Keyed


def test_the_key_that_was_unused_for_longest_is_forgotten():
    table = Keyed(lambda key: [key], max_keys=2)
    table.get("a"), table.get("b"), table.get("a"), table.get("c")
    assert [key for key, _ in table.latest(10)] == ["c", "a"]


def test_a_key_keeps_its_state():
    table = Keyed(lambda key: [key], max_keys=2)
    assert table.get("a") is table.get("a")


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.sets(st.integers(0, 50), max_size=3))
def test_it_stays_bounded_and_keeps_what_is_busy(keys, max_keys, busy):
    table = Keyed(int, max_keys=max_keys, busy=lambda number: number in busy)
    for key in keys:
        table.get(str(key))
        assert len(table) <= max_keys + len(busy) + 1
    kept = {number for _, number in table.latest(100)}
    assert busy & set(keys) <= kept
