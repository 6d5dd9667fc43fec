"""A mail: to whom, about what, and the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final

from consona.errors import FieldProblem, ValidationError
from consona.mail.addresses import Mailbox, mailbox, sendable

__all__ = ["Mail"]

MAX_RECIPIENTS: Final = 100
MAX_SUBJECT: Final = 400
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}")
_OURS: Final = frozenset(
    [
        "from",
        "sender",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "reply-to",
        "return-path",
        "received",
        "mime-version",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail. What it is made of is checked when it is made, so that no text of a stranger becomes a header.

    Args:
        to: An address, or several: `ada@example.org`, `Ada <ada@example.org>`. All of them see each other.
        subject: One line, up to 400 characters.
        text: The text. Every mail has one: not everybody reads HTML.
        html: The same as HTML, if wanted.
        reply_to: Where answers go, if not to the sender.
        headers: Other headers by name, such as `List-Unsubscribe`.

    Raises:
        ValidationError: An address is none, or a header has a line break in it.

    Example:
        >>> Mail(to="ada@example.org", subject="Hello", text="How are you?").recipients
        ('ada@example.org',)
    """

    to: str | Sequence[str]
    subject: str
    text: str = field(repr=False)
    html: str = field(default="", repr=False)
    reply_to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        found = self._mailboxes()
        if not 1 <= len(found) <= MAX_RECIPIENTS:
            raise _refused("to", f"1 to {MAX_RECIPIENTS} addresses are allowed; there are {len(found)}")
        for each in found:
            sendable(each)
        if self.reply_to:
            mailbox(self.reply_to, field="reply_to")
        if len(self.subject) > MAX_SUBJECT or not self.subject.isprintable():
            raise _refused("subject", f"is one line of at most {MAX_SUBJECT} printable characters")
        for name, value in self.headers.items():
            lower = name.lower()
            if not _HEADER.fullmatch(name) or lower in _OURS or lower.startswith(("content-", "resent-")):
                raise _refused("headers", "has a name that is no header, or one that is set by the other fields")
            if not value.isprintable() or len(value) > 900:
                raise _refused("headers", f"{name} is one line of at most 900 printable characters")

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses, as servers exchange them."""
        return tuple(sendable(each) for each in self._mailboxes())

    def _mailboxes(self) -> list[Mailbox]:
        return [mailbox(each, field="to") for each in ([self.to] if isinstance(self.to, str) else self.to)]

    def compose(self, sender: Mailbox) -> EmailMessage:
        """The whole mail with its headers, its date and its id."""
        message = EmailMessage(policy=SMTP)
        message["From"] = _header(sender)
        message["To"] = [_header(each) for each in self._mailboxes()]
        message["Subject"] = self.subject
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=sendable(sender).rpartition("@")[2])
        if self.reply_to:
            message["Reply-To"] = _header(mailbox(self.reply_to, field="reply_to"))
        for name, value in self.headers.items():
            message[name] = value
        message.set_content(self.text)
        if self.html:
            message.add_alternative(self.html, subtype="html")
        return message


def _header(mailbox: Mailbox) -> HeaderAddress:
    local, _, domain = sendable(mailbox).rpartition("@")
    return HeaderAddress(mailbox.name, local, domain)


def _refused(name: str, problem: str) -> ValidationError:
    return ValidationError("This mail cannot be sent.", fields=[FieldProblem(name, problem)])
