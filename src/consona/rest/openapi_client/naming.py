"""Names from a document, made into names of Python: identifiers, each once, and none that hides another."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

__all__ = [
    "MODULE_NAMES",
    "Names",
    "class_name",
    "is_plain",
    "name_in_group",
    "snake_name",
    "sorted_as_exports",
    "to_identifier",
]

MAX_LENGTH: Final = 60
MAX_CLASS: Final = 40
"""Longer ones push the lines that name several of them beyond the formatter's width."""

MODULE_NAMES: Final = frozenset(
    {
        "APIClient", "APIKey", "Any", "Authentication", "Basic", "Bearer", "Client", "ClientCredentials", "Content",
        "Literal", "Operations", "Policy", "Query", "Self", "Struct", "TypeAlias", "UNSET", "UnsetType", "annotations",
        "datetime", "decimal", "uuid",
    }
)  # fmt: skip
"""What the written module imports."""
TYPE_NAMES: Final = frozenset({"bool", "bytes", "dict", "float", "int", "list", "str"})
"""Built-in names that annotations use: a field or method of that name would hide them."""

_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[0-9]+|[^\W_]+")


def is_plain(name: str) -> bool:
    """Whether a name can stand in Python as it is: an ASCII identifier, no keyword, and nothing private."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def to_identifier(text: str, *, fallback: str = "value") -> str:
    """An identifier that resembles any text.

    Example:
        >>> to_identifier("x-request-id"), to_identifier("class"), to_identifier("2fa"), to_identifier("$ref")
        ('x_request_id', 'class_', 'n2fa', 'ref')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_") if not is_plain(plain) else plain
    name = _cut(name).rstrip("_") or fallback
    if name[0].isdigit():
        name = f"n{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def words_of(text: str) -> list[str]:
    """The words that a name is made of, in whatever case it is written."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return _WORDS.findall(re.sub(r"[^A-Za-z0-9]+", " ", plain.replace("'", "")))


def _cut(name: str, limit: int = MAX_LENGTH) -> str:
    """At most so many characters, and no half word at the end where there are several."""
    if len(name) <= limit:
        return name
    cut = name[:limit]
    if "_" in name:
        return cut if name[limit] == "_" else cut.rpartition("_")[0] or cut
    return cut if name[limit].isupper() else cut.rstrip("abcdefghijklmnopqrstuvwxyz0123456789")[:-1] or cut


def snake_name(text: str, *, fallback: str = "call") -> str:
    """A name for a function.

    Example:
        >>> snake_name("getUserById"), snake_name("GET /users/{id}"), snake_name("import")
        ('get_user_by_id', 'get_users_id', 'import_')
    """
    return to_identifier("_".join(word.lower() for word in words_of(text)), fallback=fallback)


def class_name(text: str, *, fallback: str = "Item", limit: int = MAX_CLASS) -> str:
    """A name for a class.

    Example:
        >>> class_name("pet-store item"), class_name("io.k8s.LeaseSpec"), class_name("URLShortener")
        ('PetStoreItem', 'IoK8sLeaseSpec', 'URLShortener')
    """
    joined = _cut("".join(word[0].upper() + word[1:] for word in words_of(text)), limit)
    name = joined or fallback
    return f"N{name}" if name[0].isdigit() else f"{name}_" if name in {"None", "True", "False"} else name


def name_in_group(name: str, group: str) -> str:
    """A method's name without the name of its group, which it stands behind already.

    Example:
        >>> name_in_group("issues_list_for_repo", "Issues"), name_in_group("issues", "issues")
        ('list_for_repo', 'issues')
    """
    head = f"{snake_name(group)}_"
    rest = name.removeprefix(head)
    return rest if rest != name and is_plain(rest) and rest not in TYPE_NAMES | MODULE_NAMES else name


def sorted_as_exports(names: Iterable[str]) -> list[str]:
    """As `ruff check` wants `__all__`: constants, classes, functions; numbers by their value.

    Example:
        >>> sorted_as_exports(["auth", "Option10", "Option9", "URL"])
        ['URL', 'Option9', 'Option10', 'auth']
    """

    def key(name: str) -> tuple[int, list[str | int]]:
        kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
        return kind, [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]

    return sorted(names, key=key)


class Names:
    """Gives out each name once: a second one gets a number.

    Example:
        >>> names = Names({"self"})
        >>> names.take("id"), names.take("id"), names.take("self")
        ('id', 'id_2', 'self_2')
    """

    def __init__(self, taken: set[str] | frozenset[str] = frozenset()) -> None:
        self._taken = set(taken)

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def take(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted.rstrip('_')}_{number}", number + 1
        self._taken.add(name)
        return name


BUILTINS: Final = frozenset(dir(builtins))
"""A class or an alias of one of these names would hide it from the whole module."""
