"""An application: its parts, started in order, stopped in reverse, and reported together.

app = App("shop", parts=[db, api], ops="sqlite:///ops.db")
async with app:
    await app.wait()            # until SIGINT or SIGTERM
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress

from consona.errors import ConfigurationError
from consona.ops.otlp import OTLPReporter, otlp_reporter
from consona.ops.reporter import Reporter
from consona.part import Health, Part, Status

__all__ = ["App"]

log = logging.getLogger("consona.app")


class App(Part):
    """Parts that belong together in one process.

    Args:
        name: The service's name in the dashboard, the logs and the traces.
        parts: Started in this order, stopped in the reverse one; the names must differ.
        ops: Where the process reports what it does (`sqlite:///ops.db`), shared by the processes of
            a system; without it, nothing is kept beyond the parts' own figures and histories. Traces go
            to an OpenTelemetry collector too where `OTEL_EXPORTER_OTLP_ENDPOINT` names one.
        stop_timeout: Seconds that each part has to stop; what takes longer is cut off and named in the log.

    Raises:
        ConfigurationError: Two parts bear the same name.

    Example:
        >>> App("shop").stats.total
        0
    """

    kind = "app"

    def __init__(
        self, name: str, *, parts: Sequence[Part] = (), ops: str | None = None, stop_timeout: float = 10.0
    ) -> None:
        super().__init__(name)
        names = [part.name for part in parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"{name} has more than one part named {', '.join(map(repr, twice))}.", hint="Give each a `name=`."
            )
        self.parts: tuple[Part, ...] = tuple(parts)
        self.reporter = Reporter(name, ops) if ops else None
        self.otlp = otlp_reporter(name)
        self._stop_timeout = stop_timeout
        self._running: list[Part] = []

    async def _open(self) -> None:
        for reporter in self._reporters():
            await reporter.start()
        try:
            for part in self.parts:
                with self.observer.operation("start", part.name):
                    await part.start()
                self._running.append(part)
        except BaseException:
            await self._close()
            raise

    async def _close(self) -> None:
        while self._running:
            part = self._running.pop()
            try:
                with self.observer.operation("stop", part.name):
                    async with asyncio.timeout(self._stop_timeout):
                        await part.stop()
            except TimeoutError:
                log.warning("%s: %s did not stop within %g s and was cut off", self.name, part.name, self._stop_timeout)
            except Exception:
                log.exception("%s: %s failed to stop", self.name, part.name)  # the others are still to be stopped
        for reporter in self._reporters():
            await reporter.stop()

    def _reporters(self) -> list[Reporter | OTLPReporter]:
        return [reporter for reporter in (self.reporter, self.otlp) if reporter is not None]

    async def check(self) -> Health:
        """The health of the worst part; `detail` has that of each."""
        if not self.started:
            return await super().check()
        found = dict(
            zip([part.name for part in self.parts], await asyncio.gather(*map(_checked, self.parts)), strict=True)
        )
        worst = next(
            (status for status in (Status.DOWN, Status.DEGRADED) if any(h.status is status for h in found.values())),
            Status.UP,
        )
        reason = "; ".join(
            f"{name}: {health.reason}" for name, health in found.items() if health.status is not Status.UP
        )
        return Health(worst, reason, {name: health.status.value for name, health in found.items()})

    async def wait(self) -> None:
        """Return when the process is asked to end (SIGINT, SIGTERM; on Windows: Ctrl-C)."""
        self._require_started()
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in signals}
        for number in signals:
            # Not loop.add_signal_handler: Windows has none.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(asked.set))
        try:
            while not asked.is_set():
                with suppress(TimeoutError):  # wakes up now and then, so that Ctrl-C is seen on Windows too
                    await asyncio.wait_for(asked.wait(), 0.5)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def _checked(part: Part) -> Health:
    try:
        return await part.check()
    except Exception as error:  # noqa: BLE001 - a check that fails is an answer: the part is down
        return Health(Status.DOWN, f"its check failed: {error}")
