"""Names of accounts and e-mail addresses: how they are compared, so that nobody can pass for somebody else.

Two names are the same if a person could take one for the other: in upper or lower case, in another way to write the
same characters, or with letters of another script that look like Latin ones.

Source: Unicode Technical Standard 39 (confusables, mixed scripts).
"""

from __future__ import annotations

import unicodedata
from typing import Final

from consona.errors import FieldProblem, ValidationError
from consona.mail.addresses import checked_address

__all__ = ["address_key", "email_key", "name_key"]

MAX_NAME: Final = 64

# Lower-case letters of Cyrillic, Greek and Armenian that look like Latin ones (from the data of UTS 39).
_LOOK_ALIKES: Final = str.maketrans(
    {
        0x0430: "a", 0x0435: "e", 0x043E: "o", 0x0440: "p", 0x0441: "c", 0x0443: "y", 0x0445: "x", 0x0455: "s",
        0x0456: "i", 0x0458: "j", 0x04BB: "h", 0x0501: "d", 0x051B: "q", 0x051D: "w", 0x043A: "k", 0x043C: "m",
        0x0442: "t", 0x0432: "b", 0x043D: "h", 0x0475: "v", 0x04CF: "l", 0x0433: "r", 0x043F: "n",
        0x03B1: "a", 0x03BF: "o", 0x03C1: "p", 0x03BD: "v", 0x03B9: "i", 0x03BA: "k", 0x03C5: "u", 0x03C7: "x",
        0x03B3: "y", 0x03C4: "t", 0x03B7: "n", 0x03C9: "w", 0x03C3: "o", 0x03F2: "c", 0x03F3: "j", 0x03B5: "e",
        0x0585: "o", 0x0578: "n", 0x057D: "u", 0x0570: "h", 0x0566: "q", 0x0581: "g", 0x0561: "w", 0x057C: "n",
        0x0131: "i", 0x0237: "j", 0x0251: "a", 0x0261: "g", 0x0269: "i", 0x028B: "u", 0x00DF: "ss", 0x0138: "k",
    }
)  # fmt: skip
_NAME_CATEGORIES: Final = frozenset({"Ll", "Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"})


def name_key(name: str) -> str:
    r"""What names are compared by.

    Raises:
        ValidationError: It cannot be the name of an account.

    Example:
        >>> name_key("Alice") == name_key("ALICE"), name_key("cop") == name_key("\u0441\u043e\u0440")
        (True, True)
    """
    plain = unicodedata.normalize("NFKC", name)
    problem = _name_problem(plain)
    if problem:
        raise ValidationError("This name cannot be used.", fields=[FieldProblem("name", problem)])
    folded = unicodedata.normalize("NFKC", plain.casefold()).translate(_LOOK_ALIKES)
    return unicodedata.normalize("NFKC", folded)


def _name_problem(plain: str) -> str:
    if not 1 <= len(plain) <= MAX_NAME:
        return f"has {len(plain)} characters; 1 to {MAX_NAME} are allowed"
    for character in plain:
        if character not in "._-" and unicodedata.category(character) not in _NAME_CATEGORIES:
            return "has a character that is no letter, no digit and none of . _ -"
    if plain[0] in "._-" or unicodedata.combining(plain[0]):
        return "must begin with a letter or a digit"
    scripts = {_script(character) for character in plain if unicodedata.category(character)[0] == "L"}
    if len(scripts & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}) > 1:
        return "mixes letters of several scripts that look alike"
    return ""


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def email_key(email: str) -> str:
    """What e-mail addresses are compared by.

    Raises:
        ValidationError: It is no address.

    Example:
        >>> email_key("Ada@Example.ORG")
        'ada@example.org'
    """
    return checked_address(unicodedata.normalize("NFKC", email)).casefold()


def address_key(address: str) -> str:
    """What network addresses are counted by: of IPv6 the first half, of which a whole network has one."""
    if ":" not in address or "." in address:
        return address[:45]
    import ipaddress  # noqa: PLC0415 for the few that need it

    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address[:45]
