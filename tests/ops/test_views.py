"""How the dashboard judges a system, and what it counts as the last minute."""

from __future__ import annotations

import pytest

from consona.ops.views import LONG, SHORT, minute_start, operations, overview, steps
from ops_tools import NOW, figures, part, point, process, series

OPEN = '{"policy": {"keys": {"pay": {"breaker": {"state": "open", "opened": 1, "next_probe_in": 4.0}}}}}'


def seen(processes=None, parts=None, points=()):
    return overview(processes or [process()], [part()] if parts is None else parts, points, now=NOW)


def test_a_system_whose_processes_report_works():
    shown = seen()
    assert (shown.state, shown.troubles) == ("working", [])


@pytest.mark.parametrize(
    ("given", "state", "trouble"),
    [
        ({"parts": [part(status="degraded", reason="stale")]}, "degraded", "shop: api is degraded: degraded: stale"),
        ({"parts": [part(status="down", reason="no disk")]}, "down", "shop: api is down: down: no disk"),
        (
            {"parts": [part(), part("db", "sql", status="down")]},
            "degraded",
            "shop: db is down: down",
        ),
        (
            {"parts": [part(detail=OPEN)]},
            "degraded",
            "shop: api is degraded: breaker for pay: open, opened once, tried again in 4 s",
        ),
        (
            {"points": [point(20, figures(ok=90, failed=10))]},
            "degraded",
            "shop: api is degraded: 10 % of its operations failed in the last minute",
        ),
        (
            {"processes": [process(seen=NOW - 30)]},
            "down",
            "shop: none of its processes reports any more",
        ),
        (
            {"processes": [process(), process(id="p0", seen=NOW - 30)]},
            "degraded",
            "shop: 1 process ended without a word in the last two minutes",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(given, state, trouble):
    shown = seen(**given)
    assert (shown.state, shown.troubles) == (state, [trouble])


@pytest.mark.parametrize(
    "given",
    [
        {"points": [point(20, figures(ok=5, failed=5))]},  # too few to say anything about a share
        {"points": [point(20, figures(ok=99, failed=1))]},
        {"points": [point(20, figures(ok=50, failed=50, errors={"http.404": 49, "http.500": 1}))]},
        {"points": [point(90, figures(failed=100))]},  # longer ago than a minute
        {"processes": [process(), process(id="p0", seen=NOW - 30, stopped=NOW - 30)]},
        {"processes": [process(), process(id="p0", seen=NOW - 130)]},  # was replaced a while ago
    ],
)
def test_what_is_no_trouble_is_not_called_one(given):
    assert seen(**given).state == "working"


def test_a_system_that_was_stopped_is_stopped_not_down():
    shown = seen([process(seen=NOW - 300, stopped=NOW - 300)], [part(status="stopped")])
    assert (shown.state, shown.troubles) == ("stopped", [])


def test_nothing_reported_is_no_service():
    assert overview([], [], [], now=NOW).services == []


def test_the_figures_of_all_processes_add_up():
    shown = seen(
        [process(id="p1"), process(id="p2"), process(id="p3", seen=NOW - 300, stopped=NOW - 300)],
        [
            part(process="p1", shows=figures(ok=10, in_flight=1)),
            part(process="p2", shows=figures(ok=20, failed=2, in_flight=2)),
            part(process="p3", shows=figures(ok=5, in_flight=4), status="stopped"),
        ],
        [point(10, figures(ok=30), process="p1"), point(50, figures(ok=30), process="p2")],
    )
    [view] = shown.parts
    assert (view.whole.succeeded, view.whole.failed) == (35, 2)
    assert view.in_flight == 3  # what ended has nothing under way
    assert view.rate == pytest.approx(1.0, rel=0.1)


def test_the_rate_of_a_young_process_is_over_its_own_age():
    shown = seen([process(started=NOW - 10)], points=[point(5, figures(ok=100))])
    assert shown.parts[0].rate == pytest.approx(10.0)


def test_the_entrance_is_where_requests_arrive():
    server, client = part(), part("pay", "rest.client")
    assert [p.name for p in seen(parts=[client, server]).entrance] == ["api"]
    assert [p.name for p in seen(parts=[client]).entrance] == ["pay"]


def test_parts_of_one_name_are_told_apart_by_their_kind():
    shown = seen(parts=[part("shop", "app"), part("shop", "rest.server")])
    assert [(p.name, p.kind) for p in shown.parts] == [("shop", "rest.server"), ("shop", "app")]
    found = shown.part("shop", "shop", "app")
    assert found is not None
    assert found.kind == "app"


def test_steps_have_no_hole_and_end_with_the_last_that_is_over():
    until = NOW + 7
    found = steps(
        [point(0, figures(ok=9)), point(10, figures(ok=1)), point(15, figures(ok=2)), point(5000, figures(ok=9))],
        until=until,
        window=LONG,
    )
    assert len(found) == 60
    assert {step.at for step in found} == {found[0].at + 15 * n for n in range(60)}
    assert until - 30 < found[-1].at <= until - 15
    assert sum(step.figures.total for step in found) == 3


def test_a_young_system_is_shown_closer():
    assert seen([process(started=NOW - 60)]).window is SHORT
    assert seen([process(started=NOW - 3000)]).window is LONG


def test_the_last_minute_begins_with_a_slot():
    assert minute_start(NOW + 3.9) % 5 == 0
    assert NOW - 65 <= minute_start(NOW + 3.9) <= NOW - 55


def test_operations_are_summed_over_the_services_own_processes():
    found = operations(
        [
            series("GET", "/a", figures(ok=1), process="p1"),
            series("GET", "/a", figures(ok=2), process="p2"),
            series("GET", "/b", figures(ok=9), process="p1"),
            series("GET", "/c", figures(ok=99), process="of another service"),
        ],
        {"p1", "p2"},
    )
    assert [(label, f.total) for label, f in found] == [("GET /b", 9), ("GET /a", 3)]
