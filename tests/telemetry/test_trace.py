"""Traces follow W3C Trace Context, and strangers decide nothing."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consona.telemetry.observer import Observer
from consona.telemetry.trace import (
    UNSAMPLED,
    Sampler,
    Span,
    Tracer,
    activate,
    current_span,
    deactivate,
    extract,
    inject,
)

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # the example of the recommendation


def test_the_recommendations_example_is_read():
    span = extract(VALID, trusted=True)
    assert (f"{span.trace_id:032x}", f"{span.span_id:016x}", span.sampled) == (
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        True,
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    ],
)
def test_a_header_that_breaks_the_format_is_ignored(header):
    assert extract(header, trusted=True) is None


def test_a_later_version_may_say_more():
    assert extract("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", trusted=True) is not None


def test_a_stranger_neither_continues_a_trace_nor_brings_baggage():
    assert extract(VALID, "user=1", trusted=False) is None


@given(st.text(max_size=100))
def test_no_text_breaks_the_reader(text):
    extract(text, text, trusted=True)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        max_size=5,
    )
)
def test_trace_and_baggage_arrive_as_they_were_sent(baggage):
    token = activate(Span(5, 7, baggage=baggage))
    try:
        headers = {}
        inject(headers)
    finally:
        deactivate(token)
    span = extract(headers["traceparent"], headers.get("baggage"), trusted=True)
    assert (span.trace_id, span.span_id, span.sampled, span.baggage) == (5, 7, True, baggage)


def test_an_unsampled_trace_tells_the_next_hop_not_to_sample():
    token = activate(UNSAMPLED)
    try:
        headers = {}
        inject(headers)
    finally:
        deactivate(token)
    assert extract(headers["traceparent"], trusted=True).sampled is False


def test_outside_of_an_operation_nothing_is_injected():
    headers = {}
    inject(headers)
    assert headers == {}


def test_the_sampler_keeps_the_first_of_each_second_and_a_share_of_the_rest():
    now = [100.0]
    chance = iter([0.03, 0.02, 0.5])  # which leaves out three, two, …
    sampler = Sampler(2, 0.01, clock=lambda: now[0], rng=lambda: next(chance))
    kept = [sampler.decide() for _ in range(9)]
    assert kept == [True, True, False, False, False, True, False, False, True]
    now[0] += 1
    assert [sampler.decide() for _ in range(3)] == [True, True, False]


def test_the_share_is_the_one_that_was_asked_for():
    sampler = Sampler(0, 0.1, rng=random.Random(7).random)
    assert sum(sampler.decide() for _ in range(100_000)) == pytest.approx(10_000, rel=0.05)
    assert not any(Sampler(0, 0.0).decide() for _ in range(1000))
    assert all(Sampler(0, 1.0).decide() for _ in range(1000))


def test_children_follow_the_roots_decision_and_know_their_parent():
    tracer = Tracer(Sampler(10**6))
    tracer.collect(on=True)
    part = Observer("db", "sql", tracer=tracer)
    with part.operation("outer"):
        assert current_span() is not None
        with part.operation("inner"):
            pass
    assert current_span() is None
    inner, outer = tracer.drain()
    assert (inner.trace_id, inner.parent_id) == (outer.trace_id, outer.span_id)
    assert (inner.name, outer.name, outer.part, outer.kind, outer.outcome) == ("inner", "outer", "db", "sql", "ok")
    assert outer.start_ns <= inner.start_ns + 1_000_000
    assert outer.duration_ns >= inner.duration_ns


def test_without_a_collector_nothing_is_kept():
    tracer = Tracer(Sampler(10**6))
    with Observer("db", "sql", tracer=tracer).operation("x"):
        assert current_span() is None
    assert tracer.drain() == []


def test_a_remote_parent_is_continued():
    tracer = Tracer(Sampler(0, 0.0))
    tracer.collect(on=True)
    remote = extract(VALID, "a=b", trusted=True)
    with Observer("api", "rest.server", tracer=tracer).operation("GET", "/", parent=remote):
        assert current_span().baggage == {"a": "b"}
    [span] = tracer.drain()
    assert (span.trace_id, span.parent_id) == (remote.trace_id, remote.span_id)


def test_the_buffer_is_bounded_and_what_it_drops_is_counted():
    tracer = Tracer(Sampler(10**6), buffer=10)
    tracer.collect(on=True)
    part = Observer("db", "sql", tracer=tracer)
    for _ in range(25):
        with part.operation("x"):
            pass
    assert (len(tracer.drain()), tracer.dropped) == (10, 15)
