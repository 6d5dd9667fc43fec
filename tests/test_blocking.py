from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from consona import blocking
from consona.errors import ConfigurationError, DeadlineExceeded
from consona.part import Part
from consona.resilience.deadline import within

# Python 3.12.0 and 3.12.1 start no thread once the main thread has ended (gh-113964), and these parts stop in one.
threads_until_the_end = pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1), reason="this Python starts no thread while it ends: a bug of it"
)


PATIENCE_S = 30


class Lamp(Part):
    """A part that tells when it is opened and closed, and by which thread."""

    def __init__(self, name="lamp", told=None):
        super().__init__(name)
        self.told = [] if told is None else told

    async def _open(self):
        self.told.append(f"{self.name} on")
        self.thread = threading.current_thread().name

    async def _close(self):
        self.told.append(f"{self.name} off")

    async def shine(self):
        self._require_started()
        return "light"


# Running one coroutine.


def test_a_coroutine_runs_to_its_end_and_its_result_comes_back():
    async def work():
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert blocking.run(work()) == "consona-blocking"


def test_an_error_comes_back_as_it_is():
    error = LookupError("no such post")

    async def work():
        raise error

    with pytest.raises(LookupError) as caught:
        blocking.run(work())
    assert caught.value is error
    assert "work" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopAsyncIteration])
def test_errors_that_end_programs_or_loops_reach_the_caller_and_the_loop_goes_on(ending):
    async def work():
        raise ending

    with pytest.raises(ending):
        blocking.run(work())
    assert blocking.run(asyncio.sleep(0, "still here")) == "still here"


def test_context_variables_travel_with_the_call():
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("ours")

    async def work():
        return variable.get()

    assert blocking.run(work()) == "ours"


def test_the_deadline_of_the_calling_code_is_kept():
    async def work():
        await asyncio.Event().wait()

    with within(0.05), pytest.raises(DeadlineExceeded):
        blocking.run(work())


def test_work_past_the_deadline_is_not_begun():
    begun = []

    async def work():
        begun.append(1)

    with within(0.0), pytest.raises(DeadlineExceeded):
        blocking.run(work())
    assert not begun


async def test_inside_a_running_loop_each_function_says_what_to_write_instead():
    async def numbers():
        yield 1

    with pytest.raises(ConfigurationError, match="await"):
        blocking.run(asyncio.sleep(0))
    with pytest.raises(ConfigurationError, match="await"):
        blocking.enter(Lamp())
    with pytest.raises(ConfigurationError, match="async for"):
        blocking.iterate(numbers())
    with pytest.raises(ConfigurationError, match="async with"), blocking.entered(Lamp()):
        pytest.fail("it was entered")


def test_a_coroutine_that_calls_back_is_told_too_and_nothing_hangs():
    async def work():
        blocking.run(asyncio.sleep(0))

    with pytest.raises(ConfigurationError, match="running event loop"):
        blocking.run(work())


def test_what_is_no_coroutine_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="Call the function"):
        blocking.run(asyncio.sleep)


def test_many_threads_share_the_loop():
    barrier_of_loop = None

    async def meet():
        nonlocal barrier_of_loop
        barrier_of_loop = barrier_of_loop or asyncio.Barrier(8)
        await barrier_of_loop.wait()  # only passes if all eight run at once
        return asyncio.get_running_loop()

    with ThreadPoolExecutor(8) as pool:
        loops = list(pool.map(lambda _: blocking.run(meet()), range(8), timeout=PATIENCE_S))
    assert len(set(map(id, loops))) == 1


# Parts and other asynchronous context managers.


def test_a_part_entered_for_a_block_is_stopped_at_its_end():
    with blocking.entered(Lamp()) as lamp:
        assert blocking.run(lamp.shine()) == "light"
        assert lamp.thread == "consona-blocking"
    assert lamp.told == ["lamp on", "lamp off"]


def test_a_part_entered_for_good_stays():
    lamp = blocking.enter(Lamp())
    assert blocking.run(lamp.shine()) == "light"
    blocking.run(lamp.stop())


