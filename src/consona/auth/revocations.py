"""Tokens that were taken back before their time, in memory: each stays in mind until it would have ended anyway."""

from __future__ import annotations

from typing import Final

from consona.auth.claims import Claims

__all__ = ["Revocations"]

SWEEP_EVERY: Final = 1000
"""After so many revocations those whose time is over are forgotten."""


class Revocations:
    """What is asked at each verification, so it costs three look-ups.

    A token is named by its own id, by its session's, or by its account together with the number of changes that the
    account has seen (`version`): what was issued before that change no longer counts, whatever clocks say.
    """

    def __init__(self) -> None:
        self._ids: dict[str, float] = {}
        self._sessions: dict[str, float] = {}
        self._versions: dict[str, tuple[int, float]] = {}
        self._since_sweep = 0

    def __len__(self) -> int:
        return len(self._ids) + len(self._sessions) + len(self._versions)

    def token(self, id: str, *, until: float) -> None:  # noqa: A002 the name of the claim
        """Take one token back; `until` is when it ends by itself (seconds since the epoch)."""
        self._note(self._ids, id, until)

    def session(self, id: str, *, until: float) -> None:  # noqa: A002 likewise
        """Take back all tokens of a session; `until` is when the last of them ends by itself."""
        self._note(self._sessions, id, until)

    def account(self, subject: str, *, version: int, until: float) -> None:
        """Take back all tokens of an account that were issued before its change number `version`."""
        known, end = self._versions.get(subject, (0, 0.0))
        self._versions[subject] = max(known, version), max(end, until)
        self._since_sweep += 1

    def cover(self, claims: Claims) -> bool:
        """Whether this token was taken back."""
        if claims.id in self._ids or (claims.session and claims.session in self._sessions):
            return True
        change = self._versions.get(claims.subject)
        return change is not None and claims.version < change[0]

    def _note(self, where: dict[str, float], name: str, until: float) -> None:
        where[name] = max(until, where.get(name, 0.0))
        self._since_sweep += 1

    def sweep(self, now: float) -> None:
        """Forget those whose tokens have ended by themselves, where that is due."""
        if self._since_sweep < SWEEP_EVERY:
            return
        self._since_sweep = 0
        self._ids = {name: until for name, until in self._ids.items() if until >= now}
        self._sessions = {name: until for name, until in self._sessions.items() if until >= now}
        self._versions = {name: each for name, each in self._versions.items() if each[1] >= now}
