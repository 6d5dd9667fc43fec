"""What a sender keeps: where webhooks go, and what became of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from consona.errors import ConfigurationError

__all__ = ["RETRY_SCHEDULE", "Delivery", "DeliverySettings", "Endpoint", "Secret"]

MINUTE: Final = 60.0
HOUR: Final = 3600.0
RETRY_SCHEDULE: Final = (
    0.0, 5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
"""The specification's recommendation: seconds before each try, about 76 hours in all."""

EVENT_TYPE: Final = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
EVENT_PATTERN: Final = re.compile(r"\*|[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*(?:\.\*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How persistently, and how carefully, webhooks are sent. Times in seconds.

    Raises:
        ConfigurationError: A number is out of range.

    Example:
        >>> DeliverySettings(timeout=10).schedule[:3]
        (0.0, 5.0, 300.0)
    """

    schedule: tuple[float, ...] = RETRY_SCHEDULE
    """The wait before each try; its length is the number of tries."""
    jitter: float = 0.2
    """Each wait is drawn from itself to this share more, so that retries do not come in waves."""
    timeout: float = 20.0
    """For one try; the specification recommends 15 to 30."""
    disable_after: float = 5 * 86_400.0
    """An endpoint that failed for so long without a success is disabled."""
    keep: float = 30 * 86_400.0
    """How long what became of a delivery is kept, and can be sent again."""
    concurrency: int = 20
    """How many tries are under way at once,"""
    per_endpoint: int = 4
    """and how many of them to one endpoint, so that a slow one does not stop the others."""
    drain: float = 5.0
    """How long tries that are under way may go on when the sender stops; what is cut is tried again later."""
    http: bool = False
    """Whether an endpoint may be http://, where everybody on the way can read along."""
    private_networks: bool = False
    """Whether an endpoint may be on this machine or in a private network."""

    def __post_init__(self) -> None:
        if not self.schedule or min(self.schedule) < 0:
            raise ConfigurationError("DeliverySettings(schedule=…) needs at least one wait, and none below zero.")
        for name in ("timeout", "disable_after", "keep", "concurrency", "per_endpoint"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"DeliverySettings({name}={getattr(self, name)!r}) must be above zero.")
        if self.jitter < 0 or self.drain < 0:
            raise ConfigurationError("DeliverySettings: jitter and drain must not be below zero.")

    @property
    def lease(self) -> float:
        """After how many seconds a try of which nothing was heard is taken for dead, and made again."""
        return self.timeout + max(1.0, self.timeout / 2)


class Secret(msgspec.Struct, frozen=True):
    """A secret that webhooks are signed with."""

    text: str
    until: datetime | None = None
    """When it stops being used; None for the newest."""

    def __repr__(self) -> str:
        return f"Secret(***, until={self.until})"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where webhooks go."""

    id: str
    url: str
    secrets: list[Secret]
    """The newest first."""
    events: list[str] = []
    """Which types it gets: `invoice.paid`, `invoice.*`; empty for all."""
    created: datetime
    disabled: str = ""
    """Why it gets nothing at the moment; empty while it does."""
    failing_since: datetime | None = None
    """The first failure since the last success."""

    @property
    def secret(self) -> str:
        """The newest secret: what its owner verifies with."""
        return self.secrets[0].text

    def wants(self, event_type: str) -> bool:
        """Whether it gets events of this type."""
        return not self.events or any(
            pattern in {"*", event_type} or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
            for pattern in self.events
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.id}{' disabled' if self.disabled else ''}>"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook on its way to one endpoint, and what became of it."""

    message: str
    """The `webhook-id`: the same for each endpoint and each try."""
    endpoint: str
    type: str
    status: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0
    """Finished tries."""
    created: datetime
    last_attempt: datetime | None = None
    last_status: int | None = None
    """What the endpoint answered; None where it did not answer."""
    last_error: str = ""
    """Why the last try failed, in words."""
    next_try: datetime | None = None
    """When it is tried (again); None when it is finished."""
    in_progress: bool = False
    """Whether a process is trying it; if that is not heard of again, `next_try` says when another does."""

    @property
    def id(self) -> str:
        return f"{self.message}/{self.endpoint}"
