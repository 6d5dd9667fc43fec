"""What a queue promises to those who put and to those who work, on every engine."""

import asyncio
import threading
from dataclasses import dataclass
from itertools import count

import msgspec
import pytest

import database_servers
import engine_addresses
from consona import MessageQueue, Retry
from consona.errors import ConfigurationError, LeaseLost, NotStarted, QueueFull, ValidationError
from consona.messaging.engine import Power
from storage_tools import Clock, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://work{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/work.db?synchronous=OFF",
}
SERVERS = {"postgresql": database_servers.empty_postgresql, "redis": database_servers.empty_redis}
"""Engines that need a server: how to have an empty database on it."""
NOW = Retry(attempts=3, backoff=0.0)


class Email(msgspec.Struct):
    to: str
    lines: int = 1


@dataclass
class Point:
    x: int
    y: int


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def queue(url, clock):
    async with MessageQueue("emails", url, clock=clock, retry=NOW) as queue:
        yield queue


async def left(queue):
    depth = await queue.depth()
    return depth.ready, depth.delayed, depth.leased, depth.dead


# Putting and getting.


@pytest.mark.parametrize(
    ("data", "into"),
    [
        (Email("ada", 3), Email),
        (Point(1, 2), Point),
        ({"a": [1, None, "ä😀"]}, dict),
        ([1, 2], list[int]),
        (7, int),
        (None, None),
        ("text ä😀", str),
        (b"\x00\xff", bytes),
    ],
)
async def test_what_was_put_comes_back_as_its_type(queue, data, into):
    await queue.put(data)
    async with queue.get(wait=0) as message:
        assert message.data(into) == data
    assert await left(queue) == (0, 0, 0, 0)


async def test_without_a_type_json_text_and_bytes_come_back_as_such(queue):
    await queue.put_many([{"to": "ada"}, "text", b"bytes"])
    found = [message.data() for message in await queue.get_many(10)]
    assert found == [{"to": "ada"}, "text", b"bytes"]


async def test_a_block_that_fails_gives_the_message_back_with_its_error(queue):
    await queue.put(1)

    async def fail():
        async with queue.get() as message:
            assert message.attempt == 1
            raise RuntimeError("It broke.")

    with pytest.raises(RuntimeError):
        await fail()
    async with queue.get() as message:
        assert message.attempt == 2
        assert message.failures[0].error == "RuntimeError: It broke."


async def test_a_block_that_is_cancelled_gives_the_message_back_untried(queue):
    await queue.put(1)
    holding = asyncio.Event()

    async def hold():
        async with queue.get():
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with queue.get(wait=0) as message:
        assert message.attempt == 1


async def test_waiting_in_vain_is_an_error_that_names_the_queue(queue):
    with pytest.raises(TimeoutError, match="emails"):
        async with queue.get(wait=0.01):
            pass


async def test_an_acknowledged_message_is_not_given_back_by_a_later_error(queue):
    await queue.put(1)

    async def fail():
        async with queue.get() as message:
            await message.ack()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await left(queue) == (0, 0, 0, 0)


async def test_who_is_too_slow_is_told(queue, clock):
    await queue.put(1)

    async def dawdle():
        async with queue.get(lease=5):
            clock.advance(6)
            await queue.get_many(1)

    with pytest.raises(LeaseLost, match="emails"):
        await dawdle()


async def test_a_message_can_be_extended(queue, clock):
    await queue.put(1)
    async with queue.get(lease=5) as message:
        await message.extend(60)
        clock.advance(50)
        assert await queue.get_many(1) == []


async def test_a_delayed_message_waits(queue, clock):
    await queue.put("later", delay=60)
    assert await queue.get_many(1) == []
    clock.advance(60)
    assert len(await queue.get_many(1)) == 1


async def test_a_full_queue_refuses(url):
    async with MessageQueue("emails", url, max_messages=3) as queue:
        await queue.put_many([1, 2])
        await queue.put(3)
        with pytest.raises(QueueFull, match="emails") as told:
            await queue.put(4)
        assert told.value.retryable
        async with queue.get():
            pass
        await queue.depth()
        await queue.put(4)


