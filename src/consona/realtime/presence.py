"""Who is in a channel now, over all processes; right also after a process was killed.

Each process has a lease in the store, which it renews while it lives, and one entry for each client in a channel.
Entries whose process has lost its lease do not count, and are removed by the first process that sees it, which tells
the channel who has gone. So a killed process' clients are gone after `lease` seconds, plus a third of it until the
next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

import msgspec

from consona.errors import ConsonaError
from consona.storage.store import Store

__all__ = ["Member", "Presence"]

log = logging.getLogger("consona.realtime")

NODES: Final = "nodes/"
KNOWN: Final = "known/"
MEMBERS: Final = "members/"


class Member(msgspec.Struct, frozen=True):
    """One connection in a channel."""

    client: str
    """Its id: one for each connection."""
    user: str = ""
    """The account's id; empty where nobody signed in."""
    info: Any = None
    """What the application says about it (`client.info`)."""


class _Entry(msgspec.Struct, frozen=True):
    channel: str
    member: Member


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Entry).decode

Announce = Callable[[str, str, Member], Awaitable[None]]


class Presence:
    """The members of channels.

    Args:
        store: Where they are kept; shared by all processes of the channels.
        lease_s: How long a process that does not renew its lease still counts.
        announce: Called with a channel, `joined` or `left`, and the member.
        sleep: How to wait.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_s: float,
        announce: Announce,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.process = f"{os.getpid()}-{uuid4().hex[:12]}"
        self._store = store
        self._lease_s = lease_s
        self._announce = announce
        self._sleep = sleep
        self._own: dict[str, _Entry] = {}
        self._version = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._store.put(f"{KNOWN}{self.process}", b"")
        self._version = await self._store.put(f"{NODES}{self.process}", b"", ttl=self._lease_s)
        self._task = asyncio.create_task(self._work(), name="consona presence")

    async def stop(self) -> None:
        """Take all own members out."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        try:
            await self._remove(self.process)
        except ConsonaError as error:
            log.warning("Presence could not be taken back; it ends with the lease: %s", error.message)
        self._own.clear()

    async def enter(self, channel: str, member: Member) -> None:
        """Say that it is there."""
        key = self._key(channel, member.client)
        entry = self._own[key] = _Entry(channel, member)
        await self._store.put(key, _encode(entry))
        await self._announce(channel, "joined", member)

    async def leave(self, channel: str, client: str) -> None:
        """Say that it is gone."""
        key = self._key(channel, client)
        entry = self._own.pop(key, None)
        if entry is not None and await self._store.delete(key):
            await self._announce(channel, "left", entry.member)

    async def members(self, channel: str) -> list[Member]:
        """Who is there, in all processes that live."""
        found: list[Member] = []
        for process in sorted(await self._processes(NODES)):
            async for item in self._store.scan(f"{MEMBERS}{process}/{_named(channel)}/"):
                found.append(_decode(item.value).member)  # noqa: PERF401  two loops are read more easily
        return found

    async def renew(self) -> None:
        """Renew the own lease, and remove the members of processes that have lost theirs."""
        version = await self._store.put_if(f"{NODES}{self.process}", b"", version=self._version, ttl=self._lease_s)
        if version is None:  # it stood still for so long that others took it for dead
            await self._store.put(f"{KNOWN}{self.process}", b"")
            self._version = await self._store.put(f"{NODES}{self.process}", b"", ttl=self._lease_s)
            for key, entry in list(self._own.items()):
                if await self._store.put_if(key, _encode(entry), version=0) is not None:
                    await self._announce(entry.channel, "joined", entry.member)
        else:
            self._version = version
        for process in await self._processes(KNOWN) - await self._processes(NODES):
            await self._remove(process)

    async def _remove(self, process: str) -> None:
        async for item in self._store.scan(f"{MEMBERS}{process}/"):
            if await self._store.delete(item.key, version=item.version):  # of all who remove it, one tells
                entry = _decode(item.value)
                await self._announce(entry.channel, "left", entry.member)
        await self._store.delete(f"{NODES}{process}")
        await self._store.delete(f"{KNOWN}{process}")

    async def _processes(self, prefix: str) -> set[str]:
        return {item.key.removeprefix(prefix) async for item in self._store.scan(prefix)}

    async def _work(self) -> None:
        failing = False
        while True:
            await self._sleep(self._lease_s / 3)
            try:
                await self.renew()
                failing = False
            except ConsonaError as error:
                if not failing:
                    log.warning("Presence could not be renewed (it is tried again): %s", error.message)
                failing = True

    def _key(self, channel: str, client: str) -> str:
        return f"{MEMBERS}{self.process}/{_named(channel)}/{client}"


def _named(channel: str) -> str:
    """A channel within a key, which may be no longer than a store allows."""
    return hashlib.blake2b(channel.encode(), digest_size=16).hexdigest()
