"""What an engine must tell so that its answers can be kept: whether something changed meanwhile."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

__all__ = ["Freshness", "SupportsFreshness", "SupportsWatching"]


class Freshness(Protocol):
    """Made by the engine of a database; used by one event loop.

    A stamp is equal to an earlier one only if no change of those tables was committed between the two,
    as far as the engine's promise goes.
    """

    promise: str
    """What it promises, in words: `never stale`."""

    strict_only: bool
    """Whether it can only tell by asking."""
    wants_writes: bool
    """Whether `wrote` must be called; False where the database tells of this process' changes too."""

    async def examine(self, tables: frozenset[str], *, strict: bool) -> str:
        """Why answers from these tables cannot be kept now; nothing where they can. Quick for tables that it knows."""

    def stamp(self, tables: frozenset[str]) -> Hashable | None:
        """The state now, in microseconds, without asking a server; None where nothing can be promised now."""

    async def asked(self, tables: frozenset[str]) -> Hashable | None:
        """The state now, by asking the database, whatever it takes. For `Strict`."""

    def wrote(self, tables: frozenset[str] | None, began: float, *, settled: bool, whole: bool) -> None:
        """This process changed these tables (None: nobody knows which) at once; called before its caller goes on.

        It began at `began`, in seconds of `time.perf_counter`. Not `settled`: it may yet happen, as what was cancelled on its way. `whole`: each of them was changed.
        """

    async def close(self) -> None: ...


@runtime_checkable
class SupportsFreshness(Protocol):
    def freshness(self) -> Freshness: ...


@runtime_checkable
class SupportsWatching(Protocol):
    """Of an engine that tells of changes only where it was asked to."""

    async def watch_tables(self, tables: Sequence[str], *, strict: bool) -> None: ...