async def test_values_are_in_no_history(queue):
    await queue.put(Email("secret@example.org"))
    async with queue.get():
        pass
    assert "secret" not in repr(queue.history)
    assert queue.stats.operations["put"].succeeded == 1


# Working.


async def work(queue):
    await asyncio.wait_for(queue.work(until_empty=True), 30)


async def test_a_handler_gets_what_was_put(queue):
    found = []

    @queue.worker()
    async def send(email: Email):
        found.append(email)

    await queue.put_many([Email("ada"), Email("bob", 2)])
    await work(queue)
    assert found == [Email("ada"), Email("bob", 2)]
    assert await left(queue) == (0, 0, 0, 0)


async def test_a_handler_may_ask_for_the_message_too(queue):
    found = []

    @queue.worker()
    async def send(email, message):
        found.append((email, message.attempt, message.headers["from"]))

    await queue.put({"to": "ada"}, headers={"from": "bob"})
    await work(queue)
    assert found == [({"to": "ada"}, 1, "bob")]


async def test_a_plain_function_runs_in_a_thread(queue):
    threads = []

    @queue.worker()
    def send(email: Email):
        threads.append(threading.current_thread())

    await queue.put(Email("ada"))
    await work(queue)
    assert threads[0] is not threading.main_thread()


async def test_as_many_run_at_the_same_time_as_was_asked_for(queue):
    running = most = 0
    together = asyncio.Barrier(3)

    @queue.worker(concurrency=3)
    async def handle(number: int):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await together.wait()
        running -= 1

    await queue.put_many([1] * 12)
    await work(queue)
    assert most == 3


async def test_what_fails_is_tried_again_and_in_the_end_lies_among_the_dead_letters(queue):
    tries = []

    @queue.worker()
    async def handle(number: int):
        tries.append(number)
        raise RuntimeError(f"It broke on {number}.")

    await queue.put(7)
    await work(queue)
    assert tries == [7, 7, 7]
    [letter] = [letter async for letter in queue.dead_letters()]
    assert letter.reason == "RuntimeError: It broke on 7."
    assert [failure.attempt for failure in letter.failures] == [1, 2, 3]
    assert await left(queue) == (0, 0, 0, 1)


async def test_what_fails_once_succeeds_later(queue):
    @queue.worker()
    async def handle(number: int, message):
        if message.attempt == 1:
            raise RuntimeError

    await queue.put_many(list(range(5)))
    await work(queue)
    assert await left(queue) == (0, 0, 0, 0)
    assert queue.stats.operations["handle handle"].failed == 5
    assert queue.stats.operations["handle handle"].succeeded == 5


async def test_a_retry_waits(url, clock):
    retry = Retry(attempts=3, backoff=100.0, max_wait=1000.0)
    async with MessageQueue("emails", url, clock=clock, retry=retry) as queue:

        @queue.worker()
        async def handle(number: int, message):
            error = RuntimeError()
            error.retry_after = 50.0
            raise error

        await queue.put(1)
        await work(queue)
        assert await left(queue) == (0, 1, 0, 0)
        clock.advance(49)
        await work(queue)
        assert await left(queue) == (0, 1, 0, 0)
        clock.advance(1)
        await work(queue)
        assert queue.stats.operations["handle handle"].failed == 2


async def test_what_does_not_fit_is_a_dead_letter_at_once_and_says_which_field(queue):
    @queue.worker()
    async def handle(email: Email):
        raise AssertionError("not reached")

    await queue.put({"to": 5})
    await queue.put(b"{")
    await work(queue)
    letters = [letter async for letter in queue.dead_letters()]
    assert [len(letter.failures) for letter in letters] == [1, 1]
    assert "ValidationError" in letters[0].reason


async def test_one_whose_workers_die_each_time_is_a_dead_letter(queue, clock):
    @queue.worker()
    async def handle(number: int):
        raise AssertionError("not reached")

    await queue.put(1)
    for _ in range(3):
        [_] = await queue.get_many(1, lease=5)
        clock.advance(6)
    await work(queue)
    [letter] = [letter async for letter in queue.dead_letters()]
    assert "died" in letter.reason


