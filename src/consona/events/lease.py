"""A place that one process has at a time: who dies loses it when its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consona.storage.store import ABSENT

if TYPE_CHECKING:
    from consona.storage.store import Store

__all__ = ["Lease"]


class Lease:
    """Held under a key of a store, for `ttl_s` seconds after it was taken or renewed.

    It keeps others from doing the same work for nothing; it does not fence (what a holder that was frozen
    writes late must be refused by a version, or be harmless).
    """

    def __init__(self, store: Store, key: str, owner: str, *, ttl_s: float) -> None:
        self._store = store
        self._key = key
        self._owner = owner.encode()
        self._ttl_s = ttl_s
        self._version = ABSENT

    async def take(self) -> bool:
        """Take it, or hold it for longer. Returns whether it is ours now."""
        version = await self._store.put_if(self._key, self._owner, version=self._version, ttl=self._ttl_s)
        self._version = version or ABSENT
        return version is not None

    async def give_back(self) -> None:
        """Let another have it at once."""
        if self._version != ABSENT:
            await self._store.delete(self._key, version=self._version)
            self._version = ABSENT
