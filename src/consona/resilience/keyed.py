"""One state for each key (a host, a client), of at most so many keys: strangers may choose them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["MAX_KEYS", "Keyed"]

S = TypeVar("S")

MAX_KEYS = 1024
"""So many keys are remembered, unless told otherwise."""

_LOOKED_AT = 8
"""So many old keys are looked at to find an idle one, so that a full table costs a newcomer little."""


class Keyed(Generic[S]):
    """A table that forgets the key that was unused for longest, but none that is `busy`.

    It may hold more than `max_keys` while more than that are busy at once.
    """

    __slots__ = ("_busy", "_make", "_states", "max_keys")

    def __init__(self, make: Callable[[str], S], *, max_keys: int, busy: Callable[[S], bool] | None = None) -> None:
        self._make = make
        self._busy = busy
        self._states: OrderedDict[str, S] = OrderedDict()
        self.max_keys = max_keys

    def get(self, key: str) -> S:
        """The state of `key`, made if it is new."""
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = self._make(key)
            if len(self._states) > self.max_keys:
                self._forget(key)
        else:
            self._states.move_to_end(key)
        return state

    def _forget(self, newest: str) -> None:
        for key in [key for key, _ in zip(self._states, range(_LOOKED_AT), strict=False)]:
            if len(self._states) <= self.max_keys:
                return
            if key != newest and (self._busy is None or not self._busy(self._states[key])):
                del self._states[key]

    def __len__(self) -> int:
        return len(self._states)

    def latest(self, limit: int) -> Iterator[tuple[str, S]]:
        """The keys used last, newest first, with their states."""
        for key, _ in zip(reversed(self._states), range(limit), strict=False):
            yield key, self._states[key]