async def test_a_handler_that_takes_too_long_fails(queue):
    @queue.worker(timeout=0.05, retry=Retry(attempts=1))
    async def handle(number: int):
        await asyncio.Event().wait()

    await queue.put(1)
    await work(queue)
    [letter] = [letter async for letter in queue.dead_letters()]
    assert "DeadlineExceeded" in letter.reason


async def test_dead_letters_go_back_and_are_handled(queue):
    broken = True

    @queue.worker(retry=Retry(attempts=1))
    async def handle(email: Email):
        if broken:
            raise RuntimeError

    await queue.put_many([Email("ada"), Email("bob"), {"to": 5}])
    await work(queue)
    letters = [letter async for letter in queue.dead_letters()]
    broken = False
    assert await queue.redrive(letters[2].id, data=Email("eve")) == 1
    assert await queue.redrive() == 2
    await work(queue)
    assert await left(queue) == (0, 0, 0, 0)


async def test_dead_letters_are_purged(queue):
    @queue.worker(retry=Retry(attempts=1))
    async def handle(number: int):
        raise RuntimeError

    await queue.put_many([1, 2, 3])
    await work(queue)
    letters = [letter async for letter in queue.dead_letters()]
    assert await queue.purge(letters[0].id) == 1
    assert await queue.purge() == 2
    assert await left(queue) == (0, 0, 0, 0)


async def test_leases_are_extended_while_a_handler_works(url):
    async with MessageQueue("emails", url, lease=0.3) as queue:
        runs = []

        @queue.worker(concurrency=2)
        async def handle(number: int):
            runs.append(number)
            await asyncio.sleep(1.2)  # four leases long

        await queue.put(1)
        await work(queue)
        assert runs == [1]
        assert await left(queue) == (0, 0, 0, 0)


async def test_stopping_lets_handlers_finish_and_takes_no_more(queue):
    entered, go, done = asyncio.Event(), asyncio.Event(), []

    @queue.worker()
    async def handle(number: int):
        entered.set()
        await go.wait()
        done.append(number)

    await queue.put_many([1, 2])
    working = asyncio.create_task(queue.work(drain=30))
    await entered.wait()
    working.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, 20)
    assert done == [1]
    assert await left(queue) == (1, 0, 0, 0)


async def test_what_does_not_finish_in_time_is_given_back_untried(queue):
    entered = asyncio.Event()

    @queue.worker()
    async def handle(number: int):
        entered.set()
        await asyncio.Event().wait()

    await queue.put(1)
    working = asyncio.create_task(queue.work(drain=0.01))
    await entered.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, 20)
    [message] = await queue.get_many(1)
    assert message.attempt == 1


async def test_a_handler_works_on_what_comes_later(queue):
    found = []

    @queue.worker()
    async def handle(number: int):
        found.append(number)

    working = asyncio.create_task(queue.work())
    await asyncio.sleep(0)
    await queue.put(1)
    await until(lambda: found == [1])
    await queue.put(2)
    await until(lambda: found == [1, 2])
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_the_trace_of_who_put_goes_on_in_the_handler(queue):
    tracer = queue.observer.tracer
    tracer.collect(on=True)

    @queue.worker()
    async def handle(number: int):
        pass

    with queue.observer.operation("request") as op:
        await queue.put(1)
    await work(queue)
    traces = {entry.operation: entry.trace_id for entry in queue.history}
    tracer.collect(on=False)
    assert op.span.sampled
    assert traces["handle"] == traces["request"] != ""


# Bad use.


async def test_unfit_values_are_refused(queue):
    for data in (object(), "\ud800", b"x" * 1_000_001, float, {"a": {1: object()}}):
        with pytest.raises(ValidationError):
            await queue.put(data)
    for options in ({"delay": -1}, {"delay": 1e12}, {"priority": 10}, {"priority": -1}, {"key": "a\n"}):
        with pytest.raises(ValidationError):
            await queue.put(1, **options)
    for headers in ({"a": 1}, {1: "a"}, {"a": "\ud800"}, {"a": "x" * 70_000}):
        with pytest.raises(ValidationError):
            await queue.put(1, headers=headers)
    assert await left(queue) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800", "x" * 201, None, 7])
