"""What an engine must tell so that its answers can be kept: whether something changed meanwhile."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, runtime_checkable

__all__ = ["Freshness", "SupportsFreshness"]


class Freshness(Protocol):
    """Made by the engine of a database; used by one event loop.

    A stamp is equal to an earlier one only if no change of those tables was committed between the two,
    as far as the engine's promise goes.
    """

    promise: str
    """What it promises, in words: `never stale`."""

    strict_only: bool
    """Whether it can only tell by asking."""

    async def examine(self, tables: frozenset[str]) -> str:
        """Why answers from these tables cannot be kept now; nothing where they can. Quick for tables that it knows."""

    def stamp(self, tables: frozenset[str]) -> Hashable | None:
        """The state now, in microseconds, without asking a server; None where nothing can be promised now."""

    async def asked(self, tables: frozenset[str]) -> Hashable | None:
        """The state now, by asking the database, whatever it takes. For `Strict`."""

    def wrote(self, tables: frozenset[str] | None) -> None:
        """This process changed these tables (None: nobody knows which); called before its caller goes on."""

    async def close(self) -> None: ...


@runtime_checkable
class SupportsFreshness(Protocol):
    def freshness(self) -> Freshness: ...
