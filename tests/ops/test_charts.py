"""What charts draw, and that it is said in words too."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from consona.ops.charts import HEIGHT, WIDTH, bars, latency_chart, nice_ceiling, rate_chart
from consona.ops.views import LONG, steps
from ops_tools import NOW, figures, point, span


def drawn(*points):
    return steps(points, until=NOW, window=LONG)


def test_the_highest_value_is_said_and_drawn_below_the_top():
    chart = rate_chart(
        drawn(point(100, figures(ok=300)), point(50, figures(ok=90, failed=60))), window=LONG, noun="Requests"
    )
    assert chart.summary == "Requests per second: 0 last, 20.0 at most; failed: 4 per second at most"
    assert chart.ticks == ["20", "10", "0"]
    assert [line.name for line in chart.lines] == ["Requests", "failed"]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", chart.lines[0].path)]
    assert min(heights) == 0.0
    assert max(heights) == HEIGHT


def test_without_failures_no_line_stands_for_them():
    chart = rate_chart(drawn(point(100, figures(ok=300))), window=LONG, noun="Requests")
    assert [line.name for line in chart.lines] == ["Requests"]
    assert chart.summary.endswith("failed: none")


def test_where_nothing_finished_the_line_of_durations_has_a_gap():
    chart = latency_chart(drawn(point(700, figures(ok=9, seconds=0.2)), point(100, figures(ok=9, seconds=0.1))))
    assert chart.lines[0].path.count("M") == 2
    assert chart.summary.startswith("duration: p50 ")


def test_an_empty_chart_says_so():
    chart = latency_chart(drawn())
    assert chart.summary == "duration: nothing finished"
    assert chart.lines[0].path == ""


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_the_axis_ends_above_the_value_and_not_far_above(value):
    assert value * 0.999 <= nice_ceiling(value) <= value * 1.51


@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_no_line_leaves_its_chart(counts):
    chart = rate_chart(drawn(*(point(15 * n + 15, figures(ok=c)) for n, c in enumerate(counts))), window=LONG, noun="x")
    for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", chart.lines[0].path):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT


def test_a_waterfall_puts_each_operation_below_the_one_that_called_it():
    rows = bars(
        [
            span("3", "2", name="grandchild", start=0.3, seconds=0.1),
            span("1", name="root", start=0.0, seconds=1.0),
            span("4", "1", name="second child", start=0.6, seconds=0.4),
            span("2", "1", name="first child", start=0.25, seconds=0.25),
        ]
    )
    assert [(row.span.name, row.depth) for row in rows] == [
        ("root", 0),
        ("first child", 1),
        ("grandchild", 2),
        ("second child", 1),
    ]
    assert [round(row.left) for row in rows] == [0, 250, 300, 600]
    assert [round(row.width) for row in rows] == [1000, 250, 100, 400]
    assert [round(row.start, 3) for row in rows] == [0.0, 0.25, 0.3, 0.6]


def test_an_operation_whose_caller_was_not_reported_is_shown_and_marked():
    rows = bars([span("2", "1", name="orphan"), span("3", "2", name="its child")])
    assert [(row.span.name, row.depth, row.orphan) for row in rows] == [("orphan", 0, True), ("its child", 1, False)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=10))
def test_every_span_is_drawn_once_within_the_chart(shape):
    spans = [
        span(f"{n + 1}", f"{min(parent, n)}" if parent and n else "", start=start / 1e9, seconds=length / 1e9)
        for n, (parent, start, length) in enumerate(shape)
    ]
    rows = bars(spans)
    assert sorted(row.span.span_id for row in rows) == sorted(s.span_id for s in spans)
    assert all(row.left >= 0 and row.left + row.width <= 1000.01 and row.width > 0 for row in rows)