def test_unfit_names_are_refused(name):
    with pytest.raises(ValidationError, match="name"):
        MessageQueue(name, "memory://")


def test_a_handler_must_take_something():
    queue = MessageQueue("emails", "memory://")
    with pytest.raises(ConfigurationError, match="takes 0"):

        @queue.worker()
        async def handle(): ...


def test_a_queue_has_one_handler():
    queue = MessageQueue("emails", "memory://")

    @queue.worker()
    async def first(data): ...

    with pytest.raises(ConfigurationError, match="'first'"):
        queue.worker()(first)


async def test_a_missing_power_is_told_at_start_and_at_the_call(tmp_path):
    queue = MessageQueue("emails", "memory://", powers=["transactions"])
    with pytest.raises(ConfigurationError, match="transactions"):
        await queue.start()
    with pytest.raises(ConfigurationError, match="flying"):
        MessageQueue("emails", "memory://", powers=["flying"])
    assert Power.PRIORITY in queue.engine.powers


async def test_before_its_start_nothing_works(url):
    queue = MessageQueue("emails", url)
    for call in (queue.put(1), queue.get_many(1), queue.depth(), queue.work(), queue.redrive("1")):
        with pytest.raises(NotStarted):
            await call
    assert not (await queue.check()).ok


async def test_without_a_handler_there_is_no_work(queue):
    with pytest.raises(ConfigurationError, match="no handler"):
        await queue.work()


# Schedules.


def every_minute(queue, **options):
    """The times at which a handler ran, in minutes since the clock of the tests began."""
    queue.every("* * * * *", "tick", name="minute", **options)
    seen = []

    @queue.worker()
    async def tick(text: str, message):
        seen.append((int(message.headers["scheduled-at"]) - BEGIN) // 60)

    return seen


BEGIN = 1_700_000_040  # the first full minute of the tests' clock


async def pass_minutes(clock, queues, minutes):
    """Let workers run for a moment in which so many minutes have passed."""
    clock.advance(60.0 * minutes)
    async with asyncio.timeout(20):
        await asyncio.gather(*(queue.work(until_empty=True) for queue in queues))


async def test_a_schedule_puts_its_message_once_for_all_processes(queue, url, clock):
    async with MessageQueue("emails", url, clock=clock, retry=NOW) as other:
        seen, seen_too = every_minute(queue), every_minute(other)
        for minutes in (0, 1, 1, 1):
            await pass_minutes(clock, [queue, other], minutes)
        assert sorted(seen + seen_too) == [0, 1, 2]


@pytest.mark.parametrize(("missed", "handled"), [("once", [0]), ("skip", []), ("all", [0, 1, 2, 3, 4])])
async def test_times_for_which_nobody_was_there_are_handled_as_told(queue, clock, missed, handled):
    seen = every_minute(queue, missed=missed)
    await pass_minutes(clock, [queue], 0)
    await pass_minutes(clock, [queue], 5)
    assert seen == handled
    await pass_minutes(clock, [queue], 1)
    assert seen == [*handled, 5]


async def test_a_schedule_that_is_none_or_is_there_already_is_refused(queue):
    queue.every("@daily", 1)
    for options in ({"cron": "@daily"}, {"cron": "* *"}, {"cron": "@hourly", "missed": "never"}):
        with pytest.raises(ConfigurationError):
            queue.every(data=1, **options)


async def test_a_schedule_is_refused_where_the_engine_cannot_delay(queue):
    queue.engine.powers, known = frozenset(), queue.engine.powers
    with pytest.raises(ConfigurationError, match="delay"):
        queue.every("@daily", 1)
    queue.engine.powers = known


async def test_who_puts_into_a_full_queue_may_wait_for_room(url, clock):
    async with MessageQueue("small", url, clock=clock, max_messages=1) as queue:
        await queue.put(1)
        with pytest.raises(QueueFull):
            await queue.put(2, wait=0.01)
        waiting = asyncio.create_task(queue.put(2, wait=60))
        async with queue.get(wait=0) as message:
            assert message.data() == 1
        await asyncio.wait_for(waiting, 20)
        async with queue.get(wait=0) as message:
            assert message.data() == 2
