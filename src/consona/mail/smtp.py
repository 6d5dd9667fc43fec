"""Mails through an SMTP server: one connection for each, encrypted unless the server is on this machine.

Source: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 8314 (TLS from the start), RFC 6531 (SMTPUTF8).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from typing import Final

import aiosmtplib
from aiosmtplib import SMTP

from consona.address import Address
from consona.errors import ConfigurationError, ConnectError
from consona.mail.transport import Envelope, MailRefused, MailUnknown

__all__ = ["SMTPTransport"]

PORTS: Final = {"smtp": 587, "smtps": 465}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
QUIET_S: Final = 60.0
"""So long a server may say nothing, where the policy is more patient. RFC 5321 would wait for minutes."""


class SMTPTransport:
    """`smtp://user:password@host:587` (STARTTLS) or `smtps://…:465` (TLS from the start).

    `?tls=off` leaves out TLS; only for a server on this machine. `?ca=FILE` trusts the certificates in that file.
    """

    def __init__(self, address: Address) -> None:
        unknown = set(address.options) - {"tls", "ca"}
        self._clear = address.options.get("tls") == "off"
        if unknown or not address.host or address.path or address.options.get("tls", "on") not in {"on", "off"}:
            raise ConfigurationError(
                f"{address} is no address of a mail server.",
                hint="smtp://user:password@mail.example:587; options: ?tls=off, ?ca=FILE.",
            )
        if self._clear and (address.scheme == "smtps" or address.host not in LOOPBACK):
            raise ConfigurationError(
                f"{address}: tls=off would send mails and the password for everybody on the way to read.",
                hint="It is for smtp:// to a server on this machine. Leave it out.",
            )
        self._address = address
        self._context: ssl.SSLContext | None = None

    async def open(self) -> None:
        if not self._clear:
            try:
                self._context = await asyncio.to_thread(
                    ssl.create_default_context, cafile=self._address.options.get("ca")
                )
            except OSError as error:
                raise ConfigurationError(
                    f"{self._address}: the certificates in ca= cannot be read: {error.strerror or error}.",
                    hint="Name a PEM file.",
                ) from None

    async def close(self) -> None:
        self._context = None

    async def check(self) -> None:
        async with self._connection("localhost") as smtp:
            await smtp.noop()

    async def deliver(self, envelope: Envelope) -> None:
        async with self._connection(envelope.sender.rpartition("@")[2]) as smtp:
            if smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()
            wide = not all(each.isascii() for each in (envelope.sender, *envelope.recipients))
            if wide and not smtp.supports_extension("smtputf8"):
                raise MailRefused("The mail server takes no addresses beyond ASCII (SMTPUTF8).")
            encoding, options = ("utf-8", ["SMTPUTF8", "BODY=8BITMIME"]) if wide else ("ascii", [])
            await smtp.mail(envelope.sender, options=options, encoding=encoding)
            # All before the text goes: who is refused ends it while nobody has it.
            for number, recipient in enumerate(envelope.recipients, start=1):
                try:
                    await smtp.rcpt(recipient, encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused as error:
                    count = len(envelope.recipients)
                    raise _refusal(error, f"recipient {number} of {count}") from None
            try:
                await smtp.data(envelope.data)
            except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
                raise MailUnknown(
                    "The connection to the mail server broke before it said whether it has the mail."
                ) from None

    @contextlib.asynccontextmanager
    async def _connection(self, name: str) -> AsyncGenerator[SMTP]:
        address = self._address
        smtp = SMTP(
            hostname=address.host,
            port=address.port or PORTS[address.scheme],
            username=address.username or None,
            password=address.password or None,
            local_hostname=name if name.isascii() else "localhost",
            timeout=QUIET_S,
            use_tls=address.scheme == "smtps",
            start_tls=address.scheme == "smtp" and not self._clear,
            tls_context=self._context,
        )
        try:
            await smtp.connect()
            yield smtp
            with contextlib.suppress(aiosmtplib.SMTPException):
                await smtp.quit()  # the mail is theirs; whether the goodbye is heard changes nothing
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error, _WHAT.get(type(error), "the connection")) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            if type(error) in {aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported}:
                # Nothing broke: the server lacks STARTTLS or AUTH. The words are the library's own.
                raise MailRefused(
                    f"The mail server at {address} cannot do what is asked for: {error}", hint=""
                ) from None
            raise ConnectError(
                f"The mail server at {address} cannot be reached: {_reason(error)}.", retryable=True
            ) from None
        finally:
            smtp.close()


_WHAT: Final[dict[type[Exception], str]] = {
    aiosmtplib.SMTPAuthenticationError: "user and password",
    aiosmtplib.SMTPSenderRefused: "the sender",
    aiosmtplib.SMTPDataError: "the mail",
}


def _refusal(error: aiosmtplib.SMTPResponseException, what: str) -> MailRefused:
    """Its words stay out of it: servers repeat addresses, and who reads logs need not know them."""
    later = 400 <= error.code < 500
    words = "The mail server does not take {} now ({})." if later else "The mail server refused {} ({})."
    return MailRefused(words.format(what, error.code), retryable=later, reply=error.code)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate does not count ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return "it does not speak TLS as it should"
    if isinstance(cause, TimeoutError):
        return "it does not answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return "it closed the connection"
