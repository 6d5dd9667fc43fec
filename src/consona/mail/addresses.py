"""E-mail addresses: what is one, and what can be sent to.

Source: RFC 5321, sections 4.1.2 and 4.5.3; RFC 6531 (addresses beyond ASCII). Quoted local parts and addresses by
number are refused: no provider gives them out, and attackers do.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from consona.errors import FieldProblem, ValidationError

__all__ = ["Mailbox", "checked_address", "mailbox"]

MAX_ADDRESS: Final = 254
_LOCAL: Final = re.compile(r"[^\s@\"(),:;<>\[\\\]\x00-\x1f\x7f]{1,64}")
_LABEL: Final = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?")
_NAMED: Final = re.compile(r"(?P<name>[^<>\x00-\x1f\x7f]{0,200})<(?P<address>[^<>]{1,300})>")


class Mailbox(NamedTuple):
    """Whom a mail goes to or comes from: an address, and perhaps a name."""

    address: str
    name: str = ""


def checked_address(address: str, *, field: str = "email") -> str:
    """An address in the one way to write its characters (NFC).

    Raises:
        ValidationError: It is none; `field` says which field that is.

    Example:
        >>> checked_address("ada@example.org")
        'ada@example.org'
    """
    plain = unicodedata.normalize("NFC", address)
    local, at, domain = plain.rpartition("@")
    labels = domain.split(".")
    good = (
        at
        and len(plain) <= MAX_ADDRESS
        and _LOCAL.fullmatch(local)
        and plain.isprintable()
        and not local.startswith(".")
        and not local.endswith(".")
        and ".." not in local
        and len(labels) >= 2
        and all(_LABEL.fullmatch(label) for label in labels)
    )
    if not good:
        raise ValidationError(
            "This is no e-mail address.", fields=[FieldProblem(field, "is not of the form name@example.org")]
        )
    return plain


def mailbox(text: str, *, field: str) -> Mailbox:
    """An address, with or without a name before it: `Ada <ada@example.org>`.

    Raises:
        ValidationError: It is neither.
    """
    found = _NAMED.fullmatch(text.strip()) if "<" in text else None
    if found is None:
        return Mailbox(checked_address(text, field=field))
    if not found["name"].isprintable():
        raise ValidationError("The name of an address is one line.", fields=[FieldProblem(field, "is not printable")])
    return Mailbox(checked_address(found["address"], field=field), found["name"].strip().strip('"'))


def sendable(mailbox: Mailbox) -> str:
    """The address as servers exchange it: the domain in ASCII.

    Raises:
        ValidationError: The domain cannot be written so.
    """
    local, _, domain = mailbox.address.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        raise ValidationError(
            "The domain of an e-mail address cannot be written in ASCII.",
            fields=[FieldProblem("to", "has a domain that no server can have")],
        ) from None
