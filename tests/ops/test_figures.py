"""What figures promise: they add over processes and subtract over time."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from consona.ops.figures import Figures
from consona.telemetry.observer import Observer

counts = st.integers(0, 1000)
all_figures = st.builds(
    Figures,
    started=counts,
    succeeded=counts,
    failed=counts,
    cancelled=counts,
    errors=st.dictionaries(st.sampled_from(["connect", "deadline_exceeded"]), st.integers(1, 50)),
    counts=st.dictionaries(st.integers(0, 1471), st.integers(1, 50), max_size=8),
    sum_ns=counts,
)


@given(all_figures, all_figures)
def test_what_was_added_is_what_is_left_after_subtracting(before, since):
    assert (before + since) - before == since


@given(all_figures)
def test_figures_survive_being_stored(figures):
    assert msgspec.json.decode(msgspec.json.encode(figures), type=Figures) == figures


def test_a_copy_of_a_series_says_what_the_series_says():
    observer = Observer("api", "rest.server")
    for fails in (False, True, False):
        with observer.operation("GET", "/") as op:
            if fails:
                op.fail("connect")
    open_operation = observer.operation("GET", "/")
    with open_operation:
        figures = Figures.of(observer.series("GET", "/"))
        assert (figures.total, figures.succeeded, figures.failed, figures.in_flight) == (3, 2, 1, 1)
    assert figures.errors == {"connect": 1}
    assert figures.percentile(50) > 0


def test_the_copy_does_not_change_with_the_series():
    observer = Observer("api", "rest.server")
    figures = Figures.of(observer.series("GET", "/"))
    with observer.operation("GET", "/"):
        pass
    assert figures == Figures()


def test_a_refusal_is_told_apart_from_a_fault():
    figures = Figures(10, 0, 10, 0, {"http.404": 2, "api.422": 1, "not_found": 1, "http.503": 3, "connect": 3})
    assert (figures.refused, figures.fault_share) == (4, 0.6)
    assert Figures(2, 1, 1, 0, {"http.500": 1}).refused == 0


def test_nothing_finished_is_no_share_and_no_duration():
    assert (Figures().failed_share, Figures().percentile(99), Figures().in_flight) == (0.0, 0.0, 0)