@contextlib.asynccontextmanager
async def transaction(told):
    task = asyncio.current_task()
    async with asyncio.timeout(PATIENCE_S):  # refuses to be left by another task
        try:
            yield "tx"
        except ValueError as error:
            told.append(f"rolled back: {error}")
        except BaseException as error:
            told.append(f"rolled back: {type(error).__name__}")
            raise
        else:
            told.append("committed")
    assert asyncio.current_task() is task


def test_a_block_is_left_in_the_task_that_entered_it():
    with blocking.entered(transaction(told := [])) as tx:
        assert (tx, told) == ("tx", [])
    assert told == ["committed"]


def test_the_error_of_the_block_is_told_and_raised():
    error = LookupError("no")
    with pytest.raises(LookupError) as caught, blocking.entered(transaction(told := [])):
        raise error
    assert caught.value is error
    assert told == ["rolled back: LookupError"]


def test_an_error_that_the_manager_swallows_is_swallowed():
    with blocking.entered(transaction(told := [])):
        raise ValueError("a bad value")
    assert told == ["rolled back: a bad value"]


def test_an_error_of_entering_or_leaving_is_raised():
    @contextlib.asynccontextmanager
    async def broken(where):
        if where == "entering":
            raise OSError(where)
        yield
        raise OSError(where)

    for where in ("entering", "leaving"):
        with pytest.raises(OSError, match=where), blocking.entered(broken(where)):
            pass


# Iteration.


async def numbers(told, last=1_000_000):
    async with asyncio.timeout(PATIENCE_S):  # refuses to be left by another task
        try:
            for number in range(last):
                told.append(number)
                yield number
        finally:
            told.append("closed")


def test_items_come_one_by_one_when_they_are_asked_for():
    told = []
    iterator = blocking.iterate(numbers(told, 3))
    assert told == []
    assert next(iterator) == 0
    assert told == [0]
    assert list(iterator) == [1, 2]
    assert told == [0, 1, 2, "closed"]


def test_leaving_a_loop_early_closes_the_generator():
    told = []
    iterator = blocking.iterate(numbers(told))
    for number in iterator:
        if number == 2:
            break
    iterator.close()
    assert told == [0, 1, 2, "closed"]


def test_an_error_of_the_generator_is_raised_where_it_is_used():
    async def broken():
        yield 1
        raise LookupError("no second")

    iterator = blocking.iterate(broken())
    assert next(iterator) == 1
    with pytest.raises(LookupError, match="no second"):
        next(iterator)
    assert list(iterator) == []


def test_a_forgotten_iterator_collected_inside_a_loop_does_not_block_it(caplog):
    told = []
    iterator = blocking.iterate(numbers(told))
    next(iterator)
    held = [iterator]
    del iterator

    async def collect():
        held.clear()
        gc.collect()
        while told[-1] != "closed":
            await asyncio.sleep(0.001)

    async def bounded():
        await asyncio.wait_for(collect(), PATIENCE_S)

    blocking.run(bounded())
    assert not caplog.records, "it was waited for until patience ran out"


def test_the_deadline_of_the_calling_code_is_kept_over_a_whole_loop():
    async def slow():
        yield 1
        await asyncio.Event().wait()

    got = []
    with within(0.05), pytest.raises(DeadlineExceeded):
        got.extend(blocking.iterate(slow()))


# Whole programs.


