"""Lets so many exchanges have a connection at once, in all and to one host; the others wait in line."""

from __future__ import annotations

import asyncio
from typing import Final

from consona.errors import BulkheadFull

__all__ = ["ConnectionGate"]

UNLIMITED: Final = 1 << 31


class ConnectionGate:
    """Places for connections, first come, first served, except that a full host does not hold up another.

    Args:
        limit: Places in all; None is no limit.
        per_host: Places to one host; None is no limit.
        what: What a place is, for the error.
    """

    def __init__(self, limit: int | None, per_host: int | None, what: str = "connection") -> None:
        self.what = what
        self.limit = limit or UNLIMITED
        self.per_host = per_host or UNLIMITED
        self.busy = 0
        self._hosts: dict[str, int] = {}
        self._line: dict[asyncio.Future[None], str] = {}  # in the order of arrival

    @property
    def waiting(self) -> int:
        return len(self._line)

    def try_enter(self, host: str) -> bool:
        """Take a place if one is free and nobody waits; `leave` gives it back."""
        if self._line or not self._has_place(host):
            return False
        self._take(host)
        return True

    async def enter(self, host: str, timeout_s: float | None) -> None:
        """Take a place, or wait for one; `leave` gives it back.

        Raises:
            BulkheadFull: None came free within `timeout_s` seconds.
        """
        if self.try_enter(host):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[turn] = host
        try:
            self.advance()
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as error:
            if not self._line.pop(turn, None) and turn.done() and not turn.cancelled():
                self.leave(host)  # the turn came at the same moment as the end of the wait
            if not isinstance(error, TimeoutError):
                raise
            raise BulkheadFull(
                f"No {self.what} to {host} came free within {timeout_s:g} s: {self.busy} are in use.",
                hint="Send less at once, close streams that you no longer read, or raise the transport's `connections`.",
                host=host,
                busy=self.busy,
            ) from None

    def leave(self, host: str) -> None:
        self.busy -= 1
        left = self._hosts[host] - 1
        if left:
            self._hosts[host] = left
        else:
            del self._hosts[host]
        if self._line:
            self.advance()

    def _has_place(self, host: str) -> bool:
        return self.busy < self.limit and self._hosts.get(host, 0) < self.per_host

    def _take(self, host: str) -> None:
        self.busy += 1
        self._hosts[host] = self._hosts.get(host, 0) + 1

    def advance(self) -> None:
        """Let in who waits and has a place now; to be called when `limit` grew."""
        for turn, host in list(self._line.items()):
            if self.busy >= self.limit:
                return
            if turn.done():  # cancelled, and on its way out
                continue
            if self._has_place(host):
                del self._line[turn]
                self._take(host)
                turn.set_result(None)
