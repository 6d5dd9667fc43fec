from consona.realtime import window as window_module
from consona.realtime.message import Message
from consona.realtime.window import Window
from storage_tools import Clock


def kept(window, *pairs, clock=None):
    for position, channel in pairs:
        window.add(Message(channel, position, str(position), clock() if clock else 0.0, b"1234"))


def positions(found):
    return None if found is None else [message.position for message in found]


def new(**options):
    settings = {"max_messages": 100, "max_bytes": 10_000, "per_channel": 100, "max_age": None, "clock": Clock()}
    return Window(**settings | options)


def test_a_channel_has_its_own_messages_in_order():
    window = new()
    kept(window, (1, "a"), (2, "b"), (5, "a"), (6, "b"))
    assert positions(window.since("a", 0)) == [1, 5]
    assert positions(window.since("a", 1)) == [5]
    assert positions(window.last("b", 1)) == [6]
    assert positions(window.last("b", 0)) == positions(window.since("c", 0)) == []


def test_the_oldest_go_when_there_are_too_many_and_their_channel_has_a_gap():
    window = new(max_messages=3)
    kept(window, (1, "a"), (2, "b"), (3, "a"), (4, "a"))
    assert window.since("a", 0) is None
    assert positions(window.since("a", 1)) == [3, 4]
    assert positions(window.since("b", 0)) == [2]


def test_a_channel_keeps_so_many():
    window = new(per_channel=2)
    kept(window, *[(n, "a") for n in range(1, 6)], (6, "b"))
    assert positions(window.last("a", 9)) == [4, 5]
    assert window.since("a", 2) is None
    assert positions(window.since("a", 3)) == [4, 5]
    assert len(window) == 3


def test_bytes_are_bounded_but_the_newest_is_always_kept():
    window = new(max_bytes=10)
    kept(window, (1, "a"), (2, "a"), (3, "a"))
    assert positions(window.last("a", 9)) == [2, 3]
    assert window.bytes == 8
    window.add(Message("a", 4, "4", 0.0, b"x" * 50))
    assert positions(window.last("a", 9)) == [4]


def test_what_is_too_old_goes():
    clock = Clock()
    window = new(max_age=60.0, clock=clock)
    kept(window, (1, "a"), clock=clock)
    clock.advance(50)
    kept(window, (2, "a"), clock=clock)
    clock.advance(20)
    assert positions(window.last("a", 9)) == [2]
    assert window.since("a", 0) is None


def test_up_to_the_floor_nothing_is_known():
    window = new()
    window.cut(7)
    kept(window, (8, "a"))
    assert window.since("a", 6) is None
    assert positions(window.since("a", 7)) == [8]


def test_the_memory_of_what_was_lost_is_bounded(monkeypatch):
    monkeypatch.setattr(window_module, "MAX_LOST", 3)
    window = new(max_messages=1)
    kept(window, *[(n, f"channel {n}") for n in range(1, 9)])
    assert len(window._lost) <= 3
    assert window.since("channel 1", 0) is None
    assert window.since("channel 5", 4) is None or window.floor < 5
