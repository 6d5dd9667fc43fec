"""Which passwords may be chosen. Length and strangers' guesses count; what kinds of characters are in it does not.

Source: NIST SP 800-63B-4 (2025), section 3.1.1: at least 15 characters, or 8 where a second factor is asked for;
at least 64 allowed, any Unicode, normalized; compared with a list of common ones; no rules of composition.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal

from consona.auth.bloom import Bloom
from consona.errors import ConfigurationError, FieldProblem, ValidationError

__all__ = ["PasswordRefused", "PasswordRules", "normalized", "password_rules"]

MAX_LENGTH: Final = 1000
"""The longest password, in characters: a limit for what strangers send, not for people."""
SPECIAL: Final = frozenset('!@#$%^&*(),.?":{}|<>')
"""What the chapter takes for a special character."""
_SEQUENCES: Final = (
    "abcdefghijklmnopqrstuvwxyz" * 2,
    "0123456789" * 8,
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
)


class PasswordRefused(ValidationError):
    """The password may not be chosen; `fields` says all that is wrong with it, without showing it."""

    code = "auth.password_refused"
    hint = "A few words that do not belong together make a long password that is easy to keep in mind."


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRules:
    """What a new password must be like. Passwords that were set before go on to count.

    Example:
        >>> PasswordRules().problems("correct horse battery staple")
        []
        >>> PasswordRules().problems("hunter2")
        ['It has 7 characters; at least 15 are needed.', 'It is one that everybody tries first.']
    """

    min_length: int = 15
    """In characters (code points), after normalization."""
    min_length_with_second_factor: int = 8
    common: bool = True
    """Refuse what is on the list of common passwords, a row of the keyboard, or one word several times."""
    names: bool = True
    """Refuse the account's own names, also with digits before or behind them."""
    special: bool = False
    digit: bool = False
    upper: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_length_with_second_factor <= self.min_length <= 64:
            raise ConfigurationError(
                "PasswordRules: 1 <= min_length_with_second_factor <= min_length <= 64.",
                hint="Longer passwords must stay possible, and may not be demanded (NIST SP 800-63B).",
            )

    @property
    def hint(self) -> str:
        """What to tell who chooses a password.

        Example:
            >>> PasswordRules().hint
            'At least 15 characters. Some words that do not belong together are easy to keep in mind.'
        """
        wanted = {"a special character": self.special, "a digit": self.digit, "an upper-case letter": self.upper}
        kinds = ", ".join(name for name, needed in wanted.items() if needed)
        asked = f"At least {self.min_length} characters{f', with {kinds}' if kinds else ''}."
        return asked if kinds else f"{asked} Some words that do not belong together are easy to keep in mind."

    def check(self, password: str, *, names: Iterable[str] = (), second_factor: bool = False) -> str:
        """The password in its normal form, if it may be chosen.

        Args:
            password: As it was typed.
            names: What strangers know of the account: user name, e-mail address, the service's name.
            second_factor: Whether the account is protected by one too.

        Raises:
            PasswordRefused: It may not; all reasons are told.
        """
        problems = self.problems(password, names=names, second_factor=second_factor)
        if problems:
            raise PasswordRefused(
                "This password cannot be used.", fields=[FieldProblem("password", problem) for problem in problems]
            )
        return normalized(password)

    def problems(self, password: str, *, names: Iterable[str] = (), second_factor: bool = False) -> list[str]:
        """All that is wrong with it, in sentences; empty where it may be chosen."""
        if len(password) > MAX_LENGTH:
            return [f"It has more than {MAX_LENGTH} characters."]
        try:
            plain = normalized(password)
        except ValueError:
            return ["It has a character that cannot be used: a control character, or none at all."]
        return list(self._each(plain, names, second_factor=second_factor))

    def _each(self, plain: str, names: Iterable[str], *, second_factor: bool) -> Iterator[str]:
        least = self.min_length_with_second_factor if second_factor else self.min_length
        if len(plain) < least:
            yield f"It has {len(plain)} characters; at least {least} are needed."
        if self.special and not SPECIAL & set(plain):
            yield "It needs a special character."
        if self.digit and not any(character.isdigit() for character in plain):
            yield "It needs a number."
        if self.upper and not any(character.isupper() for character in plain):
            yield "It needs an uppercase letter."
        if self.common and _is_common(plain):
            yield "It is one that everybody tries first."
        elif self.names and _is_a_name(plain, names):
            yield "It is a name that others know."


CHAPTER: Final = PasswordRules(
    min_length=8, min_length_with_second_factor=8, names=False, special=True, digit=True, upper=True
)


def password_rules(rules: PasswordRules | Literal["nist", "chapter"]) -> PasswordRules:
    """Rules by name: `nist` (the default), or `chapter` (8 characters, one special, one digit, one in upper case).

    Raises:
        ConfigurationError: There are no rules of that name.
    """
    if isinstance(rules, PasswordRules):
        return rules
    named = {"nist": PasswordRules(), "chapter": CHAPTER}.get(rules)
    if named is None:
        raise ConfigurationError(f"There are no password rules {rules!r}.", hint="Use 'nist' or 'chapter'.")
    return named


def normalized(password: str) -> str:
    """The password as it is hashed: the same for each keyboard that writes the same characters (NFKC).

    Raises:
        ValueError: It has control characters, halves of characters, or some that do not exist (yet).

    Example:
        >>> normalized("Cafe" + chr(0x301)) == normalized("Caf" + chr(0xE9))
        True
    """
    plain = unicodedata.normalize("NFKC", password)
    # Cc: control, Cs: half of a surrogate pair. Unassigned characters (Cn) would normalize differently one day.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Cn"} for character in plain):
        raise ValueError("a character that cannot be used")
    return plain


@cache
def _common() -> Bloom:
    return Bloom.read((resources.files("consona.auth") / "common_passwords.bloom").read_bytes())


def _is_common(plain: str) -> bool:
    word = plain.casefold()
    if len(set(word)) < 4:
        return True
    unit = _unit(word)
    if word in _common() or unit in _common() or (unit != word and len(unit) < 4):
        return True
    return any(word in sequence or word[::-1] in sequence for sequence in _SEQUENCES)


def _unit(word: str) -> str:
    """The shortest text that `word` is repetitions of: `abc` of `abcabcabc`."""
    length = (word + word).find(word, 1)
    return word[:length]


def _is_a_name(plain: str, names: Iterable[str]) -> bool:
    word = plain.casefold()
    known = {part for name in names for part in _parts(normalized_name(name)) if len(part) >= 3}
    return any(_core(form) in known or _unit(_core(form)) in known or form in known for form in (word, word[::-1]))


def normalized_name(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _parts(name: str) -> Iterator[str]:
    """A name, and of an address its part before the @ too."""
    yield name
    yield _core(name)
    local, at, _ = name.partition("@")
    if at:
        yield local
        yield _core(local)


def _core(word: str) -> str:
    """Without the digits and signs before and behind it."""
    letters = [place for place, character in enumerate(word) if character.isalpha()]
    return word[letters[0] : letters[-1] + 1] if letters else ""
