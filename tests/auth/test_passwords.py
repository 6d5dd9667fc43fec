"""Hashes of passwords: slow for whoever guesses, and never in the event loop's way."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import PasswordHasher, extract_parameters

from consona.auth import passwords
from consona.auth.passwords import LEAST, HashCost, PasswordHashes, tuned
from consona.errors import BulkheadFull, ConfigurationError, NotStarted

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def hashes():
    async with PasswordHashes(cost=LEAST, workers=2) as made:
        yield made


async def test_a_password_fits_its_hash_and_no_other(hashes):
    kept = await hashes.make(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hashes.verify(kept, PASSWORD)
    for wrong in ("", PASSWORD[:-1], PASSWORD + " ", PASSWORD.upper()):
        assert not await hashes.verify(kept, wrong)


async def test_each_hash_has_a_salt_of_its_own(hashes):
    assert await hashes.make(PASSWORD) != await hashes.make(PASSWORD)


async def test_a_password_fits_however_the_keyboard_writes_it(hashes):
    kept = await hashes.make("Cafe\u0301 cre\u0300me, s'il vous plait")
    assert await hashes.verify(kept, "Café crème, s'il vous plait")
    assert await hashes.verify(kept, "\uff23afé crème, s'il vous plait")  # a full-width C


async def test_without_an_account_the_same_work_is_done_and_the_answer_is_no(hashes, monkeypatch):
    done = []
    real = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, kept, word: done.append(kept) or real(self, kept, word))
    kept = await hashes.make(PASSWORD)
    for hashed, word in ((kept, "wrong"), (None, "wrong"), (None, PASSWORD), (kept, "\0"), (kept, "x" * 5000)):
        assert not await hashes.verify(hashed, word)
    assert all(extract_parameters(each) == extract_parameters(kept) for each in done)
    assert len(done) == 5


async def test_a_hash_of_less_work_takes_as_long_as_all_others(hashes, monkeypatch):
    old = await hashes.make(PASSWORD)
    await hashes.use(HashCost(19456, 5))
    extra = []
    real = passwords.hash_secret
    monkeypatch.setattr(passwords, "hash_secret", lambda *args: extra.append(args[2:4]) or real(*args))
    assert await hashes.verify(old, PASSWORD)
    assert not await hashes.verify(old, "wrong")
    assert not await hashes.verify(None, "wrong")
    assert extra == [(3, 19456), (3, 19456)]


async def test_a_hash_of_less_work_is_outdated(hashes):
    old = await hashes.make(PASSWORD)
    assert not hashes.outdated(old)
    await hashes.use(HashCost(19456, 3))
    assert hashes.outdated(old)
    assert await hashes.verify(old, PASSWORD)
    assert not hashes.outdated(await hashes.make(PASSWORD))
    await hashes.use(LEAST)
    assert not hashes.outdated(old)
    assert hashes.outdated("$2b$12$bcrypt")
    assert hashes.outdated("")


@pytest.mark.parametrize("kept", ["", "plain", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA", "\0"])
async def test_a_broken_hash_fits_nothing(hashes, kept):
    assert not await hashes.verify(kept, PASSWORD)


async def test_the_event_loop_runs_while_hashes_are_made(hashes):
    threads = set()
    real = hashes._hasher

    def noted():
        threads.add(threading.current_thread().name)
        return real()

    hashes._hasher = noted
    making = asyncio.gather(*(hashes.make(PASSWORD) for _ in range(6)))
    turns = 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    await making
    assert turns > 100
    assert threads
    assert threading.main_thread().name not in threads
    assert len(threads) <= 2


async def test_beyond_the_queue_callers_are_refused_at_once():
    async with PasswordHashes(cost=LEAST, workers=1, queue=2) as hashes:
        done = await asyncio.gather(*(hashes.make(PASSWORD) for _ in range(8)), return_exceptions=True)
    refused = [each for each in done if isinstance(each, BulkheadFull)]
    assert (len(refused), refused[0].status, refused[0].retryable) == (5, 503, True)


async def test_callers_that_go_away_leave_no_work_behind():
    async with PasswordHashes(cost=LEAST, workers=1, queue=50) as hashes:
        tasks = [asyncio.create_task(hashes.make(PASSWORD)) for _ in range(40)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await hashes.verify(await hashes.make(PASSWORD), PASSWORD)
        assert hashes.stats.operations["hash"].cancelled == 40
        assert hashes.detail()["hashing"]["keys"][""]["running"] == 0


async def test_it_is_used_between_start_and_stop():
    hashes = PasswordHashes(cost=LEAST)
    for use in (hashes.make(PASSWORD), hashes.verify(None, PASSWORD), hashes.use(LEAST)):
        with pytest.raises(NotStarted):
            await use


async def test_passwords_and_hashes_are_not_seen(hashes, caplog):
    caplog.set_level("DEBUG", "consona")
    kept = await hashes.make(PASSWORD)
    await hashes.verify(kept, PASSWORD)
    said = f"{hashes.history} {hashes.stats} {hashes!r} {caplog.text}"
    assert PASSWORD not in said
    assert kept not in said


# How much work it is.


class Machine:
    """A clock of a machine that does so much work a second."""

    def __init__(self, monkeypatch, kib_passes_a_second):
        self.now, self.rate, self.costs = 0.0, kib_passes_a_second, []
        monkeypatch.setattr(passwords, "hash_secret", self.hash)

    def hash(self, _secret, _salt, passes, memory_kib, *_):
        self.now += passes * memory_kib / self.rate

    def __call__(self):
        return self.now


@pytest.mark.parametrize("rate", [200_000, 500_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000])
def test_a_hash_takes_about_a_tenth_of_a_second_on_slow_and_quick_machines(monkeypatch, rate):
    cost = tuned(clock=Machine(monkeypatch, rate))
    seconds = cost.work / rate
    assert cost.work >= LEAST.work
    assert 0.05 <= seconds <= 0.15 or cost.work == LEAST.work or cost.passes == passwords.MAX_PASSES


def test_it_is_never_less_than_the_least_that_is_safe(monkeypatch):
    assert tuned(clock=Machine(monkeypatch, 10_000)) == LEAST


async def test_the_start_finds_out_what_this_machine_can_do():
    async with PasswordHashes() as hashes:
        assert hashes.cost.work >= LEAST.work
        assert hashes.detail()["cost"] == {"memory_kib": hashes.cost.memory_kib, "passes": hashes.cost.passes}


@pytest.mark.parametrize(("memory", "passes"), [(19_455, 2), (0, 1), (19_456, 0), (2**23, 1), (19_456, 1001)])
def test_a_cost_that_is_too_small_or_too_large_is_refused(memory, passes):
    with pytest.raises(ConfigurationError):
        HashCost(memory, passes)
