"""Turns between processes: told apart here by the open file, since locks of this kind belong to it."""

from consona.storage.turn import Turn


class Time:
    """A clock that passes while somebody sleeps."""

    def __init__(self):
        self.now = 0.0
        self.on_sleep = lambda: None

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


def turn(path, time, patience=1.0):
    return Turn(str(path), patience=patience, clock=time.clock, sleep=time.sleep)


def test_a_free_turn_is_taken_at_once(tmp_path):
    time = Time()
    mine = turn(tmp_path / "turn", time)
    mine.take()
    mine.give_back()
    mine.take()
    assert time.now == 0.0
    mine.close(delete=True)
    assert not (tmp_path / "turn").exists()


def test_who_comes_second_waits_until_the_first_gives_back(tmp_path):
    time = Time()
    first, second = turn(tmp_path / "turn", time), turn(tmp_path / "turn", time)
    first.take()
    time.on_sleep = lambda: first.give_back() if time.now >= 0.5 else None
    second.take()
    assert 0.5 <= time.now < 0.51
    first.close(delete=False)
    second.close(delete=True)


def test_who_waits_for_a_frozen_one_goes_on_after_its_patience_and_then_waits_no_more(tmp_path):
    time = Time()
    frozen, mine = turn(tmp_path / "turn", time), turn(tmp_path / "turn", time)
    frozen.take()
    mine.take()
    assert 1.0 <= time.now < 1.01
    before = time.now
    mine.take()
    assert time.now == before
    frozen.give_back()  # it thaws
    mine.take()
    mine.give_back()
    frozen.take()
    mine.take()
    assert time.now >= before + 1.0
    frozen.close(delete=False)
    mine.close(delete=True)


def test_without_a_lock_file_everybody_goes_on(tmp_path):
    time = Time()
    nowhere = turn(tmp_path / "missing" / "turn", time)
    nowhere.take()
    nowhere.give_back()
    nowhere.close(delete=True)
    none = Turn(None, patience=1.0)
    none.take()
    none.close(delete=True)
