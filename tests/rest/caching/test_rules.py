"""The arithmetic of age and freshness, and reading of fields, for any input and any time."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from consona.rest.caching.fields import format_date, parse_date, parse_directives
from consona.rest.caching.rules import CacheRules, Head, Use, freshened, one_range, selects, vary_key

NOW = 1_700_000_000.0
RULES = CacheRules()

deltas = st.integers(-100_000, 100_000)
lifetimes = st.integers(0, 200_000)
waits = st.integers(0, 8_000_000).map(lambda eighths: eighths / 8)  # exact beside a time since 1970
delays = st.floats(0, 1000)
ages = st.integers(0, 200_000)


def head(*, max_age: int, date: int = 0, age: int | None = None, delay: float = 0.0, more: str = "") -> Head:
    fields = [("Date", format_date(NOW + date)), ("Cache-Control", f"max-age={max_age}{more}")]
    if age is not None:
        fields.append(("Age", str(age)))
    return Head(200, fields, NOW - delay, NOW)


@given(date=deltas, age=ages, delay=delays, wait=waits)
def test_an_answer_is_never_younger_than_its_age_field_and_the_time_since(date, age, delay, wait):
    found = RULES.age(head(max_age=10, date=date, age=age, delay=delay), NOW + wait)
    assert found >= age + wait - 1e-6
    assert found >= -date + wait - 1e-6


@given(date=deltas, age=ages, delay=delays, wait=waits, more=waits)
def test_age_grows_as_time_does(date, age, delay, wait, more):
    one = head(max_age=10, date=date, age=age, delay=delay)
    assert abs(RULES.age(one, NOW + wait + more) - RULES.age(one, NOW + wait) - more) < 1e-3


@given(max_age=lifetimes, age=ages, delay=delays, wait=waits)
def test_what_is_given_out_without_leave_is_never_over(max_age, age, delay, wait):
    one = head(max_age=max_age, age=age, delay=delay)
    now = NOW + wait
    assert (RULES.use(one, {}, now) is Use.FRESH) == (RULES.age(one, now) < max_age)


@given(max_age=lifetimes, age=ages, wait=waits, asked=lifetimes)
def test_nothing_older_than_was_asked_for_is_given_out(max_age, age, wait, asked):
    one = head(max_age=max_age, age=age)
    if RULES.use(one, {"max-age": str(asked)}, NOW + wait) is Use.FRESH:
        assert RULES.age(one, NOW + wait) <= asked


@given(max_age=lifetimes, wait=waits, allowed=lifetimes)
def test_what_is_over_for_longer_than_was_allowed_is_not_given_out(max_age, wait, allowed):
    one = head(max_age=max_age)
    given_out = RULES.use(one, {"max-stale": str(allowed)}, NOW + wait) is Use.FRESH
    assert given_out == (wait < max_age or wait - max_age <= allowed)


@given(max_age=lifetimes, wait=waits, window=lifetimes)
@example(max_age=10, wait=15.0, window=5)
def test_the_window_for_revalidation_has_an_end(max_age, wait, window):
    one = head(max_age=max_age, more=f", stale-while-revalidate={window}")
    assume(wait >= max_age)
    expected = Use.WHILE_REVALIDATING if wait - max_age <= window else Use.REVALIDATE
    assert RULES.use(one, {}, NOW + wait) is expected


@given(max_age=lifetimes, wait=waits, window=lifetimes)
def test_an_error_is_covered_within_its_window_alone(max_age, wait, window):
    one = head(max_age=max_age, more=f", stale-if-error={window}")
    assert RULES.may_use_on_error(one, {}, NOW + wait) == (wait - max_age <= window)
    strict = head(max_age=max_age, more=f", stale-if-error={window}, must-revalidate")
    assert not RULES.may_use_on_error(strict, {}, NOW + wait)


@given(back=st.floats(1.5, 1e9))
def test_a_clock_that_was_set_back_does_not_make_answers_live_longer(back):
    assert RULES.use(head(max_age=1000), {}, NOW - back) is Use.REVALIDATE


@given(st.integers(0, 4_000_000_000))
def test_a_date_is_read_as_it_was_written(seconds):
    assert parse_date(format_date(seconds)) == seconds


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_dates_directives_and_ranges(text):
    parse_date(text)
    parse_directives([text])
    found = one_range(text, 10)
    assert found is None or (0 <= found.start < found.stop <= 10)


@given(st.lists(st.tuples(st.sampled_from(["Foo", "foo", "Bar"]), st.text("ab ,", max_size=6)), max_size=4))
def test_an_answer_is_one_to_the_request_that_it_was_for(request_fields):
    answer = [("Vary", "Foo, bar")]
    assert selects(vary_key(answer, request_fields), request_fields)


def test_a_missing_field_is_not_an_empty_one():
    assert not selects(vary_key([("Vary", "Foo")], [("Foo", "")]), [])


def test_a_304_replaces_fields_but_not_those_of_the_body():
    stored = [("ETag", '"1"'), ("Content-Length", "5"), ("Age", "7"), ("X", "old"), ("X", "older")]
    came = [("x", "new"), ("Content-Length", "0")]
    assert freshened(stored, came) == [("ETag", '"1"'), ("Content-Length", "5"), ("x", "new")]


def test_fields_that_need_asking_first_are_not_kept():
    fields = [("Cache-Control", 'no-cache="x-user", max-age=5, private="x-mine"'), ("X-User", "1"), ("X-Mine", "2")]
    assert [name for name, _ in RULES.stored_headers(fields)] == ["Cache-Control", "X-Mine"]
    assert [name for name, _ in CacheRules(shared=True).stored_headers(fields)] == ["Cache-Control"]
