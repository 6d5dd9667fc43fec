"""Known devices: a note that a browser keeps after a sign-in, so that others' wrong guesses do not shut it out.

Source: OWASP, "Slow down online guessing attacks with device cookies".
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from consona.auth.jws import encode

__all__ = ["Devices"]

TTL_S: Final = 400 * 86_400
"""The longest that browsers keep a cookie."""
_TEXT: Final = re.compile(r"cdv_([A-Za-z0-9-]{12})_([0-9]{1,12})_([A-Za-z0-9_-]{43})")


class Devices:
    """Writes such notes and reads them. Nothing of them is kept here."""

    def __init__(self, secret: Callable[[], bytes], *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, account: str) -> str:
        """A note that this device has signed in to this account."""
        device, until = secrets.token_urlsafe(9).replace("_", "-"), int(self._clock()) + TTL_S
        return f"cdv_{device}_{until}_{self._proof(account, device, until)}"

    def read(self, text: str, account: str) -> str:
        """The device's id, if the note is ours and for this account; else empty."""
        found = _TEXT.fullmatch(text)
        if found is None or int(found[2]) < self._clock():
            return ""
        proof = self._proof(account, found[1], int(found[2]))
        return found[1] if hmac.compare_digest(proof, found[3]) else ""

    def _proof(self, account: str, device: str, until: int) -> str:
        return encode(hmac.digest(self._secret(), f"{account}|{device}|{until}".encode(), hashlib.sha256))
