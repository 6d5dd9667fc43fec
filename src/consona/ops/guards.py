"""The breakers, limits and bulkheads of a part, found in its `detail`, in words.

Parts put the `state()` of their policies into their detail, wherever it suits them; what such a
state looks like (see `consona.resilience`) says what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

__all__ = ["Guard", "guards"]

CIRCUIT_WORDS: Final = {"closed": "closed", "open": "open", "half_open": "trying again"}


class Guard(msgspec.Struct, frozen=True):
    """One breaker, limit or bulkhead."""

    kind: str
    """`breaker`, `rate limit` or `bulkhead`."""
    of: str
    """Whom it guards: a host, or empty where there is only one."""
    state: str
    """One word or two: `closed`, `open`, `free`, `full`, ..."""
    words: str
    """The whole of it in words."""
    trouble: bool
    """Whether it holds something back now."""


def guards(detail: Mapping[str, Any], of: str = "") -> list[Guard]:
    """All that are found in a part's detail.

    Example:
        >>> guards({"policy": {"keys": {"db": {"breaker": {"state": "open", "opened": 2}}}}})[0].words
        'breaker for db: open, opened 2 times'
    """
    return list(_found(detail, of, depth=0))


def _found(detail: Mapping[str, Any], of: str, *, depth: int) -> Iterator[Guard]:
    if depth > 8:
        return
    if detail.get("state") in CIRCUIT_WORDS and "opened" in detail:
        yield _circuit(detail, of)
    elif {"running", "limit", "waiting"} <= detail.keys():
        yield _bulkhead(detail, of)
    elif {"waiting", "refused"} <= detail.keys():
        yield _rate(detail, of)
    else:
        for name, value in detail.items():
            if isinstance(value, Mapping):
                yield from _found(value, name if depth and name not in _STRUCTURE else of, depth=depth + 1)


_STRUCTURE: Final = {"policy", "keys", "breaker", "bulkhead", "rate", "retry"}


def _circuit(state: Mapping[str, Any], of: str) -> Guard:
    word = CIRCUIT_WORDS[state["state"]]
    words = f"{_named('breaker', of)}: {word}, opened {_times(state['opened'])}"
    soon = state.get("next_probe_in")
    if word == "open" and isinstance(soon, int | float):
        words += f", tried again in {soon:.0f} s"
    return Guard("breaker", of, word, words, word != "closed")


def _bulkhead(state: Mapping[str, Any], of: str) -> Guard:
    full = bool(state["waiting"]) or state["running"] >= state["limit"]
    words = f"{_named('bulkhead', of)}: {state['running']} of {state['limit']} places taken, {state['waiting']} waiting"
    return Guard("bulkhead", of, "full" if full else "free", words, full)


def _rate(state: Mapping[str, Any], of: str) -> Guard:
    waiting = bool(state["waiting"])
    words = f"{_named('rate limit', of)}: {state['waiting']} waiting, {state['refused']} refused so far"
    return Guard("rate limit", of, "holding back" if waiting else "free", words, waiting)


def _named(kind: str, of: str) -> str:
    return f"{kind} for {of}" if of else kind


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")
