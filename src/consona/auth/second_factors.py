"""A second factor: codes of an app that change every 30 seconds (TOTP), and recovery codes that count once each.

The app's secret is encrypted at rest, recovery codes are hashed, and a code counts once.

Source: RFC 6238 (TOTP), RFC 4226 (HOTP); the address `otpauth://` as apps read it from a picture.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import pyotp

from consona.auth.account import Row
from consona.auth.errors import LoginFailed
from consona.auth.oauth.handshake import Seal
from consona.errors import Conflict

if TYPE_CHECKING:
    from consona.auth.audit import AuditLog
    from consona.sql.database import SQLDatabase
    from consona.sql.transaction import Transaction

__all__ = ["Enrolment", "SecondFactors"]

STEP_S: Final = 30
WINDOW: Final = 1
"""So many steps before and after this one count, for clocks that differ and people who type slowly."""
RECOVERY_CODES: Final = 10
LIFE_S: Final = 900.0
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike


class Enrolment(msgspec.Struct, frozen=True):
    """What an app needs to know, until it has shown that it does."""

    secret: str
    """To be typed in, where no picture can be read."""
    uri: str
    """To be shown as a picture (QR code): `otpauth://totp/…`."""
    note: str
    """To be given back with the first code. It is sealed, and counts 15 minutes."""

    def __repr__(self) -> str:
        return "Enrolment(***)"


class _Note(msgspec.Struct):
    account: str
    secret: str
    until: float


class SecondFactors:
    """The second factors of all accounts."""

    def __init__(
        self,
        db: SQLDatabase,
        audit: AuditLog,
        *,
        issuer: str,
        secret: Callable[[], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._audit = audit
        self._issuer = issuer
        self._secret = secret
        self._seal = Seal(secret, clock=clock)
        self._clock = clock

    def begin(self, row: Row) -> Enrolment:
        """A new secret for an app. Nothing is kept until `confirm`."""
        if row.second_factor is not None:
            raise Conflict("This account has a second factor already.", hint="Remove it before.")
        secret = pyotp.random_base32(32)
        uri = pyotp.TOTP(secret).provisioning_uri(name=row.name, issuer_name=self._issuer)
        note = msgspec.json.encode(_Note(row.id, secret, self._clock() + LIFE_S))
        return Enrolment(secret, uri, self._seal.close(note, "enrolment"))

    async def confirm(self, row: Row, note: str, code: str) -> list[str]:
        """Ask for codes from now on; returns the recovery codes, which are shown this once.

        Raises:
            LoginFailed: The code is not one of that app, or the note is not ours or too old.
        """
        try:
            known = msgspec.json.decode(self._seal.open(note, "enrolment"), type=_Note)
        except (ValueError, msgspec.DecodeError):
            raise LoginFailed("This did not begin here.") from None
        step = self._step(known.secret, code, after=0)
        if known.account != row.id or known.until < self._clock() or step is None:
            raise LoginFailed("The code is wrong, or it took too long.")
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]

        async def keep(tx: Transaction) -> None:
            done = await tx.execute(
                "UPDATE consona_accounts SET second_factor = ?, second_factor_step = ?, recovery_codes = ?"
                " WHERE id = ? AND second_factor IS NULL",
                self._seal.close(known.secret.encode(), f"second factor of {row.id}"),
                step,
                " ".join(self._hash(row.id, each) for each in codes),
                row.id,
            )
            if not done.rows:
                raise Conflict("This account has a second factor already.", hint="Remove it before.")
            await self._audit.append(tx, "second factor added", account=row.id)

        await self._db.run_in_transaction(keep, name="second factor")
        return codes

    async def check(self, row: Row, code: str) -> bool:
        """Whether a code is right: the app's, of now, or a recovery code. It counts no second time."""
        assert row.second_factor is not None, "the caller looked"
        secret = self._seal.open(row.second_factor, f"second factor of {row.id}").decode()
        step = self._step(secret, code.replace(" ", ""), after=row.second_factor_step)
        if step is not None:
            done = await self._db.execute(
                "UPDATE consona_accounts SET second_factor_step = ? WHERE id = ? AND second_factor_step < ?",
                step,
                row.id,
                step,
            )
            return done.rows == 1  # else somebody used it in the same moment
        return await self._spend(row, code)

    async def _spend(self, row: Row, code: str) -> bool:
        """Use up a recovery code."""
        given = self._hash(row.id, code.strip().lower())
        left = [each for each in row.recovery_codes.split() if not hmac.compare_digest(each, given)]
        if len(left) == len(row.recovery_codes.split()):
            return False

        async def spend(tx: Transaction) -> bool:
            done = await tx.execute(
                "UPDATE consona_accounts SET recovery_codes = ? WHERE id = ? AND recovery_codes = ?",
                " ".join(left),
                row.id,
                row.recovery_codes,
            )
            if done.rows:
                await self._audit.append(tx, "recovery code used", account=row.id, left=len(left))
            return done.rows == 1

        return await self._db.run_in_transaction(spend, name="recovery code")

    async def remove(self, row: Row) -> None:
        """Ask for codes no more."""

        async def clear(tx: Transaction) -> None:
            await tx.execute(
                "UPDATE consona_accounts SET second_factor = NULL, second_factor_step = 0, recovery_codes = ''"
                " WHERE id = ?",
                row.id,
            )
            await self._audit.append(tx, "second factor removed", account=row.id)

        await self._db.run_in_transaction(clear, name="second factor")

    def _step(self, secret: str, code: str, *, after: int) -> int | None:
        """The number of the step that a code is of; None where it is wrong or was used."""
        if len(code) != 6 or not (code.isascii() and code.isdigit()):
            return None
        now = int(self._clock()) // STEP_S
        totp = pyotp.TOTP(secret)
        found = None
        for step in range(now - WINDOW, now + WINDOW + 1):  # all of them, so that the time tells nothing
            if hmac.compare_digest(totp.generate_otp(step), code) and step > after:
                found = step
        return found

    def _hash(self, account: str, code: str) -> str:
        # Keyed: so short a text could be guessed from a plain hash.
        return hmac.digest(self._secret(), f"{account}|{code}".encode("utf-8", "replace"), hashlib.sha256).hex()[:40]


def _recovery_code() -> str:
    """Ten characters, 49 bits of chance."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(10))
    return f"{text[:5]}-{text[5:]}"
