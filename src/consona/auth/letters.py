"""What accounts write to their owners. The texts are templates, which an application may replace by its own.

A template is `mails/NAME.txt`: its first line is the subject, the rest is the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from consona.auth.account import Row
from consona.auth.links import Links, Purpose
from consona.auth.postman import Postman
from consona.auth.theme import Theme
from consona.mail import Mail, Mailer

if TYPE_CHECKING:
    from consona.auth.guesses import Guesses

__all__ = ["Letters"]


class Letters:
    """Writes them, and hands them to the postman.

    Args:
        mailer: Who sends them.
        postman: Who sees to it after the answer.
        links: Where links are kept.
        guesses: Counts how many mails an account is sent.
        links_to: The address of the pages that links lead to: `https://shop.example/account`.
        service: What the letters call the application.
        theme: The texts.
    """

    def __init__(
        self,
        mailer: Mailer,
        postman: Postman,
        links: Links,
        guesses: Guesses,
        *,
        links_to: str,
        service: str,
        theme: Theme,
    ) -> None:
        self._mailer = mailer
        self._postman = postman
        self._links = links
        self._guesses = guesses
        self._links_to = links_to
        self._service = service
        self._theme = theme

    def link(self, row: Row, purpose: Purpose, email: str, *, ttl: float) -> None:
        """Send a link to an address. An account is sent so many in an hour; more are left out."""

        async def send() -> None:
            if await self._guesses.mail(row.id):
                token = await self._links.issue(row.id, purpose, email, ttl=ttl)
                where = f"{self._links_to}/{purpose.value}?{urlencode({'token': token})}"
                await self._send(purpose.value, row, email, link=where, minutes=round(ttl / 60))

        self._postman.post(send)

    def tell(self, row: Row, what: str) -> None:
        """Tell an account's owner that something was changed: `password_changed`, `email_changed`."""
        if row.email:
            self._postman.post(lambda: self._send(what, row, row.email))

    async def _send(self, template: str, row: Row, email: str, **values: Any) -> None:
        text = self._theme.draw(f"mails/{template}.txt", name=row.name, service=self._service, **values)
        subject, _, rest = text.partition("\n")
        # Answered by nobody: no holiday note comes back (RFC 3834).
        headers = {"Auto-Submitted": "auto-generated"}
        await self._mailer.send(Mail(to=email, subject=subject.strip(), text=rest.strip() + "\n", headers=headers))
