"""Mails into a folder, while a program is being written: nobody gets them, and everybody can look.

The folder is a Maildir (one file for each mail, `new/*`), which several processes may fill at once and which mail
programs open: `mutt -f mail`.

Source: D. J. Bernstein, "Using maildir format", https://cr.yp.to/proto/maildir.html.
"""

from __future__ import annotations

import asyncio
import mailbox
import os
from pathlib import Path

from consona.address import Address
from consona.errors import ConfigurationError, DeliveryError
from consona.mail.transport import Envelope

__all__ = ["MailFolder"]


class MailFolder:
    """`file:///mail` is the folder `mail` here; `file:////var/mail/shop` is one from the root."""

    def __init__(self, address: Address) -> None:
        if not address.path or address.host or address.options:
            raise ConfigurationError(
                f"{address} names no folder for mails.", hint="file:///mail, or file:////var/mail/shop."
            )
        self.path = Path(address.path)

    async def open(self) -> None:
        await asyncio.to_thread(self._make)

    async def close(self) -> None:
        pass

    async def check(self) -> None:
        if not os.access(self.path / "new", os.W_OK):
            raise DeliveryError(f"The mail folder {self.path} cannot be written to.", hint="Look whether it is there.")

    async def deliver(self, envelope: Envelope) -> None:
        await asyncio.to_thread(self._add, envelope.data)

    def _make(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._box()
        except OSError as error:
            raise ConfigurationError(
                f"The mail folder {self.path} cannot be made: {error.strerror}.", hint="Name another one."
            ) from error

    def _add(self, data: bytes) -> None:
        try:
            self._box().add(data.replace(b"\r\n", b"\n"))
        except OSError as error:
            raise DeliveryError(f"The mail could not be written to {self.path}: {error.strerror}.") from error

    def _box(self) -> mailbox.Maildir:
        # Made for its owner alone: in it are links that open accounts.
        return mailbox.Maildir(self.path, create=True)
