"""Sending e-mail: through an SMTP server, or into a folder while a program is being written."""

from __future__ import annotations

from consona.mail.mail import Mail
from consona.mail.mailer import Mailer

__all__ = ["Mail", "Mailer"]
