"""How a pool opens connections: each bounded in time, tried again with pauses while the server cannot be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final, Generic, TypeVar

from consona.errors import ConnectError, ConsonaError
from consona.storage.pool_driver import Driver, Slot
from consona.storage.pool_settings import PoolSettings

__all__ = ["Opening"]

C = TypeVar("C")

log = logging.getLogger("consona.storage")

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class Opening(Generic[C]):
    """The connections that are being opened.

    Args:
        driver: How to open one.
        settings: How long that may take, and how long it is tried.
        name: What messages call the server.
        clock: Seconds; never goes back.
        rng: Chance from 0 to 1, for the pauses between tries and for ages.
        sleep: Waits that many seconds.
        unreachable: Is told the error once it was tried for long enough.

    Attributes:
        running: How many are being opened now.
        failure: Why the last one could not be opened; None once one was.
    """

    def __init__(
        self,
        driver: Driver[C],
        settings: PoolSettings,
        *,
        name: str,
        clock: Callable[[], float],
        rng: Callable[[], float],
        sleep: Callable[[float], Coroutine[object, object, None]],
        unreachable: Callable[[ConsonaError], None],
    ) -> None:
        self.driver = driver
        self.settings = settings
        self.name = name
        self.running = 0
        self.opened = 0
        self.failures = 0
        self.failure: ConsonaError | None = None
        self._failing_since = 0.0
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._unreachable = unreachable

    def begin(self, wanted: int) -> int:
        """How many of the `wanted` ones are to be opened, noted as running: one at a time while opening fails."""
        if self.failure is not None:
            wanted = min(wanted, 1 - self.running)
        wanted = max(0, wanted)
        self.running += wanted
        return wanted

    async def one(self, still_wanted: Callable[[], bool]) -> Slot[C] | None:
        """One that was begun. Tried again while it is `still_wanted` and the server cannot be reached."""
        attempt = 0
        try:
            while True:
                try:
                    return await self._try()
                except ConsonaError as error:
                    self._note(error)
                if self.running > 1 or not still_wanted():
                    return None
                attempt += 1
                await self._sleep(self._rng() * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
        finally:
            self.running -= 1

    async def _try(self) -> Slot[C]:
        try:
            async with asyncio.timeout(self.settings.connect):
                connection = await self.driver.connect()
        except TimeoutError as error:
            raise ConnectError(f"{self.name} did not answer within {self.settings.connect:g} s.") from error
        except ConsonaError:
            raise
        except Exception as error:  # a fault of ours or of the driver: whoever waits must hear of it
            raise ConnectError(f"{self.name}: connecting failed ({type(error).__name__}).", retryable=False) from error
        now = self._clock()
        if self.failure is not None:
            log.warning("%s: connected again after %.1f s.", self.name, now - self._failing_since)
            self.failure = None
        self.opened += 1
        return Slot(connection, now + self.settings.max_age * (1 - 0.1 * self._rng()), now)

    def _note(self, error: ConsonaError) -> None:
        self.failures += 1
        now = self._clock()
        if self.failure is None:
            self._failing_since = now
            log.warning("%s: no connection: %s", self.name, error.message)
        self.failure = error
        if not error.retryable or now - self._failing_since >= self.settings.patience:
            self._unreachable(error)
