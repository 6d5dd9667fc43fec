"""The histogram's stated error holds for any durations, and it merges."""

import math

from hypothesis import given
from hypothesis import strategies as st

from consona.telemetry.histogram import MAX_NS, Histogram, bucket_middle, bucket_of

durations = st.lists(st.integers(0, MAX_NS), min_size=1, max_size=200)


def of(values):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.integers(1, MAX_NS))
def test_a_bucket_stands_for_its_values_within_one_part_in_64(value):
    assert abs(bucket_middle(bucket_of(value)) - value) <= value / 64


@given(st.integers(0, MAX_NS - 1))
def test_buckets_are_in_the_order_of_their_values(value):
    assert bucket_of(value) <= bucket_of(value + 1) <= bucket_of(value) + 1


@given(durations, st.floats(0, 100))
def test_percentiles_are_within_the_stated_error_of_the_exact_ones(values, percent):
    rank = max(1, math.ceil(percent / 100 * len(values)))
    exact = sorted(values)[rank - 1]
    assert abs(of(values).percentile(percent) * 1e9 - exact) <= exact / 64 + 1e-3


@given(durations, durations)
def test_two_histograms_merged_are_the_histogram_of_both(first, second):
    merged, both = of(first) + of(second), of(first + second)
    assert (merged.counts, merged.total, merged.sum_ns) == (both.counts, both.total, both.sum_ns)


@given(durations, durations)
def test_the_difference_to_a_copy_is_what_came_since(first, second):
    histogram = of(first)
    earlier = histogram.copy()
    for value in second:
        histogram.record(value)
    since, alone = histogram - earlier, of(second)
    assert (since.counts, since.total, since.sum_ns) == (alone.counts, alone.total, alone.sum_ns)


def test_memory_is_bounded_whatever_comes():
    assert bucket_of(10**30) == bucket_of(MAX_NS) < 1472
    assert bucket_of(-5) == 0


def test_an_empty_histogram_answers_zero():
    assert (Histogram().percentile(99), Histogram().mean) == (0.0, 0.0)


@given(durations)
def test_cumulative_counts_never_fall_and_end_with_all(values):
    counts = [count for _, count in of(values).cumulative((0.001, 1.0, 60.0, math.inf))]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)
