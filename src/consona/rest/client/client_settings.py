"""What is seldom changed of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from consona.errors import ConfigurationError
from consona.rest.client.history import HistoryDetail
from consona.rest.transport import Timeouts

__all__ = ["ClientSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What is seldom changed.

    Raises:
        ConfigurationError: A number is out of range.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    max_answer_bytes: int = 32 * 1024 * 1024
    """How long an answer may be, after decompression. `stream` has no such limit."""
    max_redirects: int = 10
    """How many redirects are followed; 0 gives the redirect itself as the answer."""
    cookies: bool = True
    """Whether cookies of the base's origin are kept and sent back to it."""
    idempotent: bool = False
    """Whether POST and PATCH may be repeated throughout: the server takes the same `Idempotency-Key` for one."""
    raise_for_status: bool = True
    """Whether a status of 400 and above is an error."""
    history: HistoryDetail = "sizes"
    """What the history (and a trace) keeps of each call beside names and sizes: `headers` too, or also JSON `bodies`.

    What bears the name of a secret is masked; other values of your users are then kept in memory, and in `ops.db`."""

    def __post_init__(self) -> None:
        if self.max_answer_bytes < 1 or self.max_redirects < 0:
            raise ConfigurationError("ClientSettings: max_answer_bytes is at least 1, and max_redirects at least 0.")
        if self.history not in get_args(HistoryDetail):
            raise ConfigurationError(f"ClientSettings(history={self.history!r}): sizes, headers or bodies.")