def program(text, *, interrupt_after=None):
    """Run it; send Ctrl-C once it has printed that line."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PREAMBLE + textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            head = ""
            while interrupt_after and interrupt_after not in head:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                head += line
            if interrupt_after:
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return process.returncode, (head + out).splitlines(), err


PREAMBLE = textwrap.dedent(
    """
    import asyncio, os, sys, threading
    from consona import blocking
    from consona.part import Part

    class Lamp(Part):
        async def _open(self): print(self.name, "on", flush=True)
        async def _close(self):
            # A thread of the pool, which closes early when a program ends.
            await asyncio.to_thread(print, self.name, "off", flush=True)
    """
)


@threads_until_the_end
def test_at_the_end_of_the_program_parts_are_stopped_the_last_one_first():
    assert program("for name in 'abc': blocking.enter(Lamp(name))") == (
        0,
        ["a on", "b on", "c on", "c off", "b off", "a off"],
        "",
    )


@threads_until_the_end
def test_a_part_that_cannot_be_stopped_does_not_keep_the_others_on():
    code, out, err = program(
        """
        class Broken(Lamp):
            async def _close(self): raise OSError("stuck")
        for part in (Lamp("a"), Broken("b"), Lamp("c")): blocking.enter(part)
        """
    )
    assert (code, out) == (0, ["a on", "b on", "c on", "c off", "a off"])
    assert "b could not be stopped" in err
    assert "stuck" in err


@threads_until_the_end
def test_an_unfinished_iterator_is_closed_at_the_end_and_before_the_parts():
    code, out, err = program(
        """
        async def numbers():
            try:
                yield 1
                yield 2
            finally:
                print("closed", flush=True)
        blocking.enter(Lamp("a"))
        iterator = blocking.iterate(numbers())
        print(next(iterator), flush=True)
        """
    )
    assert (code, out, err) == (0, ["a on", "1", "closed", "a off"], "")


@threads_until_the_end
def test_the_end_waits_for_the_calls_of_other_threads_but_not_for_daemons():
    code, out, err = program(
        """
        blocking.enter(Lamp("a"))
        begun = threading.Barrier(3)
        async def work(seconds):
            await asyncio.to_thread(begun.wait)
            try:
                await asyncio.sleep(seconds)
                print("done", flush=True)
            except asyncio.CancelledError:
                print("cut", flush=True)
                raise
        def call(seconds):
            try: blocking.run(work(seconds))
            except asyncio.CancelledError: pass
        threading.Thread(target=call, args=(0.3,)).start()
        threading.Thread(target=call, args=(8,), daemon=True).start()
        begun.wait()
        """
    )
    assert (code, out, err) == (0, ["a on", "done", "cut", "a off"], "")


@threads_until_the_end
def test_a_call_while_the_program_ends_is_a_clear_error():
    code, out, err = program(
        """
        blocking.enter(Lamp("a"))
        def late():
            threading.main_thread().join()
            while True:
                try: blocking.run(asyncio.sleep(0))
                except Exception as error:
                    print(type(error).__name__, error, flush=True)
                    return
        threading.Thread(target=late).start()
        """
    )
    assert (code, err) == (0, "")
    assert any("ConfigurationError" in line and "Join your threads" in line for line in out)


@threads_until_the_end
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_cancels_the_coroutine_and_waits_until_it_has_cleaned_up():
    code, out, err = program(
        """
        async def work():
            try:
                print("working", flush=True)
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)
                print("cleaned up", flush=True)
        blocking.enter(Lamp("a"))
        try:
            blocking.run(work())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        interrupt_after="working",
    )
    assert (code, out, err) == (0, ["a on", "working", "cleaned up", "interrupted", "a off"], "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console")
def test_ctrl_c_in_a_loop_closes_the_generator():
    code, out, err = program(
        """
        async def numbers():
            try:
                yield 1
                await asyncio.sleep(3600)
            finally:
                print("closed", flush=True)
        try:
            for number in blocking.iterate(numbers()):
                print(number, flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        interrupt_after="1",
    )
    assert (code, out, err) == (0, ["1", "closed", "interrupted"], "")


def test_a_stray_task_that_wants_to_end_the_program_does_not_take_the_loop_with_it():
    code, out, _ = program(
        """
        async def stray(): sys.exit(3)
        async def work():
            task = asyncio.create_task(stray())
            await asyncio.sleep(0.01)
            return "done"
        print(blocking.run(work()), flush=True)
        print(blocking.run(work()), flush=True)
        """
    )
    assert (code, out) == (0, ["done", "done"])


@threads_until_the_end
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_after_a_fork_the_child_begins_anew_and_parts_of_the_parent_say_so():
    code, out, err = program(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of forks with threads
        class Asked(Lamp):
            async def ask(self): self._require_started(); return self.name
        lamp = blocking.enter(Asked("parent"))
        child = os.fork()
        if not child:
            try: blocking.run(lamp.ask())
            except Exception as error: print(type(error).__name__, flush=True)
            with blocking.entered(Asked("child")) as own: print(blocking.run(own.ask()), "asked", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(blocking.run(lamp.ask()), "asked", flush=True)
        """
    )
    assert (code, err) == (0, "")
    assert out == [
        "parent on",
        "ConfigurationError",
        "child on",
        "child asked",
        "child off",
        "parent asked",
        "parent off",
    ]
