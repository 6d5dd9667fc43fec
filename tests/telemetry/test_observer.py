"""One operation is counted, timed, remembered, traced and logged once, by one mechanism."""

import asyncio
import contextlib
import logging

import pytest

from consona.errors import NotFound
from consona.telemetry.observer import Observer
from consona.telemetry.trace import Sampler, Tracer


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def pass_ms(self, milliseconds):
        self.now += int(milliseconds * 1e6)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def part(clock):
    return Observer("shop", "rest.client", clock=clock, wall=lambda: 1000.0, history=3, max_series=4, tracer=Tracer())


def test_an_operation_is_counted_timed_and_remembered(part, clock):
    with part.operation("GET", "/users/{id}") as op:
        clock.pass_ms(20)
        op.set(status=200)
    stats = part.stats
    assert (stats.total, stats.succeeded, stats.success_rate, stats.in_flight) == (1, 1, 1.0, 0)
    assert stats.mean == 0.02
    assert stats.p50 == pytest.approx(0.02, rel=1 / 64)
    [entry] = part.history
    assert (entry.at, entry.operation, entry.target, entry.duration, entry.outcome, entry.attributes) == (
        1000.0, "GET", "/users/{id}", 0.02, "ok", {"status": 200},
    )  # fmt: skip


def test_an_error_is_counted_by_its_code_and_goes_on(part):
    with pytest.raises(NotFound), part.operation("GET", "/x"):
        raise NotFound("Not here.")
    with pytest.raises(KeyError), part.operation("GET", "/x"):
        raise KeyError("secret-value")
    assert part.stats.errors == {"not_found": 1, "KeyError": 1}
    assert part.stats.failed == 2
    assert [entry.success for entry in part.history] == [False, False]


def test_an_operation_can_fail_without_an_exception(part):
    with part.operation("GET", "/x") as op:
        op.fail("http.404")
    assert (part.stats.failed, part.history[0].error) == (1, "http.404")


async def test_a_cancelled_operation_is_neither_a_success_nor_a_failure(part):
    async def work():
        with part.operation("wait"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert part.stats.in_flight == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (part.stats.cancelled, part.stats.failed, part.stats.in_flight) == (1, 0, 0)


def test_history_keeps_the_last_ones_only(part):
    for name in "abcde":
        with part.operation(name):
            pass
    assert [entry.operation for entry in part.history] == ["c", "d", "e"]


def test_targets_beyond_the_bound_are_counted_together(part):
    for number in range(50):
        with part.operation("GET", f"/{number}"):
            pass
    assert part.stats.total == 50
    assert len(part.stats.operations) <= 5
    assert part.stats.operations["GET (other)"].total >= 46


def test_figures_by_operation_add_up_to_the_whole(part):
    for target in ("/a", "/b", "/a"):
        with part.operation("GET", target):
            pass
    assert {label: each.total for label, each in part.stats.operations.items()} == {"GET /a": 2, "GET /b": 1}


def test_failures_are_logged_without_the_values_of_foreign_errors(part, caplog):
    with pytest.raises(KeyError), part.operation("GET", "/x"):
        raise KeyError("secret-value")
    with pytest.raises(NotFound), part.operation("GET", "/y"):
        raise NotFound("There is no post 7; asked with Bearer abcdefgh")
    assert "secret-value" not in caplog.text
    assert "KeyError" in caplog.text
    assert "There is no post 7; asked with Bearer ***" in caplog.text


def test_a_slow_operation_is_logged(part, clock, caplog):
    with part.operation("GET", "/slow"):
        clock.pass_ms(1500)
    assert "shop: GET /slow was slow after 1500.0 ms" in caplog.text


def test_a_quick_success_is_not_logged(part, caplog):
    caplog.set_level(logging.INFO)
    with part.operation("GET", "/quick"):
        pass
    assert caplog.text == ""


async def test_a_stream_that_is_closed_elsewhere_is_still_counted(part):
    async def stream():
        with part.operation("stream"):
            yield 1
            yield 2

    items = stream()
    assert await anext(items) == 1
    await asyncio.create_task(items.aclose())
    assert part.stats.cancelled == 1


def test_a_sampled_operation_has_its_trace_in_the_history():
    tracer = Tracer(Sampler(10**6))
    tracer.collect(on=True)
    part = Observer("shop", "rest.client", tracer=tracer)
    with part.operation("GET", "/x"):
        pass
    assert part.history[0].trace_id == f"{tracer.drain()[0].trace_id:032x}"
