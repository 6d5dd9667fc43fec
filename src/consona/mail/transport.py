"""What a way to deliver mails must do. The front (`mailer.py`) does everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from consona.errors import DeliveryError

__all__ = ["Envelope", "MailRefused", "MailTransport", "MailUnknown"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A mail that is ready to go."""

    sender: str
    recipients: Sequence[str]
    data: bytes
    """The mail, with its headers; lines end in CR LF."""


class MailTransport(Protocol):
    """Delivers one mail to all its recipients, or to none."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def deliver(self, envelope: Envelope) -> None: ...

    async def check(self) -> None:
        """Try whether mails would be taken, without one. Raises what `deliver` would."""


class MailRefused(DeliveryError):
    """The mail server does not take this mail; `context["reply"]` has its code."""

    code: ClassVar[str] = "mail.refused"
    status = 502
    retryable = False
    hint = "See the mail server's own log for why; its words are not repeated here, since they name addresses."


class MailUnknown(DeliveryError):
    """The connection broke after the whole mail was sent: it may have been taken. It is not sent again by itself."""

    code: ClassVar[str] = "mail.unknown"
    status = 502
    retryable = False
    hint = "Send it again if two are better than none. Both have the same Message-ID only within one call."
