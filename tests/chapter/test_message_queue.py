"""The chapter's message queue: its names and answers, with messages that are really kept."""

from __future__ import annotations

import asyncio
import inspect
import re
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import pytest

import servers
from consona.chapter import MessageQueue
from consona.errors import AddressError, ConfigurationError, LeaseLost, ValidationError

PAGE = servers.ROOT / "docs" / "chapter" / "messages.md"
_number = count()


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/messages.db"


@pytest.fixture
def make(address):
    made = []

    def make(name="q"):
        made.append(MessageQueue(name, address))
        return made[-1]

    yield make
    for each in made:
        each.close()


# The table of the docs.


def table():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `MessageQueue"):
            name, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
            rows[name.strip("`")] = cells
    return rows


ROWS = table()
METHODS = {"MessageQueue": MessageQueue} | {
    f"MessageQueue.{name}": function
    for name, function in inspect.getmembers(MessageQueue, inspect.isfunction)
    if not name.startswith("_")
}


def named(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_table_has_every_method_and_no_other():
    assert sorted(ROWS) == sorted(METHODS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_arguments_are_those_of_the_code(name):
    shown = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}"
        for each in inspect.signature(METHODS[name]).parameters.values()
        if each.name != "self"
    ]
    assert ROWS[name][0].strip("`") == ", ".join(shown)
    assert len(ROWS[name]) == 4
    assert ROWS[name][3].endswith(".")


def test_the_keys_are_those_that_really_come(make):
    assert set(make().get_stats()) == named(ROWS["MessageQueue.get_stats"][1])


def lose_the_lease():
    messages = MessageQueue("lost", f"memory://chapter{next(_number)}")
    messages.queue.lease = 1e-6
    messages.add_message("slow")
    other = MessageQueue("lost", messages.queue.engine._address)
    messages.process_message(lambda _: other.process_message())


CAUSES = {
    ("MessageQueue", "AddressError"): (AddressError, lambda: MessageQueue("q", "pigeon://loft")),
    ("MessageQueue", "ValidationError"): (ValidationError, lambda: MessageQueue("")),
    ("MessageQueue.add_message", "ValidationError"): (
        ValidationError,
        lambda: MessageQueue("q", "memory://").add_message(object()),
    ),
    ("MessageQueue.process_message", "ConfigurationError"): (
        ConfigurationError,
        lambda: MessageQueue("q", "memory://").process_message("handler"),
    ),
    ("MessageQueue.process_message", "LeaseLost"): (LeaseLost, lose_the_lease),
}


def test_every_error_of_the_table_is_caused_and_no_other():
    assert {(name, error) for name, cells in ROWS.items() for error in named(cells[2])} == set(CAUSES)


@pytest.mark.parametrize(("name", "error"), sorted(CAUSES))
def test_each_error_of_the_table_is_really_raised(name, error):
    kind, cause = CAUSES[name, error]
    with pytest.raises(kind):
        cause()


def test_inside_of_an_event_loop_every_method_says_what_to_use():
    async def inside():
        MessageQueue("q", "memory://").add_message("x")

    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(inside())


# Messages.


@pytest.mark.parametrize("message", ["text ä😀", b"\x00\xff", {"to": "ada", "n": [1, None]}, 7])
def test_what_was_added_is_processed_once(make, message):
    messages = make()
    messages.add_message(message)
    assert messages.process_message() == message
    assert messages.process_message() is None


def test_messages_come_in_the_order_in_which_they_were_added(make):
    messages = make()
    for n in range(3):
        messages.add_message(n)
    assert [messages.process_message() for _ in range(4)] == [0, 1, 2, None]


def test_a_message_whose_handler_fails_is_there_again_and_counted(make):
    messages = make()
    messages.add_message("1")
    with pytest.raises(LookupError):
        messages.process_message(lambda _: {}["nobody"])
    assert messages.get_stats() == {"total_requests": 1, "failed_requests": 1, "queue_size": 1}
    seen = []
    assert messages.process_message(seen.append) == "1"
    assert seen == ["1"]
    assert messages.get_stats() == {"total_requests": 1, "failed_requests": 1, "queue_size": 0}


def test_a_message_that_fails_five_times_goes_to_the_dead_letters(make):
    messages = make()
    messages.add_message("poison")
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            messages.process_message(lambda _: 1 / 0)
    assert messages.process_message() is None


def test_a_handler_runs_in_the_thread_of_its_caller(make):
    messages = make()
    messages.add_message("1")
    seen = []
    messages.process_message(lambda _: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]


def test_a_handler_may_take_longer_than_the_lease(make):
    messages, other = make(), make()
    messages.queue.lease = 0.15
    messages.add_message("slow")
    seen, enough = [], threading.Event()

    def work(_):
        enough.wait(0.5)  # more than three leases
        seen.append(other.process_message())

    assert messages.process_message(work) == "slow"
    assert seen == [None]


def test_messages_outlive_the_program_that_was_killed(address, make):
    program = (
        "import os, signal, sys; from consona.chapter import MessageQueue; q = MessageQueue('q', sys.argv[1]);"
        "q.add_message('kept'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", program, address], check=False)
    assert done.returncode == 9
    assert make().process_message() == "kept"


def test_by_default_the_messages_are_in_a_file_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = MessageQueue("q")
    messages.add_message("1")
    messages.close()
    assert Path("messages.db").exists()
