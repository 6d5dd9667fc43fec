"""Sends mails.

    mailer = Mailer("smtp://shop:secret@mail.example:587", sender="Shop <shop@example.org>")
    async with mailer:
        await mailer.send(Mail(to="ada@example.org", subject="Your order", text="It is on its way."))

While a program is being written, `file:///mail` keeps the mails in a folder instead.
"""

from __future__ import annotations

import asyncio
from email.policy import SMTP, SMTPUTF8
from typing import Any, ClassVar, Final

from consona.address import Address, adapter_for
from consona.errors import ConsonaError, FieldProblem, ValidationError
from consona.mail.addresses import Mailbox, mailbox, sendable
from consona.mail.mail import Mail
from consona.mail.transport import Envelope, MailTransport
from consona.part import Health, Part, Status
from consona.resilience import Bulkhead, Policy, Retry
from consona.telemetry.observer import Observer

__all__ = ["Mailer"]

POLICY: Final = Policy(timeout=60.0, retry=Retry(attempts=3, backoff=1.0), bulkhead=Bulkhead(limit=10, queue=1000))
MAX_BYTES: Final = 10_000_000


class Mailer(Part):
    """Sends mails, through the server or into the folder that an address names.

    Args:
        target: `smtp://user:password@host:587` (with STARTTLS), `smtps://…:465`, `file:///folder`; or a transport.
        sender: Whom the mails come from: `Shop <shop@example.org>`.
        policy: How patient it is. What was certainly not taken is tried again; what may have been taken is not.
        observer: Where its operations are noted. Addresses, subjects and texts are not.

    Raises:
        AddressError: Nothing sends mails to such an address.
        ValidationError: The sender is no address.

    Example:
        >>> import asyncio, tempfile
        >>> async def main():
        ...     async with Mailer(f"file:///{tempfile.mkdtemp()}/mail", sender="shop@example.org") as mailer:
        ...         return await mailer.send(Mail(to="ada@example.org", subject="Hello", text="How are you?"))
        >>> asyncio.run(main()).endswith("@example.org>")
        True
    """

    kind: ClassVar[str] = "mail"

    def __init__(
        self,
        target: str | Address | MailTransport,
        *,
        sender: str,
        policy: Policy = POLICY,
        name: str = "mail",
        observer: Observer | None = None,
    ) -> None:
        super().__init__(name, observer=observer)
        self.sender: Mailbox = mailbox(sender, field="sender")
        self._from = sendable(self.sender)
        if isinstance(target, str | Address):
            target = adapter_for("mail", Address.parse(target))(Address.parse(target))
        assert not isinstance(target, str | Address)
        self.transport: MailTransport = target
        self._runner = policy.bind(name)

    async def _open(self) -> None:
        await self.transport.open()

    async def _close(self) -> None:
        await self.transport.close()

    async def check(self) -> Health:
        """Whether the server would take mails now, found out by asking it."""
        if not self.started:
            return Health(Status.DOWN, "not started")
        try:
            async with asyncio.timeout(10.0):
                await self.transport.check()
        except (ConsonaError, TimeoutError) as error:
            return Health(Status.DOWN, error.message if isinstance(error, ConsonaError) else "no answer in 10 seconds")
        return Health(Status.UP)

    def detail(self) -> dict[str, Any]:
        return {"policy": self._runner.state()}

    async def send(self, mail: Mail) -> str:
        """Send one mail, to all its recipients or to none. Returns its `Message-ID`.

        Raises:
            MailRefused: The server does not take it: a recipient, the sender, or the mail.
            MailUnknown: The connection broke after all was sent; it may have been taken.
            ConnectError: The server cannot be reached.
            DeadlineExceeded: It took longer than the policy allows.
            ValidationError: It is larger than 10 MB.
        """
        self._require_started()
        with self.observer.operation("send") as op:
            message = mail.compose(self.sender)
            recipients = mail.recipients
            data = message.as_bytes(policy=SMTP if all(each.isascii() for each in recipients) else SMTPUTF8)
            op.set(recipients=len(recipients), bytes=len(data))
            if len(data) > MAX_BYTES:
                raise ValidationError(
                    "This mail is too large.", fields=[FieldProblem("text", f"at most {MAX_BYTES} bytes in all")]
                )
            envelope = Envelope(self._from, recipients, data)
            await self._runner.run(lambda: self.transport.deliver(envelope))
            return str(message["Message-ID"])
