"""Passwords are kept as Argon2id hashes: slow to make on purpose, and made in threads, so the event loop never waits.

Source: RFC 9106 (Argon2); OWASP Password Storage Cheat Sheet (the least that is used: 19 MiB, two passes).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import hash_secret

from consona.auth.password_rules import MAX_LENGTH, normalized
from consona.errors import ConfigurationError
from consona.part import Part
from consona.resilience import Bulkhead
from consona.telemetry.observer import Observer

__all__ = ["HashCost", "PasswordHashes", "tuned"]

MIN_MEMORY_KIB: Final = 19 * 1024
START_MEMORY_KIB: Final = 64 * 1024
MAX_PASSES: Final = 20
GOAL_S: Final = 0.1
"""What a hash is to take; between half of it and one and a half times of it is fine."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class HashCost:
    """How much work one hash is. A cost that is greater is more work for whoever guesses."""

    memory_kib: int
    passes: int

    def __post_init__(self) -> None:
        if self.memory_kib < MIN_MEMORY_KIB or not 1 <= self.passes <= 1000 or self.memory_kib > 4 * 1024**2:
            raise ConfigurationError(
                f"HashCost({self.memory_kib}, {self.passes}): {MIN_MEMORY_KIB} KiB or more, and 1 to 1000 passes.",
                hint="Leave it out, and it is found for this machine.",
            )

    @property
    def work(self) -> int:
        """Memory times passes, which is what time goes with."""
        return self.memory_kib * self.passes


LEAST: Final = HashCost(MIN_MEMORY_KIB, 2)


def tuned(*, clock: Callable[[], float] = time.perf_counter) -> HashCost:
    """The cost at which a hash takes about a tenth of a second on this machine. Takes some tenths itself.

    Never less than the least that is called safe today, however slow the machine is.
    """
    memory = START_MEMORY_KIB
    while True:
        once = min(_seconds(HashCost(memory, 1), clock) for _ in range(2))  # the better of two: others run here too
        if once <= GOAL_S or memory // 2 < MIN_MEMORY_KIB:
            break
        memory //= 2
    passes = max(1, min(MAX_PASSES, round(GOAL_S / max(once, 1e-6))))
    return max(HashCost(memory, passes), LEAST, key=lambda cost: cost.work)


def _seconds(cost: HashCost, clock: Callable[[], float]) -> float:
    begin = clock()
    hash_secret(b"x" * 16, b"s" * 16, cost.passes, cost.memory_kib, 1, 32, Type.ID)
    return clock() - begin


class PasswordHashes(Part):
    """Makes hashes of passwords, and compares.

    Args:
        cost: How much work a hash is; by default found out when it starts (50 to 150 ms on a quiet machine).
        workers: How many are made at once; by default one for each processor. Each needs the cost's memory.
        queue: How many callers may wait; beyond that they are refused at once (`BulkheadFull`, status 503).

    Example:
        >>> async def main():
        ...     async with PasswordHashes(cost=HashCost(19456, 2)) as hashes:
        ...         kept = await hashes.make("correct horse battery staple")
        ...         return kept[:10], await hashes.verify(kept, "correct horse battery staple")
        >>> asyncio.run(main())
        ('$argon2id$', True)
    """

    kind: ClassVar[str] = "auth.passwords"

    def __init__(
        self,
        *,
        cost: HashCost | None = None,
        workers: int | None = None,
        queue: int = 100,
        name: str = "passwords",
        observer: Observer | None = None,
    ) -> None:
        super().__init__(name, observer=observer)
        self.cost = cost or LEAST
        self.workers = workers or os.cpu_count() or 1
        self._tune = cost is None
        self._places = Bulkhead(limit=self.workers, queue=queue).bind(f"{name}: hashing")
        self._pool: ThreadPoolExecutor | None = None
        self._dummy = ""

    async def _open(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix=self.name, initializer=_step_back)
        try:
            if self._tune:
                self.cost = await self._run(tuned)
            # What a password is compared with where there is no account, so that it takes the same time.
            self._dummy = await self._run(lambda: self._hasher().hash(secrets.token_bytes(32)))
        except BaseException:
            self._pool.shutdown(wait=False)
            raise

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        assert pool is not None
        pool.shutdown(wait=False, cancel_futures=True)

    def detail(self) -> dict[str, Any]:
        cost = {"memory_kib": self.cost.memory_kib, "passes": self.cost.passes}
        return {"cost": cost, "workers": self.workers, "hashing": self._places.state()}

    async def use(self, cost: HashCost) -> None:
        """Make hashes at another cost from now on: the one that all processes of a system agreed on.

        Raises:
            NotStarted: Before `start()`.
        """
        self._require_started()
        if cost != self.cost:
            self.cost = cost
            self._dummy = await self._run(lambda: self._hasher().hash(secrets.token_bytes(32)))

    async def make(self, password: str) -> str:
        """The hash of a password, with its salt and its cost, as text (the PHC form).

        Args:
            password: Checked by `PasswordRules` before; it is normalized here.

        Raises:
            BulkheadFull: So many wait already that this one is refused.
            NotStarted: Before `start()`.
        """
        self._require_started()
        with self.observer.operation("hash"):
            plain = normalized(password).encode()
            return await self._at_a_place(lambda: self._hasher().hash(plain))

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password is the one that `kept` was made of.

        Args:
            kept: What `make` gave; None where there is no account: that takes the same time, and the answer is no.
            password: As it was typed.

        Raises:
            BulkheadFull: So many wait already that this one is refused.
            NotStarted: Before `start()`.
        """
        self._require_started()
        with self.observer.operation("verify") as op:
            plain = _plain(password)
            hashed = self._dummy if kept is None or plain is None else kept
            typed = b"" if plain is None else plain
            right = await self._at_a_place(lambda: self._fits(hashed, typed))
            right = right and kept is not None and plain is not None
            op.set(right=right)
            return right

    def outdated(self, kept: str) -> bool:
        """Whether it was made with less work than one would be now, so that it is to be made again at a login."""
        return _work(kept) < self.cost.work

    def _fits(self, kept: str, plain: bytes) -> bool:
        try:
            right: bool = self._hasher().verify(kept, plain)
        except (Argon2Error, InvalidHashError):
            right = False
        missing = self.cost.work - _work(kept)
        if missing > 0:  # one that was made with less work takes as long as all others, or it would show
            passes = max(1, round(missing / self.cost.memory_kib))
            hash_secret(plain or b" ", b"s" * 16, passes, self.cost.memory_kib, 1, 32, Type.ID)
        return right

    def _hasher(self) -> PasswordHasher:
        return PasswordHasher(self.cost.passes, self.cost.memory_kib, parallelism=1)

    async def _at_a_place(self, work: Callable[[], T]) -> T:
        async with self._places.place():
            return await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _work(kept: str) -> int:
    """The work with which a hash was made; 0 where it is none of ours."""
    try:
        found = extract_parameters(kept)
    except InvalidHashError:
        return 0
    return found.memory_cost * found.time_cost if found.type is Type.ID else 0


def _plain(password: str) -> bytes | None:
    """The bytes that were hashed, if it is a password that could have been chosen."""
    if len(password) > MAX_LENGTH:
        return None
    try:
        return normalized(password).encode()
    except ValueError:
        return None


def _step_back() -> None:
    """Let the event loop's thread go first where both want the processor. Linux alone has that for threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
